package builder

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// A Log takes records durably. *journal.Journal is one.
type Log interface {
	Append(r journal.Record) error
}

// A Run is one build of one run, as its builder sees it.
type Run struct {
	Info
	Dir    string // folder of this build for sockets, overlays and the like; exists, and goes when the build is over
	Events event.Sink

	// AfterStep, when not nil, is told of every step that ended. It returns
	// whether the step is to be done again, and the error that takes err's
	// place.
	AfterStep func(ctx context.Context, step string, err error) (again bool, _ error)

	log     Log
	history []journal.Record // of this build, from its last restart on
	attempt int              // how often the build began anew
	state   func() (json.RawMessage, error)
}

// NewRun returns a run of a build with the records its journal already holds.
func NewRun(info Info, dir string, events event.Sink, log Log, history []journal.Record) *Run {
	r := &Run{Info: info, Dir: dir, Events: events, log: log}
	for _, rec := range history {
		if rec.Build == info.Build {
			r.note(rec)
		}
	}
	return r
}

func (r *Run) note(rec journal.Record) {
	if rec.Kind == journal.KindRestart {
		r.history, r.attempt = nil, r.attempt+1
		return
	}
	r.history = append(r.history, rec)
}

// Record journals an entry of this build.
func (r *Run) Record(kind journal.Kind, step string, data any) error {
	rec := journal.Record{Kind: kind, Build: r.Build, Step: step}
	if data != nil {
		js, err := json.Marshal(data)
		if err != nil {
			return fmt.Errorf("journal %s %s: %w", kind, step, err)
		}
		rec.Data = js
	}
	if err := r.log.Append(rec); err != nil {
		return err
	}
	r.note(rec)
	return nil
}

// Restart journals that the build begins anew. Whatever it made must be gone:
// nothing recorded before counts any more. Tokens are others from here on,
// for a platform answers a known token with the thing that is gone. The
// builder that Discard was called on is of no further use: it knows the old
// state.
func (r *Run) Restart() error {
	r.state = nil
	return r.Record(journal.KindRestart, "", nil)
}

// Save journals the machine's state now. A step calls it as soon as a thing
// has an id, before it waits for that thing.
func (r *Run) Save() error {
	if r.state == nil {
		return errors.New("nothing to save: the run has no state")
	}
	js, err := r.state()
	if err != nil {
		return fmt.Errorf("journal state: %w", err)
	}
	return r.Record(journal.KindState, "", js)
}

// Token returns a name for a remote thing: the same for the same run, build
// and name, before and after a crash, until the build begins anew ([Run.Restart]);
// and no other run's.
func (r *Run) Token(name string) string {
	text := fmt.Appendf(nil, "%q %q %q", r.RunID, r.Build, name)
	if r.attempt > 0 {
		text = fmt.Appendf(text, " %d", r.attempt)
	}
	sum := sha256.Sum256(text)
	return "ingot-" + hex.EncodeToString(sum[:12])
}

// Say tells a person what is being done.
func (r *Run) Say(format string, args ...any) {
	r.Events.Emit(event.Say{Text: fmt.Sprintf(format, args...)})
}

// last returns the newest record that fits.
func (r *Run) last(fits func(journal.Record) bool) (journal.Record, bool) {
	for _, rec := range slices.Backward(r.history) {
		if fits(rec) {
			return rec, true
		}
	}
	return journal.Record{}, false
}

func (r *Run) sealed() bool {
	_, ok := r.last(func(rec journal.Record) bool { return rec.Kind == journal.KindSealed })
	return ok
}

// pending reports whether step was begun and not undone since.
func (r *Run) pending(step string) bool {
	rec, ok := r.last(func(rec journal.Record) bool {
		return rec.Step == step && (rec.Kind == journal.KindBegin || rec.Kind == journal.KindUndo)
	})
	return ok && rec.Kind == journal.KindBegin
}
