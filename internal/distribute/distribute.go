// Package distribute does one job per region. The jobs run side by side and
// know nothing of each other: each has its own deadline and its own retries,
// and one that fails neither stops nor delays another.
package distribute

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/ingot-build/ingot/internal/poll"
)

// Options is how jobs are run. The zero value is of use.
type Options struct {
	Parallel int           // jobs at a time; 0: 20
	Deadline time.Duration // of each job with all its tries, from the start of the first; 0: none
	Tries    int           // of each job at most, the first included; 0: 4
	First    time.Duration // longest pause before the second try, doubled for each further one; 0: 2 s
	Max      time.Duration // the longest that pauses grow to; 0: 1 min

	// Retrying, when not nil, is told that a region's job failed and is done
	// again after pause. It is called on the job's goroutine.
	Retrying func(region string, err error, pause time.Duration)
}

func (o Options) withDefaults() Options {
	if o.Parallel <= 0 {
		o.Parallel = 20
	}
	if o.Tries <= 0 {
		o.Tries = 4
	}
	if o.First <= 0 {
		o.First = 2 * time.Second
	}
	if o.Max <= 0 {
		o.Max = time.Minute
	}
	return o
}

// A Result is what became of one region's job.
type Result[T any] struct {
	Region string
	Value  T // the zero value when there is an error
	Err    error
	Tries  int // 0: the job was never started
}

// A DeadlineError says that a job did not end in its time.
type DeadlineError struct {
	Limit time.Duration
	Err   error // what the job said; may be nil
}

func (e *DeadlineError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("did not end within %s", e.Limit)
	}
	return fmt.Sprintf("did not end within %s: %v", e.Limit, e.Err)
}
func (e *DeadlineError) Unwrap() error { return e.Err }

// Run calls job for each region, on a goroutine each, and returns the results
// in the order of regions once all have ended. An error in whose chain
// Temporary() bool says true makes the job run again. When ctx ends, no job is
// started or repeated any more, those under way see it, and regions whose job
// was not finished have an error that holds ctx's cause.
func Run[T any](ctx context.Context, regions []string, o Options, job func(ctx context.Context, region string) (T, error)) []Result[T] {
	o = o.withDefaults()
	out := make([]Result[T], len(regions))
	places := make(chan struct{}, o.Parallel)
	var wg sync.WaitGroup
	for i, region := range regions {
		wg.Go(func() {
			out[i].Region = region
			select {
			case places <- struct{}{}:
				defer func() { <-places }()
			case <-ctx.Done():
			}
			out[i].Value, out[i].Tries, out[i].Err = one(ctx, region, o, job)
		})
	}
	wg.Wait()
	return out
}

// one does a job to its end.
func one[T any](ctx context.Context, region string, o Options, job func(ctx context.Context, region string) (T, error)) (_ T, tries int, _ error) {
	var none T
	if err := context.Cause(ctx); err != nil {
		return none, 0, err
	}
	if o.Deadline > 0 {
		var stop context.CancelFunc
		ctx, stop = context.WithTimeoutCause(ctx, o.Deadline, &DeadlineError{Limit: o.Deadline})
		defer stop()
	}
	limit := o.First
	for tries = 1; ; tries++ {
		v, err := job(ctx, region)
		if err == nil {
			return v, tries, nil
		}
		if ctx.Err() == nil && tries < o.Tries && temporary(err) {
			// Between half and all of the limit: jobs that failed together
			// do not come back together.
			pause := limit/2 + rand.N(limit/2+1)
			limit = min(2*limit, o.Max)
			if o.Retrying != nil {
				o.Retrying(region, err, pause)
			}
			if poll.Sleep(ctx, pause) == nil {
				continue
			}
		}
		return none, tries, ended(ctx, err)
	}
}

// ended adds to err why ctx ended, if it did.
func ended(ctx context.Context, err error) error {
	cause := context.Cause(ctx)
	var late *DeadlineError
	switch {
	case cause == nil || errors.Is(err, cause):
		return err
	case errors.As(cause, &late):
		if errors.Is(err, context.DeadlineExceeded) {
			err = nil // it says the same
		}
		return &DeadlineError{Limit: late.Limit, Err: err}
	case errors.Is(err, context.Canceled):
		return cause
	}
	return fmt.Errorf("%w: %w", cause, err)
}

// temporary reports whether the job thinks that another try may do.
func temporary(err error) bool {
	var t interface{ Temporary() bool }
	return errors.As(err, &t) && t.Temporary()
}
