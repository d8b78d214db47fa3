package ebsdirect

import (
	"context"
	"sync"
	"time"

	"github.com/ingot-build/ingot/internal/poll"
)

// A Pace keeps requests to a number a second. It may be shared by several
// uploads of one account. The zero value and nil do not limit.
type Pace struct {
	every time.Duration
	mu    sync.Mutex
	next  time.Time
}

// NewPace returns a pace of perSecond requests, 0 for no limit.
func NewPace(perSecond float64) *Pace {
	if perSecond <= 0 {
		return nil
	}
	return &Pace{every: time.Duration(float64(time.Second) / perSecond)}
}

// wait returns when the next request may be sent.
func (p *Pace) wait(ctx context.Context) error {
	if p == nil || p.every == 0 {
		return context.Cause(ctx)
	}
	now := time.Now()
	p.mu.Lock()
	// Some that were not used are kept: a timer is coarser than the pace.
	at := p.next
	if early := now.Add(-50 * p.every); at.Before(early) {
		at = early
	}
	p.next = at.Add(p.every)
	p.mu.Unlock()
	if d := at.Sub(now); d > 0 {
		return poll.Sleep(ctx, d)
	}
	return context.Cause(ctx)
}

// hold keeps everybody back for d: a request was refused because there are
// too many.
func (p *Pace) hold(d time.Duration) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := time.Now().Add(d); at.After(p.next) {
		p.next = at
	}
}
