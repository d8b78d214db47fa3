package ui

import (
	"fmt"
	"time"

	"github.com/ingot-build/ingot/internal/event"
)

// A meterKey names a transfer.
type meterKey struct{ build, task string }

// rateWindow is how far back the rate of a transfer looks.
const rateWindow = 8 * time.Second

// sampleEvery bounds how many samples that makes.
const sampleEvery = 200 * time.Millisecond

// A meter knows how fast a transfer is.
type meter struct {
	last    event.Progress
	samples []sample
}

type sample struct {
	at   time.Time
	done int64
}

func (m *meter) add(at time.Time, p event.Progress) {
	if p.Done < m.last.Done {
		m.samples = nil // it began again
	}
	m.last = p
	if n := len(m.samples); n > 0 && at.Sub(m.samples[n-1].at) < sampleEvery {
		return
	}
	m.samples = append(m.samples, sample{at, p.Done})
	for len(m.samples) > 2 && at.Sub(m.samples[1].at) >= rateWindow {
		m.samples = m.samples[1:]
	}
}

func (m *meter) complete() bool { return m.last.Total > 0 && m.last.Done >= m.last.Total }

// rate is in units per second, 0 when not known.
func (m *meter) rate() float64 {
	if len(m.samples) < 2 {
		return 0
	}
	a, b := m.samples[0], m.samples[len(m.samples)-1]
	t := b.at.Sub(a.at).Seconds()
	if t <= 0 || b.done <= a.done {
		return 0
	}
	return float64(b.done-a.done) / t
}

// parts says how far the transfer is, the most important part first.
func (m *meter) parts() []string {
	p := m.last
	var out []string
	if p.Total > 0 {
		out = append(out, fmt.Sprintf("%d%%", min(100, p.Done*100/p.Total)), amount(p.Done, p.Unit)+" of "+amount(p.Total, p.Unit))
	} else {
		out = append(out, amount(p.Done, p.Unit))
	}
	r := m.rate()
	if r <= 0 {
		return out
	}
	if p.Unit == "B" {
		out = append(out, amount(int64(r), p.Unit)+"/s")
	}
	if p.Total > p.Done {
		left := time.Duration(float64(p.Total-p.Done) / r * float64(time.Second))
		out = append(out, clock(left.Round(time.Second))+" left")
	}
	return out
}
