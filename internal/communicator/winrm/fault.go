package winrm

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"syscall"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
)

// A wireError is a fault below WinRM: the request may or may not have reached
// the guest.
type wireError struct {
	why  communicator.Reach
	sent bool // it may have reached the guest
	err  error
}

func (e *wireError) Error() string { return e.err.Error() }
func (e *wireError) Unwrap() error { return e.err }

// permanentError will not go away by trying again.
type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// wireFault classifies what an HTTP request ended with. A ctx that ended is
// the caller's business and is handed on.
func wireFault(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, errSilent) {
		return cause
	}
	if perm := tlsFault(err); perm != nil {
		return &permanentError{perm}
	}
	w := &wireError{why: communicator.Silent, sent: true, err: err}
	if errors.Is(context.Cause(ctx), errSilent) {
		w.err = errSilent
		return w
	}
	var op *net.OpError
	var dns *net.DNSError
	var timeout net.Error
	dialing := errors.As(err, &op) && op.Op == "dial"
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		w.why, w.sent = communicator.Refused, false
	case errors.As(err, &dns), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		w.why, w.sent = communicator.Unreachable, false
	case dialing && errors.As(err, &timeout) && timeout.Timeout():
		w.sent = false
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, syscall.ECONNRESET), errors.Is(err, os.ErrDeadlineExceeded):
	}
	return w
}

func tlsFault(err error) error {
	const insecure = "the guest's certificate is not one this machine trusts: set winrm_insecure = true to connect without a check"
	var verify *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var host x509.HostnameError
	var record tls.RecordHeaderError
	switch {
	case errors.As(err, &verify), errors.As(err, &authority), errors.As(err, &host):
		return diag.WithHint(err, insecure)
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch), strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return diag.WithHint(err, "the guest does not speak TLS on this port: check winrm_port, or set winrm_use_ssl = false")
	}
	return nil
}

func connectHint(why communicator.Reach) string {
	switch why {
	case communicator.Refused:
		return "the machine answers, but nothing listens on the port: check that the guest turns WinRM on (winrm quickconfig), and winrm_port; raise winrm_timeout when the guest takes longer to boot"
	case communicator.Silent:
		return "look at the guest's console, check firewalls and security groups for the WinRM port, and raise winrm_timeout when the guest takes longer to boot"
	default:
		return "check winrm_host, the network between here and the guest, and its firewall or security group"
	}
}

const authHint = "check winrm_username and winrm_password, and that the guest's WinRM service lets this user in; a local account that is not the built-in administrator needs LocalAccountTokenFilterPolicy = 1"
