// Package sleep is the provisioner "sleep": it waits.
package sleep

import (
	"context"
	"fmt"
	"time"

	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/provisioner"
)

// Config is the options of the provisioner.
type Config struct {
	Duration time.Duration `hcl:"duration"`
}

// Driver returns the provisioner "sleep".
func Driver() provisioner.Driver { return provisioner.NewDriver("sleep", open) }

type sleep struct{ d time.Duration }

var _ provisioner.Provisioner = sleep{}

func open(c Config) (provisioner.Provisioner, error) {
	if c.Duration < 0 {
		return nil, diag.Fieldf("duration", "must not be negative")
	}
	return sleep{c.Duration}, nil
}

// Key implements [provisioner.Provisioner]: while one waits the guest goes on,
// so the duration counts.
func (s sleep) Key(context.Context) (checkpoint.Key, error) {
	d := checkpoint.NewDigest("sleep.v1")
	d.Text(s.d.String())
	return d.Key(), nil
}

// Apply implements [provisioner.Provisioner].
func (s sleep) Apply(ctx context.Context, _ communicator.Guest, out event.Sink) error {
	out.Emit(event.Say{Text: fmt.Sprintf("Sleeping %s...", s.d)})
	return poll.Sleep(ctx, s.d)
}
