package winrm

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/powershell"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/secret"
)

// A Target is what a builder knows of the guest. An empty field is taken from
// the configuration.
type Target struct {
	Host     string
	Port     int
	User     string
	Password secret.String

	// Alive, when not nil, is asked between tries. Its error says that the
	// machine is gone and ends the waiting.
	Alive func() error

	// Patience is how long a guest may be away from the network while a
	// command runs before the command counts as lost; 0: 30 seconds.
	Patience time.Duration
}

// A Conn is a way to a guest. WinRM has no lasting connection: every request
// stands for itself, and what "lost" means is that the guest no longer knows
// the shell. It implements [communicator.Communicator].
type Conn struct {
	cfg communicator.Config
	t   Target
	out event.Sink
	tr  *transport

	// large is the size in bytes from which several receivers share a transfer.
	large int64

	// background is the removals of shells under way.
	background sync.WaitGroup

	mu     sync.Mutex
	closed bool
	quit   context.Context
	end    context.CancelCauseFunc
}

var _ communicator.Communicator = (*Conn)(nil)

var errClosed = errors.New("the connection was closed")

// Dial waits until the guest answers, accepts the credentials and runs
// PowerShell. cfg must have been prepared with [communicator.Config.Prepare].
//
// It tries from every 100 ms to every 2 seconds until winrm_timeout is over
// (*[communicator.ConnectError], or *[communicator.AuthError] when the guest
// answered and refused: a guest that is being set up refuses for a while). A
// certificate that is not trusted ends it at once.
func Dial(ctx context.Context, cfg communicator.Config, t Target, out event.Sink) (*Conn, error) {
	c, err := newConn(ctx, cfg, t, out)
	if err != nil {
		return nil, err
	}
	if err := c.first(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	out.Emit(event.Say{Text: "Connected over WinRM as " + c.t.User})
	return c, nil
}

func newConn(ctx context.Context, cfg communicator.Config, t Target, out event.Sink) (*Conn, error) {
	if cfg.Communicator != "" && cfg.Communicator != "winrm" {
		return nil, fmt.Errorf("communicator %q does not connect over WinRM", cfg.Communicator)
	}
	t.fill(cfg)
	if t.Host == "" {
		return nil, diag.WithHint(errors.New("the guest's address is not known"), "set winrm_host")
	}
	quit, end := context.WithCancelCause(context.WithoutCancel(ctx))
	return &Conn{cfg: cfg, t: t, out: out, tr: newTransport(cfg, t), large: defaultLarge, quit: quit, end: end}, nil
}

func (c *Conn) first(ctx context.Context) error {
	c.out.Emit(event.Say{Text: "Waiting for WinRM on " + c.addr()})
	if err := c.await(ctx); err != nil {
		return err
	}
	pause := c.cfg.PauseBeforeConnecting
	if pause <= 0 {
		return nil
	}
	c.out.Emit(event.Say{Text: fmt.Sprintf("WinRM answers; connecting again after %s", pause)})
	if err := poll.Sleep(ctx, pause); err != nil {
		return err
	}
	return c.await(ctx)
}

func (t *Target) fill(cfg communicator.Config) {
	if t.Host == "" {
		t.Host = cfg.WinRMHost
	}
	if t.Port == 0 {
		t.Port = cfg.WinRMPort
	}
	if t.User == "" {
		t.User = cfg.WinRMUsername
	}
	if t.Password.IsEmpty() {
		t.Password = cfg.WinRMPassword
	}
	if t.Patience == 0 {
		t.Patience = 30 * time.Second
	}
}

func (c *Conn) addr() string { return net.JoinHostPort(c.t.Host, strconv.Itoa(c.t.Port)) }

// errNotReady says that the guest takes commands and PowerShell does not work
// there yet.
var errNotReady = errors.New("PowerShell does not answer on the guest")

// await returns when the guest runs a command.
func (c *Conn) await(ctx context.Context) error {
	limit, stop := context.WithTimeout(ctx, c.cfg.WinRMTimeout)
	defer stop()
	start := time.Now()
	var last error
	err := poll.Until(limit, poll.Backoff{First: 100 * time.Millisecond, Max: 2 * time.Second}, func(ctx context.Context) (bool, error) {
		err := c.probe(ctx)
		if err == nil {
			return true, nil
		}
		if ctx.Err() == nil {
			if last == nil || last.Error() != err.Error() {
				c.out.Emit(event.Detail{Text: fmt.Sprintf("WinRM on %s: %v", c.addr(), err)})
			}
			last = err
		}
		var perm *permanentError
		if errors.As(err, &perm) || errors.Is(err, errClosed) {
			return false, err
		}
		if c.t.Alive != nil {
			if err := c.t.Alive(); err != nil {
				return false, err
			}
		}
		return false, nil
	})
	if err == nil || limit.Err() == nil || ctx.Err() != nil {
		return err
	}
	return c.verdict(last, time.Since(start))
}

// verdict says why a guest was not reached: last is what the last try ended
// with, nil where not even that was waited for.
func (c *Conn) verdict(last error, waited time.Duration) error {
	if last == nil {
		last = errSilent
	}
	var auth *communicator.AuthError
	if errors.As(last, &auth) {
		if diag.Hint(last) != "" {
			return last
		}
		return diag.WithHint(last, "%s", authHint)
	}
	why := communicator.Silent
	var wire *wireError
	if errors.As(last, &wire) {
		why = wire.why
	}
	hint := connectHint(why)
	if h := diag.Hint(last); h != "" {
		hint = h
	}
	return diag.WithHint(&communicator.ConnectError{Addr: c.addr(), Why: why, Waited: waited, Err: last}, "%s", hint)
}

// probe runs a small command.
func (c *Conn) probe(ctx context.Context) error {
	sh, err := c.open(ctx)
	if err != nil {
		return err
	}
	defer sh.close()
	var said strings.Builder
	err = sh.run(ctx, communicator.Cmd{Line: powershell.Command(`[Console]::Out.WriteLine('ready')`), Stdout: &said})
	var exit *communicator.ExitError
	if errors.As(err, &exit) || err == nil && !strings.Contains(said.String(), "ready") {
		return errNotReady
	}
	return err
}

// Close ends what is under way, whose callers get *[communicator.DisconnectError],
// and waits until the guest was told to remove its shells, at most some
// seconds.
func (c *Conn) Close() error {
	c.mu.Lock()
	closed := c.closed
	c.closed = true
	c.mu.Unlock()
	if closed {
		return nil
	}
	c.end(&communicator.DisconnectError{Err: errClosed})
	c.background.Wait()
	c.tr.close()
	return nil
}

// bind returns a context that ends with ctx or with the connection.
func (c *Conn) bind(ctx context.Context) (context.Context, func(), error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil, nil, errClosed
	}
	ctx, cancel := context.WithCancelCause(ctx)
	unhook := context.AfterFunc(c.quit, func() { cancel(context.Cause(c.quit)) })
	return ctx, func() { unhook(); cancel(nil) }, nil
}
