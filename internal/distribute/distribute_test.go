package distribute

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A busy is an error that another try may get over.
type busy struct{ temporary bool }

func (b busy) Error() string   { return "busy" }
func (b busy) Temporary() bool { return b.temporary }

// quick makes pauses that nobody notices.
var quick = Options{First: 1, Max: 1}

func regions(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprint("r", i))
	}
	return out
}

func TestAllRunAtOnceAndInOrder(t *testing.T) {
	rs := regions(20)
	var here sync.WaitGroup
	here.Add(len(rs))
	res := Run(t.Context(), rs, Options{}, func(_ context.Context, region string) (string, error) {
		here.Done()
		here.Wait() // passes only when all are here
		return "image in " + region, nil
	})
	for i, r := range res {
		if r.Region != rs[i] || r.Value != "image in "+rs[i] || r.Err != nil || r.Tries != 1 {
			t.Errorf("%d: %+v", i, r)
		}
	}
}

func TestNoMoreThanAllowed(t *testing.T) {
	var now, most atomic.Int32
	res := Run(t.Context(), regions(50), Options{Parallel: 3}, func(context.Context, string) (int, error) {
		n := now.Add(1)
		defer now.Add(-1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		return 0, nil
	})
	if len(res) != 50 || most.Load() > 3 {
		t.Errorf("%d results, %d at a time", len(res), most.Load())
	}
}

func TestOneThatFailsStopsNobody(t *testing.T) {
	boom := errors.New("boom")
	failed := make(chan struct{})
	res := Run(t.Context(), regions(3), quick, func(ctx context.Context, region string) (int, error) {
		if region == "r1" {
			defer close(failed)
			return 0, boom
		}
		<-failed
		return 7, context.Cause(ctx)
	})
	for i, r := range res {
		if want := i == 1; errors.Is(r.Err, boom) != want || (r.Value == 7) == want || r.Tries != 1 {
			t.Errorf("%+v", r)
		}
	}
}

func TestRetries(t *testing.T) {
	for name, tc := range map[string]struct {
		fails int
		err   error
		tries int
		bad   bool
	}{
		"gets over it":          {2, fmt.Errorf("copy: %w", busy{true}), 3, false},
		"never":                 {99, busy{true}, 5, true},
		"says it is no use":     {99, busy{false}, 1, true},
		"does not say":          {99, errors.New("boom"), 1, true},
		"its own request timed": {1, context.DeadlineExceeded, 2, false},
	} {
		o, told := quick, 0
		o.Tries = 5
		o.Retrying = func(region string, err error, pause time.Duration) {
			told++
			if region != "r0" || !errors.Is(err, tc.err) || pause < 0 || pause > 1 {
				t.Errorf("%s: told of %s, %v, %v", name, region, err, pause)
			}
		}
		left := tc.fails
		r := Run(t.Context(), regions(1), o, func(context.Context, string) (int, error) {
			if left--; left >= 0 {
				return 0, tc.err
			}
			return 1, nil
		})[0]
		if (r.Err != nil) != tc.bad || r.Tries != tc.tries || told != tc.tries-1 {
			t.Errorf("%s: %+v, told %d times", name, r, told)
		}
	}
}

func TestDeadlineIsEachJobsOwn(t *testing.T) {
	o := quick
	o.Parallel, o.Deadline = 2, time.Millisecond
	res := Run(t.Context(), regions(2), o, func(ctx context.Context, region string) (int, error) {
		if region == "r0" {
			<-ctx.Done()
			return 0, fmt.Errorf("wait: %w", ctx.Err())
		}
		return 1, nil
	})
	var late *DeadlineError
	if !errors.As(res[0].Err, &late) || late.Limit != o.Deadline || res[0].Err.Error() != "did not end within 1ms" {
		t.Errorf("%v", res[0].Err)
	}
	if res[1].Err != nil {
		t.Errorf("%v", res[1].Err)
	}
}

// A job that is late and says something of its own is not done again.
func TestLateJobKeepsItsError(t *testing.T) {
	o := quick
	o.Deadline = time.Millisecond
	r := Run(t.Context(), regions(1), o, func(ctx context.Context, _ string) (int, error) {
		<-ctx.Done()
		return 0, busy{true}
	})[0]
	var late *DeadlineError
	var b busy
	if !errors.As(r.Err, &late) || !errors.As(r.Err, &b) || r.Tries != 1 {
		t.Errorf("%+v", r)
	}
}

func TestCancel(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	res := Run(ctx, regions(9), Options{Parallel: 2}, func(ctx context.Context, region string) (string, error) {
		cancel(why)
		<-ctx.Done()
		if region == "r0" {
			return "made it", nil
		}
		return "", busy{true}
	})
	started := 0
	for _, r := range res {
		started += r.Tries
		if r.Region == "r0" && r.Tries == 1 {
			if r.Err != nil || r.Value != "made it" {
				t.Errorf("%+v", r)
			}
			continue
		}
		if !errors.Is(r.Err, why) || r.Tries > 1 {
			t.Errorf("%+v", r)
		}
	}
	if started == 0 || started > 2 {
		t.Errorf("%d jobs were started", started)
	}
}

// A pause ends with ctx.
func TestCancelWhilePausing(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("interrupted")
	o := Options{First: 24 * time.Hour, Retrying: func(string, error, time.Duration) { cancel(why) }}
	r := Run(ctx, regions(1), o, func(context.Context, string) (int, error) { return 0, busy{true} })[0]
	if !errors.Is(r.Err, why) || !errors.Is(r.Err, busy{true}) || r.Tries != 1 {
		t.Errorf("%+v", r)
	}
}

func TestNothingToDo(t *testing.T) {
	if res := Run(t.Context(), nil, Options{}, func(context.Context, string) (int, error) { return 1, nil }); len(res) != 0 {
		t.Errorf("%v", res)
	}
}
