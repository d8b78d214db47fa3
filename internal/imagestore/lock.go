package imagestore

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/internal/poll"
)

// flock takes a lock on f without waiting; false when another has it. The
// kernel gives it back when f is closed or the process dies.
func flock(f *os.File, how int) (bool, error) {
	for {
		err := unix.Flock(int(f.Fd()), how|unix.LOCK_NB)
		switch {
		case err == nil:
			return true, nil
		case errors.Is(err, unix.EWOULDBLOCK):
			return false, nil
		case errors.Is(err, unix.EINTR):
			continue
		}
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
}

// share marks an open layer as in use. It waits for nothing but the moment in
// which a GC looks at the same file; a layer that is removed in between stays
// readable to who has it open.
func share(f *os.File) error {
	for {
		err := unix.Flock(int(f.Fd()), unix.LOCK_SH)
		if err == nil {
			return nil
		}
		if !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("lock %s: %w", f.Name(), err)
		}
	}
}

// lock waits for the store's lock: shared for whoever needs the layers to
// stay, exclusive to remove some.
func (s *Store) lock(ctx context.Context, how int) (release func(), err error) {
	f, err := os.OpenFile(filepath.Join(s.dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	err = poll.Until(ctx, poll.Backoff{First: time.Millisecond, Max: 100 * time.Millisecond}, func(context.Context) (bool, error) {
		return flock(f, how)
	})
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("image store: %w", err)
	}
	return sync.OnceFunc(func() { _ = f.Close() }), nil
}

// Hold keeps every layer from being removed by any process until release is
// called: whoever makes or finds a layer holds until the reference to it is
// written down where the keep function of [Store.GC] sees it. Holds do not
// exclude each other. release may be called twice. Whoever holds must not call
// [Store.GC], which would wait for it.
func (s *Store) Hold(ctx context.Context) (release func(), err error) {
	return s.lock(ctx, unix.LOCK_SH)
}
