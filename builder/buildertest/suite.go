// Package buildertest is the suite that every builder passes: the contract of
// builder.Builder, and of builder.Copier where the builder has regions, over a
// real journal, with a crash at every point where the journal is written.
package buildertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
)

// Config says what is tested.
type Config struct {
	// Open returns a builder that nothing was asked of yet. It is called
	// again for what a new process would open; the options are the same
	// within one subtest. The run id is set by the suite.
	Open func(t *testing.T) (builder.Builder, builder.Info)

	// Leftovers names what is on the platform and belongs to nobody: neither
	// to a sealed artifact nor to what was there before.
	Leftovers func() []string

	// Provision, when not nil, is called with every guest.
	Provision func(ctx context.Context, g communicator.Guest) error

	// Survives reports whether a sealed artifact is whole, with the copies
	// that are in it. Nil: its files exist.
	Survives func(set artifact.Set) error

	// Remove removes a sealed artifact after a subtest, with its copies. Nil:
	// its files.
	Remove func(set artifact.Set) error

	// Reopen, when not nil, is the driver's: what a crash left is then given
	// up by a builder that is opened by its place alone, unfinished copies
	// included.
	Reopen func(place json.RawMessage, b builder.Info) (builder.Builder, error)

	// Stride tests only each so many-th crash point, for builders that take
	// long. 0: all.
	Stride int

	// First is the first crash point that is tested, so that several suites
	// can share the points. 0: the first there is.
	First int

	// Timeout bounds each call to the builder. 0: a minute.
	Timeout time.Duration
}

// Run runs the suite in subtests, one after another.
func Run(t *testing.T, c Config) {
	t.Helper()
	if c.Survives == nil {
		c.Survives = filesExist
	}
	if c.Remove == nil {
		c.Remove = removeFiles
	}
	if c.Timeout == 0 {
		c.Timeout = time.Minute
	}
	if c.Stride < 1 {
		c.Stride = 1
	}
	appends, copied := 0, false
	t.Run("build", func(t *testing.T) {
		s := newScenario(t, c, "build")
		p := s.process(never)
		set := p.copies(p.build())
		p.discard()
		s.finished(set)
		p.discard() // may be called again
		s.finished(set)
		appends = p.log.count
		_, regions, err := p.regions()
		s.must(err)
		copied = len(regions) > 0
	})
	if copied {
		t.Run("copies again", func(t *testing.T) { copiesAgain(t, c) })
	}
	t.Run("discard without a seal", func(t *testing.T) {
		s := newScenario(t, c, "unsealed")
		p := s.process(never)
		p.boot()
		p.discard()
		s.clean()
	})
	t.Run("discard of nothing", func(t *testing.T) {
		s := newScenario(t, c, "nothing")
		p := s.process(never)
		p.discard()
		s.clean()
	})
	t.Run("cancelled", func(t *testing.T) {
		s := newScenario(t, c, "cancelled")
		p := s.process(never)
		cause := errors.New("interrupted")
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(cause)
		if g, err := p.b.Boot(ctx, p.run); err == nil {
			t.Error("a guest was booted after the cancel")
			_ = g.Close()
		}
		p.discard()
		s.clean()
	})
	if t.Failed() {
		return // what fails without a crash says nothing with one
	}
	for n := max(1, c.First); n <= appends; n += c.Stride {
		for _, after := range []bool{false, true} {
			for _, resume := range []bool{false, true} {
				cr := crash{at: n, after: after}
				t.Run(fmt.Sprintf("crash %s, %s", cr, map[bool]string{false: "discard", true: "resume"}[resume]), func(t *testing.T) {
					crashed(t, c, cr, resume)
				})
			}
		}
	}
}

// crashed runs a build until cr, and then, as another process would, goes on
// with it or discards it.
func crashed(t *testing.T, c Config, cr crash, resume bool) {
	s := newScenario(t, c, fmt.Sprintf("%s-%t", cr, resume))
	first := s.process(cr)
	place := first.place()
	first.untilCrash()
	if !first.log.crashed {
		t.Fatalf("the build has fewer than %d records this time", cr.at)
	}
	second := s.process(never)
	set, sealed := second.sealed()
	if c.Reopen != nil && !resume {
		second.giveUp(place, set, sealed)
		return
	}
	if resume && !sealed {
		set, sealed = second.build(), true
	}
	if sealed {
		set = second.copies(set) // a sealed build is always taken to its end
	}
	second.discard()
	if sealed {
		s.finished(set)
	} else {
		s.clean()
	}
}

func filesExist(set artifact.Set) error {
	for _, f := range set.Files {
		if _, err := os.Stat(f); err != nil {
			return err
		}
	}
	return nil
}

func removeFiles(set artifact.Set) error {
	for _, f := range set.Files {
		if err := os.Remove(f); err != nil {
			return err
		}
	}
	return nil
}
