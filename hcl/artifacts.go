package hcl

import (
	"fmt"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/diag"
)

// A Reference is a place where one build names another.
type Reference struct {
	Build  string // the name of the build block
	Key    string // of one instance, as in names: ["eu"], [0]; "" for all, or the only one
	Member string // what of it, "artifact" or "artifacts"; "" in depends_on and when it is not plain to see
	Range  diag.Range
}

// String is the reference as a template has it.
func (r Reference) String() string { return "build." + r.Build + r.Key }

// references finds what e says of builds. A build's own values, as in
// build.ID, look the same: which it is depends on the names of the builds.
func references(e hcl2.Expression) (out []Reference) {
	for _, tr := range e.Variables() {
		if tr.RootName() != "build" {
			continue
		}
		r := Reference{Build: stepName(tr, 1), Range: toRange(tr.SourceRange())}
		if r.Build == "" {
			continue
		}
		next := 2
		if len(tr) > 2 {
			if i, ok := tr[2].(hcl2.TraverseIndex); ok {
				next = 3
				switch k := i.Key; {
				case k.Type() == cty.String:
					r.Key = fmt.Sprintf("[%q]", k.AsString())
				case k.Type() == cty.Number:
					r.Key = "[" + k.AsBigFloat().Text('f', -1) + "]"
				}
			}
		}
		if r.Member = stepName(tr, next); r.Key == `["artifact"]` || r.Key == `["artifacts"]` {
			r.Key, r.Member = "", strings.Trim(r.Key, `[]"`)
		}
		out = append(out, r)
	}
	return out
}

// Tracking is s, with which [Block.Check] also notices the references to
// builds that [Block.References] returns.
func (s Scope) Tracking() Scope {
	s.track = true
	return s
}

// References are what the options say of builds, as the last Check in a
// tracking scope saw them.
func (b *Block) References() []Reference {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.refs
}

// Named returns the builds that r is about.
func (t *Template) Named(r Reference) (out []*Build) {
	for _, b := range t.Builds {
		if b.Family == r.Build && (r.Key == "" || b.Key.text == r.Key || !b.Key.Known()) {
			out = append(out, b)
		}
	}
	return out
}

// families are the builds by the name of their block; those without one are
// left out, for nothing can refer to them.
func (t *Template) buildFamilies() map[string][]*Build {
	out := map[string][]*Build{}
	for _, b := range t.Builds {
		if b.Family != "" {
			out[b.Family] = append(out[b.Family], b)
		}
	}
	return out
}

// familyValue is what stands for the builds of one block, of which of makes
// the value of each.
func familyValue(list []*Build, of func(*Build) cty.Value) cty.Value {
	byKey := map[string]cty.Value{}
	var all []cty.Value
	for _, b := range list {
		switch {
		case !b.Key.Known():
			return cty.DynamicVal
		case b.Key.IsZero() && len(list) > 1: // several of one name
			return cty.DynamicVal
		case b.Key.IsZero():
			return of(b)
		case b.Key.value.Type() == cty.String:
			byKey[b.Key.value.AsString()] = of(b)
		}
		all = append(all, of(b))
	}
	if len(byKey) > 0 {
		return cty.ObjectVal(byKey)
	}
	return cty.TupleVal(all)
}

// BuildValues are what build.NAME stands for, by name: for a build with one
// source its artifact, for every build its artifacts by source. A repeated
// build is an object, or a tuple, of such. made returns the artifact of one
// source of a build, an unknown value while there is none.
func (t *Template) BuildValues(made func(*Build, *BuildSource) cty.Value) map[string]cty.Value {
	out := map[string]cty.Value{}
	for name, list := range t.buildFamilies() {
		out[name] = familyValue(list, func(b *Build) cty.Value {
			byRef := map[string]cty.Value{}
			for _, s := range b.Sources {
				if !s.Key.Known() {
					return cty.DynamicVal
				}
				byRef[s.Ref()] = made(b, s)
			}
			vals := map[string]cty.Value{"artifacts": cty.ObjectVal(byRef)}
			if len(b.Sources) == 1 {
				vals["artifact"] = byRef[b.Sources[0].Ref()]
			}
			return cty.ObjectVal(vals)
		})
	}
	return out
}

// dependencies resolves what depends_on says.
func (t *Template) dependencies(l *diag.List) {
	families := t.buildFamilies()
	t.names.builds = sortedKeys(families)
	vals := map[string]cty.Value{}
	for name, list := range families {
		vals[name] = familyValue(list, func(b *Build) cty.Value { return cty.StringVal("build." + b.Name) })
	}
	for _, b := range t.Builds {
		if b.dependsOn != nil {
			t.dependsOn(b, t.scope.With("build", cty.ObjectVal(vals)), l)
		}
	}
}

func (t *Template) dependsOn(b *Build, s Scope, l *diag.List) {
	a := b.dependsOn
	had := len(*l)
	v, ok := t.valueIn(s, a, l)
	switch {
	case !ok && len(*l) == had && !t.in.SyntaxOnly:
		// A name that several builds have, or one that is not known yet: what
		// is written says which blocks are meant.
		b.DependsOn = append(b.DependsOn, references(a.Expr)...)
		return
	case !ok, v.IsNull():
		return
	case !isSequence(v.Type()):
		*l = append(*l, report(a.Expr.Range(), a.Range, "Unsuitable depends_on", "depends_on is a list of builds: [build.name]."))
		return
	}
	elems, hd := hcl2.ExprList(a.Expr)
	i := 0
	for it := v.ElementIterator(); it.Next(); i++ {
		_, e := it.Element()
		at := a.Expr.Range()
		if !hd.HasErrors() && i < len(elems) {
			at = elems[i].Range()
		}
		list := []cty.Value{e}
		if !e.IsNull() && (isMapping(e.Type()) || isSequence(e.Type())) {
			list = e.AsValueSlice()
		}
		for _, e := range list {
			if e.IsNull() || e.Type() != cty.String {
				*l = append(*l, report(at, a.Range, "Unsuitable depends_on", "Each element is a build: build.name."))
				continue
			}
			t.dependency(b, e.AsString(), at, a.Range, l)
		}
	}
}

func (t *Template) dependency(b *Build, ref string, at, around hcl2.Range, l *diag.List) {
	r := Reference{Build: strings.TrimPrefix(ref, "build."), Range: toRange(at)}
	if i := strings.IndexByte(r.Build, '['); i > 0 && len(t.Named(r)) == 0 {
		r.Build, r.Key = r.Build[:i], r.Build[i:]
	}
	if len(t.Named(r)) == 0 {
		if !t.in.SyntaxOnly {
			*l = append(*l, report(at, around, "Unknown build", "No build block has the name %q.%s", r.Build+r.Key, didYouMean(r.Build, t.names.builds)))
		}
		return
	}
	b.DependsOn = append(b.DependsOn, r)
}
