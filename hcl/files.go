package hcl

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/json"

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

// discover lists the files of the template: those of the configuration and
// the automatic variable files, in reading order, by shown name.
func (t *Template) discover(l *diag.List) (config, auto []string) {
	path := t.in.Path
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

// parse reads one file. The body is nil when it could not be read at all, and
// as much as the parser understood when it has mistakes.
func (t *Template) parse(name string, isJSON bool, l *diag.List) hcl2.Body {
	text, err := os.ReadFile(t.in.abs(name))
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			l.Errorf(nil, "File not found", "There is no file %q. Check the path; it is taken from the working directory.", name)
		} else {
			l.Errorf(nil, "File not readable", "%v.", err)
		}
		return nil
	}
	t.Files[name] = text
	if _, ok := t.order[name]; !ok {
		t.order[name] = len(t.order)
	}
	var f *hcl2.File
	var hd hcl2.Diagnostics
	if isJSON {
		f, hd = json.Parse(text, name)
	} else {
		f, hd = hclsyntax.ParseConfig(text, name, hcl2.InitialPos)
	}
	*l = append(*l, t.names.convertDiags(hd)...)
	if f == nil || f.Body == nil {
		return nil
	}
	return f.Body
}

// parseConfig reads the files of the configuration.
func (t *Template) parseConfig(files []string, l *diag.List) []source {
	var out []source
	for _, name := range files {
		body := t.parse(name, strings.HasSuffix(name, ".json"), l)
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
