package ssh

import (
	"net"
	"sync"
	"time"
)

// A wire is the transport of a connection. It tells when the first byte came,
// and closes itself when nothing came for the idle time: a timer and not a
// deadline, because a channel of a bastion has no deadlines.
type wire struct {
	net.Conn
	once      sync.Once
	firstByte func()
	idle      time.Duration
	timer     *time.Timer // nil: no limit
}

// newWire wraps conn; idle 0 means no limit.
func newWire(conn net.Conn, idle time.Duration, firstByte func()) *wire {
	w := &wire{Conn: conn, firstByte: firstByte, idle: idle}
	if idle > 0 {
		w.timer = time.AfterFunc(idle, func() { _ = conn.Close() })
	}
	return w
}

func (w *wire) Read(p []byte) (int, error) {
	n, err := w.Conn.Read(p)
	if n > 0 {
		w.once.Do(w.firstByte)
		if w.timer != nil {
			w.timer.Reset(w.idle)
		}
	}
	return n, err
}

func (w *wire) Close() error {
	if w.timer != nil {
		w.timer.Stop()
	}
	return w.Conn.Close()
}
