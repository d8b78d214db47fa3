package event

import (
	"context"
	"errors"
)

// ErrNoTerminal is the answer to a question when nobody can be asked.
var ErrNoTerminal = errors.New("there is no terminal to ask on")

// A Choice is one possible answer.
type Choice struct {
	Key  string `json:"key"` // what is typed: "c"
	Text string `json:"text"`
}

// A Question is an event that the reader with a terminal answers. Use [Ask].
type Question struct {
	Text    string   `json:"text"`
	Choices []Choice `json:"choices,omitempty"` // none: Enter continues
	Default string   `json:"default,omitempty"` // the key that Enter means
	reply   chan answer
}

type answer struct {
	key string
	err error
}

// Kind names the event.
func (*Question) Kind() string { return "question" }

func (q *Question) masked(m func(string) string) Event {
	c := *q
	c.Text = m(q.Text)
	return &c
}

// Answer settles the question; only the first call counts, and none waits.
func (q *Question) Answer(key string, err error) {
	select {
	case q.reply <- answer{key, err}:
	default:
	}
}

// Ask emits a question and waits for its answer or for ctx. Without a reader
// that can ask it returns [ErrNoTerminal] at once.
func Ask(ctx context.Context, out Sink, text, def string, choices ...Choice) (string, error) {
	q := &Question{Text: text, Choices: choices, Default: def, reply: make(chan answer, 1)}
	out.Emit(q)
	select {
	case a := <-q.reply:
		return a.key, a.err
	case <-ctx.Done():
		return "", context.Cause(ctx)
	}
}
