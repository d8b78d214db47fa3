package localcloud

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"time"
)

// A VolumeModification is the last one of a volume.
type VolumeModification struct {
	Volume   string
	State    string // modifying optimizing completed failed
	From, To VolumeSpec
	Progress int64
	Started  time.Time
	Ended    time.Time
}

// RecordKind implements [Record].
func (VolumeModification) RecordKind() string { return "volume-modification" }

// RecordID implements [Record].
func (m VolumeModification) RecordID() string { return m.Volume }

// ModifyVolume changes size, type or performance; zero values stay as they
// are. The disk of a volume that a running instance has grows when the
// instance starts next: until then the modification is under way.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyVolume.html
func (c *Cloud) ModifyVolume(ctx context.Context, region, id string, to VolumeSpec) (m VolumeModification, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		v, err := t.FindVolume(id)
		if err != nil {
			return err
		}
		if v.State != "available" && v.State != "in-use" {
			return Errorf("IncorrectState", "The volume '%s' is '%s'", id, v.State)
		}
		if last, ok, err := Get[VolumeModification](t, id); err != nil {
			return err
		} else if ok && last.State == "modifying" {
			return Errorf("IncorrectModificationState", "Volume %s cannot be modified in modification state MODIFYING", id)
		}
		if to == (VolumeSpec{}) {
			return Errorf("MissingParameter", "The request must contain one of the parameters Size, VolumeType, Iops and Throughput")
		}
		next := v.Spec
		if to.SizeGiB != 0 {
			next.SizeGiB = to.SizeGiB
		}
		if next.SizeGiB < v.Spec.SizeGiB {
			return Errorf("InvalidParameterValue", "New size cannot be smaller than existing size")
		}
		if to.Type != "" && to.Type != next.Type {
			next.Type, next.IOPS, next.Throughput = to.Type, 0, 0
		}
		if to.IOPS != 0 {
			next.IOPS = to.IOPS
		}
		if to.Throughput != 0 {
			next.Throughput = to.Throughput
		}
		if err := checkPerformance(&next); err != nil {
			return err
		}
		m = VolumeModification{Volume: id, State: "completed", From: v.Spec, To: next, Progress: 100, Started: t.Now, Ended: t.Now}
		if next.SizeGiB != v.Spec.SizeGiB {
			m.State, m.Progress, m.Ended = "modifying", 0, time.Time{}
			if err := t.Later("volume-grow", id, time.Time{}, nil); err != nil {
				return err
			}
		}
		v.Spec = next
		return errors.Join(Put(t, v), Put(t, m))
	})
	return m, err
}

// volumeGrow grows a disk that nothing has open. The start of an instance
// grows the others.
func (c *Cloud) volumeGrow(ctx context.Context, j Job) error {
	var v Volume
	idle := false
	err := c.View(ctx, j.Region, func(t *Tx) error {
		var ok bool
		var err error
		if v, ok, err = Get[Volume](t, j.Target); err != nil || !ok {
			return err
		}
		live, err := t.liveness(v)
		idle = err == nil && live == volumeQuiet
		return err
	})
	if err != nil || !idle {
		return err
	}
	// A start that comes now grows the disk as well: the two take turns.
	return c.EnsureDisk(ctx, j.Region, v)
}

// VolumeModifications returns those of a region; of the volumes when any are
// given.
func (c *Cloud) VolumeModifications(ctx context.Context, region string, ids []string) (out []VolumeModification, err error) {
	err = c.View(ctx, region, func(t *Tx) (err error) {
		if len(ids) == 0 {
			out, err = All[VolumeModification](t)
			return err
		}
		for _, id := range ids {
			if _, err := t.FindVolume(id); err != nil {
				return err
			}
			m, ok, err := Get[VolumeModification](t, id)
			if err != nil {
				return err
			}
			if !ok {
				return Errorf("InvalidVolumeModification.NotFound", "Modification for volume '%s' does not exist.", id)
			}
			out = append(out, m)
		}
		return nil
	})
	return out, err
}

// overlaySize reads the virtual size of a qcow2 file from its header.
func overlaySize(path string) (int64, error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("disk of a volume: %w", err)
	}
	defer f.Close()
	var h [32]byte
	if _, err := io.ReadFull(f, h[:]); err != nil || string(h[:4]) != "QFI\xfb" {
		return 0, fmt.Errorf("%s is not a qcow2 image: %w", path, errors.Join(err))
	}
	return int64(binary.BigEndian.Uint64(h[24:])), nil
}
