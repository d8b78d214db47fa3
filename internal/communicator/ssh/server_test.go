package ssh

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/secret"
)

const patience = 2 * time.Minute

// sshd is an OpenSSH server of its own on a loopback port.
type sshd struct {
	t       testing.TB
	dir     string
	port    int
	key     secret.String // the private key it lets in as root
	pub     string
	hostPub string
	cmd     *exec.Cmd
	ended   chan struct{}
}

func needSSHD(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs sshd")
	}
	if _, err := os.Stat("/usr/sbin/sshd"); err != nil {
		t.Fatal("this test needs OpenSSH's server: apt-get install openssh-server")
	}
	if os.Getuid() != 0 {
		t.Skip("needs to be root: sshd logs in the user it runs as")
	}
	if err := os.MkdirAll("/run/sshd", 0o755); err != nil {
		t.Fatal(err)
	}
}

// newSSHD prepares a server with extra lines of sshd_config and starts it.
func newSSHD(t testing.TB, extra ...string) *sshd {
	t.Helper()
	s := prepareSSHD(t, extra...)
	s.start()
	return s
}

func prepareSSHD(t testing.TB, extra ...string) *sshd {
	t.Helper()
	needSSHD(t)
	dir := shortTemp(t)
	s := &sshd{t: t, dir: dir, port: freePort(t)}
	host, hostPub, err := GenerateKey("ed25519", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	s.hostPub = hostPub
	writeFile(t, filepath.Join(dir, "host"), host.Reveal(), 0o600)
	if s.key, s.pub, err = GenerateKey("ed25519", 0, "test key"); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(dir, "authorized"), s.pub+"\n", 0o600)
	// A home of its own: what the start-up files of this machine's root do is
	// not our business.
	env := "SetEnv HOME=" + s.home()
	for i, line := range extra {
		if more, ok := strings.CutPrefix(line, "SetEnv "); ok {
			env, extra[i] = env+" "+more, ""
		}
	}
	if err := os.MkdirAll(filepath.Join(s.home(), ".ssh"), 0o700); err != nil {
		t.Fatal(err)
	}
	extra = append(extra, env)
	conf := fmt.Sprintf(`%[3]s
ListenAddress 127.0.0.1:%[1]d
HostKey %[2]s/host
PidFile %[2]s/pid
AuthorizedKeysFile %[2]s/authorized
StrictModes no
UsePAM no
PermitRootLogin yes
PasswordAuthentication no
KbdInteractiveAuthentication no
Subsystem sftp internal-sftp
LogLevel VERBOSE
`, s.port, dir, strings.Join(extra, "\n"))
	writeFile(t, filepath.Join(dir, "config"), conf, 0o600)
	return s
}

func (s *sshd) start() {
	s.t.Helper()
	log, err := os.OpenFile(filepath.Join(s.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		s.t.Fatal(err)
	}
	defer log.Close() //nolint:errcheck // sshd has its own
	logged := func() string { b, _ := os.ReadFile(log.Name()); return string(b) }
	s.cmd = exec.Command("/usr/sbin/sshd", "-D", "-e", "-f", filepath.Join(s.dir, "config")) //nolint:noctx // ended by stop
	s.cmd.Stderr = log
	if err := s.cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	ended, cmd := make(chan struct{}), s.cmd
	s.ended = ended
	go func() { _ = cmd.Wait(); close(ended) }()
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
		if s.t.Failed() {
			s.t.Logf("sshd:\n%s", logged())
		}
	})
	waitFor(s.t, "sshd to listen", func() bool {
		select {
		case <-ended:
			s.t.Fatalf("sshd ended: %s", logged())
		default:
		}
		conn, err := net.Dial("tcp", s.addr())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	})
}

// stop ends the listener and every session, as a reboot does.
func (s *sshd) stop() {
	s.t.Helper()
	out, _ := exec.Command("pgrep", "-P", strconv.Itoa(s.cmd.Process.Pid)).Output() //nolint:noctx // short
	_ = s.cmd.Process.Kill()
	<-s.ended
	for _, pid := range strings.Fields(string(out)) {
		_ = exec.Command("kill", "-9", pid).Run() //nolint:noctx // short
	}
}

func (s *sshd) home() string { return filepath.Join(s.dir, "home") }

func (s *sshd) addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

func (s *sshd) target() Target {
	return Target{Host: "127.0.0.1", Port: s.port, User: "root", PrivateKey: s.key, HostKeys: []string{s.hostPub}}
}

// prepared is a configuration with defaults, an SSH agent never used.
func prepared(t testing.TB, change func(*communicator.Config)) communicator.Config {
	t.Helper()
	cfg := communicator.Config{SSHUsername: "root", SSHTimeout: patience, SSHDisableAgentForwarding: true}
	if change != nil {
		change(&cfg)
	}
	if err := cfg.Prepare(); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func dial(t testing.TB, target Target, change func(*communicator.Config)) *Conn {
	t.Helper()
	c, err := Dial(testContext(t), prepared(t, change), target, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func testContext(t testing.TB) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), patience)
	t.Cleanup(stop)
	return ctx
}

// output runs a command and returns what it wrote.
func output(t testing.TB, c communicator.Communicator, line string) (string, string, error) {
	t.Helper()
	var stdout, stderr bytes.Buffer
	err := c.Run(testContext(t), communicator.Cmd{Line: line, Stdout: &stdout, Stderr: &stderr})
	return stdout.String(), stderr.String(), err
}

// freePort returns a port nobody listens on, and that no other call returns.
// It is below the ports that the kernel gives to those who ask for any, which
// might get it before it is used.
func freePort(t testing.TB) int {
	t.Helper()
	for range 1000 {
		port := 20000 + (os.Getpid()*61+int(ports.Add(1)))%12000
		ln, err := net.Listen("tcp", addrOf(port)) //nolint:noctx // at once
		if err == nil {
			_ = ln.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

var ports atomic.Int32 // counts calls of freePort

func shortTemp(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ingot-ssh")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func writeFile(t testing.TB, name, content string, mode os.FileMode) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(name, mode); err != nil {
		t.Fatal(err)
	}
}

func waitFor(t testing.TB, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	late := time.NewTimer(patience)
	defer late.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-late.C:
			t.Fatalf("waited too long for %s", what)
		}
	}
}
