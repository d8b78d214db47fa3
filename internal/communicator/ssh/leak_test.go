package ssh

import (
	"context"
	"errors"
	"runtime"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
)

// Nothing may run on after Close, whatever the calls before it met with.
func TestNothingRunsOnAfterClose(t *testing.T) {
	s := newSSHD(t)
	p := newRelay(t, s.addr(), 0)
	port := freePort(t)
	c, err := Dial(testContext(t), prepared(t, func(cfg *communicator.Config) {
		cfg.SSHLocalTunnels = []string{tunnel(port, s.addr())}
		cfg.SSHRemoteTunnels = []string{tunnel(freePort(t), s.addr())}
	}), p.target(s), event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	dir := shortTemp(t)
	for _, breakIt := range []bool{false, true} {
		ctx, cancel := context.WithCancelCause(testContext(t))
		why := errors.New("why")
		err := c.Run(ctx, communicator.Cmd{Line: "while echo x; do sleep 0.1; done", Stdout: writerFunc(func(b []byte) (int, error) {
			if breakIt {
				p.drop()
			} else {
				cancel(why)
			}
			return len(b), nil
		})})
		if err == nil {
			t.Error("no error")
		}
		cancel(nil)
		if err := c.sftpPut(testContext(t), dir+"/f", 0o600, strings.NewReader("x")); err != nil {
			t.Error(err)
		}
		if err := c.GetTree(testContext(t), dir, dir+"/back"); err != nil {
			t.Error(err)
		}
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	ours := func() string {
		b := make([]byte, 1<<20)
		var left []string
		for _, g := range strings.Split(string(b[:runtime.Stack(b, true)]), "\n\n") {
			if strings.Contains(g, "crypto/ssh.") || strings.Contains(g, "pkg/sftp") || strings.Contains(g, "ssh.(*Conn)") || strings.Contains(g, "ssh.(*link)") {
				if !strings.Contains(g, "TestNothingRunsOn") {
					left = append(left, g)
				}
			}
		}
		return strings.Join(left, "\n\n")
	}
	last := ""
	defer func() {
		if t.Failed() {
			t.Log(last)
		}
	}()
	waitFor(t, "every goroutine to end", func() bool { last = ours(); return last == "" })
}
