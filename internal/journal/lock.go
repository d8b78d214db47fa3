package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// lockName is the lock's file name in a run directory.
const lockName = "lock"

// A Holder says who holds a run.
type Holder struct {
	PID   int       `json:"pid"`
	Host  string    `json:"host"`
	Since time.Time `json:"since"`
}

// A HeldError says that another live process holds the run.
type HeldError struct {
	Dir    string
	Holder Holder
}

func (e *HeldError) Error() string {
	return fmt.Sprintf("run %s is held by process %d on %s since %s",
		filepath.Base(e.Dir), e.Holder.PID, e.Holder.Host, e.Holder.Since.Format(time.RFC3339))
}

// A lock is an flock(2) on a file that names its holder. The kernel gives it
// back when the process dies, however it dies: a stale lock cannot exist.
type lock struct{ f *os.File }

// A look at a lock ([Held]) holds it for a moment: taking it is tried again
// before it counts as held.
const (
	acquireTries = 10
	acquirePause = 20 * time.Millisecond
)

func acquire(dir string, now time.Time) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	err = flock(f, syscall.LOCK_EX)
	for n := 1; n < acquireTries && errors.Is(err, syscall.EWOULDBLOCK); n++ {
		time.Sleep(acquirePause)
		err = flock(f, syscall.LOCK_EX)
	}
	if err != nil {
		defer f.Close()
		return nil, refused(dir, f, err)
	}
	host, _ := os.Hostname()
	js, err := json.Marshal(Holder{os.Getpid(), host, now.UTC()})
	if err == nil {
		if err = f.Truncate(0); err == nil {
			_, err = f.WriteAt(js, 0)
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("lock %s: %w", f.Name(), err), f.Close())
	}
	return &lock{f}, nil
}

// Held returns a *[HeldError] when a live process holds the run in dir.
func Held(dir string) error {
	f, err := os.Open(filepath.Join(dir, lockName))
	if err != nil {
		return fmt.Errorf("lock: %w", err)
	}
	defer f.Close()
	if err := flock(f, syscall.LOCK_SH); err != nil {
		return refused(dir, f, err)
	}
	unlock(f)
	return nil
}

// unlock gives the lock back. Closing the file, which does it otherwise, leaves
// it to a child that was forked and has not yet run its program.
func unlock(f *os.File) { _ = flock(f, syscall.LOCK_UN) }

func flock(f *os.File, how int) error { return syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB) }

// refused says why the lock f was not to be had.
func refused(dir string, f *os.File, err error) error {
	if !errors.Is(err, syscall.EWOULDBLOCK) {
		return fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	held := &HeldError{Dir: dir}
	// The holder may be between taking the lock and writing its name.
	_ = json.NewDecoder(f).Decode(&held.Holder)
	return held
}

func (l *lock) release() error {
	unlock(l.f)
	if err := l.f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}
