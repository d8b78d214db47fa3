package winrm

import (
	"context"
	"errors"
	"io"
	"net"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/powershell"
	"github.com/ingot-build/ingot/internal/communicator/winrm/winrmtest"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/secret"
)

// patience bounds every wait. It says nothing about how long a thing may take.
const patience = 2 * time.Minute

func bounded(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), patience)
	t.Cleanup(stop)
	return ctx
}

func dial(t *testing.T, s *winrmtest.Server, change func(*communicator.Config)) *Conn {
	t.Helper()
	cfg := s.Config()
	if change != nil {
		change(&cfg)
	}
	c, err := Dial(bounded(t), cfg, Target{}, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func wait(t *testing.T, what string, cond func() bool) {
	t.Helper()
	err := poll.Until(bounded(t), poll.Backoff{First: 5 * time.Millisecond, Max: 100 * time.Millisecond}, func(context.Context) (bool, error) {
		return cond(), nil
	})
	if err != nil {
		t.Fatalf("waited for %s: %v", what, err)
	}
}

func TestLogins(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	for name, tc := range map[string]struct {
		o    winrmtest.Options
		ntlm *bool
		user string
		ok   bool
	}{
		"basic":                {winrmtest.Options{}, nil, "", true},
		"basic, asked for":     {winrmtest.Options{}, &no, "", true},
		"NTLM":                 {winrmtest.Options{}, &yes, "", true},
		"NTLM with a domain":   {winrmtest.Options{}, &yes, `WIN-TEST\` + winrmtest.User, true},
		"Windows as it is":     {winrmtest.Options{NoBasic: true, Sealed: true}, nil, "", true},
		"sealed":               {winrmtest.Options{Sealed: true}, &yes, "", true},
		"TLS":                  {winrmtest.Options{TLS: true}, nil, "", true},
		"TLS and NTLM":         {winrmtest.Options{TLS: true, NoBasic: true}, nil, "", true},
		"wrong user":           {winrmtest.Options{}, nil, "guest", false},
		"wrong user, NTLM":     {winrmtest.Options{}, &yes, "guest", false},
		"NTLM is not taken":    {winrmtest.Options{NoNTLM: true}, &yes, "", false},
		"basic is not taken":   {winrmtest.Options{NoBasic: true}, &no, "", false},
		"nothing is taken":     {winrmtest.Options{NoBasic: true, NoNTLM: true}, nil, "", false},
		"plain is not taken":   {winrmtest.Options{Sealed: true}, &no, "", false},
		"wrong user, fallback": {winrmtest.Options{NoBasic: true}, nil, "guest", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := winrmtest.Start(t, tc.o)
			cfg := s.Config()
			cfg.WinRMUseNTLM = tc.ntlm
			if tc.user != "" {
				cfg.WinRMUsername = tc.user
			}
			c, err := newConn(bounded(t), cfg, Target{}, event.Discard)
			if err != nil {
				t.Fatal(err)
			}
			if tc.ok {
				err = c.await(bounded(t))
			} else if err = c.probe(bounded(t)); err != nil {
				err = c.verdict(err, time.Minute)
			}
			var auth *communicator.AuthError
			var connect *communicator.ConnectError
			switch {
			case !tc.ok && !errors.As(err, &auth) && !errors.As(err, &connect):
				t.Fatalf("err = %v", err)
			case !tc.ok && diag.Hint(err) == "":
				t.Errorf("%v comes without a remedy", err)
			case !tc.ok:
				return
			case err != nil:
				t.Fatal(err)
			}
			var out strings.Builder
			if err := c.Run(bounded(t), communicator.Cmd{Line: "hostname", Stdout: &out}); err != nil || out.String() != "WIN-TEST\r\n" {
				t.Errorf("%q, %v", out.String(), err)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			wait(t, "the shells to be removed", func() bool { return s.Shells() == 0 })
			if err := c.Run(bounded(t), communicator.Cmd{Line: "hostname"}); err == nil {
				t.Error("a closed connection ran a command")
			}
		})
	}
}

func TestDialFaults(t *testing.T) {
	t.Parallel()
	plain, tls := winrmtest.Start(t, winrmtest.Options{}), winrmtest.Start(t, winrmtest.Options{TLS: true})
	dead := errors.New("the machine is off")
	for name, tc := range map[string]struct {
		s      *winrmtest.Server
		change func(*communicator.Config)
		alive  func() error
		want   func(error) bool
	}{
		"certificate": {tls, func(c *communicator.Config) { c.WinRMInsecure = false }, nil, func(err error) bool {
			return strings.Contains(diag.Hint(err), "winrm_insecure")
		}},
		"no TLS there": {plain, func(c *communicator.Config) { c.WinRMUseSSL = true }, nil, func(err error) bool {
			return strings.Contains(diag.Hint(err), "winrm_use_ssl")
		}},
		"nobody": {plain, func(c *communicator.Config) { c.WinRMPort, c.WinRMTimeout = nobody, time.Millisecond }, nil, func(err error) bool {
			var e *communicator.ConnectError
			return errors.As(err, &e)
		}},
		"dead":     {plain, func(c *communicator.Config) { c.WinRMPort = nobody }, func() error { return dead }, func(err error) bool { return errors.Is(err, dead) }},
		"no host":  {plain, func(c *communicator.Config) { c.WinRMHost = "" }, nil, func(err error) bool { return diag.Hint(err) == "set winrm_host" }},
		"over SSH": {plain, func(c *communicator.Config) { c.Communicator = "ssh" }, nil, func(err error) bool { return err != nil }},
	} {
		t.Run(name, func(t *testing.T) {
			cfg := tc.s.Config()
			if tc.change != nil {
				tc.change(&cfg)
			}
			_, err := Dial(bounded(t), cfg, Target{Alive: tc.alive}, event.Discard)
			if err == nil || !tc.want(err) {
				t.Errorf("err = %v (%s)", err, diag.Hint(err))
			}
		})
	}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	broken := winrmtest.Start(t, winrmtest.Options{Told: func(string) int { return 503 }})
	for name, tc := range map[string]struct {
		port int
		want communicator.Reach
	}{"refused": {nobody, communicator.Refused}, "something else": {0, communicator.Silent}} {
		c, err := newConn(bounded(t), broken.Config(), Target{Port: tc.port}, event.Discard)
		if err != nil {
			t.Fatal(err)
		}
		var e *communicator.ConnectError
		if err := c.verdict(c.probe(bounded(t)), time.Minute); !errors.As(err, &e) || e.Why != tc.want || diag.Hint(err) == "" {
			t.Errorf("%s: %v (%s)", name, err, diag.Hint(err))
		}
		if err := c.verdict(nil, time.Minute); !errors.As(err, &e) || e.Why != communicator.Silent {
			t.Errorf("err = %v", err)
		}
	}
	var w *wireError
	if err := wireFault(t.Context(), &net.OpError{Op: "dial", Err: &net.DNSError{}}); !errors.As(err, &w) || w.why != communicator.Unreachable {
		t.Errorf("err = %v", err)
	}
}

// nobody is a port on which nothing listens and that nobody is given by chance.
const nobody = 1

func TestDialWaitsForTheGuest(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	s := winrmtest.Start(t, winrmtest.Options{Told: func(string) int {
		if asked.Add(1) < 3 {
			return 503 // the service is starting
		}
		return 0
	}})
	c := dial(t, s, func(cfg *communicator.Config) { cfg.PauseBeforeConnecting = time.Millisecond })
	if err := c.Run(bounded(t), communicator.Cmd{Line: "ver"}); err != nil {
		t.Error(err)
	}
}

func TestRun(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{Sealed: true, NoBasic: true})
	c := dial(t, s, nil)
	run := func(line string, in io.Reader) (string, string, error) {
		var out, errOut strings.Builder
		err := c.Run(bounded(t), communicator.Cmd{Line: line, Stdin: in, Stdout: &out, Stderr: &errOut})
		return out.String(), errOut.String(), err
	}
	if out, _, err := run(`echo "]]> <x> & y"`, nil); err != nil || out != "\"]]> <x> & y\"\r\n" {
		t.Errorf("%q, %v", out, err)
	}
	if out, _, err := run(`set "A=b c" && echo %A% ä`, nil); err != nil || out != "b c ä\r\n" {
		t.Errorf("%q, %v", out, err)
	}
	if _, e, err := run("nosuch", nil); !strings.Contains(e, "'nosuch' is not recognized") || err == nil {
		t.Errorf("%q, %v", e, err)
	}
	for _, code := range []int{1, 3010, -1, 255} {
		_, _, err := run(powershell.Command("exit "+itoa(code)), nil)
		var exit *communicator.ExitError
		if !errors.As(err, &exit) || exit.Status != code {
			t.Errorf("exit %d: %v", code, err)
		}
	}
	// No input is the end of input, not a wait for some.
	if out, _, err := run("sort", nil); err != nil || out != "" {
		t.Errorf("%q, %v", out, err)
	}
	text := strings.Repeat("line\r\n", 60_000)
	if out, _, err := run("sort", strings.NewReader(text)); err != nil || out != text {
		t.Errorf("%d of %d bytes came back, %v", len(out), len(text), err)
	}
	failing := errors.New("the disk is on fire")
	if _, _, err := run("sort", iotest.ErrReader(failing)); !errors.Is(err, failing) {
		t.Errorf("err = %v", err)
	}
	// A reader that never ends does not hold a command that has ended.
	r, w := io.Pipe()
	defer w.Close()
	if _, _, err := run("ver", r); err != nil {
		t.Error(err)
	}
	var full fullWriter
	if err := c.Run(bounded(t), communicator.Cmd{Line: "hostname", Stdout: full}); !errors.Is(err, errFull) {
		t.Errorf("err = %v", err)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

func TestRunEndsWithItsContext(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	c := dial(t, s, nil)
	ctx, stop := context.WithCancel(bounded(t))
	before := s.Asked("Receive")
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, communicator.Cmd{Line: "waitfor x"}) }()
	wait(t, "the command to run", func() bool { return s.Asked("Receive") > before })
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if s.Asked("Signal") == 0 {
		t.Error("the command was not ended on the guest")
	}
	wait(t, "the shells to be removed", func() bool { return s.Shells() == 0 })
}

func TestQuietCommandsAreWaitedFor(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	c := dial(t, s, nil)
	r, w := io.Pipe()
	before := s.Asked("Receive")
	ended := make(chan error, 1)
	var out strings.Builder
	go func() { ended <- c.Run(bounded(t), communicator.Cmd{Line: "sort", Stdin: r, Stdout: &out}) }()
	// The guest says several times that there is nothing yet.
	wait(t, "a timeout of the guest", func() bool { return s.Asked("Receive") > before+1 })
	_, _ = io.WriteString(w, "late")
	_ = w.Close()
	if err := <-ended; err != nil || out.String() != "late" {
		t.Errorf("%q, %v", out.String(), err)
	}
}

func TestLostGuest(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	cfg := s.Config()
	c, err := Dial(bounded(t), cfg, Target{Patience: time.Millisecond}, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	lostIn := func(line string) {
		t.Helper()
		before := s.Asked("Receive")
		ended := make(chan error, 1)
		go func() { ended <- c.Run(bounded(t), communicator.Cmd{Line: line}) }()
		wait(t, "the command to run", func() bool { return s.Asked("Receive") > before })
		s.Stop()
		var gone *communicator.DisconnectError
		if err := <-ended; !errors.As(err, &gone) {
			t.Errorf("err = %v", err)
		}
	}
	lostIn("waitfor x")
	// Whoever asks now waits until the guest is back.
	ended := make(chan error, 1)
	go func() { ended <- c.Run(bounded(t), communicator.Cmd{Line: "hostname"}) }()
	s.Restart()
	if err := <-ended; err != nil {
		t.Error(err)
	}

	// A guest that comes back without the shell has lost the command too.
	patient, err := Dial(bounded(t), cfg, Target{Patience: patience}, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer patient.Close()
	before := s.Asked("Receive")
	go func() { ended <- patient.Run(bounded(t), communicator.Cmd{Line: "waitfor x"}) }()
	wait(t, "the command to run", func() bool { return s.Asked("Receive") > before })
	s.Stop()
	s.Restart()
	var gone *communicator.DisconnectError
	if err := <-ended; !errors.As(err, &gone) || !isFault(err, codeNoShell) {
		t.Errorf("err = %v", err)
	}
}

func TestCloseEndsWhatRuns(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	c := dial(t, s, nil)
	before := s.Asked("Receive")
	ended := make(chan error, 1)
	go func() { ended <- c.Run(bounded(t), communicator.Cmd{Line: "waitfor x"}) }()
	wait(t, "the command to run", func() bool { return s.Asked("Receive") > before })
	_ = c.Close()
	var gone *communicator.DisconnectError
	if err := <-ended; !errors.As(err, &gone) {
		t.Errorf("err = %v", err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}

func TestQuota(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{MaxShells: 1})
	c := dial(t, s, nil)
	wait(t, "the probe's shell to be removed", func() bool { return s.Shells() == 0 })
	before := s.Asked("Receive")
	ctx, stop := context.WithCancel(bounded(t))
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx, communicator.Cmd{Line: "waitfor x"}) }()
	wait(t, "the command to run", func() bool { return s.Asked("Receive") > before })
	err := c.Run(bounded(t), communicator.Cmd{Line: "ver"})
	if !isFault(err, codeQuota) || !strings.Contains(diag.Hint(err), "MaxShellsPerUser") {
		t.Errorf("err = %v (%s)", err, diag.Hint(err))
	}
	stop()
	<-ended
}

func TestRunScript(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	c := dial(t, s, nil)
	var out strings.Builder
	script := communicator.Script{
		Path: "c:/Windows/Temp/s.ps1", Body: []byte("Write-Output $env:A\nexit 4"), Line: `powershell -file c:/Windows/Temp/s.ps1`, Stdout: &out,
		Extra: []communicator.ScriptFile{{Path: "c:/Windows/Temp/vars", Body: []byte("x")}},
	}
	before := s.Asked("Create")
	var exit *communicator.ExitError
	if err := c.RunScript(bounded(t), script); !errors.As(err, &exit) || exit.Status != 4 {
		t.Errorf("err = %v", err)
	}
	if n := s.Asked("Create") - before; n != 1 {
		t.Errorf("%d shells were opened", n)
	}
	if left := s.Files("c:/Windows/Temp"); len(left) != 0 {
		t.Errorf("left on the guest: %q", left)
	}
	script.Keep = true
	if err := c.RunScript(bounded(t), script); !errors.As(err, &exit) {
		t.Errorf("err = %v", err)
	}
	if left := s.Files("c:/Windows/Temp"); len(left) != 2 {
		t.Errorf("left on the guest: %q", left)
	}
	script.Path = "c:/Windows"
	var put *communicator.PutError
	if err := c.RunScript(bounded(t), script); !errors.As(err, &put) {
		t.Errorf("err = %v", err)
	}
}

func TestProxy(t *testing.T) {
	t.Setenv("HTTP_PROXY", "http://proxy.example:3128")
	t.Setenv("NO_PROXY", "")
	s := winrmtest.Start(t, winrmtest.Options{})
	for _, none := range []bool{false, true} {
		cfg := s.Config()
		cfg.WinRMNoProxy = none
		tr := newTransport(cfg, Target{Host: "10.1.2.3", Port: 5985, User: "u", Password: secret.New("p")})
		r, err := tr.request(bounded(t), nil, soapType)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if tr.basic.Proxy != nil {
			if u, err := tr.basic.Proxy(r); err != nil || u == nil {
				t.Fatal(u, err)
			} else {
				got = u.String()
			}
		}
		if (got == "") != none {
			t.Errorf("winrm_no_proxy = %v: proxy %q", none, got)
		}
	}
}

// TestLinesFit checks what cmd.exe takes: 8191 characters.
func TestLinesFit(t *testing.T) {
	for name, l := range map[string]string{
		"receiver": powershell.Command(receiver),
		"sender":   powershell.Command("$p=" + powershell.Quote(strings.Repeat("x", 260)) + ";$tree=$false\n" + sender),
	} {
		if len(l) > 8191 {
			t.Errorf("%s: %d characters", name, len(l))
		}
	}
	l, err := new(packer).line(nil, noise(fileChunk))
	if err != nil || len(l) > stdinChunk {
		t.Errorf("a chunk gives %d bytes, %v", len(l), err)
	}
	if n := len(envelope("http://host:5985/wsman", "id", sendURI, "shell", nil, sendBody("c", make([]byte, stdinChunk), true))); n > maxEnvelope {
		t.Errorf("a full message has %d bytes", n)
	}
}
