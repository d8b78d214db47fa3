package localcloud

import (
	"context"
	"time"
)

// Settings make a cloud as slow as the vendor's, or as unlucky. They are kept
// with the cloud, so every process that works on it follows them.
type Settings struct {
	SnapshotPending time.Duration `json:"snapshot_pending,omitempty"` // from the request until a snapshot is completed, at least
	ImagePending    time.Duration `json:"image_pending,omitempty"`    // from the request until an image is available, at least
	CopyPending     time.Duration `json:"copy_pending,omitempty"`     // the same for copies of images and snapshots
	StopTime        time.Duration `json:"stop_time,omitempty"`        // an instance is stopping, at least
	StartTime       time.Duration `json:"start_time,omitempty"`       // an instance is pending, at least

	// CopyFails are reasons by destination region: a copy into one of these is
	// accepted and fails when it would be done, as with a key that cannot be
	// used. It is looked at when a copy ends.
	CopyFails map[string]string `json:"copy_fails,omitempty"`

	// NoCapacity are instance types for which there is no capacity, each as
	// TYPE, TYPE/spot, ZONE/TYPE or ZONE/TYPE/spot.
	NoCapacity []string `json:"no_capacity,omitempty"`
	// InstanceLimit is how many instances that are not terminated a region
	// may have; 0: no limit.
	InstanceLimit int `json:"instance_limit,omitempty"`
}

type settingsRecord struct{ Settings }

// RecordKind implements [Record].
func (settingsRecord) RecordKind() string { return "settings" }

// RecordID implements [Record].
func (settingsRecord) RecordID() string { return "cloud" }

// Settings returns the settings in effect.
func (t *Tx) Settings() (Settings, error) {
	r, _, err := Get[settingsRecord](t.In(""), settingsRecord{}.RecordID())
	return r.Settings, err
}

// Settings returns the settings in effect.
func (c *Cloud) Settings(ctx context.Context) (s Settings, err error) {
	err = c.View(ctx, "", func(t *Tx) (err error) {
		s, err = t.Settings()
		return err
	})
	return s, err
}

// SetSettings replaces the settings. What is under way keeps the times it was
// asked for with.
func (c *Cloud) SetSettings(ctx context.Context, s Settings) error {
	return c.Update(ctx, "", func(t *Tx) error { return Put(t, settingsRecord{s}) })
}

// EBSDefaults are what new volumes of a region are when a request does not say,
// and whether images and snapshots of the region may become public.
type EBSDefaults struct {
	Encrypted      bool   `json:"encrypted,omitempty"`
	KMSKeyID       string `json:"kms_key_id,omitempty"`      // "": AWS's own key for EBS
	BlockImages    string `json:"block_images,omitempty"`    // "block-new-sharing" or ""
	BlockSnapshots string `json:"block_snapshots,omitempty"` // "block-all-sharing", "block-new-sharing" or ""
}

// RecordKind implements [Record].
func (EBSDefaults) RecordKind() string { return "ebs-defaults" }

// RecordID implements [Record].
func (EBSDefaults) RecordID() string { return "region" }

// EBSDefaults returns those of the transaction's region, with a key.
func (t *Tx) EBSDefaults() (EBSDefaults, error) {
	d, _, err := Get[EBSDefaults](t, EBSDefaults{}.RecordID())
	if d.KMSKeyID == "" {
		d.KMSKeyID = "alias/aws/ebs"
	}
	return d, err
}

// EBSDefaults returns those of a region, with a key.
func (c *Cloud) EBSDefaults(ctx context.Context, region string) (d EBSDefaults, err error) {
	err = c.View(ctx, region, func(t *Tx) (err error) {
		d, err = t.EBSDefaults()
		return err
	})
	return d, err
}

// ChangeEBSDefaults changes those of a region and returns them.
func (c *Cloud) ChangeEBSDefaults(ctx context.Context, region string, change func(*EBSDefaults) error) (d EBSDefaults, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if d, _, err = Get[EBSDefaults](t, EBSDefaults{}.RecordID()); err != nil {
			return err
		}
		if err := change(&d); err != nil {
			return err
		}
		if err := Put(t, d); err != nil {
			return err
		}
		d, err = t.EBSDefaults()
		return err
	})
	return d, err
}
