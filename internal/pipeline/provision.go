package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/provisioner"
)

// errorCleanupTime bounds an error-cleanup-provisioner without a timeout.
const errorCleanupTime = 5 * time.Minute

// A TimeoutError says that a provisioner took longer than it was allowed.
type TimeoutError struct{ Limit time.Duration }

func (e *TimeoutError) Error() string { return fmt.Sprintf("did not end within %s", e.Limit) }

func (w *work) provision(ctx context.Context, g communicator.Guest) error {
	for i, p := range w.Provisioners {
		step := fmt.Sprintf("provisioner %d (%s)", i+1, p.Type)
		if err := w.pause(ctx, "About to run "+step+"."); err != nil {
			return err
		}
		w.out.Emit(event.StepStarted{Name: step, Index: i + 1, Total: len(w.Provisioners)})
		start := w.opts.Now()
		err := w.settled(ctx, step, func() error { return w.tries(ctx, p, step, g) })
		w.out.Emit(event.StepEnded{Name: step, Elapsed: w.opts.Now().Sub(start), Failed: err != nil})
		if err != nil && p.ContinueOnError && ctx.Err() == nil {
			w.out.Emit(event.Warn{Text: fmt.Sprintf("%s failed, going on (continue_on_error): %v", step, err)})
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", step, err)
		}
	}
	return nil
}

// settled runs do again while the person at the terminal says so.
func (w *work) settled(ctx context.Context, step string, do func() error) error {
	for {
		err := do()
		if err == nil {
			return nil
		}
		again, err := w.afterStep(ctx, step, err)
		if !again {
			return err
		}
	}
}

// tries applies p once and then up to MaxRetries times more.
func (w *work) tries(ctx context.Context, p Provisioner, step string, g communicator.Guest) error {
	for left := p.MaxRetries; ; left-- {
		err := w.try(ctx, p, step, g)
		if err == nil || ctx.Err() != nil || left <= 0 {
			return err
		}
		w.out.Emit(event.Say{Text: fmt.Sprintf("Provisioner failed with %q, retrying with %d trie(s) left", err, left)})
	}
}

func (w *work) try(ctx context.Context, p Provisioner, step string, g communicator.Guest) error {
	prov, err := p.Open(g.Data)
	if err != nil {
		return err
	}
	if p.PauseBefore > 0 {
		w.out.Emit(event.Say{Text: fmt.Sprintf("Pausing %s before the next provisioner...", p.PauseBefore)})
		if err := poll.Sleep(ctx, p.PauseBefore); err != nil {
			return err
		}
	}
	if err := w.recordProvision(ctx, prov, step); err != nil {
		return err
	}
	if p.Timeout > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, p.Timeout, &TimeoutError{p.Timeout})
		defer stop()
		w.out.Emit(event.Detail{Text: fmt.Sprintf("%s has %s", step, p.Timeout)})
	}
	err = prov.Apply(ctx, g, w.out)
	var late *TimeoutError
	if err != nil && errors.As(context.Cause(ctx), &late) {
		return late
	}
	return err
}

// recordProvision journals that the guest is about to be changed, and by what.
func (w *work) recordProvision(ctx context.Context, prov provisioner.Provisioner, step string) error {
	key, err := prov.Key(ctx)
	if err != nil {
		return err
	}
	return w.run.Record(journal.KindProvision, step, struct {
		Key string `json:"key,omitempty"`
	}{key.String()})
}

// errorCleanup runs the error-cleanup-provisioner on the guest that failed,
// also after an interrupt. Its own failure is told besides the first one.
func (w *work) errorCleanup(ctx context.Context, g communicator.Guest) error {
	p := w.ErrorCleanup
	if p == nil || w.opts.OnError == Abort || w.keep {
		return nil
	}
	limit := p.Timeout
	if limit <= 0 {
		limit = errorCleanupTime
	}
	ctx, stop := cleanupContext(ctx, limit, w.opts.Abort)
	defer stop()
	w.out.Emit(event.Say{Text: "Provisioning failed, running the error-cleanup-provisioner..."})
	if err := w.tries(ctx, *p, "error-cleanup-provisioner", g); err != nil {
		return fmt.Errorf("error-cleanup-provisioner (%s): %w", p.Type, err)
	}
	return nil
}
