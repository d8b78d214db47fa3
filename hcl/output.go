package hcl

import (
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/diag"
)

// An Output is a value that a run hands on.
type Output struct {
	Name, Description string
	Type              cty.Type // cty.DynamicPseudoType when none is declared
	Sensitive         bool     // declared so
	Range             diag.Range

	expr hcl2.Expression
	at   hcl2.Range // of the option
	spec typeSpec
	t    *Template
}

var outputSchema = &hcl2.BodySchema{
	Attributes: []hcl2.AttributeSchema{{Name: "value", Required: true}, {Name: "description"}, {Name: "type"}, {Name: "sensitive"}},
}

func (t *Template) outputBlock(b *hcl2.Block, l *diag.List) {
	o := &Output{Name: b.Labels[0], Type: cty.DynamicPseudoType, spec: typeSpec{ty: cty.DynamicPseudoType}, Range: toRange(b.DefRange), t: t}
	if !hclsyntax.ValidIdentifier(o.Name) {
		*l = append(*l, report(b.LabelRanges[0], b.DefRange, "Invalid output name",
			"%q is not a name: names begin with a letter and have only letters, digits, underscores and dashes.", o.Name))
	}
	for _, p := range t.Outputs {
		if p.Name == o.Name {
			*l = append(*l, report(b.DefRange, b.DefRange, "Duplicate output", "The output %q is already defined at %s. Rename one of them.", o.Name, p.Range))
			return
		}
	}
	content, hd := readContent(b.Body, outputSchema)
	t.addExpansion(l, hd)
	t.option(content.Attributes["description"], &o.Description, l)
	t.option(content.Attributes["sensitive"], &o.Sensitive, l)
	if a := content.Attributes["type"]; a != nil {
		ty, defaults, hd := typeexpr.TypeConstraintWithDefaults(a.Expr)
		*l = append(*l, t.names.convertDiags(hd)...)
		if !hd.HasErrors() {
			o.spec = typeSpec{ty: ty, defaults: defaults}
			o.Type = ty.WithoutOptionalAttributesDeep()
		}
	}
	if a := content.Attributes["value"]; a != nil {
		o.expr, o.at = a.Expr, a.Range
	}
	t.Outputs = append(t.Outputs, o)
}

// Value is the value in s, of the output's type; unknown after a mistake. It
// is marked when it is secret, which must be declared.
func (o *Output) Value(s Scope) (cty.Value, diag.List) {
	var l diag.List
	unknown := cty.UnknownVal(o.Type)
	if o.expr == nil {
		return unknown, nil
	}
	v, hd := evaluate(o.expr, s.ctx)
	l = append(l, o.t.names.convertDiags(hd)...)
	if hd.HasErrors() {
		return unknown, l
	}
	converted, err := o.spec.convert(v)
	if err != nil {
		l = append(l, report(o.expr.Range(), o.at, "Value does not fit the output's type", "Output %q has the type %s: %v.", o.Name, typeexpr.TypeString(o.Type), err))
		return unknown, l
	}
	if IsSensitive(converted) && !o.Sensitive {
		l = append(l, report(o.expr.Range(), o.at, "Sensitive output", "The value of output %q comes from a sensitive one. Add sensitive = true, and it is not shown.", o.Name))
	}
	if o.Sensitive {
		registerAll(o.t.in.Secrets, converted)
		converted = MarkSensitive(converted)
	}
	return converted, l
}

// References are what the value says of builds.
func (o *Output) References() []Reference {
	if o.expr == nil {
		return nil
	}
	return references(o.expr)
}
