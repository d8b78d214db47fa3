// Package legacyjson reads Packer's old templates: JSON with variables in
// {{ }}. [Load] makes of one the same [hcl.Template] as of an HCL template,
// [Upgrade] writes it as HCL, and [Fix] renews spellings of older versions.
package legacyjson

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/hcl/interpolate"
	"github.com/ingot-build/ingot/internal/diag"
)

// Is reports whether the template that in names is in the old syntax: neither
// a folder nor named as HCL is, and an object of JSON.
func Is(in hcl.Inputs) bool {
	if in.ForceHCL || in.Path == "" {
		return false
	}
	if in.Path == "-" {
		return true
	}
	for _, s := range []string{".hcl", ".pkr.json"} {
		if strings.HasSuffix(in.Path, s) {
			return false
		}
	}
	path := in.Path
	if !filepath.IsAbs(path) {
		path = filepath.Join(in.Cwd, path)
	}
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() {
		return false // the other reader tells what is wrong with it
	}
	if strings.HasSuffix(path, ".json") {
		return true
	}
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 512)
	n, _ := io.ReadFull(f, head) // a short file is whole
	return bytes.HasPrefix(bytes.TrimSpace(bytes.TrimPrefix(head[:n], []byte("\ufeff"))), []byte("{"))
}

// source is the content of the template's file.
func source(in hcl.Inputs) ([]byte, error) {
	if in.Path != "-" {
		path := in.Path
		if !filepath.IsAbs(path) {
			path = filepath.Join(in.Cwd, path)
		}
		return os.ReadFile(path)
	}
	return in.ReadStdin()
}

// Load reads a template in the old syntax. Like [hcl.Load] it returns as much
// as could be understood, and every mistake once. Options keep their {{ }}:
// they are rendered with [hcl.Template.Texts] when they are decoded.
func Load(ctx context.Context, in hcl.Inputs) (*hcl.Template, diag.List) {
	src, err := source(in)
	if err != nil {
		t := &hcl.Template{Files: map[string][]byte{}, Root: ".", Legacy: true, Broken: true}
		var l diag.List
		l.Errorf(nil, "Template not readable", "%v.", err)
		return t, l
	}
	d, hd := read(in.Path, src)
	inner := in
	inner.Vars, inner.VarFiles, inner.Env = nil, nil, nil
	for _, kv := range in.Env {
		if !strings.HasPrefix(kv, "PKR_VAR_") { // of HCL templates only
			inner.Env = append(inner.Env, kv)
		}
	}
	inner.Stdin = bytes.NewReader(src)
	var files map[string][]byte
	if d != nil {
		files = d.given(in)
		d.resolve(ctx, in, !in.SyntaxOnly)
		d.undeclared()
	}
	inner.Parse = func(string, []byte) (hcl2.Body, hcl2.Diagnostics) {
		if d == nil {
			return nil, hd
		}
		return d.body(in), nil
	}
	t, l := hcl.Load(ctx, inner)
	if d == nil {
		return t, l
	}
	for name, text := range files {
		t.Files[name] = text
	}
	for _, v := range t.Variables {
		if o := d.find(v.Name); o != nil && o.origin != "" {
			v.Origin = o.origin
		}
	}
	l = append(d.diags, l...)
	sort.SliceStable(l, func(i, j int) bool { return before(l[i], l[j]) })
	return t, hcl.Dedupe(l)
}

func before(a, b diag.Diagnostic) bool {
	switch {
	case a.Subject == nil || b.Subject == nil:
		return a.Subject == nil && b.Subject != nil
	case a.Subject.Filename != b.Subject.Filename:
		return a.Subject.Filename < b.Subject.Filename
	}
	return a.Subject.Start.Byte < b.Subject.Start.Byte
}

// body is the document as HCL's reader wants it.
func (d *document) body(in hcl.Inputs) hcl2.Body {
	b := &body{at: d.root.at}
	if v := d.minVersion; v != nil {
		want := *v
		want.text = ">= " + v.text
		b.blocks = append(b.blocks, &hcl2.Block{Type: "packer", DefRange: v.at, Body: &body{at: v.at, attrs: []*hcl2.Attribute{attribute("required_version", &want, v.at)}}})
	}
	for _, v := range d.variables {
		inner := &body{at: v.at}
		if v.set {
			inner.attrs = append(inner.attrs, attribute("default", &node{kind: text, text: v.value, at: v.at}, v.at))
		}
		if v.sensitive {
			inner.attrs = append(inner.attrs, attribute("sensitive", &node{kind: boolean, truth: true, at: v.at}, v.at))
		}
		b.blocks = append(b.blocks, &hcl2.Block{Type: "variable", Labels: []string{v.name}, LabelRanges: []hcl2.Range{v.at}, DefRange: v.at, Body: inner})
	}
	build := &body{at: d.root.at}
	r := d.renderer(in)
	for i, s := range d.builders {
		at := s.n.get("type").at
		label := strconv.Itoa(i)
		b.blocks = append(b.blocks, &hcl2.Block{
			Type: "source", Labels: []string{s.typ, label}, LabelRanges: []hcl2.Range{at, at}, DefRange: at,
			Body: &options{n: s.n, taken: map[string]bool{"type": true, "name": true}},
		})
		name := r.node(&node{kind: text, text: s.nameOf(), at: at})
		if name.text == "" {
			name.text = s.typ
		}
		build.blocks = append(build.blocks, &hcl2.Block{
			Type: "source", Labels: []string{s.typ + "." + label}, LabelRanges: []hcl2.Range{at}, DefRange: at,
			Body: &body{at: at, attrs: []*hcl2.Attribute{attribute("name", name, at)}},
		})
	}
	for _, s := range d.provisioners {
		build.blocks = append(build.blocks, r.step("provisioner", s))
	}
	if d.cleanup != nil {
		build.blocks = append(build.blocks, r.step("error-cleanup-provisioner", *d.cleanup))
	}
	for _, chain := range d.chains {
		inner := &body{at: chain[0].n.at}
		for _, s := range chain {
			inner.blocks = append(inner.blocks, r.step("post-processor", s))
		}
		build.blocks = append(build.blocks, &hcl2.Block{Type: "post-processors", DefRange: chain[0].n.at, Body: inner})
	}
	if d.description != nil {
		build.attrs = append(build.attrs, attribute("description", d.description, d.description.at))
	}
	if len(d.builders) > 0 {
		b.blocks = append(b.blocks, &hcl2.Block{Type: "build", DefRange: d.root.get("builders").at, Body: build})
	}
	return b
}

// renderer renders the options of steps that are the language's own, which
// are read before a component is.
type renderer struct {
	d *document
	c interpolate.Context
}

func (d *document) renderer(in hcl.Inputs) *renderer {
	r := &renderer{d: d, c: texts(in)}
	r.c.User = map[string]string{}
	for _, v := range d.variables {
		if v.set {
			r.c.User[v.name] = v.value
		}
	}
	return r
}

var metaOptions = []string{"name", "only", "except", "pause_before", "max_retries", "timeout", "continue_on_error", "keep_input_artifact"}

func (r *renderer) step(typ string, s step) *hcl2.Block {
	n := *s.n
	n.members = append([]member(nil), s.n.members...)
	for i, m := range n.members {
		for _, meta := range metaOptions {
			if m.name == meta {
				n.members[i].value = r.node(m.value)
			}
		}
	}
	at := s.n.get("type").at
	return &hcl2.Block{
		Type: typ, Labels: []string{s.typ}, LabelRanges: []hcl2.Range{at}, DefRange: at,
		Body: &options{n: &n, taken: map[string]bool{"type": true}},
	}
}

// node returns n with its texts rendered.
func (r *renderer) node(n *node) *node {
	out := *n
	switch n.kind {
	case text:
		s, err := r.c.Render(n.text)
		if err != nil {
			r.d.errorf(n.at, "Unsuitable value for an option", "%s.", strings.TrimSuffix(err.Error(), "."))
		}
		out.text = s
	case list:
		out.items = nil
		for _, x := range n.items {
			out.items = append(out.items, r.node(x))
		}
	}
	return &out
}
