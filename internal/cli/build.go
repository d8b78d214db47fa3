package cli

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"

	"github.com/google/uuid"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/compile"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/pipeline"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/internal/ui"
)

type buildOptions struct {
	templateFlags
	selectFlags
	color                              tristate
	debug, force, timestamps, warnVars bool
	parallel                           int
	onError, progress                  string
}

func (o *buildOptions) declare(fs *flag.FlagSet) {
	o.templateFlags.declare(fs)
	o.selectFlags.declare(fs)
	o.onError, o.progress = string(pipeline.Cleanup), "auto"
	fs.Var(&o.color, "color", "colours; =false turns them off, the default is on for a terminal")
	fs.BoolVar(&o.debug, "debug", false, "one build at a time, waiting for Enter after each step")
	fs.BoolVar(&o.force, "force", false, "replace artifacts that are there already")
	fs.BoolVar(&o.timestamps, "timestamp-ui", false, "put the time before each line")
	fs.BoolVar(&o.warnVars, "warn-on-undeclared-var", false, "warn about values for undeclared variables")
	fs.IntVar(&o.parallel, "parallel-builds", 0, "`number` of builds at a time; 0, the default, is all")
	fs.Var(choice{&o.onError, onErrors}, "on-error", "after a failed step: `cleanup`, abort, ask or run-cleanup-provisioner")
	fs.Var(choice{&o.progress, progresses}, "progress", "how to show the run: `auto`, tty, plain or json")
	declareCompatible(fs, "ignore-prerelease-plugins", "use-sequential-evaluation", "skip-enforcement")
}

var (
	onErrors = []string{
		string(pipeline.Cleanup), string(pipeline.Abort), string(pipeline.Ask), string(pipeline.RunCleanupProvisioner),
	}
	progresses = []string{"auto", "tty", "plain", "json"}
)

func buildCommand() *command {
	return &command{
		name:     "build",
		args:     "TEMPLATE",
		synopsis: "build images from a template",
		about: `Runs the builds of a template and tells the artifacts they made.

			TEMPLATE is a file or a folder. An interrupt stops the builds and cleans up;
			a second one stops waiting for the clean-up.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			var o buildOptions
			o.declare(fs)
			return func(ctx context.Context, args []string) int {
				if len(args) != 1 {
					return a.wrong("build", args, "one template")
				}
				return a.build(ctx, args[0], o)
			}
		},
	}
}

func (a *app) build(ctx context.Context, path string, o buildOptions) int {
	if o.color.set {
		a.report.color = o.color.value && a.report.machine == nil
	}
	if o.progress == "json" && a.report.machine == nil {
		a.report.json = ui.NewJSON(a.Out, a.Version)
	}
	if err := o.legacy(path); err != nil {
		a.report.error(err)
		return exitFailed
	}
	secrets := &secret.Set{}
	in := a.inputs(path, o.templateFlags, secrets)
	in.WarnUndeclared = o.warnVars
	t, diags := compile.Load(ctx, in, a.set, true)
	var plan *pipeline.Plan
	if !t.Broken {
		p, more := compile.Plan(t, a.set, compile.Options{
			Only: o.only, Except: o.except, Force: o.force, Debug: o.debug, OnError: o.onError,
			Cache: a.cacheDir(), Faulty: diags.HasErrors(),
		})
		plan, diags = p, append(diags, more...)
	}
	diags = hcl.Dedupe(diags)
	a.report.diagnostics(masked(diags, secrets), t.Files)
	if diags.HasErrors() {
		return exitFailed
	}
	if err := context.Cause(ctx); err != nil {
		a.report.error(err)
		return exitFailed
	}
	return a.runPlan(ctx, plan, o, secrets)
}

// runPlan runs the plan with its readers attached.
func (a *app) runPlan(ctx context.Context, plan *pipeline.Plan, o buildOptions, secrets *secret.Set) int {
	state, err := a.stateDir()
	if err != nil {
		a.report.error(err)
		return exitFailed
	}
	id, err := uuid.NewV7() // sorts by time
	if err != nil {
		a.report.error(fmt.Errorf("run id: %w", err))
		return exitFailed
	}
	r, err := a.readers(o)
	if err != nil {
		a.report.error(err)
		return exitFailed
	}
	bus := event.NewBus(a.Now, secrets.Mask, r.list...)
	if o.debug {
		bus.Emit(event.Say{Text: "Debug mode enabled. Builds will not be parallelized."})
	}
	quit := a.tellInterrupts(ctx, bus)
	type ending struct {
		res pipeline.Result
		err error
	}
	ended := make(chan ending, 1)
	go func() {
		res, err := pipeline.Run(ctx, plan, pipeline.Options{
			RunID: id.String(), Version: a.Version, StateDir: state, Events: bus, Now: a.Now,
			Parallel: max(0, o.parallel), OnError: pipeline.OnError(o.onError), Debug: o.debug, Abort: a.Abort,
		})
		ended <- ending{res, err}
	}()
	var end ending
	select {
	case end = <-ended:
	case <-a.Kill:
		r.restore()
		a.report.fail("Stopped without clean-up after a third interrupt. What is left is recorded in " + filepath.Join(state, id.String()) + ".")
		return exitFailed
	}
	quit()
	bus.Close()
	for _, err := range r.close() {
		a.report.error(err)
	}
	if end.err != nil {
		a.report.error(end.err)
		return failure(end.err)
	}
	for _, b := range end.res.Builds {
		if b.Err != nil {
			return exitFailed
		}
	}
	return exitDone
}

// tellInterrupts says what an interrupt does while a run is on. The returned
// function ends it and waits until nothing is told any more.
func (a *app) tellInterrupts(ctx context.Context, bus *event.Bus) (quit func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		select {
		case <-ctx.Done():
		case <-stop:
			return
		}
		bus.Emit(event.Say{Text: fmt.Sprintf("Cancelling build after receiving %s", cause(ctx))})
		select {
		case <-a.Abort:
			bus.Emit(event.Warn{Text: "interrupted again: the clean-up stops waiting. What it leaves is recorded in the run's journal."})
		case <-stop:
		}
	}()
	return func() { close(stop); <-done }
}

// cause names what ended ctx.
func cause(ctx context.Context) string {
	if i := (*InterruptError)(nil); asError(context.Cause(ctx), &i) {
		return i.Signal.String()
	}
	return context.Cause(ctx).Error()
}
