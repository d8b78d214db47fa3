package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/internal/atomicfile"
)

// A tempFile is a file being made, held by this process.
type tempFile struct{ *os.File }

// temp makes a file in tmp/.
func (s *Store) temp() (*tempFile, error) {
	for {
		f, err := os.CreateTemp(filepath.Join(s.dir, "tmp"), fmt.Sprintf("%d-*", os.Getpid()))
		if err != nil {
			return nil, fmt.Errorf("image store: %w", err)
		}
		// A sweep between the two lines takes the file for garbage.
		ok, err := flock(f, unix.LOCK_EX)
		if err == nil && ok && samePath(f) {
			return &tempFile{f}, nil
		}
		_ = f.Close()
		if err != nil {
			return nil, fmt.Errorf("image store: %w", err)
		}
	}
}

// samePath reports whether f's name still leads to f.
func samePath(f *os.File) bool {
	a, err := f.Stat()
	if err != nil {
		return false
	}
	b, err := os.Lstat(f.Name())
	return err == nil && os.SameFile(a, b)
}

// publish syncs the file and renames it to path.
func (t *tempFile) publish(path string) error {
	err := t.Sync()
	if err == nil {
		err = os.Rename(t.Name(), path)
	}
	if err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

// discard closes the file and, when it was not published, removes it.
func (t *tempFile) discard() {
	if samePath(t.File) {
		_ = os.Remove(t.Name())
	}
	_ = t.Close()
}

// Sweep removes the temporary files of processes that died and returns how
// many there were and their bytes. It may run at any time.
func (s *Store) Sweep(ctx context.Context) (removed int, freed int64, err error) {
	dir := filepath.Join(s.dir, "tmp")
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, 0, fmt.Errorf("image store: %w", err)
	}
	var errs []error
	for _, e := range entries {
		if ctx.Err() != nil {
			return removed, freed, context.Cause(ctx)
		}
		n, ok, err := sweepFile(filepath.Join(dir, e.Name()))
		if err != nil {
			errs = append(errs, err)
		}
		if ok {
			removed++
			freed += n
		}
	}
	return removed, freed, errors.Join(errs...)
}

func sweepFile(path string) (size int64, removed bool, err error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, false, nil
	}
	if err != nil {
		return 0, false, fmt.Errorf("image store: %w", err)
	}
	defer f.Close()
	ok, err := flock(f, unix.LOCK_EX)
	if err != nil || !ok || !samePath(f) {
		return 0, false, err
	}
	st, err := f.Stat()
	if err == nil {
		err = os.Remove(path)
	}
	if err != nil {
		return 0, false, fmt.Errorf("image store: %w", err)
	}
	return st.Size(), true, nil
}
