package localcloud

import (
	"crypto/rand"
	"encoding/hex"
	"strings"
)

// NewID returns a random id in EC2's long form, such as i-0123456789abcdef0.
// The dash that ends the prefix may be left out.
func NewID(prefix string) string {
	var b [9]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[0] &= 0x0f           // as the vendor's begin with 0
	return strings.TrimSuffix(prefix, "-") + "-" + hex.EncodeToString(b[:])[1:]
}

// ValidID reports whether id has the form of one with the prefix: 8 or 17
// digits in lower case hexadecimal.
func ValidID(prefix, id string) bool {
	digits, ok := strings.CutPrefix(id, strings.TrimSuffix(prefix, "-")+"-")
	return ok && (len(digits) == 8 || len(digits) == 17) && strings.Trim(digits, "0123456789abcdef") == ""
}
