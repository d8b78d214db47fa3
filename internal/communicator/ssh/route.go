package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/net/proxy"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
)

// Limits of one try.
const (
	bannerLimit    = 30 * time.Second // TCP connect and the server's first byte
	handshakeLimit = 2 * time.Minute  // after the first byte; sshd's own login grace time
	promptLimit    = 10 * time.Minute // the same where a person types
)

// A dialFunc makes a TCP connection.
type dialFunc func(ctx context.Context, network, addr string) (net.Conn, error)

// A route is how TCP connections to the guest are made: directly, through a
// SOCKS proxy, or through a bastion, whose connection is kept.
type route struct {
	direct  dialFunc
	bastion *bastion // nil: none
}

type bastion struct {
	addr  string
	creds credentials
	creq  gossh.Config
	out   event.Sink
	warn  sync.Once

	// prompt answers an interactive bastion; nil when it is not interactive.
	prompt func(ctx context.Context, instruction string, questions []string, echo []bool) ([]string, error)

	mu     sync.Mutex
	client *gossh.Client
	gone   chan struct{} // closed when client ended
}

func newRoute(cfg communicator.Config, t Target, out event.Sink) (*route, error) {
	r := &route{direct: (&net.Dialer{KeepAlive: 15 * time.Second}).DialContext}
	if cfg.SSHProxyHost != "" {
		var auth *proxy.Auth
		if cfg.SSHProxyUsername != "" {
			auth = &proxy.Auth{User: cfg.SSHProxyUsername, Password: cfg.SSHProxyPassword.Reveal()}
		}
		port := cfg.SSHProxyPort
		if port == 0 {
			port = 1080
		}
		addr := net.JoinHostPort(cfg.SSHProxyHost, strconv.Itoa(port))
		d, err := proxy.SOCKS5("tcp", addr, auth, &net.Dialer{})
		if err != nil {
			return nil, fmt.Errorf("SOCKS proxy %s: %w", addr, err)
		}
		cd, ok := d.(proxy.ContextDialer)
		if !ok {
			return nil, errors.New("the SOCKS dialer cannot be cancelled")
		}
		r.direct = cd.DialContext
	}
	if cfg.SSHBastionHost == "" {
		return r, nil
	}
	port := cfg.SSHBastionPort
	if port == 0 {
		port = 22
	}
	b := &bastion{
		addr: net.JoinHostPort(cfg.SSHBastionHost, strconv.Itoa(port)),
		out:  out,
		creq: algorithms(cfg),
		creds: credentials{
			user:     cfg.SSHBastionUsername,
			agent:    cfg.SSHBastionAgentAuth,
			password: cfg.SSHBastionPassword,
		},
	}
	s, err := fileSigner(cfg.SSHBastionPrivateKeyFile, cfg.SSHBastionCertificateFile)
	if err != nil {
		return nil, fmt.Errorf("bastion: %w", err)
	}
	if s != nil {
		b.creds.signers = append(b.creds.signers, s)
	}
	if cfg.SSHBastionInteractive {
		b.prompt = t.Prompt
		if b.prompt == nil {
			b.prompt = askTerminal
		}
	}
	r.bastion = b
	return r, nil
}

func algorithms(cfg communicator.Config) gossh.Config {
	return gossh.Config{Ciphers: cfg.SSHCiphers, KeyExchanges: cfg.SSHKeyExchangeAlgorithms}
}

// open returns how to dial the guest now, connecting to the bastion first
// where that has to be.
func (r *route) open(ctx context.Context) (dialFunc, error) {
	if r.bastion == nil {
		return r.direct, nil
	}
	client, err := r.bastion.connect(ctx, r.direct)
	if err != nil {
		return nil, err
	}
	return client.DialContext, nil
}

func (r *route) close() {
	if r.bastion == nil {
		return
	}
	b := r.bastion
	b.mu.Lock()
	client, gone := b.client, b.gone
	b.mu.Unlock()
	if client != nil {
		_ = client.Close()
		<-gone
	}
}

// connect is not called twice at a time.
func (b *bastion) connect(ctx context.Context, dial dialFunc) (*gossh.Client, error) {
	b.mu.Lock()
	client, gone := b.client, b.gone
	b.mu.Unlock()
	if client != nil {
		select {
		case <-gone:
		default:
			return client, nil
		}
	}
	b.warn.Do(func() {
		b.out.Emit(event.Warn{Text: "The host key of the bastion " + b.addr + " is not checked."})
	})
	limit := handshakeLimit
	if b.prompt != nil {
		limit = promptLimit
	}
	ctx, stop := context.WithTimeout(ctx, limit)
	defer stop()
	creds := b.creds
	if b.prompt != nil {
		creds.ask = func(_, instruction string, questions []string, echo []bool) ([]string, error) {
			if len(questions) == 0 {
				return nil, nil
			}
			return b.prompt(ctx, instruction, questions, echo)
		}
	}
	client, err := handshake(ctx, shake{
		dial: dial, addr: b.addr, creds: creds, algorithms: b.creq,
		hostKey: gossh.InsecureIgnoreHostKey(), //nolint:gosec // warned of; there is no option to pin it
	})
	if err != nil {
		return nil, &bastionError{b.addr, err}
	}
	gone = make(chan struct{})
	go func() {
		_ = client.Wait()
		close(gone)
	}()
	b.mu.Lock()
	b.client, b.gone = client, gone
	b.mu.Unlock()
	return client, nil
}

// bastionError says that what failed is the way, not the guest.
type bastionError struct {
	addr string
	err  error
}

func (e *bastionError) Error() string { return "bastion " + e.addr + ": " + e.err.Error() }
func (e *bastionError) Unwrap() error { return e.err }
