package localcloud

import (
	"context"
	"errors"
	"fmt"
)

// whileOff calls fn while the machine of an instance does not run and nobody
// can start it. One that runs is shut down before and started again
// afterwards: it is running all the time as far as the API tells. When fn
// fails the machine stays off: the job that called this is tried again.
func (c *Cloud) whileOff(ctx context.Context, region, id string, fn func(context.Context) error) error {
	unlock, err := c.lockInstance(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	i, ok, p, err := c.lookUp(ctx, region, id)
	if err != nil {
		return err
	}
	if ok && i.State == "running" && !i.Rebooting {
		if err := c.setRebooting(ctx, region, id, true); err != nil {
			return err
		}
	}
	if p != nil {
		_, err := c.shutDown(ctx, p, rebootPatience, func() (bool, error) {
			now, ok, err := c.getInstance(ctx, region, id)
			return !ok || now.ForceStop || now.State == "shutting-down", err
		})
		if err != nil {
			return err
		}
		if err := p.Kill(ctx); err != nil {
			return fmt.Errorf("shut down %s: %w", id, err)
		}
	}
	if err := fn(ctx); err != nil {
		return err
	}
	i, ok, err = c.getInstance(ctx, region, id)
	if err != nil || !ok || i.State != "running" {
		return errors.Join(err, c.setRebooting(ctx, region, id, false))
	}
	err = c.startMachine(ctx, region, i, func(_ *Tx, i *Instance) error {
		i.Rebooting = false
		return nil
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	// What fn did is done; the instance is not what it was.
	c.warn(err)
	return errors.Join(c.setRebooting(ctx, region, id, false), c.machineEnded(ctx, region, i, false))
}

// setRebooting says whether the machine of a running instance may be off.
func (c *Cloud) setRebooting(ctx context.Context, region, id string, to bool) error {
	return c.Update(ctx, region, func(t *Tx) error {
		i, ok, err := Get[Instance](t, id)
		if err != nil || !ok || i.Rebooting == to {
			return err
		}
		i.Rebooting = to && i.State == "running"
		return Put(t, i)
	})
}
