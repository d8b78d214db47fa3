package compress

import (
	"bytes"
	"encoding/binary"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"
)

// A bgzf writes the blocked gzip format: gzip members of at most 64 KiB, each
// with its own size in an extra field "BC", and an empty one at the end
// (SAM specification, section 4.1, https://samtools.github.io/hts-specs/SAMv1.pdf).
type bgzf struct {
	w     io.Writer
	z     *flate.Writer
	block []byte // waits to be compressed
	out   bytes.Buffer
}

const (
	// blockSize is what a block holds, in bytes: so much that a block which
	// cannot be compressed still fits its size field of two bytes.
	blockSize  = 0xff00
	headerSize = 18
)

func newBGZF(w io.Writer, level int) (*bgzf, error) {
	z, err := flate.NewWriter(nil, level)
	if err != nil {
		return nil, err
	}
	return &bgzf{w: w, z: z}, nil
}

func (b *bgzf) Write(p []byte) (n int, err error) {
	for len(p) > 0 {
		take := min(len(p), blockSize-len(b.block))
		b.block = append(b.block, p[:take]...)
		p = p[take:]
		n += take
		if len(b.block) == blockSize {
			if err := b.flush(b.z); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

func (b *bgzf) flush(z *flate.Writer) error {
	b.out.Reset()
	b.out.Write([]byte{
		0x1f, 0x8b, 8, 4, // gzip, deflate, an extra field
		0, 0, 0, 0, 0, 0xff, // no time, unknown system
		6, 0, 'B', 'C', 2, 0, 0, 0, // the size of the block follows when it is known
	})
	z.Reset(&b.out)
	if _, err := z.Write(b.block); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	var tail [8]byte
	binary.LittleEndian.PutUint32(tail[:4], crc32.ChecksumIEEE(b.block))
	binary.LittleEndian.PutUint32(tail[4:], uint32(len(b.block)))
	b.out.Write(tail[:])
	raw := b.out.Bytes()
	if len(raw) > 1<<16 {
		// Compression made it longer than a block can be: store it.
		stored, err := flate.NewWriter(nil, flate.NoCompression)
		if err != nil {
			return err
		}
		return b.flush(stored)
	}
	binary.LittleEndian.PutUint16(raw[headerSize-2:], uint16(len(raw)-1))
	b.block = b.block[:0]
	_, err := b.w.Write(raw)
	return err
}

// eof is the empty block that ends a file.
var eof = []byte("\x1f\x8b\x08\x04\x00\x00\x00\x00\x00\xff\x06\x00BC\x02\x00\x1b\x00\x03\x00\x00\x00\x00\x00\x00\x00\x00\x00")

// Close writes what is left and the end. It does not close the writer below.
func (b *bgzf) Close() error {
	if len(b.block) > 0 {
		if err := b.flush(b.z); err != nil {
			return err
		}
	}
	_, err := b.w.Write(eof)
	return err
}
