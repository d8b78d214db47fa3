package provisionertest

import (
	"slices"
	"sync"

	"github.com/ingot-build/ingot/internal/event"
)

// Events is a sink that keeps what it is told. It answers no question.
type Events struct {
	mu   sync.Mutex
	list []event.Event
}

var _ event.Sink = (*Events)(nil)

// Emit implements [event.Sink].
func (e *Events) Emit(ev event.Event) {
	if q, ok := ev.(*event.Question); ok {
		q.Answer("", event.ErrNoTerminal)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.list = append(e.list, ev)
}

// All returns the events so far.
func (e *Events) All() []event.Event {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.list)
}

// Lines returns what was written to one of the two outputs.
func (e *Events) Lines(stderr bool) (lines []string) {
	for _, ev := range e.All() {
		if o, ok := ev.(event.Output); ok && o.Stderr == stderr {
			lines = append(lines, o.Line)
		}
	}
	return lines
}

// Said returns what a person was told.
func (e *Events) Said() (texts []string) {
	for _, ev := range e.All() {
		if s, ok := ev.(event.Say); ok {
			texts = append(texts, s.Text)
		}
	}
	return texts
}
