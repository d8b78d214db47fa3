package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/secret"
)

// unknownValue stands for what is known later, or not at all.
const unknownValue = "<unknown>"

// printed shows a value as console and inspect do: a text as it is, inside a
// collection in quotes.
func printed(v cty.Value) string { return render(v, "", true) }

func render(v cty.Value, indent string, top bool) string {
	if v == cty.NilVal {
		return unknownValue
	}
	if v.IsMarked() {
		if hcl.IsSensitive(v) {
			return secret.Redacted
		}
		v, _ = v.Unmark()
	}
	switch {
	case !v.IsKnown():
		return unknownValue
	case v.IsNull():
		return "null"
	}
	switch t := v.Type(); {
	case t == cty.String:
		if top {
			return v.AsString()
		}
		return fmt.Sprintf("%q", v.AsString())
	case t == cty.Number:
		return v.AsBigFloat().Text('f', -1)
	case t == cty.Bool:
		return fmt.Sprint(v.True())
	case t.IsListType(), t.IsTupleType(), t.IsSetType():
		return renderList(v, indent)
	case t.IsMapType(), t.IsObjectType():
		return renderMap(v, indent)
	}
	return v.GoString()
}

func renderList(v cty.Value, indent string) string {
	if v.LengthInt() == 0 {
		return "[]"
	}
	var b strings.Builder
	b.WriteString("[\n")
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		b.WriteString(indent + "  " + render(e, indent+"  ", false) + ",\n")
	}
	return b.String() + indent + "]"
}

func renderMap(v cty.Value, indent string) string {
	m := v.AsValueMap()
	if len(m) == 0 {
		return "{}"
	}
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	var b strings.Builder
	b.WriteString("{\n")
	for _, k := range keys {
		fmt.Fprintf(&b, "%s  %q = %s\n", indent, k, render(m[k], indent+"  ", false))
	}
	return b.String() + indent + "}"
}
