package ntlm

import (
	"crypto/hmac"
	"crypto/md5"
	"crypto/rc4"
	"encoding/binary"
	"errors"
	"sync"
)

// SignatureSize is the size of the signature of a sealed message in bytes.
const SignatureSize = 16

// A Session seals and opens the messages of one connection, in their order.
type Session struct {
	mu       sync.Mutex
	out, in  *rc4.Cipher
	outSign  []byte
	inSign   []byte
	outCount uint32
	inCount  uint32
}

// Magic constants of 3.4.5.2 and 3.4.5.3.
const (
	clientSign = "session key to client-to-server signing key magic constant\x00"
	serverSign = "session key to server-to-client signing key magic constant\x00"
	clientSeal = "session key to client-to-server sealing key magic constant\x00"
	serverSeal = "session key to server-to-client sealing key magic constant\x00"
)

func newSession(key []byte, client bool) *Session {
	derive := func(magic string) []byte {
		sum := md5.Sum(append(append([]byte{}, key...), magic...))
		return sum[:]
	}
	cipher := func(magic string) *rc4.Cipher {
		c, _ := rc4.NewCipher(derive(magic)) // 16 bytes are always a key
		return c
	}
	s := &Session{out: cipher(clientSeal), outSign: derive(clientSign), in: cipher(serverSeal), inSign: derive(serverSign)}
	if !client {
		s.out, s.in, s.outSign, s.inSign = s.in, s.out, s.inSign, s.outSign
	}
	return s
}

// Seal returns p encrypted, and its signature.
func (s *Session) Seal(p []byte) (sealed, signature []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	sealed = make([]byte, len(p))
	s.out.XORKeyStream(sealed, p)
	signature = sign(s.out, s.outSign, s.outCount, p)
	s.outCount++
	return sealed, signature
}

// Open decrypts the next message of the other end. An error means that it was
// changed, lost or sent twice, and ends the session.
func (s *Session) Open(sealed, signature []byte) ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := make([]byte, len(sealed))
	s.in.XORKeyStream(p, sealed)
	want := sign(s.in, s.inSign, s.inCount, p)
	s.inCount++
	if !hmac.Equal(want, signature) {
		return nil, errors.New("ntlm: a message was changed on its way")
	}
	return p, nil
}

// sign is the MAC of 3.4.4.2 with key exchange.
func sign(c *rc4.Cipher, key []byte, count uint32, p []byte) []byte {
	seq := binary.LittleEndian.AppendUint32(nil, count)
	sum := mac(key, seq, p)[:8]
	c.XORKeyStream(sum, sum)
	out := append([]byte{1, 0, 0, 0}, sum...)
	return append(out, seq...)
}
