package buildertest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// regions returns where copies are wanted.
func (p *process) regions() (builder.Copier, []string, error) {
	c, ok := p.b.(builder.Copier)
	if !ok {
		return nil, nil, nil
	}
	ctx, stop := p.bounded()
	defer stop()
	regions, err := c.Regions(ctx, p.run)
	return c, regions, err
}

// copyTo makes the copy to a region with the state that was saved last.
func (p *process) copyTo(ctx context.Context, c builder.Copier, region string, set artifact.Set, state json.RawMessage) (artifact.SystemImage, error) {
	job := builder.NewCopy(p.run, region, state, event.Discard, func(js json.RawMessage) error {
		return p.log.Append(journal.Record{Kind: journal.KindCopy, Build: p.run.Build, Step: region, Data: js})
	})
	return c.Copy(ctx, job, set.Clone())
}

// distribute makes the copies that the journal does not know to be made, one
// after another: where a crash falls is the same each time. It returns the
// artifact of the whole build.
func (p *process) distribute(set artifact.Set) (artifact.Set, error) {
	states, made, whole, err := p.copied()
	if err != nil {
		return set, err
	}
	if whole != nil {
		return *whole, nil
	}
	c, regions, err := p.regions()
	if err != nil || len(regions) == 0 {
		return set, err
	}
	var copies []artifact.SystemImage
	for _, region := range regions {
		img, ok := made[region]
		if !ok {
			ctx, stop := p.bounded()
			img, err = p.copyTo(ctx, c, region, set, states[region])
			stop()
			if err != nil {
				return set, fmt.Errorf("copy to %s: %w", region, err)
			}
			if err := p.record(journal.KindCopied, region, img); err != nil {
				return set, err
			}
		}
		copies = append(copies, img)
	}
	ctx, stop := p.bounded()
	defer stop()
	full, err := c.Conclude(ctx, p.run, set.Clone(), copies)
	if err != nil {
		return set, fmt.Errorf("conclude: %w", err)
	}
	return full, p.record(journal.KindCollected, "", full)
}

func (p *process) record(kind journal.Kind, step string, v any) error {
	js, err := json.Marshal(v)
	if err != nil {
		return err
	}
	return p.log.Append(journal.Record{Kind: kind, Build: p.run.Build, Step: step, Data: js})
}

// copied returns what the journal holds of the copies: their states, those
// that are done, and the artifact when all are.
func (p *process) copied() (states map[string]json.RawMessage, made map[string]artifact.SystemImage, whole *artifact.Set, _ error) {
	states, made = map[string]json.RawMessage{}, map[string]artifact.SystemImage{}
	for _, r := range p.history {
		switch r.Kind {
		case journal.KindCopy:
			states[r.Step] = r.Data
		case journal.KindCopied:
			var img artifact.SystemImage
			if err := json.Unmarshal(r.Data, &img); err != nil {
				return nil, nil, nil, err
			}
			made[r.Step] = img
		case journal.KindCollected:
			if err := json.Unmarshal(r.Data, &whole); err != nil {
				return nil, nil, nil, err
			}
		}
	}
	return states, made, whole, nil
}

// copies is distribute, which must not fail.
func (p *process) copies(set artifact.Set) artifact.Set {
	p.s.t.Helper()
	set, err := p.distribute(set)
	p.s.must(err)
	return set
}

// copiesAgain makes all copies at once, and then each a second time, with and
// without what was saved of it: as after a reply that was lost.
func copiesAgain(t *testing.T, c Config) {
	s := newScenario(t, c, "copies")
	p := s.process(never)
	set := p.build()
	cp, regions, err := p.regions()
	s.must(err)
	ctx, stop := p.bounded()
	defer stop()
	copies, errs := make([]artifact.SystemImage, len(regions)), make([]error, len(regions))
	var wg sync.WaitGroup
	for i, region := range regions {
		wg.Go(func() { copies[i], errs[i] = p.copyTo(ctx, cp, region, set, nil) })
	}
	wg.Wait()
	s.must(errors.Join(errs...))
	states := p.saved()
	for i, region := range regions {
		for _, state := range []json.RawMessage{states[region], nil} {
			again, err := p.copyTo(ctx, cp, region, set, state)
			if err != nil || again.Ref != copies[i].Ref {
				t.Errorf("copy to %s, asked for again with the state %q: %v, %v, want %v", region, state, again.Ref, err, copies[i].Ref)
			}
		}
	}
	if part := cp.Partial(set.Clone(), copies[:1]); part.Empty {
		t.Error("the artifact of a build with some copies is empty")
	}
	// As a process that died before the result was journaled.
	_, err = cp.Conclude(ctx, p.run, set.Clone(), copies)
	s.must(err)
	whole, err := cp.Conclude(ctx, p.run, set.Clone(), copies)
	s.must(err)
	p.discard()
	s.finished(whole)
}

// saved returns the states of the copies that the journal holds now.
func (p *process) saved() map[string]json.RawMessage {
	p.s.t.Helper()
	_, recs, err := journal.Read(p.s.dir)
	p.s.must(err)
	out := map[string]json.RawMessage{}
	for _, r := range recs {
		if r.Kind == journal.KindCopy {
			out[r.Step] = r.Data
		}
	}
	return out
}
