package localcloud

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud/machine"
)

// deaf machines do not hear the power button.
type deaf struct {
	*machine.Simulated
	pressed atomic.Int32
}

type deafProcess struct {
	machine.Process
	driver *deaf
}

func (d *deaf) Start(ctx context.Context, s machine.Spec) (machine.Process, error) {
	p, err := d.Simulated.Start(ctx, s)
	if err != nil {
		return nil, err
	}
	return deafProcess{p, d}, nil
}

func (d *deaf) Find(s machine.Spec, id json.RawMessage) (machine.Process, bool) {
	p, ok := d.Simulated.Find(s, id)
	if !ok {
		return nil, false
	}
	return deafProcess{p, d}, true
}

func (p deafProcess) PowerButton(context.Context) error {
	p.driver.pressed.Add(1)
	return nil
}

// awaitPressed waits until somebody waits for the guest.
func (b *bench) awaitPressed(d *deaf) {
	b.t.Helper()
	if err := b.Await(b.ctx, testRegion, func(*Tx) (bool, error) { return d.pressed.Load() > 0, nil }); err != nil {
		b.t.Fatal("nobody pressed the power button: ", err)
	}
}

func TestGuestThatDoesNotStop(t *testing.T) {
	for _, c := range []struct {
		name, end string
		then      func(b *bench, id string) error
	}{
		{"forced stop", "stopped", func(b *bench, id string) error {
			_, err := b.StopInstances(b.ctx, testRegion, StopParams{IDs: []string{id}, Force: true})
			return err
		}},
		{"terminate", "terminated", func(b *bench, id string) error {
			_, err := b.TerminateInstances(b.ctx, testRegion, []string{id})
			return err
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBench(t)
			d := &deaf{Simulated: b.machine}
			b.machines = d
			i := b.running(RunParams{})
			if _, err := b.StopInstances(b.ctx, testRegion, StopParams{IDs: []string{i.ID}}); err != nil {
				t.Fatal(err)
			}
			b.awaitPressed(d)
			if err := c.then(b, i.ID); err != nil {
				t.Fatal(err)
			}
			b.await(i.ID, c.end)
		})
	}
}

// A stop during a reboot ends in a stop.
func TestStopDuringReboot(t *testing.T) {
	b := newBench(t)
	d := &deaf{Simulated: b.machine}
	b.machines = d
	i := b.running(RunParams{})
	if err := b.RebootInstances(b.ctx, testRegion, []string{i.ID}); err != nil {
		t.Fatal(err)
	}
	b.awaitPressed(d)
	if _, err := b.StopInstances(b.ctx, testRegion, StopParams{IDs: []string{i.ID}, Force: true}); err != nil {
		t.Fatal(err)
	}
	if i = b.await(i.ID, "stopped"); i.Rebooting {
		t.Error("a stopped instance reboots")
	}
}

func TestTerminateWhilePending(t *testing.T) {
	b := newBench(t)
	if err := b.SetSettings(b.ctx, Settings{StartTime: time.Hour}); err != nil {
		t.Fatal(err)
	}
	i := b.run(RunParams{})[0]
	if err := b.Drain(b.ctx); err != nil {
		t.Fatal(err)
	}
	b.await(i.ID, "pending") // for an hour
	if _, err := b.TerminateInstances(b.ctx, testRegion, []string{i.ID}); err != nil {
		t.Fatal(err)
	}
	b.await(i.ID, "terminated")
	if err := b.Drain(b.ctx); err != nil {
		t.Fatal(err)
	}
	if vols, err := b.Volumes(b.ctx, testRegion, nil); err != nil || len(vols) != 0 {
		t.Errorf("volumes left: %+v, %v", vols, err)
	}
}

// What a process started and did not record before it died is ended before the
// machine is started again.
func TestBrokenStartIsEnded(t *testing.T) {
	b := newBench(t)
	b.stop()
	i := b.run(RunParams{})[0]
	if err := os.MkdirAll(b.instanceDir(i.ID), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(b.startMark(i.ID), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	left := exec.CommandContext(b.ctx, "sh", "-c", "read forever", "ingot-"+i.ID+"-token")
	in, err := left.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	if err := left.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- left.Wait() }()
	b.work()
	b.await(i.ID, "running")
	select {
	case <-ended:
	case <-b.ctx.Done():
		t.Error("what the dead process started goes on")
	}
	err = b.Await(b.ctx, testRegion, func(*Tx) (bool, error) {
		_, err := os.Stat(b.startMark(i.ID))
		return os.IsNotExist(err), nil
	})
	if err != nil {
		t.Error("the mark of the start is still there")
	}
}

func TestTerminatedInstanceLeavesItsConsoleOnly(t *testing.T) {
	b := newBench(t)
	i := b.running(RunParams{})
	if _, err := b.TerminateInstances(b.ctx, testRegion, []string{i.ID}); err != nil {
		t.Fatal(err)
	}
	b.await(i.ID, "terminated")
	files, err := filepath.Glob(filepath.Join(b.instanceDir(i.ID), "*"))
	if err != nil || len(files) != 1 || files[0] != b.consoleFile(i.ID) {
		t.Errorf("left: %v, %v", files, err)
	}
	if text, _, err := b.ConsoleOutput(b.ctx, testRegion, i.ID, false); err != nil || len(text) == 0 {
		t.Errorf("console: %q, %v", text, err)
	}
}
