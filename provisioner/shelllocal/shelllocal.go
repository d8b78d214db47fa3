// Package shelllocal is the provisioner "shell-local": scripts that run on the
// machine Ingot runs on, while the guest is there.
package shelllocal

import (
	"context"

	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell"
	"github.com/ingot-build/ingot/provisioner"
)

// Config is the options of the provisioner.
type Config struct{ localshell.Config }

// Driver returns the provisioner "shell-local".
func Driver() provisioner.Driver { return provisioner.NewDriver("shell-local", open) }

type shellLocal struct{ runner *localshell.Runner }

var _ provisioner.Provisioner = (*shellLocal)(nil)

func open(c Config) (provisioner.Provisioner, error) {
	r, err := localshell.Open(c.Config)
	return &shellLocal{r}, err
}

// Key implements [provisioner.Provisioner]. It is always the zero key: what a
// script does to this machine, or to the guest over ways of its own, is not
// known here.
func (*shellLocal) Key(context.Context) (checkpoint.Key, error) { return checkpoint.Key{}, nil }

// Apply implements [provisioner.Provisioner].
func (s *shellLocal) Apply(ctx context.Context, g communicator.Guest, out event.Sink) error {
	return s.runner.Run(ctx, g.Data, out)
}
