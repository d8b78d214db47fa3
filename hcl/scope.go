package hcl

import (
	"fmt"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/hcl/interpolate"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// A Scope is what an expression can refer to. It is immutable and may be used
// from several goroutines; the zero Scope knows no names and no functions.
type Scope struct {
	ctx     *hcl2.EvalContext
	names   *names
	secrets *secret.Set
	texts   *interpolate.Context
	layouts *layouts
	track   bool // notice references to builds
}

// With returns s with one more name. Unknown parts of v stay unknown in
// whatever is computed from them.
func (s Scope) With(name string, v cty.Value) Scope {
	ctx := s.ctx
	if ctx == nil {
		ctx = &hcl2.EvalContext{}
	}
	s.ctx = ctx.NewChild()
	s.ctx.Variables = map[string]cty.Value{name: v}
	return s
}

// WithTexts returns s with the layer of older {{ }} templates: every text of
// an option is rendered with c on its way into the Go struct; of one that its
// component renders, tagged `hcl:"name,late"`, only what needs no data. A text
// that needs what is known later makes the option unknown.
func (s Scope) WithTexts(c interpolate.Context) Scope {
	s.texts = &c
	return s
}

// Hide adds a text to those that are not shown.
func (s Scope) Hide(text string) {
	if s.secrets != nil {
		s.secrets.Add(text)
	}
}

// Eval evaluates an expression as a person types it into a console.
func (s Scope) Eval(expr string) (cty.Value, diag.List) {
	e, hd := hclsyntax.ParseExpression([]byte(expr), "<console>", hcl2.InitialPos)
	if hd.HasErrors() {
		return cty.DynamicVal, s.names.convertDiags(hd)
	}
	v, hd := evaluate(e, s.ctx)
	return v, s.names.convertDiags(hd)
}

// evaluate is the one door to the library's evaluator. A value that makes the
// library panic (a marked key in a JSON object, say) is a mistake reported at
// the expression rather than the end of the process.
func evaluate(e hcl2.Expression, ctx *hcl2.EvalContext) (v cty.Value, diags hcl2.Diagnostics) {
	defer func() {
		if p := recover(); p != nil {
			v = cty.DynamicVal
			diags = hcl2.Diagnostics{{
				Severity: hcl2.DiagError, Summary: "Expression cannot be evaluated",
				Detail:  fmt.Sprintf("The expression uses a value in a place that does not allow it, such as a sensitive value as a key: %v.", p),
				Subject: e.Range().Ptr(),
			}}
		}
	}()
	return e.Value(ctx)
}
