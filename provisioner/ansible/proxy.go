package ansible

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	"golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
)

// A proxy is an SSH server for one client key, whose commands run on the guest.
type proxy struct {
	guest communicator.Guest
	out   event.Sink
	sftp  string // the guest's command that serves SFTP
	user  string
	keys  keys

	work  sync.WaitGroup // connections and their sessions
	mu    sync.Mutex
	conns map[net.Conn]struct{}
}

// serve accepts connections until ctx ends, and returns when the last session
// has ended.
func (p *proxy) serve(ctx context.Context, ln net.Listener) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.conns = map[net.Conn]struct{}{}
	stop := context.AfterFunc(ctx, func() {
		_ = ln.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		for c := range p.conns {
			_ = c.Close()
		}
	})
	defer stop()
	for {
		conn, err := ln.Accept()
		if err != nil {
			break // closed
		}
		p.mu.Lock()
		if ctx.Err() != nil {
			_ = conn.Close()
		}
		p.conns[conn] = struct{}{}
		p.mu.Unlock()
		p.work.Go(func() {
			p.connection(ctx, conn)
			_ = conn.Close()
			p.mu.Lock()
			delete(p.conns, conn)
			p.mu.Unlock()
		})
	}
	p.work.Wait()
}

func (p *proxy) config() *ssh.ServerConfig {
	want := p.keys.allowed.Marshal()
	c := &ssh.ServerConfig{
		PublicKeyCallback: func(m ssh.ConnMetadata, key ssh.PublicKey) (*ssh.Permissions, error) {
			if m.User() != p.user {
				return nil, fmt.Errorf("user %q is not let in", m.User())
			}
			if !bytes.Equal(key.Marshal(), want) {
				return nil, errors.New("this key is not let in")
			}
			return nil, nil
		},
		AuthLogCallback: func(m ssh.ConnMetadata, method string, err error) {
			if err != nil && method != "none" {
				p.out.Emit(event.Detail{Text: fmt.Sprintf("Ansible's login as %s (%s): %v", m.User(), method, err)})
			}
		},
	}
	c.AddHostKey(p.keys.host)
	return c
}

func (p *proxy) connection(ctx context.Context, conn net.Conn) {
	_, channels, requests, err := ssh.NewServerConn(conn, p.config())
	if err != nil {
		p.out.Emit(event.Detail{Text: fmt.Sprintf("Ansible's connection: %v", err)})
		return
	}
	go ssh.DiscardRequests(requests)
	// What runs for a client that hangs up is not waited for.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	for nc := range channels {
		if nc.ChannelType() != "session" {
			_ = nc.Reject(ssh.UnknownChannelType, "only sessions are served")
			continue
		}
		ch, requests, err := nc.Accept()
		if err != nil {
			return
		}
		p.work.Go(func() { p.session(ctx, ch, requests) })
	}
}

// session serves one channel until its command has ended.
func (p *proxy) session(ctx context.Context, ch ssh.Channel, requests <-chan *ssh.Request) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var command sync.WaitGroup
	started := false
	for req := range requests {
		ok := false
		switch req.Type {
		case "pty-req", "env":
			ok = true // without effect: the guest is asked over another connection
		case "signal":
			cancel()
			ok = true
		case "exec", "subsystem":
			var payload struct{ Text string }
			if started || ssh.Unmarshal(req.Payload, &payload) != nil || req.Type == "subsystem" && payload.Text != "sftp" {
				break
			}
			ok, started = true, true
			line := payload.Text
			if req.Type == "subsystem" {
				line = p.sftp
			}
			command.Go(func() {
				finish(ch, p.exec(ctx, ch, line, req.Type == "exec"))
				cancel()
			})
		}
		if req.WantReply {
			_ = req.Reply(ok, nil)
		}
	}
	cancel()
	command.Wait()
	_ = ch.Close()
}

// exec runs a line on the guest, with the channel as its streams. scp is served
// here, where the guest need not have it.
func (p *proxy) exec(ctx context.Context, ch ssh.Channel, line string, plain bool) error {
	if plain {
		if s, ok := parseSCP(line); ok {
			return s.serve(ctx, p.guest, ch)
		}
	}
	p.out.Emit(event.Detail{Text: "Ansible runs on the guest: " + line})
	return p.guest.Run(ctx, communicator.Cmd{Line: line, Stdin: input{ch}, Stdout: ch, Stderr: ch.Stderr()})
}

// input hides that a channel is more than a reader.
type input struct{ io.Reader }

// finish tells the client how its command ended. A guest that went away gives
// no status, and the client reports it as unreachable.
func finish(ch ssh.Channel, err error) {
	var exit *communicator.ExitError
	status := uint32(0)
	switch {
	case err == nil:
	case errors.As(err, &exit):
		status = uint32(exit.Status)
	default:
		fmt.Fprintf(ch.Stderr(), "%v\r\n", err)
		_ = ch.Close()
		return
	}
	_ = ch.CloseWrite()
	_, _ = ch.SendRequest("exit-status", false, binary.BigEndian.AppendUint32(nil, status))
	_ = ch.Close()
}
