package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-build/ingot/internal/communicator"
)

func TestRun(t *testing.T) {
	c := dial(t, newSSHD(t).target(), nil)
	stdout, stderr, err := output(t, c, "echo out; echo err >&2; cat")
	if err != nil || stdout != "out\n" || stderr != "err\n" {
		t.Errorf("got %q %q %v", stdout, stderr, err)
	}
	var both bytes.Buffer
	in := strings.Repeat("0123456789abcdef", 1<<16)
	if err := c.Run(t.Context(), communicator.Cmd{Line: "cat; echo e >&2", Stdin: strings.NewReader(in), Stdout: &both, Stderr: &both}); err != nil {
		t.Fatal(err)
	}
	if both.Len() != len(in)+2 {
		t.Errorf("%d bytes came back of %d", both.Len(), len(in)+2)
	}
}

func TestRunTellsHowACommandEnded(t *testing.T) {
	s := newSSHD(t)
	c := dial(t, s.target(), nil)
	for line, want := range map[string]communicator.ExitError{
		"exit 3":       {Status: 3},
		"kill -9 $$":   {Status: 137, Signal: "KILL"},
		"no-such-prog": {Status: 127},
	} {
		_, _, err := output(t, c, line)
		var exit *communicator.ExitError
		if !errors.As(err, &exit) || *exit != want {
			t.Errorf("%s: %#v, want %+v", line, err, want)
		}
	}
	// sshd's process for this connection is the parent of the shell's.
	_, _, err := output(t, c, "kill -9 $PPID")
	var lost *communicator.DisconnectError
	if !errors.As(err, &lost) {
		t.Errorf("a session without a status: %v", err)
	}
	if stdout, _, err := output(t, c, "echo again"); err != nil || stdout != "again\n" {
		t.Errorf("after a break: %q %v", stdout, err)
	}
}

func TestRunIsParallelPastTheServersLimit(t *testing.T) {
	c := dial(t, newSSHD(t, "MaxSessions 3").target(), nil)
	var wg sync.WaitGroup
	for i := range 12 {
		wg.Go(func() {
			stdout, _, err := output(t, c, fmt.Sprintf("echo %d; sleep 0.05", i))
			if want := fmt.Sprintf("%d\n", i); err != nil || stdout != want {
				t.Errorf("got %q, want %q: %v", stdout, want, err)
			}
		})
	}
	wg.Wait()
}

func TestCancelEndsTheCommand(t *testing.T) {
	t.Parallel()
	c := dial(t, newSSHD(t).target(), nil)
	dir := shortTemp(t)
	script := communicator.Script{Path: dir + "/s", Mode: 0o700, Body: []byte("echo $$; sleep 1000"), Line: "sh " + dir + "/s"}
	for name, run := range map[string]func(context.Context, writerFunc) error{
		"command": func(ctx context.Context, w writerFunc) error {
			return c.Run(ctx, communicator.Cmd{Line: "echo $$; while echo x; do sleep 0.1; done", Stdout: w})
		},
		"script": func(ctx context.Context, w writerFunc) error {
			s := script
			s.Stdout = w
			return c.RunScript(ctx, s)
		},
	} {
		ctx, cancel := context.WithCancelCause(testContext(t))
		why := errors.New("why")
		pid := make(chan string, 1)
		err := run(ctx, func(p []byte) (int, error) {
			select {
			case pid <- strings.Fields(string(p))[0]:
			default:
			}
			cancel(why)
			return len(p), nil
		})
		if !errors.Is(err, why) {
			t.Errorf("%s: err = %v", name, err)
		}
		proc := "/proc/" + <-pid
		waitFor(t, name+" to end", func() bool { _, err := os.Stat(proc); return err != nil })
		if left, _ := os.ReadDir(dir); len(left) != 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
		if _, _, err := output(t, c, "true"); err != nil {
			t.Errorf("%s: the connection did not survive: %v", name, err)
		}
	}
}

func TestPTY(t *testing.T) {
	c := dial(t, newSSHD(t).target(), func(cfg *communicator.Config) { cfg.SSHPty = true })
	stdout, _, err := output(t, c, "tty >/dev/null && echo terminal; echo err >&2; stty size; cat")
	if err != nil || stdout != "terminal\r\nerr\r\n40 80\r\n" {
		t.Errorf("got %q %v", stdout, err)
	}
	dir := shortTemp(t)
	var out bytes.Buffer
	body := []byte("#!/bin/sh\n# \x04\x00\x03 not for a terminal\ntest -t 1 && echo yes\nexit 4\n")
	err = c.RunScript(testContext(t), communicator.Script{
		Path: filepath.Join(dir, "s"), Mode: 0o755, Body: body, Line: filepath.Join(dir, "s"), Stdout: &out,
	})
	var exit *communicator.ExitError
	if !errors.As(err, &exit) || exit.Status != 4 || out.String() != "yes\r\n" {
		t.Errorf("script on a terminal: %q %v", out.String(), err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
}

type writerFunc func([]byte) (int, error)

func (f writerFunc) Write(p []byte) (int, error) { return f(p) }
