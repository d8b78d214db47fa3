package buildertest

import (
	"encoding/json"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
)

// place is what the journal would keep of the builder's options.
func (p *process) place() json.RawMessage {
	p.s.t.Helper()
	where, ok := p.b.(builder.Placer)
	if !ok || p.s.c.Reopen == nil {
		return nil
	}
	ctx, stop := p.bounded()
	defer stop()
	js, err := where.Place(ctx)
	p.s.must(err)
	return js
}

// giveUp removes what a process that died left, with a builder that knows
// nothing but the place and the journal.
func (p *process) giveUp(place json.RawMessage, set artifact.Set, sealed bool) {
	p.s.t.Helper()
	own := p.b
	b, err := p.s.c.Reopen(place, p.run.Info)
	p.s.must(err)
	p.b = b
	if l, ok := b.(builder.Lister); ok {
		_, err := l.Things(p.run)
		p.s.must(err)
	}
	p.discard()
	if sealed {
		set = p.abandon(own, set)
	}
	if sealed && (set.ID != "" || len(set.Files) > 0) {
		p.s.finished(set)
	} else {
		p.s.clean() // the image only served copies, and none of them was made
	}
	if l, ok := b.(builder.Lister); ok {
		things, err := l.Things(p.run)
		p.s.must(err)
		for _, t := range things {
			if !t.Keep {
				p.s.t.Errorf("it is removed, and still listed: %+v", t)
			}
		}
	}
}

// abandon gives up the copies that are not made. own is opened by its options,
// and knows the regions.
func (p *process) abandon(own builder.Builder, set artifact.Set) artifact.Set {
	p.s.t.Helper()
	states, made, whole, err := p.copied()
	p.s.must(err)
	if whole != nil {
		return *whole
	}
	ctx, stop := p.bounded()
	defer stop()
	c, ok := own.(builder.Copier)
	if !ok {
		return set
	}
	regions, err := c.Regions(ctx, p.run)
	p.s.must(err)
	if len(regions) == 0 {
		return set
	}
	var copies []artifact.SystemImage
	for _, region := range regions {
		if img, ok := made[region]; ok {
			copies = append(copies, img)
			continue
		}
		cp := builder.NewCopy(p.run, region, states[region], p.run.Events, func(json.RawMessage) error { return nil })
		a, ok := p.b.(builder.Abandoner)
		if !ok {
			p.s.t.Fatal("the builder copies, and cannot give up a copy")
		}
		things, err := a.Unfinished(ctx, cp)
		p.s.must(err)
		p.s.must(a.Abandon(ctx, cp))
		left, err := a.Unfinished(ctx, cp)
		p.s.must(err)
		if len(left) > 0 {
			p.s.t.Errorf("copy to %s: given up, and there is %v; before, %v", region, left, things)
		}
	}
	set, err = p.b.(builder.Copier).Conclude(ctx, p.run, set.Clone(), copies)
	p.s.must(err)
	return set
}
