package poll

import (
	"context"
	"errors"
	"testing"
	"time"
)

func TestUntilProbesAtOnceAndStops(t *testing.T) {
	n := 0
	err := Until(t.Context(), Backoff{First: time.Microsecond}, func(context.Context) (bool, error) {
		n++
		return n == 3, nil
	})
	if err != nil || n != 3 {
		t.Fatalf("n = %d, err = %v", n, err)
	}
}

func TestUntilReturnsTheCause(t *testing.T) {
	why := errors.New("why")
	ctx, cancel := context.WithCancelCause(t.Context())
	err := Until(ctx, Backoff{First: time.Hour}, func(context.Context) (bool, error) {
		cancel(why)
		return false, nil
	})
	if !errors.Is(err, why) {
		t.Fatalf("err = %v", err)
	}
	called := false
	if err := Until(ctx, Backoff{}, func(context.Context) (bool, error) { called = true; return true, nil }); err == nil || called {
		t.Fatalf("a cancelled context probes: %v %v", called, err)
	}
}
