package imagestore

import (
	"fmt"
	"io"

	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
)

// A piece is one image of a stack: what it has itself, not what is below it.
type piece interface {
	io.ReaderAt
	// Extent is as in [qcow2.Image].
	Extent(off int64) (qcow2.Kind, int64, error)
	diskSize() int64
}

type layerImage struct {
	*qcow2.Image
	path, digest string
}

func (l layerImage) diskSize() int64 { return l.Size }

func (l layerImage) Extent(off int64) (qcow2.Kind, int64, error) {
	k, n, err := l.Image.Extent(off)
	return k, n, imageError(l.path, l.digest, err)
}

func (l layerImage) ReadAt(p []byte, off int64) (int, error) {
	n, err := l.Image.ReadAt(p, off)
	if err != nil && err != io.EOF {
		err = imageError(l.path, l.digest, err)
	}
	return n, err
}

// A stack is images over each other, the top one first. An empty stack is all
// zero.
type stack []piece

// apart cuts off the layers that a and b both end in.
func apart(a, b stack) (stack, stack) {
	digest := func(p piece) string {
		l, _ := p.(layerImage)
		return l.digest
	}
	for len(a) > 0 && len(b) > 0 {
		d := digest(a[len(a)-1])
		if d == "" || d != digest(b[len(b)-1]) {
			break
		}
		a, b = a[:len(a)-1], b[:len(b)-1]
	}
	return a, b
}

// extent returns which image decides about the bytes at off (len(st) for none,
// then the kind is Absent), and how many bytes that holds for; off must be
// below limit, and the answer does not pass it. Past the end of an image that
// others are over, the disk is zero whatever is below.
func (st stack) extent(off, limit int64) (at int, kind qcow2.Kind, n int64, err error) {
	n = limit - off
	for i, p := range st {
		if off >= p.diskSize() {
			return i, qcow2.Zero, n, nil
		}
		k, m, err := p.Extent(off)
		if err != nil {
			return i, k, 0, err
		}
		if m <= 0 {
			return i, k, 0, fmt.Errorf("an image has no extent at %d", off)
		}
		n = min(n, m)
		if k != qcow2.Absent {
			return i, k, n, nil
		}
	}
	return len(st), qcow2.Absent, n, nil
}

// blank reports whether the n bytes at off are zero as far as the mapping
// tells, without reading data.
func (st stack) blank(off, n int64) (bool, error) {
	for end := off + n; off < end; {
		_, k, m, err := st.extent(off, end)
		if err != nil || k == qcow2.Data {
			return false, err
		}
		off += m
	}
	return true, nil
}

// read fills p from off; there is no end, what is past it is zero.
func (st stack) read(p []byte, off int64) error {
	for len(p) > 0 {
		at, k, n, err := st.extent(off, off+int64(len(p)))
		if err != nil {
			return err
		}
		if k == qcow2.Data {
			if _, err := st[at].ReadAt(p[:n], off); err != nil {
				return err
			}
		} else {
			clear(p[:n])
		}
		p, off = p[n:], off+n
	}
	return nil
}
