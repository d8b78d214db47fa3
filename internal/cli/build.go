package cli

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"time"

	"github.com/google/uuid"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/compile"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/pipeline"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/internal/ui"
)

// runFlags say how a run is carried out and shown.
type runFlags struct {
	color             tristate
	debug, timestamps bool
	parallel          int
	onError, progress string
	timeout           time.Duration
}

func (o *runFlags) declare(fs *flag.FlagSet) {
	o.onError, o.progress = string(pipeline.Cleanup), "auto"
	fs.Var(&o.color, "color", "colours; =false turns them off, the default is on for a terminal")
	fs.BoolVar(&o.debug, "debug", false, "one build at a time, waiting for Enter after each step")
	fs.BoolVar(&o.timestamps, "timestamp-ui", false, "put the time before each line")
	fs.IntVar(&o.parallel, "parallel-builds", 0, "`number` of builds at a time; 0, the default, is all")
	fs.Var(choice{&o.onError, onErrors}, "on-error", "after a failed step: `cleanup`, abort, ask or run-cleanup-provisioner")
	fs.Var(period{&o.timeout}, "timeout", "stop and clean up after this `time`, such as 2h; the default is never")
	fs.Var(choice{&o.progress, progresses}, "progress", "how to show the run: `auto`, tty, plain or json")
}

type buildOptions struct {
	templateFlags
	selectFlags
	runFlags
	outputFlags
	force, warnVars bool
	local           bool
}

func (o *buildOptions) declare(fs *flag.FlagSet) {
	o.templateFlags.declare(fs)
	o.selectFlags.declare(fs)
	o.runFlags.declare(fs)
	o.outputFlags.declare(fs)
	fs.BoolVar(&o.local, "local", false, "build in the cloud on this machine instead of AWS")
	fs.BoolVar(&o.force, "force", false, "replace artifacts that are there already")
	fs.BoolVar(&o.warnVars, "warn-on-undeclared-var", false, "warn about values for undeclared variables")
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
	a.show(o.runFlags)
	if o.local {
		defer a.useLocal()(ctx)
	}
	secrets := &secret.Set{}
	in := a.inputs(path, o.templateFlags, secrets)
	in.WarnUndeclared = o.warnVars
	t, diags := compile.Load(ctx, in, a.set, true)
	plan, ok := a.plan(ctx, t, diags, compile.Options{
		Only: o.only, Except: o.except, Force: o.force, Debug: o.debug, OnError: o.onError,
	}, secrets)
	if !ok && (diags.HasErrors() || plan == nil || len(plan.Builds) == 0) {
		return exitFailed
	}
	out := &outputs{outputFlags: o.outputFlags, a: a, t: t, mask: secrets}
	if err := out.check(); err != nil {
		a.report.error(err)
		return exitFailed
	}
	id, err := uuid.NewV7() // sorts by time
	if err != nil {
		a.report.error(fmt.Errorf("run id: %w", err))
		return exitFailed
	}
	state, err := a.stateDir()
	if err != nil {
		a.report.error(err)
		return exitFailed
	}
	code := a.carryOut(ctx, pipeline.Run, plan, o.runFlags, pipeline.Options{
		RunID: id.String(), StateDir: state, Mask: secrets.Mask, Call: newCall(in, o, t),
	}, out)
	if !ok { // as in Packer, the builds without a mistake were run
		return exitFailed
	}
	return code
}

// show sets how errors and the run are shown.
func (a *app) show(o runFlags) {
	if o.color.set {
		a.report.color = o.color.value && a.report.machine == nil
	}
	if o.progress == "json" && a.report.machine == nil {
		a.report.json = ui.NewJSON(a.Out, a.Version)
	}
}

// plan turns a template into a plan and tells what is wrong with it. It reports
// whether nothing is. The plan has the builds that nothing is wrong with; it is
// nil when there is none to carry out.
func (a *app) plan(ctx context.Context, t *hcl.Template, diags diag.List, o compile.Options, secrets *secret.Set) (*pipeline.Plan, bool) {
	var plan *pipeline.Plan
	if !t.Broken {
		o.Cache, o.Faulty = a.cacheDir(), diags.HasErrors()
		p, more := compile.Plan(t, a.set, o)
		plan, diags = p, append(diags, more...)
	}
	diags = append(hcl.Dedupe(diags), unpublished(t)...)
	a.report.diagnostics(masked(diags, secrets), t.Files)
	if err := context.Cause(ctx); err != nil {
		a.report.error(err)
		return nil, false
	}
	return plan, !diags.HasErrors()
}

// unpublished tells, once, that there is no registry to publish to.
func unpublished(t *hcl.Template) (out diag.List) {
	all := []*hcl.Registry{t.Registry}
	for _, b := range t.Builds {
		all = append(all, b.Registry)
	}
	for _, r := range all {
		if r != nil {
			out.Warnf(&r.Range, "Nothing is published to HCP Packer", "hcp_packer_registry is read and checked, and otherwise passed over: artifacts are not registered anywhere.")
			break
		}
	}
	return out
}

// carryOut runs the plan with do, [pipeline.Run] or [pipeline.Resume], with
// its readers attached. It completes opts.
func (a *app) carryOut(ctx context.Context, do func(context.Context, *pipeline.Plan, pipeline.Options) (pipeline.Result, error), plan *pipeline.Plan, o runFlags, opts pipeline.Options, out *outputs) int {
	r := a.readers(o)
	bus := event.NewBus(a.Now, opts.Mask, r.list...)
	if o.debug {
		bus.Emit(event.Say{Text: "Debug mode enabled. Builds will not be parallelized."})
	}
	quit := a.tellInterrupts(ctx, bus)
	opts.Version, opts.Events, opts.Now, opts.Abort = a.Version, bus, a.Now, a.Abort
	opts.Parallel, opts.OnError, opts.Debug, opts.Timeout = max(0, o.parallel), pipeline.OnError(o.onError), o.debug, o.timeout
	type ending struct {
		res pipeline.Result
		err error
	}
	ended := make(chan ending, 1)
	go func() {
		res, err := do(ctx, plan, opts)
		ended <- ending{res, err}
	}()
	var end ending
	select {
	case end = <-ended:
	case <-a.Kill:
		r.restore()
		a.report.fail("Stopped without clean-up after a third interrupt. What is left is recorded in " + filepath.Join(opts.StateDir, opts.RunID) + ".")
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
	code, made := outcome(end.res)
	code = out.finish(end.res, code)
	if made {
		a.report.say("\nThe image is made; what is missing is made by: " + a.name() + " resume " + opts.RunID)
	}
	return code
}

// outcome is the exit code for what became of the builds, and whether there is
// an image of which something is missing.
func outcome(res pipeline.Result) (code int, made bool) {
	code = exitDone
	for _, b := range res.Builds {
		if b.Err == nil {
			continue
		}
		made = made || b.Sealed
		if b.Partial && code != exitFailed {
			code = exitPartial
		} else if !b.Partial {
			code = exitFailed
		}
	}
	return code, made
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
