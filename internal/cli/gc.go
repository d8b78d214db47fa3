package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/pipeline"
)

const (
	// foreignAge is how old a thing must be whose run is not known here.
	foreignAge = 24 * time.Hour
	// unbornAge is how old the directory of a run must be that has no records:
	// a younger one may be of a process that is about to write them.
	unbornAge = time.Minute
	// sweepRounds is how often it is looked for what only shows when something
	// else is gone.
	sweepRounds = 3
)

type gcOptions struct {
	dryRun, allRegions, local, json bool
	olderThan                       age
	run                             string
	regions                         commaList
	dirs                            []string
}

// An age is a period that may not be given.
type age struct {
	set   bool
	value time.Duration
}

func (a *age) String() string { return "" }
func (a *age) Set(s string) error {
	a.set = true
	return period{&a.value}.Set(s)
}

func gcCommand() *command {
	return &command{
		name:     "gc",
		args:     "[DIR ...]",
		synopsis: "remove what dead runs left",
		about: `Removes what runs made whose process is gone, and gives those runs up: they
			are not resumed. Their sealed images, finished copies and other artifacts
			stay. The journal tells what there is; the template is not needed.

			Then it looks for the marks of runs whose journal is gone, too: tags in the
			regions of AWS, where credentials are configured, scratch folders in each DIR
			(the working directory and those that runs were started in), and processes.
			What is of a run that is not known on this machine is removed when it is
			older than a day, for the run may be on elsewhere.

			What a live process is at, what carries no mark, and what is part of a
			sealed artifact is left alone. A run that ended with copies missing can still
			be resumed, and one that was told to leave its guest keeps it for a day; -run
			gives either up at once. The exit code is 1 when something is left that should
			be gone.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			var o gcOptions
			fs.BoolVar(&o.dryRun, "dry-run", false, "tell what would be removed, and remove nothing")
			fs.Var(&o.olderThan, "older-than", "leave what is younger than this `time`; the default is 24h for runs that are not known here, and 0 for others")
			fs.StringVar(&o.run, "run", "", "`id` of the one run to give up, or its beginning")
			fs.Var(&o.regions, "region", "look into the regions `name,name,…`")
			fs.BoolVar(&o.allRegions, "all-regions", false, "look into every region of the account")
			fs.BoolVar(&o.local, "local", false, "look for marks in the cloud on this machine instead of AWS")
			fs.BoolVar(&o.json, "json", false, "one JSON object a line")
			return func(ctx context.Context, args []string) int {
				o.dirs = args
				return a.gc(ctx, o)
			}
		},
	}
}

// A collector is one run of gc.
type collector struct {
	*app
	opts  gcOptions
	state string
	real  component.Set
	local component.Set // calls the local cloud
	rows  []gcRow
	left  bool
}

func (a *app) gc(ctx context.Context, o gcOptions) int {
	state, err := a.stateDir()
	if err != nil {
		return a.failed(err)
	}
	g := &collector{app: a, opts: o, state: state, real: a.set}
	defer a.useLocal()(ctx)
	g.local, a.set = a.set, g.real
	if o.run != "" {
		if id, err := findRun(state, o.run); err == nil {
			g.opts.run = id
		}
	}
	runs, err := g.journals(ctx)
	if err != nil {
		return a.failed(err)
	}
	g.marks(ctx, runs)
	if err := context.Cause(ctx); err != nil {
		g.fault(err)
	}
	g.print()
	if g.left {
		return exitFailed
	}
	return exitDone
}

// journals gives up the runs whose journal is here. It returns the folders
// that runs were started in.
func (g *collector) journals(ctx context.Context) (dirs []string, _ error) {
	list, err := os.ReadDir(g.state)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("runs: %w", err)
	}
	for _, e := range list {
		id := e.Name()
		if context.Cause(ctx) != nil {
			break
		}
		if !e.IsDir() || g.opts.run != "" && id != g.opts.run {
			continue
		}
		dir := filepath.Join(g.state, id)
		if pipeline.Unborn(dir) {
			g.unborn(id, dir)
			continue
		}
		st, err := pipeline.ReadStatus(dir)
		if err != nil {
			g.add(gcRow{Kind: "run", ID: id, Run: id, Result: resultLeft, Why: "its journal cannot be read", Error: err.Error()})
			continue
		}
		if st.Call != nil && !slices.Contains(dirs, st.Call.Cwd) {
			dirs = append(dirs, st.Call.Cwd)
		}
		g.journal(ctx, id, st)
	}
	return dirs, nil
}

// journal gives up one run, where it is dead and old enough.
func (g *collector) journal(ctx context.Context, id string, st pipeline.Status) {
	given := g.opts.run != ""
	if !st.Collectable(g.Now(), given) {
		for _, b := range st.Builds {
			if b.Left && b.Until != nil && !b.Abandoned {
				g.add(gcRow{Kind: "build", ID: b.Build, Run: id, Result: resultKept, Why: "it was left on purpose and is kept until " + b.Until.In(g.Now().Location()).Format(time.DateTime)})
			}
		}
		return
	}
	if !given && g.opts.olderThan.set && g.Now().Sub(st.Last) < g.opts.olderThan.value {
		g.add(gcRow{Kind: "run", ID: id, Run: id, Result: resultKept, Why: fmt.Sprintf("it is younger than %s", g.opts.olderThan.value)})
		return
	}
	set := g.real
	if st.Call != nil && st.Call.Local {
		set = g.local
	}
	c, err := pipeline.Collect(ctx, id, pipeline.CollectOptions{
		StateDir: g.state, Now: g.Now, Events: g.sink(), DryRun: g.opts.dryRun, All: given, Abort: g.Abort,
		Driver: func(typ string) (builder.Driver, bool) { return driverNamed(set, typ) },
	})
	if held := (*journal.HeldError)(nil); errors.As(err, &held) {
		g.add(gcRow{Kind: "run", ID: id, Run: id, Result: resultKept, Why: fmt.Sprintf("process %d is at it", held.Holder.PID)})
		g.left = g.left || given
		return
	}
	if err != nil {
		g.add(gcRow{Kind: "run", ID: id, Run: id, Result: resultLeft, Why: "its process is gone", Error: err.Error()})
		return
	}
	why := "its process is gone"
	if given {
		why = "its run is given up"
	}
	for _, t := range c.Things {
		g.add(rowOf(t.Thing, id, t.Build, why, g.result(t.Removed, true), t.Err))
	}
	for _, err := range c.Errs {
		g.add(gcRow{Kind: "run", ID: id, Run: id, Result: resultLeft, Why: why, Error: err.Error()})
	}
	if len(c.Builds) > 0 && len(c.Things) == 0 && len(c.Errs) == 0 {
		g.add(gcRow{Kind: "run", ID: id, Run: id, Result: resultGivenUp, Why: why + "; it left nothing"})
	}
}

// unborn removes the directory of a run that has no records.
func (g *collector) unborn(id, dir string) {
	var held *journal.HeldError
	info, err := os.Stat(dir)
	if err != nil || g.opts.run == "" && g.Now().Sub(info.ModTime()) < unbornAge || errors.As(journal.Held(dir), &held) {
		return
	}
	row := gcRow{Kind: "folder", ID: dir, Run: id, Result: g.result(true, true), Why: "its run never began"}
	if !g.opts.dryRun {
		if err := os.RemoveAll(dir); err != nil {
			row.Result, row.Error = resultLeft, err.Error()
		}
	}
	g.add(row)
}

// marks looks for what carries the mark of a run, and removes it. What only
// shows when something else is gone is found in a further round.
func (g *collector) marks(ctx context.Context, dirs []string) {
	set := g.real
	if g.opts.local {
		set = g.local
	}
	opt := builder.SweepOptions{Regions: g.opts.regions, AllRegions: g.opts.allRegions, Runs: g.state}
	for _, d := range append(append([]string{}, g.opts.dirs...), dirs...) {
		if !filepath.IsAbs(d) {
			d = filepath.Join(g.Cwd, d)
		}
		opt.Dirs = append(opt.Dirs, d)
	}
	if len(g.opts.dirs) == 0 {
		opt.Dirs = append(opt.Dirs, g.Cwd)
	}
	slices.Sort(opt.Dirs)
	opt.Dirs = slices.Compact(opt.Dirs)
	rules := pipeline.SweepOptions{
		StateDir: g.state, Now: g.Now, OlderThan: foreignAge, Run: g.opts.run, All: g.opts.run != "", DryRun: g.opts.dryRun,
	}
	if g.opts.olderThan.set {
		rules.OlderThan = g.opts.olderThan.value
	}
	for _, d := range set.Builders {
		if d.Sweep == nil {
			continue
		}
		g.sweep(ctx, d, opt, rules)
	}
}

func (g *collector) sweep(ctx context.Context, d builder.Driver, opt builder.SweepOptions, rules pipeline.SweepOptions) {
	told := map[string]bool{}
	for range sweepRounds {
		finds, err := d.Sweep(ctx, opt)
		if errors.Is(err, builder.ErrNotAsked) {
			g.note("%s: %v", d.Name, err)
			return
		}
		if err != nil {
			g.fault(fmt.Errorf("look for what %s left: %w", d.Name, err))
		}
		removed := false
		for _, s := range pipeline.Sweep(ctx, finds, rules) {
			removed = removed || s.Removed
			if key := s.Kind + s.At + s.ID; !told[key] && !g.known(s.Thing) {
				told[key] = true
				g.add(rowOf(s.Thing, s.Run, s.Build, s.Why, g.result(s.Removed, s.Remove), s.Err))
			}
		}
		if !removed || err != nil {
			return
		}
	}
}

func driverNamed(set component.Set, name string) (builder.Driver, bool) {
	i := slices.IndexFunc(set.Builders, func(d builder.Driver) bool { return d.Name == name })
	if i < 0 {
		return builder.Driver{}, false
	}
	return set.Builders[i], true
}

// sink tells a person what is being removed, for that may take minutes.
func (g *collector) sink() event.Sink {
	if g.opts.json || g.report.machine != nil {
		return event.Discard
	}
	return sayer{g.report}
}

type sayer struct{ r *report }

// Emit implements [event.Sink].
func (s sayer) Emit(e event.Event) {
	switch v := e.(type) {
	case event.Say:
		s.r.say(v.Text)
	case event.Warn:
		s.r.say(v.Text)
	case *event.Question:
		v.Answer("", event.ErrNoTerminal)
	}
}
