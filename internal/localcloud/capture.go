package localcloud

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"github.com/ingot-build/ingot/internal/imagestore"
)

// snapshotCapture turns the content of a snapshot into a layer.
func (c *Cloud) snapshotCapture(ctx context.Context, j Job) error {
	if err := c.captureNow(ctx, j.Region, j.Target); err != nil {
		return err
	}
	return c.Update(ctx, j.Region, func(t *Tx) error { return t.Done(j) })
}

// captureNow captures a pending snapshot: of its own file when it has one,
// otherwise of its volume, which is frozen first when an instance writes to
// it. It may be repeated.
func (c *Cloud) captureNow(ctx context.Context, region, id string) error {
	var s Snapshot
	var v Volume
	var ok bool
	var live liveness
	look := func(t *Tx) (err error) {
		if s, ok, err = Get[Snapshot](t, id); err != nil || !ok || s.Frozen || s.Quiet {
			return err
		}
		if v, _, err = Get[Volume](t, s.VolumeID); err != nil {
			return err
		}
		live, err = t.liveness(v)
		return err
	}
	err := c.Await(ctx, region, func(t *Tx) (bool, error) {
		err := look(t)
		return live != volumeInFlux, err
	})
	if err == nil && !ok { // deleted
		err = removeFile(c.frozenPath(region, id))
	}
	if err != nil || !ok || s.State != "pending" || s.Layer != "" {
		return err
	}
	if live == volumeLive {
		files, err := c.freeze(ctx, region, v.Instance, []Snapshot{s})
		if err != nil {
			return err
		}
		s.Frozen = len(files) > 0
	}
	return c.captureFile(ctx, region, s)
}

// captureFile captures the file that holds a snapshot's content, which nothing
// writes to.
func (c *Cloud) captureFile(ctx context.Context, region string, s Snapshot) error {
	path := c.volumePath(region, s.VolumeID)
	if s.Frozen {
		path = c.frozenPath(region, s.ID)
	}
	release, err := c.images.Hold(ctx)
	if err != nil {
		return fmt.Errorf("capture %s: %w", s.VolumeID, err)
	}
	defer release()
	layer, err := c.images.Capture(ctx, path)
	if err != nil && !hopeless(err) && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("capture %s: %w", s.VolumeID, err)
	}
	if err != nil {
		c.warn(fmt.Errorf("capture %s: %w", s.VolumeID, err))
	}
	if err := c.captured(ctx, region, s.ID, layer, err); err != nil {
		return err
	}
	return removeFile(c.frozenPath(region, s.ID))
}

// removeFile removes a file that may be gone already.
func removeFile(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("local cloud: %w", err)
	}
	return nil
}

// captured writes the result of a capture; failed is why there is none.
func (c *Cloud) captured(ctx context.Context, region, id string, layer imagestore.Layer, failed error) error {
	return c.Update(ctx, region, func(t *Tx) error {
		s, ok, err := Get[Snapshot](t, id)
		if err != nil || !ok || s.State != "pending" {
			return err
		}
		if failed != nil {
			return t.failSnapshot(s, failed.Error())
		}
		s.Layer, s.Frozen, s.Quiet, s.Upload = layer.Digest, false, false, ""
		return t.settleSnapshot(s)
	})
}

// failed writes that a snapshot cannot be made.
func (c *Cloud) failed(ctx context.Context, region, id string, why error) error {
	return c.captured(ctx, region, id, imagestore.Layer{}, why)
}

// settleSnapshot completes a snapshot whose layer is there, or asks for that
// at its time, and settles the images that wait for it.
func (t *Tx) settleSnapshot(s Snapshot) error {
	if t.Now.Before(s.Ready) {
		s.Progress = 50
		return errors.Join(Put(t, s), t.Later("snapshot-complete", s.ID, s.Ready, nil))
	}
	s.State, s.Progress, s.Completed = "completed", 100, t.Now
	if err := Put(t, s); err != nil {
		return err
	}
	return t.settleImagesOf(s.ID)
}

func (t *Tx) failSnapshot(s Snapshot, why string) error {
	s.State, s.StateMessage, s.Frozen, s.Quiet = "error", why, false, false
	if err := Put(t, s); err != nil {
		return err
	}
	return t.settleImagesOf(s.ID)
}

func (c *Cloud) snapshotComplete(ctx context.Context, j Job) error {
	return c.Update(ctx, j.Region, func(t *Tx) error {
		s, ok, err := Get[Snapshot](t, j.Target)
		if err == nil && ok && s.State == "pending" {
			err = t.settleSnapshot(s)
		}
		return errors.Join(err, t.Done(j))
	})
}

// uploadAbort drops an upload whose snapshot was deleted.
func (c *Cloud) uploadAbort(ctx context.Context, j Job) error {
	var id string
	if err := json.Unmarshal(j.Args, &id); err != nil {
		return fmt.Errorf("job %s: %w", j.ID, err)
	}
	return c.dropUpload(id)
}
