package hcl

import (
	"errors"
	"fmt"
	"reflect"
	"sort"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/hcl/interpolate"
	"github.com/ingot-build/ingot/internal/diag"
)

// A decoder walks one body.
type decoder struct {
	scope   Scope
	final   bool // an unknown value is a mistake
	late    bool // inside a block whose texts the component renders
	unknown []string
	places  map[string]place
	refs    []Reference // to other builds
	diags   diag.List
}

func (d *decoder) top(b *Block, body hcl2.Body, dst reflect.Value) {
	l := d.scope.layouts.of(dst.Type())
	schema := l.schema()
	hidden := map[string]bool{}
	for _, list := range [][]string{b.hidden, injected[:]} {
		for _, name := range list {
			if f, own := l.get(name); own && f.block {
				continue
			}
			hidden[name] = true
			schema.Attributes = append(schema.Attributes, hcl2.AttributeSchema{Name: name})
		}
	}
	for _, name := range b.hiddenB {
		hidden[name] = true
		schema.Blocks = append(schema.Blocks, hcl2.BlockHeaderSchema{Type: name})
	}
	over := map[string]bool{}
	if b.override != cty.NilVal && b.override.IsKnown() && !b.override.IsNull() && isMapping(b.override.Type()) {
		un, _ := b.override.Unmark()
		for k := range un.AsValueMap() {
			over[k] = true
		}
	}
	skip := func(name string) bool { return hidden[name] || over[name] }
	d.body("", body, l, schema, dst, skip)
	if b.merged {
		for i := range d.diags {
			if d.diags[i].Summary == "Duplicate argument" {
				d.diags[i].Detail += ". A build can only add options to a source, not change them: remove one of the two."
			}
		}
	}
	if b.override != cty.NilVal {
		d.object("", b.override, l, dst, b.overAt)
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

// body decodes the attributes and blocks of one body. Options for which skip
// is true are known to exist and left alone.
func (d *decoder) body(path string, body hcl2.Body, l *layout, schema *hcl2.BodySchema, dst reflect.Value, skip func(string) bool) {
	content, hd := readContent(body, schema)
	d.schemaDiags(path, hd, l)
	attrs := make([]*hcl2.Attribute, 0, len(content.Attributes))
	for _, a := range content.Attributes {
		attrs = append(attrs, a)
	}
	sort.Slice(attrs, func(i, j int) bool { return attrs[i].Range.Start.Byte < attrs[j].Range.Start.Byte })
	for _, a := range attrs {
		p := join(path, a.Name)
		d.places[p] = place{at: a.Expr.Range(), expr: a.Expr}
		f, ok := l.get(a.Name)
		if !ok || f.block || skip(a.Name) {
			continue
		}
		if d.scope.track {
			d.refs = append(d.refs, references(a.Expr)...)
		}
		v, hd := evaluate(a.Expr, d.scope.ctx)
		if len(hd) > 0 {
			d.diags = append(d.diags, d.scope.names.convertDiags(hd)...)
		}
		if hd.HasErrors() {
			d.addUnknown(p)
			continue
		}
		d.store(p, v, dst.FieldByIndex(f.index), f.late, a.Expr.Range(), a.Range)
	}
	seen := map[string]int{}
	for _, blk := range content.Blocks {
		f, ok := l.get(blk.Type)
		if !ok || !f.block || skip(blk.Type) {
			continue
		}
		n := seen[f.name]
		seen[f.name]++
		d.nested(join(path, f.name), n, f, blk, dst.FieldByIndex(f.index))
	}
}

// nested decodes the nth block of one type.
func (d *decoder) nested(path string, n int, f field, blk *hcl2.Block, fv reflect.Value) {
	if _, ok := d.places[path]; !ok {
		d.places[path] = place{at: blk.DefRange}
	}
	if !f.many && n > 0 {
		d.diags = append(d.diags, report(blk.DefRange, blk.DefRange, "Duplicate block",
			"Only one %q block is allowed here; the first is at %s. Merge them.", f.name, toRange(d.places[path].at)))
		return
	}
	if f.many {
		path = fmt.Sprintf("%s[%d]", path, n)
		d.places[path] = place{at: blk.DefRange}
	}
	defer func(late bool) { d.late = late }(d.late)
	d.late = d.late || f.late
	v := reflect.New(f.elem()).Elem()
	l := d.scope.layouts.of(f.elem())
	never := func(string) bool { return false }
	if u, ok := blk.Body.(hcldec.UnknownBody); ok && u.Unknown() {
		// The names are checked; how many such blocks there will be is not known.
		sub := &decoder{scope: d.scope, late: d.late, places: map[string]place{}}
		sub.body(path, blk.Body, l, l.schema(), v, never)
		d.diags, d.refs = append(d.diags, sub.diags...), append(d.refs, sub.refs...)
		d.isUnknown(strings.TrimSuffix(path, fmt.Sprintf("[%d]", n)), blk.DefRange, blk.DefRange)
		return
	}
	d.body(path, blk.Body, l, l.schema(), v, never)
	keep(f, v, fv)
}

// keep stores the struct v of a block in its field.
func keep(f field, v, fv reflect.Value) {
	t := f.typ
	if f.many {
		t = t.Elem()
	}
	if t.Kind() == reflect.Pointer {
		v = v.Addr()
	}
	if f.many {
		fv.Set(reflect.Append(fv, v))
	} else {
		fv.Set(v)
	}
}

// store converts v into an attribute's field. late says that the component
// renders the texts in it.
func (d *decoder) store(path string, v cty.Value, fv reflect.Value, late bool, at, around hcl2.Range) {
	registerMarked(d.scope.secrets, v)
	hide := v.ContainsMarked()
	v = Unmark(v)
	if !v.IsWhollyKnown() {
		d.isUnknown(path, at, around)
		return
	}
	c := converter{hide: hide}
	if t := d.scope.texts; t != nil && (late || d.late) {
		c.render = t.Static
	} else if t != nil {
		c.render = d.rendered(*t, path, hide, at, around)
	}
	if err := c.set(path, v, fv); errors.Is(err, interpolate.ErrLater) {
		fv.SetZero()
		d.isUnknown(path, at, around)
	} else if err != nil {
		if p := d.places[path]; p.expr != nil && c.failed != path && strings.HasPrefix(c.failed, path) {
			at = within(p.expr, strings.TrimPrefix(c.failed, path))
		}
		name := path[strings.LastIndex(path, ".")+1:]
		det := diag.Diagnostic{
			Severity: diag.Error, Summary: "Unsuitable value for an option",
			Detail: fmt.Sprintf("Option %q: %s.", name, strings.TrimSuffix(err.Error(), ".")), Subject: rangePtr(&at), Context: rangePtr(&around),
		}
		if h := diag.Hint(err); h != "" {
			det.Detail += " " + h
		}
		d.diags = append(d.diags, det)
		d.addUnknown(path)
		fv.SetZero()
	}
}

// rendered is the rendering of the texts of one option. Data that there is not
// is a warning, as it is none of Packer's concern.
func (d *decoder) rendered(t interpolate.Context, path string, hide bool, at, around hcl2.Range) func(string) (string, error) {
	t.Missing = func(name string) {
		if hide {
			name = "…"
		}
		w := report(at, around, "No such value", "Option %q has {{ .%s }}, for which there is no value: the text gets %q. Text in braces for another program is written {{ `{{` }}.",
			path[strings.LastIndex(path, ".")+1:], name, interpolate.NoValue)
		w.Severity = diag.Warning
		d.diags = append(d.diags, w)
	}
	return t.Render
}

// addUnknown reports whether path is a new one.
func (d *decoder) addUnknown(path string) bool {
	for _, u := range d.unknown {
		if u == path {
			return false
		}
	}
	d.unknown = append(d.unknown, path)
	return true
}

func (d *decoder) isUnknown(path string, at, around hcl2.Range) {
	if d.addUnknown(path) && d.final {
		d.diags = append(d.diags, report(at, around, "Value is not known",
			"Option %q needs a value that is not known at this point of the build.", path))
	}
}

// object decodes an override: a value in the shape of a body.
func (d *decoder) object(path string, v cty.Value, l *layout, dst reflect.Value, at hcl2.Range) {
	registerMarked(d.scope.secrets, v)
	marked := v.IsMarked()
	v, _ = v.Unmark()
	if v.IsNull() {
		return
	}
	if !v.IsKnown() {
		for _, f := range l.fields {
			d.isUnknown(join(path, f.name), at, at)
		}
		return
	}
	if !isMapping(v.Type()) {
		d.diags = append(d.diags, report(at, at, "Unsuitable override", "An object with the options to override is required."))
		return
	}
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		name := k.AsString()
		p := join(path, name)
		f, ok := l.get(name)
		d.places[p] = place{at: at}
		switch {
		case !ok:
			d.diags = append(d.diags, report(at, at, "Unsupported argument",
				"The override sets an option named %q, which does not exist.%s", name, didYouMean(name, l.options())))
		case !f.block:
			if marked {
				e = MarkSensitive(e)
			}
			d.store(p, e, dst.FieldByIndex(f.index), f.late, at, at)
		default:
			d.objectBlocks(p, e, f, dst.FieldByIndex(f.index), at)
		}
	}
}

func (d *decoder) objectBlocks(path string, v cty.Value, f field, fv reflect.Value, at hcl2.Range) {
	v, _ = v.Unmark()
	if !v.IsKnown() {
		d.isUnknown(path, at, at)
		return
	}
	items := []cty.Value{v}
	if isSequence(v.Type()) && !v.IsNull() {
		items = v.AsValueSlice()
	}
	fv.SetZero()
	defer func(late bool) { d.late = late }(d.late)
	d.late = d.late || f.late
	for i, item := range items {
		if !f.many && i > 0 {
			d.diags = append(d.diags, report(at, at, "Duplicate block", "Only one %q block is allowed.", f.name))
			return
		}
		p := path
		if f.many {
			p = fmt.Sprintf("%s[%d]", path, i)
		}
		ev := reflect.New(f.elem()).Elem()
		d.object(p, item, d.scope.layouts.of(f.elem()), ev, at)
		keep(f, ev, fv)
	}
}

// schemaDiags adds findings about names. An unsupported option that is a slip
// of the pen for a supported one makes that one unknown, so that nobody also
// complains that it is missing.
func (d *decoder) schemaDiags(path string, hd hcl2.Diagnostics, l *layout) {
	found := d.scope.names.convertDiags(hd)
	sortDiags(found, nil)
	for _, c := range found {
		switch c.Summary {
		case "Unsupported argument", "Unsupported block type", "Extraneous JSON object property":
			parts := strings.SplitN(c.Detail, `"`, 3)
			if len(parts) != 3 {
				break
			}
			near := Suggest(parts[1], l.options())
			if near == "" {
				break
			}
			if !strings.Contains(c.Detail, "Did you mean") {
				c.Detail += fmt.Sprintf(" Did you mean %q?", near)
			}
			d.addUnknown(join(path, near))
		}
		d.diags = append(d.diags, c)
	}
}

// readContent is body.Content behind a guard: a dynamic block evaluates
// expressions here.
func readContent(body hcl2.Body, schema *hcl2.BodySchema) (c *hcl2.BodyContent, diags hcl2.Diagnostics) {
	defer func() {
		if p := recover(); p != nil {
			c = &hcl2.BodyContent{}
			diags = hcl2.Diagnostics{{
				Severity: hcl2.DiagError, Summary: "Block cannot be read",
				Detail:  fmt.Sprintf("A value is used in a place that does not allow it: %v.", p),
				Subject: body.MissingItemRange().Ptr(),
			}}
		}
	}()
	c, diags = body.Content(schema)
	if c == nil {
		c = &hcl2.BodyContent{}
	}
	return c, diags
}
