package winrm

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
)

const (
	// stdinChunk is how much one message of input carries, in bytes. It
	// grows by a third, and must stay under what the guest takes in one
	// envelope (500 KiB by default).
	stdinChunk = 336 << 10
	// endTime bounds what is told to a guest nobody waits for.
	endTime = 10 * time.Second
)

// A shell is one on the guest, in which commands are run. Each command of a
// caller has a shell of its own: what installers change in the environment
// shows only in new ones.
type shell struct {
	c  *Conn
	id string
}

func (c *Conn) call(ctx context.Context, action, shell string, options [][2]string, body string) (answer, error) {
	p, err := c.tr.post(ctx, envelope(c.tr.url, uuid.NewString(), action, shell, options, body))
	if err != nil {
		return answer{}, err
	}
	return parseAnswer(p)
}

func (c *Conn) open(ctx context.Context) (*shell, error) {
	a, err := c.call(ctx, createURI, "", [][2]string{{"WINRS_NOPROFILE", "FALSE"}, {"WINRS_CODEPAGE", "65001"}}, shellBody)
	if err != nil {
		return nil, fmt.Errorf("open a shell on the guest: %w", explain(err))
	}
	if a.shell() == "" {
		return nil, errors.New("open a shell on the guest: its answer names none")
	}
	return &shell{c, a.shell()}, nil
}

// close removes the shell, and with it whatever runs in it, in the background.
func (s *shell) close() {
	s.c.background.Go(func() {
		ctx, stop := context.WithTimeout(context.Background(), endTime)
		defer stop()
		_, _ = s.c.call(ctx, deleteURI, s.id, nil, "") // a guest that is gone keeps nothing
	})
}

// start starts a command and returns its id.
func (s *shell) start(ctx context.Context, line string) (string, error) {
	a, err := s.c.call(ctx, commandURI, s.id, [][2]string{{"WINRS_CONSOLEMODE_STDIN", "FALSE"}, {"WINRS_SKIP_CMD_SHELL", "FALSE"}}, commandBody(line))
	if err != nil {
		return "", err
	}
	if a.CommandID == "" {
		return "", errors.New("the guest's answer names no command")
	}
	return a.CommandID, nil
}

// run runs one command to its end. A Stdin that never ends is left alone when
// the command has: like that of a process, it is the caller's to close.
func (s *shell) run(ctx context.Context, cmd communicator.Cmd) error {
	id, err := s.start(ctx, cmd.Line)
	if err != nil {
		return err
	}
	input, stop := context.WithCancel(ctx)
	defer stop()
	var readFault atomic.Pointer[error]
	go s.pump(input, id, cmd.Stdin, &readFault)
	err = s.receive(ctx, id, cmd.Stdout, cmd.Stderr)
	if fault := readFault.Load(); fault != nil {
		return fmt.Errorf("read the input of the command: %w", *fault)
	}
	return err
}

// pump sends what r has to the command, and then the end of its input. What
// the guest says against it shows in how the command ends: one that has ended
// takes no more input, and that is no fault.
func (s *shell) pump(ctx context.Context, id string, r io.Reader, fault *atomic.Pointer[error]) {
	buf := make([]byte, stdinChunk)
	for r != nil {
		n, err := io.ReadAtLeast(r, buf, 1) // what is there, at once: it may be a conversation
		if n > 0 {
			if s.send(ctx, id, buf[:n], false) != nil {
				return
			}
		}
		if err != nil {
			if !errors.Is(err, io.EOF) {
				fault.Store(&err)
			}
			break
		}
	}
	_ = s.send(ctx, id, nil, true)
}

func (s *shell) send(ctx context.Context, id string, p []byte, end bool) error {
	_, err := s.c.call(ctx, sendURI, s.id, nil, sendBody(id, p, end))
	return err
}

// receive hands out what the command writes until it has ended. A guest that
// cannot be reached for a while is asked again: the command goes on there, and
// only what an answer that was lost had in it is missing.
func (s *shell) receive(ctx context.Context, id string, stdout, stderr io.Writer) error {
	var away time.Time
	for {
		a, err := s.c.call(ctx, receiveURI, s.id, nil, receiveBody(id))
		var wire *wireError
		switch {
		case err == nil:
			away = time.Time{}
		case isFault(err, codeTimeout):
			away = time.Time{}
			continue
		case context.Cause(ctx) != nil:
			s.terminate(ctx, id)
			return context.Cause(ctx)
		case errors.As(err, &wire):
			if away.IsZero() {
				away = time.Now()
				s.c.out.Emit(event.Detail{Text: fmt.Sprintf("the guest does not answer while a command runs, asking again: %v", err)})
			}
			if time.Since(away) > s.c.t.Patience {
				return &communicator.DisconnectError{Err: err}
			}
			_ = poll.Sleep(ctx, 200*time.Millisecond) // the next turn sees that ctx ended
			continue
		default:
			// A shell that is not there any more ended with the guest's WinRM
			// service; anything else leaves the command's end unknown too.
			return &communicator.DisconnectError{Err: err}
		}
		for _, st := range a.Streams {
			w := stdout
			if st.Name == "stderr" {
				w = stderr
			}
			if err := write(w, st.Data); err != nil {
				s.terminate(ctx, id)
				return err
			}
		}
		if a.State.State == doneURI {
			return exitStatus(a.State.Exit)
		}
	}
}

func write(w io.Writer, data string) error {
	if w == nil || data == "" {
		return nil
	}
	p, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(data), ""))
	if err != nil {
		return fmt.Errorf("the guest's output is not base64: %w", err)
	}
	if _, err := w.Write(p); err != nil {
		return fmt.Errorf("hand out the output of the command: %w", err)
	}
	return nil
}

// exitStatus judges an exit code. One without is no success: the service was
// stopped under the command.
func exitStatus(text string) error {
	code, err := strconv.ParseInt(text, 10, 64)
	switch {
	case err != nil:
		return &communicator.DisconnectError{Err: fmt.Errorf("the command ended without an exit code (%q)", text)}
	case code == 0:
		return nil
	}
	return &communicator.ExitError{Status: int(code)}
}

// terminate ends a command that nobody waits for.
func (s *shell) terminate(ctx context.Context, id string) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), endTime)
	defer stop()
	_, _ = s.c.call(ctx, signalURI, s.id, nil, signalBody(id)) // removing the shell ends it too
}
