package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/internal/compile"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/pipeline"
	"github.com/ingot-build/ingot/internal/secret"
)

type resumeOptions struct {
	runFlags
	outputFlags
	vars             repeated
	accept           bool
	ownError, ownPar bool // -on-error, -parallel-builds were given; else they are the run's
}

func resumeCommand() *command {
	return &command{
		name:     "resume",
		args:     "[RUN]",
		synopsis: "go on with a run that did not end well",
		words:    func(a *app) []string { return a.resumable() },
		about: `Goes on with a run, with the template, variables and choices it was started
			with. Builds that ended well are left alone. A build whose image is made gets
			the copies to regions that are missing and the post-processors that were not
			run; any other begins anew, after what it made is removed.

			RUN is the run's id or the beginning of it. Without it the runs that can be
			resumed are listed, with how far they came and why they stopped.

			The exit code is that of a build: 0 done, 4 copies are still missing, 5 another
			process is at the run, 1 anything else.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			var o resumeOptions
			o.runFlags.declare(fs)
			o.outputFlags.declare(fs)
			fs.Var(&o.vars, "var", "`name=value` of a sensitive variable, whose value is kept nowhere; repeatable")
			fs.BoolVar(&o.accept, "accept-changes", false, "go on although the template or the value of a variable has changed")
			return func(ctx context.Context, args []string) int {
				if len(args) > 1 {
					return a.wrong("resume", args, "one run, or none to list them")
				}
				fs.Visit(func(f *flag.Flag) {
					o.ownError = o.ownError || f.Name == "on-error"
					o.ownPar = o.ownPar || f.Name == "parallel-builds"
				})
				a.show(o.runFlags)
				if len(args) == 0 {
					return a.listRuns()
				}
				return a.resume(ctx, args[0], o)
			}
		},
	}
}

func (a *app) resume(ctx context.Context, run string, o resumeOptions) int {
	fail := func(err error) int {
		a.report.error(err)
		return failure(err)
	}
	state, err := a.stateDir()
	if err != nil {
		return fail(err)
	}
	id, err := findRun(state, run)
	if err != nil {
		return fail(err)
	}
	dir := filepath.Join(state, id)
	if err := journal.Held(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fail(err)
	}
	st, err := pipeline.ReadStatus(dir)
	if err != nil {
		return fail(err)
	}
	if st.Done() {
		a.report.say("Run " + id + " is finished: there is nothing left to do.")
		return exitDone
	}
	if err := st.Refusal(); err != nil {
		return fail(err)
	}
	call := st.Call
	if call == nil {
		return fail(diag.WithHint(fmt.Errorf("run %s cannot be resumed: Ingot %s did not keep its command line", id, st.Version),
			"start it again with %s build", programName))
	}
	if err := a.enter(call.Cwd); err != nil {
		return fail(err)
	}
	in, err := a.inputsOf(call, o.vars)
	if err != nil {
		return fail(err)
	}
	if call.Local {
		defer a.useLocal()(ctx)
	}
	secrets := &secret.Set{}
	in.Secrets = secrets
	t, diags := compile.Load(ctx, in, a.set, true)
	if changed := changes(call, in, t); len(changed) > 0 && !o.accept {
		return fail(diag.WithHint(fmt.Errorf("the template is not what it was when the run was started:\n  %s", strings.Join(changed, "\n  ")),
			"bring it back, or go on with it as it is now with -accept-changes"))
	}
	if !o.ownError && call.OnError != "" {
		o.onError = call.OnError
	}
	if !o.ownPar {
		o.parallel = call.Parallel
	}
	if o.file == "" {
		o.file, o.secrets = call.Outputs, o.secrets || call.OutputSecrets
	}
	plan, ok := a.plan(ctx, t, diags, compile.Options{
		Only: call.Only, Except: call.Except, Force: call.Force, Debug: o.debug, OnError: o.onError,
	}, secrets)
	if !ok {
		return exitFailed
	}
	out := &outputs{outputFlags: o.outputFlags, a: a, t: t, mask: secrets}
	if err := out.check(); err != nil {
		return fail(err)
	}
	return a.carryOut(ctx, pipeline.Resume, plan, o.runFlags, pipeline.Options{RunID: id, StateDir: state, Mask: secrets.Mask}, out)
}

// enter makes the folder of a run the working directory: the template's
// relative paths begin there.
func (a *app) enter(dir string) error {
	if dir == a.Cwd {
		return nil
	}
	if a.Chdir != nil {
		if err := a.Chdir(dir); err != nil {
			return diag.WithHint(fmt.Errorf("the folder that the run was started in: %w", err), "the template's relative paths begin there: bring it back")
		}
	}
	a.Cwd = dir
	return nil
}
