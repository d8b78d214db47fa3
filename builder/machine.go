package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// A Step is one journaled move of a state S. S is JSON in the journal: no
// secret and no live handle may be in its exported fields.
type Step[S any] struct {
	// Name goes into journals and is never given a new meaning.
	Name string
	// Do may run again after a crash: it looks for what it made before it
	// makes it, and calls Run.Save as soon as a thing has an id.
	Do func(ctx context.Context, r *Run, s *S) error
	// Undo removes what Do made. It succeeds when there is nothing to remove,
	// also when Do failed half way. Nil: there is nothing to remove.
	Undo func(ctx context.Context, r *Run, s *S) error
	// Product says that what the step makes is the artifact: a sealed build
	// keeps it.
	Product bool
}

// A Machine is a [Builder] made of steps. It journals the beginning of each
// step before Do, saves the state after Do, failed or not, and undoes in
// reverse every step begun and not undone.
type Machine[S any] struct {
	Checks  func(ctx context.Context) error                                     // nil: nothing to check
	Resolve func(ctx context.Context) (artifact.Base, error)                    // nil: no base
	Boots   []Step[S]                                                           //
	Connect func(ctx context.Context, r *Run, s *S) (communicator.Guest, error) // nil: no guest
	Seals   []Step[S]                                                           // the clean shutdown first
	Result  func(ctx context.Context, r *Run, s *S) (artifact.Set, error)       //

	// Copies makes the machine's image go to further regions. Nil: nowhere.
	Copies *Copies[S]

	// Where returns what [Driver.Reopen] needs, without a secret. Nil: the
	// machine makes nothing that could be left.
	Where func(ctx context.Context) (any, error)
	// Holds lists what s says there is, each with its step; it asks nobody.
	Holds func(r *Run, s *S) []Thing

	// Intends says beforehand what is made. Nil: nothing that has a name.
	Intends func() Intent

	state *S
}

// Copies is what [Copier] asks of a machine. s is only read: several copies
// share it.
type Copies[S any] struct {
	Regions  func(s *S) []string
	Copy     func(ctx context.Context, c *Copy, s *S, set artifact.Set) (artifact.SystemImage, error)
	Conclude func(ctx context.Context, r *Run, s *S, set artifact.Set, copies []artifact.SystemImage) (artifact.Set, error)
	Partial  func(set artifact.Set, copies []artifact.SystemImage) artifact.Set

	// Of [Abandoner].
	Unfinished func(ctx context.Context, c *Copy, s *S) ([]Thing, error)
	Abandon    func(ctx context.Context, c *Copy, s *S) error
}

var (
	_ Builder = (*Machine[struct{}])(nil)
	_ Copier  = (*Machine[struct{}])(nil)
)

// Check implements [Builder].
func (m *Machine[S]) Check(ctx context.Context) error {
	if m.Checks == nil {
		return nil
	}
	return m.Checks(ctx)
}

// Base implements [Builder].
func (m *Machine[S]) Base(ctx context.Context) (artifact.Base, error) {
	if m.Resolve == nil {
		return artifact.Base{}, nil
	}
	return m.Resolve(ctx)
}

// Boot implements [Builder].
func (m *Machine[S]) Boot(ctx context.Context, r *Run) (communicator.Guest, error) {
	if err := m.load(r); err != nil {
		return communicator.Guest{}, err
	}
	if err := m.do(ctx, r, m.Boots); err != nil {
		return communicator.Guest{}, err
	}
	if m.Connect == nil {
		return communicator.Guest{Communicator: communicator.None{}, Data: communicator.Data{ConnType: "none"}}, nil
	}
	var g communicator.Guest
	err := m.observed(ctx, r, "connect", func() (err error) {
		g, err = m.Connect(ctx, r, m.state)
		return err
	})
	return g, err
}

// Seal implements [Builder].
func (m *Machine[S]) Seal(ctx context.Context, r *Run) (artifact.Set, error) {
	if err := m.load(r); err != nil {
		return artifact.Set{}, err
	}
	if err := m.do(ctx, r, m.Seals); err != nil {
		return artifact.Set{}, err
	}
	set, err := m.Result(ctx, r, m.state)
	if err != nil {
		return artifact.Set{}, err
	}
	return set, r.Record(journal.KindSealed, "", set)
}

// Discard implements [Builder].
func (m *Machine[S]) Discard(ctx context.Context, r *Run) error {
	if err := m.load(r); err != nil {
		return err
	}
	sealed := r.sealed()
	var errs []error
	for _, st := range slices.Backward(m.steps()) {
		if !r.pending(st.Name) || sealed && st.Product {
			continue
		}
		if st.Undo != nil {
			if err := st.Undo(ctx, r, m.state); err != nil {
				errs = append(errs, fmt.Errorf("undo %s: %w", st.Name, err))
				continue
			}
		}
		errs = append(errs, r.Record(journal.KindUndo, st.Name, nil))
	}
	return errors.Join(errs...)
}

// Regions implements [Copier].
func (m *Machine[S]) Regions(_ context.Context, r *Run) ([]string, error) {
	if err := m.load(r); err != nil || m.Copies == nil {
		return nil, err
	}
	return m.Copies.Regions(m.state), nil
}

// Copy implements [Copier].
func (m *Machine[S]) Copy(ctx context.Context, c *Copy, set artifact.Set) (artifact.SystemImage, error) {
	return m.Copies.Copy(ctx, c, m.state, set)
}

// Conclude implements [Copier].
func (m *Machine[S]) Conclude(ctx context.Context, r *Run, set artifact.Set, copies []artifact.SystemImage) (artifact.Set, error) {
	return m.Copies.Conclude(ctx, r, m.state, set, copies)
}

// Partial implements [Copier].
func (m *Machine[S]) Partial(set artifact.Set, copies []artifact.SystemImage) artifact.Set {
	return m.Copies.Partial(set, copies)
}

// load takes the state from the journal the first time.
func (m *Machine[S]) load(r *Run) error {
	r.state = func() (json.RawMessage, error) { return json.Marshal(m.state) }
	if m.state != nil {
		return nil
	}
	m.state = new(S)
	rec, ok := r.last(func(rec journal.Record) bool { return rec.Kind == journal.KindState })
	if !ok {
		return nil
	}
	if err := json.Unmarshal(rec.Data, m.state); err != nil {
		return fmt.Errorf("state in the journal: %w", err)
	}
	return nil
}

func (m *Machine[S]) do(ctx context.Context, r *Run, steps []Step[S]) error {
	for _, st := range steps {
		err := m.observed(ctx, r, st.Name, func() error {
			if err := context.Cause(ctx); err != nil {
				return err
			}
			if err := r.Record(journal.KindBegin, st.Name, nil); err != nil {
				return err
			}
			err := st.Do(ctx, r, m.state)
			if serr := r.Save(); serr != nil {
				return errors.Join(err, serr)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", st.Name, err)
			}
			return r.Record(journal.KindDone, st.Name, nil)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// observed runs do between two events, and again while AfterStep says so.
func (m *Machine[S]) observed(ctx context.Context, r *Run, name string, do func() error) error {
	for {
		r.Events.Emit(event.StepStarted{Name: name})
		start := time.Now()
		err := do()
		r.Events.Emit(event.StepEnded{Name: name, Elapsed: time.Since(start), Failed: err != nil})
		if r.AfterStep == nil {
			return err
		}
		again, err := r.AfterStep(ctx, name, err)
		if !again {
			return err
		}
	}
}
