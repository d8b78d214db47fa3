package hcl

import (
	"fmt"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/diag"
)

// sourceMeta are options of a source that are the language's own.
var sourceMeta = []string{"for_each", "count", "extends"}

var sourceSchema = &hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{{Name: "for_each"}, {Name: "count"}, {Name: "extends"}}}

// A family is a source block and what it stands for.
type family struct {
	typ, name string
	members   []*Block // one, unless it is repeated
	repeated  bool
	unknown   bool // for_each or count is not known yet
	at        hcl2.Range
}

func (t *Template) sourceBlock(b *hcl2.Block, l *diag.List) {
	f := &family{typ: b.Labels[0], name: b.Labels[1], at: b.DefRange}
	for i, part := range b.Labels {
		if part == "" || strings.Contains(part, ".") && i == 0 {
			*l = append(*l, report(b.LabelRanges[i], b.DefRange, "Invalid source label",
				"A source is written as: source \"type\" \"name\" { }; both labels are non-empty and the type has no dot."))
		}
	}
	ref := f.typ + "." + f.name
	if o := t.index.families[ref]; o != nil {
		*l = append(*l, report(b.DefRange, b.DefRange, "Duplicate source", "The source %s is already defined at %s. Rename one of them.", ref, toRange(o.at)))
		return
	}
	t.index.families[ref] = f
	// Mistakes in the rest of the body are found when it is decoded.
	content := &hcl2.BodyContent{}
	if !t.Legacy {
		content, _ = partialContent(b.Body, sourceSchema)
	}
	for _, k := range t.instances(content.Attributes, l) {
		s := &Block{Type: f.typ, Name: f.name + k.text, Range: toRange(b.DefRange), body: t.repeated(b, k), key: k}
		if len(content.Attributes) > 0 {
			s.hidden = sourceMeta
		}
		if a := content.Attributes["extends"]; a != nil {
			s.extends = &hcl2.Attribute{Name: a.Name, Range: a.Range, NameRange: a.NameRange, Expr: boundExpr{a.Expr, k.vars}}
		}
		f.repeated = !k.IsZero()
		f.unknown = !k.Known()
		f.members = append(f.members, s)
		t.Sources = append(t.Sources, s)
		t.index.sources[s.Type+"."+s.Name] = s
	}
	if content.Attributes["for_each"] != nil || content.Attributes["count"] != nil {
		f.repeated = true
	}
}

// sourceScope has the sources by type and name. Each is its own reference, a
// text; a repeated one is an object of them.
func (t *Template) sourceScope() Scope {
	types := map[string]map[string]cty.Value{}
	for _, f := range t.index.families {
		if types[f.typ] == nil {
			types[f.typ] = map[string]cty.Value{}
		}
		types[f.typ][f.name] = f.value()
	}
	all := map[string]cty.Value{}
	for typ, byName := range types {
		all[typ] = cty.ObjectVal(byName)
	}
	return t.scope.With("source", cty.ObjectVal(all))
}

func (f *family) value() cty.Value {
	if f.unknown {
		return cty.DynamicVal
	}
	var list []cty.Value
	byKey := map[string]cty.Value{}
	for _, s := range f.members {
		v := cty.StringVal("source." + s.Type + "." + s.Name)
		if s.key.IsZero() {
			return v
		}
		list = append(list, v)
		if s.key.value.Type() == cty.String {
			byKey[s.key.value.AsString()] = v
		}
	}
	if len(byKey) > 0 {
		return cty.ObjectVal(byKey)
	}
	return cty.TupleVal(list)
}

// find returns the sources that ref names, "source." in front or not: one
// instance, or all of a block. nil: there is no such source.
func (t *Template) find(ref string) (sources []*Block, f *family, known bool) {
	if s := t.index.sources[ref]; s != nil {
		return []*Block{s}, t.index.families[s.Type+"."+strings.TrimSuffix(s.Name, s.key.text)], true
	}
	if f := t.index.families[ref]; f != nil {
		return f.members, f, true
	}
	return nil, nil, false
}

// splitRef takes a reference apart: type, name without key, key.
func splitRef(ref string) (typ, name, key string, ok bool) {
	head := ref
	if i := strings.IndexByte(ref, '['); i >= 0 {
		head, key = ref[:i], ref[i:]
	}
	parts := strings.Split(head, ".")
	if len(parts) == 3 && parts[0] == "source" {
		parts = parts[1:]
	}
	if len(parts) != 2 || parts[0] == "" || parts[1] == "" {
		return "", "", "", false
	}
	return parts[0], parts[1], key, true
}

// lookUp is find with a finding when there is no such source. nil, without
// one, stands for a repeated block without instances, too.
func (t *Template) lookUp(ref string, at, around hcl2.Range, l *diag.List) ([]*Block, *family, bool) {
	typ, name, key, ok := splitRef(ref)
	if !ok {
		*l = append(*l, report(at, around, "Invalid source reference", "%q is not a reference to a source. Write \"source.type.name\".", ref))
		return nil, nil, false
	}
	short := typ + "." + name
	if list, f, ok := t.find(short + key); ok {
		return list, f, true
	}
	f := t.index.families[short]
	switch {
	case t.in.SyntaxOnly, f != nil && f.unknown:
	case f != nil && !f.repeated:
		*l = append(*l, report(at, around, "Unknown source", "The source %q has neither for_each nor count: write it without %s.", short, key))
	case f != nil:
		var keys []string
		for _, s := range f.members {
			keys = append(keys, s.key.text)
		}
		*l = append(*l, report(at, around, "Unknown source", "The source %q has no instance %s. Its instances are: %s.", short, key, strings.Join(keys, ", ")))
	default:
		var known []string
		for _, o := range t.Sources {
			known = append(known, o.Type+"."+o.Name)
		}
		*l = append(*l, report(at, around, "Unknown source", "There is no source %q.%s", short,
			remedy(short, known, fmt.Sprintf("efine it with: source %q %q { }.", typ, name))))
	}
	return nil, f, false
}

// valueIn evaluates an attribute in s; false when it is not known or faulty.
func (t *Template) valueIn(s Scope, a *hcl2.Attribute, l *diag.List) (cty.Value, bool) {
	v, hd := evaluate(a.Expr, s.ctx)
	t.addEval(l, hd)
	v = Unmark(v)
	return v, !hd.HasErrors() && v.IsWhollyKnown()
}

// extendAll puts every source that extends another on top of it.
func (t *Template) extendAll(l *diag.List) {
	var scope Scope
	for _, s := range t.Sources {
		if s.extends != nil {
			if scope.ctx == nil {
				scope = t.sourceScope()
			}
			t.extend(s, scope, nil, l)
		}
	}
}

func (t *Template) extend(s *Block, scope Scope, path []*Block, l *diag.List) {
	a := s.extends
	if a == nil {
		return
	}
	for i, p := range path {
		if p != s {
			continue
		}
		var names []string
		for _, m := range append(path[i:], s) {
			names = append(names, m.Type+"."+m.Name)
			m.extends = nil
		}
		*l = append(*l, report(a.Expr.Range(), a.Range, "Cycle of sources", "These extend each other in a circle: %s. Break the circle.", strings.Join(names, " -> ")))
		return
	}
	base := t.baseOf(s, a, scope, l)
	if base != nil {
		t.extend(base, scope, append(path, s), l)
	}
	if s.extends == nil { // in a circle
		return
	}
	s.extends = nil
	if base != nil {
		s.body = extendedBody{own: s.body, base: base.body}
		s.Base = base.Type + "." + base.Name
	}
}

func (t *Template) baseOf(s *Block, a *hcl2.Attribute, scope Scope, l *diag.List) *Block {
	at := a.Expr.Range()
	wrong := func(format string, args ...any) *Block {
		*l = append(*l, report(at, a.Range, "Unsuitable extends", format, args...))
		return nil
	}
	had := len(*l)
	v, ok := t.valueIn(scope, a, l)
	if !ok {
		if len(*l) == had && !t.in.SyntaxOnly {
			return wrong("extends needs a value that is known before any data source is asked: source.%s.name.", s.Type)
		}
		return nil
	}
	if !v.IsNull() && !v.IsKnown() || v.IsNull() || v.Type() != cty.String {
		if !v.IsNull() && (isMapping(v.Type()) || isSequence(v.Type())) {
			return wrong("The source is repeated: say which instance of it, as in source.%s.name[\"key\"].", s.Type)
		}
		return wrong("extends names a source of the same type: source.%s.name.", s.Type)
	}
	list, f, ok := t.lookUp(v.AsString(), at, a.Range, l)
	switch {
	case !ok:
		return nil
	case f.typ != s.Type:
		return wrong("A source extends one of its own type: %q is of type %s, this one of type %s.", f.typ+"."+f.name, f.typ, s.Type)
	case len(list) != 1:
		return wrong("The source is repeated: say which instance of it, as in source.%s.%s[\"key\"].", f.typ, f.name)
	}
	return list[0]
}
