package localcloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A liveness says who may write to a volume now.
type liveness int

const (
	volumeQuiet  liveness = iota // nobody
	volumeLive                   // a running instance
	volumeInFlux                 // an instance that starts or stops: nobody can say
)

func (t *Tx) liveness(v Volume) (liveness, error) {
	if v.Instance == "" {
		return volumeQuiet, nil
	}
	i, ok, err := Get[Instance](t, v.Instance)
	if err != nil || !ok {
		return volumeQuiet, err
	}
	switch i.State {
	case "running":
		if v.AttachState != "attached" { // a job is at it
			return volumeInFlux, nil
		}
		return volumeLive, nil
	case "pending", "stopping", "shutting-down":
		return volumeInFlux, nil
	}
	return volumeQuiet, nil
}

// AttachVolume attaches an available volume to an instance that runs or is
// stopped, as the device. A running one gets it by a job.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AttachVolume.html
func (c *Cloud) AttachVolume(ctx context.Context, region, volume, instance, device string) (v Volume, err error) {
	if err := CheckDeviceName(device); err != nil {
		return v, err
	}
	if !ValidID("i", instance) {
		return v, Errorf("InvalidInstanceID.Malformed", "Invalid id: \"%s\" (expecting \"i-...\")", instance)
	}
	err = c.Update(ctx, region, func(t *Tx) error {
		if v, err = t.FindVolume(volume); err != nil {
			return err
		}
		i, ok, err := Get[Instance](t, instance)
		if err != nil {
			return err
		}
		switch {
		case !ok || i.State == "terminated":
			return Errorf("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", instance)
		case v.State == "in-use":
			return Errorf("VolumeInUse", "%s is already attached to an instance", volume)
		case v.State != "available":
			return Errorf("IncorrectState", "Volume '%s' is in the '%s' state; it must be available", volume, v.State)
		case i.State != "running" && i.State != "stopped":
			return Errorf("IncorrectState", "Instance '%s' is not 'running'", instance)
		case v.Zone != i.Zone:
			return Errorf("InvalidVolume.ZoneMismatch", "The volume '%s' is not in the same availability zone as instance '%s'", volume, instance)
		}
		for _, d := range i.Devices {
			if d.Device == device {
				return Errorf("InvalidParameterValue", "Invalid value '%s' for unixDevice. Attachment point %s is already in use", device, device)
			}
		}
		v.State, v.Instance, v.Device, v.AttachState, v.AttachedAt = "in-use", instance, device, "attached", t.Now
		v.DeleteOnTermination = false
		if i.State == "running" {
			v.AttachState = "attaching"
			if err := t.Later("volume-attach", volume, time.Time{}, nil); err != nil {
				return err
			}
		}
		i.Devices = append(i.Devices, InstanceDevice{Device: device, Volume: volume, Attached: t.Now})
		return errors.Join(Put(t, v), Put(t, i))
	})
	return v, err
}

func (c *Cloud) volumeAttach(ctx context.Context, j Job) error {
	v, ok, err := c.getVolume(ctx, j.Region, j.Target)
	if err != nil || !ok || v.AttachState != "attaching" {
		return err
	}
	if err := c.awaitCaptures(ctx, j.Region, true, v.ID); err != nil {
		return err
	}
	if err := c.hotAttach(ctx, j.Region, v.Instance, v.ID); err != nil {
		return fmt.Errorf("attach %s: %w", v.ID, err)
	}
	return c.Update(ctx, j.Region, func(t *Tx) error {
		v, ok, err := Get[Volume](t, j.Target)
		if err == nil && ok && v.AttachState == "attaching" {
			v.AttachState = "attached"
			err = Put(t, v)
		}
		return errors.Join(err, t.Done(j))
	})
}

// DetachVolume takes a volume from its instance. A running one gives it up by
// a job, and not its root device. instance and device may be ""; otherwise
// they must be right.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DetachVolume.html
func (c *Cloud) DetachVolume(ctx context.Context, region, volume, instance, device string) (v Volume, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if v, err = t.FindVolume(volume); err != nil {
			return err
		}
		switch {
		case v.State != "in-use" || v.Instance == "":
			return Errorf("IncorrectState", "Volume '%s' is in the '%s' state.", volume, v.State)
		case instance != "" && instance != v.Instance, device != "" && device != v.Device:
			return Errorf("InvalidAttachment.NotFound", "The volume '%s' is not attached to instance '%s' as device '%s'", volume, instance, device)
		}
		i, ok, err := Get[Instance](t, v.Instance)
		if err != nil {
			return err
		}
		if ok && i.State == "running" {
			if v.Device == i.RootDevice {
				return Errorf("OperationNotPermitted", "Unable to detach root volume '%s' from instance '%s'", volume, v.Instance)
			}
			if v.AttachState == "detaching" {
				return nil
			}
			v.AttachState = "detaching"
			return errors.Join(Put(t, v), t.Later("volume-detach", volume, time.Time{}, nil))
		}
		if ok && i.State != "stopped" && i.State != "terminated" {
			return Errorf("IncorrectState", "Instance '%s' is '%s': a volume is detached when it runs or is stopped", i.ID, i.State)
		}
		was := v
		if err := t.detached(v); err != nil {
			return err
		}
		v = was
		v.AttachState = "detaching"
		return nil
	})
	return v, err
}

// detached makes an attached volume available.
func (t *Tx) detached(v Volume) error {
	i, ok, err := Get[Instance](t, v.Instance)
	if err != nil {
		return err
	}
	if ok {
		i.Devices = slices.DeleteFunc(slices.Clone(i.Devices), func(d InstanceDevice) bool { return d.Volume == v.ID })
		if err := Put(t, i); err != nil {
			return err
		}
	}
	v.State, v.Instance, v.Device, v.AttachState, v.AttachedAt = "available", "", "", "", time.Time{}
	return Put(t, v)
}

func (c *Cloud) volumeDetach(ctx context.Context, j Job) error {
	v, ok, err := c.getVolume(ctx, j.Region, j.Target)
	if err != nil || !ok || v.AttachState != "detaching" {
		return err
	}
	if err := c.hotDetach(ctx, j.Region, v.Instance, v.ID); err != nil {
		return fmt.Errorf("detach %s: %w", v.ID, err)
	}
	return c.Update(ctx, j.Region, func(t *Tx) error {
		v, ok, err := Get[Volume](t, j.Target)
		if err == nil && ok && v.AttachState == "detaching" {
			err = t.detached(v)
		}
		return errors.Join(err, t.Done(j))
	})
}
