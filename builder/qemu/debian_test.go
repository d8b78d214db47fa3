package qemu

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
)

// debian returns the Debian image that the debootstrap example makes.
func debian(t *testing.T) string {
	t.Helper()
	p := os.Getenv("INGOT_TEST_BASE")
	if p == "" {
		p = "../../.ingot/base/debian-12-amd64.qcow2"
	}
	if testing.Short() {
		t.Skip("needs a Debian image and minutes")
	}
	abs, err := filepath.Abs(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(abs); err != nil {
		t.Fatalf("no base image: run `make base` first, or name one in INGOT_TEST_BASE: %v", err)
	}
	return abs
}

func output(ctx context.Context, t *testing.T, g communicator.Guest, line string) string {
	t.Helper()
	var out bytes.Buffer
	if err := g.Run(ctx, communicator.Cmd{Line: line, Stdout: &out, Stderr: &out}); err != nil {
		t.Fatalf("%s: %v\n%s", line, err, out.String())
	}
	return strings.TrimSpace(out.String())
}

func TestDebianByKeyAndPowerButton(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img")
	base := debian(t)
	b := newBench(t)
	ctx, stop := context.WithTimeout(t.Context(), 12*time.Minute)
	defer stop()
	c := Config{
		ISOURL: base, ISOChecksum: "none", DiskImage: true, SkipResizeDisk: true, Headless: true, MemorySize: 1024, CPUs: 2,
		OutputDir: filepath.Join(b.root, "out"), VMName: "web.qcow2", DiskDiscard: "unmap", DiskCache: "unsafe",
		HTTPContent: map[string]string{"/hello": "from the host"},
	}
	c.SSHUsername, c.SSHTimeout = "root", 3*time.Minute
	a := b.begin(c)
	defer func() {
		if err := a.b.Discard(context.WithoutCancel(ctx), a.r); err != nil {
			t.Error(err)
		}
	}()
	lap := time.Now()
	took := func(what string) { t.Logf("%s: %v", what, time.Since(lap).Round(time.Millisecond)); lap = time.Now() }
	a.r.AfterStep = func(_ context.Context, step string, err error) (bool, error) { took(step); return false, err }
	if err := a.b.Check(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := a.b.Base(ctx); err != nil {
		t.Fatal(err)
	}
	took("base")
	g, err := a.b.Boot(ctx, a.r)
	if err != nil {
		t.Fatalf("%v\n%s\n%s", err, diag.Hint(err), b.events.text())
	}
	if got := output(ctx, t, g, "cat /root/.ssh/authorized_keys 2>/dev/null | wc -l; echo provisioned >/root/proof; sync"); got == "" {
		t.Error("no output")
	}
	if g.Data.HTTPIP != "10.0.2.2" || g.Data.HTTPPort == 0 || g.Data.ID != "web.qcow2" || g.Data.KeyFile == "" || g.Data.User != "root" {
		t.Errorf("%+v", g.Data)
	}
	if !strings.Contains(b.events.text(), "is not checked") {
		if _, err := os.Stat(filepath.Join(b.cache)); err != nil {
			t.Error(err)
		}
		t.Log("the image took the host key")
	} else {
		t.Error("the image did not take the host key")
	}
	took("provision")
	set, err := a.b.Seal(ctx, a.r)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.events.text())
	}
	took("result")
	t.Logf("%+v", set)

	// The image boots again, knows what was done to it, and not our key.
	c2 := c
	c2.ISOURL, c2.OutputDir, c2.ShutdownCommand = filepath.Join(b.root, "out", "web.qcow2"), filepath.Join(b.root, "out2"), "systemctl poweroff"
	second := b.begin(c2)
	defer func() { _ = second.b.Discard(context.WithoutCancel(ctx), second.r) }()
	if _, err := second.b.Base(ctx); err != nil {
		t.Fatal(err)
	}
	g, err = second.b.Boot(ctx, second.r)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.events.text())
	}
	if got := output(ctx, t, g, "cat /root/proof"); got != "provisioned" {
		t.Errorf("%q", got)
	}
	if got := output(ctx, t, g, "cat /root/.ssh/authorized_keys 2>/dev/null || :"); strings.Contains(got, a.r.Token("ssh-key")) {
		t.Errorf("the first build's key is in the image: %s", got)
	}
	if _, err := second.b.Seal(ctx, second.r); err != nil {
		t.Fatalf("%v\n%s", err, b.events.text())
	}
}
