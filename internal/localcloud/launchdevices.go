package localcloud

// A plannedDevice is a volume that each instance of a launch gets.
type plannedDevice struct {
	device string
	spec   VolumeSpec
	snap   Snapshot
}

// planDevices joins the block devices of an image with those of a launch and
// checks the volumes. Instance stores are accepted and not there: no type of
// the local cloud has any.
func (t *Tx) planDevices(i Image, asked []LaunchDevice) ([]plannedDevice, error) {
	var all []DeviceMapping
	for _, m := range i.Devices {
		if m.Volume != nil {
			v := *m.Volume
			m.Volume = &v
		}
		all = append(all, m)
	}
	maps := make([]DeviceMapping, 0, len(asked))
	for _, d := range asked {
		m := DeviceMapping{Device: d.Device, Virtual: d.Virtual, None: d.None}
		if d.Volume != nil {
			m.Volume = &VolumeSpec{}
		}
		maps = append(maps, m)
	}
	if err := CheckMappings(maps); err != nil {
		return nil, err
	}
	for _, d := range asked {
		root := d.Device == i.RootDevice
		if root && d.Volume == nil {
			return nil, Errorf("InvalidBlockDeviceMapping", "The root device %s must be an EBS volume", d.Device)
		}
		at := -1
		for n := range all {
			if all[n].Device == d.Device {
				at = n
			}
		}
		if at < 0 {
			if d.None {
				continue // nothing to leave out, as EC2 sees it
			}
			all = append(all, DeviceMapping{Device: d.Device})
			at = len(all) - 1
		}
		if d.Volume == nil {
			all[at] = DeviceMapping{Device: d.Device, Virtual: d.Virtual, None: d.None}
			continue
		}
		if all[at].Volume == nil {
			all[at] = DeviceMapping{Device: d.Device, Volume: &VolumeSpec{}}
		}
		if err := d.Volume.over(all[at].Volume, root); err != nil {
			return nil, err
		}
	}
	var out []plannedDevice
	for _, m := range all {
		if m.Volume == nil {
			continue
		}
		spec, snap, err := t.ResolveVolume(*m.Volume)
		if err != nil {
			return nil, err
		}
		p := plannedDevice{device: m.Device, spec: spec, snap: snap}
		if m.Device == i.RootDevice { // the root device is the first
			out = append([]plannedDevice{p}, out...)
		} else {
			out = append(out, p)
		}
	}
	if len(out) == 0 || out[0].device != i.RootDevice {
		return nil, Errorf("InvalidParameterValue", "The image %s has no volume at its root device %s", i.ID, i.RootDevice)
	}
	return out, nil
}

// over changes the volume of an image's device as a launch says.
func (v *LaunchVolume) over(to *VolumeSpec, root bool) error {
	if v.SnapshotID != "" && v.SnapshotID != to.SnapshotID {
		if root {
			return Errorf("InvalidBlockDeviceMapping", "snapshotId cannot be modified on root device")
		}
		to.SnapshotID = v.SnapshotID
		if v.SizeGiB == 0 {
			to.SizeGiB = 0 // that of the new snapshot
		}
	}
	if v.Type != "" && v.Type != to.Type {
		to.Type, to.IOPS, to.Throughput = v.Type, 0, 0 // they were of the other type
	}
	to.SizeGiB = or(v.SizeGiB, to.SizeGiB)
	to.IOPS = or(v.IOPS, to.IOPS)
	to.Throughput = or(v.Throughput, to.Throughput)
	to.KMSKeyID = or(v.KMSKeyID, to.KMSKeyID)
	if v.InitializationRate != 0 && (v.InitializationRate < 100 || v.InitializationRate > 300 || to.SnapshotID == "") {
		return Errorf("InvalidParameterValue", "Value (%d) for parameter volumeInitializationRate is invalid. It is 100 to 300 MiB/s, of a volume with a snapshot", v.InitializationRate)
	}
	if v.Encrypted != nil {
		if !*v.Encrypted && to.Encrypted {
			return Errorf("InvalidParameterDependency", "The volume of an encrypted snapshot cannot be unencrypted")
		}
		to.Encrypted = *v.Encrypted
	}
	if v.DeleteOnTermination != nil {
		to.DeleteOnTermination = *v.DeleteOnTermination
	}
	return nil
}
