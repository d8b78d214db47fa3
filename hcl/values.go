package hcl

import (
	"path/filepath"
	"sort"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/typeexpr"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/diag"
)

// envPrefix begins the name of an environment variable that sets a variable.
const envPrefix = "PKR_VAR_"

// inOrder returns attributes as they stand in the file.
func inOrder(attrs hcl2.Attributes) []*hcl2.Attribute {
	out := make([]*hcl2.Attribute, 0, len(attrs))
	for _, a := range attrs {
		out = append(out, a)
	}
	sort.Slice(out, func(i, j int) bool { return out[i].Range.Start.Byte < out[j].Range.Start.Byte })
	return out
}

// assignAll gives the variables their values. Where several are given the
// later kind wins: default, environment, automatic files, -var-file, -var.
func (t *Template) assignAll(auto []string, l *diag.List) {
	byName := t.index.vars
	for _, kv := range t.in.Env {
		name, value, _ := strings.Cut(kv, "=")
		if name, ok := strings.CutPrefix(name, envPrefix); ok {
			if v := byName[name]; v != nil {
				t.assignText(v, value, "environment", "<environment variable "+envPrefix+name+">", l)
			}
		}
	}
	for _, f := range auto {
		t.varFile(f, byName, l)
	}
	for _, f := range t.in.VarFiles {
		switch filepath.Ext(f) {
		case ".hcl", ".json":
			t.varFile(f, byName, l)
		default:
			l.Errorf(nil, "Unknown kind of variable file", "The name of the variable file %q ends with neither .hcl nor .json, so its syntax is not known. Rename it to *.pkrvars.hcl or *.pkrvars.json.", f)
		}
	}
	for _, kv := range t.in.Vars {
		name, value, ok := strings.Cut(kv, "=")
		if !ok {
			l.Errorf(nil, "Invalid -var option", "%q has no equals sign. Write it as -var \"name=value\".", name)
			continue
		}
		v := byName[name]
		if v == nil {
			l.Errorf(nil, "Undeclared variable", "The command line sets %q, but the template declares no such variable.%s", name, didYouMean(name, t.names.vars))
			continue
		}
		t.assignText(v, value, "-var", "<option -var "+name+">", l)
	}
}

// assignText sets v from a text outside of any file. place names it in
// messages.
func (t *Template) assignText(v *Variable, text, origin, place string, l *diag.List) {
	if v.Sensitive {
		registerAll(t.in.Secrets, cty.StringVal(text))
	} else {
		t.Files[place] = []byte(text)
	}
	end := hcl2.InitialPos
	end.Column += len([]rune(text))
	end.Byte += len(text)
	at := hcl2.Range{Filename: place, Start: hcl2.InitialPos, End: end}
	x := cty.StringVal(text)
	if !v.spec.literal() {
		e, hd := hclsyntax.ParseExpression([]byte(text), place, hcl2.InitialPos)
		if !hd.HasErrors() {
			x, hd = evaluate(e, nil)
		}
		if hd.HasErrors() {
			for _, d := range t.names.convertDiags(hd) {
				d.Detail += " The value of variable " + v.Name + " is an expression, in which texts are quoted: its type is " + typeexpr.TypeString(v.Type) + "."
				*l = append(*l, d)
			}
			v.bad, v.Set = true, true
			return
		}
	}
	if v.spec.ty != cty.String && v.spec.literal() && v.spec.ty != cty.DynamicPseudoType {
		x = trimmed(x)
	}
	t.assignValue(v, x, origin, at, at, l)
}

func (t *Template) assignValue(v *Variable, x cty.Value, origin string, at, around hcl2.Range, l *diag.List) {
	if v.Sensitive {
		registerAll(t.in.Secrets, x)
	}
	x, err := v.spec.convert(x)
	if err != nil {
		*l = append(*l, report(at, around, "Value does not fit the variable's type",
			"Variable %q, declared at %s, has the type %s: %v.", v.Name, v.Range, typeexpr.TypeString(v.Type), err))
		v.bad, v.Set = true, true
		return
	}
	v.assign(x, origin, at)
}

// varFile reads one file of values.
func (t *Template) varFile(name string, byName map[string]*Variable, l *diag.List) {
	body := t.parse(name, strings.HasSuffix(name, ".json"), l)
	if body == nil {
		return
	}
	attrs, hd := body.JustAttributes()
	for _, d := range t.names.convertDiags(hd) {
		if strings.HasPrefix(d.Summary, "Unexpected") {
			d.Detail += " A variable file holds only lines of the form name = value; declare variables in a .pkr.hcl file."
		}
		*l = append(*l, d)
	}
	for _, a := range inOrder(attrs) {
		v := byName[a.Name]
		if v == nil {
			if t.in.WarnUndeclared {
				*l = append(*l, diag.Diagnostic{
					Severity: diag.Warning, Summary: "Undeclared variable", Subject: rangePtr(&a.NameRange), Context: rangePtr(&a.Range),
					Detail: "The template declares no variable \"" + a.Name + "\", so this value has no effect." + didYouMean(a.Name, t.names.vars) +
						" To use it, declare it with: variable \"" + a.Name + "\" {}.",
				})
			}
			continue
		}
		x, hd := evaluate(a.Expr, nil)
		for _, d := range t.names.convertDiags(hd) {
			if d.Severity == diag.Error {
				d.Detail += " A variable file holds plain values."
			}
			*l = append(*l, d)
		}
		if hd.HasErrors() {
			v.bad, v.Set = true, true
			continue
		}
		t.assignValue(v, x, name, a.Expr.Range(), a.Range, l)
	}
}
