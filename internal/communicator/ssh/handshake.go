package ssh

import (
	"context"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	gossh "golang.org/x/crypto/ssh"
)

// A shake is everything one try needs.
type shake struct {
	dial       dialFunc
	addr       string
	creds      credentials
	algorithms gossh.Config
	hostKey    gossh.HostKeyCallback
	keyTypes   []string // nil: any
	idle       time.Duration
	firstByte  func() // may be nil
}

// handshake connects and logs in once. Errors are *reachError,
// *communicator.AuthError or *permanentError. When ctx ends before it is done
// the connection is closed; afterwards ctx has no meaning for it.
func handshake(ctx context.Context, s shake) (*gossh.Client, error) {
	raw, err := s.dial(ctx, "tcp", s.addr)
	if err != nil {
		return nil, dialFault(err)
	}
	if s.firstByte == nil {
		s.firstByte = func() {}
	}
	conn := newWire(raw, s.idle, s.firstByte)
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	client, err := login(conn, s)
	if !stop() && err == nil {
		_ = client.Close()
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return client, nil
}

func login(conn net.Conn, s shake) (*gossh.Client, error) {
	methods, done, err := s.creds.methods()
	defer done()
	if err != nil {
		return nil, &permanentError{err}
	}
	var reached atomic.Bool
	cfg := &gossh.ClientConfig{
		Config:            s.algorithms,
		User:              s.creds.user,
		Auth:              methods,
		HostKeyAlgorithms: s.keyTypes,
		HostKeyCallback: func(host string, remote net.Addr, key gossh.PublicKey) error {
			if err := s.hostKey(host, remote, key); err != nil {
				return err
			}
			reached.Store(true)
			return nil
		},
		ClientVersion: "SSH-2.0-Ingot",
	}
	c, chans, reqs, err := gossh.NewClientConn(conn, s.addr, cfg)
	if err != nil {
		return nil, handshakeFault(err, s.creds.user, reached.Load())
	}
	return gossh.NewClient(c, chans, reqs), nil
}

// addrError makes a failed try readable in the log.
func addrError(addr string, err error) string {
	return fmt.Sprintf("%s does not answer yet: %v", addr, err)
}
