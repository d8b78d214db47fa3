package winscript

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/powershell"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/internal/poll"
)

const (
	// maxLine is the longest line cmd.exe takes.
	maxLine = 8191
	// cleanTime bounds the removal of files after ctx ended.
	cleanTime = 15 * time.Second
)

// A Job is files that are brought to the guest and a command that uses them.
type Job struct {
	Guest   communicator.Guest
	Out     event.Sink
	Files   []communicator.ScriptFile // the first is the one faults are about
	Line    string
	Keep    bool          // leave the files there
	Timeout time.Duration // of upload and start together
	Valid   []int         // good exit codes
}

// Run puts the files, runs the line and removes the files. A guest that cannot
// be reached, or goes away while the files are put, is tried again until
// Timeout is over; a command that was started is not started again.
func (j Job) Run(ctx context.Context) error {
	if len(j.Line) > maxLine {
		return diag.WithHint(fmt.Errorf("the command line has %d characters, and Windows takes %d", len(j.Line), maxLine),
			"give fewer or shorter environment_vars, or set them inside the script")
	}
	limit, stop := context.WithTimeout(ctx, j.Timeout)
	defer stop()
	var last error
	err := poll.Until(limit, poll.Backoff{First: time.Second, Max: 5 * time.Second}, func(context.Context) (bool, error) {
		// The limit is for the start: what was started runs under ctx.
		last = j.once(ctx)
		if again(last) && ctx.Err() == nil {
			j.Out.Emit(event.Detail{Text: fmt.Sprintf("could not start the script, trying again: %v", last)})
			return false, nil
		}
		return true, last
	})
	if ctx.Err() == nil && limit.Err() != nil && again(last) {
		return diag.WithHint(fmt.Errorf("the script was not started within %s: %w", j.Timeout, last),
			"a guest that restarts for longer needs a greater start_retry_timeout")
	}
	var put *communicator.PutError
	var lost *communicator.DisconnectError
	if errors.As(err, &put) {
		return err
	}
	if errors.As(err, &lost) && ctx.Err() == nil {
		return diag.WithHint(fmt.Errorf("script disconnected unexpectedly: %w", err),
			"the guest restarted or its service was stopped: let the script end first, and restart with the provisioner windows-restart")
	}
	return script.CheckExit(err, j.Valid)
}

// again reports whether err says that nothing was started and may be startable
// later.
func again(err error) bool {
	var exit *communicator.ExitError
	var lost *communicator.DisconnectError
	var key *communicator.HostKeyError
	var put *communicator.PutError
	var connect *communicator.ConnectError
	var auth *communicator.AuthError
	if err == nil || errors.As(err, &key) || errors.Is(err, communicator.ErrNoConnection) {
		return false
	}
	unreached := errors.As(err, &connect) || errors.As(err, &auth)
	isLost, isExit := errors.As(err, &lost), errors.As(err, &exit)
	if errors.As(err, &put) {
		return unreached || isLost
	}
	return unreached || !isLost && !isExit
}

func (j Job) once(ctx context.Context) error {
	stdout, stderr := event.Lines(j.Out, false), event.Lines(j.Out, true)
	defer stdout.Close()
	defer stderr.Close()
	// Over SSH a script travels as a program of the POSIX shell, which a
	// Windows guest need not have.
	runner, ok := j.Guest.Communicator.(communicator.ScriptRunner)
	if ok && j.Guest.Data.ConnType == "winrm" {
		first := j.Files[0]
		return runner.RunScript(ctx, communicator.Script{
			Path: first.Path, Mode: first.Mode, Body: first.Body, Extra: j.Files[1:], Line: j.Line, Keep: j.Keep,
			Stdout: stdout, Stderr: stderr,
		})
	}
	return j.apart(ctx, stdout, stderr)
}

// apart is once with one call after another.
func (j Job) apart(ctx context.Context, stdout, stderr io.Writer) error {
	for _, f := range j.Files {
		if err := j.Guest.Put(ctx, f.Path, f.Mode, bytes.NewReader(f.Body), int64(len(f.Body))); err != nil {
			var put *communicator.PutError
			if !errors.As(err, &put) {
				err = &communicator.PutError{Path: f.Path, Err: err}
			}
			return err
		}
	}
	err := j.Guest.Run(ctx, communicator.Cmd{Line: j.Line, Stdout: stdout, Stderr: stderr})
	var lost *communicator.DisconnectError
	if j.Keep || errors.As(err, &lost) {
		return err
	}
	clean, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer stop()
	if rerr := j.Guest.Run(clean, communicator.Cmd{Line: removal(j.Files)}); err == nil && rerr != nil {
		err = fmt.Errorf("remove the script %s: %w", j.Files[0].Path, rerr)
	}
	return err
}

// removal is a line for whichever shell the guest has.
func removal(files []communicator.ScriptFile) string {
	names := make([]string, 0, len(files))
	for _, f := range files {
		names = append(names, powershell.Quote(f.Path))
	}
	return powershell.Command(powershell.Quiet + "Remove-Item -LiteralPath " + strings.Join(names, ",") + " -Force -ErrorAction SilentlyContinue")
}
