package hcl

import (
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hcldec"
	"github.com/zclconf/go-cty/cty"
)

// bind returns body with names of its own: each and count of a repeated block.
// They come before the same names of a scope the body is evaluated in.
func bind(body hcl2.Body, vars map[string]cty.Value) hcl2.Body {
	if len(vars) == 0 {
		return body
	}
	return boundBody{body, vars}
}

type boundBody struct {
	body hcl2.Body
	vars map[string]cty.Value
}

func (b boundBody) Content(schema *hcl2.BodySchema) (*hcl2.BodyContent, hcl2.Diagnostics) {
	c, diags := b.body.Content(schema)
	return b.content(c), diags
}

func (b boundBody) PartialContent(schema *hcl2.BodySchema) (*hcl2.BodyContent, hcl2.Body, hcl2.Diagnostics) {
	c, rest, diags := b.body.PartialContent(schema)
	return b.content(c), bind(rest, b.vars), diags
}

func (b boundBody) JustAttributes() (hcl2.Attributes, hcl2.Diagnostics) {
	attrs, diags := b.body.JustAttributes()
	return b.attributes(attrs), diags
}

func (b boundBody) MissingItemRange() hcl2.Range { return b.body.MissingItemRange() }

// Unknown tells of a dynamic block that is not expanded yet.
func (b boundBody) Unknown() bool {
	u, ok := b.body.(hcldec.UnknownBody)
	return ok && u.Unknown()
}

func (b boundBody) content(c *hcl2.BodyContent) *hcl2.BodyContent {
	if c == nil {
		return nil
	}
	out := &hcl2.BodyContent{Attributes: b.attributes(c.Attributes), MissingItemRange: c.MissingItemRange}
	for _, blk := range c.Blocks {
		inner := *blk
		inner.Body = bind(blk.Body, b.vars)
		out.Blocks = append(out.Blocks, &inner)
	}
	return out
}

func (b boundBody) attributes(attrs hcl2.Attributes) hcl2.Attributes {
	out := make(hcl2.Attributes, len(attrs))
	for name, a := range attrs {
		inner := *a
		inner.Expr = boundExpr{a.Expr, b.vars}
		out[name] = &inner
	}
	return out
}

type boundExpr struct {
	hcl2.Expression
	vars map[string]cty.Value
}

func (e boundExpr) Value(ctx *hcl2.EvalContext) (cty.Value, hcl2.Diagnostics) {
	if ctx == nil {
		ctx = &hcl2.EvalContext{}
	}
	ctx = ctx.NewChild()
	ctx.Variables = e.vars
	return e.Expression.Value(ctx)
}

// UnwrapExpression lets the library look at the expression as it is written.
func (e boundExpr) UnwrapExpression() hcl2.Expression { return e.Expression }

// An extendedBody is a body on top of another: its options and, by their type,
// its blocks take the place of those of the base.
type extendedBody struct{ own, base hcl2.Body }

func (e extendedBody) Content(schema *hcl2.BodySchema) (*hcl2.BodyContent, hcl2.Diagnostics) {
	own, diags := e.own.Content(schema)
	base, more := e.base.Content(schema)
	return overlaid(own, base), append(diags, more...)
}

func (e extendedBody) PartialContent(schema *hcl2.BodySchema) (*hcl2.BodyContent, hcl2.Body, hcl2.Diagnostics) {
	own, ownRest, diags := e.own.PartialContent(schema)
	base, baseRest, more := e.base.PartialContent(schema)
	return overlaid(own, base), extendedBody{ownRest, baseRest}, append(diags, more...)
}

func (e extendedBody) JustAttributes() (hcl2.Attributes, hcl2.Diagnostics) {
	own, diags := e.own.JustAttributes()
	base, more := e.base.JustAttributes()
	return overlaidAttributes(own, base), append(diags, more...)
}

func (e extendedBody) MissingItemRange() hcl2.Range { return e.own.MissingItemRange() }

func overlaidAttributes(own, base hcl2.Attributes) hcl2.Attributes {
	out := make(hcl2.Attributes, len(own)+len(base))
	for name, a := range base {
		out[name] = a
	}
	for name, a := range own {
		out[name] = a
	}
	return out
}

func overlaid(own, base *hcl2.BodyContent) *hcl2.BodyContent {
	if own == nil {
		own = &hcl2.BodyContent{}
	}
	if base == nil {
		base = &hcl2.BodyContent{}
	}
	out := &hcl2.BodyContent{Attributes: overlaidAttributes(own.Attributes, base.Attributes), MissingItemRange: own.MissingItemRange}
	replaced := map[string]bool{}
	for _, b := range own.Blocks {
		replaced[b.Type] = true
	}
	for _, b := range base.Blocks {
		if !replaced[b.Type] {
			out.Blocks = append(out.Blocks, b)
		}
	}
	out.Blocks = append(out.Blocks, own.Blocks...)
	return out
}
