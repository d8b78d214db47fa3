package pipeline

import (
	"context"
	"encoding/json"
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
	log    builder.Log
	run    *builder.Run
	past   *past // what is done of it, also by earlier processes
	keep   bool  // leave what the build made: -on-error=abort, or the answer to a question
	failed bool  // what the build made could not be removed
	answer bool  // the person at the terminal has decided what happens next
}

// runBuild runs b, or goes on with what recs say of it.
func runBuild(ctx context.Context, b Build, dir string, log builder.Log, recs []journal.Record, o Options) BuildResult {
	res := BuildResult{Build: b.Info.Build}
	before, err := read(recs, b.Info.Build)
	if err != nil {
		res.Err = err
		return res
	}
	if err := context.Cause(ctx); err != nil && !before.done() {
		res.Err, res.Cancelled, res.Sealed, res.Artifacts = err, !isDeadline(err), before.sealed != nil, before.left()
		return res
	}
	start := o.Now()
	b.Info.RunID, b.Info.Timeout = o.RunID, b.Timeout
	if o.Timeout > 0 && (b.Timeout == 0 || o.Timeout < b.Timeout) {
		b.Info.Timeout = o.Timeout
	}
	w := &work{Build: b, opts: o, out: o.Events.ForBuild(b.Info.Build), log: log, past: before}
	w.run = builder.NewRun(b.Info, dir, w.out, log, recs)
	w.run.AfterStep = w.afterStep
	w.out.Emit(event.BuildStarted{})
	if before.done() {
		res.Artifacts, res.Sealed = before.ended.Artifacts, true
		w.out.Emit(event.Say{Text: "Finished before: there is nothing left to do."})
		w.out.Emit(event.BuildEnded{Artifacts: res.Artifacts})
		return res
	}

	ctx, stop := bounded(ctx, b.Timeout, "the build", w.out)
	defer stop()
	res.Artifacts, res.Err = w.do(ctx)
	res.Err = late(ctx, res.Err)
	res.Cancelled = res.Err != nil && ctx.Err() != nil && !isDeadline(context.Cause(ctx))
	res.Partial = !res.Cancelled && isPartial(res.Err)
	res.Sealed = w.past.sealed != nil
	res.Elapsed = o.Now().Sub(start)

	end := journal.Ending{Left: w.keep || w.failed, Artifacts: res.Artifacts}
	if w.keep && !w.failed {
		until := o.Now().Add(keepTime).UTC()
		end.Until = &until
	}
	ended := event.BuildEnded{Elapsed: res.Elapsed, Artifacts: res.Artifacts, Cancelled: res.Cancelled}
	if res.Err != nil {
		end.Error = "failed"
		if o.Mask != nil {
			end.Error = o.Mask(res.Err.Error())
		}
		ended.Error, ended.Hint = res.Err.Error(), diag.Hint(res.Err)
	}
	if err := w.run.Record(journal.KindEnded, "", end); err != nil {
		res.Err, res.Partial = errors.Join(res.Err, err), false
		ended.Error = res.Err.Error()
	}
	w.out.Emit(ended)
	return res
}

// do runs the build and cleans up after it.
func (w *work) do(ctx context.Context) (arts []artifact.Set, err error) {
	bld, err := w.Open(w.Info)
	if err != nil {
		return w.past.left(), err
	}
	if w.past.sealed == nil && w.past.begun {
		if bld, err = w.startAnew(ctx, bld); err != nil {
			return nil, err
		}
	}
	if w.past.sealed == nil {
		if err := bld.Check(ctx); err != nil {
			return nil, err
		}
		if _, err := bld.Base(ctx); err != nil {
			return nil, err
		}
		if err := w.place(ctx, bld); err != nil {
			return nil, err
		}
	}
	if err := os.MkdirAll(w.run.Dir, 0o700); err != nil {
		return w.past.left(), fmt.Errorf("folder of the build: %w", err)
	}

	var guest communicator.Data
	if w.past.sealed == nil {
		guest, err = w.image(ctx, bld)
	} else {
		guest = w.named(w.past.guest)
		w.out.Emit(event.Say{Text: "The image was made before: going on with what is missing."})
	}
	if err == nil {
		arts, err = w.finish(ctx, bld, *w.past.sealed, guest)
	}
	if err != nil && !w.answer && (w.opts.OnError == Abort || w.opts.OnError == RunCleanupProvisioner) {
		w.keep = true
	}
	if err != nil && w.keep {
		w.tellKept(guest)
		return arts, err
	}
	return arts, errors.Join(err, w.discard(ctx, bld))
}

// place journals where the build works, so that what it makes can be removed
// without its template.
func (w *work) place(ctx context.Context, bld builder.Builder) error {
	p, ok := bld.(builder.Placer)
	if !ok {
		return nil
	}
	js, err := p.Place(ctx)
	if err != nil || js == nil {
		return err
	}
	if w.opts.Mask != nil {
		// No option of it is a secret, unless its value came from one.
		if js = []byte(w.opts.Mask(string(js))); !json.Valid(js) {
			return errors.New("the build's place has a secret in it that cannot be left out")
		}
	}
	return w.run.Record(journal.KindPlace, "", placeRecord{Type: w.Info.Type, Name: w.Info.Name, Place: js})
}

// startAnew removes what an earlier process made for a build that it did not
// seal: a guest that nobody watched is not to be trusted. It returns a builder
// that knows nothing of it.
func (w *work) startAnew(ctx context.Context, bld builder.Builder) (builder.Builder, error) {
	w.out.Emit(event.Say{Text: "The image was not made before: removing what there is and beginning anew."})
	if err := w.discard(ctx, bld); err != nil {
		return nil, err
	}
	if err := w.run.Restart(); err != nil {
		return nil, err
	}
	w.past = newPast()
	return w.Open(w.Info)
}

// image boots, provisions and seals.
func (w *work) image(ctx context.Context, bld builder.Builder) (communicator.Data, error) {
	guest, err := bld.Boot(ctx, w.run)
	if err != nil {
		return guest.Data, err
	}
	defer guest.Close()
	guest.Data = w.named(guest.Data)
	if err := w.run.Record(journal.KindGuest, "", recordOf(guest.Data)); err != nil {
		return guest.Data, err
	}
	if err := w.provision(ctx, guest); err != nil {
		return guest.Data, errors.Join(err, w.errorCleanup(ctx, guest))
	}
	set, err := bld.Seal(ctx, w.run)
	if err != nil {
		return guest.Data, err
	}
	w.past.sealed = &set
	return guest.Data, nil
}

// named adds what the pipeline knows of the build to the data of its guest.
func (w *work) named(d communicator.Data) communicator.Data {
	d.BuildName, d.BuilderType, d.RunID = w.Info.Name, w.Info.Type, w.Info.RunID
	return d
}

// finish does what comes after the seal. Post-processors wait until every copy
// is there.
func (w *work) finish(ctx context.Context, bld builder.Builder, set artifact.Set, guest communicator.Data) ([]artifact.Set, error) {
	set, err := w.distribute(ctx, bld, set)
	if err != nil {
		return []artifact.Set{set}, err
	}
	return w.postProcess(ctx, set, guest)
}

func (w *work) discard(ctx context.Context, bld builder.Builder) error {
	ctx, stop := cleanupContext(ctx, discardTime, w.opts.Abort)
	defer stop()
	if err := bld.Discard(ctx, w.run); err != nil {
		w.failed = true
		return diag.WithHint(fmt.Errorf("clean-up is not complete: %w", err),
			"what is left is recorded, and removed by: ingot gc -run %s", w.Info.RunID)
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
	text := fmt.Sprintf("Left in place as asked: nothing of this build was cleaned up. It is kept for %s; after that, or with -run %s, ingot gc removes it.", keepTime, w.Info.RunID)
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
