package ssh

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
)

func TestDialTellsWhyItFailed(t *testing.T) {
	t.Parallel()
	silent := newRelay(t, "", 0)
	for name, tc := range map[string]struct {
		target Target
		why    communicator.Reach
	}{
		"refused":     {Target{Host: "127.0.0.1", Port: freePort(t)}, communicator.Refused},
		"unreachable": {Target{Host: "no-such-host.invalid", Port: 22}, communicator.Unreachable},
		"silent":      {Target{Host: "127.0.0.1", Port: silent.port()}, communicator.Silent},
	} {
		_, err := Dial(testContext(t), prepared(t, func(cfg *communicator.Config) { cfg.SSHTimeout = 3 * time.Second }), tc.target, event.Discard)
		var connect *communicator.ConnectError
		if !errors.As(err, &connect) || connect.Why != tc.why || diag.Hint(err) == "" || connect.Err == nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDialConnectsAsSoonAsTheGuestAnswers(t *testing.T) {
	t.Parallel()
	s := prepareSSHD(t)
	p := newRelay(t, "", 0)
	go func() { // a port forward that accepts before the guest does
		err := poll.Until(t.Context(), poll.Backoff{First: 10 * time.Millisecond}, func(context.Context) (bool, error) {
			return p.accepted() >= 2, nil
		})
		if err == nil { // else the test is over
			p.lead(s.addr())
		}
	}()
	s.start()
	c := dial(t, p.target(s), nil)
	if _, _, err := output(t, c, "true"); err != nil {
		t.Error(err)
	}
}

func TestDialStops(t *testing.T) {
	t.Parallel()
	silent := newRelay(t, "", 0)
	gone := errors.New("the machine ended")
	var asked atomic.Int32
	target := Target{Host: "127.0.0.1", Port: silent.port(), Alive: func() error {
		if asked.Add(1) > 1 {
			return gone
		}
		return nil
	}}
	if _, err := Dial(testContext(t), prepared(t, nil), target, event.Discard); !errors.Is(err, gone) {
		t.Errorf("a machine that is gone: %v", err)
	}
	target.Alive = nil
	ctx, cancel := context.WithCancelCause(testContext(t))
	why := errors.New("why")
	out := sinkFunc(func(event.Event) { cancel(why) })
	if _, err := Dial(ctx, prepared(t, nil), target, out); !errors.Is(err, why) {
		t.Errorf("cancelled: %v", err)
	}
	if _, err := Dial(testContext(t), communicator.Config{Communicator: "winrm"}, target, event.Discard); err == nil || !strings.Contains(err.Error(), "does not connect over SSH") {
		t.Errorf("winrm: %v", err)
	}
}

func TestHostKeys(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	_, other, _ := GenerateKey("ed25519", 0, "")
	target := s.target()
	target.HostKeys = []string{other}
	_, err := Dial(testContext(t), prepared(t, nil), target, event.Discard)
	var key *communicator.HostKeyError
	if !errors.As(err, &key) || key.Want == key.Got || diag.Hint(err) == "" {
		t.Errorf("another key: %v", err)
	}
	_, rsa, _ := GenerateKey("rsa", 2048, "")
	target.HostKeys = []string{rsa, s.hostPub}
	dial(t, target, nil)

	target.HostKeys = nil
	var warned atomic.Int32
	out := sinkFunc(func(e event.Event) {
		if _, ok := e.(event.Warn); ok {
			warned.Add(1)
		}
	})
	c, err := Dial(testContext(t), prepared(t, nil), target, out)
	if err != nil || warned.Load() != 1 {
		t.Fatalf("unchecked: %v, %d warnings", err, warned.Load())
	}
	_ = c.Close()

	var asked atomic.Int32
	target.HostKeyFunc = func(context.Context) ([]string, error) {
		if asked.Add(1) == 1 {
			return nil, nil // not on the console yet
		}
		return []string{s.hostPub}, nil
	}
	dial(t, target, nil)
	if asked.Load() < 2 {
		t.Error("the late host key was not asked for again")
	}
	target.HostKeyFunc = func(context.Context) ([]string, error) { return []string{other}, nil }
	if _, err := Dial(testContext(t), prepared(t, nil), target, event.Discard); !errors.As(err, &key) {
		t.Errorf("another late key: %v", err)
	}
}

func TestReconnect(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	p := newRelay(t, s.addr(), 0)
	port, far := freePort(t), freePort(t)
	echo := listenEcho(t)
	c := dial(t, p.target(s), func(cfg *communicator.Config) {
		cfg.SSHLocalTunnels = []string{tunnel(port, echo)}
		cfg.SSHRemoteTunnels = []string{tunnel(far, echo)}
	})
	for range 3 {
		for _, at := range []int{port, far} {
			testEcho(t, at)
		}
		ready := make(chan struct{})
		var once sync.Once
		ended := make(chan error, 1)
		go func() {
			ended <- c.Run(testContext(t), communicator.Cmd{Line: "while echo x; do sleep 0.1; done", Stdout: writerFunc(func(b []byte) (int, error) {
				once.Do(func() { close(ready) })
				return len(b), nil
			})})
		}()
		<-ready
		p.drop()
		var lost *communicator.DisconnectError
		if err := <-ended; !errors.As(err, &lost) {
			t.Errorf("err = %v", err)
		}
		if out, _, err := output(t, c, "echo back"); err != nil || out != "back\n" {
			t.Fatalf("after a break: %q %v", out, err)
		}
	}
	s.stop()
	joined := s.restart()
	out, _, err := output(t, c, "echo back")
	joined()
	if err != nil || out != "back\n" {
		t.Fatalf("after a reboot: %q %v", out, err)
	}
	_ = c.Close()
	if _, _, err := output(t, c, "true"); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
	if conn, err := net.Dial("tcp", addrOf(port)); err == nil { //nolint:noctx // at once
		_ = conn.Close()
		t.Error("the local tunnel outlived Close")
	}
}

func TestReadWriteTimeoutAndPause(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	p := newRelay(t, s.addr(), 0)
	c := dial(t, p.target(s), func(cfg *communicator.Config) {
		cfg.SSHReadWriteTimeout, cfg.SSHKeepAliveInterval = 300*time.Millisecond, -1
		cfg.PauseBeforeConnecting = time.Millisecond
	})
	if p.accepted() < 2 {
		t.Error("it did not connect again after the pause")
	}
	_, _, err := output(t, c, "sleep 10")
	var lost *communicator.DisconnectError
	if !errors.As(err, &lost) {
		t.Errorf("an idle connection: %v", err)
	}
	c2 := dial(t, p.target(s), func(cfg *communicator.Config) {
		cfg.SSHReadWriteTimeout, cfg.SSHKeepAliveInterval = 20*time.Second, 10*time.Millisecond
	})
	if _, _, err := output(t, c2, "sleep 0.2"); err != nil {
		t.Errorf("a connection kept alive: %v", err)
	}
}

// A script takes two round trips: start the command; run it. What is counted
// may be split by the scheduler, so there is room for one more.
func TestScriptRoundTrips(t *testing.T) {
	s := newSSHD(t)
	p := newRelay(t, s.addr(), 20*time.Millisecond)
	c := dial(t, p.target(s), nil)
	dir := shortTemp(t)
	script := communicator.Script{Path: dir + "/s", Mode: 0o700, Body: []byte("true"), Line: "sh " + dir + "/s"}
	if err := c.RunScript(testContext(t), script); err != nil {
		t.Fatal(err)
	}
	before := p.turns.Load()
	for range 10 {
		if err := c.RunScript(testContext(t), script); err != nil {
			t.Fatal(err)
		}
	}
	if n := p.turns.Load() - before; n > 40 {
		t.Errorf("10 scripts took %d round trips", n)
	}
}
