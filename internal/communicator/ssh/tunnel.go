package ssh

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
)

// relistenFor is how long a port on the guest may stay taken after a break,
// by the guest's end of the broken connection.
const relistenFor = 15 * time.Second

// localTunnels listen here and lead to the guest's side, over whatever
// connection is live when a client comes.
type localTunnels struct {
	stop      context.CancelFunc
	listeners []net.Listener
	tasks     sync.WaitGroup
}

func listenLocal(ctx context.Context, specs []string, c *Conn) (*localTunnels, error) {
	run, stop := context.WithCancel(context.WithoutCancel(ctx))
	t := &localTunnels{stop: stop}
	for _, spec := range specs {
		tun, err := communicator.ParseTunnel(spec)
		if err == nil {
			var ln net.Listener
			if ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(tun.Port))); err == nil {
				t.listeners = append(t.listeners, ln)
				t.tasks.Go(func() { t.serve(run, ln, tun.To, c) })
				continue
			}
		}
		t.close()
		return nil, diag.WithHint(fmt.Errorf("ssh_local_tunnels %q: %w", spec, err), "choose a port of this machine that is free")
	}
	return t, nil
}

func (t *localTunnels) serve(ctx context.Context, ln net.Listener, to string, c *Conn) {
	for {
		conn, err := ln.Accept()
		if err != nil {
			return
		}
		t.tasks.Go(func() {
			defer conn.Close() //nolint:errcheck // closed by pipe as well
			stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
			defer stop()
			l, err := c.current(ctx)
			if err == nil {
				var far net.Conn
				if far, err = l.dial(ctx, to); err == nil {
					pipe(conn, far)
					return
				}
			}
			c.out.Emit(event.Detail{Text: fmt.Sprintf("local tunnel to %s: %v", to, err)})
		})
	}
}

// dial connects from the guest to addr.
func (l *link) dial(ctx context.Context, addr string) (net.Conn, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	go func() {
		select {
		case <-l.done:
			stop(l.lost(io.EOF))
		case <-ctx.Done():
		}
	}()
	return l.client.DialContext(ctx, "tcp", addr)
}

func (t *localTunnels) close() {
	if t == nil {
		return
	}
	t.stop()
	for _, ln := range t.listeners {
		_ = ln.Close()
	}
	t.tasks.Wait()
}

// remoteTunnels listens on the guest's loopback. again says that the ports may
// still be taken by an earlier connection.
func (l *link) remoteTunnels(ctx context.Context, specs []string, again bool, out event.Sink) error {
	for _, spec := range specs {
		tun, err := communicator.ParseTunnel(spec)
		if err != nil {
			return &permanentError{err}
		}
		ln, err := l.listen(ctx, tun.Port, again)
		if err != nil {
			return &permanentError{diag.WithHint(fmt.Errorf("ssh_remote_tunnels %q: the guest does not listen: %w", spec, err),
				"the port must be free on the guest, and its sshd_config must have AllowTcpForwarding")}
		}
		l.tasks.Go(func() {
			for {
				conn, err := ln.Accept()
				if err != nil {
					return
				}
				l.tasks.Go(func() { l.serveRemote(conn, tun.To, out) })
			}
		})
	}
	return nil
}

func (l *link) serveRemote(conn net.Conn, to string, out event.Sink) {
	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	l.tasks.Go(func() {
		select {
		case <-ctx.Done():
		case <-l.done:
			stop()
		}
	})
	near, err := (&net.Dialer{Timeout: time.Minute}).DialContext(ctx, "tcp", to)
	if err != nil {
		out.Emit(event.Detail{Text: fmt.Sprintf("remote tunnel to %s: %v", to, err)})
		_ = conn.Close()
		return
	}
	defer context.AfterFunc(ctx, func() { _ = near.Close() })()
	pipe(conn, near)
}

// listen asks the guest to listen on a port of its loopback.
func (l *link) listen(ctx context.Context, port int, again bool) (ln net.Listener, err error) {
	ctx, stop := context.WithTimeout(ctx, relistenFor)
	defer stop()
	defer context.AfterFunc(ctx, func() { l.close(context.Cause(ctx)) })()
	waited := poll.Until(ctx, poll.Backoff{}, func(context.Context) (bool, error) {
		ln, err = l.client.Listen("tcp", net.JoinHostPort("localhost", strconv.Itoa(port)))
		return err == nil || !again || l.broken(), nil
	})
	if err == nil {
		err = waited
	}
	return ln, err
}

// forward copies src to dst and passes the end of the stream on.
func forward(dst, src net.Conn) {
	_, _ = io.Copy(dst, src)
	if h, ok := dst.(interface{ CloseWrite() error }); ok {
		_ = h.CloseWrite()
		return
	}
	_ = dst.Close()
}

// pipe copies both ways until both directions have ended.
func pipe(a, b net.Conn) {
	var wg sync.WaitGroup
	wg.Go(func() { forward(a, b) })
	forward(b, a)
	wg.Wait()
	_, _ = a.Close(), b.Close()
}
