package ssh

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"path"
	"strings"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/pkg/sftp"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-build/ingot/internal/event"
)

// sftpFiles is how many files are under way at a time over SFTP.
const sftpFiles = 64

// PutTree implements [communicator.Communicator]. The tree goes as one
// compressed tar stream to the guest's tar, or over SFTP where there is none
// or ssh_file_transfer_method asks for it. Folders that are there keep their
// permissions, links to folders stay links. What is neither file, folder nor
// symbolic link is left out. progress is told the bytes of file content sent.
func (c *Conn) PutTree(ctx context.Context, dst string, src fs.FS, progress func(done int64)) error {
	if progress == nil {
		progress = func(int64) {}
	}
	name, ok := guestName(dst)
	if ok && c.cfg.SSHFileTransferMethod != "sftp" {
		tree := &treeWriter{src: src, progress: progress, out: c.out}
		err := c.runProgram(ctx, program{
			text:   putTreeProgram,
			header: func(string) string { return name + "\n" },
			body:   tree.write,
		})
		var r *refusal
		if !errors.Is(err, errNoShell) && !(errors.As(err, &r) && r.word == "notar") && !errors.Is(err, errAwkwardName) {
			return putError(dst, err)
		}
	}
	return putError(dst, c.sftpPutTree(ctx, sftpName(dst), src, progress))
}

// A treeWriter writes a tree as a tar stream.
type treeWriter struct {
	src      fs.FS
	progress func(int64)
	out      event.Sink
	done     int64
}

// errAwkwardName says that a folder's name cannot be passed as a line.
var errAwkwardName = errors.New("a folder's name contains a line end")

func (t *treeWriter) write(w io.Writer, said chan string) error {
	word := <-said
	if !strings.HasPrefix(word, "ok") {
		return nil
	}
	gnu := strings.TrimSpace(strings.TrimPrefix(word, "ok")) == "gnu"
	if !gnu {
		list, err := t.folders()
		if err != nil {
			return err
		}
		if _, err := io.WriteString(w, list+"\n"); err != nil {
			return err
		}
	}
	zw, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(zw)
	buf := make([]byte, copyBuffer)
	err = walk(t.src, t.out, func(name string, info fs.FileInfo) error { return t.entry(tw, gnu, name, info, buf) })
	if err != nil {
		return err
	}
	return errors.Join(tw.Close(), zw.Close())
}

// folders lists the folders, parents first, each as a line with its mode and
// a line with its name.
func (t *treeWriter) folders() (string, error) {
	var b strings.Builder
	err := walk(t.src, event.Discard, func(name string, info fs.FileInfo) error {
		if !info.IsDir() {
			return nil
		}
		if strings.Contains(name, "\n") {
			return errAwkwardName
		}
		// The owner has to be able to fill it.
		fmt.Fprintf(&b, "%04o\n./%s\n", info.Mode().Perm()|0o700, name)
		return nil
	})
	return b.String(), err
}

func (t *treeWriter) entry(tw *tar.Writer, gnu bool, name string, info fs.FileInfo, buf []byte) error {
	h := &tar.Header{
		Name: name, Mode: int64(info.Mode().Perm()), ModTime: info.ModTime().Truncate(time.Second),
		Format: tar.FormatGNU, // what every tar reads, long names included
	}
	switch {
	case info.IsDir():
		if !gnu {
			return nil
		}
		h.Typeflag, h.Name = tar.TypeDir, name+"/"
		return tw.WriteHeader(h)
	case info.Mode()&fs.ModeSymlink != 0:
		to, err := fs.ReadLink(t.src, name)
		if err != nil {
			return err
		}
		h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, to, 0o777
		return tw.WriteHeader(h)
	}
	f, err := t.src.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	h.Typeflag, h.Size = tar.TypeReg, info.Size()
	if err := tw.WriteHeader(h); err != nil {
		return err
	}
	n, err := io.CopyBuffer(struct{ io.Writer }{&told{tw, func(k int) { t.done += int64(k); t.progress(t.done) }}}, io.LimitReader(f, h.Size), buf)
	if err == nil && n < h.Size {
		err = fmt.Errorf("%s became shorter while it was read", name)
	}
	return err
}

// told tells how much was written.
type told struct {
	w    io.Writer
	tell func(n int)
}

func (t *told) Write(p []byte) (int, error) {
	n, err := t.w.Write(p)
	t.tell(n)
	return n, err
}

// walk calls do for everything in src but src itself, parents first.
func walk(src fs.FS, out event.Sink, do func(name string, info fs.FileInfo) error) error {
	return fs.WalkDir(src, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == "." {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		if m := info.Mode(); !m.IsRegular() && !m.IsDir() && m&fs.ModeSymlink == 0 {
			out.Emit(event.Detail{Text: fmt.Sprintf("%s is not a file, folder or symbolic link: left out", name)})
			return nil
		}
		return do(name, info)
	})
}

// A level is what is as deep in a tree.
type level struct{ folders, others []entry }

type entry struct {
	name string
	info fs.FileInfo
}

func (c *Conn) sftpPutTree(ctx context.Context, dst string, src fs.FS, progress func(int64)) error {
	var levels []level
	err := walk(src, c.out, func(name string, info fs.FileInfo) error {
		depth := strings.Count(name, "/")
		if depth == len(levels) {
			levels = append(levels, level{})
		}
		l := &levels[depth]
		if info.IsDir() {
			l.folders = append(l.folders, entry{name, info})
		} else {
			l.others = append(l.others, entry{name, info})
		}
		return nil
	})
	if err != nil {
		return err
	}
	var done atomic.Int64
	return c.withSFTP(ctx, "put", func(cl *sftp.Client) error {
		if err := cl.MkdirAll(dst); err != nil {
			return err
		}
		for _, l := range levels {
			g, gctx := errgroup.WithContext(ctx)
			g.SetLimit(sftpFiles)
			for _, e := range l.folders {
				g.Go(func() error { return sftpMkdir(cl, path.Join(dst, e.name), e.info.Mode()) })
			}
			if err := g.Wait(); err != nil {
				return err
			}
			g, gctx = errgroup.WithContext(ctx)
			g.SetLimit(sftpFiles)
			for _, e := range l.others {
				g.Go(func() error {
					return sftpPutEntry(gctx, cl, src, e, path.Join(dst, e.name), func(n int) { progress(done.Add(int64(n))) })
				})
			}
			if err := g.Wait(); err != nil {
				return err
			}
		}
		return nil
	})
}

func sftpMkdir(cl *sftp.Client, name string, mode fs.FileMode) error {
	err := cl.Mkdir(name)
	if err == nil {
		return cl.Chmod(name, mode.Perm()|0o700) // the owner has to be able to fill it
	}
	if info, statErr := cl.Stat(name); statErr == nil && info.IsDir() {
		return nil
	}
	return fmt.Errorf("%s: %w", name, err)
}

func sftpPutEntry(ctx context.Context, cl *sftp.Client, src fs.FS, e entry, name string, tell func(int)) error {
	if err := ctx.Err(); err != nil {
		return &localError{context.Cause(ctx)}
	}
	if e.info.Mode()&fs.ModeSymlink != 0 {
		to, err := fs.ReadLink(src, e.name)
		if err != nil {
			return &localError{err}
		}
		if cl.Symlink(to, name) == nil {
			return nil
		}
		if err := cl.Remove(name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if err := cl.Symlink(to, name); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	}
	f, err := src.Open(e.name)
	if err != nil {
		return &localError{err}
	}
	defer f.Close() //nolint:errcheck // read only
	if err := sftpWrite(cl, name, e.info.Mode(), source{ctx, io.TeeReader(f, &told{io.Discard, tell})}); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
