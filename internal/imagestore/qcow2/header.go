// Package qcow2 reads disk images of QEMU's format qcow2, versions 2 and 3,
// and writes the one shape of them that the image store keeps. The format is
// described in https://www.qemu.org/docs/master/interop/qcow2.html.
//
// An image is hostile input: whatever its bytes are, reading it ends, uses
// memory in proportion to the file's size, and does not panic. Files below an
// image are named, never opened.
package qcow2

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	magic = 0x514649fb // "QFI\xfb"

	headerV2 = 72
	headerV3 = 104

	minClusterBits = 9
	maxClusterBits = 21
	maxL1Bytes     = 32 << 20 // QEMU opens no image with a larger table
	maxBackingName = 1023
)

// Incompatible feature bits.
const (
	featDirty        = 1 << 0 // reference counts may be stale: the mapping is not
	featCorrupt      = 1 << 1
	featExternalData = 1 << 2
	featCompression  = 1 << 3
	featExtendedL2   = 1 << 4

	featKnown = featDirty | featCorrupt | featExternalData | featCompression | featExtendedL2
)

// Header extension types.
const (
	extEnd           = 0
	extBackingFormat = 0xe2792aca
)

// Compression is how compressed clusters are compressed.
type Compression uint8

// The compressions.
const (
	Deflate Compression = 0
	Zstd    Compression = 1
)

// ErrFormat is wrapped by the error for a file that does not begin as a qcow2
// image does.
var ErrFormat = errors.New("it is not a qcow2 image")

// A CorruptError says that an image contradicts itself.
type CorruptError struct{ Reason string }

func (e *CorruptError) Error() string { return "damaged qcow2 image: " + e.Reason }

// An UnsupportedError names what an image uses that this package cannot read.
type UnsupportedError struct{ Feature string }

func (e *UnsupportedError) Error() string {
	return "qcow2 image with " + e.Feature + ", which is not supported"
}

func corrupt(format string, args ...any) error {
	return &CorruptError{fmt.Sprintf(format, args...)}
}

// A Header is what an image says of itself.
type Header struct {
	Version       int
	Size          int64 // bytes the guest sees
	ClusterBits   uint
	Backing       string // name of the image below as it is written, "" for none
	BackingFormat string // "" when not written down
	Compression   Compression
	Dirty         bool // not closed cleanly; the content is whole

	l1Offset  int64
	l1Entries int
}

// ClusterSize is the unit of allocation in bytes.
func (h *Header) ClusterSize() int64 { return 1 << h.ClusterBits }

// ReadHeader reads the header of an image of fileSize bytes.
func ReadHeader(f io.ReaderAt, fileSize int64) (Header, error) {
	var fix [headerV3 + 8]byte
	n, err := readUpTo(f, fix[:], 0, fileSize)
	if err != nil {
		return Header{}, err
	}
	be := binary.BigEndian
	if n < headerV2 || be.Uint32(fix[:]) != magic {
		return Header{}, ErrFormat
	}
	h := Header{Version: int(be.Uint32(fix[4:])), ClusterBits: uint(be.Uint32(fix[20:]))}
	if h.Version != 2 && h.Version != 3 {
		return h, &UnsupportedError{fmt.Sprintf("version %d", h.Version)}
	}
	if h.ClusterBits < minClusterBits || h.ClusterBits > maxClusterBits {
		return h, corrupt("clusters of 2^%d bytes", h.ClusterBits)
	}
	if be.Uint32(fix[32:]) != 0 {
		return h, &UnsupportedError{"encryption"}
	}
	headerLen := int64(headerV2)
	if h.Version == 3 {
		if headerLen, err = h.versionThree(fix[:n]); err != nil {
			return h, err
		}
	}
	if err := h.mapping(be.Uint64(fix[24:]), be.Uint64(fix[40:]), be.Uint32(fix[36:]), fileSize); err != nil {
		return h, err
	}
	first := make([]byte, min(h.ClusterSize(), fileSize))
	if n, err = readUpTo(f, first, 0, fileSize); err != nil {
		return h, err
	}
	return h, h.names(first[:n], headerLen, be.Uint64(fix[8:]), be.Uint32(fix[16:]))
}

// versionThree reads what version 2 does not have.
func (h *Header) versionThree(fix []byte) (headerLen int64, err error) {
	if len(fix) < headerV3 {
		return 0, corrupt("the file ends inside the header")
	}
	be := binary.BigEndian
	headerLen = int64(be.Uint32(fix[100:]))
	if headerLen < headerV3 || headerLen%8 != 0 || headerLen > h.ClusterSize() {
		return 0, corrupt("a header of %d bytes", headerLen)
	}
	feat := be.Uint64(fix[72:])
	switch {
	case feat&^featKnown != 0:
		return 0, &UnsupportedError{fmt.Sprintf("unknown features %#x", feat&^featKnown)}
	case feat&featExternalData != 0:
		return 0, &UnsupportedError{"an external data file"}
	case feat&featExtendedL2 != 0:
		return 0, &UnsupportedError{"subclusters (extended_l2)"}
	case feat&featCorrupt != 0:
		return 0, corrupt("QEMU has marked it as corrupt")
	}
	h.Dirty = feat&featDirty != 0
	if headerLen > headerV3 && len(fix) > headerV3 {
		h.Compression = Compression(fix[headerV3])
	}
	if h.Compression > Zstd {
		return 0, &UnsupportedError{fmt.Sprintf("compression type %d", h.Compression)}
	}
	if (h.Compression != Deflate) != (feat&featCompression != 0) {
		return 0, corrupt("its compression type is not announced")
	}
	return headerLen, nil
}

// mapping checks the size and the first-level table.
func (h *Header) mapping(size, l1Offset uint64, l1Entries uint32, fileSize int64) error {
	if size > 1<<62 {
		return corrupt("a virtual size of %d bytes", size)
	}
	h.Size = int64(size) &^ 511 // QEMU counts whole sectors
	if uint64(l1Entries)*8 > maxL1Bytes {
		return corrupt("a first-level table of %d entries", l1Entries)
	}
	perL2 := h.ClusterSize() * (h.ClusterSize() / 8)
	if need := (h.Size-1)/perL2 + 1; h.Size > 0 && need > int64(l1Entries) {
		return corrupt("a first-level table of %d entries for %d bytes", l1Entries, size)
	}
	bytes := int64(l1Entries) * 8
	if l1Entries > 0 && (l1Offset%uint64(h.ClusterSize()) != 0 || l1Offset == 0 || l1Offset > uint64(fileSize) || int64(l1Offset) > fileSize-bytes) {
		return corrupt("its first-level table is not in the file")
	}
	h.l1Offset, h.l1Entries = int64(l1Offset), int(l1Entries)
	return nil
}

// names reads the backing file's name and the header extensions from the
// first cluster.
func (h *Header) names(first []byte, off int64, nameOff uint64, nameLen uint32) error {
	end := uint64(len(first))
	if nameOff != 0 {
		if nameLen > maxBackingName || nameOff > end || uint64(nameLen) > end-nameOff {
			return corrupt("the name of its backing file is not in the header cluster")
		}
		h.Backing = string(first[nameOff : nameOff+uint64(nameLen)])
		if nameOff >= uint64(off) {
			end = nameOff // extensions stand before the name
		}
	}
	be := binary.BigEndian
	for p := uint64(off); p+8 <= end; {
		kind, n := be.Uint32(first[p:]), uint64(be.Uint32(first[p+4:]))
		p += 8
		if kind == extEnd {
			break
		}
		if n > end-p {
			return corrupt("a header extension of %d bytes", n)
		}
		if kind == extBackingFormat {
			h.BackingFormat = string(first[p : p+n])
		}
		p += (n + 7) &^ 7
	}
	return nil
}

// readUpTo fills p from off, stopping at the end of the file.
func readUpTo(f io.ReaderAt, p []byte, off, fileSize int64) (int, error) {
	if off >= fileSize {
		return 0, nil
	}
	p = p[:min(int64(len(p)), fileSize-off)]
	n, err := f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
