package localcloud

import (
	"context"
	"errors"
	"fmt"
)

// Shutdown switches off every machine of the cloud and stops its instances;
// those that are being terminated are, at the next [Cloud.Work]. Nobody may be
// in Work, of this process or another.
func (c *Cloud) Shutdown(ctx context.Context) error {
	var errs []error
	for _, region := range Regions() {
		all, err := c.Instances(ctx, region, nil)
		if err != nil {
			return err
		}
		for _, i := range all {
			if len(i.Machine) > 0 {
				errs = append(errs, c.switchOff(ctx, region, i.ID))
			}
		}
	}
	return errors.Join(errs...)
}

func (c *Cloud) switchOff(ctx context.Context, region, id string) error {
	unlock, err := c.lockInstance(ctx, id)
	if err != nil {
		return err
	}
	defer unlock()
	_, ok, p, err := c.lookUp(ctx, region, id)
	if err != nil || !ok {
		return err
	}
	if p != nil {
		if err := p.Kill(ctx); err != nil {
			return fmt.Errorf("switch off %s: %w", id, err)
		}
	}
	c.live.drop(id)
	return c.Update(ctx, region, func(t *Tx) error {
		i, ok, err := Get[Instance](t, id)
		if err != nil || !ok {
			return err
		}
		if i.State == "running" || i.State == "stopping" {
			if i.State == "running" {
				i.StateCode, i.StateReason = "Server.ScheduledStop", "The local cloud was shut down"
			}
			i.move(t, "stopped", i.StateCode, i.StateReason)
			if err := t.unplug(&i); err != nil {
				return err
			}
		}
		i.Machine = nil
		return Put(t, i)
	})
}
