// Package ntlm is NTLM version 2 as WinRM uses it over HTTP: it proves that
// one knows the password, and seals what is said afterwards. Both ends are
// here. Protocol: MS-NLMP; section numbers below are those of the document.
package ntlm

import (
	"bytes"
	"crypto/hmac"
	"crypto/md5"
	"crypto/rand"
	"crypto/rc4"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
	"unicode/utf16"

	"golang.org/x/crypto/md4" //lint:ignore SA1019 NTLM is made of it ([MS-NLMP] 3.3)
)

// Flags of 2.2.2.5 that both ends here ask for and accept.
const (
	flagUnicode      = 0x00000001
	flagTarget       = 0x00000004
	flagSign         = 0x00000010
	flagSeal         = 0x00000020
	flagNTLM         = 0x00000200
	flagAlwaysSign   = 0x00008000
	flagTargetServer = 0x00020000
	flagExtended     = 0x00080000
	flagTargetInfo   = 0x00800000
	flagVersion      = 0x02000000
	flag128          = 0x20000000
	flagKeyExchange  = 0x40000000
	flag56           = 0x80000000

	clientFlags = flagUnicode | flagTarget | flagSign | flagSeal | flagNTLM | flagAlwaysSign | flagExtended |
		flagTargetInfo | flagVersion | flag128 | flagKeyExchange | flag56
	// needed is what the sealing here cannot do without.
	needed = flagUnicode | flagExtended | flag128 | flagKeyExchange | flagSeal | flagSign
)

// Ids of 2.2.2.1.
const (
	avEOL       = 0
	avComputer  = 1
	avDomain    = 2
	avFlags     = 6
	avTimestamp = 7
	hasMIC      = 0x2
)

const (
	signature = "NTLMSSP\x00"
	micOffset = 72
	headSize  = 88 // of an AUTHENTICATE message with version and MIC
)

// version is Windows 10 with NTLMSSP revision 15; it means nothing to a server.
var version = []byte{10, 0, 0x63, 0x45, 0, 0, 0, 15}

// Credentials are those of one user. User may be "DOMAIN\name" or "name@domain".
type Credentials struct{ User, Password string }

// split returns the name and the domain as they go into messages and keys.
func (c Credentials) split() (user, domain string) {
	if d, u, ok := strings.Cut(c.User, `\`); ok {
		return u, d
	}
	return c.User, "" // user@domain goes as it is, and the server looks it up
}

// Negotiate returns the first message of the client (2.2.1.1).
func Negotiate() []byte {
	m := append([]byte(signature), 1, 0, 0, 0)
	m = binary.LittleEndian.AppendUint32(m, clientFlags)
	m = append(m, make([]byte, 16)...) // neither domain nor workstation
	return append(m, version...)
}

// A challenge is the parsed message of 2.2.1.2.
type challenge struct {
	flags  uint32
	nonce  []byte // 8
	target []byte // AV pairs
	stamp  []byte // 8, nil: none
}

func parseChallenge(m []byte) (challenge, error) {
	if err := checkHead(m, 2, 48); err != nil {
		return challenge{}, err
	}
	c := challenge{flags: binary.LittleEndian.Uint32(m[20:]), nonce: m[24:32]}
	var err error
	if c.target, err = field(m, 40); err != nil {
		return c, err
	}
	if c.flags&needed != needed {
		return c, fmt.Errorf("ntlm: the server does not offer to seal messages with 128-bit keys (flags %#x)", c.flags)
	}
	pairs, err := parsePairs(c.target)
	c.stamp = pairs[avTimestamp]
	if c.stamp != nil && len(c.stamp) != 8 {
		return c, errors.New("ntlm: the server's time is not 8 bytes")
	}
	return c, err
}

func checkHead(m []byte, kind uint32, size int) error {
	if len(m) < size || string(m[:8]) != signature || binary.LittleEndian.Uint32(m[8:]) != kind {
		return fmt.Errorf("ntlm: not a message of type %d", kind)
	}
	return nil
}

// field reads the payload that the descriptor at pos of m names.
func field(m []byte, pos int) ([]byte, error) {
	n, off := uint64(binary.LittleEndian.Uint16(m[pos:])), uint64(binary.LittleEndian.Uint32(m[pos+4:]))
	if off+n > uint64(len(m)) {
		return nil, errors.New("ntlm: a field leads out of its message")
	}
	return m[off : off+n], nil
}

func parsePairs(p []byte) (map[uint16][]byte, error) {
	pairs := map[uint16][]byte{}
	for len(p) >= 4 {
		id, n := binary.LittleEndian.Uint16(p), int(binary.LittleEndian.Uint16(p[2:]))
		if id == avEOL {
			return pairs, nil
		}
		if len(p) < 4+n {
			break
		}
		pairs[id], p = p[4:4+n], p[4+n:]
	}
	if len(p) == 0 && len(pairs) == 0 {
		return pairs, nil // no target information at all
	}
	return pairs, errors.New("ntlm: the target information is cut short")
}

func pair(id uint16, v []byte) []byte {
	p := binary.LittleEndian.AppendUint16(nil, id)
	p = binary.LittleEndian.AppendUint16(p, uint16(len(v)))
	return append(p, v...)
}

// A source gives what one exchange has by chance.
type source struct {
	random io.Reader
	now    func() time.Time
}

// Authenticate answers the server's challenge, which was the answer to
// negotiate. The session seals the messages of this connection.
func Authenticate(c Credentials, negotiate, challenge []byte) ([]byte, *Session, error) {
	return authenticate(c, negotiate, challenge, source{rand.Reader, time.Now})
}

func authenticate(c Credentials, negotiate, message []byte, src source) ([]byte, *Session, error) {
	ch, err := parseChallenge(message)
	if err != nil {
		return nil, nil, err
	}
	user, domain := c.split()
	nonce, exported := make([]byte, 8), make([]byte, 16)
	for _, b := range [][]byte{nonce, exported} {
		if _, err := io.ReadFull(src.random, b); err != nil {
			return nil, nil, fmt.Errorf("ntlm: %w", err)
		}
	}
	target, stamp, lm := bytes.Clone(ch.target), ch.stamp, make([]byte, 24)
	key := ntowf(user, domain, c.Password)
	if stamp != nil {
		// A server that tells its time gets a MIC and no LM response (3.1.5.1.2).
		target = append(pair(avFlags, []byte{hasMIC, 0, 0, 0}), target...)
	} else {
		stamp = fileTime(src.now())
		lm = append(mac(key, ch.nonce, nonce), nonce...)
	}
	proof, blob := respond(key, ch.nonce, nonce, stamp, target)
	base := mac(key, proof)
	encrypted := make([]byte, 16)
	cipher, err := rc4.NewCipher(base)
	if err != nil {
		return nil, nil, fmt.Errorf("ntlm: %w", err)
	}
	cipher.XORKeyStream(encrypted, exported)

	m := assemble(ch.flags&clientFlags, lm, append(proof, blob...), utf16le(domain), utf16le(user), utf16le(""), encrypted)
	if ch.stamp != nil {
		copy(m[micOffset:], mac(exported, negotiate, message, m))
	}
	return m, newSession(exported, true), nil
}

// respond is 3.3.2: the proof and the blob it is about.
func respond(key, serverNonce, clientNonce, stamp, target []byte) (proof, blob []byte) {
	blob = append([]byte{1, 1, 0, 0, 0, 0, 0, 0}, stamp...)
	blob = append(blob, clientNonce...)
	blob = append(blob, 0, 0, 0, 0)
	blob = append(blob, target...)
	blob = append(blob, 0, 0, 0, 0)
	return mac(key, serverNonce, blob), blob
}

// assemble writes an AUTHENTICATE message (2.2.1.3) with an empty MIC.
func assemble(flags uint32, lm, nt, domain, user, workstation, key []byte) []byte {
	m := append(make([]byte, 0, 512), signature...)
	m = append(m, 3, 0, 0, 0)
	var payload []byte
	add := func(v []byte) {
		m = binary.LittleEndian.AppendUint16(m, uint16(len(v)))
		m = binary.LittleEndian.AppendUint16(m, uint16(len(v)))
		m = binary.LittleEndian.AppendUint32(m, uint32(headSize+len(payload)))
		payload = append(payload, v...)
	}
	for _, v := range [][]byte{lm, nt, domain, user, workstation, key} {
		add(v)
	}
	m = binary.LittleEndian.AppendUint32(m, flags)
	m = append(m, version...)
	m = append(m, make([]byte, 16)...)
	return append(m, payload...)
}

// ntowf is NTOWFv2 of 3.3.2.
func ntowf(user, domain, password string) []byte {
	h := md4.New()
	h.Write(utf16le(password))
	return mac(h.Sum(nil), utf16le(strings.ToUpper(user)+domain))
}

func mac(key []byte, parts ...[]byte) []byte {
	h := hmac.New(md5.New, key)
	for _, p := range parts {
		h.Write(p)
	}
	return h.Sum(nil)
}

func utf16le(s string) []byte {
	var out []byte
	for _, u := range utf16.Encode([]rune(s)) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

func fromUTF16(p []byte) string {
	units := make([]uint16, len(p)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(p[2*i:])
	}
	return string(utf16.Decode(units))
}

// fileTime counts 100 ns since 1601.
func fileTime(t time.Time) []byte {
	const epoch = 116444736000000000
	return binary.LittleEndian.AppendUint64(nil, uint64(t.UnixNano()/100+epoch))
}
