package ui

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/internal/event"
)

// LogName is the file of the whole stream in a run directory.
const LogName = "log"

// logTime is RFC 3339 with milliseconds, in UTC.
const logTime = "2006-01-02T15:04:05.000Z"

// Log writes every record with its time, one line or more each.
type Log struct {
	w   io.Writer
	err error
}

var _ event.Reader = (*Log)(nil)

// NewLog returns a reader that writes to w.
func NewLog(w io.Writer) *Log { return &Log{w: w} }

// Read writes one record.
func (l *Log) Read(r event.Record) {
	if _, err := l.w.Write(logLines(r)); err != nil && l.err == nil {
		l.err = err
	}
}

// Err returns the first fault in writing, once the bus is closed.
func (l *Log) Err() error { return l.err }

// A RunLog is a [Log] in the run's own directory. It opens its file, readable
// by its owner only, when the run tells where that is.
type RunLog struct {
	early bytes.Buffer // what came before
	f     *os.File
	err   error
}

var _ event.Reader = (*RunLog)(nil)

// Read writes one record.
func (l *RunLog) Read(r event.Record) {
	if e, ok := r.Event.(event.RunStarted); ok && l.f == nil && l.err == nil {
		l.f, l.err = os.OpenFile(filepath.Join(e.Dir, LogName), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
		if l.err == nil {
			_, l.err = l.early.WriteTo(l.f)
		}
	}
	switch {
	case l.err != nil:
	case l.f == nil:
		l.early.Write(logLines(r))
	default:
		_, l.err = l.f.Write(logLines(r))
	}
}

// Close closes the file, once the bus is closed, and returns the first fault.
func (l *RunLog) Close() error {
	if l.f != nil {
		if err := l.f.Close(); l.err == nil {
			l.err = err
		}
		l.f = nil
	}
	if l.err != nil {
		return fmt.Errorf("log of the run: %w", l.err)
	}
	return nil
}

// logLines gives a record as "time [build (component)] kind: text"; further
// lines of a text are indented. Progress is left out but for its end: a log is
// read, not watched.
func logLines(r event.Record) []byte {
	text, ok := logText(r.Event)
	if !ok {
		return nil
	}
	who := ""
	if r.Build != "" {
		who = " [" + r.Build + "]"
		if r.Component != "" {
			who = " [" + r.Build + " (" + r.Component + ")]"
		}
	}
	text = strings.ReplaceAll(strings.TrimRight(sanitize(text), "\n"), "\n", "\n    ")
	return fmt.Appendf(nil, "%s%s %s\n", r.Time.UTC().Format(logTime), who, strings.TrimRight(r.Event.Kind()+": "+text, " "))
}

func logText(ev event.Event) (string, bool) {
	switch e := ev.(type) {
	case event.RunStarted:
		return fmt.Sprintf("run %s of Ingot %s: %s", e.Run, e.Version, strings.Join(e.Builds, ", ")), true
	case event.BuildStarted:
		return "", true
	case event.StepStarted:
		return e.Name, true
	case event.StepEnded:
		return stepEnded(e), true
	case event.Say:
		return e.Text, true
	case event.Warn:
		return e.Text, true
	case event.Detail:
		return e.Text, true
	case event.Output:
		if e.Stderr {
			return "(stderr) " + e.Line, true
		}
		return e.Line, true
	case event.Progress:
		return fmt.Sprintf("%s: %s", e.Task, amount(e.Done, e.Unit)), e.Total > 0 && e.Done >= e.Total
	case event.BuildEnded:
		return buildEnded(e), true
	case event.RunEnded:
		return "after " + words(e.Elapsed), true
	case *event.Question:
		return e.Text, true
	}
	js, err := json.Marshal(ev)
	return string(js), err == nil
}

func stepEnded(e event.StepEnded) string {
	how := ""
	switch {
	case e.Failed:
		how = " failed"
	case e.Skipped:
		how = " skipped"
	}
	return e.Name + how + " after " + words(e.Elapsed)
}

func buildEnded(e event.BuildEnded) string {
	var b strings.Builder
	b.WriteString("after " + words(e.Elapsed))
	if e.Cancelled {
		b.WriteString(", cancelled")
	}
	for _, a := range e.Artifacts {
		if !a.Empty {
			b.WriteString("\nartifact: " + artifactText(a))
		}
	}
	if e.Error != "" {
		b.WriteString("\nerror: " + e.Error)
	}
	if e.Hint != "" {
		b.WriteString("\nhint: " + e.Hint)
	}
	return b.String()
}
