package amazon

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
)

const deadManUnit = "ingot-dead-man"

// deadManGrace is how long after the build's deadline the instance ends itself:
// the build has cleaned up by then, if anybody has.
const deadManGrace = 15 * time.Minute

// endAfter sets the timer of a build that has a deadline and no timer of its
// own. Where the template shuts the guest down there is none.
func (c *RunOptions) endAfter(limit time.Duration, communicator string) {
	if limit > 0 && c.DeadMan == 0 && !c.DisableStop && (communicator == "" || communicator == "ssh") {
		c.DeadMan = limit + deadManGrace
	}
}

// arm sets a timer in the guest that shuts it down, in case this process and
// whoever could resume it are gone for good. The timer is a transient unit of
// systemd: it lives under /run, so that nothing of it is in the image. A guest
// without systemd, or a user who may not become root, has none, which is told.
func (m *machine) arm(ctx context.Context, r *builder.Run) {
	if m.run.DeadMan <= 0 || m.deadMan {
		return
	}
	var out bytes.Buffer
	err := m.conn.Run(ctx, communicator.Cmd{
		Line:   fmt.Sprintf("%s systemd-run --quiet --collect --unit=%s --on-active=%ds systemctl poweroff", asRoot, deadManUnit, int(m.run.DeadMan.Seconds())),
		Stdout: &out, Stderr: &out,
	})
	if err != nil {
		r.Events.Emit(event.Warn{Text: fmt.Sprintf("The guest has no timer that ends it (dead_man): %v: %s", err, bytes.TrimSpace(out.Bytes()))})
		return
	}
	m.deadMan = true
	r.Say("The instance shuts itself down in %s unless the build ends before (dead_man)", m.run.DeadMan)
}

// asRoot runs a command as root, by sudo where that is needed.
const asRoot = `$([ "$(id -u)" = 0 ] || echo sudo -n)`

// disarm takes the timer away. An image is not made while it runs.
func (m *machine) disarm(ctx context.Context, r *builder.Run) error {
	if !m.deadMan {
		return nil
	}
	var out bytes.Buffer
	err := m.conn.Run(ctx, communicator.Cmd{Line: asRoot + " systemctl stop " + deadManUnit + ".timer", Stdout: &out, Stderr: &out})
	if err != nil {
		return fmt.Errorf("take the timer of dead_man away: %w: %s", err, bytes.TrimSpace(out.Bytes()))
	}
	m.deadMan = false
	r.Events.Emit(event.Detail{Text: "the timer of dead_man is gone"})
	return nil
}
