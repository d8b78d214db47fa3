package localcloud

import (
	"context"
	"errors"
	"slices"
	"time"
)

// CreateImageParams ask for an image of an instance.
type CreateImageParams struct {
	Instance, Name, Description string
	BootMode                    string // "": as the instance's image
	NoReboot                    bool
	Devices                     []DeviceMapping
	Delete                      map[string]bool // DeleteOnTermination by device, where the request says
	ImageTags, SnapshotTags     Tags
}

// CreateImage asks for an image of the disks of an instance. One that runs is
// shut down for the time its disks are captured and started again, unless
// NoReboot is set: then the disks are as if the power had failed at this
// moment.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateImage.html
func (c *Cloud) CreateImage(ctx context.Context, region string, p CreateImageParams) (img Image, err error) {
	if err := CheckMappings(p.Devices); err != nil {
		return img, err
	}
	var i Instance
	plan := func(t *Tx) (snaps []Snapshot, err error) {
		if i, err = t.imageSource(p.Instance); err != nil {
			return nil, err
		}
		if err := errors.Join(t.checkName(p.Name), checkDescription(p.Description)); err != nil {
			return nil, err
		}
		img, snaps, err = t.planImage(i, p)
		return snaps, err
	}
	write := func(t *Tx, _ []Snapshot) error {
		set, err := t.Settings()
		if err != nil {
			return err
		}
		img.Ready = t.Now.Add(set.ImagePending)
		img, err = t.settleImage(img)
		return err
	}
	for {
		var reboot bool
		err = c.View(ctx, region, func(t *Tx) error {
			_, err := plan(t)
			reboot = i.State == "running" && !p.NoReboot
			return err
		})
		if err != nil {
			return img, err
		}
		if !reboot {
			// When the instance has started since, it is imaged as it runs:
			// as a reboot at this moment would not be of the content asked for.
			return img, c.take(ctx, region, plan, write)
		}
		err = c.Update(ctx, region, func(t *Tx) error {
			snaps, err := plan(t)
			if err != nil {
				return err
			}
			if i.State != "running" {
				return errAgain
			}
			set, err := t.Settings()
			if err != nil {
				return err
			}
			for _, s := range snaps {
				s.Ready = t.Now.Add(set.SnapshotPending)
				if err := Put(t, s); err != nil {
					return err
				}
			}
			return errors.Join(write(t, snaps), t.Later("image-create", img.ID, time.Time{}, nil))
		})
		if !errors.Is(err, errAgain) {
			return img, err
		}
	}
}

// imageSource returns an instance that an image can be made of.
func (t *Tx) imageSource(id string) (Instance, error) {
	i, err := t.FindInstance(id)
	if err != nil {
		return i, err
	}
	switch i.State {
	case "running", "stopped", "stopping":
		return i, nil
	case "terminated", "shutting-down":
		return i, Errorf("IncorrectInstanceState", "The instance '%s' is '%s'; an image is made of one that runs or is stopped", id, i.State)
	}
	return i, Errorf("InvalidParameterValue", "Instance is not in state 'running' or 'stopped': '%s' is '%s'", id, i.State)
}

// planImage returns the image of an instance and the snapshots it is of.
func (t *Tx) planImage(i Instance, p CreateImageParams) (img Image, snaps []Snapshot, err error) {
	base, _, err := Get[Image](t, i.ImageID) // it may be gone
	if err != nil {
		return img, nil, err
	}
	img = Image{
		ID: NewID("ami"), Name: p.Name, Description: p.Description, Owner: AccountID, Location: AccountID + "/" + p.Name,
		State: "pending", Arch: i.Arch, Virtualization: i.Virtualization, BootMode: base.BootMode, TPMSupport: base.TPMSupport,
		IMDSSupport: base.IMDSSupport, UEFIData: base.UEFIData, ENA: i.ENA, SriovNet: i.SriovNet, RootDevice: i.RootDevice,
		ProductCodes: base.ProductCodes, Platform: base.Platform, Created: t.Now, SourceInstance: i.ID,
		SourceImage: i.ImageID, SourceImageRegion: t.Region, Tags: p.ImageTags.Clone(),
	}
	if p.BootMode != "" {
		img.BootMode = p.BootMode
	}
	if err := img.checkPlatform(); err != nil {
		return img, nil, err
	}
	if i.RootVolume() == "" {
		return img, nil, Errorf("IncorrectState", "Instance %s does not have a volume attached at root (%s)", i.ID, i.RootDevice)
	}
	for _, d := range i.Devices {
		m, asked := mapping(p.Devices, d.Device)
		if asked && m.None {
			if d.Device == i.RootDevice {
				return img, nil, Errorf("InvalidBlockDeviceMapping", "The root device %s cannot be left out of an image", d.Device)
			}
			continue
		}
		v, err := t.FindVolume(d.Volume)
		if err != nil {
			return img, nil, err
		}
		s := newSnapshot(t, v, "Created by CreateImage("+i.ID+") for "+img.ID, p.SnapshotTags)
		spec := v.Spec
		spec.SnapshotID, spec.KMSKeyID, spec.DeleteOnTermination = s.ID, "", d.DeleteOnTermination
		if asked {
			if err := override(&spec, m, v); err != nil {
				return img, nil, err
			}
		}
		if del, asked := p.Delete[d.Device]; asked {
			spec.DeleteOnTermination = del
		}
		snaps = append(snaps, s)
		img.Devices = append(img.Devices, DeviceMapping{Device: d.Device, Volume: &spec})
	}
	for _, m := range p.Devices {
		if m.None || slices.ContainsFunc(i.Devices, func(d InstanceDevice) bool { return d.Device == m.Device }) {
			continue
		}
		if m, err = t.imageDevice(m); err != nil {
			return img, nil, err
		}
		img.Devices = append(img.Devices, m)
	}
	return img, snaps, nil
}

// override applies what a request says of the device of an attached volume:
// its size, snapshot and encryption are what they are.
func override(spec *VolumeSpec, m DeviceMapping, v Volume) error {
	if m.Volume == nil {
		return Errorf("InvalidBlockDeviceMapping", "The device %s is the volume %s; it cannot be %s", m.Device, v.ID, m.Virtual)
	}
	want := *m.Volume
	switch {
	case want.SizeGiB != 0 && want.SizeGiB != v.Spec.SizeGiB:
		return Errorf("InvalidBlockDeviceMapping", "The size of the volume at %s cannot be changed from %d to %d GiB in an image; modify the volume first", m.Device, v.Spec.SizeGiB, want.SizeGiB)
	case want.SnapshotID != "" && want.SnapshotID != v.SnapshotID:
		return Errorf("InvalidBlockDeviceMapping", "The snapshot of the volume at %s cannot be changed in an image", m.Device)
	case want.Encrypted && !v.Spec.Encrypted:
		return Errorf("InvalidBlockDeviceMapping", "The encryption of the volume at %s cannot be changed in an image; copy the image with encryption", m.Device)
	}
	if want.Type != "" && want.Type != spec.Type {
		spec.Type, spec.IOPS, spec.Throughput = want.Type, 0, 0
	}
	if want.IOPS != 0 {
		spec.IOPS = want.IOPS
	}
	if want.Throughput != 0 {
		spec.Throughput = want.Throughput
	}
	return checkPerformance(spec)
}
