package localcloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud/machine"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/vm"
)

// How long a guest may take to shut down before its machine is switched off.
const (
	stopPatience   = 2 * time.Minute
	rebootPatience = 90 * time.Second
	pressAgain     = 10 * time.Second // a guest that boots misses the button
	cleanTime      = time.Minute
)

func (c *Cloud) instanceJobs() map[string]handler {
	return map[string]handler{
		"instance-start":     c.instanceStart,
		"instance-stop":      c.instanceStop,
		"instance-reboot":    c.instanceReboot,
		"instance-terminate": c.instanceTerminate,
		"instance-forget":    c.instanceForget,
		"instance-ports":     c.instancePorts,
		"replace-root":       c.replaceRoot,
		"spot-fulfil":        c.spotFulfil,
	}
}

// startMachine makes the disks of an instance and starts its machine, then
// calls done in the transaction that records the machine. When the instance is
// in another state by then, the machine is ended and done is not called.
func (c *Cloud) startMachine(ctx context.Context, region string, i Instance, done func(*Tx, *Instance) error) (err error) {
	var spec machine.Spec
	var volumes []Volume
	var ids []string
	err = c.View(ctx, region, func(t *Tx) (err error) {
		if _, spec, err = c.machineSpec(t, i.ID); err != nil {
			return err
		}
		for _, d := range i.Devices {
			v, err := t.FindVolume(d.Volume)
			if err != nil {
				return err
			}
			volumes, ids = append(volumes, v), append(ids, v.ID)
		}
		return nil
	})
	if err != nil {
		return err
	}
	if err := c.awaitCaptures(ctx, region, true, ids...); err != nil {
		return err
	}
	for _, v := range volumes {
		if err := c.EnsureDisk(ctx, region, v); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(spec.Dir, 0o700); err != nil {
		return fmt.Errorf("start %s: %w", i.ID, err)
	}
	if err := c.markStart(ctx, i.ID); err != nil {
		return err
	}
	if spec.Metadata, _, err = c.serveMetadata(ctx, region, i.ID); err != nil {
		return err
	}
	p, err := c.machines.Start(ctx, spec)
	if err != nil {
		c.live.drop(i.ID)
		return errors.Join(fmt.Errorf("start %s: %w", i.ID, err), removeFile(c.startMark(i.ID)))
	}
	h := c.live.put(i.ID, p)
	// The machine runs: from here on nothing is given up half done.
	dctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
	defer stop()
	wanted := true
	err = c.Update(dctx, region, func(t *Tx) error {
		now, ok, err := Get[Instance](t, i.ID)
		if wanted = err == nil && ok && now.State == i.State; !wanted {
			return err
		}
		now.Machine, now.Address, now.SSHPort, now.Started = p.Identity(), spec.Address, p.HostPort(22), true
		if err := done(t, &now); err != nil {
			return err
		}
		// What changed while it started reaches it afterwards.
		if ports, err := c.portsOf(t, &now); err != nil {
			return err
		} else if !slices.Equal(ports, spec.Ports) || now.wantedAddress() != spec.Address {
			if err := t.Later("instance-ports", i.ID, time.Time{}, nil); err != nil {
				return err
			}
		}
		return Put(t, now)
	})
	if err != nil || !wanted {
		err = errors.Join(err, p.Kill(dctx))
		c.live.drop(i.ID)
	}
	if rerr := removeFile(c.startMark(i.ID)); rerr != nil {
		err = errors.Join(err, rerr)
	}
	if err == nil && wanted {
		c.follow(ctx, region, i.ID, h)
	}
	return err
}

// startMark is a file that is there from before a machine starts until it is
// recorded.
func (c *Cloud) startMark(id string) string { return filepath.Join(c.instanceDir(id), "starting") }

// markStart writes the mark of a start. When there is one, the process that
// wrote it died: what it may have started and not recorded is ended first.
func (c *Cloud) markStart(ctx context.Context, id string) error {
	if _, err := os.Stat(c.startMark(id)); err == nil {
		if _, err := vm.End(ctx, vm.Identity{}, "ingot-"+id+"-", ""); err != nil {
			return fmt.Errorf("start %s: end the machine of a broken start: %w", id, err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("start %s: %w", id, err)
	}
	if err := os.WriteFile(c.startMark(id), nil, 0o600); err != nil {
		return fmt.Errorf("start %s: %w", id, err)
	}
	return nil
}

// lookUp returns an instance and its machine, nil when that does not run.
func (c *Cloud) lookUp(ctx context.Context, region, id string) (i Instance, ok bool, p machine.Process, err error) {
	var spec machine.Spec
	err = c.View(ctx, region, func(t *Tx) (err error) {
		if i, ok, err = Get[Instance](t, id); err != nil || !ok || len(i.Machine) == 0 {
			return err
		}
		_, spec, err = c.machineSpec(t, id)
		return err
	})
	if err == nil && ok {
		if h, runs := c.runs(i, spec); runs {
			p = h.process
		}
	}
	return i, ok, p, err
}

// shutDown asks the guest to power off and waits for the end of its machine:
// at most patience after the request was made, or until hurry says that there
// is no use in it. It reports whether the machine has ended.
func (c *Cloud) shutDown(ctx context.Context, p machine.Process, left time.Duration, hurry func() (bool, error)) (bool, error) {
	end := time.NewTimer(max(left, 0))
	defer end.Stop()
	press := time.NewTicker(pressAgain)
	defer press.Stop()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	button := func() error {
		if err := p.PowerButton(ctx); err != nil && !errors.Is(err, machine.ErrEnded) {
			return err
		}
		return nil
	}
	if err := button(); err != nil && ctx.Err() == nil {
		c.warn(err) // a machine that does not listen is switched off
		return false, nil
	}
	for {
		select {
		case <-p.Done():
			return true, nil
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-end.C:
			return false, nil
		case <-press.C:
			if err := button(); err != nil {
				c.warn(err)
			}
		case <-look.C:
			if now, err := hurry(); err != nil || now {
				return false, err
			}
		}
	}
}

// instanceStop ends the machine of a stopping instance.
func (c *Cloud) instanceStop(ctx context.Context, j Job) error {
	unlock, err := c.lockInstance(ctx, j.Target)
	if err != nil {
		return err
	}
	defer unlock()
	i, ok, p, err := c.lookUp(ctx, j.Region, j.Target)
	if err != nil || !ok || i.State != "stopping" {
		return err
	}
	if p != nil {
		ended := false
		if !i.ForceStop {
			left := stopPatience - c.now().Sub(i.Transitioned)
			ended, err = c.shutDown(ctx, p, left, func() (bool, error) {
				now, ok, err := c.getInstance(ctx, j.Region, j.Target)
				return !ok || now.ForceStop || now.State != "stopping", err
			})
			if err != nil {
				return err
			}
		}
		if err := p.Kill(ctx); err != nil { // it also clears up after an ended one
			return fmt.Errorf("stop %s (ended: %t): %w", i.ID, ended, err)
		}
	}
	set, err := c.Settings(ctx)
	if err != nil {
		return err
	}
	if rest := set.StopTime - c.now().Sub(i.Transitioned); rest > 0 {
		if err := poll.Sleep(ctx, rest); err != nil {
			return err
		}
	}
	c.live.drop(i.ID)
	return c.Update(context.WithoutCancel(ctx), j.Region, func(t *Tx) error {
		i, ok, err := Get[Instance](t, j.Target)
		if err != nil || !ok || i.State != "stopping" {
			return errors.Join(err, t.Done(j))
		}
		i.move(t, "stopped", i.StateCode, i.StateReason)
		return errors.Join(t.unplug(&i), t.spotStopped(&i), Put(t, i), t.Done(j))
	})
}

// unplug takes from an instance what it has only while it runs.
func (t *Tx) unplug(i *Instance) error {
	i.Machine, i.Address, i.SSHPort, i.Rebooting, i.ForceStop = nil, "", 0, false, false
	_, elastic, err := t.AddressOf(i.ID)
	if !elastic {
		i.PublicIP = ""
	}
	return err
}

// instanceTerminate ends the machine of an instance that shuts down for good.
func (c *Cloud) instanceTerminate(ctx context.Context, j Job) error {
	unlock, err := c.lockInstance(ctx, j.Target)
	if err != nil {
		return err
	}
	defer unlock()
	i, ok, p, err := c.lookUp(ctx, j.Region, j.Target)
	if err != nil || !ok || i.State != "shutting-down" {
		return err
	}
	if p != nil {
		if err := p.Kill(ctx); err != nil {
			return fmt.Errorf("terminate %s: %w", i.ID, err)
		}
	}
	c.live.drop(i.ID)
	if err := c.clearInstance(i.ID); err != nil {
		return err
	}
	return c.Update(context.WithoutCancel(ctx), j.Region, func(t *Tx) error {
		i, ok, err := Get[Instance](t, j.Target)
		if err != nil || !ok || i.State != "shutting-down" {
			return errors.Join(err, t.Done(j))
		}
		return errors.Join(t.terminated(&i), t.Done(j))
	})
}

// terminated ends an instance whose machine is gone: with it go the volumes
// that it was to take along, its addresses and its associations.
func (t *Tx) terminated(i *Instance) error {
	for _, d := range i.Devices {
		v, ok, err := Get[Volume](t, d.Volume)
		if err != nil {
			return err
		}
		switch {
		case !ok:
		case d.DeleteOnTermination || v.State == "creating":
			err = t.DropVolume(v)
		default:
			err = t.detached(v)
		}
		if err != nil {
			return err
		}
	}
	i.move(t, "terminated", i.StateCode, i.StateReason)
	i.Devices = nil
	if err := errors.Join(t.FreeAddressesOf(i.ID), t.unplug(i), t.dropAssociations(i.ID), t.spotEnded(i), Delete[roleSession](t.In(""), i.ID)); err != nil {
		return err
	}
	i.PublicIP, i.Password = "", nil
	return errors.Join(Put(t, *i), t.Later("instance-forget", i.ID, t.Now.Add(terminatedLife), nil))
}

// instanceReboot boots a running instance again: the guest shuts down and its
// machine is started anew; one that does not shut down is reset.
func (c *Cloud) instanceReboot(ctx context.Context, j Job) error {
	unlock, err := c.lockInstance(ctx, j.Target)
	if err != nil {
		return err
	}
	defer unlock()
	i, ok, p, err := c.lookUp(ctx, j.Region, j.Target)
	if err != nil || !ok || i.State == "pending" {
		return err // a pending one boots anyway
	}
	if i.State != "running" {
		return c.rebooted(ctx, j)
	}
	if !i.Rebooting { // asked for while it was pending
		err := c.Update(ctx, j.Region, func(t *Tx) error {
			now, ok, err := Get[Instance](t, i.ID)
			if err == nil && ok && now.State == "running" {
				now.Rebooting = true
				err = Put(t, now)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if p != nil {
		ended, err := c.shutDown(ctx, p, rebootPatience-c.now().Sub(j.Created), func() (bool, error) {
			now, ok, err := c.getInstance(ctx, j.Region, j.Target)
			return !ok || now.State != "running", err
		})
		if err != nil {
			return err
		}
		if now, ok, err := c.getInstance(ctx, j.Region, j.Target); err != nil || !ok || now.State != "running" {
			return errors.Join(err, c.rebooted(ctx, j))
		}
		if !ended {
			if err := p.Reset(ctx); err == nil {
				return c.rebooted(ctx, j)
			} else if !errors.Is(err, machine.ErrEnded) {
				return fmt.Errorf("reboot %s: %w", i.ID, err)
			}
		}
		if err := p.Kill(ctx); err != nil { // clears up
			return fmt.Errorf("reboot %s: %w", i.ID, err)
		}
	}
	err = c.startMachine(ctx, j.Region, i, func(t *Tx, i *Instance) error {
		i.Rebooting = false
		return t.Done(j)
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	c.warn(err)
	return errors.Join(c.rebooted(ctx, j), c.machineEnded(ctx, j.Region, i, false))
}

// rebooted ends a reboot.
func (c *Cloud) rebooted(ctx context.Context, j Job) error {
	return c.Update(ctx, j.Region, func(t *Tx) error {
		i, ok, err := Get[Instance](t, j.Target)
		if err == nil && ok && i.Rebooting {
			i.Rebooting = false
			err = Put(t, i)
		}
		return errors.Join(err, t.Done(j))
	})
}

// instancePorts makes a running machine follow its security groups and its
// public address.
func (c *Cloud) instancePorts(ctx context.Context, j Job) error {
	unlock, err := c.lockInstance(ctx, j.Target)
	if err != nil {
		return err
	}
	defer unlock()
	i, ok, p, err := c.lookUp(ctx, j.Region, j.Target)
	if err != nil || !ok || p == nil || i.State != "running" {
		return err
	}
	var spec machine.Spec
	moved := i.wantedAddress() != i.Address
	if moved {
		// The ports of the old address go before the new one is written:
		// only this says where they are.
		if err := p.SetPorts(ctx, nil); err != nil && !errors.Is(err, machine.ErrEnded) {
			return err
		}
		err := c.Update(ctx, j.Region, func(t *Tx) error {
			now, ok, err := Get[Instance](t, j.Target)
			if err != nil || !ok {
				return err
			}
			now.Address = now.wantedAddress()
			return Put(t, now)
		})
		if err != nil {
			return err
		}
	}
	err = c.View(ctx, j.Region, func(t *Tx) (err error) {
		i, spec, err = c.machineSpec(t, j.Target)
		return err
	})
	if err != nil {
		return err
	}
	if moved {
		if p, ok = c.machines.Find(spec, i.Machine); !ok {
			return nil // it has ended: whoever watches it says so
		}
		c.live.put(i.ID, p)
	}
	if err := p.SetPorts(ctx, spec.Ports); err != nil && !errors.Is(err, machine.ErrEnded) {
		return err
	}
	return nil
}
