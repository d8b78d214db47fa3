package localcloud

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
)

// imageCreate captures the disks of a running instance while it is off, and
// starts it again. An image that cannot be made fails: an instance is not
// rebooted over and over for it.
func (c *Cloud) imageCreate(ctx context.Context, j Job) error {
	var img Image
	var ok bool
	err := c.View(ctx, j.Region, func(t *Tx) (err error) {
		img, ok, err = Get[Image](t, j.Target)
		return err
	})
	if err != nil || !ok {
		return err
	}
	for {
		again, err := c.imageOnce(ctx, j, img)
		if err != nil || !again {
			return err
		}
		// Another job has the instance in hand.
		err = c.Await(ctx, j.Region, func(t *Tx) (bool, error) {
			i, ok, err := Get[Instance](t, img.SourceInstance)
			return !ok || i.State == "running" || i.State == "stopped" || i.State == "terminated", err
		})
		if err != nil {
			return err
		}
	}
}

// imageOnce is imageCreate for an instance that runs or is off; again is true
// when it was neither.
func (c *Cloud) imageOnce(ctx context.Context, j Job, img Image) (again bool, err error) {
	unlock, err := c.lockInstance(ctx, img.SourceInstance)
	if err != nil {
		return false, err
	}
	defer unlock()
	i, ok, p, err := c.lookUp(ctx, j.Region, img.SourceInstance)
	if err != nil {
		return false, err
	}
	rest, err := c.uncaptured(ctx, j.Region, img)
	if err != nil {
		return false, err
	}
	switch {
	case !ok || i.State == "stopped" || i.State == "terminated":
		return false, c.captureAll(ctx, j.Region, rest)
	case i.State != "running":
		return true, nil
	case len(rest) == 0 && !i.Rebooting: // done before, by a process that died
		return false, nil
	}
	if err := c.markRebooting(ctx, j.Region, i.ID); err != nil {
		return false, err
	}
	if p != nil {
		gone := func() (bool, error) {
			now, ok, err := c.getInstance(ctx, j.Region, i.ID)
			return !ok || now.State != "running", err
		}
		if _, err := c.shutDown(ctx, p, rebootPatience-c.now().Sub(j.Created), gone); err != nil {
			return false, err
		}
		if again, err := gone(); err != nil || again {
			return again, err
		}
		if err := p.Kill(ctx); err != nil { // also clears up after one that has ended
			return false, fmt.Errorf("image of %s: %w", i.ID, err)
		}
	}
	if err := c.captureAll(ctx, j.Region, rest); err != nil {
		return false, err
	}
	err = c.startMachine(ctx, j.Region, i, func(t *Tx, i *Instance) error {
		i.Rebooting = false
		return t.Done(j)
	})
	if err == nil || ctx.Err() != nil {
		return false, err
	}
	c.warn(err)
	return false, errors.Join(c.setRebooting(ctx, j.Region, i.ID, false), c.machineEnded(ctx, j.Region, i, false))
}

func (c *Cloud) markRebooting(ctx context.Context, region, id string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		i, ok, err := Get[Instance](t, id)
		if err != nil || !ok || i.State != "running" || i.Rebooting {
			return err
		}
		i.Rebooting = true
		return Put(t, i)
	})
}

// uncaptured lists the snapshots of an image that have no layer yet.
func (c *Cloud) uncaptured(ctx context.Context, region string, img Image) (out []Snapshot, err error) {
	err = c.View(ctx, region, func(t *Tx) error {
		for _, id := range snapshotsOf(img.Devices) {
			s, ok, err := Get[Snapshot](t, id)
			if err != nil {
				return err
			}
			if ok && s.State == "pending" && s.Layer == "" {
				out = append(out, s)
			}
		}
		return nil
	})
	return out, err
}

// captureAll captures snapshots of volumes that nothing writes to, and fails
// those that cannot be captured.
func (c *Cloud) captureAll(ctx context.Context, region string, snaps []Snapshot) error {
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(4) // small disks wait for the database, large ones for the disk
	for _, s := range snaps {
		g.Go(func() error {
			err := c.captureFile(gctx, region, s)
			if err == nil || gctx.Err() != nil {
				return err
			}
			c.warn(err)
			dctx, stop := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
			defer stop()
			return c.failed(dctx, region, s.ID, err)
		})
	}
	return g.Wait()
}
