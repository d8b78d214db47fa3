// Package event is the one stream in which a run tells what it does.
//
// Producers emit typed values into a [Sink]; emitting never waits and never
// fails. A [Bus] stamps, masks and hands them to its readers (a terminal, a
// log, JSON lines). Errors are not events: they are returned, and the
// pipeline tells them once, in [BuildEnded].
package event

import (
	"time"

	"github.com/ingot-build/ingot/internal/artifact"
)

// A Sink takes events. Emit may be called from any goroutine; it never waits
// for a reader.
type Sink interface{ Emit(Event) }

// An Event is one of the types of this package.
type Event interface {
	// Kind is the name in JSON output. It is never given a new meaning.
	Kind() string
	// masked returns the event with mask applied to every text a person or a
	// guest chose.
	masked(mask func(string) string) Event
}

// RunStarted is the first event of a run.
type RunStarted struct {
	Run     string   `json:"run"` // run id
	Dir     string   `json:"dir"` // run directory
	Version string   `json:"version"`
	Builds  []string `json:"builds"` // full names, in the template's order
}

// BuildStarted opens a build. The build's name is in the [Record].
type BuildStarted struct{}

// StepStarted says what a build does now: "boot", "provisioner shell", ….
type StepStarted struct {
	Name  string `json:"name"`
	Index int    `json:"index,omitempty"` // from 1; 0 where the step is not counted
	Total int    `json:"total,omitempty"`
}

// StepEnded closes the step of the same name.
type StepEnded struct {
	Name    string        `json:"name"`
	Elapsed time.Duration `json:"elapsed_ns"`
	Failed  bool          `json:"failed,omitempty"`
	Skipped bool          `json:"skipped,omitempty"`
}

// Say is a line for a person: what is being done, or that it was.
type Say struct {
	Text string `json:"text"`
}

// Warn is a line for a person about something that is probably not wanted.
type Warn struct {
	Text string `json:"text"`
}

// Detail is for the log only: commands, retries, versions.
type Detail struct {
	Text string `json:"text"`
}

// Output is one line, without its line end, that a guest or a local command
// wrote.
type Output struct {
	Line   string `json:"line"`
	Stderr bool   `json:"stderr,omitempty"`
}

// Progress is how far a transfer is. Readers may miss all but the last of a
// task; Done reaches Total when the task is complete.
type Progress struct {
	Task  string `json:"task"` // "upload site.tar", unique within the build while it runs
	Done  int64  `json:"done"`
	Total int64  `json:"total,omitempty"` // 0 when not known
	Unit  string `json:"unit"`            // "B" for bytes
}

// BuildEnded closes a build.
type BuildEnded struct {
	Elapsed   time.Duration  `json:"elapsed_ns"`
	Artifacts []artifact.Set `json:"artifacts,omitempty"`
	Error     string         `json:"error,omitempty"`
	Hint      string         `json:"hint,omitempty"` // what to do about Error
	Cancelled bool           `json:"cancelled,omitempty"`
}

// RunEnded is the last event of a run.
type RunEnded struct {
	Elapsed time.Duration `json:"elapsed_ns"`
}

// Kind names.
func (RunStarted) Kind() string   { return "run-started" }
func (BuildStarted) Kind() string { return "build-started" }
func (StepStarted) Kind() string  { return "step-started" }
func (StepEnded) Kind() string    { return "step-ended" }
func (Say) Kind() string          { return "say" }
func (Warn) Kind() string         { return "warn" }
func (Detail) Kind() string       { return "detail" }
func (Output) Kind() string       { return "output" }
func (Progress) Kind() string     { return "progress" }
func (BuildEnded) Kind() string   { return "build-ended" }
func (RunEnded) Kind() string     { return "run-ended" }

func (e RunStarted) masked(func(string) string) Event   { return e }
func (e BuildStarted) masked(func(string) string) Event { return e }
func (e RunEnded) masked(func(string) string) Event     { return e }

func (e StepStarted) masked(m func(string) string) Event { e.Name = m(e.Name); return e }
func (e StepEnded) masked(m func(string) string) Event   { e.Name = m(e.Name); return e }
func (e Say) masked(m func(string) string) Event         { e.Text = m(e.Text); return e }
func (e Warn) masked(m func(string) string) Event        { e.Text = m(e.Text); return e }
func (e Detail) masked(m func(string) string) Event      { e.Text = m(e.Text); return e }
func (e Output) masked(m func(string) string) Event      { e.Line = m(e.Line); return e }
func (e Progress) masked(m func(string) string) Event    { e.Task = m(e.Task); return e }

func (e BuildEnded) masked(m func(string) string) Event {
	e.Error, e.Hint = m(e.Error), m(e.Hint)
	sets := make([]artifact.Set, 0, len(e.Artifacts))
	for _, s := range e.Artifacts {
		s = s.Clone()
		s.ID, s.Text = m(s.ID), m(s.Text)
		for i, f := range s.Files {
			s.Files[i] = m(f)
		}
		for k, v := range s.Data {
			s.Data[k] = m(v)
		}
		sets = append(sets, s)
	}
	e.Artifacts = sets
	return e
}

// A Record is an event as readers get it.
type Record struct {
	Seq       int64     // from 1, in the order of emission
	Time      time.Time // when it was emitted
	Build     string    // full build name, "" for the whole run
	Component string    // post-processor type, "" elsewhere
	Event     Event
}

// Scope is a [Sink] that adds who is speaking.
type scope struct {
	bus              *Bus
	build, component string
}

func (s scope) Emit(e Event) { s.bus.emit(s.build, s.component, e) }

// Discard is a [Sink] for callers nobody listens to. Questions put to it are
// answered with [ErrNoTerminal].
var Discard Sink = discard{}

type discard struct{}

func (discard) Emit(e Event) {
	if q, ok := e.(*Question); ok {
		q.Answer("", ErrNoTerminal)
	}
}
