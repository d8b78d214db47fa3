package vm

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/vm/qmp"
)

// A Command says how to start a process that belongs to a machine.
type Command struct {
	Binary string
	Args   []string
	Dir    string          // working directory, "" for this process's
	Log    string          // file that takes what the process prints; replaced
	QMP    string          // path of the QMP socket that the arguments tell QEMU to make, "" for a process that is not QEMU
	Events func(qmp.Event) // told of each QMP event, on a goroutine of its own; may be nil
}

// An Exit is how a process ended.
type Exit struct {
	Status int    // exit status, -1 when a signal ended it
	Signal string // name of that signal, or ""
	Reason string // QEMU's reason for stopping the guest, "" when it told none: "guest-shutdown", "host-signal", …
	Output string // the end of what it printed
}

// An ExitError says that a process ended when it should not have, or not in
// the way it should have.
type ExitError struct {
	Binary string
	Exit
}

func (e *ExitError) Error() string {
	how := fmt.Sprintf("ended with exit status %d", e.Status)
	if e.Signal != "" {
		how = "was ended by a signal: " + e.Signal
	}
	if e.Reason != "" {
		how += " (" + e.Reason + ")"
	}
	if out := strings.TrimSpace(e.Output); out != "" {
		how += ": " + out
	}
	return e.Binary + " " + how
}

// A Process is a child process, in a process group of its own so that Ctrl-C
// on the terminal does not reach it. Its methods are safe for concurrent use.
type Process struct {
	cmd  Command
	id   Identity
	proc *os.Process
	qmp  *qmp.Client
	done chan struct{} // closed when exit is set

	mu     sync.Mutex
	reason string
	halted bool // the guest has shut down
	exit   Exit
}

// Start starts c and returns at once with the process; its identity is to be
// journaled before anything else. ctx bounds nothing after the return.
func Start(ctx context.Context, c Command) (*Process, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	log, err := os.OpenFile(c.Log, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Binary, err)
	}
	defer log.Close()
	cmd := exec.Command(c.Binary, c.Args...) //nolint:noctx // outlives ctx: it is stopped in order, not killed
	cmd.Dir, cmd.Stdout, cmd.Stderr = c.Dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", c.Binary, err)
	}
	p := &Process{cmd: c, proc: cmd.Process, done: make(chan struct{})}
	// The child is not waited for yet: its entry in /proc is there.
	p.id = identify(cmd.Process.Pid)
	go p.wait(cmd)
	return p, nil
}

func (p *Process) wait(cmd *exec.Cmd) {
	_ = cmd.Wait() // the state tells more than the error
	p.mu.Lock()
	client := p.qmp
	p.mu.Unlock()
	if client != nil {
		<-client.Done() // the last events
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	st := cmd.ProcessState
	p.exit = Exit{Status: st.ExitCode(), Reason: p.reason, Output: Tail(p.cmd.Log, 15)}
	if ws, ok := st.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		p.exit.Signal = ws.Signal().String()
	}
	close(p.done)
}

// Ready connects to QMP, which answers once the machine is built. It returns
// *[ExitError] when QEMU ended before.
func (p *Process) Ready(ctx context.Context) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-p.done:
			stop(&ExitError{p.cmd.Binary, p.Exit()})
		case <-ctx.Done():
		}
	}()
	return poll.Until(ctx, poll.Backoff{First: 20 * time.Millisecond, Max: 200 * time.Millisecond}, func(ctx context.Context) (bool, error) {
		c, err := qmp.Dial(ctx, p.cmd.QMP, p.event)
		if err != nil {
			// Not there yet; or QEMU ended, which ends ctx.
			return false, context.Cause(ctx)
		}
		p.mu.Lock()
		p.qmp = c
		p.mu.Unlock()
		return true, nil
	})
}

// event keeps why QEMU stopped.
func (p *Process) event(e qmp.Event) {
	if e.Name == "SHUTDOWN" {
		var d struct {
			Reason string `json:"reason"`
		}
		_ = json.Unmarshal(e.Data, &d) // an unknown shape is no reason
		p.mu.Lock()
		p.reason = d.Reason
		p.halted = d.Reason == "guest-shutdown"
		p.mu.Unlock()
	}
	if p.cmd.Events != nil {
		p.cmd.Events(e)
	}
}

// Identity finds the process again, also from another process.
func (p *Process) Identity() Identity { return p.id }

// QMP is the control connection, nil before [Process.Ready] has succeeded.
func (p *Process) QMP() *qmp.Client {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.qmp
}

// Done is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Alive reports whether the process runs.
func (p *Process) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Exit is how the process ended, the zero Exit while it runs.
func (p *Process) Exit() Exit {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.exit
}

// Halted reports whether the guest has shut itself down, which QEMU may
// outlive when it was started with -no-shutdown.
func (p *Process) Halted() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.halted
}

// Clean returns nil when QEMU has ended with status 0 because the guest shut
// down, and *[ExitError] otherwise. accept lists further reasons of QEMU that
// count as a clean end.
func (p *Process) Clean(accept ...string) error {
	e := p.Exit()
	if e.Status == 0 && e.Signal == "" {
		for _, r := range append([]string{"guest-shutdown"}, accept...) {
			if e.Reason == r {
				return nil
			}
		}
	}
	return &ExitError{p.cmd.Binary, e}
}

// PowerButton presses the guest's power button.
func (p *Process) PowerButton(ctx context.Context) error {
	c := p.QMP()
	if c == nil {
		return errors.New("power button: there is no control connection")
	}
	return c.Do(ctx, "system_powerdown", nil, nil)
}

// Wait waits until the process has ended. A guest that has shut down while
// QEMU stays is quit. It returns ctx's cause when ctx ends first.
func (p *Process) Wait(ctx context.Context) error {
	for {
		step, stop := context.WithTimeout(ctx, 2*time.Second)
		select {
		case <-p.done:
			stop()
			return nil
		case <-step.Done():
			stop()
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if c := p.QMP(); c != nil && p.Halted() {
			_ = c.Do(ctx, "quit", nil, nil) // the reason was kept before
		}
	}
}

// How long a step of [Process.Stop] may take.
const (
	quitTime = 10 * time.Second
	killTime = 10 * time.Second
)

// Stop ends the process: QMP quit (SIGTERM where there is no QMP), a bounded
// wait, SIGKILL. killed says whether the last was needed. It succeeds when the
// process has ended already.
func (p *Process) Stop(ctx context.Context) (killed bool, err error) {
	if !p.Alive() {
		return false, nil
	}
	qctx, stop := context.WithTimeout(ctx, quitTime)
	defer stop()
	if c := p.QMP(); c != nil {
		_ = c.Do(qctx, "quit", nil, nil) // what did not stop is killed below
	} else {
		_ = p.proc.Signal(syscall.SIGTERM)
	}
	select {
	case <-p.done:
		return false, nil
	case <-qctx.Done():
	}
	if err := p.proc.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return true, fmt.Errorf("kill process %d: %w", p.id.PID, err)
	}
	kctx, stop := context.WithTimeout(context.WithoutCancel(ctx), killTime)
	defer stop()
	select {
	case <-p.done:
		return true, nil
	case <-kctx.Done():
		return true, fmt.Errorf("process %d does not end after SIGKILL", p.id.PID)
	}
}

// Tail returns the last n lines of the file at path that are not empty, ""
// when there are none. At most 64 KiB are looked at.
func Tail(path string, n int) string {
	const most = 64 << 10
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	size := int64(0)
	if st, err := f.Stat(); err == nil {
		size = st.Size()
	}
	buf := make([]byte, min(size, most))
	got, _ := f.ReadAt(buf, size-int64(len(buf)))
	var lines []string
	for line := range strings.Lines(string(buf[:got])) {
		line = strings.TrimRight(line[strings.LastIndexByte(strings.TrimRight(line, "\r\n"), '\r')+1:], " \r\n\t")
		if line != "" {
			lines = append(lines, line)
		}
	}
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// Listening waits until the socket at path is there. It returns *[ExitError]
// when the process ended before.
func (p *Process) Listening(ctx context.Context, path string) error {
	return poll.Until(ctx, poll.Backoff{First: 10 * time.Millisecond, Max: 200 * time.Millisecond}, func(context.Context) (bool, error) {
		if !p.Alive() {
			return false, &ExitError{p.cmd.Binary, p.Exit()}
		}
		st, err := os.Stat(path)
		return err == nil && st.Mode().Type() == os.ModeSocket, nil
	})
}
