// Package builder is the contract of the platforms that images are made on.
package builder

import (
	"context"
	"encoding/json"
	"time"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
)

// A Builder turns a base image into a system image on one platform. Its
// methods are called one at a time.
type Builder interface {
	// Check finds the faults that only the platform can show: a missing
	// program, a name already taken. It changes nothing.
	Check(ctx context.Context) error

	// Base resolves the image the build starts from. It changes nothing but
	// caches. A builder without a base returns the zero Base.
	Base(ctx context.Context) (artifact.Base, error)

	// Boot starts a guest from the base and connects to it. Called again
	// after a crash it first finds what it had made.
	Boot(ctx context.Context, r *Run) (communicator.Guest, error)

	// Seal shuts the guest down cleanly and captures the image. A guest that
	// was not shut down cleanly is never sealed.
	Seal(ctx context.Context, r *Run) (artifact.Set, error)

	// Discard removes what the journal says this run made, sealed artifacts
	// excepted, and reports everything it could not remove. The caller gives
	// it a context that outlives the run's cancellation and ends in time.
	Discard(ctx context.Context, r *Run) error
}

// Info is what a builder may know of the build it works for.
type Info struct {
	Name  string // local name of the source, Packer's packer_build_name
	Type  string // builder type
	Build string // full build name
	Force bool   // -force: an existing result may be replaced
	Debug bool   // -debug
	RunID string // "" at validate time
	Cache string // folder for downloads, shared by runs; may not exist yet
	// Timeout is how long the build may take, its clean-up excepted; 0: as long
	// as it needs, and at validate time.
	Timeout time.Duration
	OnFail  string // the -on-error setting, for what is told to the user

	Template string // digest of the template, "" when not known; artifacts are tagged with it
}

// A Driver opens builders of one type and keeps their configuration type to
// itself.
type Driver struct {
	Name   string
	Config func() any // a pointer to an empty configuration, tagged `hcl:"…"`
	Open   func(cfg any, b Info) (Builder, error)
	// Generated names the build.* values the builder declares besides the
	// usual ones; Guest.Data.Generated must hold each.
	Generated []string

	// Reopen opens a builder by what [Placer] said of it, in another process
	// and without its template: it can do no more than discard and give up
	// copies. Nil: the builder leaves nothing.
	Reopen func(place json.RawMessage, b Info) (Builder, error)
	// Sweep finds what runs left whose journal is gone. Nil: nothing can be.
	Sweep Sweeper
}

// NewDriver describes a builder type. open validates c and sets defaults; it
// uses no network and changes nothing, and it returns every fault at once, as
// joined *diag.FieldError values.
func NewDriver[C any](name string, open func(c C, b Info) (Builder, error)) Driver {
	return Driver{
		Name:   name,
		Config: func() any { return new(C) },
		Open:   func(cfg any, b Info) (Builder, error) { return open(*cfg.(*C), b) },
	}
}
