package legacyjson

import (
	"fmt"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
)

// cty is the value of n. A number that is too large to be one is a text.
func (n *node) cty() cty.Value {
	switch n.kind {
	case boolean:
		return cty.BoolVal(n.truth)
	case number:
		v, err := cty.ParseNumberVal(n.text)
		if err != nil || v.AsBigFloat().IsInf() {
			return cty.StringVal(n.text)
		}
		return v
	case text:
		return cty.StringVal(n.text)
	case list:
		items := make([]cty.Value, len(n.items))
		for i, x := range n.items {
			items[i] = x.cty()
		}
		return cty.TupleVal(items)
	case object:
		attrs := make(map[string]cty.Value, len(n.members))
		for _, m := range n.members {
			attrs[m.name] = m.value.cty()
		}
		return cty.ObjectVal(attrs)
	}
	return cty.NullVal(cty.DynamicPseudoType)
}

// A literal is n as an expression of HCL: its texts are what they are.
type literal struct{ n *node }

var _ hcl2.Expression = literal{}

func (l literal) Value(*hcl2.EvalContext) (cty.Value, hcl2.Diagnostics) { return l.n.cty(), nil }
func (l literal) Variables() []hcl2.Traversal                           { return nil }
func (l literal) Range() hcl2.Range                                     { return l.n.at }
func (l literal) StartRange() hcl2.Range                                { return l.n.at }

// ExprList and ExprMap let a finding about an item have the item's place.
func (l literal) ExprList() []hcl2.Expression {
	if l.n.kind != list {
		return nil
	}
	out := make([]hcl2.Expression, len(l.n.items))
	for i, x := range l.n.items {
		out[i] = literal{x}
	}
	return out
}

func (l literal) ExprMap() []hcl2.KeyValuePair {
	if l.n.kind != object {
		return nil
	}
	out := make([]hcl2.KeyValuePair, len(l.n.members))
	for i, m := range l.n.members {
		out[i] = hcl2.KeyValuePair{Key: hcl2.StaticExpr(cty.StringVal(m.name), m.nameAt), Value: literal{m.value}}
	}
	return out
}

func attribute(name string, n *node, at hcl2.Range) *hcl2.Attribute {
	return &hcl2.Attribute{Name: name, Expr: literal{n}, Range: at, NameRange: at}
}

// A body is a piece of a template that is put together here.
type body struct {
	at     hcl2.Range
	attrs  []*hcl2.Attribute
	blocks []*hcl2.Block
}

var _ hcl2.Body = (*body)(nil)

// PartialContent implements [hcl2.Body].
func (b *body) PartialContent(schema *hcl2.BodySchema) (*hcl2.BodyContent, hcl2.Body, hcl2.Diagnostics) {
	out := &hcl2.BodyContent{Attributes: hcl2.Attributes{}, MissingItemRange: b.at}
	rest := &body{at: b.at}
	var diags hcl2.Diagnostics
	wanted := map[string]bool{}
	for _, s := range schema.Attributes {
		wanted[s.Name] = true
	}
	for _, a := range b.attrs {
		if wanted[a.Name] {
			out.Attributes[a.Name] = a
		} else {
			rest.attrs = append(rest.attrs, a)
		}
	}
	types := map[string]bool{}
	for _, s := range schema.Blocks {
		types[s.Type] = true
	}
	for _, blk := range b.blocks {
		if types[blk.Type] {
			out.Blocks = append(out.Blocks, blk)
		} else {
			rest.blocks = append(rest.blocks, blk)
		}
	}
	return out, rest, diags
}

// Content implements [hcl2.Body]. What the schema lacks was put there by this
// package for another reader.
func (b *body) Content(schema *hcl2.BodySchema) (*hcl2.BodyContent, hcl2.Diagnostics) {
	c, _, diags := b.PartialContent(schema)
	return c, diags
}

// JustAttributes implements [hcl2.Body].
func (b *body) JustAttributes() (hcl2.Attributes, hcl2.Diagnostics) {
	out := hcl2.Attributes{}
	for _, a := range b.attrs {
		out[a.Name] = a
	}
	return out, nil
}

// MissingItemRange implements [hcl2.Body].
func (b *body) MissingItemRange() hcl2.Range { return b.at }

// options is the body of a component: a JSON object, whose members are
// attributes or blocks as the component has them.
type options struct {
	n     *node
	taken map[string]bool // members that others have read
}

var _ hcl2.Body = (*options)(nil)

// PartialContent implements [hcl2.Body].
func (o *options) PartialContent(schema *hcl2.BodySchema) (*hcl2.BodyContent, hcl2.Body, hcl2.Diagnostics) {
	out := &hcl2.BodyContent{Attributes: hcl2.Attributes{}, MissingItemRange: o.MissingItemRange()}
	rest := &options{n: o.n, taken: map[string]bool{}}
	for name := range o.taken {
		rest.taken[name] = true
	}
	attrs, blocks := map[string]bool{}, map[string]bool{}
	for _, s := range schema.Attributes {
		attrs[s.Name] = true
	}
	for _, s := range schema.Blocks {
		if len(s.LabelNames) == 0 {
			blocks[s.Type] = true
		}
	}
	var diags hcl2.Diagnostics
	for _, m := range o.n.members {
		switch {
		case o.taken[m.name]:
			continue
		case attrs[m.name]:
			out.Attributes[m.name] = &hcl2.Attribute{Name: m.name, Expr: literal{m.value}, Range: hcl2.RangeBetween(m.nameAt, m.value.at), NameRange: m.nameAt}
		case blocks[m.name]:
			out.Blocks = append(out.Blocks, blocksOf(m, &diags)...)
		default:
			continue
		}
		rest.taken[m.name] = true
	}
	return out, rest, diags
}

// blocksOf are the blocks that an object, or a list of objects, stands for.
func blocksOf(m member, diags *hcl2.Diagnostics) (out []*hcl2.Block) {
	items := []*node{m.value}
	switch m.value.kind {
	case null:
		return nil
	case list:
		items = m.value.items
	}
	for _, n := range items {
		if n.kind != object {
			*diags = append(*diags, &hcl2.Diagnostic{
				Severity: hcl2.DiagError, Summary: "Unsuitable value for an option",
				Detail:  fmt.Sprintf("%q is an object, or a list of objects.", m.name),
				Subject: n.at.Ptr(), Context: hcl2.RangeBetween(m.nameAt, n.at).Ptr(),
			})
			continue
		}
		out = append(out, &hcl2.Block{Type: m.name, Body: &options{n: n}, DefRange: m.nameAt, TypeRange: m.nameAt})
	}
	return out
}

// Content implements [hcl2.Body].
func (o *options) Content(schema *hcl2.BodySchema) (*hcl2.BodyContent, hcl2.Diagnostics) {
	c, rest, diags := o.PartialContent(schema)
	left := rest.(*options)
	for _, m := range o.n.members {
		if !left.taken[m.name] {
			diags = append(diags, &hcl2.Diagnostic{
				Severity: hcl2.DiagError, Summary: "Unsupported argument",
				Detail:  fmt.Sprintf("An argument named %q is not expected here.", m.name),
				Subject: m.nameAt.Ptr(),
			})
		}
	}
	return c, diags
}

// JustAttributes implements [hcl2.Body].
func (o *options) JustAttributes() (hcl2.Attributes, hcl2.Diagnostics) {
	out := hcl2.Attributes{}
	for _, m := range o.n.members {
		if !o.taken[m.name] {
			out[m.name] = &hcl2.Attribute{Name: m.name, Expr: literal{m.value}, Range: hcl2.RangeBetween(m.nameAt, m.value.at), NameRange: m.nameAt}
		}
	}
	return out, nil
}

// MissingItemRange implements [hcl2.Body].
func (o *options) MissingItemRange() hcl2.Range {
	r := o.n.at
	r.End = r.Start
	return r
}
