package ssh

import (
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	gossh "golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/secret"
)

func TestPassword(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]*gossh.ServerConfig{
		"password":             onlyPassword("s3cret"),
		"keyboard-interactive": onlyQuestions("s3cret", "s3cret"),
	} {
		t.Run(name, func(t *testing.T) {
			target := newGoServer(t, cfg).target()
			c := dial(t, target, func(cfg *communicator.Config) { cfg.SSHPassword = secret.New("s3cret") })
			if out, _, err := output(t, c, "echo in"); err != nil || out != "in\n" {
				t.Errorf("got %q %v", out, err)
			}
			target.Password = secret.New("wrong")
			_, err := Dial(testContext(t), prepared(t, func(cfg *communicator.Config) { cfg.SSHHandshakeAttempts = 2 }), target, event.Discard)
			var auth *communicator.AuthError
			if !errors.As(err, &auth) || auth.User != "somebody" || diag.Hint(err) == "" || strings.Contains(err.Error(), "wrong\"") {
				t.Errorf("err = %v", err)
			}
		})
	}
}

func TestRefusedLoginsAreTriedAgain(t *testing.T) {
	t.Parallel()
	s := prepareSSHD(t)
	writeFile(t, filepath.Join(s.dir, "authorized"), "", 0o600)
	s.start()
	// The guest installs the key after it has refused it once.
	out := sinkFunc(func(e event.Event) {
		if d, ok := e.(event.Detail); ok && strings.Contains(d.Text, "refused to authenticate") {
			_ = os.WriteFile(filepath.Join(s.dir, "authorized"), []byte(s.pub+"\n"), 0o600)
		}
	})
	c, err := Dial(testContext(t), prepared(t, nil), s.target(), out)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestTimeoutOfARefusedLoginIsAnAuthError(t *testing.T) {
	t.Parallel()
	s := newSSHD(t)
	target := s.target()
	target.PrivateKey, _, _ = GenerateKey("ed25519", 0, "")
	_, err := Dial(testContext(t), prepared(t, func(cfg *communicator.Config) { cfg.SSHTimeout = 1 }), target, event.Discard)
	if err == nil {
		t.Fatal("connected")
	}
	_, err = Dial(testContext(t), prepared(t, func(cfg *communicator.Config) { cfg.SSHTimeout = 3e9 }), target, event.Discard)
	var auth *communicator.AuthError
	var reach *communicator.ConnectError // when the machine is too busy for a login in the time
	if !errors.As(err, &auth) && !errors.As(err, &reach) {
		t.Errorf("err = %v", err)
	}
}

func TestAgentAndItsForwarding(t *testing.T) {
	s := newSSHD(t)
	sock := filepath.Join(s.dir, "agent")
	ln, err := net.Listen("unix", sock) //nolint:noctx // at once
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck // test
	ring := agent.NewKeyring()
	key, err := gossh.ParseRawPrivateKey([]byte(s.key.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	if err := ring.Add(agent.AddedKey{PrivateKey: key, Comment: "the agent's key"}); err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, conn); _ = conn.Close() }()
		}
	}()
	t.Setenv("SSH_AUTH_SOCK", sock)
	target := s.target()
	target.PrivateKey = secret.String{}
	for _, disable := range []bool{false, true} {
		c := dial(t, target, func(cfg *communicator.Config) { cfg.SSHAgentAuth, cfg.SSHDisableAgentForwarding = true, disable })
		out, stderr, _ := output(t, c, "ssh-add -l")
		if got := strings.Contains(out, "the agent's key"); got == disable {
			t.Errorf("forwarding disabled %t: %q %q", disable, out, stderr)
		}
	}
	t.Setenv("SSH_AUTH_SOCK", "")
	_, err = Dial(testContext(t), prepared(t, func(cfg *communicator.Config) { cfg.SSHAgentAuth = true }), target, event.Discard)
	if err == nil || diag.Hint(err) == "" {
		t.Errorf("without an agent: %v", err)
	}
}

func TestKeyFileAndCertificate(t *testing.T) {
	needSSHD(t)
	dir := shortTemp(t)
	run := func(args ...string) {
		if out, err := exec.CommandContext(t.Context(), "ssh-keygen", args...).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen %v: %v %s", args, err, out)
		}
	}
	run("-q", "-t", "ed25519", "-N", "", "-f", dir+"/ca")
	run("-q", "-t", "ecdsa", "-N", "", "-f", dir+"/user")
	run("-q", "-s", dir+"/ca", "-I", "id", "-n", "root", "-V", "-1h:+1h", dir+"/user.pub")
	s := newSSHD(t, "TrustedUserCAKeys "+dir+"/ca.pub")
	target := s.target()
	target.PrivateKey = secret.String{}
	with := func(cfg *communicator.Config) {
		cfg.SSHPrivateKeyFile, cfg.SSHCertificateFile = dir+"/user", dir+"/user-cert.pub"
	}
	if _, _, err := output(t, dial(t, target, with), "true"); err != nil {
		t.Error(err)
	}
	_, err := Dial(testContext(t), prepared(t, func(cfg *communicator.Config) {
		cfg.SSHPrivateKeyFile, cfg.SSHHandshakeAttempts = dir+"/user", 1
	}), target, event.Discard)
	var auth *communicator.AuthError
	if !errors.As(err, &auth) {
		t.Errorf("the bare key was let in: %v", err)
	}
}

func TestGenerateKey(t *testing.T) {
	t.Parallel()
	for _, k := range []struct {
		typ  string
		bits int
		want string
	}{{"rsa", 2048, "ssh-rsa"}, {"ecdsa", 0, "ecdsa-sha2-nistp521"}, {"ecdsa", 256, "ecdsa-sha2-nistp256"}, {"ed25519", 0, "ssh-ed25519"}} {
		pem, line, err := GenerateKey(k.typ, k.bits, "a comment")
		if err != nil {
			t.Errorf("%+v: %v", k, err)
			continue
		}
		signer, err := communicator.ParseKey([]byte(pem.Reveal()))
		if err != nil {
			t.Errorf("%+v: %v", k, err)
			continue
		}
		pub, comment, _, _, err := gossh.ParseAuthorizedKey([]byte(line))
		if err != nil || comment != "a comment" || pub.Type() != k.want || !slices.Equal(pub.Marshal(), signer.PublicKey().Marshal()) {
			t.Errorf("%+v: %q %v", k, line, err)
		}
	}
	if _, _, err := GenerateKey("dsa", 0, ""); err == nil || diag.Hint(err) == "" {
		t.Errorf("dsa: %v", err)
	}
}

func TestClearAuthorizedKeys(t *testing.T) {
	s := newSSHD(t)
	c := dial(t, s.target(), nil)
	name := filepath.Join(s.home(), ".ssh/authorized_keys")
	const keep = "ssh-rsa AAAA mine\n# it's packer.x\nssh-rsa AAAA a packer.x2\n"
	writeFile(t, name, keep+"ssh-rsa BBBB it's packer.x\n", 0o640)
	if err := ClearAuthorizedKeys(testContext(t), c, "it's packer.x"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(name)
	if want := "ssh-rsa AAAA mine\nssh-rsa AAAA a packer.x2\n"; err != nil || string(got) != want {
		t.Errorf("left %q, want %q, %v", got, want, err)
	}
	if info, err := os.Stat(name); err != nil || info.Mode() != 0o640 {
		t.Errorf("mode changed: %v %v", info.Mode(), err)
	}
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	if err := ClearAuthorizedKeys(testContext(t), c, "x"); err != nil {
		t.Errorf("without a file: %v", err)
	}
}

type sinkFunc func(event.Event)

func (f sinkFunc) Emit(e event.Event) { f(e) }
