package ui

import (
	"bytes"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/ingot-build/ingot/internal/event"
)

const (
	framesEvery = 100 * time.Millisecond
	tailLines   = 3  // of output shown beneath a build
	failLines   = 20 // of output repeated when a step fails
)

// Escape sequences of ECMA-48 and DEC that every terminal in use knows.
const (
	hideCursor = "\x1b[?25l"
	showCursor = "\x1b[?25h"
	clearLine  = "\x1b[K" // from the cursor
	clearBelow = "\x1b[J" // from the cursor
)

// TTYOptions is how a [TTY] shows a run.
type TTYOptions struct {
	Color      bool
	Timestamps bool                    // the time before each line that stays, RFC 3339
	Size       func() (cols, rows int) // of the terminal, asked for each frame; zeros: not known
	In         io.Reader               // the terminal to ask questions on; nil: none
	Now        func() time.Time        // the clock of the shown times
	Tick       <-chan time.Time        // a frame is drawn at each; nil: ten a second
}

// A TTY is a live view on a terminal: lines for a person scroll by, and
// beneath them each build that runs has a line with its step and time, its
// transfers and the last lines of its output. A frame is one write. Close must
// be called, whatever happens: it gives the cursor back.
type TTY struct {
	w    io.Writer
	opts TTYOptions

	mu     sync.Mutex
	colors *palette
	sum    summary
	asker  *asker
	builds []*liveBuild
	scroll bytes.Buffer // lines to go above the view with the next frame
	drawn  []string     // the view as it is on the screen, without colours
	shown  string       // the same as it was written
	hidden bool         // the cursor
	over   bool         // the run has ended: nothing live is drawn any more
	stop   chan struct{}
	done   chan struct{}
	once   sync.Once
}

var _ event.Answerer = (*TTY)(nil)

// A liveBuild is a build under way.
type liveBuild struct {
	name         string
	step         event.StepStarted
	start, since time.Time // of the build, of the step
	tasks        []string
	meters       map[string]*meter
	output       []string // the last lines
}

// NewTTY starts to show what it reads on w.
func NewTTY(w io.Writer, o TTYOptions) *TTY {
	t := &TTY{w: w, opts: o, colors: newPalette(o.Color), stop: make(chan struct{}), done: make(chan struct{})}
	t.asker = newAsker(&t.mu, o.In, t.prompt, func() { quietly(io.WriteString(w, "\n")) })
	go t.frames()
	return t
}

func (t *TTY) frames() {
	defer close(t.done)
	tick := t.opts.Tick
	if tick == nil {
		ticker := time.NewTicker(framesEvery)
		defer ticker.Stop()
		tick = ticker.C
	}
	for {
		select {
		case <-t.stop:
			return
		case <-tick:
			t.mu.Lock()
			t.draw()
			t.mu.Unlock()
		}
	}
}

// CanAnswer reports whether there is a terminal to ask on.
func (t *TTY) CanAnswer() bool { return t.opts.In != nil }

// Close takes the live part off the screen and gives the cursor back. It may
// be called more than once.
func (t *TTY) Close() {
	t.once.Do(func() {
		close(t.stop)
		<-t.done
	})
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asker.drop("")
	t.over = true
	t.draw()
}

// Read takes one record; what it changes is seen with the next frame.
func (t *TTY) Read(r event.Record) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.read(r)
	switch e := r.Event.(type) {
	case event.RunStarted:
		for _, b := range e.Builds {
			t.colors.of(b)
		}
	case event.BuildStarted:
		t.build(r)
	case event.StepStarted:
		b := t.build(r)
		b.step, b.since, b.output = e, r.Time, nil
	case event.StepEnded:
		t.stepEnded(r, e)
	case event.Say:
		t.say(r, t.colors.of(r.Build), e.Text)
	case event.Warn:
		t.say(r, t.colors.pick(yellow), "Warning: "+e.Text)
	case event.Output:
		t.output(r, e)
	case event.Progress:
		t.progress(r, e)
	case *event.Question:
		t.keepOutput(r) // it may be the reason for the question
		t.asker.ask(r, e)
	case event.BuildEnded:
		t.asker.drop(r.Build)
		t.remove(r.Build)
		t.keep(r, buildLine(r.Build, e))
	case event.RunEnded:
		t.asker.drop("")
		t.builds = nil
		t.over = true
		for _, l := range t.sum.lines(e) {
			t.keep(r, l)
		}
		t.draw()
	}
}

func (t *TTY) find(build string) *liveBuild {
	for _, b := range t.builds {
		if b.name == build {
			return b
		}
	}
	return nil
}

// build returns the live state of the record's build.
func (t *TTY) build(r event.Record) *liveBuild {
	if b := t.find(r.Build); b != nil {
		return b
	}
	b := &liveBuild{name: r.Build, start: r.Time, since: r.Time, meters: map[string]*meter{}}
	if r.Build != "" {
		t.builds = append(t.builds, b)
	}
	return b
}

func (t *TTY) remove(build string) {
	for i, b := range t.builds {
		if b.name == build {
			t.builds = append(t.builds[:i:i], t.builds[i+1:]...)
			return
		}
	}
}

// keepOutput repeats the last output of a build where it stays.
func (t *TTY) keepOutput(r event.Record) {
	if b := t.find(r.Build); b != nil {
		for _, l := range b.output {
			t.say(r, t.colors.of(r.Build), l)
		}
		b.output = nil
	}
}

// stepEnded forgets what was shown of a step; of one that failed the last
// output stays.
func (t *TTY) stepEnded(r event.Record, e event.StepEnded) {
	b := t.find(r.Build)
	if b == nil {
		return
	}
	if e.Failed {
		t.keepOutput(r)
	}
	b.tasks, b.output = nil, nil
	clear(b.meters)
	if b.step.Name == e.Name {
		b.step, b.since = event.StepStarted{}, r.Time
	}
}

func (t *TTY) output(r event.Record, e event.Output) {
	b := t.find(r.Build)
	if b == nil {
		t.say(r, t.colors.of(r.Build), e.Line)
		return
	}
	if b.output = append(b.output, strings.TrimRight(sanitize(e.Line), " ")); len(b.output) > failLines {
		b.output = b.output[1:]
	}
}

func (t *TTY) progress(r event.Record, e event.Progress) {
	b := t.find(r.Build)
	if b == nil {
		return
	}
	m := b.meters[e.Task]
	if m == nil {
		m = &meter{}
		b.meters[e.Task] = m
		b.tasks = append(b.tasks, e.Task)
	}
	m.add(r.Time, e)
	if !m.complete() {
		return
	}
	delete(b.meters, e.Task)
	for i, task := range b.tasks {
		if task == e.Task {
			b.tasks = append(b.tasks[:i:i], b.tasks[i+1:]...)
			return
		}
	}
}

func (t *TTY) say(r event.Record, c color, text string) {
	for _, l := range prefixed(r, text) {
		t.line(r.Time, c, l)
	}
}

func (t *TTY) keep(r event.Record, l line) {
	c := t.colors.of(r.Build)
	if l.err {
		c = t.colors.pick(red)
	}
	t.line(r.Time, c, l.text)
}

// line adds a line that stays.
func (t *TTY) line(at time.Time, c color, text string) {
	text = strings.ReplaceAll(sanitize(text), "\n", " ")
	if t.opts.Timestamps && text != "" {
		text = at.Format(time.RFC3339) + ": " + text
	}
	if text != "" {
		text = paint(c, text)
	}
	t.scroll.WriteString(text + "\n")
}

// prompt takes the live part off the screen and asks. The lock is held. Until
// the answer nothing is drawn.
func (t *TTY) prompt(q *pending) {
	c := t.colors.of(q.rec.Build)
	t.say(q.rec, c, q.q.Text)
	var b bytes.Buffer
	t.erase(&b)
	b.Write(t.scroll.Bytes())
	t.scroll.Reset()
	if choices := q.choices(); choices != "" {
		b.WriteString(paint(c, strings.Join(prefixed(q.rec, sanitize(choices)), "\n")) + " ")
	}
	t.show(&b)
	quietly(t.w.Write(b.Bytes()))
}
