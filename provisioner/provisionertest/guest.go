// Package provisionertest gives tests a guest: an OpenSSH server of their own
// on the loopback interface, on the machine that runs the tests.
package provisionertest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/secret"
)

// Patience bounds every wait of a test. It says nothing about how long
// something may take.
const Patience = 2 * time.Minute

const daemon = "/usr/sbin/sshd"

// A Server is an sshd that lets in root with one key.
type Server struct {
	Port    int
	Key     secret.String // the client's private key
	KeyFile string
	HostKey string // public, as in authorized_keys

	t    testing.TB
	dir  string
	mu   sync.Mutex
	cmd  *exec.Cmd
	gone chan struct{}
}

// Start starts a server, which ends with the test. The test is skipped in
// short mode and where it does not run as root, and fails without sshd.
func Start(t testing.TB) *Server {
	t.Helper()
	if testing.Short() {
		t.Skip("needs sshd")
	}
	if os.Getuid() != 0 {
		t.Skip("needs root: sshd logs in the user it runs as")
	}
	if _, err := os.Stat(daemon); err != nil {
		t.Fatalf("%s is missing: apt-get install openssh-server", daemon)
	}
	must(t, os.MkdirAll("/run/sshd", 0o755)) // sshd demands it
	dir, err := os.MkdirTemp("", "sshd")     // with a short path, and not writable by others
	must(t, err)
	s := &Server{t: t, dir: dir, Port: freePort(t), KeyFile: filepath.Join(dir, "key")}
	t.Cleanup(func() { s.Stop(); _ = os.RemoveAll(dir) })

	host, public, err := ssh.GenerateKey("ed25519", 0, "")
	must(t, err)
	s.HostKey = public
	client, allowed, err := ssh.GenerateKey("ed25519", 0, "")
	must(t, err)
	s.Key = client
	for name, text := range map[string]string{
		"host": host.Reveal(), "key": client.Reveal(), "allowed": allowed + "\n",
		"config": fmt.Sprintf("ListenAddress 127.0.0.1:%d\nHostKey %[2]s/host\nPidFile none\nAuthorizedKeysFile %[2]s/allowed\n"+
			"StrictModes no\nUsePAM no\nPermitRootLogin yes\nSubsystem sftp internal-sftp\n", s.Port, dir),
	} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	s.Restart()
	return s
}

// Restart starts the server again after [Server.Stop], at the same address.
func (s *Server) Restart() {
	s.t.Helper()
	// A file and not a pipe, which sessions would keep open.
	cmd := exec.Command(daemon, "-D", "-E", filepath.Join(s.dir, "log"), "-f", filepath.Join(s.dir, "config"))
	must(s.t, cmd.Start())
	gone := make(chan struct{})
	go func() { _ = cmd.Wait(); close(gone) }()
	s.mu.Lock()
	s.cmd, s.gone = cmd, gone
	s.mu.Unlock()
	Wait(s.t, "sshd to listen", func() bool {
		select {
		case <-gone:
			log, _ := os.ReadFile(filepath.Join(s.dir, "log"))
			s.t.Fatalf("sshd ended: %s", log)
		default:
		}
		c, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(s.Port)))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// Stop ends the server and its sessions at once, as the plug pulled does. What
// ran in a session goes on.
func (s *Server) Stop() {
	s.mu.Lock()
	cmd, gone := s.cmd, s.gone
	s.cmd = nil
	s.mu.Unlock()
	if cmd == nil {
		return
	}
	sessions, _ := exec.Command("pgrep", "-P", strconv.Itoa(cmd.Process.Pid)).Output()
	_ = cmd.Process.Kill()
	<-gone
	for _, f := range strings.Fields(string(sessions)) {
		if pid, err := strconv.Atoi(f); err == nil {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Kill()
			}
		}
	}
}

// Config is how the server is connected to.
func (s *Server) Config() communicator.Config {
	return communicator.Config{
		SSHHost: "127.0.0.1", SSHPort: s.Port, SSHUsername: "root", SSHPrivateKeyFile: s.KeyFile,
		SSHTimeout: Patience, SSHDisableAgentForwarding: true,
	}
}

// Connect returns the guest, with the data that a builder gives.
func (s *Server) Connect() communicator.Guest {
	s.t.Helper()
	cfg := s.Config()
	must(s.t, cfg.Prepare())
	conn, err := ssh.Dial(Context(s.t), cfg, ssh.Target{HostKeys: []string{s.HostKey}}, event.Discard)
	must(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	return communicator.Guest{Communicator: conn, Data: communicator.Data{
		BuildName: "web", BuilderType: "qemu", RunID: "run-1", ID: "vm-1",
		Host: "127.0.0.1", Port: s.Port, User: "root", ConnType: "ssh", KeyFile: s.KeyFile,
		HTTPIP: "10.0.2.2", HTTPPort: 8123, Generated: map[string]string{"Zone": "b"},
	}}
}

// Apart hides that a communicator runs scripts in one exchange.
func Apart(g communicator.Guest) communicator.Guest {
	g.Communicator = struct{ communicator.Communicator }{g.Communicator}
	return g
}

// Context ends with the test, or when [Patience] does.
func Context(t testing.TB) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), Patience)
	t.Cleanup(stop)
	return ctx
}

// Wait returns when cond holds.
func Wait(t testing.TB, what string, cond func() bool) {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), Patience)
	defer stop()
	err := poll.Until(ctx, poll.Backoff{First: 10 * time.Millisecond, Max: 200 * time.Millisecond}, func(context.Context) (bool, error) {
		return cond(), nil
	})
	if errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("waited too long for %s", what)
	}
	must(t, err)
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// freePort returns a port nobody listens on, and that no other call returns.
// It is below the ports that the kernel gives to those who ask for any, which
// might get it before the server does.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 20000 + (os.Getpid()*61+int(ports.Add(1)))%12000
		ln, err := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if err == nil {
			_ = ln.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

var ports atomic.Int32 // counts calls of freePort
