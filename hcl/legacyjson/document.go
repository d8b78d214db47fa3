package legacyjson

import (
	"fmt"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/diag"
)

// A document is a template as it is written.
type document struct {
	name  string
	root  *node
	diags diag.List

	minVersion   *node
	description  *node
	variables    []*variable
	builders     []step
	provisioners []step
	cleanup      *step
	chains       [][]step
}

// A step is one component.
type step struct {
	typ string
	n   *node // an object
}

// A variable is one entry of variables.
type variable struct {
	name      string
	def       *node // null: required
	sensitive bool
	at        hcl2.Range

	value  string // settled by resolve
	set    bool
	origin string
}

var rootKeys = []string{
	"min_packer_version", "description", "variables", "sensitive-variables", "builders",
	"provisioners", "error-cleanup-provisioner", "post-processors", "push",
}

// read parses a template. The document is nil when the text is no JSON; what
// else is wrong is in its diags.
func read(name string, src []byte) (*document, hcl2.Diagnostics) {
	root, hd := parseJSON(name, src)
	if root == nil {
		return nil, hd
	}
	d := &document{name: name, root: root}
	for _, w := range hd {
		d.warnf(*w.Subject, w.Summary, "%s", w.Detail)
	}
	if root.kind != object {
		d.errorf(root.at, "Invalid template", "A template is a JSON object with the key \"builders\".")
		return d, nil
	}
	for _, m := range root.members {
		d.member(m)
	}
	d.sensitive(root.get("sensitive-variables"))
	if b := root.get("builders"); b == nil || b.kind == null || b.kind == list && len(b.items) == 0 {
		at := root.at
		if b != nil {
			at = b.at
		}
		at.End = at.Start
		d.errorf(at, "No builders", "The template has no builder in \"builders\", so nothing would be built.")
	}
	return d, nil
}

func place(r hcl2.Range) *diag.Range {
	return &diag.Range{
		Filename: r.Filename,
		Start:    diag.Pos{Line: r.Start.Line, Column: r.Start.Column, Byte: r.Start.Byte},
		End:      diag.Pos{Line: r.End.Line, Column: r.End.Column, Byte: r.End.Byte},
	}
}

func (d *document) errorf(at hcl2.Range, summary, format string, args ...any) {
	d.diags.Errorf(place(at), summary, format, args...)
}

func (d *document) warnf(at hcl2.Range, summary, format string, args ...any) {
	d.diags.Warnf(place(at), summary, format, args...)
}

// want reports whether n has a kind, and tells when it has not.
func (d *document) want(n *node, k kind, what string) bool {
	if n.kind == k {
		return true
	}
	if n.kind != null {
		d.errorf(n.at, "Unsuitable value", "%s.", what)
	}
	return false
}

func (d *document) member(m member) {
	switch m.name {
	case "min_packer_version":
		if d.want(m.value, text, "min_packer_version is a version in quotes") {
			d.minVersion = m.value
		}
	case "description":
		if d.want(m.value, text, "description is a text") {
			d.description = m.value
		}
	case "variables":
		if d.want(m.value, object, "variables is an object of names and values") {
			for _, v := range m.value.members {
				d.variable(v)
			}
		}
	case "sensitive-variables":
	case "builders":
		d.steps(m.value, "builders", func(s step) { d.builders = append(d.builders, s) })
		d.uniqueBuilders()
	case "provisioners":
		d.steps(m.value, "provisioners", func(s step) { d.provisioners = append(d.provisioners, s) })
	case "error-cleanup-provisioner":
		if s, ok := d.step(m.value, "error-cleanup-provisioner"); ok {
			d.cleanup = &s
		}
	case "post-processors":
		if d.want(m.value, list, "post-processors is a list") {
			for _, n := range m.value.items {
				d.chain(n)
			}
		}
	case "push":
		d.warnf(m.nameAt, "Obsolete key", "\"push\" was for a service that does not exist any more; it has no effect.")
	default:
		if strings.HasPrefix(m.name, "_") {
			return // a comment
		}
		hint := ""
		if s := hcl.Suggest(m.name, rootKeys); s != "" {
			hint = fmt.Sprintf(" Did you mean %q?", s)
		}
		d.errorf(m.nameAt, "Unsupported key", "A template has no key %q.%s A key that begins with an underscore is a comment.", m.name, hint)
	}
}

func (d *document) variable(m member) {
	switch m.value.kind {
	case list, object:
		d.errorf(m.value.at, "Unsuitable value", "The value of variable %q is a text, a number, true or false; null makes it required.", m.name)
		return
	}
	d.variables = append(d.variables, &variable{name: m.name, def: m.value, at: m.nameAt})
}

func (d *document) sensitive(n *node) {
	if n == nil || !d.want(n, list, "sensitive-variables is a list of names") {
		return
	}
	for _, x := range n.items {
		if !d.want(x, text, "sensitive-variables is a list of names") {
			continue
		}
		found := false
		for _, v := range d.variables {
			if v.name == x.text {
				v.sensitive, found = true, true
			}
		}
		if !found {
			d.errorf(x.at, "Undeclared variable", "There is no variable %q that could be sensitive.", x.text)
		}
	}
}

func (d *document) steps(n *node, what string, add func(step)) {
	if !d.want(n, list, what+" is a list of objects") {
		return
	}
	for _, x := range n.items {
		if s, ok := d.step(x, what); ok {
			add(s)
		}
	}
}

func (d *document) step(n *node, what string) (step, bool) {
	if n.kind != object {
		d.errorf(n.at, "Unsuitable value", "Each of %s is an object with a type.", what)
		return step{}, false
	}
	typ := n.get("type")
	if typ == nil || typ.kind != text || typ.text == "" {
		at := n.at
		at.End = at.Start
		if typ != nil {
			at = typ.at
		}
		d.errorf(at, "Missing type", "Each of %s says its \"type\", a text.", what)
		return step{}, false
	}
	return step{typ.text, n}, true
}

// chain reads an entry of post-processors: one, by its type alone or as an
// object, or a list of such that work on each other's results.
func (d *document) chain(n *node) {
	items := []*node{n}
	if n.kind == list {
		items = n.items
	}
	var out []step
	for _, x := range items {
		if x.kind == text {
			x = &node{kind: object, at: x.at, members: []member{{name: "type", nameAt: x.at, value: x}}}
		}
		if s, ok := d.step(x, "post-processors"); ok {
			out = append(out, s)
		}
	}
	if len(out) > 0 {
		d.chains = append(d.chains, out)
	}
}

// nameOf is the name of a builder: its type unless it has one.
func (s step) nameOf() string {
	if name := s.n.str("name"); name != "" {
		return name
	}
	return s.typ
}

func (d *document) uniqueBuilders() {
	seen := map[string]step{}
	for _, s := range d.builders {
		name := s.nameOf()
		if o, dup := seen[name]; dup {
			d.errorf(s.n.get("type").at, "Duplicate builder", "There is a builder %q already, on line %d. Give one of them another \"name\".", name, o.n.at.Start.Line)
		}
		seen[name] = s
	}
}
