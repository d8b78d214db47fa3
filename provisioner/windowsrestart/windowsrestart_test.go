package windowsrestart

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/winrm"
	"github.com/ingot-build/ingot/internal/communicator/winrm/winrmtest"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

func start(t *testing.T) (*winrmtest.Server, communicator.Guest) {
	t.Helper()
	s := winrmtest.Start(t, winrmtest.Options{})
	c, err := winrm.Dial(provisionertest.Context(t), s.Config(), winrm.Target{}, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return s, communicator.Guest{Communicator: c, Data: s.Data()}
}

func apply(t *testing.T, g communicator.Guest, c Config) (*provisionertest.Events, error) {
	t.Helper()
	p, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	var out provisionertest.Events
	return &out, p.Apply(provisionertest.Context(t), g, &out)
}

func TestRestart(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]Config{
		"default": {},
		"own commands": {
			RestartCommand: `powershell "& {Restart-Computer -Force }"`, RestartCheckCommand: `powershell -command "& {Write-Output 'checked'}"`,
		},
		"with registry": {CheckRegistry: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, g := start(t)
			out, err := apply(t, g, c)
			if err != nil {
				t.Fatal(err)
			}
			if up := s.Uptime(); up > 30*time.Minute {
				t.Errorf("the guest did not restart: it is up for %s", up)
			}
			want := "WIN-TEST restarted."
			if c.RestartCheckCommand != "" {
				want = "checked"
			}
			if got := out.Lines(false); !slices.Contains(got, want) {
				t.Errorf("said %q", got)
			}
		})
	}
}

func TestRegistryIsWaitedFor(t *testing.T) {
	t.Parallel()
	s, g := start(t)
	const key = `HKLM:SOFTWARE\Busy Thing`
	s.SetKey(key, true)
	ended := make(chan error, 1)
	p, err := open(Config{CheckRegistry: true, RegistryKeys: []string{`HKLM:SOFTWARE\Other`, key}})
	if err != nil {
		t.Fatal(err)
	}
	var out provisionertest.Events
	go func() { ended <- p.Apply(provisionertest.Context(t), g, &out) }()
	provisionertest.Wait(t, "the registry to be asked", func() bool {
		return slices.ContainsFunc(out.All(), func(e event.Event) bool {
			d, ok := e.(event.Detail)
			return ok && strings.Contains(d.Text, key)
		})
	})
	s.SetKey(key, false)
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestFaults(t *testing.T) {
	t.Parallel()
	_, g := start(t)
	for name, tc := range map[string]struct {
		c    Config
		want string
	}{
		"no restart":  {Config{RestartCommand: "ver", RestartTimeout: time.Second}, "did not restart within restart_timeout"},
		"bad command": {Config{RestartCommand: "nosuch"}, "exit status 1"},
	} {
		_, err := apply(t, g, tc.c)
		if err == nil || !strings.Contains(err.Error(), tc.want) || diag.Hint(err) == "" {
			t.Errorf("%s: %v (%s)", name, err, diag.Hint(err))
		}
	}
	g.Communicator = communicator.None{}
	if _, err := apply(t, g, Config{}); !errors.Is(err, communicator.ErrNoConnection) {
		t.Errorf("err = %v", err)
	}
	_, err := open(Config{RestartTimeout: -1})
	var f *diag.FieldError
	if !errors.As(err, &f) || f.Paths[0] != "restart_timeout" {
		t.Errorf("err = %v", err)
	}
}

func TestWaiting(t *testing.T) {
	failing := errors.New("not there")
	run := func(ctx context.Context, ask func(stop func()) (bool, error)) error {
		limit, stop := context.WithCancel(ctx)
		defer stop()
		w := waiter{limit: limit, out: event.Discard}
		w.until(ctx, "what", "hint", func(context.Context) (bool, error) { return ask(stop) })
		w.until(ctx, "more", "hint", func(context.Context) (bool, error) {
			if w.err != nil {
				t.Error("went on after a fault")
			}
			return true, nil
		})
		return w.err
	}
	if err := run(t.Context(), func(func()) (bool, error) { return true, nil }); err != nil {
		t.Error(err)
	}
	n := 0
	err := run(t.Context(), func(stop func()) (bool, error) {
		if n++; n > 1 {
			stop()
			return false, nil
		}
		return false, failing
	})
	if !errors.Is(err, failing) || !strings.Contains(err.Error(), "what within restart_timeout") || diag.Hint(err) != "hint" {
		t.Errorf("err = %v", err)
	}
	if err := run(t.Context(), func(stop func()) (bool, error) { stop(); return false, nil }); err == nil || diag.Hint(err) != "hint" {
		t.Errorf("err = %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	if err := run(ctx, func(func()) (bool, error) { cancel(); return false, nil }); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if err := run(t.Context(), func(func()) (bool, error) { return false, communicator.ErrNoConnection }); !errors.Is(err, communicator.ErrNoConnection) {
		t.Errorf("err = %v", err)
	}
}

func TestShutdownInProgressIsARestart(t *testing.T) {
	t.Parallel()
	s, g := start(t)
	if _, err := apply(t, g, Config{RestartCommand: `shutdown /r /t 0 && exit 1115`}); err != nil {
		t.Fatal(err)
	}
	if s.Uptime() > 30*time.Minute {
		t.Error("the guest did not restart")
	}
}
