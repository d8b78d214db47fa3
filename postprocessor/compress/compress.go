// Package compress is the post-processor "compress": it puts an artifact's
// files into an archive, compresses them, or both.
package compress

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"text/template"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/postprocessor"
)

// BuilderID is Packer's id of what this makes.
const BuilderID = "packer.post-processor.compress"

const defaultOutput = "packer_{{.BuildName}}_{{.BuilderType}}"

// Config is the options of the post-processor.
type Config struct {
	Output           string `hcl:"output,late"` // a template; its extension decides what is made
	Format           string `hcl:"format"`      // the extension, where output has none that is known
	CompressionLevel *int   `hcl:"compression_level"`

	// The two parts of what output's extension says, each of which they
	// replace. Packer has them for itself; templates may set them.
	Archive   string `hcl:"archive"`
	Algorithm string `hcl:"algorithm"`
}

// Driver returns the post-processor "compress". Its input is dropped unless
// keep_input_artifact says otherwise.
func Driver() postprocessor.Driver {
	return postprocessor.NewDriver("compress", postprocessor.DropInput, open)
}

type compress struct {
	output *template.Template
	form   form
	level  int // -1: the format's own default
	build  postprocessor.Build
}

var _ postprocessor.PostProcessor = (*compress)(nil)

func open(c Config, b postprocessor.Build) (postprocessor.PostProcessor, error) {
	var errs []error
	if c.Output == "" {
		c.Output = defaultOutput
	}
	p := &compress{level: -1, build: b}
	var err error
	if p.output, err = template.New("output").Option("missingkey=error").Parse(c.Output); err != nil {
		errs = append(errs, diag.Fieldf("output", "not a template: %w", err))
	}
	var known bool
	if p.form, known = formOf(c.Output); !known && c.Format != "" {
		if p.form, known = formOf("." + strings.TrimPrefix(c.Format, ".")); !known {
			errs = append(errs, diag.Fieldf("format", "%q is not known; it is one of %s, or tar and one of those, as in tar.gz", c.Format, formNames))
		}
	}
	errs = append(errs, p.form.replace(c.Archive, c.Algorithm)...)
	if l := c.CompressionLevel; l != nil {
		switch {
		case *l < -1 || *l > 9:
			errs = append(errs, diag.Fieldf("compression_level", "%d is not between -1 and 9", *l))
		case *l > 0: // 0 is the default too: an archive without compression has an extension of its own
			p.level = *l
		}
	}
	return p, errors.Join(errs...)
}

// Process implements [postprocessor.PostProcessor]. The output file is there
// whole or not at all; one that was there is replaced.
func (p *compress) Process(ctx context.Context, in artifact.Set, out event.Sink) (artifact.Set, error) {
	target, err := p.target()
	if err != nil {
		return artifact.Set{}, err
	}
	if p.form.archive == none && len(in.Files) != 1 {
		return artifact.Set{}, diag.WithHint(
			fmt.Errorf("can only have 1 input file when not using tar or zip, there are %d: %v", len(in.Files), in.Files),
			"give the output an extension such as .tar.gz or .zip")
	}
	if err := notItself(target, in.Files); err != nil {
		return artifact.Set{}, err
	}
	total, err := size(in.Files)
	if err != nil {
		return artifact.Set{}, err
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
		return artifact.Set{}, fmt.Errorf("output: %w", err)
	}
	out.Emit(event.Say{Text: p.form.say(target, in.Files)})
	src := &input{ctx, event.NewMeter(out, "compress "+target, total)}
	if err := atomicfile.WriteTo(target, 0o644, func(w io.Writer) error { return p.fill(w, in.Files, src) }); err != nil {
		return artifact.Set{}, err
	}
	src.End()
	out.Emit(event.Say{Text: fmt.Sprintf("Archive %s completed", target)})
	return artifact.Set{
		BuilderID: BuilderID, Text: "compressed artifacts in: " + target, Files: []string{target}, Data: in.Data,
	}, nil
}

func (p *compress) target() (string, error) {
	data := map[string]string{}
	for k, v := range p.build.Data {
		data[k] = v
	}
	data["BuildName"], data["BuilderType"] = p.build.Name, p.build.BuilderType
	var b strings.Builder
	if err := p.output.Execute(&b, data); err != nil {
		return "", diag.WithHint(fmt.Errorf("output: %w", err), "it may name .BuildName, .BuilderType and the values of build.*")
	}
	return b.String(), nil
}

// notItself refuses an output that is one of the inputs.
func notItself(target string, files []string) error {
	fi, err := os.Stat(target)
	if err != nil {
		return nil //nolint:nilerr // what is not there is no input; other faults show when it is written
	}
	if fi.IsDir() {
		return diag.WithHint(fmt.Errorf("output %s is a folder", target), "name a file")
	}
	for _, f := range files {
		if in, err := os.Stat(f); err == nil && os.SameFile(fi, in) {
			return diag.WithHint(fmt.Errorf("output %s is one of the files to compress", target), "choose another output")
		}
	}
	return nil
}

func size(files []string) (total int64, err error) {
	for _, f := range files {
		fi, err := os.Stat(f)
		if err != nil {
			return 0, fmt.Errorf("input artifact: %w", err)
		}
		if !fi.Mode().IsRegular() {
			return 0, fmt.Errorf("input artifact: %s is not a file", f)
		}
		total += fi.Size()
	}
	return total, nil
}

func (p *compress) fill(w io.Writer, files []string, src *input) (err error) {
	if p.form.archive == zipArchive {
		return writeZip(w, files, p.level, src)
	}
	c, err := newWriter(w, p.form.algorithm, p.level)
	if err != nil {
		return err
	}
	// Closed in every case: some writers have goroutines.
	defer func() { err = errors.Join(err, c.Close()) }()
	if p.form.archive == tarArchive {
		return writeTar(c, files, src)
	}
	f, err := os.Open(files[0])
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(c, src.of(f))
	return err
}

// An input reads files, ends when ctx does and tells how far it is.
type input struct {
	ctx context.Context //nolint:containedctx // of one archive
	*event.Meter
}

func (i *input) of(r io.Reader) io.Reader { return i.Reader(i.ctx, r) }
