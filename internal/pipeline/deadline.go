package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-build/ingot/internal/event"
)

// A DeadlineError says that a build, or the whole run, took longer than it was
// allowed and was stopped.
type DeadlineError struct {
	What  string // "the build", "the run"
	Limit time.Duration
}

func (e *DeadlineError) Error() string {
	return fmt.Sprintf("%s did not end within %s", e.What, e.Limit)
}

// bounded returns a context that ends after limit (0: never), its cause a
// [*DeadlineError], and tells out when it does. Clean-ups are not under it.
func bounded(ctx context.Context, limit time.Duration, what string, out event.Sink) (context.Context, context.CancelFunc) {
	if limit <= 0 {
		return ctx, func() {}
	}
	err := &DeadlineError{what, limit}
	ctx, stop := context.WithTimeoutCause(ctx, limit, err)
	quiet := context.AfterFunc(ctx, func() {
		if context.Cause(ctx) == error(err) {
			out.Emit(event.Warn{Text: err.Error() + ": stopping and cleaning up."})
		}
	})
	return ctx, func() { quiet(); stop() }
}

func isDeadline(err error) bool {
	var d *DeadlineError
	return errors.As(err, &d)
}

// late adds to an error of a build that was stopped at its deadline that this
// is why.
func late(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	if err == nil || !isDeadline(cause) || isDeadline(err) {
		return err
	}
	return errors.Join(cause, err)
}
