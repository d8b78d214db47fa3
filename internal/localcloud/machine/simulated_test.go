package machine

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
	"github.com/ingot-build/ingot/internal/secret"
)

// guest is a simulated machine and who may log in.
type guest struct {
	t   *testing.T
	s   Spec
	p   Process
	key secret.String
}

// emptyImage writes an image of 1 MiB that holds nothing, over backing.
func emptyImage(t *testing.T, path, backing string) {
	t.Helper()
	l, err := qcow2.NewLayout(1<<20, backing)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := l.Finish(f); err != nil {
		t.Fatal(err)
	}
}

func simulated(t *testing.T, d Driver) *guest {
	t.Helper()
	dir := t.TempDir()
	key, pub, err := ssh.GenerateKey("ed25519", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	emptyImage(t, filepath.Join(dir, "root.qcow2"), "")
	g := &guest{t: t, key: key, s: Spec{
		ID: "i-0123456789abcdef0", Dir: dir, Arch: "arm64", VCPUs: 2, MemoryMiB: 512, Address: ownAddress(), PrivateIP: "172.31.0.9",
		Disks:   []Disk{{Path: filepath.Join(dir, "root.qcow2"), Format: "qcow2", DeviceName: "/dev/xvda", VolumeID: "vol-1"}},
		Console: filepath.Join(dir, "console.log"), Ports: []int{22, 443}, AuthorizedKeys: []string{pub},
	}}
	g.p = start(t, d, g.s)
	return g
}

// connect logs in, pinned to the host key that the console shows.
func (g *guest) connect() *ssh.Conn {
	g.t.Helper()
	console, err := os.ReadFile(g.s.Console)
	if err != nil {
		g.t.Fatal(err)
	}
	text := string(console)
	_, text, _ = strings.Cut(text[strings.LastIndex(text, "-----BEGIN SSH HOST KEY KEYS-----"):], "\n")
	line, _, _ := strings.Cut(text, "\r\n")
	cfg := communicator.Config{SSHUsername: "anybody", SSHTimeout: patience, SSHDisableAgentForwarding: true}
	if err := cfg.Prepare(); err != nil {
		g.t.Fatal(err)
	}
	c, err := ssh.Dial(bounded(g.t), cfg, ssh.Target{
		Host: g.s.Address, Port: g.p.HostPort(22), User: "anybody", PrivateKey: g.key, HostKeys: []string{line},
	}, event.Discard)
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = c.Close() })
	return c
}

func (g *guest) run(c *ssh.Conn, line string) (string, error) {
	var out bytes.Buffer
	err := c.Run(bounded(g.t), communicator.Cmd{Line: line, Stdout: &out, Stderr: &out})
	return strings.TrimSpace(out.String()), err
}

func (g *guest) want(c *ssh.Conn, line, answer string) {
	g.t.Helper()
	if got, err := g.run(c, line); err != nil || got != answer {
		g.t.Errorf("%s: %q, %v; want %q", line, got, err, answer)
	}
}

func TestSimulatedGuest(t *testing.T) {
	g := simulated(t, &Simulated{})
	c := g.connect()
	home := filepath.Join(g.s.Dir, guestDir)
	g.want(c, "pwd; echo $USER $HOME", home+"\nanybody "+home)
	g.want(c, "echo secret | sudo -S -E -u root GREETING=hello sh -c 'echo $GREETING; cat'", "hello\nsecret")
	var exit *communicator.ExitError
	if _, err := g.run(c, "exit 7"); !errors.As(err, &exit) || exit.Status != 7 {
		t.Errorf("exit 7: %v", err)
	}
	body := bytes.Repeat([]byte("0123456789abcdef"), 1<<14)
	if err := c.Put(bounded(t), "up/../file", 0o640, bytes.NewReader(body), int64(len(body))); err == nil {
		t.Error("a file went into a folder that is not there")
	}
	if err := c.Put(bounded(t), "~/file", 0o640, bytes.NewReader(body), int64(len(body))); err != nil {
		t.Fatal(err)
	}
	var back bytes.Buffer
	if err := c.Get(bounded(t), "~/file", &back); err != nil || !bytes.Equal(back.Bytes(), body) {
		t.Errorf("%d bytes came back, %v", back.Len(), err)
	}
	g.want(c, "stat -c %a file", "640")
	script := communicator.Script{
		Path: filepath.Join(home, "script.sh"), Mode: 0o755, Body: []byte("#!/bin/sh\necho ran as $0\n"), Line: filepath.Join(home, "script.sh"),
	}
	var out bytes.Buffer
	script.Stdout = &out
	if err := c.RunScript(bounded(t), script); err != nil || out.String() != "ran as "+home+"/script.sh\n" {
		t.Errorf("%q, %v", out.String(), err)
	}
	tree := t.TempDir()
	if err := os.WriteFile(filepath.Join(tree, "leaf"), []byte("green"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := c.PutTree(bounded(t), filepath.Join(home, "tree"), os.DirFS(tree), nil); err != nil {
		t.Fatal(err)
	}
	g.want(c, "cat tree/leaf", "green")
}

func TestSimulatedShutsItselfDown(t *testing.T) {
	for _, line := range []string{"sudo shutdown -h now", "poweroff", "sudo systemctl poweroff"} {
		g := simulated(t, &Simulated{})
		_, _ = g.run(g.connect(), line) // the connection may be cut before the answer
		select {
		case <-g.p.Done():
		case <-bounded(t).Done():
			t.Fatalf("%s: it still runs", line)
		}
		if !g.p.GuestHalted() {
			t.Errorf("%s: it did not shut down by itself", line)
		}
		if err := g.p.PowerButton(t.Context()); !errors.Is(err, ErrEnded) {
			t.Errorf("err = %v", err)
		}
	}
}

// A timer of the guest is the guest's: it shuts down the guest, and only while
// it is set.
func TestSimulatedTimer(t *testing.T) {
	g := simulated(t, &Simulated{})
	c := g.connect()
	const set = "sudo systemd-run --quiet --collect --unit=end --on-active="
	g.want(c, set+"9999s systemctl poweroff && cat timers/end", "systemctl poweroff")
	g.want(c, "sudo systemctl stop end.timer && ls timers", "")
	if _, err := g.run(c, "sudo systemctl stop end.timer"); err == nil {
		t.Error("a timer that is not set was stopped")
	}
	_, _ = g.run(c, set+"1s systemctl poweroff") // it may end before the answer
	select {
	case <-g.p.Done():
	case <-bounded(t).Done():
		t.Fatal("it still runs")
	}
	if !g.p.GuestHalted() {
		t.Error("it did not shut down by itself")
	}
}

func TestSimulatedRebootCutsConnections(t *testing.T) {
	d := &Simulated{}
	g := simulated(t, d)
	c := g.connect()
	g.want(c, "echo kept >file; cat file", "kept")
	ended := make(chan error, 1)
	begun := make(chan struct{})
	go func() {
		w := &onWrite{begun: begun}
		ended <- c.Run(context.WithoutCancel(t.Context()), communicator.Cmd{Line: "echo begun; sleep 1000", Stdout: w})
	}()
	<-begun
	if err := g.p.Reset(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-ended:
		if err == nil {
			t.Error("a command survived the reset")
		}
	case <-bounded(t).Done():
		t.Fatal("the command still runs")
	}
	g.want(g.connect(), "cat file", "kept")

	found, ok := d.Find(g.s, g.p.Identity())
	if !ok || found != g.p {
		t.Fatal("not found")
	}
	if _, ok := (&Simulated{}).Find(g.s, g.p.Identity()); ok {
		t.Error("found by a driver that did not start it")
	}
	if err := found.Kill(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-g.p.Done()
	if _, ok := d.Find(g.s, g.p.Identity()); ok || g.p.GuestHalted() {
		t.Error("found after it was killed, or it says that it shut down")
	}
	g.p = start(t, d, g.s) // the folder and the host key are the same
	g.want(g.connect(), "cat file", "kept")
}

// onWrite closes begun once the text "begun" was written.
type onWrite struct {
	begun chan struct{}
	once  sync.Once
	text  []byte
}

func (w *onWrite) Write(p []byte) (int, error) {
	if w.text = append(w.text, p...); bytes.Contains(w.text, []byte("begun")) {
		w.once.Do(func() { close(w.begun) })
	}
	return len(p), nil
}

func TestSimulatedPorts(t *testing.T) {
	g := simulated(t, &Simulated{})
	addr := hostAddr(g.s.Address, g.p.HostPort(22))
	if err := g.p.SetPorts(t.Context(), []int{443}); err != nil {
		t.Fatal(err)
	}
	if c, err := net.DialTimeout("tcp", addr, time.Minute); err == nil {
		_ = c.Close()
		t.Error("port 22 is open")
	}
	for range 2 {
		if err := g.p.SetPorts(t.Context(), []int{22}); err != nil {
			t.Fatal(err)
		}
	}
	g.want(g.connect(), "echo in", "in")
	var busy *PortError
	s := g.s
	s.Dir = t.TempDir()
	if _, err := (&Simulated{}).Start(t.Context(), s); !errors.As(err, &busy) {
		t.Errorf("the same address again: %v", err)
	}
	if err := g.p.SetPorts(t.Context(), []int{70000}); err == nil {
		t.Error("70000 is no port")
	}
}

func TestSimulatedLocksOut(t *testing.T) {
	g := simulated(t, &Simulated{})
	other, _, err := ssh.GenerateKey("ed25519", 0, "")
	if err != nil {
		t.Fatal(err)
	}
	cfg := communicator.Config{SSHUsername: "anybody", SSHTimeout: patience, SSHHandshakeAttempts: 1, SSHDisableAgentForwarding: true}
	if err := cfg.Prepare(); err != nil {
		t.Fatal(err)
	}
	_, err = ssh.Dial(bounded(t), cfg, ssh.Target{Host: g.s.Address, Port: g.p.HostPort(22), User: "anybody", PrivateKey: other}, event.Discard)
	var auth *communicator.AuthError
	if !errors.As(err, &auth) {
		t.Errorf("err = %v", err)
	}
}

func TestSimulatedDisks(t *testing.T) {
	g := simulated(t, &Simulated{})
	dir := t.TempDir()
	emptyImage(t, filepath.Join(dir, "below.qcow2"), "")
	emptyImage(t, filepath.Join(dir, "data.qcow2"), "./below.qcow2")
	d := Disk{Path: filepath.Join(dir, "data.qcow2"), Format: "qcow2", DeviceName: "/dev/sdf", VolumeID: "vol-2"}
	for range 2 {
		if err := g.p.AttachDisk(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	to := t.TempDir()
	files := []string{filepath.Join(to, "root"), filepath.Join(to, "data")}
	if err := g.p.SnapshotDisks(t.Context(), []string{"vol-1", "vol-2"}, files); err != nil {
		t.Fatal(err)
	}
	for file, below := range map[string]string{files[0]: "", files[1]: filepath.Join(dir, "below.qcow2")} {
		f, err := os.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		st, _ := f.Stat()
		h, err := qcow2.ReadHeader(f, st.Size())
		if err != nil || h.Size != 1<<20 || h.Backing != below {
			t.Errorf("%s: %+v, %v", file, h, err)
		}
		_ = f.Close()
	}
	for range 2 {
		if err := g.p.DetachDisk(t.Context(), "vol-2"); err != nil {
			t.Fatal(err)
		}
	}
	gone := []string{filepath.Join(to, "again"), filepath.Join(to, "more")}
	if err := g.p.SnapshotDisks(t.Context(), []string{"vol-1", "vol-2"}, gone); err == nil {
		t.Error("a volume that is not attached was copied")
	}
	for _, name := range gone {
		if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was left: %v", name, err)
		}
	}
	if shot, err := g.p.Screenshot(t.Context()); err != nil || !bytes.HasPrefix(shot, []byte{0xff, 0xd8, 0xff}) {
		t.Errorf("%d bytes, %v", len(shot), err)
	}
}
