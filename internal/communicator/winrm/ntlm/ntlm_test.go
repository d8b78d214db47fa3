package ntlm

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"
	"time"
)

// unhex reads the test vectors of MS-NLMP 4.2.4.
func unhex(t *testing.T, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestVectors(t *testing.T) {
	key := ntowf("User", "Domain", "Password")
	if !bytes.Equal(key, unhex(t, "0c868a403bfd7a93a3001ef22ef02e3f")) {
		t.Errorf("NTOWFv2 %x", key)
	}
	server, client := unhex(t, "0123456789abcdef"), unhex(t, "aaaaaaaaaaaaaaaa")
	if lm := mac(key, server, client); !bytes.Equal(lm, unhex(t, "86c35097ac9cec102554764a57cccc19")) {
		t.Errorf("LMv2 %x", lm)
	}
	target := append(append(pair(avDomain, utf16le("Domain")), pair(avComputer, utf16le("Server"))...), pair(avEOL, nil)...)
	proof, _ := respond(key, server, client, make([]byte, 8), target)
	if !bytes.Equal(proof, unhex(t, "68cd0ab851e51c96aabc927bebef6a1c")) {
		t.Errorf("NTProofStr %x", proof)
	}
	if base := mac(key, proof); !bytes.Equal(base, unhex(t, "8de40ccadbc14a82f15cb0ad0de95ca3")) {
		t.Errorf("session base key %x", base)
	}
	s := newSession(bytes.Repeat([]byte{0x55}, 16), true)
	sealed, sig := s.Seal(utf16le("Plaintext"))
	if !bytes.Equal(sealed, unhex(t, "54e50165bf1936dc996020c1811b0f06fb5f")) || !bytes.Equal(sig, unhex(t, "010000007fb38ec5c55d497600000000")) {
		t.Errorf("sealed %x, signature %x", sealed, sig)
	}
}

func TestBothEndsAgree(t *testing.T) {
	nonce := []byte("12345678")
	for name, tc := range map[string]struct {
		c   Credentials
		now time.Time
		ok  bool
	}{
		"with MIC":       {Credentials{`DOM\Admin`, "pässword"}, time.Unix(1700000000, 0), true},
		"without":        {Credentials{"Admin", "pässword"}, time.Time{}, true},
		"wrong password": {Credentials{"Admin", "passw0rd"}, time.Time{}, false},
		"wrong user":     {Credentials{"admin2", "pässword"}, time.Unix(1, 0), false},
	} {
		neg, ch := Negotiate(), NewChallenge(nonce, "WIN", tc.now)
		auth, client, err := Authenticate(tc.c, neg, ch)
		if err != nil {
			t.Fatal(name, err)
		}
		accept := func(m []byte) (string, *Session, error) {
			return Accept(neg, ch, m, func(u string) (string, bool) { return "pässword", u == "Admin" })
		}
		user, server, err := accept(auth)
		if tc.ok != (err == nil) || !tc.ok && !errors.Is(err, ErrRefused) {
			t.Errorf("%s: %q, %v", name, user, err)
			continue
		}
		if !tc.ok {
			continue
		}
		for i := range 3 {
			text := bytes.Repeat([]byte("x"), 1000*i)
			sealed, sig := client.Seal(text)
			if got, err := server.Open(sealed, sig); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s: to the server: %v", name, err)
			}
			sealed, sig = server.Seal(text)
			if got, err := client.Open(sealed, sig); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s: to the client: %v", name, err)
			}
		}
		sealed, sig := client.Seal([]byte("pay 1"))
		sealed[4] ^= 8
		if _, err := server.Open(sealed, sig); err == nil {
			t.Errorf("%s: a changed message was taken", name)
		}
		if !tc.now.IsZero() {
			auth[micOffset] ^= 1
			if _, _, err := accept(auth); err == nil {
				t.Errorf("%s: a wrong MIC was taken", name)
			}
		}
	}
}

func FuzzMessages(f *testing.F) {
	neg, ch := Negotiate(), NewChallenge([]byte("12345678"), "WIN", time.Unix(1, 0))
	auth, _, err := Authenticate(Credentials{"u", "p"}, neg, ch)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(ch)
	f.Add(auth)
	f.Add(neg)
	f.Fuzz(func(_ *testing.T, m []byte) {
		_, _, _ = Authenticate(Credentials{"u", "p"}, neg, m)
		_, _, _ = Accept(neg, ch, m, func(string) (string, bool) { return "p", true })
	})
}
