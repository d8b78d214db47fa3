package ssh

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
)

// maxStreamed is up to which size a script's files go with the command. More
// than that is faster, and no slower to start, as files of their own.
const maxStreamed = 4 << 20

// RunScript implements [communicator.ScriptRunner]: one session writes the
// files, runs the line in the login shell with its standard input at its end,
// and removes the files. With ssh_pty, and where the guest's tools are not up
// to it, the same is done in several steps.
func (c *Conn) RunScript(ctx context.Context, s communicator.Script) (err error) {
	files := append(append([]communicator.ScriptFile(nil), s.Extra...),
		communicator.ScriptFile{Path: s.Path, Mode: s.Mode, Body: s.Body})
	var group atomic.Value // of the script's processes
	defer func() {
		if ctx.Err() != nil {
			id, _ := group.Load().(string)
			c.cleanUp(ctx, id, files, s.Keep)
		}
	}()
	if c.streamable(files) {
		var sent atomic.Bool // all of it: before, the script cannot have started
		err := c.streamScript(ctx, s, files, &sent, func(word string) { group.Store(processID(word)) })
		var r *refusal
		var lost *communicator.DisconnectError
		switch {
		case errors.As(err, &lost) && !sent.Load():
			return &communicator.PutError{Path: s.Path, Err: err}
		case errors.As(err, &r) && r.word == "head":
			c.noScript.Store(true)
		case errors.As(err, &r):
			return putError(s.Path, err)
		case !errors.Is(err, errNoShell):
			return err
		}
	}
	return c.putAndRun(ctx, s, files)
}

func (c *Conn) streamable(files []communicator.ScriptFile) bool {
	if c.cfg.SSHPty || c.noShell.Load() || c.noScript.Load() {
		return false
	}
	size := 0
	for _, f := range files {
		if _, ok := guestName(f.Path); !ok {
			return false
		}
		size += len(f.Body)
	}
	return size <= maxStreamed
}

func (c *Conn) streamScript(ctx context.Context, s communicator.Script, files []communicator.ScriptFile, sent *atomic.Bool, told func(string)) error {
	stderr := s.Stderr
	if stderr == nil {
		stderr = io.Discard
	}
	return c.runProgram(ctx, program{
		text: scriptProgram,
		header: func(token string) string {
			var b strings.Builder
			keep := 0
			if s.Keep {
				keep = 1
			}
			fmt.Fprintf(&b, "%d\n%d\n%s\n", keep, strings.Count(s.Line, "\n")+1, s.Line)
			for _, f := range files {
				name, _ := guestName(f.Path)
				fmt.Fprintf(&b, "%d\n%04o\n%s\n%s%s\n", len(f.Body), f.Mode.Perm(), name, f.Body, token)
			}
			b.WriteString("-1\n")
			return b.String()
		},
		body: func(io.Writer, chan string) error {
			sent.Store(true)
			return nil
		},
		told:   told,
		stdout: s.Stdout,
		stderr: stderr,
	})
}

// putAndRun does what streamScript does, in a step for each file.
func (c *Conn) putAndRun(ctx context.Context, s communicator.Script, files []communicator.ScriptFile) error {
	for _, f := range files {
		if err := c.Put(ctx, f.Path, f.Mode, bytes.NewReader(f.Body), int64(len(f.Body))); err != nil {
			return err
		}
	}
	err := c.Run(ctx, communicator.Cmd{Line: s.Line, Stdout: s.Stdout, Stderr: s.Stderr})
	var lost *communicator.DisconnectError
	if s.Keep || ctx.Err() != nil || errors.As(err, &lost) {
		return err
	}
	if rmErr := c.remove(ctx, "", paths(files)); rmErr != nil && err == nil {
		// A script that makes the guest go away has succeeded.
		if errors.As(rmErr, &lost) {
			return nil
		}
		return fmt.Errorf("remove the script from the guest: %w", rmErr)
	}
	return err
}

// cleanUp ends a cancelled script and removes its files, if the guest lets us.
// A server without privilege separation, as for root, passes no signal on, so
// it is sent by a command.
func (c *Conn) cleanUp(ctx context.Context, group string, files []communicator.ScriptFile, keep bool) {
	if l, err := c.live(); l == nil || err != nil {
		return
	}
	if keep {
		files = nil
	}
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer stop()
	_ = c.remove(ctx, group, paths(files))
}

// processID returns the number in "ok NUMBER", "" when there is none.
func processID(word string) string {
	id := strings.TrimPrefix(word, "ok ")
	if n, err := strconv.ParseUint(id, 10, 31); err != nil || n < 2 {
		return ""
	}
	return id
}

func paths(files []communicator.ScriptFile) []string {
	var out []string
	for _, f := range files {
		out = append(out, f.Path)
	}
	return out
}
