package qemu

import (
	"context"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/internal/vm/bootcommand"
	"github.com/ingot-build/ingot/internal/vm/rfb"
)

func TestInstallationMedium(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img", "xorriso")
	b, ctx := newBench(t), bounded(t)
	c := b.tiny()
	tree := t.TempDir()
	disk, err := os.ReadFile(c.ISOURL)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tree, "boot.bin"), disk[:2048], 0o644); err != nil {
		t.Fatal(err)
	}
	iso := filepath.Join(t.TempDir(), "install.iso")
	out, err := exec.Command("xorriso", "-as", "mkisofs", "-b", "boot.bin", "-no-emul-boot", "-boot-load-size", "4", "-o", iso, tree).CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	raw, err := os.ReadFile(iso)
	if err != nil {
		t.Fatal(err)
	}
	c.DiskImage, c.ISOURL, c.ISOChecksum = false, iso, fmt.Sprintf("sha256:%x", sha256.Sum256(raw))
	c.BootSteps = [][]string{{"step 1,", "the first"}, {"step 2<enter>", "the second"}}
	c.CDContent, c.FloppyContent = map[string]string{"meta-data": "x"}, map[string]string{"ks.cfg": "y"}
	set, err := b.begin(c).whole(ctx, t)
	if err != nil {
		t.Fatalf("%v\n%s", err, b.events.text())
	}
	if got := sector(t, set.Images[0].ID); got != "step 1,step 2\r" {
		t.Errorf("typed %q", got)
	}
	if said := b.events.text(); !strings.Contains(said, "the second") || !strings.Contains(said, "-fda") || !strings.Contains(said, "cd.iso,media=cdrom") {
		t.Error(said)
	}
}

func TestEFI(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img")
	b, ctx := newBench(t), bounded(t)
	c := b.tiny()
	c.EFIBoot, c.MemorySize = true, 64
	if _, _, err := c.findFirmware(); err != nil {
		t.Fatalf("this test needs OVMF: %v", err)
	}
	a := b.begin(c)
	defer func() { _ = a.b.Discard(context.WithoutCancel(ctx), a.r) }()
	base, err := a.b.Base(ctx)
	if err != nil || base.Boot != artifact.UEFI {
		t.Fatalf("%+v %v", base, err)
	}
	if _, err := a.b.Boot(ctx, a.r); err != nil {
		t.Fatalf("%v\n%s", err, b.events.text())
	}
	vars, err := filepath.Glob(filepath.Join(b.root, "out.*", efiVarsName))
	if err != nil || len(vars) != 1 {
		t.Errorf("variables %v %v", vars, err)
	}
}

func TestFullDiskStopsTheBuild(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img", "mount")
	b, ctx := newBench(t), bounded(t)
	c := b.tiny()
	small := filepath.Join(b.root, "cache", "small")
	if err := os.MkdirAll(small, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", small, "tmpfs", 0, "size=80m"); err != nil {
		t.Skipf("needs the right to mount a small file system: %v", err)
	}
	defer func() {
		if err := syscall.Unmount(small, 0); err != nil {
			t.Error(err)
		}
	}()
	c.OutputDir = filepath.Join(small, "out")
	a := boot(ctx, t, b, c)
	fill, err := os.Create(filepath.Join(small, "fill"))
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		_, err = fill.Write(make([]byte, 64<<10))
	}
	_ = fill.Close()
	// Enter makes the guest write.
	client, err := rfb.Dial(ctx, vncOf(t, b), secret.String{})
	if err != nil {
		t.Fatal(err)
	}
	acts, err := bootcommand.Parse("<enter>")
	if err != nil {
		t.Fatal(err)
	}
	if err := bootcommand.Type(ctx, client, acts, 20*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	_, err = a.b.Seal(ctx, a.r)
	if err == nil || !strings.Contains(err.Error(), "no space") || diag.Hint(err) == "" {
		t.Errorf("err = %v", err)
	}
	if err := a.b.Discard(ctx, a.r); err != nil {
		t.Error(err)
	}
}

// vncOf finds the VNC server in the arguments the build told of.
func vncOf(t *testing.T, b *bench) string {
	t.Helper()
	_, rest, ok := strings.Cut(b.events.text(), "-vnc 127.0.0.1:")
	n, err := strconv.Atoi(strings.Fields(rest + " x")[0])
	if !ok || err != nil {
		t.Fatal("no VNC server was told of")
	}
	return "127.0.0.1:" + itoa(5900+n)
}
