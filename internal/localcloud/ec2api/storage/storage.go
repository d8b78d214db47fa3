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

// filterBy are an action's filters by name: what a resource has for each.
type filterBy[T any] map[string]func(T) []string

// match returns the resources that pass all filters.
func (by filterBy[T]) match(fs ec2wire.Filters, in []T, tags func(T) localcloud.Tags) ([]T, error) {
	values := func(v T) ec2wire.Values {
		return func(name string) ([]string, bool) {
			get, ok := by[name]
			if !ok {
				return nil, false
			}
			return get(v), true
		}
	}
	var zero T
	if err := fs.Check(values(zero)); err != nil {
		return nil, err
	}
	out := make([]T, 0, len(in))
	for _, v := range in {
		ok, err := fs.Match(tags(v), values(v))
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, v)
		}
	}
	return out, nil
}

// onlyWithout refuses the use of ids together with pages, as EC2 does.
func onlyWithout(p ec2wire.Page, ids []string) error {
	if p.MaxResults != 0 && len(ids) > 0 {
		return awswire.Errorf("InvalidParameterCombination", "The parameter maxResults cannot be used together with ids in the request")
	}
	return nil
}

// one is the only value of a filter; "" is none.
func one(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// mapped applies fn to each item.
func mapped[T, U any](in []T, fn func(T) U) []U {
	out := make([]U, len(in))
	for i, v := range in {
		out[i] = fn(v)
	}
	return out
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
	return mapped(in, func(m localcloud.DeviceMapping) mapping {
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
	return mapped(in, func(d ec2wire.LaunchDevice) localcloud.DeviceMapping {
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
