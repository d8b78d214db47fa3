package file

import (
	"context"
	"errors"
	"fmt"
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
	m := event.NewMeter(out, "upload "+src, 0)
	if fi.Mode().IsRegular() {
		size = fi.Size()
		m.SetTotal(size)
	}
	if err := g.Put(ctx, dst, fi.Mode().Perm(), m.Reader(ctx, f), size); err != nil {
		return err
	}
	m.End()
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
	m := event.NewMeter(out, "upload "+src, total)
	if err := g.PutTree(ctx, dst, tree, m.Set); err != nil {
		return err
	}
	m.End()
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
