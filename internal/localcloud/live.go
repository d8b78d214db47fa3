package localcloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/internal/localcloud/instancetype"
	"github.com/ingot-build/ingot/internal/localcloud/machine"
	"github.com/ingot-build/ingot/internal/poll"
)

// live holds handles on machines by instance id. The zero value is ready.
type live struct {
	mu       sync.Mutex
	machines map[string]*handle
	serving  map[string]*listener // metadata of instances
	key      []byte               // of metadata tokens
	poke     chan struct{}        // a machine ended
}

// A handle is a machine that this process knows.
type handle struct {
	process  machine.Process
	identity []byte
	watched  bool // somebody waits for its end
}

func (l *live) poked() chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.poke == nil {
		l.poke = make(chan struct{}, 1)
	}
	return l.poke
}

func (l *live) get(id string) *handle {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.machines[id]
}

func (l *live) put(id string, p machine.Process) *handle {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.machines == nil {
		l.machines = map[string]*handle{}
	}
	h := &handle{process: p, identity: p.Identity()}
	l.machines[id] = h
	return h
}

// drop forgets an instance that has no machine any more.
func (l *live) drop(id string) {
	l.mu.Lock()
	m := l.serving[id]
	delete(l.machines, id)
	delete(l.serving, id)
	l.mu.Unlock()
	if m != nil {
		m.close()
	}
}

// ids are the instances that this process knows something of.
func (l *live) ids() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Collect(maps.Keys(l.serving))
	return slices.AppendSeq(out, maps.Keys(l.machines))
}

// trim drops those of the known instances that have no machine: other
// processes ended it.
func (l *live) trim(known []string, has map[string]bool) {
	for _, id := range known {
		if h := l.get(id); !has[id] && (h == nil || h.ended()) {
			l.drop(id)
		}
	}
}

// ended reports whether the machine of a handle has ended.
func (h *handle) ended() bool {
	select {
	case <-h.process.Done():
		return true
	default:
		return false
	}
}

// runs returns the machine of an instance, found again when another process
// started it. ok is false when it does not run.
func (c *Cloud) runs(i Instance, spec machine.Spec) (*handle, bool) {
	if len(i.Machine) == 0 {
		return nil, false
	}
	if h := c.live.get(i.ID); h != nil && bytes.Equal(h.identity, i.Machine) {
		return h, !h.ended()
	}
	p, ok := c.machines.Find(spec, i.Machine)
	if !ok {
		return nil, false
	}
	return c.live.put(i.ID, p), true
}

// machineOf returns the running machine of an instance, nil when the instance
// has none.
func (c *Cloud) machineOf(ctx context.Context, region, id string) (machine.Process, error) {
	var i Instance
	var spec machine.Spec
	err := c.View(ctx, region, func(t *Tx) (err error) {
		i, spec, err = c.machineSpec(t, id)
		return err
	})
	if err != nil {
		return nil, err
	}
	if h, ok := c.runs(i, spec); ok {
		return h.process, nil
	}
	return nil, nil
}

// instanceDir is where a machine's sockets, logs and firmware state are.
func (c *Cloud) instanceDir(id string) string { return filepath.Join(c.dir, "instances", id) }

// consoleFile is where a machine's serial console is written.
func (c *Cloud) consoleFile(id string) string { return filepath.Join(c.instanceDir(id), "console.log") }

// machineSpec returns an instance and what its machine is. The metadata
// address is left out: it is of the process that serves it.
func (c *Cloud) machineSpec(t *Tx, id string) (Instance, machine.Spec, error) {
	i, ok, err := Get[Instance](t, id)
	if err == nil && !ok {
		err = errNoInstance(id)
	}
	if err != nil {
		return i, machine.Spec{}, err
	}
	kind, ok := instancetype.Get(i.Type)
	if !ok {
		return i, machine.Spec{}, fmt.Errorf("local cloud: %s has the unknown type %s", id, i.Type)
	}
	cpus, memory := kind.Scale(runtime.NumCPU(), hostMemoryMiB())
	s := machine.Spec{
		ID: i.ID, Dir: c.instanceDir(i.ID), Arch: i.Arch, BootMode: i.BootMode, TPM: i.TPM,
		InstanceType: i.Type, VCPUs: cpus, MemoryMiB: memory,
		Address: i.hostAddress(), MAC: i.Interface.MAC, PrivateIP: i.PrivateIP, Hostname: i.hostname(t.Region),
		Console: c.consoleFile(i.ID),
	}
	if s.Arch == "i386" {
		s.Arch = "x86_64"
	}
	if s.Ports, err = c.portsOf(t, &i); err != nil {
		return i, s, err
	}
	if i.PublicKey != "" {
		s.AuthorizedKeys = []string{i.PublicKey}
	}
	if sub, ok, err := Get[Subnet](t, i.Subnet); err != nil {
		return i, s, err
	} else if ok {
		s.Subnet = sub.CIDR
	}
	for _, d := range i.Devices { // the root device is the first
		disk := c.diskOf(t.Region, d)
		if d.Device == i.RootDevice {
			s.Disks = append([]machine.Disk{disk}, s.Disks...)
		} else {
			s.Disks = append(s.Disks, disk)
		}
	}
	return i, s, nil
}

// portsOf are the ports that lead to an instance from this machine: none when
// it has no public address.
func (c *Cloud) portsOf(t *Tx, i *Instance) ([]int, error) {
	if i.PublicIP == "" {
		return nil, nil
	}
	return c.OpenPorts(t, i.SecurityGroups)
}

func (c *Cloud) diskOf(region string, d InstanceDevice) machine.Disk {
	return machine.Disk{
		Path: c.volumePath(region, d.Volume), Format: "qcow2",
		DeviceName: d.Device, VolumeID: d.Volume,
	}
}

// lockInstance waits until no job of any process works on the instance's
// machine, and keeps others away until unlock.
func (c *Cloud) lockInstance(ctx context.Context, id string) (unlock func(), err error) {
	var f *os.File
	err = poll.Until(ctx, poll.Backoff{First: 2 * time.Millisecond, Max: 50 * time.Millisecond}, func(context.Context) (bool, error) {
		var ok bool
		f, ok, err = tryLock(c.lockPath(id))
		return ok, err
	})
	if err != nil {
		return nil, err
	}
	return func() { _ = f.Close() }, nil // the lock ends with the file
}

// lockPath is the file whose lock has a name.
func (c *Cloud) lockPath(name string) string { return filepath.Join(c.dir, "locks", name) }

// tryLock takes the lock of a file that is never removed while it is held.
func tryLock(path string) (*os.File, bool, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, false, fmt.Errorf("local cloud: %w", err)
	}
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false, fmt.Errorf("local cloud: %w", err)
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if err == nil {
		return f, true, nil
	}
	_ = f.Close()
	if errors.Is(err, unix.EWOULDBLOCK) || errors.Is(err, unix.EINTR) {
		return nil, false, nil
	}
	return nil, false, fmt.Errorf("local cloud: lock %s: %w", path, err)
}

// hotAttach gives a running instance a disk at once; it does nothing when the
// instance does not run. The record of the instance must name the device.
func (c *Cloud) hotAttach(ctx context.Context, region, instance, volume string) error {
	var i Instance
	var spec machine.Spec
	err := c.View(ctx, region, func(t *Tx) (err error) {
		i, spec, err = c.machineSpec(t, instance)
		return err
	})
	if err != nil {
		return err
	}
	h, ok := c.runs(i, spec)
	if !ok {
		return nil
	}
	for _, d := range i.Devices {
		if d.Volume == volume {
			return h.process.AttachDisk(ctx, c.diskOf(region, d))
		}
	}
	return fmt.Errorf("local cloud: %s has no volume %s", instance, volume)
}

// hotDetach takes a disk from a running instance, which must give it up first;
// it does nothing when the instance does not run.
func (c *Cloud) hotDetach(ctx context.Context, region, instance, volume string) error {
	p, err := c.machineOf(ctx, region, instance)
	if err != nil || p == nil {
		return err
	}
	return p.DetachDisk(ctx, volume)
}

// liveDisks writes what the volumes of a running instance hold, all at one
// point in time, into new files. running is false, and nothing was written,
// when the instance does not run: its volumes are as they are.
func (c *Cloud) liveDisks(ctx context.Context, region, instance string, volumes, files []string) (running bool, err error) {
	p, err := c.machineOf(ctx, region, instance)
	if err != nil || p == nil {
		return false, err
	}
	err = p.SnapshotDisks(ctx, volumes, files)
	if errors.Is(err, machine.ErrEnded) {
		return false, nil
	}
	return err == nil, err
}

// hostMemoryMiB is the memory of this machine; where it is not told, that of a
// small one.
func hostMemoryMiB() int {
	var s unix.Sysinfo_t
	if unix.Sysinfo(&s) != nil {
		return 4096
	}
	return int(uint64(s.Totalram) * uint64(s.Unit) >> 20)
}
