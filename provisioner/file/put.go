package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell/script"
)

// contentMode is the mode of a file made of the option content.
const contentMode = 0o600

func putContent(ctx context.Context, g communicator.Guest, out event.Sink, dst, content string) error {
	out.Emit(event.Say{Text: fmt.Sprintf("Uploading content => %s", dst)})
	if err := g.Put(ctx, dst, contentMode, strings.NewReader(content), int64(len(content))); err != nil {
		return fmt.Errorf("upload content to %s: %w", dst, err)
	}
	return nil
}

// put uploads a file or a folder.
func put(ctx context.Context, g communicator.Guest, out event.Sink, src, dst string) error {
	out.Emit(event.Say{Text: fmt.Sprintf("Uploading %s => %s", src, dst)})
	fi, err := os.Stat(src)
	if err == nil && fi.IsDir() {
		err = putTree(ctx, g, out, src, dst)
	} else if err == nil {
		err = putFile(ctx, g, out, src, remoteFile(dst, src))
	}
	if err != nil {
		return explain(fmt.Errorf("upload %s to %s: %w", src, dst, err), dst)
	}
	return nil
}

func putFile(ctx context.Context, g communicator.Guest, out event.Sink, src, dst string) error {
	f, err := os.Open(src)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	size := int64(-1)
	m := &meter{task: "upload " + src, out: out}
	if fi.Mode().IsRegular() {
		size, m.total = fi.Size(), fi.Size()
	}
	if err := g.Put(ctx, dst, fi.Mode().Perm(), m.reader(f), size); err != nil {
		return err
	}
	m.end()
	return nil
}

// putTree uploads a folder as scp does: what ends in a slash stands for its
// content; else the folder itself is made inside dst, or as dst where that is
// not there yet. Over WinRM it is made inside dst in any case.
func putTree(ctx context.Context, g communicator.Guest, out event.Sink, src, dst string) error {
	if !contentsOnly(src) {
		inside, err := isFolder(ctx, g, dst)
		if err != nil {
			return err
		}
		if inside {
			dst = remoteJoin(dst, baseName(src))
		}
	}
	tree := os.DirFS(src)
	total, err := treeSize(tree)
	if err != nil {
		return err
	}
	m := &meter{task: "upload " + src, out: out, total: total}
	if err := g.PutTree(ctx, dst, tree, m.set); err != nil {
		return err
	}
	m.end()
	return nil
}

// isFolder reports whether a folder is to be made inside dst.
func isFolder(ctx context.Context, g communicator.Guest, dst string) (bool, error) {
	if g.Data.ConnType == "winrm" || strings.HasSuffix(dst, "/") {
		return true, nil
	}
	err := g.Run(ctx, communicator.Cmd{Line: "test -d " + script.Quote(dst)})
	var exit *communicator.ExitError
	if errors.As(err, &exit) {
		// 1 is test's "no"; a guest without test(1) says something else.
		return exit.Status != 1, nil
	}
	return err == nil, err
}

func treeSize(tree fs.FS) (total int64, err error) {
	err = fs.WalkDir(tree, ".", func(_ string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		fi, err := e.Info()
		if err == nil {
			total += fi.Size()
		}
		return err
	})
	return total, err
}

// explain adds the remedy for a path that the guest does not let us write.
func explain(err error, dst string) error {
	var put *communicator.PutError
	if diag.Hint(err) != "" || !errors.As(err, &put) {
		return err
	}
	return diag.WithHint(err, "the folder of %s must be there and the login user may write it: "+
		"upload to /tmp and let a shell provisioner move it with sudo, or make the folder first", dst)
}

// A meter tells how far a transfer is, not more often than every step bytes.
type meter struct {
	task        string
	out         event.Sink
	total       int64
	done, shown int64
}

const step = 256 << 10

func (m *meter) set(done int64) {
	m.done = done
	if done-m.shown >= step {
		m.shown = done
		m.emit()
	}
}

// end says that everything was transferred.
func (m *meter) end() {
	if m.total == 0 {
		m.total = m.done
	}
	m.done = m.total
	m.emit()
}

func (m *meter) emit() {
	m.out.Emit(event.Progress{Task: m.task, Done: m.done, Total: m.total, Unit: "B"})
}

func (m *meter) reader(r io.Reader) io.Reader { return &meterReader{m, r} }

type meterReader struct {
	m *meter
	r io.Reader
}

func (r *meterReader) Read(p []byte) (int, error) {
	n, err := r.r.Read(p)
	r.m.set(r.m.done + int64(n))
	return n, err
}

func (m *meter) writer(w io.Writer) io.Writer { return &meterWriter{m, w} }

type meterWriter struct {
	m *meter
	w io.Writer
}

func (w *meterWriter) Write(p []byte) (int, error) {
	n, err := w.w.Write(p)
	w.m.set(w.m.done + int64(n))
	return n, err
}
