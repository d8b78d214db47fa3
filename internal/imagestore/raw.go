package imagestore

import (
	"errors"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
)

// A rawImage is a plain file or block device; its holes are absent.
type rawImage struct {
	f     *os.File
	bytes int64 // of the file
	size  int64 // of the disk: whole sectors
}

func newRaw(f *os.File) (*rawImage, error) {
	n, err := f.Seek(0, io.SeekEnd) // of a block device, Stat says 0
	if err != nil {
		return nil, err
	}
	return &rawImage{f, n, (n + 511) &^ 511}, nil
}

func (r *rawImage) diskSize() int64 { return r.size }

func (r *rawImage) Extent(off int64) (qcow2.Kind, int64, error) {
	rest := r.size - off
	if off >= r.bytes {
		return qcow2.Absent, rest, nil
	}
	data, err := unix.Seek(int(r.f.Fd()), off, unix.SEEK_DATA)
	switch {
	case errors.Is(err, unix.ENXIO):
		return qcow2.Absent, rest, nil // only a hole is left
	case err != nil:
		return qcow2.Data, rest, nil // the file system or device does not say
	case data > off:
		return qcow2.Absent, data - off, nil
	}
	hole, err := unix.Seek(int(r.f.Fd()), off, unix.SEEK_HOLE)
	if err != nil || hole <= off || hole >= r.bytes {
		return qcow2.Data, rest, nil
	}
	return qcow2.Data, hole - off, nil
}

// ReadAt reads zeros between the end of the file and the end of the disk.
func (r *rawImage) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		clear(p[n:])
		return len(p), nil
	}
	return n, err
}
