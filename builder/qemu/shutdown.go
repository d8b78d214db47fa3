package qemu

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

// pressAgain is how long a guest may ignore the power button before it is
// pressed anew: a guest that is still booting does not notice.
const pressAgain = 20 * time.Second

// shutdown has the guest shut down and waits until QEMU has ended.
func (m *machine) shutdown(ctx context.Context, r *builder.Run, s *state) error {
	if s.Halted {
		return nil
	}
	if m.proc == nil {
		return errors.New("the guest is no longer running: it cannot be shut down cleanly")
	}
	if m.proc.Alive() {
		if err := m.removeKey(ctx, r); err != nil {
			return err
		}
		if err := m.askToHalt(ctx, r); err != nil {
			return err
		}
	}
	var accept []string
	if m.cfg.overrides("-no-reboot", "--no-reboot") {
		accept = append(accept, "guest-reset") // an installer that ends with a reboot
	}
	if err := m.proc.Clean(accept...); err != nil {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.stopped != nil {
			err = m.stopped
		}
		return diag.WithHint(fmt.Errorf("the guest did not shut down cleanly: %w", err),
			"an image of it could be damaged and is not kept; build again")
	}
	s.Halted = true
	return nil
}

// removeKey takes this build's key out of the guest, where the guest may have
// written it to its disk.
func (m *machine) removeKey(ctx context.Context, r *builder.Run) error {
	if m.conn == nil || m.key.comment == "" || !m.cfg.SSHClearAuthorizedKeys && !m.handsOver() {
		return nil
	}
	if err := ssh.ClearAuthorizedKeys(ctx, m.conn, m.key.comment); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
		r.Events.Emit(event.Warn{Text: fmt.Sprintf("The key of this build may be left in the image: %v", err)})
	}
	return nil
}

// askToHalt gives the guest the sign to shut down and waits for its end.
func (m *machine) askToHalt(ctx context.Context, r *builder.Run) error {
	c := &m.cfg
	if c.Communicator == "none" {
		// Nothing but the guest itself knows when it is ready: no limit.
		r.Say("Waiting for the guest to shut itself down")
		return m.proc.Wait(ctx)
	}
	limit := fmt.Errorf("the guest did not shut down within %s (shutdown_timeout)", c.ShutdownTimeout)
	wctx, stop := context.WithTimeoutCause(ctx, c.ShutdownTimeout, limit)
	defer stop()
	press := c.ShutdownCommand == "" || m.conn == nil
	if !press {
		r.Say("Shutting the guest down with shutdown_command")
		press = !m.runShutdown(wctx, r)
	} else {
		r.Say("Shutting the guest down by its power button")
	}
	if m.conn != nil {
		defer m.conn.Close()
	}
	err := m.awaitHalt(wctx, press)
	if errors.Is(err, limit) {
		if c.ShutdownCommand == "" {
			return diag.WithHint(err, "give a shutdown_command, or have the guest act on the power button (acpid, systemd-logind)")
		}
		return diag.WithHint(err, "the shutdown_command must power the guest off; or raise shutdown_timeout")
	}
	return err
}

// awaitHalt waits until QEMU has ended, and presses the power button now and
// then when press is set.
func (m *machine) awaitHalt(ctx context.Context, press bool) error {
	if !press {
		return m.proc.Wait(ctx)
	}
	for {
		if err := m.proc.PowerButton(ctx); err != nil && m.proc.Alive() && context.Cause(ctx) == nil && !m.ending(ctx) {
			return fmt.Errorf("power button: %w", err)
		}
		step, stop := context.WithTimeout(ctx, pressAgain)
		err := m.proc.Wait(step)
		stop()
		if err == nil {
			return nil
		}
		if cause := context.Cause(ctx); cause != nil {
			return cause
		}
	}
}

// ending reports whether QEMU ends just now: its control connection goes first.
func (m *machine) ending(ctx context.Context) bool {
	ctx, stop := context.WithTimeout(ctx, 5*time.Second)
	defer stop()
	return m.proc.Wait(ctx) == nil
}

// runShutdown runs shutdown_command. It reports false when the command failed
// and the guest is to be asked otherwise.
func (m *machine) runShutdown(ctx context.Context, r *builder.Run) bool {
	// The end of the machine ends the command.
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		select {
		case <-m.proc.Done():
			stop()
		case <-ctx.Done():
		}
	}()
	var out bytes.Buffer
	err := m.conn.Run(ctx, communicator.Cmd{Line: m.cfg.ShutdownCommand, Stdout: &out, Stderr: &out})
	var xe *communicator.ExitError
	if errors.As(err, &xe) && xe.Signal == "" && m.proc.Alive() && !m.proc.Halted() {
		r.Events.Emit(event.Warn{Text: fmt.Sprintf("shutdown_command failed (%v)%s; pressing the power button instead", err, after(bytes.TrimSpace(out.Bytes())))})
		return false
	}
	if err != nil && !errors.As(err, &xe) {
		r.Events.Emit(event.Detail{Text: "shutdown_command: " + strings.TrimSpace(err.Error())})
	}
	return true
}
