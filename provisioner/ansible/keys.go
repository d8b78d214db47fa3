package ansible

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/pem"
	"fmt"
	"os"
	"strings"

	"golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// rsaBits is the length of a generated RSA key.
const rsaBits = 3072

// keys are the two that the proxy needs. What a template does not give is
// generated for each run.
type keys struct {
	host    ssh.Signer    // nil: to be generated
	allowed ssh.PublicKey // nil: to be generated
}

func readKeys(c Config) (k keys, err error) {
	if c.SSHHostKeyFile != "" {
		if k.host, err = communicator.ReadKey(c.SSHHostKeyFile); err != nil {
			return k, diag.Fieldf("ssh_host_key_file", "%w", err)
		}
	}
	if c.SSHAuthorizedKeyFile != "" {
		line, err := os.ReadFile(c.SSHAuthorizedKeyFile)
		if err != nil {
			return k, diag.Fieldf("ssh_authorized_key_file", "%w", err)
		}
		if k.allowed, _, _, _, err = ssh.ParseAuthorizedKey(line); err != nil {
			return k, diag.Fieldf("ssh_authorized_key_file", "%s holds no public key: %w", c.SSHAuthorizedKeyFile, err)
		}
	}
	return k, nil
}

// complete generates what is missing. private is Ansible's key, empty when it
// has one of its own.
func (k keys) complete(kind string) (out keys, private secret.String, err error) {
	if k.host == nil {
		if k.host, _, err = generate(kind); err != nil {
			return k, private, err
		}
	}
	if k.allowed == nil {
		signer, text, err := generate(kind)
		if err != nil {
			return k, private, err
		}
		k.allowed, private = signer.PublicKey(), text
	}
	return k, private, nil
}

func generate(kind string) (ssh.Signer, secret.String, error) {
	var key any
	var err error
	if strings.EqualFold(kind, "RSA") {
		key, err = rsa.GenerateKey(rand.Reader, rsaBits)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	}
	if err != nil {
		return nil, secret.String{}, fmt.Errorf("generate a key: %w", err)
	}
	signer, err := ssh.NewSignerFromKey(key)
	if err != nil {
		return nil, secret.String{}, fmt.Errorf("generate a key: %w", err)
	}
	block, err := ssh.MarshalPrivateKey(key, "")
	if err != nil {
		return nil, secret.String{}, fmt.Errorf("generate a key: %w", err)
	}
	return signer, secret.New(string(pem.EncodeToMemory(block))), nil
}
