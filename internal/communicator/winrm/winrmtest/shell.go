package winrmtest

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"
)

// A shell holds commands.
type shell struct {
	m        *Machine
	mu       sync.Mutex
	commands map[string]*command
	ended    bool
}

func (s *shell) end() {
	s.mu.Lock()
	s.ended = true
	all := s.commands
	s.commands = map[string]*command{}
	s.mu.Unlock()
	for _, c := range all {
		c.stop()
		c.gone()
	}
}

func (s *shell) find(id string) *command {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.commands[id]
}

func (s *shell) command(r request) (int, []byte) {
	line := r.Command
	for _, a := range r.Args {
		line += " " + a
	}
	if len(line) > 8191 {
		return fault(badRequest, "The command line is too long.")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return fault(noShell, "The shell was not found.")
	}
	ctx, stop := context.WithCancel(context.Background())
	c := &command{stop: stop, stdin: newStream(), out: map[string]*strings.Builder{"stdout": {}, "stderr": {}}}
	c.cond = sync.NewCond(&c.mu)
	id := fmt.Sprintf("C0DE-%04d", len(s.commands)+1)
	s.commands[id] = c
	go func() {
		code := s.m.cmd(&process{ctx: ctx, m: s.m, stdin: c.stdin, stdout: writer{c, "stdout"}, stderr: writer{c, "stderr"}, env: map[string]string{}}, line)
		c.mu.Lock()
		c.done, c.code = true, code
		c.mu.Unlock()
		c.stdin.close()
		c.cond.Broadcast()
	}()
	return reply("<rsp:CommandResponse><rsp:CommandId>" + id + "</rsp:CommandId></rsp:CommandResponse>")
}

// A command is a process and its streams.
type command struct {
	stop  func()
	stdin *stream

	mu   sync.Mutex
	cond *sync.Cond
	out  map[string]*strings.Builder
	done bool
	lost bool
	code int
}

// gone wakes those who wait for a command whose shell ended.
func (c *command) gone() {
	c.mu.Lock()
	c.lost = true
	c.mu.Unlock()
	c.stdin.close()
	c.cond.Broadcast()
}

type writer struct {
	c    *command
	name string
}

func (w writer) Write(p []byte) (int, error) {
	w.c.mu.Lock()
	defer w.c.mu.Unlock()
	w.c.out[w.name].Write(p)
	w.c.cond.Broadcast()
	return len(p), nil
}

// maxStream is how many bytes of a stream one answer carries.
const maxStream = 100 << 10

func (s *shell) receive(id string) (int, []byte) {
	c := s.find(id)
	if c == nil {
		return fault(noCommand, "The command was not found.")
	}
	late := false
	timer := time.AfterFunc(receiveTime, func() {
		c.mu.Lock()
		late = true
		c.mu.Unlock()
		c.cond.Broadcast()
	})
	defer timer.Stop()
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.out["stdout"].Len()+c.out["stderr"].Len() == 0 && !c.done && !c.lost && !late {
		c.cond.Wait()
	}
	if c.lost {
		return 0, nil
	}
	var b strings.Builder
	b.WriteString("<rsp:ReceiveResponse>")
	left := false
	any := false
	for _, name := range []string{"stdout", "stderr"} {
		text := c.out[name].String()
		if text == "" {
			continue
		}
		any = true
		n := min(len(text), maxStream)
		left = left || n < len(text)
		c.out[name].Reset()
		c.out[name].WriteString(text[n:])
		fmt.Fprintf(&b, `<rsp:Stream Name="%s" CommandId="%s">%s</rsp:Stream>`, name, id, base64.StdEncoding.EncodeToString([]byte(text[:n])))
	}
	switch {
	case c.done && !left:
		fmt.Fprintf(&b, `<rsp:Stream Name="stdout" CommandId="%[1]s" End="true"></rsp:Stream><rsp:CommandState CommandId="%[1]s" `+
			`State="http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Done"><rsp:ExitCode>%[2]d</rsp:ExitCode></rsp:CommandState>`, id, c.code)
	case !any:
		return fault(timedOut, "The WS-Management service cannot complete the operation within the time specified in OperationTimeout.")
	default:
		fmt.Fprintf(&b, `<rsp:CommandState CommandId="%s" State="http://schemas.microsoft.com/wbem/wsman/1/windows/shell/CommandState/Running"/>`, id)
	}
	b.WriteString("</rsp:ReceiveResponse>")
	return reply(b.String())
}

func (s *shell) send(r request) (int, []byte) {
	for _, in := range r.Send {
		c := s.find(in.Command)
		if c == nil {
			return fault(noCommand, "The command was not found.")
		}
		p, err := base64.StdEncoding.DecodeString(in.Data)
		if err != nil {
			return fault(badRequest, err.Error())
		}
		if !c.stdin.write(p) {
			return fault(109, "The pipe has been ended.")
		}
		if in.End == "true" {
			c.stdin.close()
		}
	}
	return reply("<rsp:SendResponse/>")
}

// A stream is input without bound.
type stream struct {
	mu     sync.Mutex
	cond   *sync.Cond
	data   []byte
	closed bool
}

func newStream() *stream {
	s := &stream{}
	s.cond = sync.NewCond(&s.mu)
	return s
}

func (s *stream) write(p []byte) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return len(p) == 0
	}
	s.data = append(s.data, p...)
	s.cond.Broadcast()
	return true
}

func (s *stream) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.cond.Broadcast()
}

// Read implements [io.Reader].
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.data) == 0 && !s.closed {
		s.cond.Wait()
	}
	if len(s.data) == 0 {
		return 0, io.EOF
	}
	n := copy(p, s.data)
	s.data = s.data[n:]
	return n, nil
}
