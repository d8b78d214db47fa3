package ssh

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"

	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
)

// permanentError will not go away by trying again.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// A reachError is a try that did not get to authentication.
type reachError struct {
	why communicator.Reach
	err error
}

func (e *reachError) Error() string { return e.err.Error() }
func (e *reachError) Unwrap() error { return e.err }

// dialFault classifies an error of a TCP connect, be it direct, through a
// bastion or through a SOCKS proxy. The latter two tell the reason as text.
func dialFault(err error) error {
	var refused *gossh.OpenChannelError
	var timeout net.Error
	text := strings.ToLower(err.Error())
	switch {
	case errors.Is(err, syscall.ECONNREFUSED), strings.Contains(text, "connection refused"):
		return &reachError{communicator.Refused, err}
	case errors.As(err, &refused):
		return &reachError{communicator.Unreachable, err}
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, context.DeadlineExceeded),
		errors.As(err, &timeout) && timeout.Timeout() && !isDNS(err):
		return &reachError{communicator.Silent, err}
	}
	return &reachError{communicator.Unreachable, err}
}

func isDNS(err error) bool {
	var dns *net.DNSError
	return errors.As(err, &dns)
}

// handshakeFault classifies an error of the SSH handshake. reached says that
// the key exchange was over, so that what failed is the login.
func handshakeFault(err error, user string, reached bool) error {
	var key *communicator.HostKeyError
	var perm *permanentError
	var negotiation *gossh.AlgorithmNegotiationError
	switch {
	case errors.As(err, &key), errors.As(err, &perm):
		return &permanentError{err}
	case errors.As(err, &negotiation):
		return &permanentError{diag.WithHint(err,
			"client and guest have no algorithm in common: check ssh_ciphers and ssh_key_exchange_algorithms, and the guest's sshd_config")}
	case errors.Is(err, errKeyUnknown):
		return &reachError{communicator.Silent, errKeyUnknown}
	case reached && isRefusal(err):
		return &communicator.AuthError{User: user, Err: err}
	}
	if errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) {
		err = errors.New("the connection was closed before the SSH handshake was complete")
	}
	return &reachError{communicator.Silent, err}
}

// isRefusal reports whether the server turned the user down, as opposed to a
// connection that broke. The library has no type for either.
func isRefusal(err error) bool {
	text := err.Error()
	return strings.Contains(text, "unable to authenticate") ||
		strings.Contains(text, "ssh: disconnect") ||
		strings.Contains(text, "too many authentication attempts")
}

func connectHint(why communicator.Reach) string {
	switch why {
	case communicator.Refused:
		return "the machine answers, but nothing listens on the port: check that the guest starts an SSH server, and ssh_port; raise ssh_timeout when the guest takes longer to boot"
	case communicator.Silent:
		return "something accepts or swallows the connection without an SSH server behind it: look at the guest's console, check firewalls and security groups, and raise ssh_timeout when the guest takes longer to boot"
	default:
		return "check ssh_host, the network between here and the guest, and its firewall or security group"
	}
}

const authHint = "check ssh_username and the credentials (ssh_password, ssh_private_key_file, ssh_agent_auth), and that the guest's SSH server and its boot-time set-up let this user in"
