package machine

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/poll"
)

// linkMode makes the test binary the network helper.
const linkMode = "run-link-of-the-machine-tests"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == linkMode {
		if err := RunLink(os.Args[2:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func driver(t *testing.T) *QEMU {
	t.Helper()
	if testing.Short() {
		t.Skip("needs QEMU")
	}
	q := &QEMU{Link: []string{os.Args[0], linkMode}, Cache: t.TempDir()}
	if err := q.Check(t.Context(), "x86_64"); err != nil {
		t.Fatal(err)
	}
	return q
}

// patience bounds waits on a busy machine.
const patience = 10 * time.Minute

func bounded(t *testing.T) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), patience)
	t.Cleanup(stop)
	return ctx
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	err := poll.Until(bounded(t), poll.Backoff{First: 10 * time.Millisecond, Max: 500 * time.Millisecond}, func(context.Context) (bool, error) {
		return cond(), nil
	})
	if err != nil {
		t.Fatalf("waited for %s: %v", what, err)
	}
}

func qemuImg(t *testing.T, args ...string) {
	t.Helper()
	runTool(t, "qemu-img", args...)
}

func runTool(t *testing.T, name string, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput(); err != nil {
		t.Fatalf("%s %v: %v: %s", name, args, err, out)
	}
}

var addresses atomic.Int32

// ownAddress returns a loopback address that no other test has, of this
// process or of another that runs now.
func ownAddress() string {
	return fmt.Sprintf("127.%d.%d.%d", 100+addresses.Add(1)%150, os.Getpid()>>8&0xff, os.Getpid()&0xff)
}

// freePort returns a port nobody listens on now, on every address.
func freePort(t *testing.T, address string) int {
	t.Helper()
	ln, err := net.Listen("tcp4", net.JoinHostPort(address, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port
}

// blank returns a machine with an empty root disk, whose firmware finds
// nothing to boot.
func blank(t *testing.T) Spec {
	t.Helper()
	dir := t.TempDir()
	qemuImg(t, "create", "-q", "-f", "qcow2", filepath.Join(dir, "root.qcow2"), "64M")
	return Spec{
		ID: "i-0123456789abcdef0", Dir: dir, Arch: "x86_64", VCPUs: 1, MemoryMiB: 64,
		Disks:   []Disk{{Path: filepath.Join(dir, "root.qcow2"), Format: "qcow2", DeviceName: "/dev/xvda", VolumeID: "vol-0123456789abcdef0"}},
		Address: ownAddress(), PrivateIP: "172.31.0.9", Console: filepath.Join(dir, "console.log"),
	}
}

func start(t *testing.T, d Driver, s Spec) Process {
	t.Helper()
	p, err := d.Start(bounded(t), s)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(filepath.Join(s.Dir, logFile))
			console, _ := os.ReadFile(s.Console)
			t.Logf("log: %s\nconsole: %s", log, console[max(0, len(console)-4000):])
		}
		ctx, stop := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer stop()
		if err := p.Kill(ctx); err != nil {
			t.Error(err)
		}
	})
	return p
}
