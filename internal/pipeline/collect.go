package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// CollectOptions is how to give a run up.
type CollectOptions struct {
	StateDir string
	Now      func() time.Time
	Events   event.Sink
	DryRun   bool
	// All gives up what could be resumed, and what is kept for a while, too.
	// Without it only builds whose process died, and things that were left
	// longer than they were to be kept, are given up.
	All   bool
	Abort <-chan struct{} // closed: removing stops waiting; may be nil
	// Driver returns the driver of a builder type.
	Driver func(typ string) (builder.Driver, bool)

	wrap func(builder.Log) builder.Log // tests stand in between here
}

// A Leftover is a thing of a build that is given up.
type Leftover struct {
	Build string
	builder.Thing
	Removed bool
	Err     error // why it is still there; nil in a dry run
}

// A Collection is what became of a run that was given up.
type Collection struct {
	Things    []Leftover
	Builds    []string       // those that were given up
	Artifacts []artifact.Set // what stays of them
	Errs      []error        // faults beside those of single things
}

// Left reports whether something could not be removed.
func (c *Collection) Left() bool {
	for _, t := range c.Things {
		if t.Err != nil {
			return true
		}
	}
	return len(c.Errs) > 0
}

// Collectable reports whether [Collect] would give up something of the run.
// Whether a process is at it is not asked.
func (s Status) Collectable(now time.Time, all bool) bool {
	for _, b := range s.Builds {
		if b.collectable(now, all) {
			return true
		}
	}
	return false
}

func (s BuildStatus) collectable(now time.Time, all bool) bool {
	switch {
	case s.Abandoned || s.Done && !s.Left:
		return false
	case all || s.Dead:
		return true
	}
	return s.Left && (s.Until == nil || !now.Before(*s.Until))
}

// Collect gives up the builds of a run that nobody goes on with: what they
// made is removed by the journal, their sealed artifacts and finished copies
// excepted, and the run is never resumed. Nothing but the journal is needed:
// neither the template nor its variables. It may be called again until
// nothing is left. The error is about the run as a whole, a
// *[journal.HeldError] when a live process holds it.
func Collect(ctx context.Context, run string, o CollectOptions) (_ *Collection, err error) {
	dir := filepath.Join(o.StateDir, run)
	var log builder.Log
	var recs []journal.Record
	if o.DryRun {
		var held *journal.HeldError
		if err := journal.Held(dir); errors.As(err, &held) {
			return nil, err
		}
		_, recs, err = journal.Read(dir)
	} else {
		var j *journal.Journal
		if j, recs, err = journal.Open(dir, o.Now); err == nil {
			defer func() { err = errors.Join(err, j.Close()) }()
			log = j
			if o.wrap != nil {
				log = o.wrap(j)
			}
		}
	}
	if err != nil {
		return nil, err
	}
	var h journal.Header
	if err := json.Unmarshal(recs[0].Data, &h); err != nil {
		return nil, err // parsed before
	}
	out := &Collection{}
	for i, name := range h.Builds {
		p, err := read(recs, name)
		if err != nil {
			return nil, err
		}
		if !p.status(name).collectable(o.Now(), o.All) {
			continue
		}
		g := &giveUp{opts: o, past: p, out: out}
		info := builder.Info{Name: p.where.Name, Type: p.where.Type, Build: name, RunID: run}
		g.run = builder.NewRun(info, filepath.Join(dir, strconv.Itoa(i)), o.Events, log, recs)
		if err := g.build(ctx); err != nil {
			out.Errs = append(out.Errs, fmt.Errorf("%s: %w", name, err))
			continue
		}
		out.Builds = append(out.Builds, name)
		if sets := p.left(); sets != nil {
			out.Artifacts = append(out.Artifacts, sets...)
		}
	}
	return out, nil
}

// A giveUp is one build that is given up.
type giveUp struct {
	opts CollectOptions
	past *past
	run  *builder.Run
	out  *Collection
}

func (g *giveUp) build(ctx context.Context) error {
	ctx, stop := cleanupContext(ctx, discardTime, g.opts.Abort)
	defer stop()
	bld, err := g.open()
	if err != nil {
		return err
	}
	var things []Leftover
	if bld != nil {
		if things, err = g.things(ctx, bld); err != nil {
			return err
		}
	}
	_, serr := os.Stat(g.run.Dir)
	scratch := serr == nil
	if g.opts.DryRun {
		g.out.Things = append(g.out.Things, things...)
		if scratch {
			g.out.Things = append(g.out.Things, Leftover{Build: g.run.Build, Thing: builder.Thing{Kind: "folder", ID: g.run.Dir}})
		}
		return nil
	}
	if bld != nil {
		err = g.discard(ctx, bld, things)
	}
	if err != nil {
		return err
	}
	if scratch {
		saveLogs(g.run.Dir)
		err := os.RemoveAll(g.run.Dir)
		g.out.Things = append(g.out.Things, Leftover{
			Build: g.run.Build, Thing: builder.Thing{Kind: "folder", ID: g.run.Dir}, Removed: err == nil, Err: err,
		})
		if err != nil {
			return nil // it is told with the folder
		}
	}
	if g.out.leftOf(g.run.Build) {
		return nil
	}
	return g.run.Record(journal.KindAbandoned, "", journal.Ending{Artifacts: g.past.left()})
}

func (c *Collection) leftOf(build string) bool {
	for _, t := range c.Things {
		if t.Build == build && t.Err != nil {
			return true
		}
	}
	return false
}

// open opens the builder by what the journal knows of its place; nil when the
// build made nothing.
func (g *giveUp) open() (builder.Builder, error) {
	w := g.past.where
	if w.Place == nil {
		if !g.run.Unfinished() {
			return nil, nil
		}
		return nil, diag.WithHint(errors.New("its journal does not say where it worked"), "remove what it made with its template: ingot resume %s", g.run.RunID)
	}
	d, ok := g.opts.Driver(w.Type)
	if !ok || d.Reopen == nil {
		return nil, fmt.Errorf("this version of Ingot has no builder %q that can remove what it made", w.Type)
	}
	return d.Reopen(w.Place, g.run.Info)
}

// things are what the journal says of the build, and what there is of copies
// that were begun.
func (g *giveUp) things(ctx context.Context, bld builder.Builder) ([]Leftover, error) {
	var all []builder.Thing
	if l, ok := bld.(builder.Lister); ok {
		list, err := l.Things(g.run)
		if err != nil {
			return nil, err
		}
		for _, t := range list {
			if !t.Keep {
				all = append(all, t)
			}
		}
	}
	if a, ok := bld.(builder.Abandoner); ok {
		for _, c := range g.unfinished() {
			list, err := a.Unfinished(ctx, c)
			if err != nil {
				return nil, fmt.Errorf("copy to %s: %w", c.Region, err)
			}
			all = append(all, list...)
		}
	}
	out := make([]Leftover, len(all))
	for i, t := range all {
		out[i] = Leftover{Build: g.run.Build, Thing: t}
	}
	return out, nil
}

// unfinished are the copies that were wanted and are not made. Without a list
// of regions in the journal none was begun.
func (g *giveUp) unfinished() (out []*builder.Copy) {
	if g.past.sealed == nil || g.past.collected != nil {
		return nil
	}
	for _, region := range g.past.regions {
		if _, ok := g.past.copied[region]; ok {
			continue
		}
		out = append(out, builder.NewCopy(g.run, region, g.past.states[region], regionSink{g.opts.Events, region},
			func(json.RawMessage) error { return nil })) // what is saved of it is of no more use
	}
	return out
}

// discard removes what the build made, and what copies began.
func (g *giveUp) discard(ctx context.Context, bld builder.Builder, things []Leftover) error {
	var errs []error
	if err := bld.Discard(ctx, g.run); err != nil {
		errs = append(errs, err)
	}
	if err := g.abandonCopies(ctx, bld); err != nil {
		errs = append(errs, err)
	}
	err := errors.Join(errs...)
	left := map[builder.Thing]bool{}
	if err != nil {
		again, terr := g.things(ctx, bld)
		if terr != nil {
			// What is left cannot be told: all of it may be.
			again = things
		}
		for _, t := range again {
			left[t.Thing] = true
		}
	}
	told := false
	for _, t := range things {
		if left[t.Thing] {
			t.Err, told = err, true
		} else {
			t.Removed = true
		}
		g.out.Things = append(g.out.Things, t)
	}
	if told {
		return nil
	}
	return err
}

// abandonCopies removes what copies began, and what only served them.
func (g *giveUp) abandonCopies(ctx context.Context, bld builder.Builder) error {
	if g.past.sealed == nil || g.past.collected != nil || len(g.past.regions) == 0 {
		return nil
	}
	c, ok := bld.(builder.Copier)
	if !ok {
		return nil
	}
	var errs []error
	if a, ok := bld.(builder.Abandoner); ok {
		for _, cp := range g.unfinished() {
			if err := a.Abandon(ctx, cp); err != nil {
				errs = append(errs, fmt.Errorf("copy to %s: %w", cp.Region, err))
			}
		}
	}
	var done []artifact.SystemImage
	for _, region := range g.past.regions {
		if img, ok := g.past.copied[region]; ok {
			done = append(done, img)
		}
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	set, err := c.Conclude(ctx, g.run, g.past.sealed.Clone(), done)
	if err != nil {
		return err
	}
	// From here on these are the artifacts, whatever was told of them before.
	g.past.collected, g.past.ended = &set, nil
	return nil
}

// RemoveRun removes the directory of a run of which nothing is left but its
// artifacts. The error is a *[journal.HeldError] when a process holds it.
func RemoveRun(state, run string, now func() time.Time) error {
	dir := filepath.Join(state, run)
	if _, err := os.Stat(filepath.Join(dir, journal.FileName)); err != nil {
		return fmt.Errorf("run %s: %w", run, err)
	}
	var held *journal.HeldError
	if err := journal.Held(dir); errors.As(err, &held) {
		return err
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	st, err := ReadStatus(dir)
	if err != nil {
		return diag.WithHint(err, "remove what carries the run's marks with ingot gc -run %s; then the folder %s may be removed by hand", run, dir)
	}
	for _, b := range st.Builds {
		if b.Abandoned || !b.Dead && !b.Left && (b.Done || !b.Sealed) {
			continue
		}
		return diag.WithHint(fmt.Errorf("run %s is not over: %s: %s", run, b.Build, b),
			"go on with it: ingot resume %s; or give it up and remove what it made: ingot gc -run %s", run, run)
	}
	j, _, err := journal.Open(dir, now) // nobody begins with it meanwhile
	if err != nil {
		return err
	}
	return errors.Join(os.RemoveAll(dir), j.Close())
}
