package imagestore

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"iter"

	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
)

// A Disk is the whole content of a layer, those below it included. Its methods
// are safe for concurrent use; its layers stay until it is closed.
type Disk struct {
	store *Store
	layer Layer
	stack stack
	done  func()
}

// Read opens the disk that a layer shows. The content is not verified.
func (s *Store) Read(digest string) (*Disk, error) {
	if digest == "" {
		return nil, &NotFoundError{"layer", digest}
	}
	st, chain, done, err := s.openStack(digest)
	if err != nil {
		done()
		return nil, err
	}
	return &Disk{s, chain[0], st, done}, nil
}

// Layer describes the uppermost layer.
func (d *Disk) Layer() Layer { return d.layer }

// Size is the disk's size in bytes.
func (d *Disk) Size() int64 { return d.layer.Size }

// Close gives the layers back. Closing twice does no harm.
func (d *Disk) Close() error {
	d.done()
	return nil
}

// ReadAt implements [io.ReaderAt].
func (d *Disk) ReadAt(p []byte, off int64) (int, error) {
	if off < 0 {
		return 0, fmt.Errorf("read disk: negative offset %d", off)
	}
	if off >= d.layer.Size {
		return 0, io.EOF
	}
	n := min(int64(len(p)), d.layer.Size-off)
	if err := d.stack.read(p[:n], off); err != nil {
		return 0, err
	}
	if n < int64(len(p)) {
		return int(n), io.EOF
	}
	return int(n), nil
}

var errBlockSize = errors.New("the block size must be positive")

// Blocks yields, in order, the indices of the blocks of blockSize bytes that
// are not all zero. When blockSize is a multiple of 64 KiB no data is read.
// It ends after an error.
func (d *Disk) Blocks(blockSize int64) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		buf := make([]byte, 0)
		if blockSize > 0 && blockSize%clusterSize != 0 {
			buf = make([]byte, blockSize)
		}
		zero := make([]byte, len(buf))
		for i, err := range blocks(blockSize, d.layer.Size, func(off int64) (bool, int64, error) {
			_, k, n, err := d.stack.extent(off, d.layer.Size)
			return k == qcow2.Data, n, err
		}) {
			if err == nil && len(buf) > 0 {
				// A cluster that is there is not zero, a part of it may be.
				if err = d.stack.read(buf, i*blockSize); err == nil && bytes.Equal(buf, zero) {
					continue
				}
			}
			if !yield(i, err) || err != nil {
				return
			}
		}
	}
}

// Changed yields, in order, the indices of the blocks of blockSize bytes in
// which d and the disk of the layer other differ; a disk is zero past its end.
// Only what the layers that the two do not share have is read. other "" is a
// blank disk. It ends after an error.
func (d *Disk) Changed(other string, blockSize int64) iter.Seq2[int64, error] {
	if other == "" {
		return d.Blocks(blockSize)
	}
	return func(yield func(int64, error) bool) {
		o, err := d.store.Read(other)
		if err != nil {
			yield(0, err)
			return
		}
		defer o.Close()
		mine, theirs := apart(d.stack, o.stack)
		size := max(d.layer.Size, o.layer.Size)
		var a, b []byte
		for i, err := range blocks(blockSize, size, func(off int64) (bool, int64, error) {
			_, k, n, err := mine.extent(off, size)
			if err != nil {
				return false, 0, err
			}
			_, l, m, err := theirs.extent(off, size)
			return k != qcow2.Absent || l != qcow2.Absent, min(n, m), err
		}) {
			if a == nil && err == nil {
				a, b = make([]byte, blockSize), make([]byte, blockSize)
			}
			if err == nil {
				err = d.stack.read(a, i*blockSize)
			}
			if err == nil {
				err = o.stack.read(b, i*blockSize)
			}
			if err == nil && bytes.Equal(a, b) {
				continue
			}
			if !yield(i, err) || err != nil {
				return
			}
		}
	}
}

// blocks yields each block that overlaps a piece for which extent says true.
func blocks(blockSize, size int64, extent func(off int64) (hit bool, n int64, err error)) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		if blockSize <= 0 {
			yield(0, errBlockSize)
			return
		}
		next := int64(0)
		for off := int64(0); off < size; {
			hit, n, err := extent(off)
			if err != nil {
				yield(0, err)
				return
			}
			if hit {
				for next = max(next, off/blockSize); next <= (off+n-1)/blockSize; next++ {
					if !yield(next, nil) {
						return
					}
				}
			}
			off += n
		}
	}
}
