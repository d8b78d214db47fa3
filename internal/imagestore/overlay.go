package imagestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
)

// maxOverlays bounds the files above the first layer of an overlay's chain.
const maxOverlays = 64

// NewOverlay makes an empty qcow2 file at path, which must not exist, over the
// layer parent ("" for a blank disk), for a guest to write to. size is what
// the guest sees, a multiple of 512 not below the parent's; 0 takes the
// parent's. The file names the layer relative to its own folder: the two may
// move together, not apart.
func (s *Store) NewOverlay(ctx context.Context, path, parent string, size int64) error {
	release, err := s.Hold(ctx)
	if err != nil {
		return err
	}
	defer release()
	if err := s.newOverlay(path, parent, size); err != nil {
		return writeError("new disk "+path, err)
	}
	return nil
}

func (s *Store) newOverlay(path, parent string, size int64) error {
	backing := ""
	dir, err := filepath.Abs(filepath.Dir(path))
	if err != nil {
		return err
	}
	if parent != "" {
		l, err := s.Stat(parent)
		if err != nil {
			return err
		}
		if size == 0 {
			size = l.Size
		}
		if size < l.Size {
			return fmt.Errorf("the size of %d bytes is less than the %d of the layer below it", size, l.Size)
		}
		if dir, err = filepath.EvalSymlinks(dir); err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, s.Path(parent))
		if err != nil {
			return err
		}
		backing = "./" + rel // QEMU takes what is before a colon for a protocol
	}
	layout, err := qcow2.NewLayout(size, backing)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	if _, err = layout.Finish(f); err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Link(f.Name(), path) // unlike a rename, it replaces nothing
	}
	if err != nil {
		return err
	}
	return atomicfile.SyncDir(dir)
}

// isLayer returns the digest when path is a layer's file.
func (s *Store) isLayer(path string) (string, bool) {
	dir, err := filepath.EvalSymlinks(filepath.Dir(path))
	if err != nil {
		return "", false
	}
	if dir, err = filepath.Abs(dir); err != nil || dir != filepath.Join(s.dir, "layers") {
		return "", false
	}
	d, ok := strings.CutSuffix(filepath.Base(path), suffix)
	return d, ok && validDigest(d)
}

// openOverlays opens path and the files below it down to the first layer,
// whose digest it returns, "" when there is none. done must be called in any
// case.
func (s *Store) openOverlays(path string) (top stack, parent string, done func(), err error) {
	var files []*os.File
	done = func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	format := "qcow2"
	for {
		if len(top) == maxOverlays {
			return top, "", done, &UnsupportedError{path, fmt.Sprintf("more than %d files below each other", maxOverlays)}
		}
		f, err := os.Open(path)
		if err != nil {
			return top, "", done, err
		}
		files = append(files, f)
		if format == "raw" {
			p, err := newRaw(f)
			return append(top, p), "", done, err
		}
		m, err := openImage(f, "")
		if err != nil {
			return top, "", done, err
		}
		top = append(top, m)
		if m.Backing == "" {
			return top, "", done, nil
		}
		below, err := belowOf(path, m.Backing)
		if err != nil {
			return top, "", done, err
		}
		if d, ok := s.isLayer(below); ok {
			return top, d, done, nil
		}
		format = m.BackingFormat
		if format != "qcow2" && format != "raw" {
			err := &UnsupportedError{path, fmt.Sprintf("the file below it, %s, has the format %q; it must say qcow2 or raw", below, format)}
			return top, "", done, diag.WithHint(err, "write the format down: qemu-img rebase -u -b %s -F qcow2 %s", below, path)
		}
		path = below
	}
}

// belowOf finds a backing file as QEMU does.
func belowOf(path, backing string) (string, error) {
	head, _, _ := strings.Cut(backing, "/")
	if strings.Contains(head, ":") {
		return "", &UnsupportedError{path, fmt.Sprintf("it is over %q, which is not a file name", backing)}
	}
	if filepath.IsAbs(backing) {
		return backing, nil
	}
	// Not filepath.Join: ".." after a symbolic link is for the kernel to follow.
	return filepath.Dir(path) + "/" + backing, nil
}
