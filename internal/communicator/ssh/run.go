package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/communicator"
)

// endWithin is how long a cancelled command has to end before it is left to
// itself.
const endWithin = time.Second

// A command is one exec request.
type command struct {
	line   string
	input  func(io.Writer) error // writes the standard input; nil: there is none
	stdout io.Writer             // nil: dropped
	stderr io.Writer             // nil: dropped
	pty    bool
}

// Run implements [communicator.Communicator]. The session of a cancelled
// command is closed, and it gets TERM where the server passes signals on;
// OpenSSH does not for root, whose commands then end when they next write.
// With ssh_pty the command runs on a terminal.
func (c *Conn) Run(ctx context.Context, cmd communicator.Cmd) error {
	run := command{line: cmd.Line, stdout: cmd.Stdout, stderr: cmd.Stderr, pty: c.cfg.SSHPty}
	if cmd.Stdin != nil {
		run.input = func(w io.Writer) error {
			_, err := io.Copy(w, cmd.Stdin)
			return err
		}
	}
	return c.exec(ctx, run)
}

// exec runs a command over the live connection, or over a new one when there
// is none. The connection is made anew once when it turns out to be broken
// before the command was sent.
func (c *Conn) exec(ctx context.Context, cmd command) error {
	anew, stale := false, false
	for {
		l, err := c.current(ctx)
		if err != nil {
			return err
		}
		s, early, err := l.session(ctx)
		var lost *communicator.DisconnectError
		if errors.As(err, &lost) && !anew && ctx.Err() == nil {
			anew = true
			l.close(nil)
			<-l.done
			continue
		}
		if err != nil {
			return err
		}
		err = l.run(ctx, s, cmd)
		l.release()
		// The server may have closed a session while it was unused.
		if errors.Is(err, errNotStarted) && early && !stale && ctx.Err() == nil {
			stale = true
			continue
		}
		if errors.Is(err, errNotStarted) {
			return l.lost(err)
		}
		return err
	}
}

// errNotStarted says that a session was closed before it took a command.
var errNotStarted = errors.New("the session was closed before the command started")

// run runs cmd in s and closes s.
func (l *link) run(ctx context.Context, s *gossh.Session, cmd command) error {
	// One lock for both: they may be one writer.
	var mu sync.Mutex
	stdout, stderr := &gate{mu: &mu, w: cmd.stdout}, &gate{mu: &mu, w: cmd.stderr}
	defer stdout.close()
	defer stderr.close()
	s.Stdout, s.Stderr = stdout, stderr
	ended := make(chan error, 1)
	go func() { ended <- l.talk(ctx, s, cmd) }()
	select {
	case err := <-ended:
		_ = s.Close()
		return l.result(err, stdout, stderr)
	case <-l.done:
		late := time.NewTimer(endWithin)
		defer late.Stop()
		select {
		case err := <-ended:
			return l.result(err, stdout, stderr)
		case <-late.C:
			return l.lost(io.EOF)
		}
	case <-ctx.Done():
	}
	// Sending may block on a dead connection.
	closed := make(chan struct{})
	go func() {
		_ = s.Signal(gossh.SIGTERM)
		_ = s.Close()
		close(closed)
	}()
	late := time.NewTimer(endWithin)
	defer late.Stop()
	select {
	case <-ended:
		<-closed
	case <-late.C:
	}
	return context.Cause(ctx)
}

// talk starts the command, feeds it and waits for its end. It runs until the
// server has closed the session or the link is broken.
func (l *link) talk(ctx context.Context, s *gossh.Session, cmd command) error {
	stdin, err := s.StdinPipe()
	if err != nil {
		return err
	}
	if l.agent {
		// No reply is asked for: a server that refuses ignores it, and it
		// would cost a round trip.
		if _, err := s.SendRequest("auth-agent-req@openssh.com", false, nil); err != nil {
			return errNotStarted
		}
	}
	if cmd.pty {
		modes := gossh.TerminalModes{gossh.ECHO: 0, gossh.TTY_OP_ISPEED: 14400, gossh.TTY_OP_OSPEED: 14400}
		if err := s.RequestPty("xterm", 40, 80, modes); errors.Is(err, io.EOF) {
			return errNotStarted
		} else if err != nil {
			return fmt.Errorf("ssh_pty: the guest gives no terminal: %w", err)
		}
	}
	switch err := s.Start(cmd.line); {
	case errors.Is(err, io.EOF):
		return errNotStarted
	case err != nil: // the library's text holds the command, which may hold a secret
		return errors.New("the guest's SSH server refuses to run commands")
	}
	fed := make(chan error, 1)
	go func() {
		var err error
		switch {
		case cmd.input != nil:
			err = cmd.input(stdin)
		case cmd.pty:
			// The end of the stream does not reach a program that reads from
			// a terminal; the terminal's own end-of-file character does.
			_, _ = stdin.Write([]byte{4})
		}
		if err == nil || errors.Is(err, io.EOF) { // io.EOF: the command ended without reading all
			_ = stdin.Close()
			return
		}
		fed <- err
		_ = s.Signal(gossh.SIGTERM)
		_ = s.Close()
	}()
	err = s.Wait()
	select {
	case bad := <-fed:
		return &inputError{bad}
	default:
		return err
	}
}

// inputError says that what was to be sent could not be read here.
type inputError struct{ err error }

func (e *inputError) Error() string { return e.err.Error() }
func (e *inputError) Unwrap() error { return e.err }

// result translates the end of a session.
func (l *link) result(err error, stdout, stderr *gate) error {
	var exit *gossh.ExitError
	var missing *gossh.ExitMissingError
	var input *inputError
	switch {
	case err == nil:
		return errors.Join(stdout.fault(), stderr.fault())
	case errors.As(err, &exit):
		return &communicator.ExitError{Status: exit.ExitStatus(), Signal: exit.Signal()}
	case errors.As(err, &input):
		return input.err
	case errors.As(err, &missing):
		return l.lost(errors.New("the session ended without an exit status"))
	case errors.Is(err, errNotStarted):
		return err
	case l.broken():
		return l.lost(err)
	}
	return err
}

// A gate passes writes on until it is closed, so that no writer is touched
// after the call it was given to. A writer that fails gets nothing more, and
// the rest is dropped: the command goes on.
type gate struct {
	mu   *sync.Mutex
	w    io.Writer
	err  error
	shut bool
}

func (g *gate) Write(p []byte) (int, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.w != nil && !g.shut && g.err == nil {
		_, g.err = g.w.Write(p)
	}
	return len(p), nil
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut = true
}

func (g *gate) fault() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}
