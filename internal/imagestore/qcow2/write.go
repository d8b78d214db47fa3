package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
)

// The one shape that is written: version 3, clusters of 64 KiB, reference
// counts of 16 bits, data clusters in the order of the disk right after the
// header, then the tables. Equal content gives equal bytes.
const (
	ClusterBits = 16
	ClusterSize = 1 << ClusterBits

	l2Entries    = ClusterSize / 8
	refsPerBlock = ClusterSize / 2
	refOrder     = 4 // 2^4 bits
)

// A Layout decides where the clusters of a new image go. The zero value is not
// usable; it is for one goroutine at a time.
type Layout struct {
	size    int64
	backing string
	l2      map[int64][]byte // by first-level index
	data    int64            // clusters handed out
}

// NewLayout starts an image of size bytes, a multiple of 512, over the qcow2
// image named backing ("" for none).
func NewLayout(size int64, backing string) (*Layout, error) {
	if size <= 0 || size%512 != 0 {
		return nil, fmt.Errorf("a disk of %d bytes: the size must be a positive multiple of 512", size)
	}
	if l1 := (size-1)>>ClusterBits/l2Entries + 1; l1*8 > maxL1Bytes {
		return nil, fmt.Errorf("a disk of %d bytes is too large for a qcow2 image with clusters of 64 KiB", size)
	}
	if len(backing) > maxBackingName {
		return nil, fmt.Errorf("the name of the backing file has %d bytes, %d are allowed: %s", len(backing), maxBackingName, backing)
	}
	return &Layout{size: size, backing: backing, l2: map[int64][]byte{}}, nil
}

// AddData gives the disk's cluster index a place and returns its offset in the
// file, where the caller writes all ClusterSize bytes.
func (l *Layout) AddData(index int64) (host int64) {
	l.data++
	host = l.data * ClusterSize // the first cluster is the header
	l.set(index, uint64(host)|flagCopied)
	return host
}

// AddZero makes the disk's cluster index read as zero.
func (l *Layout) AddZero(index int64) { l.set(index, flagZero) }

func (l *Layout) set(index int64, entry uint64) {
	t := l.l2[index/l2Entries]
	if t == nil {
		t = make([]byte, ClusterSize)
		l.l2[index/l2Entries] = t
	}
	binary.BigEndian.PutUint64(t[index%l2Entries*8:], entry)
}

// Finish writes the header and the tables to w and returns the file's size.
func (l *Layout) Finish(w io.WriterAt) (fileSize int64, err error) {
	be := binary.BigEndian
	l1Entries := (l.size-1)>>ClusterBits/l2Entries + 1
	l1 := make([]byte, clusters(l1Entries*8)*ClusterSize)
	next := (1 + l.data) * ClusterSize
	put := func(p []byte) int64 {
		at := next
		if err == nil {
			_, err = w.WriteAt(p, at)
		}
		next += int64(len(p))
		return at
	}
	for _, i := range slices.Sorted(maps.Keys(l.l2)) {
		be.PutUint64(l1[i*8:], uint64(put(l.l2[i]))|flagCopied)
	}
	l1At := put(l1)

	// The counts count themselves.
	used := next / ClusterSize
	blocks, tables := int64(1), int64(1)
	for {
		b := (used + blocks + tables + refsPerBlock - 1) / refsPerBlock
		t := clusters(b * 8)
		if b == blocks && t == tables {
			break
		}
		blocks, tables = b, t
	}
	total := used + blocks + tables
	table := make([]byte, tables*ClusterSize)
	block := make([]byte, ClusterSize)
	for b := range blocks {
		clear(block)
		for i := range min(refsPerBlock, total-b*refsPerBlock) {
			be.PutUint16(block[i*2:], 1)
		}
		be.PutUint64(table[b*8:], uint64(put(block)))
	}
	tableAt := put(table)

	head := make([]byte, ClusterSize)
	be.PutUint32(head[0:], magic)
	be.PutUint32(head[4:], 3)
	be.PutUint32(head[20:], ClusterBits)
	be.PutUint64(head[24:], uint64(l.size))
	be.PutUint32(head[36:], uint32(l1Entries))
	be.PutUint64(head[40:], uint64(l1At))
	be.PutUint64(head[48:], uint64(tableAt))
	be.PutUint32(head[56:], uint32(tables))
	be.PutUint32(head[96:], refOrder)
	be.PutUint32(head[100:], headerV3)
	if l.backing != "" {
		const format = "qcow2"
		at := headerV3
		be.PutUint32(head[at:], extBackingFormat)
		be.PutUint32(head[at+4:], uint32(len(format)))
		copy(head[at+8:], format)
		at += 8 + 8 + 8 // the extension padded to 8, and the end mark, which is zero
		be.PutUint64(head[8:], uint64(at))
		be.PutUint32(head[16:], uint32(len(l.backing)))
		copy(head[at:], l.backing)
	}
	if err == nil {
		_, err = w.WriteAt(head, 0)
	}
	return next, err
}

func clusters(bytes int64) int64 { return (bytes + ClusterSize - 1) / ClusterSize }

// errDiffers is what a comparing writer returns.
var errDiffers = errors.New("differs")

// Matches reports whether the header and the tables in f, a file of fileSize
// bytes, are byte for byte what Finish writes.
func (l *Layout) Matches(f io.ReaderAt, fileSize int64) (bool, error) {
	n, err := l.Finish(comparer{f, fileSize})
	if errors.Is(err, errDiffers) {
		return false, nil
	}
	return err == nil && n == fileSize, err
}

type comparer struct {
	f    io.ReaderAt
	size int64
}

func (c comparer) WriteAt(p []byte, off int64) (int, error) {
	got := make([]byte, len(p))
	n, err := readUpTo(c.f, got, off, c.size)
	if err != nil {
		return 0, err
	}
	if n < len(p) || string(got) != string(p) {
		return 0, errDiffers
	}
	return len(p), nil
}
