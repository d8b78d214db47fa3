// Package storage serves EC2's actions for volumes, snapshots, images and
// imports.
package storage

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

// An api serves the actions over a cloud.
type api struct{ cloud *localcloud.Cloud }

// Operations are the package's actions.
func Operations(c *localcloud.Cloud) awswire.Operations {
	a := &api{cloud: c}
	return awswire.Merge(
		a.volumes(), a.attachments(), a.snapshots(), a.snapshotAttributes(), a.images(), a.imageQueries(),
		a.imageAttributes(), a.imageSwitches(), a.fastLaunch(), a.imports(), a.defaults(),
	)
}

// dry makes what follows a dry run where the request says so.
func dry(ctx context.Context, d ec2wire.DryRun) context.Context {
	if d.DryRun {
		return localcloud.WithDryRun(ctx)
	}
	return ctx
}

type textValue struct {
	Value string `q:"Value" xml:"value"`
}

type boolValue struct {
	Value bool `q:"Value" xml:"value"`
}

// text is a value in an element of its own; nil for "".
func text(s string) *textValue {
	if s == "" {
		return nil
	}
	return &textValue{s}
}

// A mapping is a block device mapping of a reply.
type mapping struct {
	Device  string  `xml:"deviceName"`
	Virtual string  `xml:"virtualName,omitempty"`
	None    *string `xml:"noDevice"`
	EBS     *ebs    `xml:"ebs"`
}

type ebs struct {
	Delete     bool   `xml:"deleteOnTermination"`
	SnapshotID string `xml:"snapshotId,omitempty"`
	Size       int64  `xml:"volumeSize"`
	Type       string `xml:"volumeType"`
	IOPS       int64  `xml:"iops,omitempty"`
	Throughput int64  `xml:"throughput,omitempty"`
	Encrypted  bool   `xml:"encrypted"`
	KMSKeyID   string `xml:"kmsKeyId,omitempty"`
}

func mappings(in []localcloud.DeviceMapping) []mapping {
	return ec2wire.Mapped(in, func(m localcloud.DeviceMapping) mapping {
		out := mapping{Device: m.Device, Virtual: m.Virtual}
		if m.None {
			out.None = new(string)
		}
		if v := m.Volume; v != nil {
			out.EBS = &ebs{
				Delete: v.DeleteOnTermination, SnapshotID: v.SnapshotID, Size: v.SizeGiB, Type: v.Type, IOPS: v.IOPS,
				Throughput: v.Throughput, Encrypted: v.Encrypted, KMSKeyID: v.KMSKeyID,
			}
		}
		return out
	})
}

// devices returns the mappings of a request, and which volumes are deleted
// with their instance where it says so.
func devices(in []ec2wire.LaunchDevice) ([]localcloud.DeviceMapping, map[string]bool) {
	del := map[string]bool{}
	return ec2wire.Mapped(in, func(d ec2wire.LaunchDevice) localcloud.DeviceMapping {
		m := localcloud.DeviceMapping{Device: d.DeviceName, Virtual: d.VirtualName, None: d.NoDevice != nil}
		if v := d.EBS; v != nil && !m.None {
			m.Volume = &localcloud.VolumeSpec{
				SnapshotID: v.SnapshotID, SizeGiB: deref(v.VolumeSize), Type: v.VolumeType, IOPS: deref(v.IOPS),
				Throughput: deref(v.Throughput), Encrypted: deref(v.Encrypted), KMSKeyID: v.KMSKeyID,
				DeleteOnTermination: deref(v.DeleteOnTermination),
			}
			if v.DeleteOnTermination != nil {
				del[d.DeviceName] = *v.DeleteOnTermination
			}
		}
		return m
	}), del
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
