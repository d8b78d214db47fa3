package vm

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/vm/qmp"
)

const qemu = "qemu-system-x86_64"

func need(t *testing.T, programs ...string) {
	t.Helper()
	if testing.Short() {
		t.Skipf("needs %v", programs)
	}
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			t.Fatalf("this test needs the program %s: %v", p, err)
		}
	}
}

// start starts a QEMU whose guest never runs (-S), or whatever args say.
func start(t *testing.T, dir, token string, args ...string) *Process {
	t.Helper()
	sock := filepath.Join(dir, "qmp.sock")
	p, err := Start(t.Context(), Command{
		Binary: qemu, Log: filepath.Join(dir, "qemu.log"), QMP: sock,
		Args: append([]string{
			"-nodefaults", "-display", "none", "-m", "16", "-accel", "tcg",
			"-chardev", "socket,id=" + token + ",path=" + sock + ",server=on,wait=off", "-mon", "chardev=" + token + ",mode=control",
		}, args...),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = p.Stop(context.WithoutCancel(t.Context())) })
	return p
}

func bounded(t *testing.T) context.Context {
	ctx, stop := context.WithTimeout(t.Context(), 2*time.Minute)
	t.Cleanup(stop)
	return ctx
}

func TestTrialGuestsRunUnderTCG(t *testing.T) {
	need(t, qemu)
	for _, binary := range []string{qemu, "qemu-system-i386", "qemu-system-aarch64"} {
		if _, err := exec.LookPath(binary); err != nil && binary != qemu {
			t.Logf("not tried: %v", err)
			continue
		}
		if reason, err := trialGuest(t.Context(), binary, "tcg", 2*time.Minute); err != nil || reason != "" {
			t.Errorf("%s: reason %q, %v", binary, reason, err)
		}
	}
	if reason, err := trialGuest(t.Context(), qemu, "no-such-accelerator", 2*time.Minute); err != nil || reason == "" {
		t.Errorf("an accelerator that does not exist: reason %q, %v", reason, err)
	}
	if reason, err := trialGuest(t.Context(), "qemu-system-riscv64", "kvm", time.Minute); err != nil || reason == "" {
		t.Errorf("another architecture: reason %q, %v", reason, err)
	}
}

func TestProbeIsKeptForTheBoot(t *testing.T) {
	need(t, qemu)
	if _, err := os.Stat(kvmDevice); err != nil {
		k, err := ProbeKVM(t.Context(), qemu, t.TempDir())
		if err != nil || k.Usable || k.Reason == "" {
			t.Errorf("%+v %v", k, err)
		}
		return
	}
	cache := t.TempDir()
	first, err := ProbeKVM(t.Context(), qemu, cache)
	if err != nil {
		t.Fatal(err)
	}
	names, _ := filepath.Glob(filepath.Join(cache, "kvm-*.json"))
	if len(names) != 1 {
		t.Fatalf("kept %v", names)
	}
	// A different answer is believed, and only for this boot.
	other := KVM{Usable: !first.Usable, Reason: "kept", Boot: first.Boot}
	write := func(k KVM) {
		js, _ := json.Marshal(k)
		if err := os.WriteFile(names[0], js, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	write(other)
	if got, err := ProbeKVM(t.Context(), qemu, cache); err != nil || got != other {
		t.Errorf("%+v %v, want the kept answer", got, err)
	}
	other.Boot = "another"
	write(other)
	if got, err := ProbeKVM(t.Context(), qemu, cache); err != nil || got.Usable != first.Usable {
		t.Errorf("%+v %v, want a fresh answer", got, err)
	}
}

func TestProcessQuitIsNotACleanEnd(t *testing.T) {
	need(t, qemu)
	p := start(t, t.TempDir(), "ingot-test-quit", "-S")
	if err := p.Ready(bounded(t)); err != nil {
		t.Fatal(err)
	}
	var st struct{ Status string }
	if err := p.QMP().Do(t.Context(), "query-status", nil, &st); err != nil || st.Status != "prelaunch" {
		t.Errorf("status %q %v", st.Status, err)
	}
	var ce *qmp.CommandError
	if err := p.QMP().Do(t.Context(), "no-such-command", nil, nil); !errors.As(err, &ce) || ce.Class != "CommandNotFound" {
		t.Errorf("err = %v", err)
	}
	if killed, err := p.Stop(t.Context()); killed || err != nil {
		t.Errorf("killed %v, %v", killed, err)
	}
	var xe *ExitError
	if err := p.Clean(); !errors.As(err, &xe) || xe.Status != 0 || xe.Reason != "host-qmp-quit" {
		t.Errorf("err = %v, %+v", err, xe)
	}
}

func TestProcessThatEndsEarlyTellsWhy(t *testing.T) {
	need(t, qemu)
	p := start(t, t.TempDir(), "ingot-test-early", "-drive", "file=/does/not/exist")
	err := p.Ready(bounded(t))
	var xe *ExitError
	if !errors.As(err, &xe) || xe.Status != 1 || !strings.Contains(xe.Output, "/does/not/exist") {
		t.Errorf("err = %v", err)
	}
}

func TestEndFindsWhatACrashLeft(t *testing.T) {
	need(t, qemu)
	for name, id := range map[string]func(*Process) Identity{
		"journaled":     func(p *Process) Identity { return p.Identity() },
		"not journaled": func(*Process) Identity { return Identity{} },
	} {
		t.Run(name, func(t *testing.T) {
			token := "ingot-test-" + filepath.Base(t.TempDir()) + "-" + strings.ReplaceAll(name, " ", "-")
			dir := t.TempDir()
			p := start(t, dir, token, "-S")
			if err := p.Ready(bounded(t)); err != nil {
				t.Fatal(err)
			}
			_ = p.QMP().Close() // as when the first process was killed
			if killed, err := End(t.Context(), id(p), "id="+token, filepath.Join(dir, "qmp.sock")); killed || err != nil {
				t.Errorf("killed %v, %v", killed, err)
			}
			select {
			case <-p.Done():
			case <-bounded(t).Done():
				t.Fatal("still running")
			}
			if killed, err := End(t.Context(), id(p), "id="+token, ""); killed || err != nil {
				t.Errorf("again: killed %v, %v", killed, err)
			}
		})
	}
}

func TestEndLeavesOthersAlone(t *testing.T) {
	self := identify(os.Getpid())
	if !self.Running() {
		t.Fatalf("%+v", self)
	}
	if _, err := End(t.Context(), self, "no-such-token-anywhere", ""); err == nil {
		t.Error("a running process without the token must be reported")
	}
	reused := self
	reused.Start = "1"
	if reused.Running() {
		t.Error("another start time is another process")
	}
	if _, err := End(t.Context(), reused, "no-such-token-anywhere", ""); err != nil {
		t.Errorf("a process number that was given anew: %v", err)
	}
}

func TestImg(t *testing.T) {
	need(t, "qemu-img")
	ctx, dir := t.Context(), t.TempDir()
	var img Img
	path := func(n string) string { return filepath.Join(dir, n) }
	if err := os.WriteFile(path("raw"), []byte(strings.Repeat("data", 256<<10)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := img.Convert(ctx, path("raw"), path("a.qcow2"), Conversion{From: "raw", Format: "qcow2"}); err != nil {
		t.Fatal(err)
	}
	if err := img.Create(ctx, NewImage{Path: path("b"), Format: "qcow2", Backing: path("a.qcow2"), BackingFormat: "qcow2", Size: 8 << 20}); err != nil {
		t.Fatal(err)
	}
	i, err := img.Info(ctx, path("b"))
	if err != nil || i.Format != "qcow2" || i.VirtualSize != 8<<20 || i.Backing != path("a.qcow2") || i.BackingFormat != "qcow2" {
		t.Errorf("%+v %v", i, err)
	}
	if err := img.Check(ctx, path("b"), "qcow2"); err != nil {
		t.Error(err)
	}
	if err := img.Check(ctx, path("raw"), "raw"); err != nil {
		t.Errorf("a format without checks: %v", err)
	}
	if err := img.Resize(ctx, path("b"), "qcow2", 9<<20, nil); err != nil {
		t.Error(err)
	}
	var ie *ImgError
	if err := img.Resize(ctx, path("b"), "qcow2", 1<<20, nil); !errors.As(err, &ie) {
		t.Errorf("shrink: %v", err)
	}
	if err := os.Truncate(path("a.qcow2"), 500<<10); err != nil {
		t.Fatal(err)
	}
	var de *DamageError
	if err := img.Check(ctx, path("a.qcow2"), "qcow2"); !errors.As(err, &de) {
		t.Errorf("cut short: %v", err)
	}
	if _, err := (Img{Binary: "/no/such/qemu-img"}).Info(ctx, path("raw")); err == nil {
		t.Error("want an error")
	}
}

func TestTail(t *testing.T) {
	p := filepath.Join(t.TempDir(), "log")
	if err := os.WriteFile(p, []byte("one\r\n\n10%\r20%\rtwo\r\nthree"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := Tail(p, 2); got != "two\nthree" {
		t.Errorf("%q", got)
	}
	if got := Tail(p+"x", 2); got != "" {
		t.Errorf("%q", got)
	}
}
