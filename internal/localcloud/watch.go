package localcloud

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud/machine"
)

// watchPause is how soon machines that other processes left are noticed.
const watchPause = time.Second

// watch keeps an eye on the machines of running instances until ctx ends:
// also on those that other processes started. It notices guests that shut
// down by themselves and machines that died, and answers metadata that nobody
// answers.
func (c *Cloud) watch(ctx context.Context) {
	poke := c.live.poked()
	for {
		if err := c.lookAround(ctx); err != nil && ctx.Err() == nil {
			c.warn(fmt.Errorf("watch the instances: %w", err))
		}
		pause := time.NewTimer(watchPause)
		select {
		case <-ctx.Done():
			pause.Stop()
			return
		case <-poke:
		case <-pause.C:
		}
		pause.Stop()
	}
}

// lookAround looks at each running instance once.
func (c *Cloud) lookAround(ctx context.Context) error {
	type seen struct {
		region string
		i      Instance
		spec   machine.Spec
	}
	var all []seen
	has := map[string]bool{}
	known := c.live.ids() // those that come later are not of this look
	err := c.View(ctx, "", func(t *Tx) error {
		for _, r := range Regions() {
			in := t.In(r)
			instances, err := All[Instance](in)
			if err != nil {
				return err
			}
			for _, i := range instances {
				has[i.ID] = i.State != "stopped" && i.State != "terminated"
				if i.State != "running" || i.Rebooting {
					continue
				}
				_, spec, err := c.machineSpec(in, i.ID)
				if err != nil {
					return err
				}
				all = append(all, seen{r, i, spec})
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	c.live.trim(known, has)
	for _, s := range all {
		if h, ok := c.runs(s.i, s.spec); ok {
			c.follow(ctx, s.region, s.i.ID, h)
			continue
		}
		halted := false
		if h := c.live.get(s.i.ID); h != nil && bytes.Equal(h.identity, s.i.Machine) {
			halted = h.process.GuestHalted()
		}
		if err := c.machineEnded(ctx, s.region, s.i, halted); err != nil {
			return err
		}
	}
	return nil
}

// follow makes sure that somebody waits for the end of a machine and that its
// metadata is answered.
func (c *Cloud) follow(ctx context.Context, region, id string, h *handle) {
	c.live.mu.Lock()
	first := !h.watched
	h.watched = true
	c.live.mu.Unlock()
	if first {
		go func() {
			select {
			case <-h.process.Done():
				select {
				case c.live.poked() <- struct{}{}:
				default:
				}
			case <-ctx.Done():
				c.live.mu.Lock()
				h.watched = false
				c.live.mu.Unlock()
			}
		}()
	}
	addr, fresh, err := c.serveMetadata(ctx, region, id)
	if err == nil && addr != "" && (first || fresh) {
		err = h.process.SetMetadata(ctx, addr)
	}
	if err != nil && !errors.Is(err, machine.ErrEnded) && ctx.Err() == nil {
		c.warn(fmt.Errorf("metadata of %s: %w", id, err))
	}
}

// machineEnded moves an instance on whose machine has ended by itself. halted
// says that the guest shut down. It does nothing when the instance has moved
// on otherwise.
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/ec2-instance-lifecycle.html
func (c *Cloud) machineEnded(ctx context.Context, region string, was Instance, halted bool) error {
	return c.Update(ctx, region, func(t *Tx) error {
		i, ok, err := Get[Instance](t, was.ID)
		if err != nil || !ok || i.State != "running" || i.Rebooting || !bytes.Equal(i.Machine, was.Machine) {
			return err
		}
		switch {
		case halted && i.ShutdownBehavior == "terminate":
			err = t.terminate(&i, reasonGuest, "Instance initiated shutdown")
		case halted:
			i.move(t, "stopping", reasonGuest, "Instance initiated shutdown")
			err = t.Later("instance-stop", i.ID, time.Time{}, nil)
		default:
			i.move(t, "stopping", reasonInternal, "The machine of the instance ended unexpectedly")
			err = t.Later("instance-stop", i.ID, time.Time{}, nil)
		}
		if err != nil {
			return err
		}
		return Put(t, i)
	})
}
