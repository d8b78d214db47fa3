package hcl

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/ingot-build/ingot/internal/diag"
)

// typeSpec is a declared type: with its optional attributes and their
// defaults.
type typeSpec struct {
	ty       cty.Type
	defaults *typeexpr.Defaults
	anything bool // declared as any
	inferred bool // taken from the default
}

// convert makes v one of the type.
func (s typeSpec) convert(v cty.Value) (cty.Value, error) {
	if s.defaults != nil {
		v = s.defaults.Apply(v)
	}
	out, err := convert.Convert(v, s.ty)
	if s.inferred && (err != nil && (s.anything || s.ty.IsTupleType() || s.ty.IsObjectType()) || s.loses(v)) {
		// The shape of the default of an untyped variable binds nobody.
		return v, nil
	}
	return out, err
}

// loses reports whether a conversion of v would drop attributes.
func (s typeSpec) loses(v cty.Value) bool {
	if !s.ty.IsObjectType() || !v.Type().IsObjectType() {
		return false
	}
	for name := range v.Type().AttributeTypes() {
		if !s.ty.HasAttribute(name) {
			return true
		}
	}
	return false
}

// literal reports whether a text given for the variable is the value itself
// rather than an expression.
func (s typeSpec) literal() bool { return s.ty.IsPrimitiveType() || s.ty == cty.DynamicPseudoType }

// validation is one rule.
type validation struct {
	condition hcl2.Expression
	message   string
	at        hcl2.Range
}

var variableSchema = &hcl2.BodySchema{
	Attributes: []hcl2.AttributeSchema{{Name: "description"}, {Name: "type"}, {Name: "default"}, {Name: "sensitive"}},
	Blocks:     []hcl2.BlockHeaderSchema{{Type: "validation"}},
}

var validationSchema = &hcl2.BodySchema{
	Attributes: []hcl2.AttributeSchema{{Name: "condition"}, {Name: "error_message"}},
}

func (t *Template) newVariable(name string, at hcl2.Range, l *diag.List) *Variable {
	v := &Variable{Name: name, Range: toRange(at), Type: cty.DynamicPseudoType, Value: cty.DynamicVal, spec: typeSpec{ty: cty.DynamicPseudoType}}
	if !hclsyntax.ValidIdentifier(name) && !t.Legacy {
		*l = append(*l, report(at, at, "Invalid variable name",
			"%q is not a name: names begin with a letter and have only letters, digits, underscores and dashes.", name))
	}
	if o := t.index.vars[name]; o != nil {
		*l = append(*l, report(at, at, "Duplicate variable", "Variable %q is already declared at %s. Rename one of them.", name, o.Range))
		return v // not added: the first counts
	}
	t.index.vars[name] = v
	t.Variables = append(t.Variables, v)
	return v
}

// variablesBlock reads the short form: one attribute per variable.
func (t *Template) variablesBlock(b *hcl2.Block, l *diag.List) {
	attrs, hd := b.Body.JustAttributes()
	*l = append(*l, t.names.convertDiags(hd)...)
	for _, a := range inOrder(attrs) {
		v := t.newVariable(a.Name, a.Range, l)
		t.defaultValue(v, a, l)
	}
}

func (t *Template) variableBlock(b *hcl2.Block, l *diag.List) {
	v := t.newVariable(b.Labels[0], b.DefRange, l)
	content, hd := b.Body.Content(variableSchema)
	*l = append(*l, t.names.convertDiags(hd)...)
	if a := content.Attributes["description"]; a != nil {
		t.constant(a, cty.String, l, func(x cty.Value) { v.Description = x.AsString() })
	}
	if a := content.Attributes["sensitive"]; a != nil {
		t.constant(a, cty.Bool, l, func(x cty.Value) { v.Sensitive = x.True() })
	}
	if a := content.Attributes["type"]; a != nil {
		ty, defaults, hd := typeexpr.TypeConstraintWithDefaults(a.Expr)
		*l = append(*l, t.names.convertDiags(hd)...)
		if hd.HasErrors() {
			v.bad = true
		} else {
			v.spec = typeSpec{ty: ty, defaults: defaults, anything: ty == cty.DynamicPseudoType}
			v.Type = ty.WithoutOptionalAttributesDeep()
			v.Value = cty.UnknownVal(v.Type)
		}
	}
	if a := content.Attributes["default"]; a != nil {
		t.defaultValue(v, a, l)
	}
	for _, blk := range content.Blocks {
		t.validationBlock(v, blk, l)
	}
}

// constant reads an attribute that can refer to nothing.
func (t *Template) constant(a *hcl2.Attribute, ty cty.Type, l *diag.List, use func(cty.Value)) {
	x, hd := evaluate(a.Expr, nil)
	*l = append(*l, t.names.convertDiags(hd)...)
	if hd.HasErrors() {
		return
	}
	x, err := convert.Convert(x, ty)
	if err != nil || !x.IsKnown() {
		*l = append(*l, report(a.Expr.Range(), a.Range, "Unsuitable value", "Option %q must be a plain %s.", a.Name, ty.FriendlyName()))
		return
	}
	if !x.IsNull() {
		use(x)
	}
}

// defaultValue evaluates a default, in which only env() can be used.
func (t *Template) defaultValue(v *Variable, a *hcl2.Attribute, l *diag.List) {
	at := a.Expr.Range()
	x, hd := evaluate(a.Expr, t.defaultContext())
	for _, d := range t.names.convertDiags(hd) {
		switch d.Summary {
		case "Variables not allowed", "Unknown variable", "Function calls not allowed", "Call to unknown function":
			d.Detail += " A variable's default is a plain value; only env(\"NAME\") can be used in it. Compute other values in a locals block."
		}
		*l = append(*l, d)
	}
	if hd.HasErrors() {
		v.bad, v.Set = true, true
		return
	}
	if v.spec.ty == cty.DynamicPseudoType && !v.bad {
		// Without a type the default tells it; empty collections and null tell nothing.
		if ty := x.Type(); !ty.Equals(cty.EmptyObject) && !ty.Equals(cty.EmptyTuple) && ty != cty.DynamicPseudoType {
			v.spec = typeSpec{ty: ty, inferred: true, anything: v.spec.anything}
			v.Type = ty
		}
	}
	x, err := v.spec.convert(x)
	if err != nil {
		*l = append(*l, report(at, a.Range, "Default does not fit the type",
			"The default of variable %q does not have its type, %s: %v.", v.Name, typeexpr.TypeString(v.Type), err))
		v.bad, v.Set = true, true
		return
	}
	v.Default = x
	v.assign(x, "default", at)
}

func (v *Variable) assign(x cty.Value, origin string, at hcl2.Range) {
	v.Value, v.Set, v.Origin, v.where = x, true, origin, &at
}

func (t *Template) validationBlock(v *Variable, b *hcl2.Block, l *diag.List) {
	content, hd := b.Body.Content(validationSchema)
	*l = append(*l, t.names.convertDiags(hd)...)
	cond, msg := content.Attributes["condition"], content.Attributes["error_message"]
	missing := func(name string) {
		*l = append(*l, report(b.DefRange, b.DefRange, "Missing required argument", "A validation rule needs %q.", name))
	}
	ok := !hd.HasErrors()
	rule := validation{at: b.DefRange}
	if cond == nil {
		missing("condition")
		ok = false
	} else {
		rule.condition = cond.Expr
		ok = t.checkCondition(v, cond, l) && ok
	}
	if msg == nil {
		missing("error_message")
		ok = false
	} else {
		t.constant(msg, cty.String, l, func(x cty.Value) { rule.message = x.AsString() })
		if rule.message == "" {
			ok = false
		} else if !isSentence(rule.message) {
			ok = false
			*l = append(*l, report(msg.Expr.Range(), msg.Range, "Invalid validation message",
				"The error message must be at least one full sentence: it begins with an upper-case letter and ends with a full stop, a question mark or an exclamation mark."))
		}
	}
	if ok {
		v.rules = append(v.rules, rule)
	}
}

func (t *Template) checkCondition(v *Variable, a *hcl2.Attribute, l *diag.List) bool {
	ok, mentions := true, false
	for _, tr := range a.Expr.Variables() {
		if tr.RootName() == "var" && stepName(tr, 1) == v.Name {
			mentions = true
			continue
		}
		ok = false
		*l = append(*l, report(tr.SourceRange(), a.Range, "Invalid reference in a validation rule",
			"The condition of variable %q can refer to var.%s only.", v.Name, v.Name))
	}
	if ok && !mentions {
		*l = append(*l, report(a.Expr.Range(), a.Range, "Invalid validation condition",
			"The condition must look at var.%s; otherwise it says nothing about the variable.", v.Name))
		return false
	}
	return ok
}

func isSentence(s string) bool {
	s = strings.TrimSpace(s)
	first, _ := utf8.DecodeRuneInString(s)
	last, _ := utf8.DecodeLastRuneInString(s)
	return unicode.IsUpper(first) && strings.ContainsRune(".?!", last)
}

// settle ends the work on variables: unset ones are reported, rules checked,
// sensitive values marked.
func (t *Template) settle(l *diag.List) {
	for _, v := range t.Variables {
		if v.Sensitive {
			registerAll(t.in.Secrets, v.Value)
			if v.Default != cty.NilVal {
				registerAll(t.in.Secrets, v.Default)
			}
		}
		switch {
		case v.bad:
			v.Value = cty.UnknownVal(v.Type)
		case !v.Set:
			if !t.in.SyntaxOnly {
				at := fromRange(v.Range)
				places := "in a variable file, in the environment variable PKR_VAR_" + v.Name + ", or with a default here"
				if t.Legacy {
					places = "or in a variable file"
				}
				*l = append(*l, report(at, at, "Unset variable",
					"Variable %q has no value and no default. Give it one with -var %q, %s.", v.Name, v.Name+"=value", places))
			}
			v.Value = cty.UnknownVal(v.Type)
		case !t.in.SyntaxOnly:
			if !t.validate(v, l) {
				v.Value = cty.UnknownVal(v.Type)
			}
		}
		if v.Sensitive {
			v.Value = MarkSensitive(v.Value)
		}
	}
}

// validate checks the rules of v and reports whether all hold.
func (t *Template) validate(v *Variable, l *diag.List) bool {
	holds := true
	for _, rule := range v.rules {
		ctx := t.scope.ctx.NewChild()
		ctx.Variables = map[string]cty.Value{"var": cty.ObjectVal(map[string]cty.Value{v.Name: v.Value})}
		x, hd := evaluate(rule.condition, ctx)
		*l = append(*l, t.names.convertDiags(hd)...)
		if hd.HasErrors() {
			holds = false
			continue
		}
		x, err := convert.Convert(Unmark(x), cty.Bool)
		if err != nil || (x.IsKnown() && x.IsNull()) {
			at := rule.condition.Range()
			*l = append(*l, report(at, at, "Invalid validation condition", "The condition must be true or false."))
			holds = false
			continue
		}
		if x.IsKnown() && x.False() {
			holds = false
			at := fromRange(v.Range)
			if v.where != nil {
				at = *v.where
			}
			*l = append(*l, report(at, at, "Invalid value for variable", "%s", fmt.Sprintf(
				"%s\nThe value of variable %q (from %s) breaks the rule at %s.", rule.message, v.Name, v.Origin, toRange(rule.at))))
		}
	}
	return holds
}
