package s3api

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

// read reads a small body whole.
func (r request) read(limit int64) ([]byte, error) {
	b := r.body()
	raw, err := io.ReadAll(io.LimitReader(b, limit+1))
	if err != nil {
		return nil, awswire.Errorf("IncompleteBody", "The request's body ended early")
	}
	if int64(len(raw)) > limit {
		return nil, awswire.Errorf("EntityTooLarge", "The request's body is larger than %d bytes", limit)
	}
	return raw, nil
}

// A body is the bytes that a request carries, without the frames that AWS's
// chunked encoding puts around them.
type body struct {
	src     io.Reader
	sum     hash.Hash
	signed  string // the digest that the signature vouches for, "" for none
	md5     string // header Content-MD5
	decoded int64  // bytes it says it has, -1 when it does not
	n       int64
}

func (r request) body() *body {
	h := r.HTTP.Header
	b := &body{src: r.HTTP.Body, sum: sha256.New(), md5: h.Get("Content-Md5"), decoded: -1}
	switch digest := h.Get("X-Amz-Content-Sha256"); {
	case strings.HasPrefix(digest, "STREAMING-"):
		b.src = &chunks{r: bufio.NewReader(r.HTTP.Body)}
		if n, err := strconv.ParseInt(h.Get("X-Amz-Decoded-Content-Length"), 10, 64); err == nil {
			b.decoded = n
		}
	case len(digest) == 2*sha256.Size:
		b.signed = digest
	}
	return b
}

// Read implements [io.Reader].
func (b *body) Read(p []byte) (int, error) {
	n, err := b.src.Read(p)
	b.n += int64(n)
	if b.signed != "" {
		b.sum.Write(p[:n])
	}
	return n, err
}

// check compares what was read with what was announced.
func (b *body) check(o localcloud.Object) error {
	switch {
	case b.signed != "" && hex.EncodeToString(b.sum.Sum(nil)) != b.signed:
		return awswire.Errorf("XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed")
	case b.md5 != "" && !contentMD5(o.ETag, b.md5):
		return awswire.Errorf("BadDigest", "The Content-MD5 you specified did not match what we received")
	case b.decoded >= 0 && b.n != b.decoded:
		return awswire.Errorf("IncompleteBody", "The request has %d bytes, not the %d of its header", b.n, b.decoded)
	}
	return nil
}

// chunks takes the frames of aws-chunked off: a line with the size in hex and
// extensions, the bytes, a line end; after the empty chunk come trailers.
// https://docs.aws.amazon.com/AmazonS3/latest/API/sigv4-streaming.html
type chunks struct {
	r    *bufio.Reader
	left int64
	done bool
}

// Read implements [io.Reader].
func (c *chunks) Read(p []byte) (int, error) {
	if c.done {
		return 0, io.EOF
	}
	if c.left == 0 {
		line, err := c.line()
		if err != nil {
			return 0, err
		}
		size, _, _ := strings.Cut(line, ";")
		if c.left, err = strconv.ParseInt(size, 16, 64); err != nil || c.left < 0 {
			return 0, io.ErrUnexpectedEOF
		}
		if c.left == 0 {
			return 0, c.trailers()
		}
	}
	n, err := c.r.Read(p[:min(int64(len(p)), c.left)])
	c.left -= int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err == nil && c.left == 0 {
		_, err = c.line()
	}
	return n, err
}

func (c *chunks) line() (string, error) {
	line, err := c.r.ReadSlice('\n')
	if err != nil {
		return "", io.ErrUnexpectedEOF
	}
	return strings.TrimRight(string(line), "\r\n"), nil
}

func (c *chunks) trailers() error {
	for {
		line, err := c.r.ReadSlice('\n')
		if err != nil || strings.TrimSpace(string(line)) == "" {
			c.done = true
			return io.EOF
		}
	}
}

// A sequence reads the files of several objects one after the other.
type sequence struct {
	open  func(localcloud.Object) (*os.File, error)
	parts []localcloud.Object
	f     *os.File
}

// Read implements [io.Reader].
func (s *sequence) Read(p []byte) (int, error) {
	for {
		if s.f == nil {
			if len(s.parts) == 0 {
				return 0, io.EOF
			}
			f, err := s.open(s.parts[0])
			if err != nil {
				return 0, err
			}
			s.f, s.parts = f, s.parts[1:]
		}
		n, err := s.f.Read(p)
		if n > 0 || err != io.EOF {
			return n, err
		}
		s.close()
	}
}

func (s *sequence) close() {
	if s.f != nil {
		_ = s.f.Close() // read only
		s.f = nil
	}
}
