// Package poll waits on conditions. Every wait ends when its context does.
package poll

import (
	"context"
	"time"
)

// A Backoff is the pause between two probes: First, then each Factor times
// the one before, never more than Max. The zero value means 100 ms, growing by
// half, at most 2 s.
type Backoff struct {
	First, Max time.Duration
	Factor     float64
}

func (b Backoff) withDefaults() Backoff {
	if b.First <= 0 {
		b.First = 100 * time.Millisecond
	}
	if b.Max <= 0 {
		b.Max = 2 * time.Second
	}
	if b.Factor < 1 {
		b.Factor = 1.5
	}
	return b
}

// Sleep waits for d, or until ctx ends; then it returns ctx's cause.
func Sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// Until calls probe at once and then again after growing pauses until it says
// done or fails, or until ctx ends; then it returns ctx's cause. probe is
// called on the caller's goroutine, never twice at a time.
func Until(ctx context.Context, b Backoff, probe func(context.Context) (done bool, err error)) error {
	b = b.withDefaults()
	pause := b.First
	for {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		done, err := probe(ctx)
		if done || err != nil {
			return err
		}
		if err := Sleep(ctx, pause); err != nil {
			return err
		}
		pause = min(time.Duration(float64(pause)*b.Factor), b.Max)
	}
}
