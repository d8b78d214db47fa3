package localcloud

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/ingot-build/ingot/internal/imagestore"
)

// UploadParams ask for a snapshot that is written block by block.
type UploadParams struct {
	SizeGiB     int64
	Parent      string // snapshot id, "" for none
	Description string
	Encrypted   bool
	KMSKeyID    string
	ClientToken string
	Minutes     int64 // without a block, and the upload is given up; 0: 60
	Tags        Tags
}

// StartSnapshot begins a snapshot that is written block by block.
// https://docs.aws.amazon.com/ebs/latest/APIReference/API_StartSnapshot.html
func (c *Cloud) StartSnapshot(ctx context.Context, region string, p UploadParams) (s Snapshot, err error) {
	var parent Snapshot
	err = c.Update(ctx, region, func(t *Tx) error {
		made, used, err := t.Token("StartSnapshot", p.ClientToken, p)
		if err != nil {
			return err
		}
		if used {
			s, err = t.FindSnapshot(made[0])
			return err
		}
		if p.SizeGiB < 1 || p.SizeGiB > 65536 {
			return Errorf("ValidationException", "The volume size of %d GiB is invalid: it is 1 to 65536", p.SizeGiB)
		}
		if p.Parent != "" {
			if p.Encrypted || p.KMSKeyID != "" {
				return Errorf("ValidationException", "A snapshot with a parent is encrypted as the parent is: leave out Encrypted and KmsKeyArn")
			}
			if parent, err = t.FindSnapshot(p.Parent); err != nil {
				return err
			}
			if parent.State != "completed" {
				return Errorf("ValidationException", "The parent snapshot %s is %s; it must be completed", parent.ID, parent.State)
			}
			if parent.SizeGiB > p.SizeGiB {
				return Errorf("ValidationException", "The volume size of %d GiB is less than the %d of the parent snapshot %s", p.SizeGiB, parent.SizeGiB, parent.ID)
			}
		}
		s = Snapshot{
			ID: NewID("snap"), Description: p.Description, Owner: AccountID, VolumeID: NoVolume, SizeGiB: p.SizeGiB,
			State: "pending", Parent: p.Parent, Started: t.Now, Tags: p.Tags.Clone(),
			Encrypted: p.Encrypted, KMSKeyID: p.KMSKeyID,
		}
		if err := t.resolveKey(&s.Encrypted, &s.KMSKeyID, parent); err != nil {
			return err
		}
		s.Upload, s.UploadBase, s.UploadMinutes = s.ID, parent.Layer, p.Minutes
		if s.UploadMinutes == 0 {
			s.UploadMinutes = 60
		}
		return errors.Join(Put(t, s), t.SaveToken("StartSnapshot", p.ClientToken, p, s.ID),
			t.Later("upload-timeout", s.ID, t.Now.Add(s.uploadTimeout()), nil))
	})
	return s, err
}

func (s Snapshot) uploadTimeout() time.Duration { return time.Duration(s.UploadMinutes) * time.Minute }

// uploadTimeout gives an upload up that nobody writes to any more.
func (c *Cloud) uploadTimeout(ctx context.Context, j Job) error {
	var s Snapshot
	var ok bool
	err := c.View(ctx, j.Region, func(t *Tx) (err error) {
		s, ok, err = Get[Snapshot](t, j.Target)
		return err
	})
	if err != nil || !ok || s.State != "pending" || s.UploadDone {
		return err
	}
	last := s.Started
	if st, err := os.Stat(c.sumsPath(s.Upload)); err == nil && st.ModTime().After(last) {
		last = st.ModTime()
	}
	return c.Update(ctx, j.Region, func(t *Tx) error {
		s, ok, err := Get[Snapshot](t, j.Target)
		if err != nil || !ok || s.State != "pending" || s.UploadDone {
			return errors.Join(err, t.Done(j))
		}
		if end := last.Add(s.uploadTimeout()); t.Now.Before(end) {
			return errors.Join(t.Later("upload-timeout", s.ID, end, nil), t.Done(j))
		}
		upload := s.Upload
		s.Upload = ""
		return errors.Join(
			t.failSnapshot(s, fmt.Sprintf("No block was written for %d minutes", s.UploadMinutes)),
			t.Later("upload-abort", s.ID, time.Time{}, upload), t.Done(j),
		)
	})
}

// FinishUpload asks for the end of an upload: no more blocks are taken, and
// the snapshot is completed when they are in place. The upload is closed by
// everybody. It may be repeated.
func (c *Cloud) FinishUpload(ctx context.Context, region, id string) (s Snapshot, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if s, err = t.ownSnapshot(id); err != nil || s.Upload == "" || s.UploadDone {
			return err
		}
		set, err := t.Settings()
		if err != nil {
			return err
		}
		s.UploadDone, s.Ready = true, t.Now.Add(set.SnapshotPending)
		return errors.Join(Put(t, s), t.Later("upload-commit", id, time.Time{}, nil))
	})
	return s, err
}

// uploadCommit makes a layer of the blocks of an upload.
func (c *Cloud) uploadCommit(ctx context.Context, j Job) error {
	var s Snapshot
	var ok bool
	err := c.View(ctx, j.Region, func(t *Tx) (err error) {
		s, ok, err = Get[Snapshot](t, j.Target)
		return err
	})
	if err != nil || !ok || s.State != "pending" || s.Upload == "" {
		return err
	}
	release, err := c.images.Hold(ctx)
	if err != nil {
		return fmt.Errorf("upload of %s: %w", s.ID, err)
	}
	defer release()
	layer, err := c.commit(ctx, s)
	if err != nil && !hopeless(err) {
		return fmt.Errorf("upload of %s: %w", s.ID, err)
	}
	if err != nil {
		c.warn(fmt.Errorf("upload of %s: %w", s.ID, err))
	}
	if err := c.captured(ctx, j.Region, s.ID, layer, err); err != nil {
		return err
	}
	return c.dropUpload(s.Upload)
}

func (c *Cloud) commit(ctx context.Context, s Snapshot) (imagestore.Layer, error) {
	u, err := c.images.NewUpload(ctx, s.Upload, s.UploadBase, s.SizeGiB*gib)
	if err != nil {
		return imagestore.Layer{}, err
	}
	layer, err := u.Commit(ctx)
	return layer, errors.Join(err, u.Close())
}

// dropUpload removes what is left of an upload.
func (c *Cloud) dropUpload(id string) error {
	u, err := c.images.OpenUpload(id)
	if hopeless(err) {
		err = nil
	} else if err == nil {
		err = u.Abort()
	}
	return errors.Join(err, removeFile(c.sumsPath(id)))
}

// Related reports whether two snapshots are of one volume or of one that was
// made of the other: only then is what has changed between them known.
func (c *Cloud) Related(ctx context.Context, region string, a, b Snapshot) (bool, error) {
	if a.VolumeID == b.VolumeID && a.VolumeID != NoVolume || a.Layer == b.Layer {
		return true, nil
	}
	related := false
	err := c.View(ctx, region, func(t *Tx) error {
		up, err := t.parents(a)
		if err != nil {
			return err
		}
		down, err := t.parents(b)
		related = slices.ContainsFunc(up, func(id string) bool { return slices.Contains(down, id) })
		return err
	})
	if err != nil || related {
		return related, err
	}
	first, err := c.bottom(a.Layer)
	if err != nil {
		return false, err
	}
	second, err := c.bottom(b.Layer)
	return first == second, err
}

// parents returns the ids of a snapshot and of those it was written over.
func (t *Tx) parents(s Snapshot) ([]string, error) {
	out := []string{s.ID}
	for s.Parent != "" {
		next, ok, err := Get[Snapshot](t, s.Parent)
		if out = append(out, s.Parent); err != nil || !ok {
			return out, err
		}
		s = next
	}
	return out, nil
}

// bottom is the lowest layer below a layer.
func (c *Cloud) bottom(digest string) (string, error) {
	for {
		l, err := c.images.Stat(digest)
		if err != nil || l.Parent == "" {
			return digest, err
		}
		digest = l.Parent
	}
}

// Checksum is the SHA-256 sum of a block in base64, as EBS has it.
func Checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(sum[:])
}
