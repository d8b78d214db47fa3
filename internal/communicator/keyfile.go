package communicator

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	cryptossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/diag"
)

// ReadKey reads a private key without a passphrase.
func ReadKey(file string) (cryptossh.Signer, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read private key: %w", err)
	}
	signer, err := ParseKey(pem)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return signer, nil
}

// ParseKey parses a private key in PEM form, which must have no passphrase.
func ParseKey(pem []byte) (cryptossh.Signer, error) {
	signer, err := cryptossh.ParsePrivateKey(pem)
	var locked *cryptossh.PassphraseMissingError
	if errors.As(err, &locked) {
		return nil, diag.WithHint(errors.New("the private key is protected by a passphrase"),
			"load it into an SSH agent and set ssh_agent_auth, or remove the passphrase with ssh-keygen -p")
	}
	if err != nil {
		return nil, fmt.Errorf("not a private key in PEM form: %w", err)
	}
	return signer, nil
}

// ReadCertificate reads an OpenSSH user certificate and returns a signer that
// shows it. signer is the key that the certificate is about.
func ReadCertificate(file string, signer cryptossh.Signer) (cryptossh.Signer, error) {
	line, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("read certificate: %w", err)
	}
	pub, _, _, _, err := cryptossh.ParseAuthorizedKey(line)
	if err != nil {
		return nil, fmt.Errorf("%s: not an OpenSSH certificate: %w", file, err)
	}
	cert, ok := pub.(*cryptossh.Certificate)
	if !ok {
		return nil, fmt.Errorf("%s holds a plain public key, not a certificate", file)
	}
	if cert.CertType != cryptossh.UserCert {
		return nil, fmt.Errorf("%s is a host certificate, not a user certificate", file)
	}
	with, err := cryptossh.NewCertSigner(cert, signer)
	if err != nil {
		return nil, fmt.Errorf("%s is not about this private key: %w", file, err)
	}
	return with, nil
}

// A Tunnel forwards a port.
type Tunnel struct {
	Port int    // where it listens
	To   string // "host:port" where it leads
}

// ParseTunnel parses "port:host:hostport"; an IPv6 host is in brackets.
func ParseTunnel(s string) (Tunnel, error) {
	first, to, ok := strings.Cut(s, ":")
	p, err := parsePort(first)
	if !ok || err != nil {
		return Tunnel{}, fmt.Errorf("%q is not of the form port:host:hostport", s)
	}
	host, hostPort, err := net.SplitHostPort(to)
	if err != nil || host == "" {
		return Tunnel{}, fmt.Errorf("%q is not of the form port:host:hostport", s)
	}
	if _, err := parsePort(hostPort); err != nil {
		return Tunnel{}, fmt.Errorf("%q: the last part is not a port", s)
	}
	return Tunnel{p, to}, nil
}

func parsePort(s string) (int, error) {
	p, err := strconv.ParseUint(s, 10, 16)
	if err == nil && p == 0 {
		err = errors.New("port 0")
	}
	return int(p), err
}
