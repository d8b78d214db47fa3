package pipeline

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// A SkippedError says that a build was not begun because builds that come
// before it did not succeed.
type SkippedError struct {
	Failed  []string // their full names
	Partial bool     // all they lack is copies: when those are made, the build can begin
}

func (e *SkippedError) Error() string {
	if len(e.Failed) == 1 {
		return fmt.Sprintf("not begun: build %s, which it depends on, did not succeed", e.Failed[0])
	}
	return fmt.Sprintf("not begun: the builds %s, which it depends on, did not succeed", strings.Join(e.Failed, ", "))
}

// An order runs builds, each after those it depends on, as many at a time as
// are free and allowed. Of several that could begin the first in the plan does.
type order struct {
	builds []Build
	limit  int // 0: none
	run    func(i int, b Build) BuildResult
	skip   func(i int, b Build, err error) BuildResult
	stop   func() bool // nothing is skipped any more: run tells why it does not begin

	after   [][]int // by index
	results []*BuildResult
}

// errCircle is a fault of the plan's maker.
var errCircle = errors.New("builds depend on each other in a circle")

// all runs everything and returns the results in the plan's order.
func (o *order) all() []BuildResult {
	at := map[string]int{}
	for i, b := range o.builds {
		at[b.Info.Build] = i
	}
	o.after = make([][]int, len(o.builds))
	for i, b := range o.builds {
		for _, name := range b.After {
			if j, ok := at[name]; ok { // else it is not of this run
				o.after[i] = append(o.after[i], j)
			}
		}
	}
	o.results = make([]*BuildResult, len(o.builds))
	type ending struct {
		i   int
		res BuildResult
	}
	ended := make(chan ending)
	begun := make([]bool, len(o.builds))
	running := 0
	for left := len(o.builds); left > 0; {
		for moved := true; moved; {
			moved = false
			for i, b := range o.builds {
				if begun[i] || !o.ready(i) {
					continue
				}
				if whole, err := o.completed(i, b); err != nil {
					res := o.skip(i, b, err)
					o.results[i], begun[i], moved = &res, true, true
					left--
				} else if o.limit == 0 || running < o.limit {
					begun[i] = true
					running++
					go func() { ended <- ending{i, o.run(i, whole)} }()
				}
			}
		}
		if running == 0 {
			if left > 0 {
				for i, b := range o.builds {
					if !begun[i] {
						res := o.skip(i, b, errCircle)
						o.results[i] = &res
					}
				}
			}
			break
		}
		e := <-ended
		running--
		left--
		o.results[e.i] = &e.res
	}
	out := make([]BuildResult, len(o.builds))
	for i, r := range o.results {
		out[i] = *r
	}
	return out
}

// ready reports whether all that i depends on is over.
func (o *order) ready(i int) bool {
	for _, j := range o.after[i] {
		if o.results[j] == nil {
			return false
		}
	}
	return true
}

// completed gives a build what those before it made. The error is a
// *SkippedError, or about values that do not fit.
func (o *order) completed(i int, b Build) (Build, error) {
	made := map[string][]artifact.Set{}
	var failed []string
	partial := true
	for _, j := range o.after[i] {
		if r := o.results[j]; r.Err != nil {
			failed = append(failed, r.Build)
			partial = partial && r.Partial
		} else {
			made[r.Build] = r.Artifacts
		}
	}
	switch {
	case o.stop():
		return b, nil
	case len(failed) > 0:
		return b, &SkippedError{failed, partial}
	case b.Complete == nil:
		return b, nil
	}
	return b.Complete(made)
}

// skipBuild ends a build that is not begun. One that an earlier process began
// keeps the ending it has: things may be left of it.
func skipBuild(b Build, err error, log builder.Log, recs []journal.Record, o Options) BuildResult {
	out := o.Events.ForBuild(b.Info.Build)
	res := BuildResult{Build: b.Info.Build, Err: err}
	var skipped *SkippedError
	if errors.As(err, &skipped) {
		res.Partial = skipped.Partial
	}
	before, rerr := read(recs, b.Info.Build)
	switch {
	case rerr != nil:
		res.Err = errors.Join(err, rerr)
	case before.begun:
		res.Sealed, res.Artifacts = before.sealed != nil, before.left()
	default:
		end := journal.Ending{Error: "failed"}
		if o.Mask != nil {
			end.Error = o.Mask(err.Error())
		}
		run := builder.NewRun(b.Info, "", out, log, nil)
		if jerr := run.Record(journal.KindEnded, "", end); jerr != nil {
			res.Err = errors.Join(err, jerr)
		}
	}
	out.Emit(event.BuildEnded{Error: res.Err.Error(), Hint: diag.Hint(res.Err), Artifacts: res.Artifacts})
	return res
}

// orderOf is the order of the builds of a run.
func orderOf(ctx context.Context, builds []Build, o Options) *order {
	ord := &order{builds: builds, limit: o.Parallel, stop: func() bool { return ctx.Err() != nil }}
	if o.Debug {
		ord.limit = 1
	}
	return ord
}
