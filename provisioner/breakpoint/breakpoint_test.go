package breakpoint

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

var guest = communicator.Guest{
	Communicator: communicator.None{},
	Data:         communicator.Data{Host: "192.0.2.1", Port: 22, User: "admin", KeyFile: "/k"},
}

// enter answers every question.
type enter struct{ asked []string }

func (e *enter) CanAnswer() bool { return true }

func (e *enter) Read(r event.Record) {
	if q, ok := r.Event.(*event.Question); ok {
		e.asked = append(e.asked, q.Text)
		q.Answer("", nil)
	}
}

func TestWaitsForEnter(t *testing.T) {
	var e enter
	bus := event.NewBus(time.Now, nil, &e)
	p, err := open(Config{Note: "look"})
	if err != nil {
		t.Fatal(err)
	}
	err = p.Apply(provisionertest.Context(t), guest, bus.ForBuild("b"))
	bus.Close()
	if err != nil || len(e.asked) != 1 {
		t.Errorf("asked %q: %v", e.asked, err)
	}
	if k, err := p.Key(t.Context()); err != nil || !k.IsZero() {
		t.Errorf("key %s %v", k, err)
	}
}

func TestWithoutTerminal(t *testing.T) {
	var out provisionertest.Events
	err := breakpoint{Config{Note: "look"}}.Apply(t.Context(), guest, &out)
	if !errors.Is(err, event.ErrNoTerminal) || !strings.Contains(diag.Hint(err), "disable = true") {
		t.Errorf("%v, hint %q", err, diag.Hint(err))
	}
	if said := out.Said(); len(said) != 2 || said[0] != `Pausing at breakpoint provisioner with note "look".` {
		t.Errorf("%q", said)
	}
}

func TestDisabled(t *testing.T) {
	b := breakpoint{Config{Disable: true}}
	var out provisionertest.Events
	if err := b.Apply(t.Context(), guest, &out); err != nil {
		t.Error(err)
	}
	if said := out.Said(); len(said) != 1 || said[0] != "Breakpoint provisioner disabled; continuing..." {
		t.Errorf("%q", said)
	}
	if k, err := b.Key(t.Context()); err != nil || k.IsZero() {
		t.Errorf("a breakpoint that does nothing ends caching: %v", err)
	}
}
