package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/secret"
)

// text is the plan for a person, behind the values of the template.
func (v *planView) text(values, outputs string) string {
	var b strings.Builder
	b.WriteString(values)
	if len(v.Data) > 0 {
		b.WriteString("\n> data-sources:\n\n")
		for _, d := range v.Data {
			state := "not asked"
			if d.Known {
				state = "read"
			}
			fmt.Fprintf(&b, "data.%s: %s\n", d.Name, state)
		}
	}
	b.WriteString("\n> builds:\n")
	for _, p := range v.Builds {
		p.text(&b)
	}
	if outputs != "" {
		b.WriteString(outputs + "\n")
	}
	count := "1 build"
	if n := len(v.Builds); n != 1 {
		count = fmt.Sprintf("%d builds", n)
	}
	b.WriteString("\nPlanned: " + count + ", with every step anew: there is no cache yet. Nothing was changed.")
	return b.String()
}

func (p planBuild) text(b *strings.Builder) {
	fmt.Fprintf(b, "\n  > %s:\n\n", p.Name)
	line := func(title, text string) {
		if text != "" {
			fmt.Fprintf(b, "    %-12s %s\n", title+":", text)
		}
	}
	line("builder", p.Type)
	line("extends", p.Extends)
	line("after", strings.Join(p.After, ", "))
	line("image", p.Image)
	line("region", p.Region)
	line("copies to", strings.Join(p.Copies, ", "))
	line("replaces", strings.Join(p.Replaces, "; "))
	if len(p.KnownLater) > 0 {
		line("known later", strings.Join(p.KnownLater, ", "))
	}
	if p.Base != nil {
		line("base", p.Base.text())
	}
	if p.Checked {
		line("checked", "nothing stands in the way")
	}
	b.WriteString("\n    steps:\n\n")
	n := 0
	step := func(text string) {
		n++
		fmt.Fprintf(b, "      %d. %s\n", n, text)
	}
	for _, s := range p.Provisioners {
		step("provisioner " + s.text())
	}
	for _, chain := range p.PostProcessors {
		for i, s := range chain {
			if i == 0 {
				step("post-processor " + s.text())
			} else {
				step("then post-processor " + s.text())
			}
		}
	}
	if n == 0 {
		b.WriteString("      none but those of the builder\n")
	}
	if s := p.ErrorCleanup; s != nil {
		b.WriteString("\n      when a provisioner fails: " + s.text() + "\n")
	}
}

func (s planStep) text() string {
	out := labelled(s.Type, s.Name)
	seconds := func(f float64) string { return time.Duration(f * float64(time.Second)).String() }
	var more []string
	if s.PauseBefore > 0 {
		more = append(more, "after a pause of "+seconds(s.PauseBefore))
	}
	if s.Timeout > 0 {
		more = append(more, "for at most "+seconds(s.Timeout))
	}
	if s.MaxRetries > 0 {
		more = append(more, fmt.Sprintf("tried up to %d times", s.MaxRetries+1))
	}
	if s.ContinueOnError {
		more = append(more, "a failure is passed over")
	}
	if s.KeepInput != nil && *s.KeepInput {
		more = append(more, "its input is kept")
	}
	return strings.Join(append([]string{out}, more...), ", ")
}

func (p planBase) text() string {
	out := p.ID
	if p.Name != "" && p.Name != p.ID {
		out += " " + p.Name
	}
	var about []string
	for _, s := range []string{p.Arch, p.Virtualization, p.Boot, p.Region} {
		if s != "" {
			about = append(about, s)
		}
	}
	if len(about) > 0 {
		out += " (" + strings.Join(about, ", ") + ")"
	}
	return out
}

// planned is a value as -json prints it.
func planned(name string, v cty.Value, sensitive bool, mask func(string) string) planValue {
	out := planValue{Name: name, Sensitive: sensitive}
	if v == cty.NilVal { // a reference to it has a mistake
		return out
	}
	out.Sensitive = sensitive || v.IsMarked()
	out.Known = hcl.Unmark(v).IsWhollyKnown()
	if out.Sensitive || !out.Known {
		return out
	}
	var js bytes.Buffer
	e := json.NewEncoder(&js)
	e.SetEscapeHTML(false)
	if err := e.Encode(plainValue(v, mask)); err != nil {
		out.Known = false // an infinite number, which JSON has no form for
		return out
	}
	out.Value = js.Bytes()
	return out
}

// plainValue is a known value for JSON, with the secrets in it masked.
func plainValue(v cty.Value, mask func(string) string) any {
	if v.IsMarked() {
		return secret.Redacted
	}
	if v.IsNull() {
		return nil
	}
	switch t := v.Type(); {
	case t == cty.String:
		return mask(v.AsString())
	case t == cty.Number:
		return json.Number(v.AsBigFloat().Text('f', -1))
	case t == cty.Bool:
		return v.True()
	case t.IsMapType(), t.IsObjectType():
		out := map[string]any{}
		for k, e := range v.AsValueMap() {
			out[mask(k)] = plainValue(e, mask)
		}
		return out
	case t.IsListType(), t.IsSetType(), t.IsTupleType():
		out := []any{}
		for it := v.ElementIterator(); it.Next(); {
			_, e := it.Element()
			out = append(out, plainValue(e, mask))
		}
		return out
	}
	return nil
}
