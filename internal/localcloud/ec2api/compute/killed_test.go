package compute_test

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/machine"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/vm"
)

// workMode makes the test binary a process that works on the cloud in the
// folder that follows, until it is killed.
const workMode = "work-of-the-compute-tests"

func qemu() *machine.QEMU { return &machine.QEMU{Link: []string{os.Args[0], linkMode}} }

func work(dir string) error {
	ctx := context.Background()
	c, err := localcloud.Open(ctx, localcloud.Config{Dir: dir, Machines: qemu()})
	if err != nil {
		return err
	}
	return c.Work(ctx)
}

// A killed process leaves its machines running, and what it had begun is done
// by the next one.
func TestKilledProcess(t *testing.T) {
	if testing.Short() {
		t.Skip("needs QEMU")
	}
	ctx, stop := context.WithTimeout(t.Context(), 2*patience)
	defer stop()
	dir := t.TempDir()
	c, err := localcloud.Open(ctx, localcloud.Config{Dir: dir, Machines: qemu(), Warn: func(err error) { t.Log("cloud:", err) }})
	if err != nil {
		t.Fatal(err)
	}
	disk := filepath.Join(t.TempDir(), "disk.raw") // nothing to boot: the firmware waits
	if err := os.WriteFile(disk, bytes.Repeat([]byte("ingot"), 20<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := c.RegisterBase(ctx, localcloud.BaseImage{Path: disk, Format: "raw", Name: "blank", Arch: "x86_64"})
	if err != nil {
		t.Fatal(err)
	}
	worker := exec.Command(os.Args[0], workMode, dir)
	worker.Stderr = os.Stderr
	if err := worker.Start(); err != nil {
		t.Fatal(err)
	}
	killed := false
	kill := func() {
		if !killed {
			killed = true
			_ = worker.Process.Kill()
			_ = worker.Wait()
		}
	}
	t.Cleanup(func() {
		kill()
		if err := c.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	launch := func() string {
		t.Helper()
		out, err := c.RunInstances(ctx, region, localcloud.RunParams{Launch: localcloud.LaunchSpec{ImageID: ids[region], Type: "t3.micro"}, Min: 1, Max: 1})
		if err != nil {
			t.Fatal(err)
		}
		return out[0].ID
	}
	await := func(id, state string) (i localcloud.Instance) {
		t.Helper()
		err := poll.Until(ctx, poll.Backoff{}, func(ctx context.Context) (bool, error) {
			all, err := c.Instances(ctx, region, []string{id})
			if err != nil {
				return false, err
			}
			i = all[0]
			return i.State == state, nil
		})
		if err != nil {
			t.Fatalf("%s is %s (%s), not %s: %v", id, i.State, i.StateReason, state, err)
		}
		return i
	}
	first := await(launch(), "running")
	second := launch() // killed somewhere on its way
	kill()

	wctx, end := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Work(wctx) }()
	defer func() {
		end()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	await(second, "running")
	if now := await(first.ID, "running"); !bytes.Equal(now.Machine, first.Machine) {
		t.Error("the first machine was started again")
	}
	for _, id := range []string{first.ID, second} {
		if _, err := c.ConsoleScreenshot(ctx, region, id); err != nil {
			t.Errorf("%s does not answer: %v", id, err)
		}
		if found, err := vm.FindToken("id=ingot-" + id + "-"); err != nil || len(found) != 1 {
			t.Errorf("%d machines of %s, %v", len(found), id, err)
		}
	}
	if _, err := c.TerminateInstances(ctx, region, []string{first.ID, second}); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{first.ID, second} {
		await(id, "terminated")
		err := poll.Until(ctx, poll.Backoff{}, func(context.Context) (bool, error) {
			found, err := vm.FindToken("ingot-" + id + "-")
			return len(found) == 0, err
		})
		if err != nil {
			t.Errorf("processes of %s are left: %v", id, err)
		}
	}
}
