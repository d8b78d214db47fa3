package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/distribute"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// copyTime bounds the copy to one region, with all its tries. A builder has
// shorter limits of its own; this one ends what would never end.
const copyTime = 12 * time.Hour

// A PartialError says that an image is made and whole, and that copies of it
// are missing. [Resume] makes them.
type PartialError struct {
	Done    int           // copies that are there
	Regions []RegionError // those that are not, in the order of the template
}

// A RegionError says why there is no copy in a region.
type RegionError struct {
	Region string
	Err    error
}

func (e *PartialError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "the image is made, but %d of %d copies are missing", len(e.Regions), len(e.Regions)+e.Done)
	for _, r := range e.Regions {
		fmt.Fprintf(&b, "\n%s: %v", r.Region, r.Err)
	}
	return b.String()
}

// distribute brings the sealed image to the regions in which it is wanted and
// returns the artifact of the whole build. On error that is the artifact of
// what there is.
func (w *work) distribute(ctx context.Context, bld builder.Builder, set artifact.Set) (artifact.Set, error) {
	if w.past.collected != nil {
		return *w.past.collected, nil
	}
	c, ok := bld.(builder.Copier)
	if !ok {
		return set, nil
	}
	regions, err := c.Regions(ctx, w.run)
	if err != nil {
		return set, fmt.Errorf("regions of the copies: %w", err)
	}
	if len(regions) == 0 {
		return set, nil
	}
	regions = unique(regions)
	if !slices.Equal(regions, w.past.regions) {
		if err := w.run.Record(journal.KindRegions, "", regions); err != nil {
			return set, err
		}
	}
	for region := range w.past.copied {
		if !slices.Contains(regions, region) {
			w.out.Emit(event.Warn{Text: "the copy that was made in " + region + " is not wanted any more; it stays there, and is no part of the artifact."})
		}
	}
	step := "copy to " + strings.Join(regions, ", ")
	if len(regions) > 3 {
		step = fmt.Sprintf("copy to %d regions", len(regions))
	}
	w.out.Emit(event.StepStarted{Name: step})
	start := w.opts.Now()
	err = w.settled(ctx, step, func() error { return w.copies(ctx, c, set, regions) })
	var done []artifact.SystemImage
	for _, r := range regions {
		if img, ok := w.past.copied[r]; ok {
			done = append(done, img)
		}
	}
	var whole artifact.Set
	if err == nil {
		whole, err = w.conclude(ctx, c, set, done)
	}
	w.out.Emit(event.StepEnded{Name: step, Elapsed: w.opts.Now().Sub(start), Failed: err != nil})
	if err != nil {
		return c.Partial(set.Clone(), done), err
	}
	return whole, w.pause(ctx, fmt.Sprintf("Step %q is done.", step))
}

func (w *work) conclude(ctx context.Context, c builder.Copier, set artifact.Set, done []artifact.SystemImage) (artifact.Set, error) {
	whole, err := c.Conclude(ctx, w.run, set.Clone(), done)
	if err != nil {
		return whole, fmt.Errorf("after the copies: %w", err)
	}
	return whole, w.run.Record(journal.KindCollected, "", whole)
}

// copies makes the copies that are missing. Those that are made are noted in
// the past, whatever becomes of the others.
func (w *work) copies(ctx context.Context, c builder.Copier, set artifact.Set, regions []string) error {
	var missing []string
	for _, r := range regions {
		if _, ok := w.past.copied[r]; !ok {
			missing = append(missing, r)
		}
	}
	// The jobs share nothing that changes: each has its own copy of set, and
	// what they save goes straight to the journal, which takes records from
	// any goroutine.
	jobs := map[string]*builder.Copy{}
	sets := map[string]artifact.Set{}
	for _, region := range missing {
		save := func(js json.RawMessage) error {
			return w.log.Append(journal.Record{Kind: journal.KindCopy, Build: w.Info.Build, Step: region, Data: js})
		}
		jobs[region] = builder.NewCopy(w.run, region, w.past.states[region], regionSink{w.out, region}, save)
		sets[region] = set.Clone()
	}
	o := w.opts.Copies
	if o.Deadline == 0 {
		o.Deadline = copyTime
	}
	o.Retrying = func(region string, err error, pause time.Duration) {
		jobs[region].Say("the copy failed and is tried again in %s: %v", pause.Round(time.Second/10), err)
	}
	results := distribute.Run(ctx, missing, o, func(ctx context.Context, region string) (artifact.SystemImage, error) {
		img, err := c.Copy(ctx, jobs[region], sets[region])
		if err != nil {
			return img, err
		}
		js, err := json.Marshal(img)
		if err == nil {
			err = w.log.Append(journal.Record{Kind: journal.KindCopied, Build: w.Info.Build, Step: region, Data: js})
		}
		return img, err
	})
	partial := &PartialError{Done: len(regions) - len(missing)}
	for _, r := range results {
		w.past.states[r.Region] = jobs[r.Region].State
		if r.Err != nil {
			partial.Regions = append(partial.Regions, RegionError{r.Region, r.Err})
			continue
		}
		partial.Done++
		w.past.copied[r.Region] = r.Value
	}
	if len(partial.Regions) > 0 {
		return partial
	}
	return nil
}

// isPartial reports whether copies that are missing are all that err is about.
func isPartial(err error) bool {
	var p *PartialError
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		all := j.Unwrap()
		return len(all) > 0 && !slices.ContainsFunc(all, func(e error) bool { return !isPartial(e) })
	}
	return errors.As(err, &p)
}

func unique(list []string) (out []string) {
	for _, s := range list {
		if !slices.Contains(out, s) {
			out = append(out, s)
		}
	}
	return out
}

// A regionSink marks what a copy tells with its region.
type regionSink struct {
	out    event.Sink
	region string
}

// Emit implements [event.Sink].
func (s regionSink) Emit(e event.Event) {
	mark := s.region + ": "
	switch v := e.(type) {
	case event.Say:
		v.Text = mark + v.Text
		e = v
	case event.Warn:
		v.Text = mark + v.Text
		e = v
	case event.Detail:
		v.Text = mark + v.Text
		e = v
	case event.Output:
		v.Line = mark + v.Line
		e = v
	case event.Progress:
		v.Task = mark + v.Task
		e = v
	case event.StepStarted:
		v.Name = mark + v.Name
		e = v
	case event.StepEnded:
		v.Name = mark + v.Name
		e = v
	}
	s.out.Emit(e)
}
