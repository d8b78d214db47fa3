// Package pipeline runs a plan: it is the one package that knows the whole
// story of a build, and what a failure or a crash means for it.
package pipeline

import (
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/postprocessor"
	"github.com/ingot-build/ingot/provisioner"
)

// A Plan is everything decided before the first side effect.
type Plan struct {
	Builds []Build
}

// A Build turns one source into artifacts.
type Build struct {
	Info           builder.Info // RunID is set by the run
	Open           func(builder.Info) (builder.Builder, error)
	Later          []string // the builder's options whose values are not known yet: Open fails
	Provisioners   []Provisioner
	ErrorCleanup   *Provisioner      // runs only when provisioning failed
	PostProcessors [][]PostProcessor // chains, each from the builder's artifact
	Timeout        time.Duration     // of the whole build, its clean-up excepted; 0: none

	After []string // full names of the builds that must succeed first; those that are not in the run do not count
	// Complete returns the build with what those before it made, by full name,
	// in its options. nil: none of them is used. It is called once, when all of
	// them have succeeded; its error ends the build.
	Complete func(made map[string][]artifact.Set) (Build, error)
}

// A Provisioner is one step of a build and how to treat it.
type Provisioner struct {
	Type            string
	Name            string        // label for messages, "" for none
	PauseBefore     time.Duration // before each try
	Timeout         time.Duration // of each try; 0: none
	MaxRetries      int           // tries after the first
	ContinueOnError bool          // a failure is told and passed over
	// Open evaluates the options with what is known of the guest.
	Open func(communicator.Data) (provisioner.Provisioner, error)
}

// A PostProcessor is one step of a chain.
type PostProcessor struct {
	Type      string
	Name      string
	Keep      postprocessor.Keep
	KeepInput *bool // keep_input_artifact
	Open      func(postprocessor.Build, communicator.Data) (postprocessor.PostProcessor, error)
}
