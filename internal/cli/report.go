package cli

import (
	"bytes"
	"fmt"
	"io"
	"strings"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/ui"
)

// A report is what a command tells beside the events of a run. As in Packer
// everything goes to standard output; the standard error is for logs.
type report struct {
	w       io.Writer
	machine *ui.Machine // nil: for a person
	json    *ui.JSON    // nil: for a person
	color   bool
	renamed func(text string) string // puts in the name the program goes by; nil: none
}

func newReport(s Streams, machine bool) *report {
	r := &report{w: s.Out, color: wantColor(s)}
	if machine {
		r.machine, r.color = ui.NewMachine(s.Out, s.Now), false
	}
	return r
}

// wantColor is the colour where no flag says otherwise. NO_COLOR is the
// convention of https://no-color.org.
func wantColor(s Streams) bool {
	a := app{Streams: s}
	no, _ := a.lookup("NO_COLOR")
	term, _ := a.lookup("TERM")
	return s.OutTerminal && no == "" && a.setting("NO_COLOR") == "" && term != "dumb"
}

func (r *report) say(text string)  { r.put("say", text) }
func (r *report) fail(text string) { r.put("error", text) }

func (r *report) put(kind, text string) {
	switch {
	case r.json != nil && kind == "error":
		r.json.Diagnostics(diag.List{{Severity: diag.Error, Summary: strings.TrimSpace(text)}})
	case r.json != nil:
	case r.machine != nil:
		r.machine.Line("", "ui", kind, text)
	default:
		if r.color && kind == "error" {
			text = "\x1b[1;31m" + text + "\x1b[0m"
		}
		// Nobody can be told that the reader of the output is gone.
		_, _ = fmt.Fprintln(r.w, text)
	}
}

// error tells an error and what to do about it.
func (r *report) error(err error) {
	if list := (*diag.ListError)(nil); asError(err, &list) {
		r.diagnostics(list.List, nil)
		return
	}
	text, hint := err.Error(), sentence(diag.Hint(err))
	if r.renamed != nil {
		text, hint = r.renamed(text), r.renamed(hint)
	}
	if r.json != nil {
		var l diag.List
		l.Errorf(nil, sentence(text), "%s", hint)
		r.json.Diagnostics(l)
		return
	}
	text = "Error: " + text
	if hint != "" {
		text += "\n\n" + hint
	}
	r.fail(text)
}

// diagnostics tells what is wrong with a template.
func (r *report) diagnostics(l diag.List, files map[string][]byte) {
	if len(l) == 0 {
		return
	}
	if r.json != nil {
		r.json.Diagnostics(l)
		return
	}
	for _, d := range l {
		var b bytes.Buffer
		// A bytes.Buffer takes everything.
		_ = diag.Format(&b, diag.List{d}, files, defaultWidth)
		text, kind := b.String(), "say"
		if d.Severity == diag.Error {
			kind = "error"
		}
		if r.machine != nil {
			r.machine.Line("", "ui", kind, text)
			continue
		}
		if r.color {
			text = colored(d.Severity, text)
		}
		_, _ = io.WriteString(r.w, text) // as in put
	}
}

// colored marks the first line of a diagnostic.
func colored(s diag.Severity, text string) string {
	c := "31"
	if s == diag.Warning {
		c = "33"
	}
	first, rest, _ := strings.Cut(text, "\n")
	return "\x1b[1;" + c + "m" + first + "\x1b[0m\n" + rest
}
