// Package postprocessor is the contract of the things that work on finished
// artifacts.
package postprocessor

import (
	"context"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/event"
)

// A PostProcessor makes an artifact out of another. It never removes or
// changes its input; whether the input is kept is the pipeline's decision.
type PostProcessor interface {
	// Process returns the new artifact. On error it leaves nothing half
	// written.
	Process(ctx context.Context, in artifact.Set, out event.Sink) (artifact.Set, error)
}

// Keep says what becomes of the input after the whole chain succeeded.
type Keep int

// What a type of post-processor wants.
const (
	DropInput  Keep = iota // removed, unless keep_input_artifact = true
	KeepInput              // kept, unless keep_input_artifact = false
	ForceInput             // kept whatever keep_input_artifact says
)

// Build is what a post-processor may know of the build it belongs to.
type Build struct {
	Name        string            // local name of the source, PACKER_BUILD_NAME
	BuilderType string            // PACKER_BUILDER_TYPE
	RunID       string            // one per run, PackerRunUUID
	Force       bool              // -force was given
	Data        map[string]string // build.*, for options rendered late
}

// A Driver opens post-processors of one type.
type Driver struct {
	Name   string
	Keep   Keep
	Config func() any
	Open   func(cfg any, b Build) (PostProcessor, error)
}

// NewDriver describes a post-processor type. open validates c and sets
// defaults; it uses no network and changes nothing, and it returns every fault
// at once, as joined *diag.FieldError values. At validate time b holds the
// names only.
func NewDriver[C any](name string, keep Keep, open func(c C, b Build) (PostProcessor, error)) Driver {
	return Driver{
		Name:   name,
		Keep:   keep,
		Config: func() any { return new(C) },
		Open:   func(cfg any, b Build) (PostProcessor, error) { return open(*cfg.(*C), b) },
	}
}
