package buildertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// A scenario is one run and its processes.
type scenario struct {
	t     *testing.T
	c     Config
	run   string // id
	dir   string // run directory
	set   *artifact.Set
	begun bool
}

func newScenario(t *testing.T, c Config, name string) *scenario {
	t.Helper()
	s := &scenario{t: t, c: c, run: "buildertest-" + name, dir: filepath.Join(t.TempDir(), "run")}
	t.Cleanup(func() {
		if s.set != nil {
			if err := c.Remove(*s.set); err != nil {
				t.Errorf("remove the artifact: %v", err)
			}
		}
	})
	return s
}

// clean checks that nothing is left.
func (s *scenario) clean() {
	s.t.Helper()
	if left := s.c.Leftovers(); len(left) > 0 {
		s.t.Errorf("left after the clean-up: %q", left)
	}
}

// finished is clean for a sealed build, whose artifact is to be there.
func (s *scenario) finished(set artifact.Set) {
	s.t.Helper()
	s.set = &set
	if err := s.c.Survives(set); err != nil {
		s.t.Errorf("the sealed artifact did not survive: %v", err)
	}
	s.clean()
}

// A crash is a point at which a process dies: before or after the durable
// write of the at-th record.
type crash struct {
	at    int
	after bool
}

var never = crash{}

func (c crash) String() string {
	if c.after {
		return fmt.Sprintf("after record %d", c.at)
	}
	return fmt.Sprintf("before record %d", c.at)
}

// errCrash is what a dead process' calls return, for it is not really dead.
var errCrash = errors.New("buildertest: the process has crashed")

// A log is a journal that fails at a crash, and from then on.
type log struct {
	mu      sync.Mutex // copies save at the same time
	j       *journal.Journal
	crash   crash
	die     context.CancelCauseFunc
	count   int
	crashed bool
}

var _ builder.Log = (*log)(nil)

// Append implements [builder.Log].
func (l *log) Append(r journal.Record) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.crashed {
		return errCrash
	}
	l.count++
	if l.count != l.crash.at {
		return l.j.Append(r)
	}
	l.crashed = true
	defer l.die(errCrash)
	if l.crash.after {
		if err := l.j.Append(r); err != nil {
			return err
		}
	}
	return errCrash
}

// A process is one life of a run.
type process struct {
	s       *scenario
	ctx     context.Context //nolint:containedctx // the process' own
	b       builder.Builder
	run     *builder.Run
	log     *log
	history []journal.Record
}

// process starts a run, or goes on with the one the last process left.
func (s *scenario) process(cr crash) *process {
	s.t.Helper()
	b, info := s.c.Open(s.t)
	info.RunID = s.run
	if info.Build == "" {
		info.Build = "test." + info.Type + "." + info.Name
	}
	var j *journal.Journal
	var recs []journal.Record
	var err error
	if s.begun {
		j, recs, err = journal.Open(s.dir, time.Now)
	} else {
		j, err = journal.Create(s.dir, time.Now, journal.Header{Version: "test", Run: s.run, Builds: []string{info.Build}})
	}
	s.must(err)
	s.begun = true
	s.t.Cleanup(func() { _ = j.Close() })
	dir := filepath.Join(s.dir, "0")
	s.must(os.MkdirAll(dir, 0o700))

	ctx, die := context.WithCancelCause(s.t.Context())
	s.t.Cleanup(func() { die(nil) })
	l := &log{j: j, crash: cr, die: die}
	return &process{
		s: s, ctx: ctx, b: b, log: l, history: recs,
		run: builder.NewRun(info, dir, event.Discard, l, recs),
	}
}

func (s *scenario) must(err error) {
	s.t.Helper()
	if err != nil {
		s.t.Fatal(err)
	}
}

// bounded is the context of one call.
func (p *process) bounded() (context.Context, context.CancelFunc) {
	return context.WithTimeout(p.ctx, p.s.c.Timeout)
}

// up does everything until the guest is provisioned, and closes the connection.
func (p *process) up() error {
	ctx, stop := p.bounded()
	defer stop()
	if err := p.b.Check(ctx); err != nil {
		return fmt.Errorf("check: %w", err)
	}
	if _, err := p.b.Base(ctx); err != nil {
		return fmt.Errorf("base: %w", err)
	}
	g, err := p.b.Boot(ctx, p.run)
	if err != nil {
		return fmt.Errorf("boot: %w", err)
	}
	if g.Communicator == nil {
		return errors.New("boot: the guest has no communicator, not even None")
	}
	defer g.Close()
	if p.s.c.Provision != nil {
		if err := p.s.c.Provision(ctx, g); err != nil {
			return fmt.Errorf("provision: %w", err)
		}
	}
	return nil
}

func (p *process) seal() (artifact.Set, error) {
	ctx, stop := p.bounded()
	defer stop()
	set, err := p.b.Seal(ctx, p.run)
	if err != nil {
		return set, fmt.Errorf("seal: %w", err)
	}
	return set, nil
}

func (p *process) clean() error {
	// A clean-up outlives the process' cancellation, but not its death.
	ctx, stop := context.WithTimeout(p.ctx, p.s.c.Timeout)
	defer stop()
	if err := p.b.Discard(ctx, p.run); err != nil {
		return fmt.Errorf("discard: %w", err)
	}
	return nil
}

func (p *process) boot() {
	p.s.t.Helper()
	p.s.must(p.up())
}

func (p *process) build() artifact.Set {
	p.s.t.Helper()
	p.boot()
	set, err := p.seal()
	p.s.must(err)
	if err := p.s.c.Survives(set); err != nil {
		p.s.t.Fatalf("the sealed artifact is not there: %v", err)
	}
	return set
}

func (p *process) discard() {
	p.s.t.Helper()
	p.s.must(p.clean())
}

// untilCrash does what a build does and stops where the process dies. Any
// other failure ends the test.
func (p *process) untilCrash() {
	p.s.t.Helper()
	err := p.up()
	var set artifact.Set
	if err == nil {
		set, err = p.seal()
	}
	if err == nil {
		_, err = p.distribute(set)
	}
	if err == nil {
		err = p.clean()
	}
	switch {
	case p.log.crashed:
		// The dead give their locks back.
		if err := p.log.j.Close(); err != nil && !errors.Is(err, fs.ErrClosed) {
			p.s.t.Fatal(err)
		}
	case err != nil:
		p.s.t.Fatalf("before the crash: %v", err)
	}
}

// sealed returns the artifact that the journal holds.
func (p *process) sealed() (set artifact.Set, ok bool) {
	p.s.t.Helper()
	for _, r := range p.history {
		if r.Kind == journal.KindSealed {
			p.s.must(json.Unmarshal(r.Data, &set))
			ok = true
		}
	}
	return set, ok
}
