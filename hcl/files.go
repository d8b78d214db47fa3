package hcl

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"sort"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-build/ingot/internal/diag"
)

// The suffixes of the files of a template.
const (
	suffixHCL      = ".pkr.hcl"
	suffixJSON     = ".pkr.json"
	suffixIngot    = ".ingot.hcl"
	suffixAutoHCL  = ".auto.pkrvars.hcl"
	suffixAutoJSON = ".auto.pkrvars.json"
)

// source is one parsed file.
type source struct {
	name  string // as shown
	body  hcl2.Body
	ingot bool // every block type is allowed
}

// abs resolves a path the user gave.
func (in *Inputs) abs(p string) string {
	if filepath.IsAbs(p) || in.Cwd == "" {
		return p
	}
	return filepath.Join(in.Cwd, p)
}

// stdin is the path that stands for the standard input.
const stdin = "-"

// read reads a file that the user or a folder named.
func (in *Inputs) read(name string) ([]byte, error) {
	if name != stdin || name != in.Path {
		return os.ReadFile(in.abs(name))
	}
	return in.ReadStdin()
}

// discover lists the files of the template: those of the configuration and
// the automatic variable files, in reading order, by shown name.
func (t *Template) discover(l *diag.List) (config, auto []string) {
	path := t.in.Path
	if path == stdin {
		return []string{path}, nil
	}
	st, err := os.Stat(t.in.abs(path))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			l.Errorf(nil, "Template not found", "There is no file or folder %q. Give the path of a .pkr.hcl file or of the folder that holds one.", path)
		} else {
			l.Errorf(nil, "Template not readable", "%v.", err)
		}
		return nil, nil
	}
	if !st.IsDir() {
		t.Root = filepath.ToSlash(filepath.Dir(path))
		return []string{path}, nil
	}
	t.Root = filepath.ToSlash(path)
	entries, err := os.ReadDir(t.in.abs(path))
	if err != nil {
		l.Errorf(nil, "Template not readable", "%v.", err)
		return nil, nil
	}
	// HCL before JSON, Ingot's own last.
	for _, suffix := range []string{suffixHCL, suffixJSON, suffixIngot} {
		for _, e := range entries {
			if !e.IsDir() && strings.HasSuffix(e.Name(), suffix) {
				config = append(config, filepath.Join(path, e.Name()))
			}
		}
	}
	for _, suffix := range []string{suffixAutoHCL, suffixAutoJSON} {
		for _, e := range entries {
			if !e.IsDir() && strings.HasSuffix(e.Name(), suffix) {
				auto = append(auto, filepath.Join(path, e.Name()))
			}
		}
	}
	if len(config) == 0 {
		l.Errorf(nil, "No template in the folder", "The folder %q holds no file whose name ends with %s or %s. Name the file so, or give its path.", path, suffixHCL, suffixJSON)
	}
	return config, auto
}

// A parsed is one file as it was read.
type parsed struct {
	text  []byte
	body  hcl2.Body // nil when nothing of it was understood
	err   error
	diags hcl2.Diagnostics
}

// parseFile reads one file. It touches nothing of t but its inputs.
func (t *Template) parseFile(name string, isJSON bool) (p parsed) {
	if p.text, p.err = t.in.read(name); p.err != nil {
		return p
	}
	if name == stdin { // it has no name that tells
		isJSON = bytes.HasPrefix(bytes.TrimSpace(p.text), []byte("{"))
	}
	var f *hcl2.File
	switch {
	case t.in.Parse != nil && name == t.in.Path:
		p.body, p.diags = t.in.Parse(name, p.text)
		return p
	case isJSON:
		f, p.diags = json.Parse(p.text, name)
	default:
		f, p.diags = hclsyntax.ParseConfig(p.text, name, hcl2.InitialPos)
	}
	if f != nil {
		p.body = f.Body
	}
	return p
}

// take keeps a file and tells what is wrong with it. The body is nil when it
// could not be read at all, and as much as the parser understood when it has
// mistakes.
func (t *Template) take(name string, p parsed, l *diag.List) hcl2.Body {
	if p.err != nil {
		if errors.Is(p.err, fs.ErrNotExist) {
			l.Errorf(nil, "File not found", "There is no file %q. Check the path; it is taken from the working directory.", name)
		} else {
			l.Errorf(nil, "File not readable", "%v.", p.err)
		}
		return nil
	}
	t.Files[name] = p.text
	if _, ok := t.order[name]; !ok {
		t.order[name] = len(t.order)
	}
	*l = append(*l, t.names.convertDiags(p.diags)...)
	return p.body
}

// parse is parseFile and take.
func (t *Template) parse(name string, isJSON bool, l *diag.List) hcl2.Body {
	return t.take(name, t.parseFile(name, isJSON), l)
}

// parseConfig reads the files of the configuration, several at a time.
func (t *Template) parseConfig(files []string, l *diag.List) []source {
	all := make([]parsed, len(files))
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for i, name := range files {
		g.Go(func() error {
			all[i] = t.parseFile(name, strings.HasSuffix(name, ".json"))
			return nil
		})
	}
	_ = g.Wait() // what went wrong is in all
	var out []source
	for i, name := range files {
		body := t.take(name, all[i], l)
		if body == nil {
			continue
		}
		t.FileNames = append(t.FileNames, name)
		out = append(out, source{name: name, body: body, ingot: strings.HasSuffix(name, suffixIngot)})
	}
	return out
}

// splitExtra takes the blocks of types the schema does not know out of an
// *.ingot.hcl file.
func (t *Template) splitExtra(s *source, known map[string]bool) {
	body, ok := s.body.(*hclsyntax.Body)
	if !s.ingot || !ok {
		return
	}
	kept := *body
	kept.Blocks = nil
	for _, b := range body.Blocks {
		if known[b.Type] {
			kept.Blocks = append(kept.Blocks, b)
			continue
		}
		h := b.AsHCLBlock()
		t.Extra = append(t.Extra, extraBlock(h, true))
	}
	s.body = &kept
}

// extraBlock keeps a block whose meaning others know.
func extraBlock(b *hcl2.Block, expand bool) *Block {
	out := &Block{Type: b.Type, Labels: b.Labels, Range: toRange(b.DefRange), body: b.Body, expand: expand}
	if len(b.Labels) > 0 {
		out.Name = b.Labels[len(b.Labels)-1]
	}
	return out
}

// sortedKeys returns the keys of m in order.
func sortedKeys[V any](m map[string]V) []string {
	out := make([]string, 0, len(m))
	for k := range m {
		out = append(out, k)
	}
	sort.Strings(out)
	return out
}
