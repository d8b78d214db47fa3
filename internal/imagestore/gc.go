package imagestore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// GC removes the layers that are not needed: not kept, not below a kept one,
// not open in any process (QEMU's included), not a base of an upload. It waits
// until no [Store.Hold] and no other operation is going on, and then keeps new
// ones waiting. keep is asked about each layer and must see every reference
// that was written down before the last hold ended. Temporary files of dead
// processes go too. removed counts layers, freed the bytes of all files.
func (s *Store) GC(ctx context.Context, keep func(digest string) bool) (removed int, freed int64, err error) {
	release, err := s.lock(ctx, unix.LOCK_EX)
	if err != nil {
		return 0, 0, err
	}
	defer release()
	all, err := s.digests()
	if err != nil {
		return 0, 0, err
	}
	needed, err := s.uploadRoots(keep)
	if err != nil {
		return 0, 0, err
	}
	for _, d := range all {
		if keep(d) {
			needed = append(needed, d)
			continue
		}
		busy, err := s.inUse(d)
		if err != nil {
			return 0, 0, err
		}
		if busy {
			needed = append(needed, d)
		}
	}
	live := map[string]bool{}
	for _, d := range needed {
		// What is below a layer that cannot be read is not known: then nothing
		// may be removed.
		if err := s.mark(d, live); err != nil {
			return 0, 0, fmt.Errorf("image store: nothing was removed: %w", err)
		}
	}
	var errs []error
	for _, d := range s.upperFirst(all) {
		if live[d] {
			continue
		}
		if ctx.Err() != nil {
			return removed, freed, context.Cause(ctx)
		}
		n, err := s.remove(d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		removed++
		freed += n
	}
	_, n, err := s.Sweep(ctx)
	return removed, freed + n, errors.Join(append(errs, err)...)
}

// mark adds digest and what is below it to live. A missing layer is not GC's
// concern.
func (s *Store) mark(digest string, live map[string]bool) error {
	for d := digest; d != "" && !live[d]; {
		l, err := s.head(d)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		live[d] = true
		d = l.Parent
	}
	return nil
}

// upperFirst orders layers so that a removal that is cut off leaves no layer
// without the one below it.
func (s *Store) upperFirst(all []string) []string {
	depth := map[string]int{}
	for _, d := range all {
		l, err := s.Stat(d)
		if err != nil {
			l.Depth = MaxDepth + 1 // nothing can be over it
		}
		depth[d] = l.Depth
	}
	out := slices.Clone(all)
	slices.SortStableFunc(out, func(a, b string) int { return cmp.Compare(depth[b], depth[a]) })
	return out
}

func (s *Store) remove(digest string) (bytes int64, err error) {
	st, err := os.Stat(s.Path(digest))
	if err == nil {
		err = os.Remove(s.Path(digest))
	}
	if err != nil {
		return 0, fmt.Errorf("image store: %w", err)
	}
	s.forgetVerified(digest)
	return st.Size(), nil
}

// inUse reports whether a process has the layer open: ours hold an flock on
// it, QEMU record locks.
func (s *Store) inUse(digest string) (bool, error) {
	f, _, err := s.openLayer(digest)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer f.Close()
	free, err := flock(f, unix.LOCK_EX)
	if err != nil || !free {
		return true, err
	}
	return recordLocked(f)
}
