package localcloud

import (
	"bytes"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/big"
	"strings"

	"golang.org/x/crypto/ssh"
)

// puttyKey writes a private key in version 2 of PuTTY's form, not encrypted.
// https://the.earth.li/~sgtatham/putty/0.83/htmldoc/AppendixC.html
func puttyKey(private any, public ssh.PublicKey, comment string) (string, error) {
	var blob []byte
	switch k := private.(type) {
	case *rsa.PrivateKey:
		k.Precompute()
		for _, n := range []*big.Int{k.D, k.Primes[0], k.Primes[1], k.Precomputed.Qinv} {
			blob = sshInt(blob, n)
		}
	case ed25519.PrivateKey:
		blob = sshString(blob, k.Seed())
	default:
		return "", fmt.Errorf("local cloud: no PuTTY form for %T", private)
	}
	kind, pub := public.Type(), public.Marshal()
	var signed []byte
	for _, part := range [][]byte{[]byte(kind), []byte("none"), []byte(comment), pub, blob} {
		signed = sshString(signed, part)
	}
	key := sha1.Sum([]byte("putty-private-key-file-mac-key"))
	mac := hmac.New(sha1.New, key[:])
	mac.Write(signed)
	var b strings.Builder
	fmt.Fprintf(&b, "PuTTY-User-Key-File-2: %s\r\nEncryption: none\r\nComment: %s\r\n", kind, comment)
	for _, part := range []struct {
		name string
		raw  []byte
	}{{"Public", pub}, {"Private", blob}} {
		lines := wrap(base64.StdEncoding.EncodeToString(part.raw), 64)
		fmt.Fprintf(&b, "%s-Lines: %d\r\n%s\r\n", part.name, len(lines), strings.Join(lines, "\r\n"))
	}
	fmt.Fprintf(&b, "Private-MAC: %s\r\n", hex.EncodeToString(mac.Sum(nil)))
	return b.String(), nil
}

func sshString(b, s []byte) []byte {
	return append(binary.BigEndian.AppendUint32(b, uint32(len(s))), s...)
}

// sshInt appends a number that is not negative.
func sshInt(b []byte, n *big.Int) []byte {
	raw := n.Bytes()
	if len(raw) > 0 && raw[0]&0x80 != 0 {
		raw = bytes.Join([][]byte{{0}, raw}, nil)
	}
	return sshString(b, raw)
}

func wrap(s string, n int) []string {
	var out []string
	for len(s) > n {
		out, s = append(out, s[:n]), s[n:]
	}
	return append(out, s)
}
