package imagestore

import (
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// recordLocked reports whether anybody has an fcntl(2) lock on f. QEMU takes
// such locks on each image it opens, read-only ones too.
func recordLocked(f *os.File) (bool, error) {
	l := unix.Flock_t{Type: unix.F_WRLCK, Whence: io.SeekStart}
	if err := unix.FcntlFlock(f.Fd(), unix.F_OFD_GETLK, &l); err != nil {
		return false, fmt.Errorf("lock %s: %w", f.Name(), err)
	}
	return l.Type != unix.F_UNLCK, nil
}
