// Package checksum is the post-processor "checksum": it writes the digests of
// an artifact's files.
package checksum

import (
	"context"
	"crypto/md5"  //nolint:gosec // a checksum that templates ask for
	"crypto/sha1" //nolint:gosec // the same
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"text/template"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/postprocessor"
)

// BuilderID is Packer's id of what this makes.
const BuilderID = "packer.post-processor.checksum"

const defaultOutput = "packer_{{.BuildName}}_{{.BuilderType}}_{{.ChecksumType}}.checksum"

// Config is the options of the post-processor.
type Config struct {
	ChecksumTypes []string `hcl:"checksum_types"`
	Output        string   `hcl:"output,late"` // a template
}

var hashes = map[string]func() hash.Hash{
	"md5": md5.New, "sha1": sha1.New, "sha224": sha256.New224, "sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New,
}

const known = "md5, sha1, sha224, sha256, sha384, sha512"

// Driver returns the post-processor "checksum". Its input is always kept.
func Driver() postprocessor.Driver {
	return postprocessor.NewDriver("checksum", postprocessor.ForceInput, open)
}

type checksum struct {
	types  []string
	output *template.Template
	build  postprocessor.Build
}

var _ postprocessor.PostProcessor = (*checksum)(nil)

func open(c Config, b postprocessor.Build) (postprocessor.PostProcessor, error) {
	var errs []error
	if len(c.ChecksumTypes) == 0 {
		c.ChecksumTypes = []string{"md5"}
	}
	if c.Output == "" {
		c.Output = defaultOutput
	}
	for i, t := range c.ChecksumTypes {
		if hashes[t] == nil {
			errs = append(errs, diag.Fieldf(fmt.Sprintf("checksum_types[%d]", i), "%q is not one of %s", t, known))
		}
	}
	tmpl, err := template.New("output").Option("missingkey=error").Parse(c.Output)
	if err != nil {
		errs = append(errs, diag.Fieldf("output", "not a template: %w", err))
	}
	return &checksum{c.ChecksumTypes, tmpl, b}, errors.Join(errs...)
}

// Process implements [postprocessor.PostProcessor]. Every file is read once.
// A line is the digest in hex, a tab and the file's base name; lines are added
// to what an output file holds already.
func (c *checksum) Process(ctx context.Context, in artifact.Set, out event.Sink) (artifact.Set, error) {
	set := artifact.Set{BuilderID: BuilderID, Files: slices.Clone(in.Files), Data: in.Data}
	if len(in.Files) > 0 {
		targets, lines, err := c.sum(ctx, in.Files, out)
		if err != nil {
			return artifact.Set{}, err
		}
		for _, t := range targets {
			if err := appendLines(t, lines[t]); err != nil {
				return artifact.Set{}, err
			}
			if !slices.Contains(set.Files, t) {
				set.Files = append(set.Files, t)
			}
		}
	}
	set.Text = "Created artifact from files: " + strings.Join(set.Files, ", ")
	return set, nil
}

// sum returns the output files in the order of the types, and their lines.
func (c *checksum) sum(ctx context.Context, files []string, out event.Sink) (targets []string, lines map[string]string, err error) {
	of := make([]string, len(c.types)) // output file of each type
	for i, t := range c.types {
		if of[i], err = c.render(t); err != nil {
			return nil, nil, err
		}
		if !slices.Contains(targets, of[i]) {
			targets = append(targets, of[i])
		}
	}
	byType := make([]string, len(c.types))
	for _, f := range files {
		sums, err := c.digest(ctx, f, out)
		if err != nil {
			return nil, nil, fmt.Errorf("checksum of %s: %w", f, err)
		}
		for i, s := range sums {
			byType[i] += s + "\t" + filepath.Base(f) + "\n"
		}
	}
	lines = map[string]string{}
	for i, t := range of {
		lines[t] += byType[i]
	}
	return targets, lines, nil
}

func (c *checksum) render(checksumType string) (string, error) {
	data := map[string]string{}
	for k, v := range c.build.Data {
		data[k] = v
	}
	data["BuildName"], data["BuilderType"], data["ChecksumType"] = c.build.Name, c.build.BuilderType, checksumType
	var b strings.Builder
	if err := c.output.Execute(&b, data); err != nil {
		return "", diag.WithHint(fmt.Errorf("output: %w", err), "it may name .BuildName, .BuilderType, .ChecksumType and the values of build.*")
	}
	return b.String(), nil
}

// digest returns the digest of every type in hex.
func (c *checksum) digest(ctx context.Context, name string, out event.Sink) ([]string, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	sums := make([]hash.Hash, len(c.types))
	all := make([]io.Writer, len(c.types))
	for i, t := range c.types {
		sums[i] = hashes[t]()
		all[i] = sums[i]
	}
	m := event.NewMeter(out, "checksum "+name, fi.Size())
	if _, err := io.Copy(io.MultiWriter(all...), m.Reader(ctx, f)); err != nil {
		return nil, err
	}
	m.End()
	hex := make([]string, len(sums))
	for i, h := range sums {
		hex[i] = fmt.Sprintf("%x", h.Sum(nil))
	}
	return hex, nil
}

// appendLines adds lines to the file at path, all or none of them. The file is
// locked meanwhile: parallel builds may name the same one.
func appendLines(path, lines string) (err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("write %s: %w", path, err)
		}
	}()
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return err
	}
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if _, err = f.WriteString(lines); err == nil {
		err = f.Sync()
	}
	if err != nil {
		return errors.Join(err, f.Truncate(fi.Size()))
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}
