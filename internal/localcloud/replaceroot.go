package localcloud

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"
)

// A RootTask replaces the root volume of a running instance.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReplaceRootVolumeTask.html
type RootTask struct {
	ID, Instance    string
	State           string // pending in-progress succeeded failed
	Image, Snapshot string // what the new root is of
	Volume          string // the new one
	Old             string // the one it replaces
	DeleteOld       bool
	Started, Ended  time.Time
	Tags            Tags
}

// RecordKind implements [Record].
func (RootTask) RecordKind() string { return "root-task" }

// RecordID implements [Record].
func (r RootTask) RecordID() string { return r.ID }

// RootParams are those of CreateReplaceRootVolumeTask. Without image and
// snapshot the root becomes as it was at the launch.
type RootParams struct {
	Instance, Image, Snapshot string
	DeleteOld                 bool
	ClientToken               string
	Tags                      Tags
}

// ReplaceRoot asks for another root volume of a running instance, which boots
// from it at once.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateReplaceRootVolumeTask.html
func (c *Cloud) ReplaceRoot(ctx context.Context, region string, p RootParams) (r RootTask, err error) {
	if p.Image != "" && p.Snapshot != "" {
		return r, Errorf("InvalidParameterCombination", "The parameters ImageId and SnapshotId cannot be used together")
	}
	err = c.Update(ctx, region, func(t *Tx) error {
		ids, used, err := t.Token("CreateReplaceRootVolumeTask", p.ClientToken, p)
		if err != nil {
			return err
		}
		if used {
			r, err = t.findRootTask(ids[0])
			return err
		}
		i, err := t.FindInstance(p.Instance)
		if err != nil {
			return err
		}
		if i.State != "running" {
			return Errorf("IncorrectInstanceState", "The instance '%s' is not in the 'running' state: it is %s", i.ID, i.State)
		}
		if err := t.noRootTask(i.ID); err != nil {
			return err
		}
		spec, snap, err := t.newRoot(&i, p)
		if err != nil {
			return err
		}
		old, err := t.FindVolume(i.RootVolume())
		if err != nil {
			return err
		}
		v, err := t.NewVolume(i.Zone, spec, snap, old.Tags)
		if err != nil {
			return err
		}
		r = RootTask{
			ID: NewID("replacevol"), Instance: i.ID, State: "pending", Image: p.Image, Snapshot: p.Snapshot,
			Volume: v.ID, Old: old.ID, DeleteOld: p.DeleteOld, Started: t.Now, Tags: p.Tags.Clone(),
		}
		return errors.Join(Put(t, r), t.Later("replace-root", r.ID, time.Time{}, nil),
			t.SaveToken("CreateReplaceRootVolumeTask", p.ClientToken, p, r.ID))
	})
	return r, err
}

func (t *Tx) noRootTask(instance string) error {
	all, err := All[RootTask](t)
	if err != nil {
		return err
	}
	for _, r := range all {
		if r.Instance == instance && (r.State == "pending" || r.State == "in-progress") {
			return Errorf("IncorrectState", "The root volume of '%s' is being replaced by the task %s", instance, r.ID)
		}
	}
	return nil
}

// newRoot is the volume that an instance gets as its root.
func (t *Tx) newRoot(i *Instance, p RootParams) (VolumeSpec, Snapshot, error) {
	var none VolumeSpec
	old, err := t.FindVolume(i.RootVolume())
	if err != nil {
		return none, Snapshot{}, err
	}
	spec := old.Spec
	spec.SnapshotID = old.SnapshotID
	switch {
	case p.Image != "":
		img, err := t.launchImage(p.Image)
		if err != nil {
			return none, Snapshot{}, err
		}
		if img.Arch != i.Arch || img.Virtualization != i.Virtualization || img.Platform != i.Platform {
			return none, Snapshot{}, Errorf("InvalidParameterCombination", "The image %s (%s, %s) does not fit the instance %s (%s, %s)", img.ID, img.Arch, img.Virtualization, i.ID, i.Arch, i.Virtualization)
		}
		m, ok := mapping(img.Devices, img.RootDevice)
		if !ok || m.Volume == nil {
			return none, Snapshot{}, Errorf("InvalidParameterValue", "The image %s has no root volume", img.ID)
		}
		spec.SnapshotID, spec.SizeGiB = m.Volume.SnapshotID, max(spec.SizeGiB, m.Volume.SizeGiB)
	case p.Snapshot != "":
		snap, err := t.usableSnapshot(p.Snapshot)
		if err != nil {
			return none, snap, err
		}
		if snap.VolumeID != old.ID && snap.ID != old.SnapshotID {
			return none, snap, Errorf("InvalidParameterValue", "The snapshot %s is not of the root volume of %s, nor of one it descends from", snap.ID, i.ID)
		}
		spec.SnapshotID = snap.ID
	}
	spec, snap, err := t.ResolveVolume(spec)
	if CodeOf(err) == "InvalidSnapshot.NotFound" && p.Image == "" && p.Snapshot == "" {
		// As at the launch, whose snapshot was deleted: its layer is still there.
		spec.SnapshotID = ""
		spec, _, err = t.ResolveVolume(spec)
		snap = Snapshot{ID: old.SnapshotID, Layer: old.Layer, SizeGiB: old.Spec.SizeGiB}
	}
	spec.DeleteOnTermination = old.DeleteOnTermination
	return spec, snap, err
}

func (t *Tx) findRootTask(id string) (RootTask, error) {
	r, ok, err := Get[RootTask](t, id)
	if err == nil && !ok {
		err = Errorf("InvalidReplaceRootVolumeTaskId.NotFound", "The replace root volume task ID '%s' does not exist", id)
	}
	return r, err
}

// RootTasks returns the tasks of a region; those with the ids when any are
// given.
func (c *Cloud) RootTasks(ctx context.Context, region string, ids []string) (out []RootTask, err error) {
	err = c.View(ctx, region, func(t *Tx) (err error) {
		if len(ids) == 0 {
			out, err = All[RootTask](t)
		}
		for _, id := range ids {
			r, err := t.findRootTask(id)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return err
	})
	slices.SortStableFunc(out, func(a, b RootTask) int { return a.Started.Compare(b.Started) })
	return out, err
}

// replaceRoot swaps the root volume of an instance while its machine is off.
func (c *Cloud) replaceRoot(ctx context.Context, j Job) error {
	var r RootTask
	err := c.Update(ctx, j.Region, func(t *Tx) (err error) {
		if r, err = t.findRootTask(j.Target); err == nil && r.State == "pending" {
			r.State = "in-progress"
			err = Put(t, r)
		}
		return err
	})
	if err != nil || r.State != "in-progress" {
		return err
	}
	v, ok, err := c.getVolume(ctx, j.Region, r.Volume)
	if err != nil {
		return err
	}
	if !ok {
		return c.rootTaskFailed(ctx, j, r)
	}
	if v.State == "creating" {
		if err := c.EnsureDisk(ctx, j.Region, v); err != nil {
			if ctx.Err() != nil {
				return err
			}
			c.warn(fmt.Errorf("replace the root volume of %s: %w", r.Instance, err))
			return c.rootTaskFailed(ctx, j, r)
		}
	}
	i, ok, err := c.getInstance(ctx, j.Region, r.Instance)
	if err != nil {
		return err
	}
	swapped := ok && !i.Rebooting && i.RootVolume() == r.Volume // by a process that died
	if swapped {
		return c.rootTaskDone(ctx, j, r)
	}
	err = c.whileOff(ctx, j.Region, r.Instance, func(ctx context.Context) error {
		return c.Update(ctx, j.Region, func(t *Tx) (err error) {
			swapped, err = t.swapRoot(r)
			return err
		})
	})
	if err != nil {
		return err
	}
	if !swapped {
		return c.rootTaskFailed(ctx, j, r)
	}
	return c.rootTaskDone(ctx, j, r)
}

func (c *Cloud) rootTaskDone(ctx context.Context, j Job, r RootTask) error {
	return c.Update(ctx, j.Region, func(t *Tx) error {
		r.State, r.Ended = "succeeded", t.Now
		return errors.Join(Put(t, r), t.Done(j))
	})
}

// swapRoot puts the new volume of a task in the place of the old one. It
// reports false when the instance is not one any more that can have it.
func (t *Tx) swapRoot(r RootTask) (bool, error) {
	i, ok, err := Get[Instance](t, r.Instance)
	if err != nil || !ok || i.State == "terminated" || i.State == "shutting-down" {
		return false, err
	}
	n := slices.IndexFunc(i.Devices, func(d InstanceDevice) bool { return d.Device == i.RootDevice })
	if n < 0 {
		return false, nil
	}
	if i.Devices[n].Volume == r.Volume {
		return true, nil // done before
	}
	old, err := t.FindVolume(i.Devices[n].Volume)
	if err != nil {
		return false, err
	}
	v, err := t.FindVolume(r.Volume)
	if err != nil {
		return false, err
	}
	v.State, v.Instance, v.Device, v.AttachState, v.AttachedAt = "in-use", i.ID, i.RootDevice, "attached", t.Now
	v.DeleteOnTermination = i.Devices[n].DeleteOnTermination
	i.Devices[n].Volume, i.Devices[n].Attached = v.ID, t.Now
	if r.Image != "" {
		i.ImageID = r.Image
	}
	if err := errors.Join(Put(t, v), Put(t, i)); err != nil {
		return false, err
	}
	old.State, old.Instance, old.Device, old.AttachState, old.AttachedAt = "available", "", "", "", time.Time{}
	if r.DeleteOld {
		return true, t.DropVolume(old)
	}
	return true, Put(t, old)
}

func (c *Cloud) rootTaskFailed(ctx context.Context, j Job, r RootTask) error {
	return c.Update(ctx, j.Region, func(t *Tx) error {
		r.State, r.Ended = "failed", t.Now
		v, ok, err := Get[Volume](t, r.Volume)
		if err == nil && ok && v.Instance == "" {
			err = t.DropVolume(v)
		}
		return errors.Join(err, Put(t, r), t.Done(j))
	})
}
