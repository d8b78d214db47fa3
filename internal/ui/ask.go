package ui

import (
	"bufio"
	"io"
	"strings"
	"sync"

	"github.com/ingot-build/ingot/internal/event"
)

// A pending question waits for its turn or its answer.
type pending struct {
	rec event.Record
	q   *event.Question
}

// choices is the line under a question that has some.
func (p *pending) choices() string {
	var out []string
	for _, c := range p.q.Choices {
		out = append(out, "["+c.Key+"] "+c.Text)
	}
	if len(out) == 0 {
		return ""
	}
	s := strings.Join(out, ", ") + "?"
	if p.q.Default != "" {
		s += " [" + p.q.Default + "]"
	}
	return s
}

// match returns the key that the typed text means.
func (p *pending) match(typed string) (string, bool) {
	typed = strings.ToLower(strings.TrimSpace(typed))
	if len(p.q.Choices) == 0 || typed == "" {
		return p.q.Default, len(p.q.Choices) == 0 || p.q.Default != ""
	}
	for _, c := range p.q.Choices {
		if typed == strings.ToLower(c.Key) {
			return c.Key, true
		}
	}
	return "", false
}

// An asker puts questions to a terminal, one at a time. The goroutine that
// waits for lines starts with the first question and lives until the input
// ends: a read of a terminal cannot be taken back. It does not keep a bus from
// closing. Every method expects the owner's lock to be held.
type asker struct {
	mu      *sync.Mutex
	in      io.Reader
	prompt  func(*pending) // writes the question
	newline func()         // ends the line of a prompt
	midline bool           // the cursor stands behind a prompt
	started bool
	eof     bool
	open    []*pending
}

func newAsker(mu *sync.Mutex, in io.Reader, prompt func(*pending), newline func()) *asker {
	return &asker{mu: mu, in: in, prompt: prompt, newline: newline}
}

func (a *asker) asking() bool { return len(a.open) > 0 }

func (a *asker) show(p *pending) {
	a.prompt(p)
	a.midline = true
}

// endLine ends the line of a prompt that was not answered.
func (a *asker) endLine() {
	if a.midline {
		a.midline = false
		a.newline()
	}
}

func (a *asker) ask(r event.Record, q *event.Question) {
	if a.in == nil {
		return // another reader answers, or the bus has
	}
	if a.eof {
		q.Answer("", event.ErrNoTerminal)
		return
	}
	a.open = append(a.open, &pending{r, q})
	if len(a.open) == 1 {
		a.show(a.open[0])
	}
	if !a.started {
		a.started = true
		go a.lines()
	}
}

func (a *asker) lines() {
	in := bufio.NewScanner(a.in)
	for in.Scan() {
		a.mu.Lock()
		a.typed(in.Text())
		a.mu.Unlock()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.eof = true
	for _, p := range a.open {
		p.q.Answer("", event.ErrNoTerminal)
	}
	a.drop("")
}

// typed takes a line; one that nobody asked for is dropped.
func (a *asker) typed(text string) {
	a.midline = false // the terminal has echoed the line's end
	if len(a.open) == 0 {
		return
	}
	first := a.open[0]
	key, ok := first.match(text)
	if ok {
		first.q.Answer(key, nil)
		a.open = a.open[1:]
	}
	if len(a.open) > 0 {
		a.show(a.open[0])
	}
}

// drop forgets the questions of a build that has ended, or all for "". Whoever
// asked does not wait any more.
func (a *asker) drop(build string) {
	if len(a.open) == 0 {
		return
	}
	first := a.open[0]
	var rest []*pending
	for _, p := range a.open {
		if build != "" && p.rec.Build != build {
			rest = append(rest, p)
		}
	}
	a.open = rest
	if len(rest) > 0 && rest[0] == first {
		return
	}
	a.endLine()
	if len(rest) > 0 {
		a.show(rest[0])
	}
}
