package awsaccess

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/ingot-build/ingot/internal/poll"
)

// The pauses of [Session.Wait].
const (
	pauseBase  = 250 * time.Millisecond
	pauseLocal = 20 * time.Millisecond // a local cloud has no quota
	pauseShare = 0.03
	pauseMax   = 15 * time.Second

	// attemptTime is what one attempt stands for where aws_polling limits the
	// attempts and leaves the pause to us.
	attemptTime = 15 * time.Second
	// faultsInRow ends a wait on an API that answers nothing; each of them is
	// a request that was sent again max_retries times.
	faultsInRow = 5
)

// A TimeoutError ends a wait that took as long as was allowed.
type TimeoutError struct {
	Waited   time.Duration
	Attempts int
	Last     error // of the last probe, when it failed; may be nil
}

func (e *TimeoutError) Error() string {
	s := fmt.Sprintf("not there after %s (%d attempts)", e.Waited.Round(time.Second), e.Attempts)
	if e.Last != nil {
		s += ": " + e.Last.Error()
	}
	return s
}

func (e *TimeoutError) Unwrap() error { return e.Last }

// Timeout marks it as a timeout for code that knows no types.
func (e *TimeoutError) Timeout() bool { return true }

// polling is what aws_polling and the environment say.
type polling struct {
	delay    time.Duration // 0: our own pauses
	attempts int           // 0: no limit
	limit    time.Duration // replaces the caller's; 0: not
}

func pollingOf(p *Polling, getenv func(string) string) polling {
	var out polling
	if p != nil {
		out.delay, out.attempts = time.Duration(p.DelaySeconds)*time.Second, p.MaxAttempts
	}
	if out.delay == 0 {
		out.delay = time.Duration(envInt(getenv, "AWS_POLL_DELAY_SECONDS")) * time.Second
	}
	if out.attempts == 0 {
		out.attempts = envInt(getenv, "AWS_MAX_ATTEMPTS")
	}
	if out.attempts == 0 {
		out.limit = time.Duration(envInt(getenv, "AWS_TIMEOUT_SECONDS")) * time.Second
	}
	if out.attempts > 0 && out.delay == 0 {
		// A number of attempts says how long, not how often.
		out.limit, out.attempts = time.Duration(out.attempts)*attemptTime, 0
	}
	return out
}

// envInt reads a positive number; anything else is 0.
func envInt(getenv func(string) string, name string) int {
	n, err := strconv.Atoi(getenv(name))
	if err != nil || n < 0 {
		return 0
	}
	return n
}

// pause is how long to wait after elapsed, when the pauses are ours: about
// 3 % of it, so that a long wait ends soon after what it waits for without
// asking often.
func pause(elapsed time.Duration, local bool) time.Duration {
	base := pauseBase
	if local {
		base = min(pauseBase, pauseLocal+elapsed/4)
	}
	return min(base+time.Duration(float64(elapsed)*pauseShare), pauseMax)
}

// Wait calls probe at once and then after pauses that grow from 250 ms to 15 s
// until it is done, fails, or limit is over (0: no limit), which is a
// [*TimeoutError]. aws_polling replaces the pauses and the limit. A probe that
// fails for a [temporary] reason is asked again, a few times in a row. It
// returns ctx's cause when ctx ends. probe is called on the caller's
// goroutine.
//
// [temporary]: IsTemporary
func (s *Session) Wait(ctx context.Context, limit time.Duration, probe func(context.Context) (bool, error)) error {
	p := s.polling
	switch {
	case p.limit > 0:
		limit = p.limit
	case p.attempts > 0:
		limit = 0
	}
	start, faults := time.Now(), 0
	for n := 1; ; n++ {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		done, err := probe(ctx)
		switch {
		case err == nil:
			faults = 0
			if done {
				return nil
			}
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !IsTemporary(err) || faults == faultsInRow:
			return err
		default:
			faults++
		}
		elapsed := time.Since(start)
		next := p.delay
		if next == 0 {
			next = pause(elapsed, s.local)
		}
		if p.attempts > 0 && n >= p.attempts || limit > 0 && elapsed >= limit {
			return &TimeoutError{elapsed, n, err}
		}
		if limit > 0 {
			next = min(next, limit-elapsed) // the last probe is at the limit
		}
		if err := poll.Sleep(ctx, next); err != nil {
			return err
		}
	}
}

func environment(name string) string { return os.Getenv(name) }
