package hcl

import (
	"unicode/utf8"

	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/secret"
)

// sensitiveMark is the cty mark of a value that must not be shown. Marks
// travel through operators, templates and functions, so what is computed from
// a secret is secret too.
type sensitiveMark struct{}

// MarkSensitive returns v marked as one that must not be shown.
func MarkSensitive(v cty.Value) cty.Value { return v.Mark(sensitiveMark{}) }

// IsSensitive reports whether v or anything inside it is marked.
func IsSensitive(v cty.Value) bool { return v.ContainsMarked() }

// Unmark returns v without marks at any depth.
func Unmark(v cty.Value) cty.Value {
	v, _ = v.UnmarkDeep()
	return v
}

// registerAll adds every text in v to the set.
func registerAll(set *secret.Set, v cty.Value) {
	if set == nil {
		return
	}
	walkStrings(Unmark(v), func(s string) { set.Add(s) })
}

// shortestDerived is the length from which a text computed from a secret is
// masked. `var.password == "" ? "no" : "yes"` is marked too, and masking "yes"
// wherever it occurs would garble the output and hide nothing.
const shortestDerived = 5

// registerMarked adds the marked texts inside v to the set.
func registerMarked(set *secret.Set, v cty.Value) {
	if set == nil || !v.ContainsMarked() {
		return
	}
	if v.IsMarked() {
		walkStrings(Unmark(v), func(s string) {
			if utf8.RuneCountInString(s) >= shortestDerived {
				set.Add(s)
			}
		})
		return
	}
	if v.IsKnown() && !v.IsNull() && v.CanIterateElements() {
		for it := v.ElementIterator(); it.Next(); {
			_, e := it.Element()
			registerMarked(set, e)
		}
	}
}

// walkStrings calls f for every known text in v, which has no marks.
func walkStrings(v cty.Value, f func(string)) {
	switch {
	case v == cty.NilVal || !v.IsKnown() || v.IsNull():
	case v.Type() == cty.String:
		f(v.AsString())
	case v.CanIterateElements():
		for it := v.ElementIterator(); it.Next(); {
			_, e := it.Element()
			walkStrings(e, f)
		}
	}
}
