package winrm

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-build/ingot/internal/communicator"
)

const (
	// sideBySide is how many receivers share a large transfer: each waits
	// for the guest between two messages.
	sideBySide = 4
	// defaultLarge is the size in bytes from which that is worth their start.
	defaultLarge = 4 << 20
)

// Put implements [communicator.Communicator]. mode has no meaning on Windows.
// Folders on the way to dst are made, %VARIABLES% in it are expanded there.
func (c *Conn) Put(ctx context.Context, dst string, _ fs.FileMode, src io.Reader, size int64) error {
	ctx, done, err := c.bind(ctx)
	if err != nil {
		return err
	}
	defer done()
	if size >= c.large {
		err = c.putLarge(ctx, dst, src, size)
	} else {
		err = c.putSmall(ctx, dst, src)
	}
	return asPut(dst, err)
}

// asPut tells a guest that refused a file from one that went away.
func asPut(dst string, err error) error {
	var lost *communicator.DisconnectError
	var put *communicator.PutError
	var read *readError
	switch {
	case err == nil, errors.As(err, &lost), errors.As(err, &put), errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case errors.As(err, &read):
		return read.err
	}
	return &communicator.PutError{Path: dst, Err: err}
}

// A readError is a fault on this machine.
type readError struct{ err error }

func (e *readError) Error() string { return e.err.Error() }
func (e *readError) Unwrap() error { return e.err }

func (c *Conn) putSmall(ctx context.Context, dst string, src io.Reader) error {
	u, err := c.upload(ctx)
	if err != nil {
		return err
	}
	defer u.close()
	b := &batch{u: u}
	if err := b.file(ctx, dst, src, nil); err != nil {
		return err
	}
	return b.finish(ctx)
}

// A batch gathers lines into full messages.
type batch struct {
	u      *upload
	lines  []byte
	packer packer
}

func (b *batch) add(ctx context.Context, lines ...byte) error {
	if len(b.lines) > 0 && len(b.lines)+len(lines) > stdinChunk {
		if err := b.flush(ctx); err != nil {
			return err
		}
	}
	b.lines = append(b.lines, lines...)
	return nil
}

func (b *batch) flush(ctx context.Context) error {
	if len(b.lines) == 0 {
		return nil
	}
	err := b.u.send(ctx, b.lines)
	b.lines = b.lines[:0]
	return err
}

func (b *batch) finish(ctx context.Context) error {
	if err := b.flush(ctx); err != nil {
		return err
	}
	return b.u.finish(ctx)
}

// file adds a file from its beginning to its end.
func (b *batch) file(ctx context.Context, dst string, src io.Reader, progress func(n int)) error {
	if err := b.add(ctx, []byte("F "+b64(dst)+" -1\r\n")...); err != nil {
		return err
	}
	buf := b.packer.chunk()
	for {
		n, err := io.ReadFull(src, buf)
		if n > 0 {
			l, lerr := b.packer.line(nil, buf[:n])
			if lerr != nil {
				return lerr
			}
			if err := b.add(ctx, l...); err != nil {
				return err
			}
			if progress != nil {
				progress(n)
			}
		}
		switch {
		case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
			return nil
		case err != nil:
			return &readError{err}
		}
	}
}

// A piece is some bytes of a large file.
type piece struct {
	offset int64
	data   []byte
}

// putLarge sends the pieces of one file over several receivers.
func (c *Conn) putLarge(ctx context.Context, dst string, src io.Reader, size int64) error {
	g, ctx := errgroup.WithContext(ctx)
	pieces := make(chan piece)
	g.Go(func() error {
		defer close(pieces)
		var offset int64
		for offset < size {
			p := piece{offset, make([]byte, min(fileChunk, size-offset))}
			if _, err := io.ReadFull(src, p.data); err != nil {
				return &readError{fmt.Errorf("%d of %d bytes read: %w", offset, size, err)}
			}
			select {
			case pieces <- p:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			offset += int64(len(p.data))
		}
		if n, _ := io.ReadFull(src, make([]byte, 1)); n > 0 {
			return &readError{fmt.Errorf("there are more than the %d bytes promised", size)}
		}
		return nil
	})
	for range sideBySide {
		g.Go(func() error { return c.putPieces(ctx, dst, size, pieces) })
	}
	return g.Wait()
}

func (c *Conn) putPieces(ctx context.Context, dst string, size int64, pieces <-chan piece) error {
	u, err := c.upload(ctx)
	if err != nil {
		return err
	}
	defer u.close()
	b := &batch{u: u}
	if err := b.add(ctx, fmt.Appendf(nil, "F %s %d\r\n", b64(dst), size)...); err != nil {
		return err
	}
	for p := range pieces {
		l, err := b.packer.line(fmt.Appendf(nil, "S %d\r\n", p.offset), p.data)
		if err != nil {
			return err
		}
		if err := b.add(ctx, l...); err != nil {
			return err
		}
	}
	if err := context.Cause(ctx); err != nil {
		return err
	}
	return b.finish(ctx)
}

// PutTree implements [communicator.Communicator]. What a symbolic link of src
// leads to is copied; links to folders and permissions are not: Windows has
// others.
func (c *Conn) PutTree(ctx context.Context, dst string, src fs.FS, progress func(done int64)) error {
	ctx, done, err := c.bind(ctx)
	if err != nil {
		return err
	}
	defer done()
	folders, files, total, err := list(src)
	if err != nil {
		return err
	}
	n := 1
	if total >= c.large {
		n = min(sideBySide, max(1, len(files)))
	}
	var mu sync.Mutex
	var sent int64
	count := func(n int) {
		mu.Lock()
		defer mu.Unlock()
		if sent += int64(n); progress != nil {
			progress(sent)
		}
	}
	rest := make(chan string, len(files))
	for _, f := range files {
		rest <- f
	}
	close(rest)
	g, gctx := errgroup.WithContext(ctx)
	for i := range n {
		make := folders
		if i > 0 {
			make = nil // a file's folder is made with it
		}
		g.Go(func() error { return c.putSome(gctx, dst, src, make, rest, count) })
	}
	return asPut(dst, g.Wait())
}

func (c *Conn) putSome(ctx context.Context, dst string, src fs.FS, folders []string, files <-chan string, count func(int)) error {
	u, err := c.upload(ctx)
	if err != nil {
		return err
	}
	defer u.close()
	b := &batch{u: u}
	for _, d := range folders {
		if err := b.add(ctx, []byte("D "+b64(path.Join(dst, d))+"\r\n")...); err != nil {
			return err
		}
	}
	for name := range files {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		f, err := src.Open(name)
		if err != nil {
			return &readError{err}
		}
		err = b.file(ctx, path.Join(dst, name), f, count)
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	return b.finish(ctx)
}

func list(src fs.FS) (folders, files []string, total int64, err error) {
	err = fs.WalkDir(src, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.IsDir() {
			folders = append(folders, p)
			return nil
		}
		fi, err := fs.Stat(src, p) // follows links
		if err != nil {
			return err
		}
		if fi.Mode().IsRegular() {
			files = append(files, p)
			total += fi.Size()
		}
		return nil
	})
	return folders, files, total, err
}
