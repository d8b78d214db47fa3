// Package qmp speaks the QEMU Machine Protocol, the JSON control channel of a
// running QEMU (https://www.qemu.org/docs/master/interop/qmp-spec.html).
package qmp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

// An Event is something QEMU tells unasked.
type Event struct {
	Name string // "SHUTDOWN"
	Data json.RawMessage
}

// A CommandError is QEMU's refusal of a command.
type CommandError struct {
	Command string
	Class   string
	Desc    string
}

func (e *CommandError) Error() string {
	return fmt.Sprintf("qmp %s: %s", e.Command, e.Desc)
}

// ErrClosed says that the connection has ended, most often because QEMU has.
var ErrClosed = errors.New("qmp: the connection is closed")

// A Client is one connection. Its methods are safe for concurrent use.
type Client struct {
	conn    net.Conn
	onEvent func(Event)
	done    chan struct{}

	mu      sync.Mutex
	nextID  int
	pending map[int]chan message
}

// message is any line QEMU sends.
type message struct {
	Greeting json.RawMessage `json:"QMP"`
	Return   json.RawMessage `json:"return"`
	Error    *struct {
		Class string `json:"class"`
		Desc  string `json:"desc"`
	} `json:"error"`
	ID    *int            `json:"id"`
	Event string          `json:"event"`
	Data  json.RawMessage `json:"data"`
}

// Dial connects to the Unix socket at path, waits for the greeting and leaves
// the negotiation mode: the machine is built when it returns. onEvent (may be
// nil) is called for each event on the client's own goroutine; it must not call
// Do.
func Dial(ctx context.Context, path string, onEvent func(Event)) (*Client, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", path)
	if err != nil {
		return nil, fmt.Errorf("qmp: %w", err)
	}
	return New(ctx, conn, onEvent)
}

// New is [Dial] on a connection that is there already, which it owns.
func New(ctx context.Context, conn net.Conn, onEvent func(Event)) (*Client, error) {
	if onEvent == nil {
		onEvent = func(Event) {}
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	dec := json.NewDecoder(conn)
	var hello message
	if err := dec.Decode(&hello); err != nil {
		stop()
		_ = conn.Close()
		return nil, fmt.Errorf("qmp greeting: %w", errors.Join(context.Cause(ctx), err))
	}
	if hello.Greeting == nil {
		stop()
		_ = conn.Close()
		return nil, errors.New("qmp greeting: the other end does not speak QMP")
	}
	c := &Client{conn: conn, onEvent: onEvent, done: make(chan struct{}), pending: map[int]chan message{}}
	go c.read(dec)
	err := c.Do(ctx, "qmp_capabilities", nil, nil)
	if !stop() && err == nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// read is the only reader of the connection, and ends with it.
func (c *Client) read(dec *json.Decoder) {
	defer close(c.done)
	defer c.conn.Close()
	for {
		var m message
		if err := dec.Decode(&m); err != nil {
			return
		}
		if m.Event != "" {
			c.onEvent(Event{m.Event, m.Data})
			continue
		}
		if m.ID == nil {
			continue
		}
		c.mu.Lock()
		ch := c.pending[*m.ID]
		delete(c.pending, *m.ID)
		c.mu.Unlock()
		if ch != nil {
			ch <- m // has room for the one answer
		}
	}
}

// Do carries out a command with args (nil, or what encodes to an object) and
// decodes its answer into out (nil: dropped). It returns *[CommandError] when
// QEMU refused, [ErrClosed] when the connection ended, ctx's cause when ctx did.
func (c *Client) Do(ctx context.Context, command string, args, out any) error {
	ch := make(chan message, 1)
	c.mu.Lock()
	c.nextID++
	id := c.nextID
	c.pending[id] = ch
	req := struct {
		Execute   string `json:"execute"`
		Arguments any    `json:"arguments,omitempty"`
		ID        int    `json:"id"`
	}{command, args, id}
	line, err := json.Marshal(req)
	if err == nil {
		_, err = c.conn.Write(append(line, '\n'))
	}
	c.mu.Unlock()
	if err != nil {
		c.forget(id)
		if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
			return ErrClosed
		}
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	select {
	case m := <-ch:
		return c.answer(command, m, out)
	case <-c.done:
		select { // the answer may have been the last line
		case m := <-ch:
			return c.answer(command, m, out)
		default:
			return ErrClosed
		}
	case <-ctx.Done():
		c.forget(id)
		return context.Cause(ctx)
	}
}

func (c *Client) answer(command string, m message, out any) error {
	if m.Error != nil {
		return &CommandError{command, m.Error.Class, m.Error.Desc}
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(m.Return, out); err != nil {
		return fmt.Errorf("qmp %s: %w", command, err)
	}
	return nil
}

func (c *Client) forget(id int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.pending, id)
}

// Done is closed when the connection has ended and every event was delivered.
func (c *Client) Done() <-chan struct{} { return c.done }

// Close ends the connection. QEMU goes on. It may be called twice.
func (c *Client) Close() error {
	err := c.conn.Close()
	<-c.done
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}
