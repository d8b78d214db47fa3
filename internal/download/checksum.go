package download

import (
	"bufio"
	"crypto/md5"  //nolint:gosec // asked for by the template
	"crypto/sha1" //nolint:gosec // asked for by the template
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"fmt"
	"hash"
	"io"
	"path"
	"strings"
)

// A Checksum is what a file must have. The zero Checksum asks for nothing.
type Checksum struct {
	Type string // "md5", "sha1", "sha224", "sha256", "sha384", "sha512"
	Hex  string // lower case
	File string // where the checksum is still to be looked up; Type and Hex are then empty
}

// None reports whether nothing is asked for.
func (c Checksum) None() bool { return c == Checksum{} }

// String is the form in which a template gives it.
func (c Checksum) String() string {
	switch {
	case c.None():
		return "none"
	case c.File != "":
		return "file:" + c.File
	}
	return c.Type + ":" + c.Hex
}

func newHash(typ string) (hash.Hash, bool) {
	switch typ {
	case "md5":
		return md5.New(), true //nolint:gosec // as above
	case "sha1":
		return sha1.New(), true //nolint:gosec // as above
	case "sha224":
		return sha256.New224(), true
	case "sha256":
		return sha256.New(), true
	case "sha384":
		return sha512.New384(), true
	case "sha512":
		return sha512.New(), true
	}
	return nil, false
}

// typeOf returns the type whose sums have n hex digits.
func typeOf(n int) string {
	for _, t := range []string{"md5", "sha1", "sha224", "sha256", "sha384", "sha512"} {
		if h, _ := newHash(t); h.Size()*2 == n {
			return t
		}
	}
	return ""
}

// ParseChecksum reads "none", "<type>:<hex>", a bare hex sum whose length tells
// its type, or "file:<url>".
func ParseChecksum(s string) (Checksum, error) {
	s = strings.TrimSpace(s)
	if strings.EqualFold(s, "none") {
		return Checksum{}, nil
	}
	if f, ok := strings.CutPrefix(s, "file:"); ok {
		if f == "" {
			return Checksum{}, fmt.Errorf("checksum %q names no file", s)
		}
		return Checksum{File: f}, nil
	}
	typ, sum, ok := strings.Cut(s, ":")
	if !ok {
		sum = s
		if typ = typeOf(len(s)); typ == "" {
			return Checksum{}, fmt.Errorf("checksum %q: no type of checksum has %d hex digits", s, len(s))
		}
	}
	typ, sum = strings.ToLower(typ), strings.ToLower(sum)
	h, ok := newHash(typ)
	if !ok {
		return Checksum{}, fmt.Errorf("checksum %q: type %q is not one of md5, sha1, sha224, sha256, sha384, sha512", s, typ)
	}
	if raw, err := hex.DecodeString(sum); err != nil || len(raw) != h.Size() {
		return Checksum{}, fmt.Errorf("checksum %q: a %s sum has %d hex digits", s, typ, h.Size()*2)
	}
	return Checksum{Type: typ, Hex: sum}, nil
}

// findSum looks name up in a file of checksums: lines "<hex>  name",
// "<hex> *name", "TYPE (name) = <hex>", or one lone sum.
func findSum(r io.Reader, name string) (Checksum, error) {
	sc := bufio.NewScanner(r)
	sc.Buffer(nil, 1<<20)
	var lone []Checksum
	for lines := 0; sc.Scan(); {
		line := strings.TrimSpace(sc.Text())
		if line == "" || strings.HasPrefix(line, "#") || strings.HasPrefix(line, "-----") {
			continue
		}
		lines++
		sum, file, ok := sumLine(line)
		if !ok {
			continue
		}
		if file == "" {
			lone = append(lone, sum)
			continue
		}
		if file == name || path.Base(strings.ReplaceAll(file, `\`, "/")) == name {
			return sum, nil
		}
	}
	if err := sc.Err(); err != nil {
		return Checksum{}, err
	}
	if len(lone) == 1 {
		return lone[0], nil
	}
	return Checksum{}, fmt.Errorf("there is no checksum for %s in it", name)
}

func sumLine(line string) (sum Checksum, file string, ok bool) {
	if typ, rest, bsd := strings.Cut(line, " ("); bsd && !strings.Contains(typ, " ") {
		if i := strings.LastIndex(rest, ") = "); i >= 0 {
			c, err := ParseChecksum(strings.ReplaceAll(strings.ToLower(typ), "-", "") + ":" + rest[i+4:])
			return c, rest[:i], err == nil
		}
	}
	first, rest, _ := strings.Cut(line, " ")
	if strings.Contains(first, ":") {
		return Checksum{}, "", false
	}
	c, err := ParseChecksum(first)
	if err != nil || c.None() {
		return Checksum{}, "", false
	}
	return c, strings.TrimPrefix(strings.TrimSpace(rest), "*"), true
}
