package connect

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
	"github.com/ingot-build/ingot/internal/communicator/winrm"
	"github.com/ingot-build/ingot/internal/communicator/winrm/winrmtest"
	"github.com/ingot-build/ingot/internal/event"
)

func TestDial(t *testing.T) {
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	defer stop()
	s := winrmtest.Start(t, winrmtest.Options{})
	cfg := s.Config()
	cfg.WinRMHost, cfg.WinRMPort = "", 0
	c, err := Dial(ctx, cfg, ssh.Target{Host: s.Host, Port: s.Port}, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := c.(*winrm.Conn); !ok {
		t.Errorf("winrm gave a %T", c)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if c, err := Dial(ctx, communicator.Config{Communicator: "none"}, ssh.Target{}, event.Discard); err != nil || c != (communicator.None{}) {
		t.Errorf("none gave %v, %v", c, err)
	}
	dead := errors.New("the machine is off")
	alive := func() error { return dead }
	for _, kind := range []string{"ssh", "", "winrm"} {
		cfg := communicator.Config{Communicator: kind, SSHUsername: "u", WinRMUsername: "u", SSHHost: "127.0.0.1", WinRMHost: "127.0.0.1", SSHPort: 1, WinRMPort: 1}
		if err := cfg.Prepare(); err != nil {
			t.Fatal(err)
		}
		if c, err := Dial(ctx, cfg, ssh.Target{Alive: alive}, event.Discard); c != nil || !errors.Is(err, dead) {
			t.Errorf("%q: %v, %v", kind, c, err)
		}
	}
	if _, err := Dial(ctx, communicator.Config{Communicator: "telnet"}, ssh.Target{}, event.Discard); err == nil {
		t.Error("telnet is known")
	}
}
