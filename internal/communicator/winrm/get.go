package winrm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/powershell"
)

// Get implements [communicator.Communicator].
func (c *Conn) Get(ctx context.Context, src string, dst io.Writer) error {
	return c.download(ctx, src, false, func(e entry) error {
		_, err := dst.Write(e.data)
		return err
	})
}

// GetTree implements [communicator.Communicator].
func (c *Conn) GetTree(ctx context.Context, src, dst string) error {
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer root.Close()
	w := &treeWriter{root: root}
	err = c.download(ctx, src, true, w.add)
	return errors.Join(err, w.close())
}

// A treeWriter writes a download below root, out of which no name leads.
type treeWriter struct {
	root *os.Root
	file *os.File
}

func (w *treeWriter) add(e entry) error {
	if e.kind == 0 {
		_, err := w.file.Write(e.data)
		return err
	}
	if err := w.close(); err != nil {
		return err
	}
	name := path.Clean(strings.ReplaceAll(e.name, `\`, "/"))
	if e.kind == 'D' {
		return w.root.MkdirAll(name, 0o755)
	}
	if err := w.root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return err
	}
	f, err := w.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	w.file = f
	return err
}

func (w *treeWriter) close() error {
	if w.file == nil {
		return nil
	}
	err := w.file.Close()
	w.file = nil
	return err
}

// download runs the sender on the guest and hands out what it sends.
func (c *Conn) download(ctx context.Context, src string, tree bool, each func(entry) error) error {
	ctx, done, err := c.bind(ctx)
	if err != nil {
		return err
	}
	defer done()
	sh, err := c.reach(ctx)
	if err != nil {
		return err
	}
	defer sh.close()
	flag := "$false"
	if tree {
		flag = "$true"
	}
	r, w := io.Pipe()
	parsed := make(chan error, 1)
	go func() {
		err := entries(r, each)
		if err == nil {
			_, err = io.Copy(io.Discard, r)
		}
		r.CloseWithError(err)
		parsed <- err
	}()
	var said strings.Builder
	err = sh.run(ctx, communicator.Cmd{
		Line:   powershell.Command("$p=" + powershell.Quote(src) + "\n$tree=" + flag + "\n" + sender),
		Stdout: w, Stderr: &said,
	})
	_ = w.Close()
	perr := <-parsed
	var exit *communicator.ExitError
	var lost *communicator.DisconnectError
	switch {
	case errors.As(err, &exit):
		return fmt.Errorf("read %s on the guest: %s", src, firstLine(said.String(), exit))
	case errors.As(err, &lost), context.Cause(ctx) != nil:
		return err
	case perr != nil && !errors.Is(perr, errCut):
		return perr
	case err != nil:
		return err
	}
	return perr
}
