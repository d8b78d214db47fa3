package ui

import (
	"bytes"
	"encoding/json"
	"io"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

// JSONFormat is the version of the JSON stream. It grows when a line changes
// its meaning; new types and new fields do not change it.
const JSONFormat = 1

// JSON writes one object a line. The first is
//
//	{"type":"hello","format":1,"version":"…"}
//
// Every other has a type: an event's kind, with seq, time, build and component
// beside the event's own fields, or "diagnostic".
type JSON struct{ w io.Writer }

var _ event.Reader = (*JSON)(nil)

// NewJSON says hello on w.
func NewJSON(w io.Writer, version string) *JSON {
	j := &JSON{w}
	j.put(struct {
		Type    string `json:"type"`
		Format  int    `json:"format"`
		Version string `json:"version"`
	}{"hello", JSONFormat, version})
	return j
}

type jsonHead struct {
	Type      string    `json:"type"`
	Seq       int64     `json:"seq"`
	Time      time.Time `json:"time"`
	Build     string    `json:"build,omitempty"`
	Component string    `json:"component,omitempty"`
}

// Read writes one record.
func (j *JSON) Read(r event.Record) {
	js, err := flatten(jsonHead{r.Event.Kind(), r.Seq, r.Time.UTC(), r.Build, r.Component}, r.Event)
	if err != nil {
		js, _ = json.Marshal(map[string]string{"type": "fault", "error": err.Error()}) // a map of strings
	}
	quietly(j.w.Write(append(js, '\n')))
}

// flatten gives one object with the fields of both.
func flatten(head, body any) ([]byte, error) {
	h, err := json.Marshal(head)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(body)
	if err != nil {
		return nil, err
	}
	if bytes.Equal(b, []byte("{}")) {
		return h, nil
	}
	return append(append(h[:len(h)-1], ','), b[1:]...), nil
}

type jsonPos struct {
	Line   int `json:"line"`
	Column int `json:"column"`
	Byte   int `json:"byte"`
}

type jsonRange struct {
	File  string  `json:"file"`
	Start jsonPos `json:"start"`
	End   jsonPos `json:"end"`
}

type jsonDiagnostic struct {
	Type string `json:"type"`
	Diagnostic
}

// A Diagnostic is a finding as JSON has it.
type Diagnostic struct {
	Severity string     `json:"severity"` // "error", "warning"
	Summary  string     `json:"summary"`
	Detail   string     `json:"detail,omitempty"`
	Range    *jsonRange `json:"range,omitempty"`
}

// DiagnosticOf is d as JSON has it.
func DiagnosticOf(d diag.Diagnostic) Diagnostic {
	out := Diagnostic{Severity: "error", Summary: d.Summary, Detail: d.Detail}
	if d.Severity == diag.Warning {
		out.Severity = "warning"
	}
	if s := d.Subject; s != nil {
		out.Range = &jsonRange{File: s.Filename, Start: jsonPos(s.Start), End: jsonPos(s.End)}
	}
	return out
}

// Diagnostics writes an object for each finding.
func (j *JSON) Diagnostics(l diag.List) {
	for _, d := range l {
		j.put(jsonDiagnostic{"diagnostic", DiagnosticOf(d)})
	}
}

func (j *JSON) put(v any) {
	js, err := json.Marshal(v)
	if err != nil {
		return // v is one of the structs above, which encode
	}
	quietly(j.w.Write(append(js, '\n')))
}
