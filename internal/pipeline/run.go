package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/distribute"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// OnError says what happens after a failed step.
type OnError string

// The values of -on-error.
const (
	Cleanup               OnError = "cleanup"                 // undo everything, the default
	Abort                 OnError = "abort"                   // leave everything
	Ask                   OnError = "ask"                     // ask the person at the terminal
	RunCleanupProvisioner OnError = "run-cleanup-provisioner" // as Abort, after the error-cleanup-provisioner
)

const (
	// discardTime bounds the clean-up of one build.
	discardTime = 5 * time.Minute
	// keepTime is how long what was left on purpose is kept from [Collect].
	keepTime = 24 * time.Hour
)

// ErrAborted is the cause of a clean-up that was told to stop waiting.
var ErrAborted = errors.New("clean-up was aborted")

// Options is how to run a plan.
type Options struct {
	RunID    string // unique
	Version  string // of Ingot, for the journal
	StateDir string // the run directory is StateDir/RunID
	Events   *event.Bus
	Now      func() time.Time
	Parallel int // builds at a time; 0: all
	OnError  OnError
	Debug    bool
	Abort    <-chan struct{} // closed: clean-ups stop waiting; may be nil
	Timeout  time.Duration   // of the whole run, clean-ups excepted; 0: none

	Mask   func(string) string // hides secrets in what is journaled of an error; nil: errors are not journaled
	Call   *journal.Call       // for the journal of a new run; nil: it cannot be resumed
	Copies distribute.Options  // how copies to regions are made

	wrap func(builder.Log) builder.Log // tests stand in between here
}

// A Result is what became of each build, in the plan's order.
type Result struct{ Builds []BuildResult }

// A BuildResult is what became of one build.
type BuildResult struct {
	Build     string
	Artifacts []artifact.Set // what was made and kept; may be there beside Err
	Err       error
	Cancelled bool // the run was interrupted before the build was complete
	Partial   bool // copies that are missing, of this build or of those before it, are all that Err is about
	Sealed    bool // the image is made: if there is an Err, Resume goes on behind it
	Elapsed   time.Duration
}

// Run carries out plan. Its error is about the run as a whole, before anything
// was built; what became of the builds is in the result. A build that fails
// does not stop the others. When ctx ends, running builds stop and clean up on
// a context of their own, bounded in time and ended early by o.Abort, and no
// further build starts.
func Run(ctx context.Context, plan *Plan, o Options) (Result, error) {
	dir := filepath.Join(o.StateDir, o.RunID)
	names := make([]string, len(plan.Builds))
	for i, b := range plan.Builds {
		names[i] = b.Info.Build
	}
	j, err := journal.Create(dir, o.Now, journal.Header{Version: o.Version, Run: o.RunID, Started: o.Now().UTC(), Builds: names, Call: o.Call})
	if err != nil {
		return Result{}, diag.WithHint(fmt.Errorf("start run: %w", err),
			"every run keeps its journal in %s: make that folder writable and its disk not full, or name another with XDG_STATE_HOME", o.StateDir)
	}
	defer j.Close()
	if err := writePlan(filepath.Join(dir, "plan.json"), plan, o); err != nil {
		return Result{}, err
	}
	return runAll(ctx, plan.Builds, j, nil, o)
}

// runAll runs the builds of a run, whose journal is j and holds recs.
func runAll(ctx context.Context, builds []Build, j *journal.Journal, recs []journal.Record, o Options) (Result, error) {
	dir := filepath.Join(o.StateDir, o.RunID)
	var log builder.Log = j
	if o.wrap != nil {
		log = o.wrap(j)
	}
	start := o.Now()
	names := make([]string, len(builds))
	for i, b := range builds {
		names[i] = b.Info.Build
	}
	o.Events.Emit(event.RunStarted{Run: o.RunID, Dir: dir, Version: o.Version, Builds: names})
	var res Result
	ctx, stop := bounded(ctx, o.Timeout, "the run", o.Events)
	defer stop()
	order := orderOf(ctx, builds, o)
	order.run = func(i int, b Build) BuildResult {
		return runBuild(ctx, b, filepath.Join(dir, strconv.Itoa(i)), log, recs, o)
	}
	order.skip = func(i int, b Build, err error) BuildResult {
		if before, rerr := read(recs, b.Info.Build); rerr == nil && before.done() {
			return order.run(i, b) // an earlier process did it all
		}
		return skipBuild(b, err, log, recs, o)
	}
	res.Builds = order.all()
	o.Events.Emit(event.RunEnded{Elapsed: o.Now().Sub(start)})
	return res, j.Close()
}

// cleanupContext returns a context for clean-up: it outlives ctx, ends after
// limit, and ends early when abort is closed.
func cleanupContext(ctx context.Context, limit time.Duration, abort <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	ctx, stop := context.WithTimeoutCause(ctx, limit, fmt.Errorf("clean-up did not end within %s", limit))
	go func() {
		select {
		case <-abort:
			cancel(ErrAborted)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { stop(); cancel(nil) }
}
