package ebsdirect

import (
	"crypto/sha256"
	"encoding/base64"
	"slices"
)

// A Digest is the SHA-256 of a block.
type Digest [sha256.Size]byte

func (d Digest) base64() string { return base64.StdEncoding.EncodeToString(d[:]) }

// A Manifest tells what a disk holds: the digest of every block that is not
// zero.
type Manifest map[int32]Digest

// indices returns the blocks, ascending.
func (m Manifest) indices() []int32 {
	out := make([]int32, 0, len(m))
	for i := range m {
		out = append(out, i)
	}
	slices.Sort(out)
	return out
}

// linear is the checksum of a snapshot with aggregation method LINEAR: of the
// digests of the blocks sent, in the order of the blocks.
func linear(sent Manifest) string {
	h := sha256.New()
	for _, i := range sent.indices() {
		d := sent[i]
		h.Write(d[:])
	}
	return base64.StdEncoding.EncodeToString(h.Sum(nil))
}
