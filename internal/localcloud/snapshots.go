package localcloud

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// NoVolume is the volume of snapshots that were not made of one.
const NoVolume = "vol-ffffffff"

// FindSnapshot returns a snapshot that the account may read, or
// InvalidSnapshot.NotFound.
func (t *Tx) FindSnapshot(id string) (Snapshot, error) {
	if !ValidID("snap", id) {
		return Snapshot{}, Errorf("InvalidSnapshotID.Malformed", "Value (%s) for parameter snapshotId is invalid. Expected: 'snap-...'.", id)
	}
	s, ok, err := Get[Snapshot](t, id)
	if err == nil && (!ok || !s.readable()) {
		err = Errorf("InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", id)
	}
	return s, err
}

// readable reports whether the account may make volumes of s.
func (s Snapshot) readable() bool {
	return s.Owner == AccountID || slices.Contains(s.Groups, "all") || slices.Contains(s.Users, AccountID)
}

// ownSnapshot returns a snapshot that the account may change.
func (t *Tx) ownSnapshot(id string) (Snapshot, error) {
	s, err := t.FindSnapshot(id)
	if err == nil && s.Owner != AccountID {
		err = Errorf("UnauthorizedOperation", "You do not own the snapshot '%s'", id).withStatus(403)
	}
	return s, err
}

func (e *Error) withStatus(status int) *Error {
	e.Status = status
	return e
}

// usableSnapshot returns a snapshot that a volume or an image can be made of.
func (t *Tx) usableSnapshot(id string) (Snapshot, error) {
	s, err := t.FindSnapshot(id)
	if err == nil && s.State != "completed" {
		err = Errorf("IncorrectState", "The snapshot '%s' is in the state '%s'; it must be completed", id, s.State)
	}
	return s, err
}

// SnapshotParams say what is told of a snapshot.
type SnapshotParams struct {
	Description string
	Tags        Tags
}

// CreateSnapshot asks for a snapshot of a volume: of its content at this
// moment, whatever is written to it later.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSnapshot.html
func (c *Cloud) CreateSnapshot(ctx context.Context, region, volume string, p SnapshotParams) (s Snapshot, err error) {
	err = c.take(ctx, region, func(t *Tx) ([]Snapshot, error) {
		v, err := t.FindVolume(volume)
		if err != nil {
			return nil, err
		}
		s = newSnapshot(t, v, p.Description, p.Tags)
		return []Snapshot{s}, nil
	}, nil)
	return s, err
}

// SnapshotsParams ask for snapshots of an instance's volumes.
type SnapshotsParams struct {
	SnapshotParams
	Instance     string
	ExcludeBoot  bool
	ExcludeData  []string // volume ids
	CopyTagsFrom string   // "volume" or ""
}

// CreateSnapshots asks for snapshots of the volumes of an instance, all of one
// moment.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSnapshots.html
func (c *Cloud) CreateSnapshots(ctx context.Context, region string, p SnapshotsParams) (out []Snapshot, err error) {
	err = c.take(ctx, region, func(t *Tx) ([]Snapshot, error) {
		i, err := t.imageableInstance(p.Instance)
		if err != nil {
			return nil, err
		}
		out = nil
		excluded := slices.Clone(p.ExcludeData)
		for _, d := range i.Devices {
			root := d.Device == i.RootDevice
			if n := slices.Index(excluded, d.Volume); n >= 0 {
				if root {
					return nil, Errorf("InvalidParameterValue", "%s is the root volume; exclude it with ExcludeBootVolume", d.Volume)
				}
				excluded = slices.Delete(excluded, n, n+1)
				continue
			}
			if root && p.ExcludeBoot {
				continue
			}
			v, err := t.FindVolume(d.Volume)
			if err != nil {
				return nil, err
			}
			tags := p.Tags.Clone()
			if p.CopyTagsFrom == "volume" {
				tags = v.Tags.Clone()
				for k, val := range p.Tags {
					tags[k] = val
				}
			}
			out = append(out, newSnapshot(t, v, p.Description, tags))
		}
		if len(excluded) > 0 {
			return nil, Errorf("InvalidParameterValue", "The volume '%s' is not attached to '%s'", excluded[0], p.Instance)
		}
		if len(out) == 0 {
			return nil, Errorf("InvalidParameterCombination", "No volume of '%s' is left to make a snapshot of", p.Instance)
		}
		return out, nil
	}, nil)
	return out, err
}

// imageableInstance returns an instance whose disks can be captured.
func (t *Tx) imageableInstance(id string) (Instance, error) {
	if !ValidID("i", id) {
		return Instance{}, Errorf("InvalidInstanceID.Malformed", "Invalid id: \"%s\" (expecting \"i-...\")", id)
	}
	i, ok, err := Get[Instance](t, id)
	if err != nil {
		return i, err
	}
	if !ok || i.State == "terminated" {
		return i, Errorf("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
	}
	if i.State != "running" && i.State != "stopped" && i.State != "stopping" {
		return i, Errorf("IncorrectState", "The instance '%s' is '%s'", id, i.State)
	}
	return i, nil
}

func newSnapshot(t *Tx, v Volume, description string, tags Tags) Snapshot {
	return Snapshot{
		ID: NewID("snap"), Description: description, Owner: AccountID, VolumeID: v.ID, SizeGiB: v.Spec.SizeGiB,
		State: "pending", Encrypted: v.Spec.Encrypted, KMSKeyID: v.Spec.KMSKeyID, Started: t.Now, Tags: tags.Clone(),
	}
}

// take writes the snapshots that plan says, all of them of the volumes' content
// at one moment, and the jobs that capture them. Volumes of a running instance
// are frozen first, outside of a transaction: when who writes to them has
// changed since, all is planned again. then runs in the transaction that
// writes them; it may be nil.
func (c *Cloud) take(ctx context.Context, region string, plan func(*Tx) ([]Snapshot, error), then func(*Tx, []Snapshot) error) error {
	for {
		var seen []Snapshot
		var instance string
		before, err := volumeQuiet, error(nil)
		look := func(t *Tx) (live liveness, err error) {
			if seen, err = plan(t); err != nil {
				return 0, err
			}
			for _, s := range seen {
				v, err := t.FindVolume(s.VolumeID)
				if err != nil {
					return 0, err
				}
				if v.State != "available" && v.State != "in-use" {
					return 0, Errorf("IncorrectState", "The volume '%s' is '%s'", v.ID, v.State)
				}
				l, err := t.liveness(v)
				if err != nil {
					return 0, err
				}
				live, instance = max(live, l), v.Instance // one instance has them all
			}
			return live, nil
		}
		if err = c.View(ctx, region, func(t *Tx) error { before, err = look(t); return err }); err != nil {
			return err
		}
		frozen := map[string]string{} // file by volume
		if before == volumeLive && dryRun(ctx) == nil {
			if frozen, err = c.freeze(ctx, region, instance, seen); err != nil {
				return err
			}
		}
		again := false
		err = c.Update(ctx, region, func(t *Tx) error {
			now, err := look(t)
			if err != nil {
				return err
			}
			if again = before != volumeLive && now == volumeLive; again {
				return errAgain
			}
			return c.writeTaken(t, seen, now, frozen, then)
		})
		if err == nil {
			return nil
		}
		for _, f := range frozen { // nobody will ask for them
			_ = os.Remove(f)
		}
		if !again {
			return err
		}
	}
}

var errAgain = errors.New("the state of an instance has changed")

// writeTaken writes planned snapshots with the jobs that capture them.
func (c *Cloud) writeTaken(t *Tx, snaps []Snapshot, live liveness, frozen map[string]string, then func(*Tx, []Snapshot) error) error {
	set, err := t.Settings()
	if err != nil {
		return err
	}
	for i := range snaps {
		s := &snaps[i]
		s.Ready = t.Now.Add(set.SnapshotPending)
		if file, ok := frozen[s.VolumeID]; ok {
			s.Frozen = true
			if err := os.Rename(file, c.frozenPath(t.Region, s.ID)); err != nil {
				return fmt.Errorf("snapshot of %s: %w", s.VolumeID, err)
			}
			frozen[s.VolumeID] = c.frozenPath(t.Region, s.ID)
		}
		s.Quiet = !s.Frozen && live == volumeQuiet
		if err := errors.Join(Put(t, *s), t.Later("snapshot-capture", s.ID, time.Time{}, nil)); err != nil {
			return err
		}
	}
	if then != nil {
		return then(t, snaps)
	}
	return nil
}

// frozenPath is the file with the content of a snapshot of a running machine.
func (c *Cloud) frozenPath(region, id string) string {
	return filepath.Join(c.dir, "captures", region, id+".qcow2")
}

// freeze writes what volumes of a running instance hold, at one moment, into
// files by volume. None when the instance does not run after all.
func (c *Cloud) freeze(ctx context.Context, region, instance string, snaps []Snapshot) (map[string]string, error) {
	if err := os.MkdirAll(filepath.Join(c.dir, "captures", region), 0o700); err != nil {
		return nil, fmt.Errorf("freeze the volumes of %s: %w", instance, err)
	}
	out := map[string]string{}
	var volumes, files []string
	for _, s := range snaps {
		file := c.frozenPath(region, s.ID)
		out[s.VolumeID] = file
		volumes, files = append(volumes, s.VolumeID), append(files, file)
	}
	ran, err := c.liveDisks(ctx, region, instance, volumes, files)
	if err != nil {
		return nil, fmt.Errorf("freeze the volumes of %s: %w", instance, err)
	}
	if !ran {
		return map[string]string{}, nil
	}
	return out, nil
}

// DeleteSnapshot removes a snapshot that no image needs.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteSnapshot.html
func (c *Cloud) DeleteSnapshot(ctx context.Context, region, id string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		s, err := t.ownSnapshot(id)
		if err != nil {
			return err
		}
		return t.deleteSnapshot(s)
	})
}

func (t *Tx) deleteSnapshot(s Snapshot) error {
	images, err := All[Image](t)
	if err != nil {
		return err
	}
	for _, i := range images {
		if i.State != "deregistered" && i.State != "failed" && slices.Contains(snapshotsOf(i.Devices), s.ID) {
			return Errorf("InvalidSnapshot.InUse", "The snapshot %s is currently in use by %s", s.ID, i.ID)
		}
	}
	if s.Upload != "" {
		if err := t.Later("upload-abort", s.ID, time.Time{}, s.Upload); err != nil {
			return err
		}
	}
	return Delete[Snapshot](t, s.ID)
}

// Snapshots returns the snapshots of a region that the account may read; those
// with the ids when any are given.
func (c *Cloud) Snapshots(ctx context.Context, region string, ids []string) (out []Snapshot, err error) {
	err = c.View(ctx, region, func(t *Tx) (err error) {
		if len(ids) == 0 {
			out, err = All[Snapshot](t)
			out = slices.DeleteFunc(out, func(s Snapshot) bool { return !s.readable() })
			return err
		}
		for _, id := range ids {
			s, err := t.FindSnapshot(id)
			if err != nil {
				return err
			}
			out = append(out, s)
		}
		return nil
	})
	slices.SortStableFunc(out, func(a, b Snapshot) int { return a.Started.Compare(b.Started) })
	return out, err
}

// ChangeSnapshot changes a snapshot of the account's own.
func (c *Cloud) ChangeSnapshot(ctx context.Context, region, id string, change func(*Snapshot) error) error {
	return c.Update(ctx, region, func(t *Tx) error {
		s, err := t.ownSnapshot(id)
		if err != nil {
			return err
		}
		if err := change(&s); err != nil {
			return err
		}
		return Put(t, s)
	})
}
