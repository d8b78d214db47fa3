package ebsdirect

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// BlockSize is the size of a block of the EBS direct APIs, in bytes.
const BlockSize = 512 << 10

// An Extent is a piece of a disk, in bytes.
type Extent struct{ Offset, Length int64 }

// A Disk is the content to publish. ReadAt is called from many goroutines.
type Disk interface {
	io.ReaderAt
	Size() int64 // bytes
	// Extents returns the pieces that may hold something else than zeros, in
	// ascending order. What is between them is zero.
	Extents(ctx context.Context) ([]Extent, error)
}

// A Raw is a file that holds a disk byte by byte.
type Raw struct {
	f    *os.File
	size int64
}

var _ Disk = (*Raw)(nil)

// OpenRaw opens the file, which must not change until it is closed.
func OpenRaw(path string) (*Raw, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	if err == nil && !fi.Mode().IsRegular() {
		err = fmt.Errorf("%s is not a file", path)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &Raw{f, fi.Size()}, nil
}

// Close closes the file.
func (r *Raw) Close() error { return r.f.Close() }

// ReadAt implements [io.ReaderAt].
func (r *Raw) ReadAt(p []byte, off int64) (int, error) { return r.f.ReadAt(p, off) }

// Size is the file's.
func (r *Raw) Size() int64 { return r.size }

// Extents asks the file system where the file has holes. One that cannot tell
// has none.
func (r *Raw) Extents(ctx context.Context) ([]Extent, error) {
	var out []Extent
	fd := int(r.f.Fd())
	for at := int64(0); at < r.size; {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		data, err := unix.Seek(fd, at, unix.SEEK_DATA)
		switch {
		case errors.Is(err, unix.ENXIO):
			return out, nil // a hole up to the end
		case errors.Is(err, unix.EINVAL), errors.Is(err, unix.EOPNOTSUPP):
			return []Extent{{0, r.size}}, nil
		case err != nil:
			return nil, fmt.Errorf("holes of %s: %w", r.f.Name(), err)
		}
		end, err := unix.Seek(fd, data, unix.SEEK_HOLE)
		if err != nil {
			return nil, fmt.Errorf("holes of %s: %w", r.f.Name(), err)
		}
		out = append(out, Extent{data, end - data})
		at = end
	}
	return out, nil
}

// blocksOf returns the indices of the blocks that any of the extents touches,
// ascending.
func blocksOf(extents []Extent, size int64) []int32 {
	var out []int32
	next := int64(0)
	for _, e := range extents {
		if e.Length <= 0 {
			continue
		}
		last := (min(e.Offset+e.Length, size) - 1) / BlockSize
		for i := max(e.Offset/BlockSize, next); i <= last; i++ {
			out = append(out, int32(i))
		}
		next = max(next, last+1)
	}
	return out
}

// merge returns the members of both lists, ascending, once.
func merge(a, b []int32) []int32 {
	out := slices.Concat(a, b)
	slices.Sort(out)
	return slices.Compact(out)
}

// readBlock fills buf with block i of d; what is past the disk's end is zero.
func readBlock(d Disk, i int32, buf []byte) error {
	off := int64(i) * BlockSize
	want := min(BlockSize, d.Size()-off)
	if want < 0 {
		want = 0
	}
	n, err := d.ReadAt(buf[:want], off)
	if int64(n) == want {
		err = nil
	} else if err == nil || errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read the disk at byte %d: %w", off, err)
	}
	clear(buf[want:])
	return nil
}
