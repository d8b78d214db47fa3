package qcow2

import (
	"bytes"
	"compress/flate"
	"io"

	"github.com/klauspost/compress/zstd"
)

// readCompressed fills p from the compressed cluster at c, leaving out the
// first skip bytes.
func (m *Image) readCompressed(p []byte, skip int64, c mapping) error {
	// The length is in sectors: what follows the stream in the last one is
	// another cluster's or nothing.
	raw := make([]byte, min(c.stored, m.fileSize-c.host))
	n, err := readUpTo(m.f, raw, c.host, m.fileSize)
	if err != nil {
		return err
	}
	r, err := m.decompressor(raw[:n])
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err = io.CopyN(io.Discard, r, skip); err == nil {
		_, err = io.ReadFull(r, p)
	}
	if err != nil {
		return corrupt("the compressed cluster at %#x: %v", c.host, err)
	}
	return nil
}

func (m *Image) decompressor(raw []byte) (io.ReadCloser, error) {
	if m.Compression == Deflate {
		return flate.NewReader(bytes.NewReader(raw)), nil
	}
	d, err := zstd.NewReader(bytes.NewReader(raw),
		zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(1<<23))
	if err != nil {
		return nil, err
	}
	return d.IOReadCloser(), nil
}
