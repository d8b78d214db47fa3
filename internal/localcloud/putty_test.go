package localcloud

import (
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rsa"
	"crypto/sha1"
	"encoding/base64"
	"encoding/hex"
	"math/big"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"
)

// A file is read here as PuTTY reads it: the headers in order, the blobs by
// their numbers of lines, the MAC over them, and the key made of the blobs.
func TestPuttyKey(t *testing.T) {
	c := openAt(t, t.TempDir(), nil)
	for _, kind := range []string{"rsa", "ed25519"} {
		k, private, err := c.CreateKeyPair(t.Context(), "us-east-1", KeyPairParams{Name: "of " + kind, Type: kind, Format: "ppk"})
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(private.Reveal(), "\r\n")
		header := func(name string) string {
			v, ok := strings.CutPrefix(lines[0], name+": ")
			if !ok {
				t.Fatalf("%s: no %s", kind, name)
			}
			lines = lines[1:]
			return v
		}
		blob := func(name string) []byte {
			n, err := strconv.Atoi(header(name))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := base64.StdEncoding.DecodeString(strings.Join(lines[:n], ""))
			if err != nil {
				t.Fatal(err)
			}
			lines = lines[n:]
			return raw
		}
		algorithm, encryption, comment := header("PuTTY-User-Key-File-2"), header("Encryption"), header("Comment")
		public, secret := blob("Public-Lines"), blob("Private-Lines")
		key := sha1.Sum([]byte("putty-private-key-file-mac-key"))
		mac := hmac.New(sha1.New, key[:])
		for _, part := range []string{algorithm, encryption, comment, string(public), string(secret)} {
			mac.Write(ssh.Marshal(struct{ S string }{part}))
		}
		if got := header("Private-MAC"); got != hex.EncodeToString(mac.Sum(nil)) || encryption != "none" || comment != k.Name {
			t.Errorf("%s: MAC %s", kind, got)
		}
		pub, err := ssh.ParsePublicKey(public)
		if err != nil || pub.Type() != algorithm || authorizedLine(pub, k.Name) != k.PublicKey {
			t.Fatalf("%s: %v", kind, err)
		}
		switch p := pub.(ssh.CryptoPublicKey).CryptoPublicKey().(type) {
		case *rsa.PublicKey:
			var n struct{ D, P, Q, Qinv *big.Int }
			if err := ssh.Unmarshal(secret, &n); err != nil {
				t.Fatal(err)
			}
			whole := rsa.PrivateKey{PublicKey: *p, D: n.D, Primes: []*big.Int{n.P, n.Q}}
			if err := whole.Validate(); err != nil {
				t.Error(err)
			}
			if one := new(big.Int).Mul(n.Q, n.Qinv); one.Mod(one, n.P).Cmp(big.NewInt(1)) != 0 {
				t.Error("the inverse of q is wrong")
			}
		case ed25519.PublicKey:
			var s struct{ Seed []byte }
			if err := ssh.Unmarshal(secret, &s); err != nil {
				t.Fatal(err)
			}
			if !ed25519.NewKeyFromSeed(s.Seed).Public().(ed25519.PublicKey).Equal(p) {
				t.Error("the seed is of another key")
			}
		}
	}
}
