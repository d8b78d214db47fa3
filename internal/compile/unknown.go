package compile

import (
	"fmt"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/diag"
)

// unknown reports a component type that is not built in.
func (c *compiler) unknown(r diag.Range, kind, typ string, known []string) {
	hint := ""
	if s := hcl.Suggest(typ, known); s != "" {
		hint = fmt.Sprintf(" Did you mean %q?", s)
	}
	summary := fmt.Sprintf("Unknown %s type %q", kind, typ)
	c.unknowns = append(c.unknowns, summary)
	c.diags.Errorf(&r, summary,
		"This version of Ingot has no %s of type %q built in.%s Built in are: %s.", kind, typ, hint, strings.Join(known, ", "))
}

// collapsed is l with one finding for each of the summaries, however often it
// is in l: the first, which tells of the other places.
func collapsed(l diag.List, summaries []string) diag.List {
	if len(summaries) == 0 {
		return l
	}
	out := make(diag.List, 0, len(l))
	first, places := map[string]int{}, map[string][]string{}
	for _, d := range l {
		if d.Subject == nil || !slices.Contains(summaries, d.Summary) {
			out = append(out, d)
			continue
		}
		place := fmt.Sprintf("%s line %d", d.Subject.Filename, d.Subject.Start.Line)
		switch _, told := first[d.Summary]; {
		case !told:
			first[d.Summary] = len(out)
			out = append(out, d)
			places[d.Summary] = []string{place}
		case !slices.Contains(places[d.Summary], place):
			places[d.Summary] = append(places[d.Summary], place)
		}
	}
	for s, i := range first {
		if more := places[s][1:]; len(more) > 0 {
			out[i].Detail += fmt.Sprintf(" It is used at %s, too.", listed(more))
		}
	}
	return out
}

// listed names a few places.
func listed(places []string) string {
	const most = 4
	if n := len(places); n > most {
		return fmt.Sprintf("%s and %d more places", strings.Join(places[:most], ", "), n-most)
	}
	return strings.Join(places, ", ")
}
