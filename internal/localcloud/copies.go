package localcloud

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// CopyImageParams ask for a copy of an image.
type CopyImageParams struct {
	SourceRegion, SourceImage string
	Name, Description         string
	Encrypted                 bool
	KMSKeyID                  string
	CopyTags                  bool
	Minutes                   int64 // the duration of a time-based copy, 0 for none
	ClientToken               string
	ImageTags, SnapshotTags   Tags
}

// CopyImage asks, in the destination region, for a copy of an image. What the
// copy is of is there already, and is verified before the copy is available.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopyImage.html
func (c *Cloud) CopyImage(ctx context.Context, region string, p CopyImageParams) (img Image, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		made, used, err := t.Token("CopyImage", p.ClientToken, p)
		if err != nil {
			return err
		}
		if used {
			img, err = t.FindImage(made[0])
			return err
		}
		if !KnownRegion(p.SourceRegion) {
			return Errorf("InvalidParameterValue", "Value (%s) for parameter sourceRegion is invalid. There is no such region", p.SourceRegion)
		}
		if err := errors.Join(t.checkName(p.Name), checkDescription(p.Description), checkMinutes(p.Minutes)); err != nil {
			return err
		}
		from := t.In(p.SourceRegion)
		src, err := from.FindImage(p.SourceImage)
		if err != nil {
			return err
		}
		if src.State != "available" {
			return Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is '%s' in %s; it can be copied when it is available", src.ID, src.State, p.SourceRegion)
		}
		set, err := t.Settings()
		if err != nil {
			return err
		}
		img = src
		img.ID, img.Name, img.Description, img.Owner, img.OwnerAlias = NewID("ami"), p.Name, p.Description, AccountID, ""
		img.Location, img.State, img.Created, img.Ready = AccountID+"/"+p.Name, "pending", t.Now, t.Now.Add(set.CopyPending)
		img.Public, img.LaunchUsers, img.LaunchGroups, img.LaunchOrgs, img.LaunchOUs = false, nil, nil, nil, nil
		img.Deprecated, img.LastLaunched, img.Protected, img.ProtectedUntil = time.Time{}, time.Time{}, "", time.Time{}
		img.SourceInstance, img.SourceImage, img.SourceImageRegion = "", src.ID, p.SourceRegion
		img.Tags = Tags{}
		if p.CopyTags {
			img.Tags = src.Tags.Clone()
		}
		for k, v := range p.ImageTags {
			img.Tags[k] = v
		}
		if img.Devices, err = t.copyDevices(from, src, img, p); err != nil {
			return err
		}
		if err := t.SaveToken("CopyImage", p.ClientToken, p, img.ID); err != nil {
			return err
		}
		return errors.Join(Put(t, img), t.Later("image-copy", img.ID, img.Ready, nil))
	})
	return img, err
}

func checkMinutes(m int64) error {
	if m != 0 && (m < 15 || m > 2880 || m%15 != 0) {
		return Errorf("InvalidParameterValue", "The duration of %d minutes is invalid: it must be 15 to 2880, in steps of 15", m)
	}
	return nil
}

// copyDevices copies the mappings of an image and the snapshots in them, each
// snapshot once.
func (t *Tx) copyDevices(from *Tx, src, img Image, p CopyImageParams) ([]DeviceMapping, error) {
	copies := map[string]string{}
	var out []DeviceMapping
	for _, m := range src.Devices {
		if m.Volume == nil || m.Volume.SnapshotID == "" {
			out = append(out, m)
			continue
		}
		spec := *m.Volume
		id, ok := copies[spec.SnapshotID]
		if !ok {
			old, ok, err := Get[Snapshot](from, spec.SnapshotID) // the right to the image is one to its disks
			if err == nil && !ok {
				err = Errorf("InvalidSnapshot.NotFound", "The snapshot '%s' of %s does not exist.", spec.SnapshotID, src.ID)
			}
			if err != nil {
				return nil, err
			}
			s, err := t.copySnapshot(from.Region, old, p.Encrypted, p.KMSKeyID)
			if err != nil {
				return nil, err
			}
			s.Description = fmt.Sprintf("Copied for DestinationAmi %s from SourceAmi %s for SourceSnapshot %s. Task created on %d.", img.ID, src.ID, old.ID, t.Now.UnixMilli())
			s.Ready = img.Ready
			if p.CopyTags && old.Owner == AccountID {
				s.Tags = old.Tags.Clone()
			}
			for k, v := range p.SnapshotTags {
				s.Tags[k] = v
			}
			if err := Put(t, s); err != nil {
				return nil, err
			}
			id = s.ID
			copies[old.ID] = id
			spec.Encrypted = s.Encrypted
		}
		spec.SnapshotID = id
		spec.Encrypted, spec.KMSKeyID = spec.Encrypted || p.Encrypted, ""
		out = append(out, DeviceMapping{Device: m.Device, Volume: &spec})
	}
	return out, nil
}

// copySnapshot returns a copy of a completed snapshot that is pending.
func (t *Tx) copySnapshot(region string, old Snapshot, encrypted bool, key string) (Snapshot, error) {
	if old.State != "completed" {
		return Snapshot{}, Errorf("IncorrectState", "The snapshot '%s' is '%s'; it can be copied when it is completed", old.ID, old.State)
	}
	s := Snapshot{
		ID: NewID("snap"), Owner: AccountID, VolumeID: NoVolume, SizeGiB: old.SizeGiB, State: "pending", Layer: old.Layer,
		Copied: true, SourceRegion: region, Source: old.ID, Encrypted: encrypted, KMSKeyID: key, Started: t.Now, Tags: Tags{},
	}
	err := t.resolveKey(&s.Encrypted, &s.KMSKeyID, Snapshot{Encrypted: old.Encrypted})
	return s, err
}

// copyFails returns why a copy into the region fails now, "" when it does not.
func (t *Tx) copyFails() (string, error) {
	set, err := t.Settings()
	return set.CopyFails[t.Region], err
}

// imageCopy verifies what a copy is of and completes it.
func (c *Cloud) imageCopy(ctx context.Context, j Job) error {
	var img Image
	var ok bool
	layers := map[string]string{} // by snapshot
	err := c.View(ctx, j.Region, func(t *Tx) (err error) {
		if img, ok, err = Get[Image](t, j.Target); err != nil {
			return err
		}
		for _, id := range snapshotsOf(img.Devices) {
			s, _, err := Get[Snapshot](t, id)
			if err != nil {
				return err
			}
			layers[id] = s.Layer
		}
		return nil
	})
	if err != nil || !ok {
		return err
	}
	var fault string
	for id, l := range layers {
		if l == "" { // deleted in the meantime
			continue
		}
		err := c.images.Verify(ctx, l)
		if err != nil && !hopeless(err) {
			return fmt.Errorf("copy to %s: %w", id, err)
		}
		if err != nil {
			c.warn(fmt.Errorf("copy to %s: %w", id, err))
			fault = "Server.InternalError: " + err.Error()
		}
	}
	return c.Update(ctx, j.Region, func(t *Tx) error {
		why, err := t.copyFails()
		if err != nil {
			return err
		}
		if why == "" {
			why = fault
		}
		if err := t.endCopy(j.Target, why); err != nil {
			return err
		}
		return t.Done(j)
	})
}

// endCopy completes the snapshots of a copied image, and with them the image;
// why is set when it failed.
func (t *Tx) endCopy(image, why string) error {
	img, ok, err := Get[Image](t, image)
	if err != nil || !ok {
		return err
	}
	if img.State == "pending" && why != "" {
		img.State, img.Reason = "failed", why
		if err := Put(t, img); err != nil {
			return err
		}
	}
	for _, id := range snapshotsOf(img.Devices) { // also of an image that was deregistered
		s, ok, err := Get[Snapshot](t, id)
		if err != nil {
			return err
		}
		if !ok || s.State != "pending" || !s.Copied {
			continue
		}
		if why != "" {
			err = t.failSnapshot(s, why)
		} else {
			err = t.settleSnapshot(s)
		}
		if err != nil {
			return err
		}
	}
	if img, _, err = Get[Image](t, image); err != nil {
		return err
	}
	_, err = t.settleImage(img) // it may have no snapshots
	return err
}

// CopySnapshotParams ask for a copy of a snapshot.
type CopySnapshotParams struct {
	SnapshotParams
	SourceRegion, Source string
	Encrypted            bool
	KMSKeyID             string
	Minutes              int64
}

// CopySnapshot asks, in the destination region, for a copy of a snapshot.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CopySnapshot.html
func (c *Cloud) CopySnapshot(ctx context.Context, region string, p CopySnapshotParams) (s Snapshot, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if !KnownRegion(p.SourceRegion) {
			return Errorf("InvalidParameterValue", "Value (%s) for parameter sourceRegion is invalid. There is no such region", p.SourceRegion)
		}
		if err := checkMinutes(p.Minutes); err != nil {
			return err
		}
		old, err := t.In(p.SourceRegion).FindSnapshot(p.Source)
		if err != nil {
			return err
		}
		set, err := t.Settings()
		if err != nil {
			return err
		}
		if s, err = t.copySnapshot(p.SourceRegion, old, p.Encrypted, p.KMSKeyID); err != nil {
			return err
		}
		s.Description, s.Tags, s.Ready = p.Description, p.Tags.Clone(), t.Now.Add(set.CopyPending)
		return errors.Join(Put(t, s), t.Later("snapshot-copy", s.ID, s.Ready, nil))
	})
	return s, err
}

func (c *Cloud) snapshotCopy(ctx context.Context, j Job) error {
	var s Snapshot
	var ok bool
	err := c.View(ctx, j.Region, func(t *Tx) (err error) {
		s, ok, err = Get[Snapshot](t, j.Target)
		return err
	})
	if err != nil || !ok || s.State != "pending" {
		return err
	}
	fault := c.images.Verify(ctx, s.Layer)
	if fault != nil && !hopeless(fault) {
		return fmt.Errorf("copy to %s: %w", s.ID, fault)
	}
	return c.Update(ctx, j.Region, func(t *Tx) error {
		s, ok, err := Get[Snapshot](t, j.Target)
		if err != nil || !ok || s.State != "pending" {
			return errors.Join(err, t.Done(j))
		}
		why, err := t.copyFails()
		if why == "" && fault != nil {
			why = fault.Error()
		}
		if err == nil && why != "" {
			err = t.failSnapshot(s, why)
		} else if err == nil {
			err = t.settleSnapshot(s)
		}
		return errors.Join(err, t.Done(j))
	})
}
