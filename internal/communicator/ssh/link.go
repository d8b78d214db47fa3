package ssh

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/pkg/sftp"
	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
)

// deadAfter is how long keep-alive requests may go unanswered. It is long
// because a guest that is busy, or paused for a snapshot, is not gone.
const deadAfter = 2 * time.Minute

// A link is one connection, from login until it breaks.
type link struct {
	client *gossh.Client
	alive  func() error // Target.Alive; may be nil
	agent  bool         // forward the SSH agent to commands
	done   chan struct{}
	tasks  sync.WaitGroup // goroutines that end with the link

	mu        sync.Mutex
	why       error         // that it ended, when we know better than the library
	spare     chan opened   // a session opened in advance; nil: none
	active    int           // sessions in use
	freed     chan struct{} // closed and replaced when a session ends
	files     *sftp.Client  // nil: none yet
	fileUsers int           // calls that use files
}

type opened struct {
	s   *gossh.Session
	err error
}

// newLink starts what belongs to a connection: remote tunnels, agent
// forwarding, keep-alive requests.
func (c *Conn) newLink(ctx context.Context, client *gossh.Client) (*link, error) {
	l := &link{client: client, alive: c.t.Alive, done: make(chan struct{}), freed: make(chan struct{})}
	l.tasks.Go(func() {
		err := client.Wait()
		l.mu.Lock()
		if l.why == nil {
			l.why = err
		}
		l.mu.Unlock()
		close(l.done)
	})
	if err := l.remoteTunnels(ctx, c.cfg.SSHRemoteTunnels, c.reconnecting.Load(), c.out); err != nil {
		l.close(err)
		l.wait()
		return nil, err
	}
	if sock := agentSocket(); sock != "" && !c.cfg.SSHDisableAgentForwarding {
		if err := agent.ForwardToRemote(client, sock); err != nil {
			c.out.Emit(event.Detail{Text: fmt.Sprintf("the SSH agent is not forwarded: %v", err)})
		} else {
			l.agent = true
		}
	}
	interval := c.cfg.SSHKeepAliveInterval
	if interval == 0 {
		interval = 5 * time.Second
	}
	if interval > 0 {
		l.tasks.Go(func() { l.keepAlive(interval) })
	}
	return l, nil
}

// keepAlive asks for an answer every interval and ends the link when none
// comes for long.
func (l *link) keepAlive(interval time.Duration) {
	tick := time.NewTicker(interval)
	defer tick.Stop()
	dead := time.NewTimer(max(deadAfter, 3*interval))
	defer dead.Stop()
	answered := make(chan struct{}, 1)
	answered <- struct{}{}
	for {
		select {
		case <-l.done:
			return
		case <-dead.C:
			l.close(fmt.Errorf("no answer to keep-alive requests for %s", max(deadAfter, 3*interval)))
			return
		case <-tick.C:
		}
		select {
		case <-answered:
			dead.Reset(max(deadAfter, 3*interval))
			l.tasks.Go(func() {
				// "Request denied" is an answer, too.
				if _, _, err := l.client.SendRequest("keepalive@openssh.com", true, nil); err == nil {
					answered <- struct{}{}
				}
			})
		default: // the last one is still under way
		}
	}
}

func (l *link) broken() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// close ends the link; why, when not nil, is what its users are told.
func (l *link) close(why error) {
	l.mu.Lock()
	if l.why == nil {
		l.why = why
	}
	l.mu.Unlock()
	_ = l.client.Close()
}

// wait returns when the link and its goroutines have ended.
func (l *link) wait() { l.tasks.Wait() }

// lost is the error of a call under which the link broke.
func (l *link) lost(err error) error {
	gone := l.gone()
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case errors.Is(l.why, errClosed):
		err = l.why
	case gone != nil && diag.Hint(gone) == "":
		err = diag.WithHint(gone, "the machine itself is gone: its console log tells what it did last")
	case gone != nil:
		err = gone
	case l.why != nil:
		err = l.why
	}
	return &communicator.DisconnectError{Err: err}
}

// goneWithin is how much later than the end of its connections the end of a
// machine may show.
const goneWithin = 300 * time.Millisecond

// gone returns why the machine is no more, nil while it is.
func (l *link) gone() (why error) {
	if l.alive == nil {
		return nil
	}
	ctx, stop := context.WithTimeout(context.Background(), goneWithin)
	defer stop()
	_ = poll.Until(ctx, poll.Backoff{First: 20 * time.Millisecond}, func(context.Context) (bool, error) {
		why = l.alive()
		return why != nil, nil
	})
	return why
}

// open opens a session in the background.
func (l *link) open() chan opened {
	ch := make(chan opened, 1)
	go func() { // ends with the link at the latest
		s, err := l.client.NewSession()
		ch <- opened{s, err}
	}()
	return ch
}

// session returns an open session, and whether it was opened in advance, in
// which case the server may have closed it since. Opening costs a round trip,
// so the next one is opened while this one is used. When the server allows no
// more sessions at a time it waits for one of ours to end.
func (l *link) session(ctx context.Context) (s *gossh.Session, early bool, err error) {
	for alone := 0; ; {
		l.mu.Lock()
		ch, freed := l.spare, l.freed
		early = ch != nil
		l.spare = nil
		if ch == nil {
			ch = l.open()
		}
		l.mu.Unlock()
		var o opened
		select {
		case o = <-ch:
		case <-l.done:
			// The library does not end an opening that met the end of the
			// connection.
			return nil, false, l.lost(io.EOF)
		case <-ctx.Done():
			l.keep(ch)
			return nil, false, context.Cause(ctx)
		}
		if o.err == nil {
			l.mu.Lock()
			l.active++
			if l.spare == nil {
				l.spare = l.open()
			}
			l.mu.Unlock()
			return o.s, early, nil
		}
		var full *gossh.OpenChannelError
		if !errors.As(o.err, &full) {
			return nil, false, l.lost(o.err)
		}
		if early {
			continue // there was no room then
		}
		if !l.makeRoom() {
			if alone++; alone > 20 {
				return nil, false, fmt.Errorf("the guest's SSH server opens no session: %w", o.err)
			}
		} else {
			alone = 0
		}
		// The server may notice later than we do that a session has ended.
		again := time.NewTimer(100 * time.Millisecond)
		select {
		case <-freed:
		case <-again.C:
		case <-l.done:
			err = l.lost(o.err)
		case <-ctx.Done():
			err = context.Cause(ctx)
		}
		again.Stop()
		if err != nil {
			return nil, false, err
		}
	}
}

// makeRoom ends an SFTP client that is not used, and reports whether sessions
// of ours are open that will end.
func (l *link) makeRoom() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.files != nil && l.fileUsers == 0 {
		go l.files.Close() //nolint:errcheck // sending may block
		l.files = nil
	}
	return l.active > 0
}

// keep makes a session nobody waits for any more the spare one.
func (l *link) keep(ch chan opened) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.spare == nil {
		l.spare = ch
		return
	}
	go func() {
		if o := <-ch; o.err == nil {
			_ = o.s.Close()
		}
	}()
}

// release says that a session from [link.session] has ended.
func (l *link) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.active--
	close(l.freed)
	l.freed = make(chan struct{})
}
