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

func acquire(dir string, now time.Time) (*lock, error) {
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("lock: %w", err)
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", f.Name(), err)
		}
		held := &HeldError{Dir: dir}
		// The holder may be between taking the lock and writing its name.
		_ = json.NewDecoder(f).Decode(&held.Holder)
		return nil, held
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

func (l *lock) release() error {
	if err := l.f.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("lock: %w", err)
	}
	return nil
}
