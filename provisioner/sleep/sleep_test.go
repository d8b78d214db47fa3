package sleep

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
)

func TestSleep(t *testing.T) {
	g := communicator.Guest{Communicator: communicator.None{}}
	short, err := open(Config{Duration: time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	if err := short.Apply(t.Context(), g, event.Discard); err != nil {
		t.Error(err)
	}
	long, err := open(Config{Duration: 1000 * time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if err := long.Apply(ctx, g, event.Discard); !errors.Is(err, cause) {
		t.Errorf("%v, want the cause", err)
	}
	a, _ := short.Key(t.Context())
	b, _ := long.Key(t.Context())
	if a.IsZero() || a == b {
		t.Errorf("keys %s and %s", a, b)
	}
	if _, err := open(Config{Duration: -1}); err == nil {
		t.Error("a negative duration was accepted")
	}
}
