package ssh

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// GenerateKey makes a key pair: typ is rsa (also ""), ecdsa or ed25519, bits
// the size, 0 for 4096 (rsa) or 521 (ecdsa). The private key has the PEM form
// that other programs read for its type; the public one is a line for
// authorized_keys without a line end.
func GenerateKey(typ string, bits int, comment string) (privatePEM secret.String, authorizedKey string, err error) {
	if strings.ContainsAny(comment, "\r\n\x00") {
		return secret.String{}, "", errors.New("a key's comment is one line")
	}
	var pub crypto.PublicKey
	var block *pem.Block
	switch typ {
	case "", "rsa":
		pub, block, err = generateRSA(bits)
	case "ecdsa":
		pub, block, err = generateECDSA(bits)
	case "ed25519":
		var key ed25519.PrivateKey
		if pub, key, err = ed25519.GenerateKey(rand.Reader); err == nil {
			block, err = gossh.MarshalPrivateKey(key, comment)
		}
	case "dsa":
		err = diag.WithHint(errors.New("dsa keys cannot be used: OpenSSH accepts none since version 7"),
			`set temporary_key_pair_type to "ed25519", "ecdsa" or "rsa"`)
	default:
		err = fmt.Errorf("key type %q is not one of rsa, ecdsa, ed25519", typ)
	}
	if err != nil {
		return secret.String{}, "", err
	}
	key, err := gossh.NewPublicKey(pub)
	if err != nil {
		return secret.String{}, "", err
	}
	line := strings.TrimSuffix(string(gossh.MarshalAuthorizedKey(key)), "\n")
	if comment != "" {
		line += " " + comment
	}
	return secret.New(string(pem.EncodeToMemory(block))), line, nil
}

func generateRSA(bits int) (crypto.PublicKey, *pem.Block, error) {
	if bits == 0 {
		bits = 4096
	}
	key, err := rsa.GenerateKey(rand.Reader, bits)
	if err != nil {
		return nil, nil, fmt.Errorf("generate an rsa key of %d bits: %w", bits, err)
	}
	return key.Public(), &pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)}, nil
}

func generateECDSA(bits int) (crypto.PublicKey, *pem.Block, error) {
	curves := map[int]elliptic.Curve{0: elliptic.P521(), 256: elliptic.P256(), 384: elliptic.P384(), 521: elliptic.P521()}
	curve, ok := curves[bits]
	if !ok {
		return nil, nil, fmt.Errorf("an ecdsa key has 256, 384 or 521 bits, not %d", bits)
	}
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalECPrivateKey(key)
	return key.Public(), &pem.Block{Type: "EC PRIVATE KEY", Bytes: der}, err
}
