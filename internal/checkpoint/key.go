// Package checkpoint names the states of a guest that can be gone back to.
package checkpoint

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
)

// A Key identifies the state of a guest by everything that led to it. The zero
// Key means: this state cannot be named, do not reuse it nor what follows it.
type Key struct{ sum [sha256.Size]byte }

// IsZero reports whether the state cannot be named.
func (k Key) IsZero() bool { return k == Key{} }

// String returns the key in hex, or "" for the zero key.
func (k Key) String() string {
	if k.IsZero() {
		return ""
	}
	return hex.EncodeToString(k.sum[:])
}

// Then returns the key of the state that step leads to from k. A zero key on
// either side gives the zero key.
func (k Key) Then(step Key) Key {
	if k.IsZero() || step.IsZero() {
		return Key{}
	}
	d := NewDigest("then.v1")
	d.Bytes(k.sum[:])
	d.Bytes(step.sum[:])
	return d.Key()
}

// A Digest builds a [Key] from parts. Each part is written with its length, so
// that no two lists of parts give the same key.
type Digest struct{ h hash.Hash }

// NewDigest starts with a type and version, such as "shell.v1": a change of
// what a step does or of what it digests takes a new version.
func NewDigest(version string) *Digest {
	d := &Digest{sha256.New()}
	d.Text(version)
	return d
}

// Bytes adds a part.
func (d *Digest) Bytes(p []byte) {
	var n [8]byte
	binary.BigEndian.PutUint64(n[:], uint64(len(p)))
	d.h.Write(n[:])
	d.h.Write(p)
}

// Text adds parts.
func (d *Digest) Text(parts ...string) {
	for _, p := range parts {
		d.Bytes([]byte(p))
	}
}

// Reader adds the content of r as one part.
func (d *Digest) Reader(r io.Reader) error {
	h := sha256.New()
	if _, err := io.Copy(h, r); err != nil {
		return err
	}
	d.Bytes(h.Sum(nil))
	return nil
}

// Key returns the key of the parts so far.
func (d *Digest) Key() Key {
	var k Key
	d.h.Sum(k.sum[:0])
	return k
}
