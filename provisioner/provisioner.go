// Package provisioner is the contract of the things that change a running
// guest: scripts, files, configuration tools.
package provisioner

import (
	"context"

	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
)

// A Provisioner changes a guest. It does not know where the guest runs.
type Provisioner interface {
	// Key digests everything that decides what Apply does: options, the
	// content of every file it reads, its own version. The zero key says that
	// this cannot be known, and nothing after it is reused. It changes
	// nothing and may be called before the guest exists.
	Key(ctx context.Context) (checkpoint.Key, error)

	// Apply changes the guest. It is called on its own goroutine, once per
	// try, and returns soon after ctx ends with nothing of its own still
	// running.
	Apply(ctx context.Context, g communicator.Guest, out event.Sink) error
}

// A Driver opens provisioners of one type and keeps their configuration type
// to itself.
type Driver struct {
	Name   string     // the block's label: "shell"
	Config func() any // a pointer to an empty configuration, tagged `hcl:"…"`
	Open   func(cfg any) (Provisioner, error)
}

// NewDriver describes a provisioner type. open validates c and sets defaults;
// it uses no network and changes nothing, and it returns every fault at once,
// as joined *diag.FieldError values.
func NewDriver[C any](name string, open func(c C) (Provisioner, error)) Driver {
	return Driver{
		Name:   name,
		Config: func() any { return new(C) },
		Open:   func(cfg any) (Provisioner, error) { return open(*cfg.(*C)) },
	}
}
