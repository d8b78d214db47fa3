package ntlm

import (
	"crypto/hmac"
	"crypto/rc4"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// NewChallenge returns a server's answer to the first message. nonce is 8 random
// bytes. With a now that is not zero the client is told the time, and adds a
// message integrity code.
func NewChallenge(nonce []byte, computer string, now time.Time) []byte {
	name := utf16le(computer)
	info := append(pair(avDomain, name), pair(avComputer, name)...)
	if !now.IsZero() {
		info = append(info, pair(avTimestamp, fileTime(now))...)
	}
	info = append(info, pair(avEOL, nil)...)
	const head = 56
	m := append([]byte(signature), 2, 0, 0, 0)
	m = descriptor(m, len(name), head)
	m = binary.LittleEndian.AppendUint32(m, clientFlags|flagTargetServer)
	m = append(m, nonce...)
	m = append(m, make([]byte, 8)...)
	m = descriptor(m, len(info), head+len(name))
	m = append(m, version...)
	m = append(m, name...)
	return append(m, info...)
}

func descriptor(m []byte, n, off int) []byte {
	m = binary.LittleEndian.AppendUint16(m, uint16(n))
	m = binary.LittleEndian.AppendUint16(m, uint16(n))
	return binary.LittleEndian.AppendUint32(m, uint32(off))
}

// ErrRefused says that the proof does not fit the password.
var ErrRefused = errors.New("ntlm: wrong user or password")

// Accept checks the client's last message against the two before it. password
// tells the password of a user, false when there is no such user. All errors
// mean that the client is not let in.
func Accept(negotiate, challenge, message []byte, password func(user string) (string, bool)) (user string, s *Session, err error) {
	if err := checkHead(message, 3, 64); err != nil {
		return "", nil, err
	}
	ch, err := parseChallenge(challenge)
	if err != nil {
		return "", nil, err
	}
	var parts [5][]byte
	for i, pos := range []int{20, 28, 36, 52} { // NT response, domain, user, key
		if parts[i], err = field(message, pos); err != nil {
			return "", nil, err
		}
	}
	nt, domain, name, encrypted := parts[0], fromUTF16(parts[1]), fromUTF16(parts[2]), parts[3]
	pw, ok := password(name)
	if !ok || len(nt) < 16+28 || len(encrypted) != 16 {
		return name, nil, ErrRefused
	}
	key := ntowf(name, domain, pw)
	proof := mac(key, ch.nonce, nt[16:])
	if !hmac.Equal(proof, nt[:16]) {
		return name, nil, ErrRefused
	}
	cipher, err := rc4.NewCipher(mac(key, proof))
	if err != nil {
		return name, nil, fmt.Errorf("ntlm: %w", err)
	}
	exported := make([]byte, 16)
	cipher.XORKeyStream(exported, encrypted)
	pairs, err := parsePairs(nt[16+28:])
	if err != nil {
		return name, nil, err
	}
	if f := pairs[avFlags]; len(f) == 4 && f[0]&hasMIC != 0 {
		if len(message) < headSize {
			return name, nil, errors.New("ntlm: the message integrity code is missing")
		}
		plain := append([]byte{}, message...)
		got := append([]byte{}, plain[micOffset:headSize]...)
		copy(plain[micOffset:headSize], make([]byte, 16))
		if !hmac.Equal(got, mac(exported, negotiate, challenge, plain)) {
			return name, nil, errors.New("ntlm: the message integrity code is wrong")
		}
	}
	return name, newSession(exported, false), nil
}
