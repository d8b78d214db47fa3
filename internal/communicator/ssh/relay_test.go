package ssh

import (
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// A relay forwards TCP connections, each way with a delay. It counts how often
// the direction of the talk turns, can break every connection, and can stop
// forwarding.
type relay struct {
	ln    net.Listener
	delay time.Duration
	turns atomic.Int64 // from the server's talking to the client's
	last  atomic.Int32 // who talked last: 1 client, 2 server

	mu    sync.Mutex
	to    string // "" answers nothing
	conns []net.Conn
	total int
}

func newRelay(t testing.TB, to string, delay time.Duration) *relay {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	p := &relay{ln: ln, to: to, delay: delay}
	var tasks sync.WaitGroup
	tasks.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			tasks.Go(func() { p.serve(conn) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		p.drop()
		tasks.Wait()
	})
	return p
}

func (p *relay) port() int { return p.ln.Addr().(*net.TCPAddr).Port }

func (p *relay) target(s *sshd) Target {
	t := s.target()
	t.Port = p.port()
	return t
}

func (p *relay) lead(to string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.to = to
}

// drop breaks every connection.
func (p *relay) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

func (p *relay) accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

func (p *relay) serve(client net.Conn) {
	p.mu.Lock()
	to := p.to
	p.total++
	p.conns = append(p.conns, client)
	p.mu.Unlock()
	defer client.Close() //nolint:errcheck // test
	if to == "" {
		_, _ = io.Copy(io.Discard, client)
		return
	}
	server, err := net.Dial("tcp", to) //nolint:noctx // at once
	if err != nil {
		return
	}
	defer server.Close() //nolint:errcheck // test
	p.mu.Lock()
	p.conns = append(p.conns, server)
	p.mu.Unlock()
	var both sync.WaitGroup
	both.Go(func() { p.forward(server, client, 1) })
	both.Go(func() { p.forward(client, server, 2) })
	both.Wait()
}

type chunk struct {
	due time.Time
	b   []byte
}

func (p *relay) forward(dst, src net.Conn, who int32) {
	queue := make(chan chunk, 1<<14)
	go func() {
		defer close(queue)
		for {
			b := make([]byte, 32<<10)
			n, err := src.Read(b)
			if n > 0 {
				if p.last.Swap(who) == 2 && who == 1 {
					p.turns.Add(1)
				}
				queue <- chunk{time.Now().Add(p.delay), b[:n]}
			}
			if err != nil {
				return
			}
		}
	}()
	failed := false
	for c := range queue {
		if failed {
			continue
		}
		if p.delay > 0 {
			time.Sleep(time.Until(c.due)) //nolint:forbidigo // the delay is what this is for
		}
		_, err := dst.Write(c.b)
		failed = err != nil
	}
	_ = dst.Close()
}
