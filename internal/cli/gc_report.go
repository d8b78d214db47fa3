package cli

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/diag"
)

// What became of a thing.
const (
	resultRemoved = "removed"
	resultWould   = "would be removed"
	resultLeft    = "left"     // it should be gone
	resultKept    = "kept"     // rightly
	resultGivenUp = "given up" // a run
)

// A gcRow is one thing and what became of it.
type gcRow struct {
	Type   string `json:"type"`
	Kind   string `json:"kind"`
	ID     string `json:"id"`
	At     string `json:"at,omitempty"` // region
	Run    string `json:"run,omitempty"`
	Build  string `json:"build,omitempty"`
	Result string `json:"result"`
	Why    string `json:"why"`
	Error  string `json:"error,omitempty"`
}

func rowOf(t builder.Thing, run, build, why, result string, err error) gcRow {
	r := gcRow{Kind: t.Kind, ID: t.ID, At: t.At, Run: run, Build: build, Result: result, Why: why}
	if err != nil {
		r.Result, r.Error = resultLeft, err.Error()
		if h := diag.Hint(err); h != "" {
			r.Error += " (" + h + ")"
		}
	}
	return r
}

// result names what became of a thing of which nothing is known to be wrong.
func (g *collector) result(removed, meant bool) string {
	switch {
	case !meant:
		return resultKept
	case g.opts.dryRun:
		return resultWould
	case removed:
		return resultRemoved
	}
	return resultLeft
}

func (g *collector) add(r gcRow) {
	r.Type = "gc"
	g.left = g.left || r.Result == resultLeft
	g.rows = append(g.rows, r)
}

// known reports whether the thing was told of by its journal, and is not
// there any more or would not be.
func (g *collector) known(t builder.Thing) bool {
	for _, r := range g.rows {
		if r.Kind == t.Kind && r.ID == t.ID && r.At == t.At && r.Result != resultLeft {
			return true
		}
	}
	return false
}

// fault tells what kept gc from looking.
func (g *collector) fault(err error) {
	g.left = true
	if g.opts.json {
		g.rows = append(g.rows, gcRow{Type: "gc-error", Error: err.Error()})
		return
	}
	g.report.error(err)
}

func (g *collector) note(format string, args ...any) {
	if !g.opts.json && g.report.machine == nil {
		g.report.say(fmt.Sprintf(format, args...))
	}
}

func (g *collector) print() {
	switch {
	case g.opts.json:
		enc := json.NewEncoder(g.Out)
		for _, r := range g.rows {
			if enc.Encode(r) != nil {
				return // nobody reads it
			}
		}
	case g.report.machine != nil:
		for _, r := range g.rows {
			g.report.machine.Line(r.Run, "gc", r.Kind, r.ID, r.At, r.Build, r.Result, r.Why, r.Error)
		}
	case len(g.rows) == 0:
		g.report.say("There is nothing to remove.")
	default:
		rows := [][]string{{"KIND", "ID", "WHERE", "RUN", "RESULT", "WHY"}}
		for _, r := range g.rows {
			rows = append(rows, []string{r.Kind, r.ID, or(r.At, "-"), or(r.Run, "-"), r.Result, oneLine(strings.TrimPrefix(r.Why+": "+r.Error, ": "))})
		}
		g.table(rows)
	}
}

func oneLine(s string) string {
	return strings.ReplaceAll(strings.TrimSuffix(s, ": "), "\n", "; ")
}
