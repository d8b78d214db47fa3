package pipeline

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// Resume goes on with the run o.RunID, of which plan is the plan made anew.
// Builds that ended well are left alone. A build whose image is sealed gets
// the copies that are missing and the post-processors that were not run; any
// other begins anew, after what it made is removed. Builds of the plan that
// the run does not know are left out, with a warning. The error is a
// *[journal.HeldError] when another live process holds the run.
func Resume(ctx context.Context, plan *Plan, o Options) (_ Result, err error) {
	dir := filepath.Join(o.StateDir, o.RunID)
	j, recs, err := journal.Open(dir, o.Now)
	if err != nil {
		return Result{}, fmt.Errorf("resume: %w", err)
	}
	defer func() { err = errors.Join(err, j.Close()) }()
	h, _, err := journal.Read(dir)
	if err != nil {
		return Result{}, fmt.Errorf("resume: %w", err)
	}
	if slices.ContainsFunc(recs, func(r journal.Record) bool { return r.Kind == journal.KindAbandoned }) {
		return Result{}, givenUp(o.RunID)
	}
	builds, extra, err := known(h.Builds, plan.Builds)
	if err != nil {
		return Result{}, err
	}
	for _, name := range extra {
		o.Events.Emit(event.Warn{Text: fmt.Sprintf("build %s was not in the run and is left out: it is new in the template.", name)})
	}
	return runAll(ctx, builds, j, recs, o)
}

// known returns the builds of the run in its order, for their folders are
// numbered, and the names of those that are not of the run.
func known(names []string, plan []Build) (builds []Build, extra []string, _ error) {
	byName := map[string]Build{}
	for _, b := range plan {
		byName[b.Info.Build] = b
		if !slices.Contains(names, b.Info.Build) {
			extra = append(extra, b.Info.Build)
		}
	}
	var errs []error
	for i, n := range names {
		b, ok := byName[n]
		switch {
		case !ok:
			errs = append(errs, diag.WithHint(fmt.Errorf("build %s of the run is not in the template any more", n),
				"bring it back under this name, or start a new run"))
		case slices.Contains(names[:i], n):
			errs = append(errs, fmt.Errorf("the run has two builds named %s: its journal does not tell them apart", n))
		}
		builds = append(builds, b)
	}
	return builds, extra, errors.Join(errs...)
}
