package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ingot-build/ingot/internal/journal"
)

// A Thing is one piece of a platform that a build made.
type Thing struct {
	Kind string `json:"kind"`           // "instance", "key pair", …
	ID   string `json:"id"`             // or the name it was asked for by, when the answer never came
	At   string `json:"at,omitempty"`   // region; "" for this machine
	Step string `json:"-"`              // the step that made it
	Keep bool   `json:"keep,omitempty"` // it is of the sealed artifact
}

// A Placer is a [Builder] that another process can open again without its
// options, by [Driver.Reopen], to discard what it made.
type Placer interface {
	// Place returns where the build works, as JSON without a secret: what
	// Reopen needs. It is asked after Check and before Boot; nil: nothing is
	// made that could be left.
	Place(ctx context.Context) (json.RawMessage, error)
}

// A Lister is a [Builder] that can say what the journal knows of its things.
type Lister interface {
	// Things returns what the build may have on its platform now, by the
	// journal alone: it asks nobody.
	Things(r *Run) ([]Thing, error)
}

// An Abandoner is a [Copier] whose unfinished copies can be given up.
type Abandoner interface {
	// Unfinished returns what there is of a copy that was begun, by c.State
	// or c.Token. It changes nothing.
	Unfinished(ctx context.Context, c *Copy) ([]Thing, error)
	// Abandon removes it. It succeeds when there is nothing.
	Abandon(ctx context.Context, c *Copy) error
}

// A Find is a thing with the mark of a run that was found by asking the
// platform, without a journal. Which runs are over is decided by the caller.
type Find struct {
	Thing
	Run, Build string // as the mark says; Run is "" where it only holds a token
	Token      string // [Run.Token] of TokenOf, where the mark does not name the run
	TokenOf    string
	Since      time.Time // when it was made or last changed; zero: not known
	// Remove removes it, and succeeds when it is gone.
	Remove func(ctx context.Context) error
}

// SweepOptions says where to look.
type SweepOptions struct {
	Regions    []string // nil: the one the environment names
	AllRegions bool
	Dirs       []string // folders in which output folders lie
	Runs       string   // folder of the runs that processes and links must be of; "" for any
}

// ErrNotAsked is returned by a [Sweeper] that did not look: it was not told
// where, and nothing on this machine says that there is something to look at.
var ErrNotAsked = errors.New("not looked for")

// A Sweeper finds what carries the mark of a run and is not an artifact, in
// the order in which it is to be removed. It changes nothing.
type Sweeper func(ctx context.Context, o SweepOptions) ([]Find, error)

var (
	_ Placer    = (*Machine[struct{}])(nil)
	_ Lister    = (*Machine[struct{}])(nil)
	_ Abandoner = (*Machine[struct{}])(nil)
)

// Place implements [Placer].
func (m *Machine[S]) Place(ctx context.Context) (json.RawMessage, error) {
	if m.Where == nil {
		return nil, nil
	}
	v, err := m.Where(ctx)
	if err != nil {
		return nil, err
	}
	js, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("place of the build: %w", err)
	}
	return js, nil
}

// Things implements [Lister]. A step that was undone has none; those of a
// sealed product are marked to be kept.
func (m *Machine[S]) Things(r *Run) ([]Thing, error) {
	if err := m.load(r); err != nil || m.Holds == nil {
		return nil, err
	}
	sealed := r.sealed()
	var out []Thing
	for _, t := range m.Holds(r, m.state) {
		i := slices.IndexFunc(m.steps(), func(s Step[S]) bool { return s.Name == t.Step })
		if i < 0 || !r.pending(t.Step) {
			continue
		}
		t.Keep = sealed && m.steps()[i].Product
		out = append(out, t)
	}
	return out, nil
}

func (m *Machine[S]) steps() []Step[S] { return slices.Concat(m.Boots, m.Seals) }

// Unfinished implements [Abandoner].
func (m *Machine[S]) Unfinished(ctx context.Context, c *Copy) ([]Thing, error) {
	if err := m.load(c.Run); err != nil || m.Copies == nil || m.Copies.Unfinished == nil {
		return nil, err
	}
	return m.Copies.Unfinished(ctx, c, m.state)
}

// Abandon implements [Abandoner].
func (m *Machine[S]) Abandon(ctx context.Context, c *Copy) error {
	if err := m.load(c.Run); err != nil || m.Copies == nil {
		return err
	}
	if m.Copies.Abandon == nil {
		return errors.New("the builder cannot give up a copy that was begun")
	}
	return m.Copies.Abandon(ctx, c, m.state)
}

// Unfinished reports whether a step was begun of which something may be left
// besides a sealed artifact. Steps that leave nothing count until they are
// discarded, too.
func (r *Run) Unfinished() bool {
	begun := map[string]bool{}
	for _, rec := range r.history {
		switch rec.Kind {
		case journal.KindBegin:
			begun[rec.Step] = true
		case journal.KindUndo:
			delete(begun, rec.Step)
		}
	}
	return len(begun) > 0
}

// Sealed reports whether the build's artifact is made.
func (r *Run) Sealed() bool { return r.sealed() }

// Tokens returns what [Run.Token] was for name in each attempt of the build.
func Tokens(info Info, history []journal.Record, name string) []string {
	r := NewRun(info, "", nil, nil, history)
	var out []string
	for ; r.attempt >= 0; r.attempt-- {
		out = append(out, r.Token(name))
	}
	return out
}
