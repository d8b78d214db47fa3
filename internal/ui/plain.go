package ui

import (
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ingot-build/ingot/internal/event"
)

// PlainOptions is how a [Plain] reader writes.
type PlainOptions struct {
	Color      bool
	Timestamps bool      // the time before each line, RFC 3339
	Terminal   bool      // the output is a terminal: guests' output is sanitised
	In         io.Reader // terminal to ask questions on; nil: none
}

// Plain writes the lines that Packer writes. It is safe for the one goroutine
// of a bus beside its own for answers.
type Plain struct {
	w      io.Writer
	opts   PlainOptions
	colors *palette
	mu     sync.Mutex // guards what follows and the writer
	sum    summary
	asker  *asker
	meters map[meterKey]*meter
	spoken map[meterKey]time.Time
}

var _ event.Answerer = (*Plain)(nil)

// progressEvery is how often a transfer is told of in lines.
const progressEvery = 15 * time.Second

// NewPlain returns a reader that writes to w.
func NewPlain(w io.Writer, o PlainOptions) *Plain {
	p := &Plain{w: w, opts: o, colors: newPalette(o.Color), meters: map[meterKey]*meter{}, spoken: map[meterKey]time.Time{}}
	p.asker = newAsker(&p.mu, o.In, p.prompt, func() { quietly(io.WriteString(w, "\n")) })
	return p
}

// CanAnswer reports whether there is a terminal to ask on.
func (p *Plain) CanAnswer() bool { return p.opts.In != nil }

// Read writes one record.
func (p *Plain) Read(r event.Record) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sum.read(r)
	switch e := r.Event.(type) {
	case event.RunStarted:
		p.start(r, e)
	case event.Say:
		p.say(r, p.colors.of(r.Build), e.Text)
	case event.Warn:
		p.say(r, p.colors.pick(yellow), "Warning: "+e.Text)
	case event.Output:
		c := p.colors.of(r.Build)
		if e.Stderr {
			c = p.colors.pick(red)
		}
		p.say(r, c, e.Line)
	case event.Progress:
		p.progress(r, e)
	case event.StepEnded:
		p.forget(r.Build)
	case *event.Question:
		p.asker.ask(r, e)
	case event.BuildEnded:
		p.asker.drop(r.Build)
		p.forget(r.Build)
		l := buildLine(r.Build, e)
		p.write(r, p.lineColor(r.Build, l), l.text)
	case event.RunEnded:
		p.asker.drop("")
		for _, l := range p.sum.lines(e) {
			p.write(r, p.lineColor("", l), l.text)
		}
	}
}

func (p *Plain) start(r event.Record, e event.RunStarted) {
	for _, b := range e.Builds {
		if c := p.colors.of(b); c != noColor {
			p.write(r, c, b+": output will be in this color.")
		}
	}
	if p.opts.Color {
		quietly(io.WriteString(p.w, "\n"))
	}
}

func (p *Plain) lineColor(build string, l line) color {
	if l.err {
		return p.colors.pick(red)
	}
	return p.colors.of(build)
}

func (p *Plain) say(r event.Record, c color, text string) {
	for _, l := range prefixed(r, text) {
		p.write(r, c, l)
	}
}

// write writes one line in a single call, so that lines of other processes
// come between lines only.
func (p *Plain) write(r event.Record, c color, text string) {
	p.asker.endLine()
	if p.opts.Terminal {
		text = sanitize(text)
	}
	if p.opts.Timestamps && text != "" {
		text = r.Time.Format(time.RFC3339) + ": " + text
	}
	if text != "" {
		text = paint(c, text)
	}
	quietly(io.WriteString(p.w, text+"\n"))
}

// progress says how far a long transfer is: a person who reads a log wants to
// see that it moves.
func (p *Plain) progress(r event.Record, e event.Progress) {
	k := meterKey{r.Build, e.Task}
	m := p.meters[k]
	if m == nil {
		m = &meter{}
		p.meters[k], p.spoken[k] = m, r.Time
	}
	m.add(r.Time, e)
	if r.Time.Sub(p.spoken[k]) < progressEvery {
		return
	}
	p.spoken[k] = r.Time
	p.say(r, p.colors.of(r.Build), e.Task+": "+strings.Join(m.parts(), ", "))
}

func (p *Plain) forget(build string) {
	for k := range p.meters {
		if k.build == build {
			delete(p.meters, k)
			delete(p.spoken, k)
		}
	}
}

// prompt asks on the terminal. The lock is held.
func (p *Plain) prompt(q *pending) {
	lines := prefixed(q.rec, sanitize(q.q.Text))
	c := p.colors.of(q.rec.Build)
	for _, l := range lines[:len(lines)-1] {
		p.write(q.rec, c, l)
	}
	last := lines[len(lines)-1]
	if choices := q.choices(); choices != "" {
		p.write(q.rec, c, last)
		last = prefixed(q.rec, choices)[0]
	}
	quietly(io.WriteString(p.w, paint(c, last)+" "))
}
