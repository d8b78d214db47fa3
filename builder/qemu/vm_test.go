package qemu

import (
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/vm"
)

func bounded(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), 4*time.Minute)
	t.Cleanup(stop)
	return ctx
}

// whole builds from beginning to end and discards what is left.
func (a *attempt) whole(ctx context.Context, t *testing.T) (artifact.Set, error) {
	a.r.AfterStep = func(ctx context.Context, step string, err error) (bool, error) {
		if step == "vm" && err == nil { // keys typed earlier would be lost
			console(ctx, t, a, "guest is up")
		}
		return false, err
	}
	set, err := func() (artifact.Set, error) {
		if err := a.b.Check(ctx); err != nil {
			return artifact.Set{}, err
		}
		if _, err := a.b.Base(ctx); err != nil {
			return artifact.Set{}, err
		}
		if _, err := a.b.Boot(ctx, a.r); err != nil {
			return artifact.Set{}, err
		}
		return a.b.Seal(ctx, a.r)
	}()
	return set, errors.Join(err, a.b.Discard(context.WithoutCancel(ctx), a.r))
}

// running are the processes that carry the build's mark.
func (a *attempt) running(t *testing.T) []vm.Identity {
	t.Helper()
	found, err := vm.FindToken(mark(a.r.Token("vm")))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func console(ctx context.Context, t *testing.T, a *attempt, want string) {
	t.Helper()
	err := poll.Until(ctx, poll.Backoff{}, func(context.Context) (bool, error) {
		got, err := os.ReadFile(filepath.Join(a.dir, consoleName))
		if errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		return bytes.Contains(got, []byte(want)), err
	})
	if err != nil {
		t.Fatalf("the console does not show %q: %v", want, err)
	}
}

// sector returns the second sector of the guest's disk in an image.
func sector(t *testing.T, image string) string {
	t.Helper()
	raw := filepath.Join(t.TempDir(), "raw")
	if out, err := exec.Command("qemu-img", "convert", "-O", "raw", image, raw).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	b, err := os.ReadFile(raw)
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimRight(string(b[512:1024]), "\x00")
}

func TestTypedGuestBecomesAnImage(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img")
	for name, tc := range map[string]struct {
		change func(*Config)
		format string
	}{
		"qcow2":            {func(*Config) {}, "qcow2"},
		"raw":              {func(c *Config) { c.Format = "raw" }, "raw"},
		"compressed":       {func(c *Config) { c.DiskCompression = true }, "qcow2"},
		"overlay":          {func(c *Config) { c.UseBackingFile = true }, "qcow2"},
		"password, groups": {func(c *Config) { c.VNCUsePassword, c.BootGroupInterval = true, time.Millisecond }, "qcow2"},
		"own drives": {func(c *Config) {
			c.Format = "raw"
			c.QemuArgs = [][]string{{"-drive", "file={{ .OutputDir }}/{{ .Name }},format=raw,if=virtio"}}
		}, "raw"},
	} {
		t.Run(name, func(t *testing.T) {
			b, ctx := newBench(t), bounded(t)
			c := b.tiny()
			c.BootCommand = []string{"Hi {{ .Name }}!", "<enter>"}
			c.AdditionalDiskSize = []string{"1M"}
			tc.change(&c)
			a := b.begin(c)
			set, err := a.whole(ctx, t)
			if err != nil {
				t.Fatalf("%v\n%s", err, b.events.text())
			}
			disk := filepath.Join(c.OutputDir, "disk.qcow2")
			if got := sector(t, disk); got != "Hi disk.qcow2!\r" {
				t.Errorf("typed %q", got)
			}
			img := set.Images[0]
			if set.BuilderID != "transcend.qemu" || set.ID != "VM" || set.Text != "VM files in directory: "+c.OutputDir || set.Dir != c.OutputDir ||
				len(set.Files) != 2 || len(img.Disks) != 2 || img.ID != disk || img.Arch != artifact.X8664 || img.Disks[0].Size != 2<<20 ||
				img.Disks[0].Format != tc.format || !strings.HasPrefix(img.Digest, "sha256:") || img.Boot != artifact.BIOS {
				t.Errorf("%+v", set)
			}
			if left := b.leftovers(); len(left) != 1 || left[0] != "out" {
				t.Errorf("left %v", left)
			}
			info, err := vm.Img{}.Info(ctx, disk)
			if err != nil || (info.Backing != "") != c.UseBackingFile || info.Format != tc.format {
				t.Errorf("%+v %v", info, err)
			}
			if p := a.running(t); len(p) != 0 {
				t.Errorf("still running: %v", p)
			}
		})
	}
}

func TestExistingOutput(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img")
	b, ctx := newBench(t), bounded(t)
	c := b.tiny()
	old := filepath.Join(c.OutputDir, "old")
	if err := os.MkdirAll(c.OutputDir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(old, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := b.begin(c).b.Check(ctx); err == nil || diag.Hint(err) == "" {
		t.Errorf("err = %v", err)
	}
	// With -force a build that fails leaves the old one, one that succeeds
	// replaces it.
	b.force = true
	bad := c
	bad.QemuArgs = [][]string{{"-machine", "no-such-machine"}}
	if _, err := b.begin(bad).whole(ctx, t); err == nil || diag.Hint(err) == "" {
		t.Errorf("err = %v", err)
	}
	if _, err := os.Stat(old); err != nil {
		t.Error(err)
	}
	c.BootCommand = []string{"<enter>"}
	if _, err := b.begin(c).whole(ctx, t); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(old); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("err = %v", err)
	}
	if left := b.leftovers(); len(left) != 1 {
		t.Errorf("left %v", left)
	}
}

// boot boots the tiny guest and waits until it is up.
func boot(ctx context.Context, t *testing.T, b *bench, c Config) *attempt {
	t.Helper()
	a := b.begin(c)
	t.Cleanup(func() { _ = a.b.Discard(context.WithoutCancel(ctx), a.r) })
	if _, err := a.b.Base(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := a.b.Boot(ctx, a.r); err != nil {
		t.Fatalf("%v\n%s", err, b.events.text())
	}
	console(ctx, t, a, "guest is up")
	return a
}

func TestAKilledGuestIsNeverSealed(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img")
	for name, end := range map[string]func(context.Context, *testing.T, vm.Identity){
		"killed":     func(_ context.Context, t *testing.T, id vm.Identity) { kill(t, id.PID, "KILL") },
		"terminated": func(_ context.Context, t *testing.T, id vm.Identity) { kill(t, id.PID, "TERM") },
	} {
		t.Run(name, func(t *testing.T) {
			b, ctx := newBench(t), bounded(t)
			a := boot(ctx, t, b, b.tiny())
			procs := a.running(t)
			if len(procs) != 1 {
				t.Fatalf("running: %v", procs)
			}
			end(ctx, t, procs[0])
			var xe *vm.ExitError
			if _, err := a.b.Seal(ctx, a.r); !errors.As(err, &xe) {
				t.Errorf("err = %v", err)
			}
			if err := a.b.Discard(ctx, a.r); err != nil {
				t.Error(err)
			}
			if left := b.leftovers(); len(left) != 0 {
				t.Errorf("left %v", left)
			}
		})
	}
}

func kill(t *testing.T, pid int, sig string) {
	t.Helper()
	p, err := os.FindProcess(pid)
	if err == nil {
		err = p.Signal(map[string]os.Signal{"KILL": os.Kill, "TERM": terminate}[sig])
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestDiscardAfterACrash(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img")
	b, ctx := newBench(t), bounded(t)
	c := b.tiny()
	a := boot(ctx, t, b, c)
	if len(a.running(t)) != 1 || len(b.leftovers()) != 1 {
		t.Fatalf("running %v, made %v", a.running(t), b.leftovers())
	}
	again := b.after(a, c)
	if err := again.b.Discard(ctx, again.r); err != nil {
		t.Error(err)
	}
	if p := a.running(t); len(p) != 0 {
		t.Errorf("still running: %v", p)
	}
	if left := b.leftovers(); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	if err := again.b.Discard(ctx, again.r); err != nil {
		t.Errorf("again: %v", err)
	}
}

func TestBootAfterACrashStartsAnew(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img")
	b, ctx := newBench(t), bounded(t)
	c := b.tiny()
	a := boot(ctx, t, b, c)
	first := a.running(t)
	again := b.after(a, c)
	if _, err := again.b.Base(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := again.b.Boot(ctx, again.r); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = again.b.Discard(context.WithoutCancel(ctx), again.r) }()
	second := again.running(t)
	if len(first) != 1 || len(second) != 1 || first[0] == second[0] {
		t.Errorf("first %v, second %v", first, second)
	}
}

func TestLongRunDirectory(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img", "swtpm")
	for name, crash := range map[string]bool{"discarded": false, "discarded after a crash": true} {
		t.Run(name, func(t *testing.T) {
			b, ctx := newBench(t), bounded(t)
			b.runs = filepath.Join(b.runs, strings.Repeat("long/", 30))
			c := b.tiny()
			c.VTPM = true
			a := boot(ctx, t, b, c)
			link := shortLink(a.r)
			if _, err := os.Lstat(link); err != nil {
				t.Error(err)
			}
			last := a
			if crash {
				last = b.after(a, c)
			}
			if err := last.b.Discard(ctx, last.r); err != nil {
				t.Error(err)
			}
			if _, err := os.Lstat(link); !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("%s is left: %v", link, err)
			}
			if p, err := vm.FindToken(tpmMark(a.r)); err != nil || len(p) != 0 {
				t.Errorf("swtpm still runs: %v %v", p, err)
			}
		})
	}
}

func TestNothingOfTheGuestsSecretsIsInTheArguments(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img")
	b, ctx := newBench(t), bounded(t)
	c := b.tiny()
	c.Communicator, c.SSHUsername, c.SSHTimeout = "ssh", "root", time.Second
	a := b.begin(c)
	defer func() { _ = a.b.Discard(context.WithoutCancel(ctx), a.r) }()
	if _, err := a.b.Base(ctx); err != nil {
		t.Fatal(err)
	}
	// The tiny guest never answers.
	_, err := a.b.Boot(ctx, a.r)
	if err == nil || !strings.Contains(diag.Hint(err), "console") {
		t.Errorf("err = %v, hint %q", err, diag.Hint(err))
	}
	creds, _ := filepath.Glob(filepath.Join(a.dir, "credential-*"))
	if len(creds) != 2 {
		t.Errorf("credentials %v", creds)
	}
	procs := a.running(t)
	if len(procs) != 1 {
		t.Fatalf("running %v", procs)
	}
	line, err := os.ReadFile(filepath.Join("/proc", itoa(procs[0].PID), "cmdline"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range creds {
		st, err := os.Stat(f)
		if err != nil || st.Mode().Perm() != 0o600 {
			t.Errorf("%s: %v %v", f, st.Mode(), err)
		}
		text, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		_, value, _ := strings.Cut(string(text), "=")
		if bytes.Contains(line, []byte(value)) {
			t.Errorf("%s is in the arguments", f)
		}
	}
	recs, err := os.ReadFile(filepath.Join(b.runs, a.id, journal.FileName))
	if err != nil || bytes.Contains(recs, []byte("PRIVATE KEY")) {
		t.Errorf("the journal holds a key, or %v", err)
	}
}

func TestPortsTaken(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img")
	b, ctx := newBench(t), bounded(t)
	l, err := net.Listen("tcp", ":0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	port := l.Addr().(*net.TCPAddr).Port
	c := b.tiny()
	c.Communicator, c.SSHUsername, c.HostPortMin, c.HostPortMax = "ssh", "root", port, port
	_, err = b.begin(c).whole(ctx, t)
	if err == nil || !strings.Contains(diag.Hint(err), "host_port_min") {
		t.Errorf("err = %v, hint %q", err, diag.Hint(err))
	}
	if left := b.leftovers(); len(left) != 0 {
		t.Errorf("left %v", left)
	}
	// What is taken between the look and QEMU's start is tried around: the
	// first port of this range is QEMU's to refuse, since it is forwarded twice.
	c = b.tiny()
	free, err := freePort(ctx, "", 20000, 30000, nil)
	if err != nil {
		t.Fatal(err)
	}
	c.Communicator, c.SSHUsername, c.SSHTimeout, c.HostPortMin, c.HostPortMax = "ssh", "root", time.Second, free, free+50
	c.QemuArgs = [][]string{{"-nic", "user,hostfwd=tcp::" + itoa(free) + "-:80"}}
	a := b.begin(c)
	_, _ = a.whole(ctx, t) // the tiny guest never answers
	if !strings.Contains(b.events.text(), "trying others") || !strings.Contains(b.events.text(), "hostfwd=tcp::"+itoa(free+1)+"-:22") {
		t.Errorf("no other port was tried:\n%s", b.events.text())
	}
}

func TestBadMedia(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img")
	b, ctx := newBench(t), bounded(t)
	broken := filepath.Join(b.root, "cache", "broken.qcow2")
	if err := os.MkdirAll(filepath.Dir(broken), 0o755); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command("qemu-img", "convert", "-O", "qcow2", guestDisk(t, b.root), broken).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := os.Truncate(broken, 100<<10); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"missing":        {func(c *Config) { c.ISOURL = b.root + "/none.qcow2" }, "no file"},
		"wrong checksum": {func(c *Config) { c.ISOChecksum = strings.Repeat("0", 64) }, "checksum"},
		"damaged":        {func(c *Config) { c.ISOURL = broken }, "damaged"},
		"not qcow2": {func(c *Config) {
			c.ISOURL = filepath.Join(b.root, "cache", "named.qcow2")
			if err := os.WriteFile(c.ISOURL, []byte("<html>not found</html>"), 0o644); err != nil {
				t.Fatal(err)
			}
		}, "is none"},
		"too large":      {func(c *Config) { c.DiskSize = "512b" }, "smaller"},
		"no QEMU":        {func(c *Config) { c.QemuBinary = "qemu-system-none" }, "qemu-system-none"},
		"no output room": {func(c *Config) { c.OutputDir = "/proc/out" }, "free"},
	} {
		c := b.tiny()
		tc.change(&c)
		_, err := b.begin(c).whole(ctx, t)
		if err == nil || !strings.Contains(err.Error(), tc.want) || diag.Hint(err) == "" {
			t.Errorf("%s: err = %v, hint %q", name, err, diag.Hint(err))
		}
		if left := b.leftovers(); len(left) != 0 {
			t.Errorf("%s: left %v", name, left)
		}
	}
}

func TestCancelledBuildLeavesNothing(t *testing.T) {
	need(t, "qemu-system-x86_64", "qemu-img")
	b := newBench(t)
	ctx, cancel := context.WithCancel(bounded(t))
	c := b.tiny()
	a := boot(ctx, t, b, c)
	time.AfterFunc(100*time.Millisecond, cancel)
	if _, err := a.b.Seal(ctx, a.r); !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	if err := a.b.Discard(context.WithoutCancel(ctx), a.r); err != nil {
		t.Error(err)
	}
	if p, left := a.running(t), b.leftovers(); len(p)+len(left) != 0 {
		t.Errorf("running %v, left %v", p, left)
	}
}
