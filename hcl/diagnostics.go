package hcl

import (
	"fmt"
	"sort"
	"strings"

	"github.com/agext/levenshtein"
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/diag"
)

// toRange converts a place.
func toRange(r hcl2.Range) diag.Range {
	return diag.Range{
		Filename: r.Filename,
		Start:    diag.Pos{Line: r.Start.Line, Column: r.Start.Column, Byte: r.Start.Byte},
		End:      diag.Pos{Line: r.End.Line, Column: r.End.Column, Byte: r.End.Byte},
	}
}

func rangePtr(r *hcl2.Range) *diag.Range {
	if r == nil {
		return nil
	}
	out := toRange(*r)
	return &out
}

// report is an error at subject, shown inside context.
func report(subject, context hcl2.Range, summary, format string, args ...any) diag.Diagnostic {
	return diag.Diagnostic{
		Severity: diag.Error, Summary: summary, Detail: fmt.Sprintf(format, args...),
		Subject: rangePtr(&subject), Context: rangePtr(&context),
	}
}

// Suggest returns the name in known that given is most likely a slip of the
// pen for, or "" when none is near.
func Suggest(given string, known []string) string {
	limit := 3
	if n := len(given) / 3; n > limit {
		limit = n
	}
	best, found := limit, ""
	for _, name := range known {
		d := levenshtein.Distance(strings.ToLower(given), strings.ToLower(name), nil)
		if d < best && d < len(name) {
			best, found = d, name
		}
	}
	return found
}

// didYouMean is Suggest as the end of a sentence.
func didYouMean(given string, known []string) string {
	if s := Suggest(given, known); s != "" {
		return fmt.Sprintf(" Did you mean %q?", s)
	}
	return ""
}

// remedy is didYouMean, followed by what to do when it was not meant. The
// verb of rest lacks its first letter, a d.
func remedy(given string, known []string, rest string) string {
	if s := didYouMean(given, known); s != "" {
		return s + " If not, d" + rest
	}
	return " D" + rest
}

// names are the declared things, to explain a reference to a missing one.
type names struct {
	vars, locals []string
	data         map[string][]string // data source names by type
	sources      map[string][]string // the same of sources
	builds       []string
}

// convertDiags turns the library's findings into ours, with remedies for the
// mistakes it knows nothing about.
func (n *names) convertDiags(in hcl2.Diagnostics) diag.List {
	out := make(diag.List, 0, len(in))
	for _, d := range in {
		sev := diag.Error
		if d.Severity == hcl2.DiagWarning {
			sev = diag.Warning
		}
		c := diag.Diagnostic{
			Severity: sev, Summary: d.Summary, Detail: d.Detail,
			Subject: rangePtr(d.Subject), Context: rangePtr(d.Context),
		}
		if d.Summary == "Invalid dynamic block label" && strings.Contains(d.Detail, "marks") {
			c.Detail = "A sensitive value cannot be a label: labels are shown. Use a variable that is not sensitive."
		}
		if d.Summary == "Call to unknown function" && strings.Contains(d.Detail, `"env"`) {
			c.Detail = "The environment can be read with env() only in the default of a variable. Declare one and refer to it."
		}
		if n != nil && d.Expression != nil {
			n.explain(&c, d)
		}
		out = append(out, c)
	}
	return out
}

// explain rewrites findings about references.
func (n *names) explain(c *diag.Diagnostic, d *hcl2.Diagnostic) {
	var tr hcl2.Traversal
	for _, t := range d.Expression.Variables() {
		if d.Subject != nil && t.SourceRange().Overlaps(*d.Subject) {
			tr = t
			break
		}
	}
	if tr == nil {
		return
	}
	root, name := tr.RootName(), stepName(tr, 1)
	switch {
	case d.Summary == "Unknown variable":
		n.explainRoot(c, root)
	case d.Summary != "Unsupported attribute" && d.Summary != "Invalid index":
	case root == "var" && name != "" && !contains(n.vars, name):
		c.Summary = "Undeclared variable"
		c.Detail = fmt.Sprintf("There is no variable %q.%s", name, remedy(name, n.vars, fmt.Sprintf("eclare it with: variable %q {}.", name)))
	case root == "local" && name != "" && !contains(n.locals, name):
		c.Summary = "Undeclared local value"
		c.Detail = fmt.Sprintf("There is no local value %q.%s", name, remedy(name, n.locals, "efine it in a locals block."))
	case root == "source" && stepName(tr, 2) != "" && name != "type" && name != "name":
		n.explainSource(c, name, stepName(tr, 2))
	case root == "build" && name != "" && len(n.builds) > 0 && !contains(n.builds, name) && len(tr) > 2:
		c.Summary = "Unknown build"
		c.Detail = fmt.Sprintf("No build block has the name %q.%s", name, didYouMean(name, n.builds))
	case root == "build" && contains(n.builds, name) && strings.Contains(d.Detail, `"artifact"`):
		c.Detail = fmt.Sprintf("The build %q has not just one source. Say whose artifact: build.%s.artifacts[\"type.name\"]; of a repeated build, which: build.%s[\"key\"].", name, name, name)
	case root == "data" && name != "":
		n.explainData(c, name, stepName(tr, 2))
	}
}

func (n *names) explainSource(c *diag.Diagnostic, typ, name string) {
	known := n.sources[typ]
	if contains(known, name) {
		return
	}
	c.Summary = "Unknown source"
	c.Detail = fmt.Sprintf("There is no source \"%s.%s\".%s", typ, name, remedy(name, known, fmt.Sprintf("efine it with: source %q %q { }.", typ, name)))
}

func (n *names) explainData(c *diag.Diagnostic, typ, name string) {
	known, ok := n.data[typ]
	switch {
	case !ok:
		types := make([]string, 0, len(n.data))
		for t := range n.data {
			types = append(types, t)
		}
		sort.Strings(types)
		c.Summary = "Undeclared data source"
		c.Detail = fmt.Sprintf("No data block has the type %q.%s", typ, didYouMean(typ, types))
	case name != "" && !contains(known, name):
		c.Summary = "Undeclared data source"
		c.Detail = fmt.Sprintf("There is no data source %q of type %q.%s", name, typ, didYouMean(name, known))
	}
}

func (n *names) explainRoot(c *diag.Diagnostic, root string) {
	switch root {
	case "build", "source":
		c.Detail = fmt.Sprintf("%q is known only inside provisioners, post-processors and the options of a build's source; it cannot be used here.", root)
	case "each", "count":
		with := map[string]string{"each": "for_each", "count": "count"}[root]
		c.Detail = fmt.Sprintf("%q is known only inside a source or a build that is repeated with %s. To repeat another block, write dynamic \"block-type\" { for_each = … }.", root, with)
	case "self":
		c.Detail = "There is no \"self\" in this language."
	case "local", "data", "path", "packer":
		c.Detail = fmt.Sprintf("%q cannot be used here.", root)
	default:
		switch {
		case contains(n.vars, root):
			c.Detail = fmt.Sprintf("There is no name %q here. Did you mean var.%s?", root, root)
		case contains(n.locals, root):
			c.Detail = fmt.Sprintf("There is no name %q here. Did you mean local.%s?", root, root)
		default:
			c.Detail = fmt.Sprintf("There is no name %q here.%s A text is written in quotes: %q.", root,
				didYouMean(root, []string{"var", "local", "data", "path", "packer"}), root)
		}
	}
}

// stepName is the name at step i of a traversal, written as .name or ["name"].
func stepName(t hcl2.Traversal, i int) string {
	if i >= len(t) {
		return ""
	}
	switch s := t[i].(type) {
	case hcl2.TraverseAttr:
		return s.Name
	case hcl2.TraverseIndex:
		if k := s.Key; k.Type() == cty.String && k.IsKnown() && !k.IsNull() && !k.IsMarked() {
			return k.AsString()
		}
	}
	return ""
}

func contains(list []string, s string) bool {
	for _, v := range list {
		if v == s {
			return true
		}
	}
	return false
}

// Dedupe returns l without repetitions, as they arise when one body is looked
// at for several builds. The order stays.
func Dedupe(l diag.List) diag.List {
	type key struct {
		summary, detail string
		at              diag.Range
	}
	seen := make(map[key]bool, len(l))
	out := make(diag.List, 0, len(l))
	for _, d := range l {
		k := key{summary: d.Summary, detail: d.Detail}
		if d.Subject != nil {
			k.at = *d.Subject
		}
		if !seen[k] {
			seen[k] = true
			out = append(out, d)
		}
	}
	return out
}

// sortDiags puts findings in the order of files, then of places: the library
// reports them in the order of a Go map. Those without a place come first.
func sortDiags(l diag.List, order map[string]int) {
	rank := func(d diag.Diagnostic) (int, int) {
		if d.Subject == nil {
			return -1, 0
		}
		i, ok := order[d.Subject.Filename]
		if !ok {
			i = len(order)
		}
		return i, d.Subject.Start.Byte
	}
	sort.SliceStable(l, func(i, j int) bool {
		fi, bi := rank(l[i])
		fj, bj := rank(l[j])
		if fi != fj {
			return fi < fj
		}
		return bi < bj
	})
}
