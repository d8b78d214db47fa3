package builder

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/event"
)

// A Copier is a [Builder] whose sealed image is wanted in further regions.
// Each region is a job of its own: one that fails costs neither the image nor
// the copies in other regions, and can be done again by another process.
//
// That process opens the builder and calls nothing but Regions, Copy, Conclude,
// Partial and Discard: neither Check nor Base nor Boot. Its options were
// evaluated anew, so what an option with a time or a random text in it decided
// (the image's name) is taken from the set or the state, not from the options.
//
// When copies fail, whatever only served the build is discarded at once: what
// copies need besides the image is the product of a step too, until Conclude
// removes it.
type Copier interface {
	// Regions returns where a copy is wanted, in the order of the template.
	// It is asked once the build is sealed; r may be of a build that another
	// process sealed.
	Regions(ctx context.Context, r *Run) ([]string, error)

	// Copy brings the image of set to c.Region and returns when it can be
	// used there: available, tagged, shared. It is called on one goroutine a
	// region, several at a time. Called again, also by another process, it
	// finds what it had made, by c.State or c.Token. An error that says
	// Temporary() bool is true is worth a second try, with the state saved
	// so far.
	Copy(ctx context.Context, c *Copy, set artifact.Set) (artifact.SystemImage, error)

	// Conclude is called after every region has its copy, with the builder's
	// artifact and the copies in Regions' order. It removes what only served
	// the copying and returns the artifact of the whole build. It is called
	// again when it failed, or when the process died before its result was
	// journaled.
	Conclude(ctx context.Context, r *Run, set artifact.Set, copies []artifact.SystemImage) (artifact.Set, error)

	// Partial returns the artifact of a build of which only some copies were
	// made. It changes nothing.
	Partial(set artifact.Set, copies []artifact.SystemImage) artifact.Set
}

// A Copy is one region's copy under way.
type Copy struct {
	Region string
	Token  string     // the same before and after a crash; no other region's
	Events event.Sink // marks what it is told as this region's
	State  json.RawMessage
	Run    *Run // to read only: several copies share it

	save func(json.RawMessage) error
}

// NewCopy returns the copy to region. state is what was last saved of it, nil
// for nothing; save writes the state durably and may be called on any
// goroutine.
func NewCopy(r *Run, region string, state json.RawMessage, out event.Sink, save func(json.RawMessage) error) *Copy {
	return &Copy{Region: region, Token: r.Token("copy " + region), Events: out, State: state, Run: r, save: save}
}

// Load reads the saved state into v, which it leaves alone when there is none.
func (c *Copy) Load(v any) error {
	if c.State == nil {
		return nil
	}
	if err := json.Unmarshal(c.State, v); err != nil {
		return fmt.Errorf("state of the copy to %s in the journal: %w", c.Region, err)
	}
	return nil
}

// Save journals the state of the copy. It is called as soon as a thing has an
// id, before that thing is waited for.
func (c *Copy) Save(v any) error {
	js, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("state of the copy to %s: %w", c.Region, err)
	}
	c.State = js
	return c.save(js)
}

// Say tells a person what is being done.
func (c *Copy) Say(format string, args ...any) {
	c.Events.Emit(event.Say{Text: fmt.Sprintf(format, args...)})
}
