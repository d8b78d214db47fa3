package shell

import (
	"bytes"
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/internal/poll"
)

// maxWhole is the size up to which a script travels together with the command
// that runs it. What is longer is streamed.
const maxWhole = 8 << 20

// cleanTime bounds the removal of a script after ctx ended.
const cleanTime = 15 * time.Second

// Apply implements [provisioner.Provisioner].
func (s *shell) Apply(ctx context.Context, g communicator.Guest, out event.Sink) error {
	for _, src := range s.sources {
		if err := s.run(ctx, g, out, src); err != nil {
			return err
		}
	}
	if s.cfg.PauseAfter > 0 {
		out.Emit(event.Say{Text: fmt.Sprintf("Pausing %s after this provisioner...", s.cfg.PauseAfter)})
		return poll.Sleep(ctx, s.cfg.PauseAfter)
	}
	return nil
}

// A job is one script on its way.
type job struct {
	*shell
	src     source
	g       communicator.Guest
	out     event.Sink
	path    string // of the script on the guest
	envPath string
	vars    string // the variables as env_var_format writes them
	line    string
}

func (s *shell) run(ctx context.Context, g communicator.Guest, out event.Sink, src source) error {
	out.Emit(event.Say{Text: "Provisioning with shell script: " + src.name})
	j := &job{shell: s, src: src, g: g, out: out}
	j.path, j.envPath = s.remote(randomName())
	j.vars = s.env.With(g.Data).Format(s.cfg.EnvVarFormat)
	data := map[string]any{"Path": j.path, "Vars": j.vars}
	if s.cfg.UseEnvVarFile {
		data["EnvVarFile"] = j.envPath
	}
	var err error
	if j.line, err = s.command.Render(script.BuildData(g.Data, data)); err != nil {
		return diag.WithHint(fmt.Errorf("execute_command: %w", err),
			"it may name .Path, .Vars, .EnvVarFile (with use_env_var_file) and the values of build.*")
	}
	return j.do(ctx)
}

// do puts and runs the script. A guest that cannot be reached, or goes away
// while the script is put, is tried again until start_retry_timeout is over;
// a script that was started is not started again.
func (j *job) do(ctx context.Context) error {
	limit, stop := context.WithTimeout(ctx, j.cfg.StartRetryTimeout)
	defer stop()
	var last error
	err := poll.Until(limit, poll.Backoff{First: time.Second, Max: 5 * time.Second}, func(context.Context) (bool, error) {
		// The limit is for the start: what was started runs under ctx.
		last = j.exchange(ctx)
		if again(last) && ctx.Err() == nil {
			j.out.Emit(event.Detail{Text: fmt.Sprintf("could not start the script, trying again: %v", last)})
			return false, nil
		}
		return true, last
	})
	if ctx.Err() == nil && limit.Err() != nil && again(last) {
		return diag.WithHint(fmt.Errorf("the script was not started within %s: %w", j.cfg.StartRetryTimeout, last),
			"a guest that reboots for longer needs a greater start_retry_timeout")
	}
	var lost *communicator.DisconnectError
	var put *communicator.PutError
	if errors.As(err, &put) {
		return err
	}
	gone := errors.As(err, &lost)
	if ctx.Err() != nil || !gone && !(j.cfg.ExpectDisconnect && endedByShutdown(err)) {
		return script.CheckExit(err, j.cfg.ValidExitCodes)
	}
	if !j.cfg.ExpectDisconnect {
		err = fmt.Errorf("script disconnected unexpectedly: %w", err)
		if diag.Hint(err) != "" {
			return err // the connection knows why
		}
		return diag.WithHint(err, "the guest rebooted, or its sshd was ended: if the script means to, set expect_disconnect = true, "+
			"and pause_after (or pause_before in the next provisioner) where the guest goes down a while later; "+
			"otherwise the guest's console tells why it went away")
	}
	j.out.Emit(event.Say{Text: "The connection was lost, as expected."})
	if j.cfg.SkipClean {
		return nil
	}
	return j.clean(ctx)
}

// endedByShutdown reports whether the script was ended the way a machine that
// goes down ends what runs on it, which may be seen before the connection ends.
func endedByShutdown(err error) bool {
	var exit *communicator.ExitError
	if !errors.As(err, &exit) {
		return false
	}
	// The second form is that of a shell whose command got the signal.
	return exit.Signal == "TERM" || exit.Signal == "HUP" || exit.Status == 128+15 || exit.Status == 128+1
}

// again reports whether err says that the script was not started and may be
// startable later: the guest is booting, its sshd restarting.
func again(err error) bool {
	var exit *communicator.ExitError
	var lost *communicator.DisconnectError
	var key *communicator.HostKeyError
	var put *communicator.PutError
	var read *readError
	if err == nil || errors.As(err, &key) || errors.As(err, &read) || errors.Is(err, communicator.ErrNoConnection) {
		return false
	}
	unreached := unreachable(err)
	isLost, isExit := errors.As(err, &lost), errors.As(err, &exit)
	if errors.As(err, &put) {
		// The guest itself saying no (a full disk, a missing folder) is final;
		// a shell that was killed under it is a guest going down.
		return unreached || isLost || isExit && exit.Signal != ""
	}
	return unreached || !isLost && !isExit
}

// unreachable reports whether nothing was asked of the guest yet.
func unreachable(err error) bool {
	var connect *communicator.ConnectError
	var auth *communicator.AuthError
	return errors.As(err, &connect) || errors.As(err, &auth)
}

// A readError says that a script could not be read on this machine.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

// exchange puts, runs and removes the script once.
func (j *job) exchange(ctx context.Context) error {
	stdout, stderr := event.Lines(j.out, false), event.Lines(j.out, true)
	defer stdout.Close()
	defer stderr.Close()

	r, done, err := j.read(j.src)
	if err != nil {
		return &readError{err}
	}
	defer done()
	head, err := io.ReadAll(io.LimitReader(r, maxWhole+1))
	if err != nil {
		return &readError{fmt.Errorf("read script %s: %w", j.src.name, err)}
	}
	runner, ok := j.g.Communicator.(communicator.ScriptRunner)
	if ok && len(head) <= maxWhole {
		return runner.RunScript(ctx, communicator.Script{
			Path: j.path, Mode: 0o755, Body: head, Extra: j.extra(), Line: j.line, Keep: j.cfg.SkipClean,
			Stdout: stdout, Stderr: stderr,
		})
	}
	return j.apart(ctx, io.MultiReader(bytes.NewReader(head), r), stdout, stderr)
}

func (j *job) extra() []communicator.ScriptFile {
	if !j.cfg.UseEnvVarFile {
		return nil
	}
	return []communicator.ScriptFile{{Path: j.envPath, Mode: 0o600, Body: []byte(j.vars)}}
}

// apart is exchange one call at a time.
func (j *job) apart(ctx context.Context, body io.Reader, stdout, stderr io.Writer) error {
	if err := j.g.Put(ctx, j.path, 0o755, body, -1); err != nil {
		return asPut(j.path, err)
	}
	for _, f := range j.extra() {
		if err := j.g.Put(ctx, f.Path, f.Mode, bytes.NewReader(f.Body), int64(len(f.Body))); err != nil {
			j.cleanUp(ctx)
			return asPut(f.Path, err)
		}
	}
	err := j.g.Run(ctx, communicator.Cmd{Line: j.line, Stdout: stdout, Stderr: stderr})
	var lost *communicator.DisconnectError
	if j.cfg.SkipClean || errors.As(err, &lost) || ctx.Err() != nil {
		return err
	}
	if cerr := j.clean(ctx); err == nil {
		err = cerr
	}
	return err
}

func asPut(path string, err error) error {
	var put *communicator.PutError
	if errors.As(err, &put) {
		return err
	}
	return &communicator.PutError{Path: path, Err: err}
}

// cleanUp removes what a failed start left, in a bounded time. Its own failure
// has no meaning: the next try puts the same files.
func (j *job) cleanUp(ctx context.Context) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer stop()
	_ = j.g.Run(ctx, communicator.Cmd{Line: j.removal()})
}

func (j *job) removal() string {
	line := "rm -f " + script.Quote(j.path)
	if j.cfg.UseEnvVarFile {
		line += " " + script.Quote(j.envPath)
	}
	return line
}

// clean removes the script, for as long as the guest may need to come back.
func (j *job) clean(ctx context.Context) error {
	limit, stop := context.WithTimeout(ctx, j.cfg.StartRetryTimeout)
	defer stop()
	var last error
	err := poll.Until(limit, poll.Backoff{First: time.Second, Max: 5 * time.Second}, func(ctx context.Context) (bool, error) {
		last = j.g.Run(ctx, communicator.Cmd{Line: j.removal()})
		var exit *communicator.ExitError
		var key *communicator.HostKeyError
		final := errors.As(last, &exit) && exit.Signal == "" || errors.As(last, &key) || errors.Is(last, communicator.ErrNoConnection)
		if last == nil || final {
			return true, last
		}
		j.out.Emit(event.Detail{Text: fmt.Sprintf("could not remove the script, trying again: %v", last)})
		return false, nil
	})
	if err == nil {
		return nil
	}
	if ctx.Err() == nil && last != nil {
		err = last
	}
	return diag.WithHint(fmt.Errorf("remove the script %s: %w", j.path, err),
		"where the guest does not come back after this script, set skip_clean = true")
}

func randomName() string {
	var b [6]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
