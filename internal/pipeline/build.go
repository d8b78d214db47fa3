package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// A work is one build under way. It lives on one goroutine.
type work struct {
	Build
	opts   Options
	out    event.Sink
	run    *builder.Run
	keep   bool // leave what the build made: -on-error=abort, or the answer to a question
	answer bool // the person at the terminal has decided what happens next
}

func runBuild(ctx context.Context, b Build, dir string, j *journal.Journal, o Options) BuildResult {
	res := BuildResult{Build: b.Info.Build}
	if err := context.Cause(ctx); err != nil {
		res.Err, res.Cancelled = err, true
		return res
	}
	start := o.Now()
	b.Info.RunID = o.RunID
	w := &work{Build: b, opts: o, out: o.Events.ForBuild(b.Info.Build)}
	w.run = builder.NewRun(b.Info, dir, w.out, j, nil)
	w.run.AfterStep = w.afterStep
	w.out.Emit(event.BuildStarted{})

	res.Artifacts, res.Err = w.do(ctx)
	res.Cancelled = res.Err != nil && ctx.Err() != nil
	res.Elapsed = o.Now().Sub(start)

	end := journal.Ending{Left: w.keep}
	ended := event.BuildEnded{Elapsed: res.Elapsed, Artifacts: res.Artifacts, Cancelled: res.Cancelled}
	if res.Err != nil {
		end.Error, ended.Error, ended.Hint = "failed", res.Err.Error(), diag.Hint(res.Err)
	}
	if err := w.run.Record(journal.KindEnded, "", end); err != nil {
		res.Err = errors.Join(res.Err, err)
		ended.Error = res.Err.Error()
	}
	w.out.Emit(ended)
	return res
}

// do runs the build and cleans up after it.
func (w *work) do(ctx context.Context) (arts []artifact.Set, err error) {
	bld, err := w.Open(w.Info)
	if err != nil {
		return nil, err
	}
	if err := bld.Check(ctx); err != nil {
		return nil, err
	}
	if _, err := bld.Base(ctx); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(w.run.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("folder of the build: %w", err)
	}

	set, guest, err := w.image(ctx, bld)
	if err == nil {
		arts, err = w.postProcess(ctx, set, guest.Data)
	}
	if err != nil && !w.answer && (w.opts.OnError == Abort || w.opts.OnError == RunCleanupProvisioner) {
		w.keep = true
	}
	if err != nil && w.keep {
		w.tellKept(guest.Data)
		return arts, err
	}
	return arts, errors.Join(err, w.discard(ctx, bld))
}

// image boots, provisions and seals.
func (w *work) image(ctx context.Context, bld builder.Builder) (artifact.Set, communicator.Guest, error) {
	guest, err := bld.Boot(ctx, w.run)
	if err != nil {
		return artifact.Set{}, guest, err
	}
	defer guest.Close()
	guest.Data.BuildName, guest.Data.BuilderType, guest.Data.RunID = w.Info.Name, w.Info.Type, w.Info.RunID
	if err := w.provision(ctx, guest); err != nil {
		return artifact.Set{}, guest, errors.Join(err, w.errorCleanup(ctx, guest))
	}
	set, err := bld.Seal(ctx, w.run)
	return set, guest, err
}

func (w *work) discard(ctx context.Context, bld builder.Builder) error {
	ctx, stop := cleanupContext(ctx, discardTime, w.opts.Abort)
	defer stop()
	if err := bld.Discard(ctx, w.run); err != nil {
		w.keep = true
		return diag.WithHint(fmt.Errorf("clean-up is not complete: %w", err),
			"what is left is recorded in %s", filepath.Join(filepath.Dir(w.run.Dir), journal.FileName))
	}
	saveLogs(w.run.Dir)
	if err := os.RemoveAll(w.run.Dir); err != nil {
		return fmt.Errorf("folder of the build: %w", err)
	}
	return nil
}

// saveLogs moves the log files of a build's folder, a guest's console among
// them, beside the run's journal: they are read after a failure.
func saveLogs(dir string) {
	logs, _ := filepath.Glob(filepath.Join(dir, "*.log")) // the pattern is fixed
	for _, l := range logs {
		// A log that cannot be moved goes with the folder: it is a comfort.
		_ = os.Rename(l, dir+"-"+filepath.Base(l))
	}
}

func (w *work) tellKept(d communicator.Data) {
	text := "Left in place as asked: nothing of this build was cleaned up."
	if d.Host != "" {
		key := ""
		if d.KeyFile != "" {
			key = " -i " + d.KeyFile
		}
		text += fmt.Sprintf("\nThe guest: ssh%s -p %d %s@%s", key, d.Port, d.User, d.Host)
	}
	w.out.Emit(event.Warn{Text: text + "\nIts records: " + filepath.Dir(w.run.Dir)})
}

// afterStep pauses under -debug and asks after a failure.
func (w *work) afterStep(ctx context.Context, step string, err error) (again bool, _ error) {
	if ctx.Err() != nil {
		return false, err
	}
	if err == nil {
		return false, w.pause(ctx, fmt.Sprintf("Step %q is done.", step))
	}
	if w.opts.OnError != Ask || w.answer {
		return false, err
	}
	key, aerr := event.Ask(ctx, w.out, fmt.Sprintf("Step %q failed: %v", step, err), "c",
		event.Choice{Key: "c", Text: "clean up and exit"},
		event.Choice{Key: "a", Text: "abort without clean-up"},
		event.Choice{Key: "r", Text: "retry the step (it may fail even if the fault was mended)"})
	switch {
	case errors.Is(aerr, event.ErrNoTerminal):
		w.out.Emit(event.Warn{Text: "-on-error=ask, but there is no terminal to ask on: cleaning up."})
	case aerr != nil:
		return false, err
	}
	if strings.EqualFold(key, "r") {
		return true, err
	}
	w.answer, w.keep = true, strings.EqualFold(key, "a")
	return false, err
}

// pause waits for Enter under -debug; where nobody can be asked it goes on.
func (w *work) pause(ctx context.Context, text string) error {
	if !w.opts.Debug {
		return nil
	}
	_, err := event.Ask(ctx, w.out, text+" Press Enter to continue.", "")
	if errors.Is(err, event.ErrNoTerminal) {
		return nil
	}
	return err
}
