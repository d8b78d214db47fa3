package ssh

import (
	"errors"
	"fmt"
	"net"
	"slices"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// credentials are what one server is shown, in the order of their use: agent,
// keys, password, keyboard-interactive.
type credentials struct {
	user     string
	agent    bool
	signers  []gossh.Signer
	password secret.String
	ask      gossh.KeyboardInteractiveChallenge // nil: answer with password
}

func newCredentials(cfg communicator.Config, t Target) (credentials, error) {
	cr := credentials{user: t.User, agent: cfg.SSHAgentAuth, password: t.Password}
	s, err := fileSigner(cfg.SSHPrivateKeyFile, cfg.SSHCertificateFile)
	if err != nil {
		return cr, err
	}
	if s != nil {
		cr.signers = append(cr.signers, s)
	}
	if !t.PrivateKey.IsEmpty() {
		s, err := communicator.ParseKey([]byte(t.PrivateKey.Reveal()))
		if err != nil {
			return cr, fmt.Errorf("the guest's private key: %w", err)
		}
		cr.signers = append(cr.signers, s)
	}
	return cr, nil
}

func fileSigner(key, cert string) (gossh.Signer, error) {
	if key == "" {
		return nil, nil
	}
	key, err := communicator.ExpandHome(key)
	if err != nil {
		return nil, err
	}
	s, err := communicator.ReadKey(key)
	if err != nil || cert == "" {
		return s, err
	}
	if cert, err = communicator.ExpandHome(cert); err != nil {
		return nil, err
	}
	return communicator.ReadCertificate(cert, s)
}

// methods returns the authentication methods for one handshake. done must be
// called after it.
func (cr credentials) methods() (methods []gossh.AuthMethod, done func(), err error) {
	done = func() {}
	signers := cr.signers
	if cr.agent {
		conn, err := dialAgent()
		if err != nil {
			return nil, done, err
		}
		done = func() { _ = conn.Close() }
		fromAgent, err := agent.NewClient(conn).Signers()
		if err != nil {
			done()
			return nil, func() {}, fmt.Errorf("list the keys of the SSH agent: %w", err)
		}
		signers = slices.Concat(fromAgent, signers)
	}
	// A client tries each method once: all keys have to be in one.
	if len(signers) > 0 {
		methods = append(methods, gossh.PublicKeys(signers...))
	}
	if !cr.password.IsEmpty() {
		methods = append(methods, gossh.Password(cr.password.Reveal()))
	}
	switch {
	case cr.ask != nil:
		methods = append(methods, gossh.KeyboardInteractive(cr.ask))
	case !cr.password.IsEmpty():
		methods = append(methods, gossh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			return slices.Repeat([]string{cr.password.Reveal()}, len(questions)), nil
		}))
	}
	return methods, done, nil
}

func dialAgent() (net.Conn, error) {
	sock := agentSocket()
	if sock == "" {
		return nil, diag.WithHint(errors.New("SSH_AUTH_SOCK is not set: there is no SSH agent to ask"),
			"start one with ssh-agent and ssh-add, or use ssh_private_key_file in place of ssh_agent_auth")
	}
	conn, err := net.Dial("unix", sock)
	if err != nil {
		return nil, diag.WithHint(fmt.Errorf("connect to the SSH agent: %w", err),
			"SSH_AUTH_SOCK names an agent that does not answer; start one with ssh-agent and ssh-add")
	}
	return conn, nil
}
