package legacyjson

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/hcl/interpolate"
)

// given takes the values from variable files and the command line. A name the
// template does not declare becomes a variable, as in Packer. It returns the
// files for excerpts.
func (d *document) given(in hcl.Inputs) map[string][]byte {
	files := map[string][]byte{}
	for _, name := range in.VarFiles {
		path := name
		if !filepath.IsAbs(path) {
			path = filepath.Join(in.Cwd, path)
		}
		src, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			d.diags.Errorf(nil, "File not found", "There is no file %q. Check the path; it is taken from the working directory.", name)
			continue
		case err != nil:
			d.diags.Errorf(nil, "File not readable", "%v.", err)
			continue
		}
		files[name] = src
		d.varFile(name, src)
	}
	for _, kv := range in.Vars {
		name, value, ok := strings.Cut(kv, "=")
		if !ok {
			d.diags.Errorf(nil, "Invalid -var option", "%q has no equals sign. Write it as -var \"name=value\".", name)
			continue
		}
		d.give(name, value, "-var", hcl2.Range{Filename: "<option -var " + name + ">", Start: hcl2.InitialPos, End: hcl2.InitialPos})
	}
	return files
}

func (d *document) varFile(name string, src []byte) {
	root, hd := parseJSON(name, src)
	for _, f := range hd {
		if f.Severity == hcl2.DiagError {
			d.errorf(*f.Subject, f.Summary, "%s The variable file of a JSON template is JSON, too.", f.Detail)
		}
	}
	if root == nil {
		return
	}
	if root.kind != object {
		d.errorf(root.at, "Unsuitable variable file", "A variable file is a JSON object of names and values.")
		return
	}
	for _, m := range root.members {
		value, ok := m.value.plain()
		if !ok {
			d.errorf(m.value.at, "Unsuitable value", "The value of variable %q is a text, a number, true or false.", m.name)
			continue
		}
		d.give(m.name, value, name, m.value.at)
	}
}

// plain is a value as text; false for null, a list and an object.
func (n *node) plain() (string, bool) {
	switch n.kind {
	case text, number:
		return n.text, true
	case boolean:
		return fmt.Sprint(n.truth), true
	}
	return "", false
}

func (d *document) find(name string) *variable {
	for _, v := range d.variables {
		if v.name == name {
			return v
		}
	}
	return nil
}

func (d *document) give(name, value, origin string, at hcl2.Range) {
	v := d.find(name)
	if v == nil {
		v = &variable{name: name, at: at}
		d.variables = append(d.variables, v)
	}
	v.value, v.set, v.origin = value, true, origin
}

// resolve renders the values of the variables, which may name each other and
// are the one place with env and the secret stores.
func (d *document) resolve(ctx context.Context, in hcl.Inputs, tell bool) {
	for _, v := range d.variables {
		if v.set || v.def == nil {
			continue
		}
		if s, ok := v.def.plain(); ok {
			v.value, v.set, v.origin = s, true, "default"
		}
	}
	c := texts(in).With(ctx)
	c.Variables, c.StrictUser, c.User = true, true, map[string]string{}
	c.Stores = in.Stores()
	c.Getenv = c.Stores.Getenv
	state, round := map[*variable]int{}, map[*variable]bool{}
	var visit func(v *variable, path []string)
	visit = func(v *variable, path []string) {
		path = append(path, v.name)
		if state[v] == 1 {
			if tell && !round[v] {
				d.errorf(v.at, "Cycle of variables", "These refer to each other in a circle, so none has a value: %s.", strings.Join(path[slices.Index(path, v.name):], " -> "))
			}
			for _, name := range path[slices.Index(path, v.name):] {
				round[d.find(name)] = true
			}
		}
		if state[v] != 0 {
			return
		}
		state[v] = 1
		defer func() { state[v] = 2 }()
		if !v.set { // told elsewhere
			c.User[v.name] = ""
			return
		}
		for _, name := range interpolate.Users(v.value) {
			if o := d.find(name); o != nil {
				visit(o, path)
			}
		}
		if round[v] { // told already
			v.value, c.User[v.name] = "", ""
			return
		}
		if v.sensitive && in.Secrets != nil {
			in.Secrets.Add(v.value)
		}
		value, err := c.Render(v.value)
		if err != nil {
			if tell {
				d.errorf(v.at, "Variable without a value", "Variable %q: %s.", v.name, strings.TrimSuffix(err.Error(), "."))
			}
			value = ""
		}
		v.value = value
		c.User[v.name] = value
	}
	for _, v := range d.variables {
		visit(v, nil)
	}
}

// texts are what the {{ }} of a template can name everywhere.
func texts(in hcl.Inputs) interpolate.Context {
	c := interpolate.Context{Start: in.Now, Cwd: in.Cwd, Version: in.Version}
	if in.Path == "-" {
		return c
	}
	c.TemplateDir = filepath.Dir(in.Path)
	if !filepath.IsAbs(c.TemplateDir) {
		c.TemplateDir = filepath.Join(in.Cwd, c.TemplateDir)
	}
	return c
}

// undeclared warns about {{ user }} of variables that there are not: Packer
// takes an empty text for them. It returns their names, each once.
func (d *document) undeclared() (missing []string) {
	known := map[string]bool{}
	var names []string
	for _, v := range d.variables {
		known[v.name] = true
		names = append(names, v.name)
	}
	warn := func(n *node) {
		if n.kind != text {
			return
		}
		for _, name := range interpolate.Users(n.text) {
			if known[name] {
				continue
			}
			known[name] = true
			missing = append(missing, name)
			hint := ""
			if s := hcl.Suggest(name, names); s != "" {
				hint = fmt.Sprintf(" Did you mean %q?", s)
			}
			d.warnf(n.at, "Undeclared variable", "There is no variable %q: its value is an empty text.%s", name, hint)
		}
	}
	for _, m := range d.root.members {
		if m.name == "variables" || strings.HasPrefix(m.name, "_") {
			continue // among variables it is an error
		}
		m.value.each(warn)
	}
	return missing
}
