package amazon

import (
	"context"
	"fmt"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
)

// arch is the architecture of the image.
func (c *SurrogateConfig) arch(s source) string {
	if c.Architecture != "" {
		return c.Architecture
	}
	return s.Arch
}

// omitted reports whether a disk of the instance stays out of the image.
func (c *SurrogateConfig) omitted(device string) bool {
	return slices.ContainsFunc(c.LaunchMappings, func(b LaunchBlockDevice) bool { return b.DeviceName == device && b.Omit })
}

// volume is the volume at a device of the instance.
func (s *state) volume(device string) (string, error) {
	for _, v := range s.Instance.Volumes {
		if v.Device == device {
			return v.ID, nil
		}
	}
	return "", fmt.Errorf("instance %s has no volume at %s", s.Instance.ID, device)
}

// snapshotDevices makes a snapshot of every disk that goes into the image.
func (m *machine) snapshotDevices(ctx context.Context, r *builder.Run, s *state) error {
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	_, tags, err := m.imageTags(r, s)
	if err != nil {
		return err
	}
	description, err := m.render.render(m.sur.SnapshotDescription, s.Source.data(s.Region))
	if err != nil {
		return err
	}
	var shots []shot
	for _, b := range m.sur.LaunchMappings {
		if b.Omit || b.NoDevice || b.VirtualName != "" {
			continue
		}
		v, err := s.volume(b.DeviceName)
		if err != nil {
			return err
		}
		shots = append(shots, shot{v, b.DeviceName, description, tagged(tagMap(tags), tag{tagDevice, b.DeviceName})})
	}
	warnSpot(r, s)
	return m.takeSnapshots(ctx, c, r, s, shots)
}

// imageDevices are the disks of the image: the surrogate as its root, the
// other disks of the instance, and what the options add. A disk of the
// instance wins over one of the same name that is added.
func (c *SurrogateConfig) imageDevices(snapshots []snapshotState) ([]types.BlockDeviceMapping, error) {
	var out []types.BlockDeviceMapping
	taken := map[string]bool{}
	snapshotOf := func(device string) (string, error) {
		for _, s := range snapshots {
			if s.Device == device && s.ID != "" {
				return s.ID, nil
			}
		}
		return "", fmt.Errorf("there is no snapshot of %s", device)
	}
	add := func(b BlockDevice) {
		out = append(out, b.imageMapping())
		taken[b.DeviceName] = true
	}
	for _, l := range c.LaunchMappings {
		b := l.BlockDevice
		if l.Omit || b.NoDevice {
			continue
		}
		if b.VirtualName == "" {
			id, err := snapshotOf(b.DeviceName)
			if err != nil {
				return nil, err
			}
			b.SnapshotID = id
		}
		if b.DeviceName == c.RootDevice.Source {
			d := c.RootDevice
			b = BlockDevice{
				DeviceName: d.DeviceName, DeleteOnTermination: d.DeleteOnTermination, IOPS: d.IOPS, Type: d.Type, Size: d.Size,
				Throughput: d.Throughput, SnapshotID: b.SnapshotID,
			}
		}
		add(b)
	}
	for _, b := range c.AMIMappings {
		if !taken[b.DeviceName] {
			add(b)
		}
	}
	return out, nil
}

// registerInput is the image of the snapshots. What EC2 would otherwise
// assume (i386, paravirtual) is always said.
func (m *machine) registerInput(s *state, tags []types.Tag, description string) (*ec2.RegisterImageInput, error) {
	c := m.sur
	disks, err := c.imageDevices(s.Snapshots)
	if err != nil {
		return nil, err
	}
	in := &ec2.RegisterImageInput{
		Name: &s.Image.Name, Description: optional(description), Architecture: types.ArchitectureValues(c.arch(s.Source)),
		VirtualizationType: &c.Virtualization, RootDeviceName: &c.RootDevice.DeviceName, BlockDeviceMappings: disks,
		BootMode: types.BootModeValues(c.BootMode), TpmSupport: types.TpmSupportValues(c.TPMSupport), UefiData: optional(c.UEFIData),
		ImdsSupport:       types.ImdsSupportValues(c.IMDSSupport),
		TagSpecifications: []types.TagSpecification{spec(types.ResourceTypeImage, tags)},
	}
	if c.Virtualization == "hvm" {
		// What ran on the source's kernel is taken to have its drivers.
		if in.EnaSupport = c.ENASupport; in.EnaSupport == nil && s.Source.ENA {
			in.EnaSupport = aws.Bool(true)
		}
		if c.SRIOVSupport {
			in.SriovNetSupport = aws.String("simple")
		}
	}
	return in, nil
}

// swapRoot makes the surrogate the root disk of the stopped instance, for an
// image by CreateImage. It may be done again at any point of it.
func (m *machine) swapRoot(ctx context.Context, r *builder.Run, s *state) error {
	if s.Swap.Done {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	root := s.Source.RootDevice
	surrogate, err := s.volume(m.sur.RootDevice.Source)
	if err != nil {
		return err
	}
	off := []string{}
	for _, v := range s.Instance.Volumes {
		if v.Device == root || m.sur.omitted(v.Device) {
			off = append(off, v.ID)
		}
	}
	// They no longer go with the instance: known before they are taken off.
	s.Swap.Detached, s.Swap.Root = off, surrogate
	if err := r.Save(); err != nil {
		return err
	}
	r.Say("Making volume %s the root disk of the instance", surrogate)
	for _, id := range append(slices.Clone(off), surrogate) {
		if err := m.detach(ctx, c, s, id, root, surrogate); err != nil {
			return err
		}
	}
	err = c.s.Wait(ctx, settleTime, func(ctx context.Context) (bool, error) {
		_, err := c.AttachVolume(ctx, &ec2.AttachVolumeInput{InstanceId: &s.Instance.ID, VolumeId: &surrogate, Device: &root})
		switch awsaccess.Code(err) {
		case "VolumeInUse", "IncorrectState":
			v, verr := c.volume(ctx, surrogate)
			return verr == nil && attachedAs(v, s.Instance.ID) == root, verr
		}
		return err == nil, err
	})
	if err != nil {
		return err
	}
	err = c.s.Wait(ctx, settleTime*4, func(ctx context.Context) (bool, error) {
		v, err := c.volume(ctx, surrogate)
		return err == nil && attachedAs(v, s.Instance.ID) == root && v.State == types.VolumeStateInUse, err
	})
	if err != nil {
		return err
	}
	_, err = c.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{
		InstanceId: &s.Instance.ID,
		BlockDeviceMappings: []types.InstanceBlockDeviceMappingSpecification{{
			DeviceName: &root, Ebs: &types.EbsInstanceBlockDeviceSpecification{VolumeId: &surrogate, DeleteOnTermination: &m.sur.RootDevice.DeleteOnTermination},
		}},
	})
	if err == nil {
		s.Swap.Done = true
	}
	return err
}

// detach takes a volume off the instance and waits until it is free.
func (m *machine) detach(ctx context.Context, c cloud, s *state, id, root, surrogate string) error {
	return c.s.Wait(ctx, settleTime*4, func(ctx context.Context) (bool, error) {
		v, err := c.volume(ctx, id)
		if err != nil {
			return false, err
		}
		at := attachedAs(v, s.Instance.ID)
		switch {
		case v.State == types.VolumeStateAvailable, id == surrogate && at == root:
			return true, nil
		case at == "" || slices.ContainsFunc(v.Attachments, func(a types.VolumeAttachment) bool { return a.State == types.VolumeAttachmentStateDetaching }):
			return false, nil
		}
		_, err = c.DetachVolume(ctx, &ec2.DetachVolumeInput{VolumeId: &id, InstanceId: &s.Instance.ID})
		return false, gone(err, "IncorrectState")
	})
}

func (c cloud) volume(ctx context.Context, id string) (types.Volume, error) {
	out, err := c.DescribeVolumes(ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{id}})
	if err != nil {
		return types.Volume{}, err
	}
	if len(out.Volumes) != 1 {
		return types.Volume{}, fmt.Errorf("there is no volume %s", id)
	}
	return out.Volumes[0], nil
}

// attachedAs is the device as which the instance has the volume, "" for none.
func attachedAs(v types.Volume, instance string) string {
	for _, a := range v.Attachments {
		if aws.ToString(a.InstanceId) == instance && a.State != types.VolumeAttachmentStateDetached {
			return aws.ToString(a.Device)
		}
	}
	return ""
}
