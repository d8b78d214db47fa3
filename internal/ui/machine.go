package ui

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/event"
)

// Machine writes Packer's machine-readable lines:
//
//	unix-seconds,target,type,data…
//
// In data a comma becomes %!(PACKER_COMMA), a line end \n or \r. No question
// can be answered in this mode.
type Machine struct {
	w   io.Writer
	now func() time.Time
	sum summary
}

var _ event.Reader = (*Machine)(nil)

// NewMachine returns a reader that writes to w; now stamps the lines that are
// not events.
func NewMachine(w io.Writer, now func() time.Time) *Machine { return &Machine{w: w, now: now} }

var machineEscape = strings.NewReplacer(",", "%!(PACKER_COMMA)", "\r", `\r`, "\n", `\n`)

func (m *Machine) line(at time.Time, target, typ string, data ...string) {
	var b strings.Builder
	fmt.Fprintf(&b, "%d,%s,%s", at.Unix(), machineEscape.Replace(target), typ)
	for _, d := range data {
		b.WriteString("," + machineEscape.Replace(d))
	}
	b.WriteString("\n")
	quietly(io.WriteString(m.w, b.String()))
}

// Line writes a line that is not about an event.
func (m *Machine) Line(target, typ string, data ...string) { m.line(m.now(), target, typ, data...) }

// Read writes one record.
func (m *Machine) Read(r event.Record) {
	m.sum.read(r)
	say := func(kind, text string) {
		m.line(r.Time, "", "ui", kind, strings.Join(prefixed(r, text), "\n"))
	}
	switch e := r.Event.(type) {
	case event.Say:
		say("say", e.Text)
	case event.Warn:
		say("say", "Warning: "+e.Text)
	case event.Output:
		if e.Stderr {
			say("error", e.Line)
		} else {
			say("message", e.Line)
		}
	case event.BuildEnded:
		m.ui(r.Time, buildLine(r.Build, e))
	case event.RunEnded:
		m.end(r.Time, e)
	}
}

func (m *Machine) ui(at time.Time, l line) {
	kind := "say"
	if l.err {
		kind = "error"
	}
	m.line(at, "", "ui", kind, l.text)
}

func (m *Machine) end(at time.Time, e event.RunEnded) {
	failed, _, _ := m.sum.failed()
	if len(failed) > 0 {
		m.line(at, "", "error-count", strconv.Itoa(len(failed)))
	}
	for _, n := range failed {
		m.line(at, n, "error", m.sum.ended[n].Error)
	}
	for _, n := range m.sum.names {
		m.artifacts(at, n, m.sum.ended[n].Artifacts)
	}
	for _, l := range m.sum.lines(e) {
		if l.text != "" {
			m.ui(at, l)
		}
	}
}

func (m *Machine) artifacts(at time.Time, build string, sets []artifact.Set) {
	if len(sets) == 0 {
		return
	}
	m.line(at, build, "artifact-count", strconv.Itoa(len(sets)))
	for i, a := range sets {
		put := func(data ...string) {
			m.line(at, build, "artifact", append([]string{strconv.Itoa(i)}, data...)...)
		}
		if a.Empty {
			put("nil")
			put("end")
			continue
		}
		put("builder-id", a.BuilderID)
		put("id", a.ID)
		put("string", artifactText(a))
		put("files-count", strconv.Itoa(len(a.Files)))
		for k, f := range a.Files {
			put("file", strconv.Itoa(k), f)
		}
		put("end")
	}
}
