package ssh

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/secret"
)

// A Target is what a builder knows of the guest. An empty field is taken from
// the configuration.
type Target struct {
	Host       string
	Port       int
	User       string
	Password   secret.String
	PrivateKey secret.String // PEM

	// HostKeys are the guest's public keys in the format of authorized_keys.
	// A guest that shows another key is refused. Without any, and without
	// HostKeyFunc, the key is not checked, which is warned of once.
	HostKeys []string
	// HostKeyFunc is asked for the host keys when HostKeys is empty and a
	// guest shows its key. No key and no error mean "not known yet": the
	// connection is tried again later. An error ends the waiting.
	HostKeyFunc func(ctx context.Context) ([]string, error)

	// Alive, when not nil, is asked between tries. Its error says that the
	// machine is gone and ends the waiting.
	Alive func() error

	// Prompt answers the questions of an interactive bastion; echo says which
	// answers may be seen while they are typed. Nil asks on the terminal.
	Prompt func(ctx context.Context, instruction string, questions []string, echo []bool) ([]string, error)
}

// A Conn is a connection to a guest. It implements [communicator.Communicator]
// and [communicator.ScriptRunner].
type Conn struct {
	cfg   communicator.Config
	t     Target
	out   event.Sink
	creds credentials
	route *route
	local *localTunnels

	// connecting holds the right to replace link.
	connecting chan struct{}
	quit       chan struct{} // closed by Close

	mu     sync.Mutex
	link   *link // the present connection, maybe broken; nil: none yet
	closed bool

	warnHostKey  sync.Once
	hasShell     atomic.Bool // /bin/sh has run one of our programs there
	noShell      atomic.Bool // /bin/sh cannot run our programs there
	noScript     atomic.Bool // head takes more than it is asked for, or is missing
	reconnecting atomic.Bool
}

var (
	_ communicator.Communicator = (*Conn)(nil)
	_ communicator.ScriptRunner = (*Conn)(nil)
)

// errClosed is returned by the methods of a closed connection.
var errClosed = errors.New("the connection was closed")

// Dial waits until the guest answers and accepts the credentials. cfg must
// have been prepared with [communicator.Config.Prepare].
//
// It tries from every 100 ms to every second, until ssh_timeout is over
// (*[communicator.ConnectError], or *[communicator.AuthError] when the guest
// answered) or ssh_handshake_attempts logins were refused
// (*[communicator.AuthError]). A wrong host key
// (*[communicator.HostKeyError]) and whatever else cannot get better by
// waiting end it at once. The SSH agent is the one SSH_AUTH_SOCK names.
func Dial(ctx context.Context, cfg communicator.Config, t Target, out event.Sink) (*Conn, error) {
	switch cfg.Communicator {
	case "", "ssh":
	case "winrm":
		return nil, diag.WithHint(errors.New(`communicator "winrm" does not connect over SSH`),
			`where SSH is all that can be used, install OpenSSH server on the Windows guest and set communicator = "ssh"`)
	default:
		return nil, fmt.Errorf("communicator %q does not connect over SSH", cfg.Communicator)
	}
	t.fill(cfg)
	if t.Host == "" {
		return nil, diag.WithHint(errors.New("the guest's address is not known"), "set ssh_host")
	}
	c := &Conn{cfg: cfg, t: t, out: out, connecting: make(chan struct{}, 1), quit: make(chan struct{})}
	var err error
	if c.creds, err = newCredentials(cfg, t); err != nil {
		return nil, err
	}
	if c.route, err = newRoute(cfg, t, out); err != nil {
		return nil, err
	}
	if _, err := parseHostKeys(t.HostKeys); err != nil {
		return nil, err
	}
	if c.local, err = listenLocal(ctx, cfg.SSHLocalTunnels, c); err != nil {
		return nil, err
	}
	out.Emit(event.Say{Text: "Waiting for SSH on " + c.addr()})
	if err := c.first(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	out.Emit(event.Say{Text: "Connected over SSH as " + t.User})
	return c, nil
}

// first connects, and once more after pause_before_connecting.
func (c *Conn) first(ctx context.Context) error {
	if _, err := c.current(ctx); err != nil {
		return err
	}
	pause := c.cfg.PauseBeforeConnecting
	if pause <= 0 {
		return nil
	}
	c.out.Emit(event.Say{Text: fmt.Sprintf("SSH answers; connecting again after %s", pause)})
	c.mu.Lock()
	c.link.close(nil)
	c.link = nil
	c.mu.Unlock()
	if err := poll.Sleep(ctx, pause); err != nil {
		return err
	}
	_, err := c.current(ctx)
	return err
}

func (t *Target) fill(cfg communicator.Config) {
	if t.Host == "" {
		t.Host = cfg.SSHHost
	}
	if t.Port == 0 {
		t.Port = cfg.SSHPort
	}
	if t.Port == 0 {
		t.Port = 22
	}
	if t.User == "" {
		t.User = cfg.SSHUsername
	}
	if t.Password.IsEmpty() {
		t.Password = cfg.SSHPassword
	}
	if t.PrivateKey.IsEmpty() && len(cfg.SSHPrivateKey) > 0 {
		t.PrivateKey = secret.New(string(cfg.SSHPrivateKey))
	}
}

func (c *Conn) addr() string { return net.JoinHostPort(c.t.Host, strconv.Itoa(c.t.Port)) }

// current returns the live connection and makes one where there is none.
func (c *Conn) current(ctx context.Context) (*link, error) {
	if l, err := c.live(); l != nil || err != nil {
		return l, err
	}
	select {
	case c.connecting <- struct{}{}:
		defer func() { <-c.connecting }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	l, err := c.live() // another caller may have been quicker
	if l != nil || err != nil {
		return l, err
	}
	if c.reconnecting.Load() {
		c.out.Emit(event.Detail{Text: "the connection to " + c.addr() + " was lost: connecting again"})
	}
	start := time.Now()
	if l, err = c.connect(ctx); err != nil {
		return nil, err
	}
	c.out.Emit(event.Detail{Text: fmt.Sprintf("connected to %s in %s, server %q", c.addr(),
		time.Since(start).Round(time.Millisecond), l.client.ServerVersion())})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		l.close(errClosed)
		return nil, errClosed
	}
	c.reconnecting.Store(true)
	c.link = l
	return l, nil
}

func (c *Conn) live() (*link, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, errClosed
	}
	if c.link == nil || c.link.broken() {
		return nil, nil
	}
	return c.link, nil
}

// Close ends the connection and its tunnels. Calls under way return
// *[communicator.DisconnectError].
func (c *Conn) Close() error {
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil
	}
	c.closed = true
	l := c.link
	c.mu.Unlock()
	close(c.quit)
	if l != nil {
		l.close(errClosed)
		l.wait()
	}
	c.local.close()
	c.route.close()
	return nil
}

// agentSocket is where the user's SSH agent listens, "" without one.
func agentSocket() string { return os.Getenv("SSH_AUTH_SOCK") }
