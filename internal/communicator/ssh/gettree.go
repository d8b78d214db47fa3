package ssh

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-build/ingot/internal/communicator"
)

// GetTree implements [communicator.Communicator]. dst is made when missing. A
// symbolic link is made as it is on the guest, wherever it points to, and
// never followed out of dst. What is neither file, folder nor link is left
// out.
func (c *Conn) GetTree(ctx context.Context, src, dst string) error {
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return err
	}
	root, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer root.Close() //nolint:errcheck // a folder
	x := &extractor{root: root, modes: map[string]fs.FileMode{}}
	name, ok := guestName(src)
	if ok && c.cfg.SSHFileTransferMethod != "sftp" {
		err := c.getTar(ctx, name, x)
		var r *refusal
		if !errors.Is(err, errNoShell) && !(errors.As(err, &r) && r.word == "notar") {
			return getError(src, err)
		}
	}
	return getError(src, c.sftpGetTree(ctx, sftpName(src), x))
}

func (c *Conn) getTar(ctx context.Context, name string, x *extractor) error {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	pr, pw := io.Pipe()
	extracted := make(chan error, 1)
	go func() {
		err := x.extract(pr)
		if err != nil {
			stop(err)
		}
		_ = pr.CloseWithError(err)
		extracted <- err
	}()
	err := c.runProgram(ctx, program{
		text:   getTreeProgram,
		header: func(string) string { return name + "\n" },
		stdout: pw,
		frame:  1,
	})
	if changedMeanwhile(err) {
		err = nil
	}
	if err != nil {
		_ = pw.CloseWithError(err)
	} else {
		_ = pw.Close()
	}
	bad := <-extracted
	if err != nil {
		return err
	}
	return bad
}

// changedMeanwhile reports whether all that GNU tar complained of is that
// files grew while it read them, as logs do.
func changedMeanwhile(err error) bool {
	var exit *communicator.ExitError
	var f *failure
	return errors.As(err, &exit) && exit.Status == 1 && errors.As(err, &f) && strings.Contains(f.text, "file changed as we read it")
}

// An extractor makes files below a folder and nowhere else.
type extractor struct {
	root  *os.Root
	mu    sync.Mutex
	modes map[string]fs.FileMode // of folders, set when all is there
}

// extract reads a compressed tar stream to its end.
func (x *extractor) extract(r io.Reader) error {
	zr, err := gzip.NewReader(r)
	if err != nil {
		return fmt.Errorf("not a gzip stream: %w", err)
	}
	tr := tar.NewReader(zr)
	buf := make([]byte, copyBuffer)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("not a tar stream: %w", err)
		}
		if err := x.entry(h, tr, buf); err != nil {
			return err
		}
	}
	// The rest is padding; reading it checks the stream's sum.
	if _, err := io.Copy(io.Discard, zr); err != nil {
		return fmt.Errorf("not a gzip stream: %w", err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		return err
	}
	return x.finish()
}

func (x *extractor) entry(h *tar.Header, r io.Reader, buf []byte) error {
	name, err := localName(h.Name)
	if err != nil {
		return err
	}
	mode := fs.FileMode(h.Mode).Perm() //nolint:gosec // permission bits only
	switch h.Typeflag {
	case tar.TypeDir:
		return x.folder(name, mode)
	case tar.TypeReg, tar.TypeGNUSparse:
		return x.file(name, mode, func(w io.Writer) error {
			_, err := io.CopyBuffer(struct{ io.Writer }{w}, r, buf)
			return err
		})
	case tar.TypeSymlink:
		return x.symlink(name, h.Linkname)
	case tar.TypeLink:
		to, err := localName(h.Linkname)
		if err != nil {
			return err
		}
		if err := x.clear(name); err != nil {
			return err
		}
		return x.root.Link(to, name)
	}
	return nil
}

// localName makes a name a guest sent one below the root.
func localName(name string) (string, error) {
	clean := path.Clean(name)
	if strings.ContainsAny(name, "\x00") || !filepath.IsLocal(filepath.FromSlash(clean)) {
		return "", fmt.Errorf("the guest sent the name %q, which leads out of the folder: refused", name)
	}
	return clean, nil
}

func (x *extractor) folder(name string, mode fs.FileMode) error {
	if name == "." {
		return nil
	}
	if err := x.root.MkdirAll(name, 0o755); err != nil {
		return err
	}
	x.mu.Lock()
	defer x.mu.Unlock()
	x.modes[name] = mode
	return nil
}

// clear makes room for name: its folder is there, and it is not.
func (x *extractor) clear(name string) error {
	if dir := path.Dir(name); dir != "." {
		if err := x.root.MkdirAll(dir, 0o755); err != nil {
			return err
		}
	}
	if err := x.root.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (x *extractor) file(name string, mode fs.FileMode, fill func(io.Writer) error) error {
	if err := x.clear(name); err != nil {
		return err
	}
	f, err := x.root.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = fill(f)
	if err == nil {
		err = f.Chmod(mode)
	}
	return errors.Join(err, f.Close())
}

func (x *extractor) symlink(name, to string) error {
	if err := x.clear(name); err != nil {
		return err
	}
	return x.root.Symlink(to, name)
}

// finish sets the permissions of the folders; they keep those their owner
// needs to remove them again.
func (x *extractor) finish() error {
	names := make([]string, 0, len(x.modes))
	for name := range x.modes {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Backward(names) {
		if info, err := x.root.Lstat(name); err != nil || !info.IsDir() {
			continue // replaced by a later entry
		}
		if err := x.root.Chmod(name, x.modes[name]|0o700); err != nil {
			return err
		}
	}
	return nil
}

func (c *Conn) sftpGetTree(ctx context.Context, src string, x *extractor) error {
	return c.withSFTP(ctx, "get", func(cl *sftp.Client) error {
		var files errgroup.Group
		files.SetLimit(sftpFiles)
		err := sftpWalk(ctx, cl, src, ".", x, &files)
		if err := errors.Join(err, files.Wait()); err != nil {
			return err
		}
		return x.finish()
	})
}

// sftpWalk reads a folder and what is below it; the files are read by files.
func sftpWalk(ctx context.Context, cl *sftp.Client, src, rel string, x *extractor, files *errgroup.Group) error {
	list, err := cl.ReadDirContext(ctx, src)
	if err != nil {
		return fmt.Errorf("%s: %w", src, err)
	}
	for _, info := range list {
		base := info.Name()
		if base == "." || base == ".." {
			continue
		}
		if strings.Contains(base, "/") {
			return &localError{fmt.Errorf("the guest sent the name %q, which is not one: refused", base)}
		}
		name, err := localName(path.Join(rel, base))
		if err != nil {
			return &localError{err}
		}
		from, mode := path.Join(src, base), info.Mode()
		switch {
		case mode.IsDir():
			if err := x.folder(name, mode.Perm()); err != nil {
				return &localError{err}
			}
			if err := sftpWalk(ctx, cl, from, name, x, files); err != nil {
				return err
			}
		case mode&fs.ModeSymlink != 0:
			to, err := cl.ReadLink(from)
			if err != nil {
				return fmt.Errorf("%s: %w", from, err)
			}
			if err := x.symlink(name, to); err != nil {
				return &localError{err}
			}
		case mode.IsRegular():
			files.Go(func() error { return sftpRead(ctx, cl, from, name, mode.Perm(), x) })
		}
	}
	return nil
}

func sftpRead(ctx context.Context, cl *sftp.Client, from, name string, mode fs.FileMode, x *extractor) error {
	f, err := cl.Open(from)
	if err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	var remote error
	err = x.file(name, mode, func(w io.Writer) error {
		_, err := f.WriteTo(sink{ctx, w})
		var local *localError
		if err != nil && !errors.As(err, &local) {
			remote = fmt.Errorf("%s: %w", from, err)
		}
		return err
	})
	_ = f.Close()
	if remote != nil {
		return remote
	}
	if err != nil {
		return &localError{err}
	}
	return nil
}
