// Package breakpoint is the provisioner "breakpoint": the build waits for the
// person at the terminal, who may look at the guest meanwhile.
package breakpoint

import (
	"context"
	"errors"
	"fmt"

	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/provisioner"
)

// Config is the options of the provisioner.
type Config struct {
	Note    string `hcl:"note"`
	Disable bool   `hcl:"disable"`
}

// Driver returns the provisioner "breakpoint".
func Driver() provisioner.Driver { return provisioner.NewDriver("breakpoint", open) }

type breakpoint struct{ cfg Config }

var _ provisioner.Provisioner = breakpoint{}

func open(c Config) (provisioner.Provisioner, error) { return breakpoint{c}, nil }

// Key implements [provisioner.Provisioner]. It is the zero key, because a
// person may change the guest meanwhile, unless the breakpoint is disabled.
func (b breakpoint) Key(context.Context) (checkpoint.Key, error) {
	if !b.cfg.Disable {
		return checkpoint.Key{}, nil
	}
	return checkpoint.NewDigest("breakpoint-disabled.v1").Key(), nil
}

// Apply implements [provisioner.Provisioner]. Where nobody can be asked it
// fails: a guest that was to be looked at is not passed over in silence.
func (b breakpoint) Apply(ctx context.Context, g communicator.Guest, out event.Sink) error {
	note := ""
	if b.cfg.Note != "" {
		note = fmt.Sprintf(" with note %q", b.cfg.Note)
	}
	if b.cfg.Disable {
		out.Emit(event.Say{Text: "Breakpoint provisioner" + note + " disabled; continuing..."})
		return nil
	}
	out.Emit(event.Say{Text: "Pausing at breakpoint provisioner" + note + "."})
	if d := g.Data; d.Host != "" {
		key := ""
		if d.KeyFile != "" {
			key = " -i " + d.KeyFile
		}
		out.Emit(event.Say{Text: fmt.Sprintf("The guest is at %s@%s, port %d%s.", d.User, d.Host, d.Port, key)})
	}
	_, err := event.Ask(ctx, out, "Press enter to continue.", "")
	if errors.Is(err, event.ErrNoTerminal) {
		return diag.WithHint(fmt.Errorf("breakpoint: %w", err), "run the build on a terminal, or set disable = true in the breakpoint")
	}
	return err
}
