package ssh

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/secret"
)

func addrOf(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }

func tunnel(port int, to string) string { return fmt.Sprintf("%d:%s", port, to) }

// restart starts a server that was stopped, on another goroutine, which joined
// waits for.
func (s *sshd) restart() (joined func()) {
	started := make(chan struct{})
	go func() {
		defer close(started)
		s.start()
	}()
	return func() { <-started }
}

func listenEcho(t *testing.T) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); _ = conn.Close() }()
		}
	}()
	return ln.Addr().String()
}

func testEcho(t *testing.T, port int) {
	t.Helper()
	conn, err := net.Dial("tcp", addrOf(port)) //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck // test
	_, _ = io.WriteString(conn, "hello\n")
	if line, err := bufio.NewReader(conn).ReadString('\n'); line != "hello\n" {
		t.Errorf("through the tunnel at %d: %q %v", port, line, err)
	}
}

func TestTunnelsThatCannotBe(t *testing.T) {
	t.Parallel()
	s := newSSHD(t, "AllowTcpForwarding local")
	_, taken, _ := net.SplitHostPort(listenEcho(t))
	for name, change := range map[string]func(*communicator.Config){
		"local":  func(cfg *communicator.Config) { cfg.SSHLocalTunnels = []string{taken + ":127.0.0.1:1"} },
		"remote": func(cfg *communicator.Config) { cfg.SSHRemoteTunnels = []string{taken + ":127.0.0.1:1"} },
	} {
		if _, err := Dial(testContext(t), prepared(t, change), s.target(), event.Discard); err == nil {
			t.Errorf("%s: no error for a port that is taken", name)
		}
	}
}

func TestBastion(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	dir := shortTemp(t)
	writeFile(t, filepath.Join(dir, "key"), s.key.Reveal(), 0o600)
	bastion := func(cfg *communicator.Config, target Target) {
		cfg.SSHBastionHost, cfg.SSHBastionPort, cfg.SSHBastionUsername = target.Host, target.Port, target.User
	}
	t.Run("key of the guest", func(t *testing.T) {
		b := prepareSSHD(t)
		writeFile(t, filepath.Join(b.dir, "authorized"), s.pub+"\n", 0o600)
		b.start()
		c := dial(t, s.target(), func(cfg *communicator.Config) {
			bastion(cfg, b.target())
			cfg.SSHPrivateKeyFile = filepath.Join(dir, "key")
		})
		if out, _, err := output(t, c, "echo through"); err != nil || out != "through\n" {
			t.Errorf("got %q %v", out, err)
		}
		if out, _, err := output(t, c, "kill -9 $PPID"); err == nil {
			t.Errorf("not cut: %q", out)
		}
		if _, _, err := output(t, c, "true"); err != nil {
			t.Errorf("after a break: %v", err)
		}
		b.stop()
		joined := b.restart()
		if _, _, err := output(t, c, "true"); err != nil {
			t.Errorf("after a break of the bastion: %v", err)
		}
		joined()
	})
	t.Run("password", func(t *testing.T) {
		b := newGoServer(t, onlyPassword("pw"))
		with := func(pw string) func(cfg *communicator.Config) {
			return func(cfg *communicator.Config) {
				bastion(cfg, b.target())
				cfg.SSHBastionPassword, cfg.SSHHandshakeAttempts = secret.New(pw), 1
			}
		}
		dial(t, s.target(), with("pw"))
		if _, ok := b.dials.Load(s.addr()); !ok {
			t.Error("the bastion was not asked")
		}
		_, err := Dial(testContext(t), prepared(t, with("bad")), s.target(), event.Discard)
		var auth *communicator.AuthError
		var way *bastionError
		if !errors.As(err, &auth) || !errors.As(err, &way) {
			t.Errorf("err = %v", err)
		}
		target := s.target()
		target.Port = freePort(t)
		cfg := prepared(t, with("pw"))
		cfg.SSHTimeout = 5 * time.Second
		_, err = Dial(testContext(t), cfg, target, event.Discard)
		var connect *communicator.ConnectError
		if !errors.As(err, &connect) || connect.Why != communicator.Refused {
			t.Errorf("a guest that is not there, seen from the bastion: %v", err)
		}
	})
	t.Run("interactive", func(t *testing.T) {
		b := newGoServer(t, onlyQuestions("one", "two"))
		target := s.target()
		target.Prompt = func(_ context.Context, instruction string, questions []string, echo []bool) ([]string, error) {
			if instruction != "Please" || !slices.Equal(questions, []string{"Question 0: ", "Question 1: "}) || echo[0] {
				t.Errorf("asked %q %q %v", instruction, questions, echo)
			}
			return []string{"one", "two"}, nil
		}
		dial(t, target, func(cfg *communicator.Config) { bastion(cfg, b.target()); cfg.SSHBastionInteractive = true })
	})
}

func TestSOCKSProxy(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	socks, used := listenSOCKS(t, "user", "pass")
	with := func(pw string) func(cfg *communicator.Config) {
		return func(cfg *communicator.Config) {
			cfg.SSHProxyHost, cfg.SSHProxyPort = "127.0.0.1", socks
			cfg.SSHProxyUsername, cfg.SSHProxyPassword = "user", secret.New(pw)
			cfg.SSHTimeout = patience
		}
	}
	c := dial(t, s.target(), with("pass"))
	if _, _, err := output(t, c, "true"); err != nil {
		t.Error(err)
	}
	if _, ok := used.Load(s.addr()); !ok {
		t.Error("the proxy was not asked")
	}
	cfg := prepared(t, with("pass"))
	cfg.SSHTimeout = 5 * time.Second
	target := s.target()
	target.Port = freePort(t)
	_, err := Dial(testContext(t), cfg, target, event.Discard)
	var connect *communicator.ConnectError
	if !errors.As(err, &connect) || connect.Why != communicator.Refused {
		t.Errorf("err = %v", err)
	}
}

// listenSOCKS is a SOCKS5 proxy (RFC 1928, RFC 1929) that connects to IPv4
// addresses.
func listenSOCKS(t *testing.T, user, pass string) (port int, used *sync.Map) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = ln.Close() })
	used = &sync.Map{}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go serveSOCKS(conn, user, pass, used)
		}
	}()
	return ln.Addr().(*net.TCPAddr).Port, used
}

func serveSOCKS(conn net.Conn, user, pass string, used *sync.Map) {
	defer conn.Close() //nolint:errcheck // test
	r := bufio.NewReader(conn)
	field := func() []byte {
		n, _ := r.ReadByte()
		b := make([]byte, n)
		_, _ = io.ReadFull(r, b)
		return b
	}
	_, _ = r.ReadByte()
	if !slices.Contains(field(), 2) {
		return
	}
	_, _ = conn.Write([]byte{5, 2})
	_, _ = r.ReadByte()
	if string(field()) != user || string(field()) != pass {
		_, _ = conn.Write([]byte{1, 1})
		return
	}
	_, _ = conn.Write([]byte{1, 0})
	var req [10]byte
	if _, err := io.ReadFull(r, req[:]); err != nil || req[3] != 1 {
		return
	}
	addr := net.JoinHostPort(net.IP(req[4:8]).String(), strconv.Itoa(int(binary.BigEndian.Uint16(req[8:]))))
	used.Store(addr, true)
	far, err := net.Dial("tcp", addr) //nolint:noctx // at once
	if err != nil {
		_, _ = conn.Write([]byte{5, 5, 0, 1, 0, 0, 0, 0, 0, 0})
		return
	}
	_, _ = conn.Write([]byte{5, 0, 0, 1, 0, 0, 0, 0, 0, 0})
	go func() { _, _ = io.Copy(far, r); _ = far.Close() }()
	_, _ = io.Copy(conn, far)
}
