package manifest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
)

const (
	// mark is what our lock files hold. A lock file without it is Packer's,
	// whose mere existence means "held".
	mark = "ingot\n"
	// staleAfter is the age from which on a lock file of Packer is one that a
	// killed process left: it writes for milliseconds.
	staleAfter = time.Minute
	// lockTime is how long the lock is waited for.
	lockTime = 3 * time.Minute
)

// A lock is a file that exists while it is held, which is all that Packer
// looks at. It is locked with flock(2) as well, so that one whose holder died
// is recognised and taken over.
type lock struct {
	f    *os.File
	path string
}

// acquire waits until nobody else holds the lock at path.
func acquire(ctx context.Context, path string, out event.Sink) (*lock, error) {
	wait, stop := context.WithTimeout(ctx, lockTime)
	defer stop()
	var l *lock
	err := poll.Until(wait, poll.Backoff{First: 20 * time.Millisecond, Max: 200 * time.Millisecond}, func(context.Context) (bool, error) {
		var err error
		l, err = try(path, out)
		return l != nil, err
	})
	if err != nil && wait.Err() != nil && ctx.Err() == nil {
		return nil, diag.WithHint(fmt.Errorf("%s is held by another process for more than %s", path, lockTime),
			"where no other build is running, remove the file")
	}
	return l, err
}

// try returns nil and no error when the lock is held.
func try(path string, out event.Sink) (_ *lock, err error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o644)
	made := err == nil
	if errors.Is(err, fs.ErrExist) {
		f, err = os.OpenFile(path, os.O_RDWR, 0)
		if errors.Is(err, fs.ErrNotExist) {
			return nil, nil // given back just now
		}
	}
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	held := false
	defer func() {
		if !held {
			err = errors.Join(err, f.Close())
		}
	}()
	how := syscall.LOCK_EX | syscall.LOCK_NB
	if made {
		// Somebody may be looking at the new file. He will find it empty and
		// let it go; without this wait nobody would hold it.
		how = syscall.LOCK_EX
	}
	if err := syscall.Flock(int(f.Fd()), how); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	ours, err := judge(f, path, made, out)
	if err != nil || !ours {
		return nil, err
	}
	if _, err := f.WriteAt([]byte(mark), 0); err != nil {
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	held = true
	return &lock{f, path}, nil
}

// judge reports whether the locked file f may be taken as our lock.
func judge(f *os.File, path string, made bool, out event.Sink) (bool, error) {
	fi, err := f.Stat()
	if err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	now, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) || err == nil && !os.SameFile(fi, now) {
		return false, nil // its holder removed it, and maybe another made a new one
	}
	if err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	if made {
		return true, nil
	}
	content, err := io.ReadAll(io.LimitReader(f, int64(len(mark))+1))
	if err != nil {
		return false, fmt.Errorf("lock: %w", err)
	}
	if string(content) != mark && time.Since(fi.ModTime()) < staleAfter {
		return false, nil
	}
	out.Emit(event.Detail{Text: fmt.Sprintf("taking over %s, which a process that is gone left", path)})
	return true, nil
}

// release removes the file and gives the lock back.
func (l *lock) release() error {
	// Removed while it is locked: nobody can take it in between.
	err := os.Remove(l.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	if err := errors.Join(err, l.f.Close()); err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}
