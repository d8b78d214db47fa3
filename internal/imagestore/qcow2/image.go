package qcow2

import (
	"encoding/binary"
	"fmt"
	"io"
	"sync/atomic"
)

// Kind says what an image has for a piece of the disk.
type Kind uint8

// The kinds.
const (
	Absent Kind = iota // nothing: the image below decides
	Zero               // zero bytes, whatever is below
	Data
)

const (
	flagCopied     = 1 << 63
	flagCompressed = 1 << 62
	flagZero       = 1
	offsetMask     = 0x00fffffffffffe00
)

// An Image is open for reading. Its methods are safe for concurrent use; they
// show the image as the mapping tables were when each was first used.
type Image struct {
	Header
	f        io.ReaderAt
	fileSize int64
	l1       []uint64
	l2       []atomic.Pointer[[]byte] // tables as in the file, loaded when needed
}

// Open reads the header and the first-level table of an image of fileSize
// bytes. f stays the caller's and must stay open.
func Open(f io.ReaderAt, fileSize int64) (*Image, error) {
	h, err := ReadHeader(f, fileSize)
	if err != nil {
		return nil, err
	}
	m := &Image{Header: h, f: f, fileSize: fileSize}
	raw := make([]byte, h.l1Entries*8)
	if n, err := readUpTo(f, raw, h.l1Offset, fileSize); err != nil {
		return nil, err
	} else if n < len(raw) {
		return nil, corrupt("the file ends inside the first-level table")
	}
	m.l1 = make([]uint64, h.l1Entries)
	m.l2 = make([]atomic.Pointer[[]byte], h.l1Entries)
	// A table used twice would let a small file describe a disk without end.
	seen := make(map[uint64]bool)
	for i := range m.l1 {
		off := binary.BigEndian.Uint64(raw[i*8:]) & offsetMask
		if off == 0 {
			continue
		}
		if seen[off] {
			return nil, corrupt("two first-level entries share the table at %#x", off)
		}
		seen[off] = true
		if off%uint64(h.ClusterSize()) != 0 || int64(off) > fileSize-h.ClusterSize() {
			return nil, corrupt("the second-level table at %#x is not in the file", off)
		}
		m.l1[i] = off
	}
	return m, nil
}

// table returns second-level table i, nil when there is none.
func (m *Image) table(i int64) ([]byte, error) {
	if i >= int64(len(m.l1)) || m.l1[i] == 0 {
		return nil, nil
	}
	if t := m.l2[i].Load(); t != nil {
		return *t, nil
	}
	t := make([]byte, m.ClusterSize())
	if n, err := readUpTo(m.f, t, int64(m.l1[i]), m.fileSize); err != nil {
		return nil, err
	} else if n < len(t) {
		return nil, corrupt("the file ends inside a second-level table")
	}
	m.l2[i].Store(&t)
	return t, nil
}

// A mapping is what one second-level entry says.
type mapping struct {
	kind       Kind
	compressed bool
	host       int64 // where in the file
	stored     int64 // bytes of compressed data in the file, an upper bound
}

func (m *Image) decode(e uint64) (mapping, error) {
	if e&flagCompressed != 0 {
		sizeShift := 62 - (m.ClusterBits - 8)
		host := int64(e & (1<<sizeShift - 1))
		sectors := int64(e&(flagCompressed-1)) >> sizeShift
		if host == 0 || host >= m.fileSize {
			return mapping{}, corrupt("a compressed cluster at %#x is not in the file", host)
		}
		return mapping{kind: Data, compressed: true, host: host, stored: (sectors+1)*512 - host%512}, nil
	}
	host := int64(e & offsetMask)
	if host%m.ClusterSize() != 0 {
		return mapping{}, corrupt("a cluster at %#x is not aligned", host)
	}
	if e&flagZero != 0 {
		if m.Version < 3 {
			return mapping{}, corrupt("a zero cluster in a version 2 image")
		}
		return mapping{kind: Zero}, nil
	}
	if host == 0 {
		return mapping{}, nil
	}
	if host >= m.fileSize {
		return mapping{}, corrupt("a cluster at %#x is not in the file: it is cut short", host)
	}
	return mapping{kind: Data, host: host}, nil
}

// Extent returns the kind of the piece that begins at off, which must be below
// Size, and its length in bytes: at least 1, not past Size. Neighbouring pieces
// may be of the same kind.
func (m *Image) Extent(off int64) (Kind, int64, error) {
	e, err := m.extent(off)
	return e.kind, e.length, err
}

// An extent is a run of one kind; data that is not compressed lies in one
// piece at host, compressed data is one cluster.
type extent struct {
	mapping
	start  int64 // where the cluster at host begins on the disk
	length int64 // from the offset asked for
}

func (m *Image) extent(off int64) (extent, error) {
	if off < 0 || off >= m.Size {
		return extent{}, fmt.Errorf("offset %d is outside a disk of %d bytes", off, m.Size)
	}
	l2Bits := m.ClusterBits - 3
	cluster := off >> m.ClusterBits
	e := extent{start: cluster << m.ClusterBits}
	i := cluster >> l2Bits
	last := (i + 1) << l2Bits // first cluster of the next table
	t, err := m.table(i)
	if err != nil {
		return e, err
	}
	if t == nil {
		// Missing tables are skipped together: a huge empty disk is walked fast.
		for i+1 < int64(len(m.l1)) && m.l1[i+1] == 0 && last<<m.ClusterBits < m.Size {
			i++
			last += 1 << l2Bits
		}
		e.length = m.clip(last) - off
		return e, nil
	}
	entry := func(c int64) uint64 { return binary.BigEndian.Uint64(t[c&(1<<l2Bits-1)*8:]) }
	if e.mapping, err = m.decode(entry(cluster)); err != nil {
		return e, err
	}
	end := cluster + 1
	for ; end < last && end<<m.ClusterBits < m.Size && !e.compressed; end++ {
		next, err := m.decode(entry(end))
		if err != nil || next.kind != e.kind || next.compressed {
			break // an error is reported when its cluster is asked for
		}
		if e.kind == Data && next.host != e.host+(end-cluster)<<m.ClusterBits {
			break
		}
	}
	e.length = m.clip(end) - off
	return e, nil
}

// clip returns where cluster begins, or the disk's end.
func (m *Image) clip(cluster int64) int64 {
	if cluster > m.Size>>m.ClusterBits {
		return m.Size
	}
	return min(cluster<<m.ClusterBits, m.Size)
}

// ReadAt reads what this image itself has; pieces it leaves to the image below
// read as zero. It implements [io.ReaderAt].
func (m *Image) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		if off >= m.Size {
			return n, io.EOF
		}
		e, err := m.extent(off)
		if err != nil {
			return n, err
		}
		part := p[n:min(int64(len(p)), int64(n)+e.length)]
		switch {
		case e.kind != Data:
			clear(part)
		case e.compressed:
			err = m.readCompressed(part, off-e.start, e.mapping)
		default:
			err = m.readPlain(part, e.host+off-e.start)
		}
		if err != nil {
			return n, err
		}
		n += len(part)
		off += int64(len(part))
	}
	return n, nil
}

func (m *Image) readPlain(p []byte, host int64) error {
	n, err := readUpTo(m.f, p, host, m.fileSize)
	if err != nil {
		return err
	}
	clear(p[n:]) // the last cluster need not be written in full
	return nil
}
