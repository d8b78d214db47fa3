// Package windowsrestart is the provisioner "windows-restart": it restarts a
// Windows guest and waits until it is back.
package windowsrestart

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/powershell"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/provisioner"
)

// Config is the options of the provisioner.
type Config struct {
	RestartCommand      string        `hcl:"restart_command"`
	RestartCheckCommand string        `hcl:"restart_check_command"`
	RestartTimeout      time.Duration `hcl:"restart_timeout"`
	CheckRegistry       bool          `hcl:"check_registry"`
	RegistryKeys        []string      `hcl:"registry_keys"`
}

const (
	defaultCommand = `shutdown /r /f /t 0 /c "packer restart"`
	defaultTimeout = 5 * time.Minute
	restarted      = "restarted."
	// tryTime bounds one question to a guest that may be going down.
	tryTime = 30 * time.Second
	// slack is by how much two clocks may differ over a restart that was
	// none, and less than any restart takes.
	slack = 3 * time.Second
)

// defaultKeys are there while Windows wants to be restarted.
func defaultKeys() []string {
	const servicing = `HKLM:SOFTWARE\Microsoft\Windows\CurrentVersion\Component Based Servicing\`
	return []string{servicing + "RebootPending", servicing + "PackagesPending", servicing + "RebootInProgress"}
}

// Driver returns the provisioner "windows-restart".
func Driver() provisioner.Driver { return provisioner.NewDriver("windows-restart", open) }

type restart struct{ cfg Config }

var _ provisioner.Provisioner = (*restart)(nil)

func open(c Config) (provisioner.Provisioner, error) {
	var errs []error
	if c.RestartTimeout < 0 {
		errs = append(errs, diag.Fieldf("restart_timeout", "must not be negative"))
	}
	if c.RestartTimeout == 0 {
		c.RestartTimeout = defaultTimeout
	}
	if c.RestartCommand == "" {
		c.RestartCommand = defaultCommand
	}
	if len(c.RegistryKeys) == 0 {
		c.RegistryKeys = defaultKeys()
	}
	return &restart{c}, errors.Join(errs...)
}

// Key implements [provisioner.Provisioner]. How long and how it is waited does
// not count.
func (r *restart) Key(context.Context) (checkpoint.Key, error) {
	d := checkpoint.NewDigest("windows-restart.v1")
	d.Text(r.cfg.RestartCommand, r.cfg.RestartCheckCommand, strconv.FormatBool(r.cfg.CheckRegistry), fmt.Sprint(r.cfg.RegistryKeys))
	return d.Key(), nil
}

// Apply implements [provisioner.Provisioner]. That the guest has restarted is
// seen by its uptime, which is less than it would have been.
func (r *restart) Apply(ctx context.Context, g communicator.Guest, out event.Sink) error {
	out.Emit(event.Say{Text: "Restarting Machine"})
	before, err := r.up(ctx, g)
	if err != nil {
		return fmt.Errorf("ask the guest for its uptime: %w", err)
	}
	asked := time.Now()
	limit, stop := context.WithTimeout(ctx, r.cfg.RestartTimeout)
	defer stop()
	if err := r.command(limit, g, out); err != nil {
		return err
	}
	out.Emit(event.Say{Text: "Waiting for machine to restart..."})
	w := waiter{limit: limit, out: out}
	w.until(ctx, "the guest did not restart", "check restart_command; a guest that takes longer needs a greater restart_timeout", func(ctx context.Context) (bool, error) {
		now, err := r.up(ctx, g)
		return err == nil && now < before+time.Since(asked)-slack, err
	})
	w.until(ctx, "the guest restarted, and the check did not succeed", "check restart_check_command", func(ctx context.Context) (bool, error) {
		return r.check(ctx, g, out)
	})
	if r.cfg.CheckRegistry {
		w.until(ctx, "the guest wants to be restarted again", "add another windows-restart after this one, or give other registry_keys", func(ctx context.Context) (bool, error) {
			return r.settled(ctx, g, out)
		})
	}
	if w.err != nil {
		return w.err
	}
	out.Emit(event.Say{Text: "Machine successfully restarted, moving on"})
	return nil
}

// command restarts the guest, which may go away before it says that it will.
func (r *restart) command(ctx context.Context, g communicator.Guest, out event.Sink) error {
	stdout, stderr := event.Lines(out, false), event.Lines(out, true)
	defer stdout.Close()
	defer stderr.Close()
	try, stop := context.WithTimeout(ctx, tryTime)
	defer stop()
	err := g.Run(try, communicator.Cmd{Line: r.cfg.RestartCommand, Stdout: stdout, Stderr: stderr})
	var exit *communicator.ExitError
	switch {
	case err == nil, try.Err() != nil: // whether it restarted is seen later
		return nil
	case errors.As(err, &exit):
		// 1115: a shutdown is in progress; 1190: one has been scheduled. An
		// end by signal is how SSH shows a machine that goes down.
		if exit.Status == 1115 || exit.Status == 1190 || exit.Signal != "" {
			return nil
		}
		return diag.WithHint(fmt.Errorf("restart script exited with non-zero exit status %d", exit.Status), "check restart_command")
	}
	var lost *communicator.DisconnectError
	if errors.As(err, &lost) {
		return nil
	}
	return fmt.Errorf("restart the guest: %w", err)
}

// A waiter asks one question after another in one common time.
type waiter struct {
	limit context.Context
	out   event.Sink
	err   error
}

// until asks until the answer is yes. A guest that does not answer is asked
// again.
func (w *waiter) until(ctx context.Context, what, hint string, ask func(context.Context) (bool, error)) {
	if w.err != nil {
		return
	}
	var last error
	err := poll.Until(w.limit, poll.Backoff{First: 500 * time.Millisecond, Max: 5 * time.Second}, func(ctx context.Context) (bool, error) {
		try, stop := context.WithTimeout(ctx, tryTime)
		defer stop()
		ok, err := ask(try)
		if err != nil && w.limit.Err() == nil {
			last = err
			w.out.Emit(event.Detail{Text: "waiting for the guest: " + err.Error()})
		}
		var key *communicator.HostKeyError
		if errors.As(err, &key) || errors.Is(err, communicator.ErrNoConnection) {
			return false, err
		}
		return ok, nil
	})
	switch {
	case err == nil:
	case ctx.Err() != nil:
		w.err = context.Cause(ctx)
	case w.limit.Err() == nil:
		w.err = err
	case last != nil:
		w.err = diag.WithHint(fmt.Errorf("%s within restart_timeout: %w", what, last), "%s", hint)
	default:
		w.err = diag.WithHint(fmt.Errorf("%s within restart_timeout", what), "%s", hint)
	}
}

func run(ctx context.Context, g communicator.Guest, line string) (string, error) {
	var said, errors strings.Builder
	err := g.Run(ctx, communicator.Cmd{Line: line, Stdout: &said, Stderr: &errors})
	if text := strings.TrimSpace(errors.String()); err != nil && text != "" {
		err = fmt.Errorf("%w: %s", err, text)
	}
	return said.String(), err
}

// up is how long the guest has been up.
func (r *restart) up(ctx context.Context, g communicator.Guest) (time.Duration, error) {
	said, err := run(ctx, g, powershell.Command("[Console]::Out.WriteLine([Environment]::TickCount)"))
	if err != nil {
		return 0, err
	}
	// The counter is signed, and negative between the 25th and the 50th day.
	ms, err := strconv.ParseInt(strings.TrimPrefix(strings.TrimSpace(said), "\ufeff"), 10, 64)
	if err != nil {
		return 0, fmt.Errorf("the guest gives its uptime as %q", said)
	}
	return time.Duration(uint32(ms)) * time.Millisecond, nil
}

// check runs the template's check command, or asks for a sign of life.
func (r *restart) check(ctx context.Context, g communicator.Guest, out event.Sink) (bool, error) {
	line := r.cfg.RestartCheckCommand
	if line == "" {
		line = powershell.Command(powershell.Quiet + `Write-Output "${env:COMPUTERNAME} ` + restarted + `"`)
	}
	said, err := run(ctx, g, line)
	if err != nil {
		return false, err
	}
	for l := range strings.Lines(said) {
		out.Emit(event.Output{Line: strings.TrimRight(l, "\r\n")})
	}
	return r.cfg.RestartCheckCommand != "" || strings.Contains(said, restarted), nil
}

// settled reports whether no registry key says that a restart is due.
func (r *restart) settled(ctx context.Context, g communicator.Guest, out event.Sink) (bool, error) {
	var b strings.Builder
	b.WriteString(powershell.Quiet)
	for _, k := range r.cfg.RegistryKeys {
		fmt.Fprintf(&b, "if (Test-Path -LiteralPath %[1]s) { Write-Output %[1]s }\n", powershell.Quote(k))
	}
	said, err := run(ctx, g, powershell.Command(b.String()))
	if err != nil {
		return false, err
	}
	if said = strings.TrimSpace(said); said != "" {
		out.Emit(event.Detail{Text: "a restart is still pending: " + said})
	}
	return said == "", nil
}
