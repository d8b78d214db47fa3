package localcloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/imagestore"
)

const gib = 1 << 30

// volumePath is the disk of a volume: a qcow2 overlay.
func (c *Cloud) volumePath(region, id string) string {
	return filepath.Join(c.dir, "volumes", region, id+".qcow2")
}

// FindVolume returns a volume, or InvalidVolume.NotFound.
func (t *Tx) FindVolume(id string) (Volume, error) {
	if !ValidID("vol", id) {
		return Volume{}, Errorf("InvalidVolumeID.Malformed", "Value (%s) for parameter volumeId is invalid. Expected: 'vol-...'.", id)
	}
	v, ok, err := Get[Volume](t, id)
	if err == nil && !ok {
		err = Errorf("InvalidVolume.NotFound", "The volume '%s' does not exist.", id)
	}
	return v, err
}

// NewVolume writes a volume that is being created. The spec is one that
// [Tx.ResolveVolume] returned with the snapshot. Somebody calls
// [Cloud.EnsureDisk] and [Tx.VolumeCreated] afterwards; both may be repeated.
func (t *Tx) NewVolume(zone string, spec VolumeSpec, snap Snapshot, tags Tags) (Volume, error) {
	v := Volume{
		ID: NewID("vol"), SnapshotID: snap.ID, Layer: snap.Layer, Zone: zone, State: "creating", Spec: spec,
		Created: t.Now, Tags: tags.Clone(),
	}
	return v, Put(t, v)
}

// VolumeCreated marks a volume whose disk is there.
func (t *Tx) VolumeCreated(id string) error {
	v, ok, err := Get[Volume](t, id)
	if err != nil || !ok || v.State != "creating" {
		return err
	}
	v.State = "available"
	if v.Instance != "" {
		v.State = "in-use"
	}
	return Put(t, v)
}

// EnsureDisk makes the disk of a volume when it is not there yet, and grows it
// when the volume was modified. Nothing may have the disk open. The layers
// below are verified: *[imagestore.DamageError] when they are not what they
// were.
func (c *Cloud) EnsureDisk(ctx context.Context, region string, v Volume) error {
	path := c.volumePath(region, v.ID)
	size := v.Spec.SizeGiB * gib
	have, err := overlaySize(path)
	if err == nil {
		if have < size {
			if err := c.grow(ctx, v.ID, path, size); err != nil {
				return err
			}
		}
		return c.grown(ctx, region, v.ID)
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if v.Layer != "" {
		if err := c.images.Verify(ctx, v.Layer); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("volume %s: %w", v.ID, err)
	}
	if err := c.images.NewOverlay(ctx, path, v.Layer, size); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("volume %s: %w", v.ID, err)
	}
	return nil
}

// grow makes the disk of a volume as large as it should be, once.
func (c *Cloud) grow(ctx context.Context, id, path string, size int64) error {
	unlock, err := c.lockInstance(ctx, id) // a lock for any id
	if err != nil {
		return err
	}
	defer unlock()
	if have, err := overlaySize(path); err != nil || have >= size {
		return err
	}
	return growOverlay(ctx, path, size)
}

// growOverlay makes a disk larger; what is new reads as zeros.
func growOverlay(ctx context.Context, path string, size int64) error {
	out, err := exec.CommandContext(ctx, "qemu-img", "resize", "-q", "-f", "qcow2", path, strconv.FormatInt(size, 10)).CombinedOutput()
	if errors.Is(err, exec.ErrNotFound) {
		return diag.WithHint(fmt.Errorf("grow %s: %w", filepath.Base(path), err), "install qemu-img (qemu-utils)")
	}
	if err != nil {
		return fmt.Errorf("grow %s: %w: %s", filepath.Base(path), err, out)
	}
	return nil
}

// grown ends the modification of a volume whose disk has its size.
func (c *Cloud) grown(ctx context.Context, region, id string) error {
	waits := false
	look := func(t *Tx) (m VolumeModification, err error) {
		m, ok, err := Get[VolumeModification](t, id)
		waits = ok && m.State == "modifying"
		return m, err
	}
	if err := c.View(ctx, region, func(t *Tx) error { _, err := look(t); return err }); err != nil || !waits {
		return err
	}
	return c.Update(ctx, region, func(t *Tx) error {
		m, err := look(t)
		if err != nil || !waits {
			return err
		}
		m.State, m.Progress, m.Ended = "completed", 100, t.Now
		return Put(t, m)
	})
}

// VolumeParams ask for a volume.
type VolumeParams struct {
	Zone        string // name or id
	Spec        VolumeSpec
	ClientToken string
	Tags        Tags
}

// CreateVolume asks for a volume; it is creating when this returns.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVolume.html
func (c *Cloud) CreateVolume(ctx context.Context, region string, p VolumeParams) (v Volume, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		made, used, err := t.Token("CreateVolume", p.ClientToken, p)
		if err != nil {
			return err
		}
		if used {
			v, err = t.FindVolume(made[0])
			return err
		}
		zone, ok := ZoneOf(region, p.Zone)
		if !ok {
			return Errorf("InvalidZone.NotFound", "The zone '%s' does not exist.", p.Zone)
		}
		spec, snap, err := t.ResolveVolume(p.Spec)
		if CodeOf(err) == "InvalidBlockDeviceMapping" {
			err = Errorf("InvalidParameterValue", "%s", asError(err).Message)
		}
		if err != nil {
			return err
		}
		if v, err = t.NewVolume(zone.Name, spec, snap, p.Tags); err != nil {
			return err
		}
		if err := t.SaveToken("CreateVolume", p.ClientToken, p, v.ID); err != nil {
			return err
		}
		return t.Later("volume-create", v.ID, time.Time{}, nil)
	})
	return v, err
}

func asError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Errorf("InternalError", "%v", err)
}

func (c *Cloud) volumeCreate(ctx context.Context, j Job) error {
	v, ok, err := c.getVolume(ctx, j.Region, j.Target)
	if err != nil || !ok || v.State != "creating" {
		return err
	}
	err = c.EnsureDisk(ctx, j.Region, v)
	if hopeless(err) {
		c.warn(fmt.Errorf("volume %s: %w", v.ID, err))
		return c.Update(ctx, j.Region, func(t *Tx) error {
			v, ok, err := Get[Volume](t, j.Target)
			if err != nil || !ok {
				return err
			}
			v.State = "error"
			return errors.Join(Put(t, v), t.Done(j))
		})
	}
	if err != nil {
		return err
	}
	return c.Update(ctx, j.Region, func(t *Tx) error { return errors.Join(t.VolumeCreated(j.Target), t.Done(j)) })
}

// hopeless says of a fault of disks that trying again does not help.
func hopeless(err error) bool {
	var de *imagestore.DamageError
	var nf *imagestore.NotFoundError
	var ue *imagestore.UnsupportedError
	return errors.As(err, &de) || errors.As(err, &nf) || errors.As(err, &ue)
}

func (c *Cloud) getVolume(ctx context.Context, region, id string) (v Volume, ok bool, err error) {
	err = c.View(ctx, region, func(t *Tx) (err error) {
		v, ok, err = Get[Volume](t, id)
		return err
	})
	return v, ok, err
}

// DeleteVolume asks for the end of a volume that is attached to nothing.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteVolume.html
func (c *Cloud) DeleteVolume(ctx context.Context, region, id string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		v, err := t.FindVolume(id)
		if err != nil {
			return err
		}
		switch v.State {
		case "in-use":
			return Errorf("VolumeInUse", "Volume %s is currently attached to %s", v.ID, v.Instance)
		case "creating", "deleting":
			return Errorf("IncorrectState", "The volume '%s' is '%s'", v.ID, v.State)
		}
		return t.DropVolume(v)
	})
}

// DropVolume marks a volume as deleting, whatever it is attached to, and asks
// for the removal of its disk: when nothing is to be read of it any more.
func (t *Tx) DropVolume(v Volume) error {
	v.State, v.Instance, v.Device, v.AttachState = "deleting", "", "", ""
	return errors.Join(Put(t, v), t.Later("volume-delete", v.ID, time.Time{}, nil))
}

func (c *Cloud) volumeDelete(ctx context.Context, j Job) error {
	if err := c.awaitCaptures(ctx, j.Region, false, j.Target); err != nil {
		return err
	}
	if err := removeFile(c.volumePath(j.Region, j.Target)); err != nil {
		return err
	}
	return c.Update(ctx, j.Region, func(t *Tx) error {
		return errors.Join(Delete[Volume](t, j.Target), Delete[VolumeModification](t, j.Target), t.Done(j))
	})
}

// awaitCaptures waits until no snapshot of the volumes is still to be read of
// their disks. With quiet only those count that were asked for while nothing
// wrote to the volume: nothing may begin to before.
func (c *Cloud) awaitCaptures(ctx context.Context, region string, quiet bool, volumes ...string) error {
	return c.Await(ctx, region, func(t *Tx) (bool, error) {
		all, err := All[Snapshot](t)
		if err != nil {
			return false, err
		}
		return !slices.ContainsFunc(all, func(s Snapshot) bool {
			return s.State == "pending" && s.Layer == "" && !s.Frozen && s.Upload == "" && (s.Quiet || !quiet) && slices.Contains(volumes, s.VolumeID)
		}), nil
	})
}

// Volumes returns the volumes of a region; those with the ids when any are
// given.
func (c *Cloud) Volumes(ctx context.Context, region string, ids []string) (out []Volume, err error) {
	err = c.View(ctx, region, func(t *Tx) (err error) {
		if len(ids) == 0 {
			out, err = All[Volume](t)
			return err
		}
		for _, id := range ids {
			v, err := t.FindVolume(id)
			if err != nil {
				return err
			}
			out = append(out, v)
		}
		return nil
	})
	slices.SortStableFunc(out, func(a, b Volume) int { return a.Created.Compare(b.Created) })
	return out, err
}
