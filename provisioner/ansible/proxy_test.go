package ansible

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/winrm"
	"github.com/ingot-build/ingot/internal/communicator/winrm/winrmtest"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

// serve starts a proxy for g and returns its address and the client's key.
func serve(t *testing.T, g communicator.Guest, kind string) (string, keys, ssh.Signer) {
	t.Helper()
	k, private, err := keys{}.complete(kind)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.ParsePrivateKey([]byte(private.Reveal()))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := mustOpen(t, Config{}).listen(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan struct{})
	p := &proxy{guest: g, out: event.Discard, sftp: "hostname", user: "me", keys: k}
	go func() { p.serve(ctx, ln); close(served) }()
	t.Cleanup(func() { stop(); <-served })
	return ln.Addr().String(), k, signer
}

func client(t *testing.T, addr, user string, k keys, signer ssh.Signer) (*ssh.Client, error) {
	t.Helper()
	c, err := ssh.Dial("tcp", addr, &ssh.ClientConfig{
		User: user, Auth: []ssh.AuthMethod{ssh.PublicKeys(signer)}, HostKeyCallback: ssh.FixedHostKey(k.host.PublicKey()),
	})
	if err == nil {
		t.Cleanup(func() { _ = c.Close() })
	}
	return c, err
}

func TestProxy(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	conn, err := winrm.Dial(provisionertest.Context(t), s.Config(), winrm.Target{}, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	addr, k, signer := serve(t, communicator.Guest{Communicator: conn, Data: s.Data()}, "ECDSA")

	stranger, _, err := generate("ECDSA")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client(t, addr, "me", k, stranger); err == nil {
		t.Error("another key was let in")
	}
	if _, err := client(t, addr, "you", k, signer); err == nil {
		t.Error("another user was let in")
	}
	c, err := client(t, addr, "me", k, signer)
	if err != nil {
		t.Fatal(err)
	}
	session := func() *ssh.Session {
		t.Helper()
		ses, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		return ses
	}
	ses := session()
	if err := ses.RequestPty("xterm", 40, 80, nil); err != nil {
		t.Error(err)
	}
	if err := ses.Setenv("A", "b"); err != nil {
		t.Error(err)
	}
	if out, err := ses.Output("hostname"); err != nil || string(out) != "WIN-TEST\r\n" {
		t.Errorf("%q, %v", out, err)
	}
	ses = session()
	var errOut bytes.Buffer
	ses.Stderr = &errOut
	var exit *ssh.ExitError
	if err := ses.Run("nosuch & exit 9"); !errors.As(err, &exit) || exit.ExitStatus() != 9 || !strings.Contains(errOut.String(), "'nosuch'") {
		t.Errorf("%v, %q", err, errOut.String())
	}
	ses = session()
	text := strings.Repeat("line\n", 100_000)
	ses.Stdin = strings.NewReader(text)
	if out, err := ses.Output("sort"); err != nil || string(out) != text {
		t.Errorf("%d bytes, %v", len(out), err)
	}
	if err := session().Shell(); err == nil {
		t.Error("a shell was given")
	}
	if err := session().RequestSubsystem("netconf"); err == nil {
		t.Error("another subsystem was given")
	}
	ses = session()
	out, err := ses.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := ses.RequestSubsystem("sftp"); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(out); err != nil || string(b) != "WIN-TEST\r\n" {
		t.Errorf("sftp: %q, %v", b, err)
	}
	// A client that hangs up ends what runs for it.
	before := s.Asked("Receive")
	ses = session()
	if err := ses.Start("waitfor x"); err != nil {
		t.Fatal(err)
	}
	provisionertest.Wait(t, "the command to run", func() bool { return s.Asked("Receive") > before })
	_ = c.Close()
	provisionertest.Wait(t, "the command to be ended", func() bool { return s.Asked("Signal") > 0 })
}

func TestLostGuestGivesNoStatus(t *testing.T) {
	t.Parallel()
	addr, k, signer := serve(t, communicator.Guest{Communicator: communicator.None{}}, "RSA")
	c, err := client(t, addr, "me", k, signer)
	if err != nil {
		t.Fatal(err)
	}
	ses, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	var missing *ssh.ExitMissingError
	if err := ses.Run("x"); !errors.As(err, &missing) {
		t.Errorf("err = %v", err)
	}
}

func TestPorts(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := ln.Addr().(*net.TCPAddr).Port
	if taken > 65525 {
		t.Skip("no port is left above this one")
	}
	other, err := mustOpen(t, Config{LocalPort: taken}).listen(t.Context())
	if err != nil {
		t.Skipf("all ten ports are taken: %v", err)
	}
	defer other.Close()
	if p := other.Addr().(*net.TCPAddr).Port; p <= taken || p > taken+9 {
		t.Errorf("port %d, wanted one after %d", p, taken)
	}
}

func TestSCP(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	conn, err := winrm.Dial(provisionertest.Context(t), s.Config(), winrm.Target{}, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	addr, k, signer := serve(t, communicator.Guest{Communicator: conn, Data: s.Data()}, "ECDSA")
	c, err := client(t, addr, "me", k, signer)
	if err != nil {
		t.Fatal(err)
	}
	talk := func(line, in string) (string, error) {
		t.Helper()
		ses, err := c.NewSession()
		if err != nil {
			t.Fatal(err)
		}
		ses.Stdin = strings.NewReader(in)
		out, err := ses.Output(line)
		return string(out), err
	}
	if out, err := talk("scp -t 'c:/dir/a b'", "T1 0 1 0\nC0644 5 x\nhello\x00"); err != nil || out != "\x00\x00\x00\x00" {
		t.Errorf("%q, %v", out, err)
	}
	if got, _ := s.ReadFile("c:/dir/a b"); got != "hello" {
		t.Errorf("got %q", got)
	}
	if out, err := talk("scp -r -d -t c:/tree", "D0755 0 d\nC0644 1 x\na\x00E\nC0600 0 y\n\x00"); err != nil || strings.Trim(out, "\x00") != "" {
		t.Errorf("%q, %v", out, err)
	}
	if got, _ := s.ReadFile("c:/tree/d/x"); got != "a" {
		t.Errorf("got %q", got)
	}
	if got, ok := s.ReadFile("c:/tree/y"); got != "" || !ok {
		t.Errorf("got %q, %v", got, ok)
	}
	if out, err := talk("/usr/bin/scp -f 'c:/dir/a b'", "\x00\x00\x00"); err != nil || out != "C0644 5 a b\nhello\x00" {
		t.Errorf("%q, %v", out, err)
	}
	var exit *ssh.ExitError
	for line, in := range map[string]string{
		"scp -f c:/none": "\x00\x00\x00", "scp -t c:/x": "C0644 5 ../x\nhello\x00", "scp -t c:/y": "C0644 9 x\nhello", "scp -t c:/z": "E\n",
		"scp -t c:/v": "\x02gave up\n", "scp -t c:/w": "hello\n",
	} {
		out, err := talk(line, in)
		if !errors.As(err, &exit) || !strings.Contains(out, "\x02scp: ") {
			t.Errorf("%s: %q, %v", line, out, err)
		}
	}
}

func TestParseSCP(t *testing.T) {
	for line, want := range map[string]*scp{
		"scp -t /tmp/x":                   {toGuest: true, path: "/tmp/x"},
		"scp -v -p -t -- '/tmp/it'\\''s'": {toGuest: true, path: "/tmp/it's"},
		`scp -d -t "/tmp/a b"`:            {toGuest: true, folder: true, path: "/tmp/a b"},
		"scp -f /tmp/x":                   {path: "/tmp/x"},
		"/usr/bin/scp -tr /tmp/":          {toGuest: true, folder: true, path: "/tmp/"},
		"scp -t":                          nil,
		"scp -t $HOME/x":                  nil,
		"scp -t /a /b":                    nil,
		"scp -S x -t /a":                  nil,
		"scp -t /a; rm -rf /":             nil,
		"scpx -t /a":                      nil,
		"/bin/sh -c 'scp -t /tmp/x'":      nil,
		"scp /a":                          nil,
		"scp -t 'open":                    nil,
		"echo scp -t /a":                  nil,
		"scp -t \"`id`\"":                 nil,
		"scp -t /tmp/*":                   nil,
		"":                                nil,
	} {
		got, ok := parseSCP(line)
		if ok != (want != nil) || ok && got != *want {
			t.Errorf("%q: %+v, %v", line, got, ok)
		}
	}
}

func FuzzSplit(f *testing.F) {
	for _, s := range []string{"scp -t '/a b'", `"a\"b" c\ d`, "'", `"$x"`, "a  b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		w, err := split(s)
		if err == nil && len(w) > len(s) {
			t.Errorf("%q became %q", s, w)
		}
		_, _ = parseSCP(s)
	})
}

func FuzzEntry(f *testing.F) {
	f.Add("C0644 5 x")
	f.Add("D0755 0 ..")
	f.Fuzz(func(t *testing.T, s string) {
		if s == "" {
			return
		}
		mode, size, name, err := parseEntry(s)
		if err == nil && (size < 0 || mode > 0o777 || strings.Contains(name, "/") || name == "..") {
			t.Errorf("%q: %v %d %q", s, mode, size, name)
		}
	})
}

// TestPlaybook runs the real thing against a real SSH server.
func TestPlaybook(t *testing.T) {
	s := provisionertest.Start(t)
	if err := mustOpen(t, Config{}).checkVersion(t.Context(), &provisionertest.Events{}); err != nil {
		t.Skipf("needs Ansible (apt-get install ansible-core): %v", err)
	}
	yes, no := true, false
	for name, c := range map[string]Config{
		"proxy, scp": {AnsibleProxyKeyType: "RSA", AnsibleEnvVars: []string{"ANSIBLE_SCP_EXTRA_ARGS=-O"}}, "proxy, sftp": {UseSFTP: true, UseProxy: &yes},
		"direct": {UseProxy: &no},
	} {
		t.Run(name, func(t *testing.T) {
			dir, there := t.TempDir(), t.TempDir()
			write(t, dir, "files/motd", strings.Repeat("hello\n", 10_000))
			write(t, dir, "roles/r/templates/t.j2", "{{ packer_build_name }} {{ packer_builder_type }} {{ extra }}")
			write(t, dir, "roles/r/tasks/main.yml", "- template: {src: t.j2, dest: '"+there+"/t', mode: '0640'}\n")
			c.PlaybookFile = write(t, dir, "play.yml", "- hosts: grp\n  gather_facts: false\n  roles: [r]\n  tasks:\n"+
				"  - copy: {src: motd, dest: '"+there+"/motd'}\n"+
				"  - shell: echo $((6*7)) > "+there+"/answer\n"+
				"  - fetch: {src: '"+there+"/answer', dest: '"+dir+"/fetched', flat: true}\n"+
				"  - debug: {msg: 'the answer is {{ lookup(\"file\", \""+dir+"/fetched\") }}'}\n")
			c.Groups, c.ExtraArguments = []string{"grp"}, []string{"-e", "extra=more"}
			var out provisionertest.Events
			if err := mustOpen(t, c).Apply(t.Context(), s.Connect(), &out); err != nil {
				t.Fatal(err, strings.Join(append(out.Lines(false), out.Lines(true)...), "\n"))
			}
			if b, err := os.ReadFile(filepath.Join(there, "t")); err != nil || string(b) != "web qemu more" {
				t.Errorf("%q, %v", b, err)
			}
			if b, err := os.ReadFile(filepath.Join(there, "motd")); err != nil || len(b) != 60_000 {
				t.Errorf("%d bytes, %v", len(b), err)
			}
			if !slices.ContainsFunc(out.Lines(false), func(l string) bool { return strings.Contains(l, "the answer is 42") }) {
				t.Errorf("said %q", out.Lines(false))
			}
		})
	}
	bad := Config{PlaybookFile: write(t, t.TempDir(), "play.yml", "- hosts: all\n  gather_facts: false\n  tasks:\n  - shell: exit 3\n")}
	if err := mustOpen(t, bad).Apply(t.Context(), s.Connect(), &provisionertest.Events{}); err == nil || !strings.Contains(err.Error(), "exit status 2") {
		t.Errorf("err = %v", err)
	}
}
