package localcloud

import (
	"context"
	"crypto"
	"crypto/ed25519"
	"crypto/md5"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"slices"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/secret"
)

// KeyPairParams are those of CreateKeyPair.
type KeyPairParams struct {
	Name   string
	Type   string // rsa ed25519; "" is rsa
	Format string // pem ppk; "" is pem
	Tags   Tags
}

// CreateKeyPair makes a key pair and returns its private half, which is not
// kept.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateKeyPair.html
func (c *Cloud) CreateKeyPair(ctx context.Context, region string, p KeyPairParams) (k KeyPair, private secret.String, err error) {
	if p.Format != "" && p.Format != "pem" && p.Format != "ppk" {
		return k, secret.String{}, Errorf("InvalidParameterValue", "Value (%s) for parameter keyFormat is invalid. It must be pem or ppk", p.Format)
	}
	k = KeyPair{Name: p.Name, Type: p.Type, Tags: p.Tags.Clone()}
	var private8 any
	var public crypto.PublicKey
	switch p.Type {
	case "", "rsa":
		k.Type = "rsa"
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return k, secret.String{}, fmt.Errorf("local cloud: key pair: %w", err)
		}
		private8, public = key, key.Public()
	case "ed25519":
		pub, key, err := ed25519.GenerateKey(rand.Reader)
		if err != nil {
			return k, secret.String{}, fmt.Errorf("local cloud: key pair: %w", err)
		}
		private8, public = key, pub
	default:
		return k, secret.String{}, Errorf("InvalidParameterValue", "Value (%s) for parameter keyType is invalid. It must be rsa or ed25519", p.Type)
	}
	pub, err := ssh.NewPublicKey(public)
	if err != nil {
		return k, secret.String{}, fmt.Errorf("local cloud: key pair: %w", err)
	}
	k.PublicKey = authorizedLine(pub, p.Name)
	if k.Fingerprint, err = createdFingerprint(private8, pub); err != nil {
		return k, secret.String{}, err
	}
	text, err := privateText(private8, pub, p.Name, p.Format == "ppk")
	if err != nil {
		return k, secret.String{}, err
	}
	return k, secret.New(text), c.addKeyPair(ctx, region, &k)
}

// createdFingerprint is that of a key made here: of the private half for RSA.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/verify-keys.html
func createdFingerprint(private any, public ssh.PublicKey) (string, error) {
	if public.Type() == ssh.KeyAlgoED25519 {
		return importedFingerprint(public)
	}
	der, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return "", fmt.Errorf("local cloud: key pair: %w", err)
	}
	sum := sha1.Sum(der)
	return colons(sum[:]), nil
}

// importedFingerprint is that of a public key.
func importedFingerprint(public ssh.PublicKey) (string, error) {
	if public.Type() == ssh.KeyAlgoED25519 {
		sum := sha256.Sum256(public.Marshal())
		return base64.StdEncoding.EncodeToString(sum[:]), nil
	}
	der, err := x509.MarshalPKIXPublicKey(public.(ssh.CryptoPublicKey).CryptoPublicKey())
	if err != nil {
		return "", fmt.Errorf("local cloud: key pair: %w", err)
	}
	sum := md5.Sum(der)
	return colons(sum[:]), nil
}

func colons(b []byte) string {
	parts := make([]string, len(b))
	for i := range b {
		parts[i] = hex.EncodeToString(b[i : i+1])
	}
	return strings.Join(parts, ":")
}

func authorizedLine(k ssh.PublicKey, comment string) string {
	return strings.TrimSpace(string(ssh.MarshalAuthorizedKey(k))) + " " + comment
}

// privateText writes a private key as EC2 hands it out: RSA in PKCS #1,
// ed25519 in OpenSSH's form, or either for PuTTY.
func privateText(private any, public ssh.PublicKey, name string, ppk bool) (string, error) {
	if ppk {
		return puttyKey(private, public, name)
	}
	if key, ok := private.(*rsa.PrivateKey); ok {
		return string(pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})), nil
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		return "", fmt.Errorf("local cloud: key pair: %w", err)
	}
	return string(pem.EncodeToMemory(block)), nil
}

// ImportKeyPair keeps a public key that was made elsewhere: in OpenSSH's form,
// RFC 4716's, or DER in base64.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ImportKeyPair.html
func (c *Cloud) ImportKeyPair(ctx context.Context, region, name string, material []byte, tags Tags) (KeyPair, error) {
	k := KeyPair{Name: name, Tags: tags.Clone()}
	pub, err := parsePublicKey(material)
	if err != nil {
		return k, err
	}
	k.Type = "rsa"
	if pub.Type() == ssh.KeyAlgoED25519 {
		k.Type = "ed25519"
	}
	k.PublicKey = authorizedLine(pub, name)
	if k.Fingerprint, err = importedFingerprint(pub); err != nil {
		return k, err
	}
	return k, c.addKeyPair(ctx, region, &k)
}

func parsePublicKey(material []byte) (ssh.PublicKey, error) {
	bad := Errorf("InvalidKey.Format", "Key is not in valid OpenSSH public key format")
	pub, _, _, _, err := ssh.ParseAuthorizedKey(material)
	if err != nil {
		if pub, err = parseBody(material); err != nil {
			return nil, bad
		}
	}
	switch pub.Type() {
	case ssh.KeyAlgoED25519:
		return pub, nil
	case ssh.KeyAlgoRSA:
		key, ok := pub.(ssh.CryptoPublicKey).CryptoPublicKey().(*rsa.PublicKey)
		if ok && key.N.BitLen() >= 1024 && key.N.BitLen() <= 8192 {
			return pub, nil
		}
		return nil, Errorf("InvalidKeyPair.Format", "The length of an RSA key must be between 1024 and 8192 bits")
	}
	return nil, Errorf("InvalidKey.Format", "Keys of type %s are not supported: use rsa or ed25519", pub.Type())
}

// parseBody reads a key without its "ssh-rsa" in front: the base64 of its SSH
// or DER form, with or without lines around it.
func parseBody(material []byte) (ssh.PublicKey, error) {
	var body strings.Builder
	for line := range strings.Lines(string(material)) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "----") || strings.Contains(line, ":") {
			continue
		}
		body.WriteString(line)
	}
	raw, err := base64.StdEncoding.DecodeString(body.String())
	if err != nil {
		raw = material
	}
	if pub, err := ssh.ParsePublicKey(raw); err == nil {
		return pub, nil
	}
	key, err := x509.ParsePKIXPublicKey(raw)
	if err != nil {
		return nil, err
	}
	return ssh.NewPublicKey(key)
}

func (c *Cloud) addKeyPair(ctx context.Context, region string, k *KeyPair) error {
	if err := checkKeyName(k.Name); err != nil {
		return err
	}
	return c.Update(ctx, region, func(t *Tx) error {
		_, ok, err := Get[KeyPair](t, k.Name)
		if err != nil {
			return err
		}
		if ok {
			return Errorf("InvalidKeyPair.Duplicate", "The keypair '%s' already exists.", k.Name)
		}
		k.ID, k.Created = NewID("key"), t.Now
		return Put(t, *k)
	})
}

func checkKeyName(name string) error {
	if name == "" {
		return Errorf("MissingParameter", "The request must contain the parameter KeyName")
	}
	if len(name) > 255 || strings.TrimSpace(name) != name {
		return Errorf("InvalidParameterValue", "Value (%s) for parameter KeyName is invalid. It must have at most 255 characters and no space around it", name)
	}
	for _, r := range name {
		if r < ' ' || r > '~' {
			return Errorf("InvalidParameterValue", "Value (%s) for parameter KeyName is invalid. It must be ASCII", name)
		}
	}
	return nil
}

// KeyPair returns the key pair with a name, or InvalidKeyPair.NotFound.
func (t *Tx) KeyPair(name string) (KeyPair, error) {
	k, ok, err := Get[KeyPair](t, name)
	if err == nil && !ok {
		err = Errorf("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", name)
	}
	return k, err
}

// DeleteKeyPair removes a key pair by name or, with an empty name, by id. It
// succeeds when there is none, and returns the id of the one it removed.
func (c *Cloud) DeleteKeyPair(ctx context.Context, region, name, id string) (string, error) {
	if name == "" && id == "" {
		return "", Errorf("MissingParameter", "The request must contain the parameter KeyName or KeyPairId")
	}
	removed := ""
	err := c.Update(ctx, region, func(t *Tx) error {
		all, err := All[KeyPair](t)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(all, func(k KeyPair) bool { return k.Name == name || name == "" && k.ID == id })
		if i < 0 {
			return nil
		}
		if id != "" && all[i].ID != id {
			return Errorf("InvalidParameterCombination", "The key pair '%s' has the id %s, not %s", name, all[i].ID, id)
		}
		removed = all[i].ID
		return Delete[KeyPair](t, all[i].Name)
	})
	return removed, err
}
