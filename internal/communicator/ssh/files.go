package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
)

// copyBuffer is the size of a read from a file that goes to the guest.
const copyBuffer = 256 << 10

// Put implements [communicator.Communicator]. The file is written in place,
// readable by its owner alone until it is complete; after an error a part of
// it may be there. A leading "~/" is the user's home. When the guest cannot
// write it the error is a *[communicator.PutError].
func (c *Conn) Put(ctx context.Context, dst string, mode fs.FileMode, src io.Reader, size int64) error {
	counted := &counter{r: src}
	err := c.put(ctx, dst, mode, counted)
	if err == nil && size >= 0 && counted.n != size {
		return fmt.Errorf("%s: the source has %d bytes, not %d as promised", dst, counted.n, size)
	}
	return err
}

func (c *Conn) put(ctx context.Context, dst string, mode fs.FileMode, src *counter) error {
	name, ok := guestName(dst)
	if ok && c.cfg.SSHFileTransferMethod != "sftp" {
		err := c.runProgram(ctx, program{
			text:   putProgram,
			header: func(string) string { return fmt.Sprintf("%04o\n%s\n", mode.Perm(), name) },
			body: func(w io.Writer, said chan string) error {
				// The first time nothing is read from src before it is known
				// that the shell takes it.
				if !c.hasShell.Load() && <-said != "ok" {
					return nil
				}
				_, err := io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{src}, make([]byte, copyBuffer))
				return err
			},
		})
		if !errors.Is(err, errNoShell) {
			return putError(dst, err)
		}
	}
	return putError(dst, c.sftpPut(ctx, dst, mode, src))
}

// putError makes what the guest said a *communicator.PutError.
func putError(name string, err error) error {
	var f *failure
	var r *refusal
	var s *sftpError
	if errors.As(err, &f) || errors.As(err, &r) || errors.As(err, &s) {
		return diag.WithHint(&communicator.PutError{Path: name, Err: err},
			"check that the folder exists on the guest, that the user may write there and that the disk is not full; /tmp is a good place to put a file before sudo moves it")
	}
	return err
}

// Get implements [communicator.Communicator]. What was received before an
// error has been written to dst.
func (c *Conn) Get(ctx context.Context, src string, dst io.Writer) error {
	name, ok := guestName(src)
	if ok && c.cfg.SSHFileTransferMethod != "sftp" {
		err := c.runProgram(ctx, program{
			text:   getProgram,
			header: func(string) string { return name + "\n" },
			stdout: dst,
			frame:  2,
		})
		if !errors.Is(err, errNoShell) {
			return getError(src, err)
		}
	}
	return getError(src, c.sftpGet(ctx, src, dst))
}

func getError(name string, err error) error {
	var f *failure
	var r *refusal
	var s *sftpError
	if errors.As(err, &f) || errors.As(err, &r) || errors.As(err, &s) {
		return fmt.Errorf("read %s on the guest: %w", name, err)
	}
	return err
}

// remove removes files of the guest; it is no error when they are not there.
// group, when not empty, is a process group to end before.
func (c *Conn) remove(ctx context.Context, group string, names []string) error {
	var lines strings.Builder
	lines.WriteString(group + "\n")
	for _, n := range names {
		name, ok := guestName(n)
		if !ok {
			return c.sftpRemove(ctx, names)
		}
		lines.WriteString(name + "\n")
	}
	err := c.runProgram(ctx, program{text: removeProgram, header: func(string) string { return lines.String() }})
	if errors.Is(err, errNoShell) {
		return c.sftpRemove(ctx, names)
	}
	return err
}

// guestName makes a name one that a program takes as a file whatever its
// first letter is; a name that is not a single line cannot be one.
func guestName(name string) (string, bool) {
	if strings.ContainsAny(name, "\n\x00") || name == "" {
		return "", false
	}
	for _, home := range []string{"$HOME/", "${HOME}/"} {
		if rest, ok := strings.CutPrefix(name, home); ok {
			return "~/" + rest, true
		}
	}
	switch {
	case name == "~":
		return "~/", true
	case strings.HasPrefix(name, "/"), strings.HasPrefix(name, "~/"):
		return name, true
	}
	return "./" + name, true
}

// A counter counts what is read.
type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
