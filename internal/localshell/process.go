package localshell

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/internal/communicator"
)

// grace is the time between SIGTERM and SIGKILL.
const grace = 10 * time.Second

// A process is a local command. It is the leader of a process group of its
// own, so that its children end with it; it reads nothing.
type process struct {
	argv           []string
	env            []string // the whole environment; of two values for a name the last counts
	stdout, stderr io.Writer
}

// run returns when the command has ended and nobody has its output open any
// more: what a child left in the background still writes is seen. The errors
// are those of communicator.Communicator.Run; after ctx ended it is ctx's
// cause.
func run(ctx context.Context, p process) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	cmd := exec.Command(p.argv[0], p.argv[1:]...) //nolint:noctx // ended below, with its whole group
	cmd.Env = p.env
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	var copies sync.WaitGroup
	var ours, theirs []*os.File
	connect := func(w io.Writer) (*os.File, error) {
		r, f, err := os.Pipe()
		if err != nil {
			return nil, err
		}
		ours, theirs = append(ours, r), append(theirs, f)
		copies.Go(func() { _, _ = io.Copy(w, r) })
		return f, nil
	}
	finish := func() {
		for _, f := range theirs {
			_ = f.Close()
		}
		copies.Wait()
		for _, f := range ours {
			_ = f.Close()
		}
	}
	stdout, err := connect(p.stdout)
	var stderr *os.File
	if err == nil {
		stderr, err = connect(p.stderr)
	}
	if err == nil {
		cmd.Stdout, cmd.Stderr = stdout, stderr
		err = cmd.Start()
	}
	if err != nil {
		finish()
		return fmt.Errorf("start %s: %w", p.argv[0], err)
	}
	for _, f := range theirs {
		_ = f.Close()
	}

	ended := make(chan error, 1) // the command has ended and its output was read
	go func() {
		err := cmd.Wait()
		copies.Wait()
		ended <- err
	}()
	select {
	case err = <-ended:
	case <-ctx.Done():
		err = endGroup(cmd.Process.Pid, ended, func() {
			for _, f := range ours {
				// A process that left the group may still hold the pipe.
				_ = f.SetReadDeadline(time.Now())
			}
		})
	}
	for _, f := range ours {
		_ = f.Close()
	}
	if cerr := context.Cause(ctx); cerr != nil {
		return cerr
	}
	return status(err)
}

// endGroup ends every process of the group, at last by force, and returns what
// ended does. The number of a group is not given away while it has a member.
func endGroup(pid int, ended <-chan error, cut func()) error {
	_ = syscall.Kill(-pid, syscall.SIGTERM)
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case err := <-ended:
		// A child that closed its output may have stayed.
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		return err
	case <-t.C:
		_ = syscall.Kill(-pid, syscall.SIGKILL)
		cut()
		return <-ended
	}
}

func status(err error) error {
	var exit *exec.ExitError
	if !errors.As(err, &exit) {
		return err
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return &communicator.ExitError{Status: 128 + int(ws.Signal()), Signal: signalName(ws.Signal())}
	}
	return &communicator.ExitError{Status: exit.ExitCode()}
}

// signalName is "KILL" for SIGKILL, as SSH names signals.
func signalName(s syscall.Signal) string {
	name := unix.SignalName(s)
	if len(name) > 3 {
		return name[3:]
	}
	return fmt.Sprint(int(s))
}
