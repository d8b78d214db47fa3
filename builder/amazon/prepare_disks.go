package amazon

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

var ephemeral = regexp.MustCompile(`^ephemeral[0-9]+$`)

// limits of a volume type
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EbsBlockDevice.html).
type volumeLimits struct{ minIOPS, maxIOPS, ratio int }

var iopsLimits = map[string]volumeLimits{
	"io1": {100, 64000, 50},
	"io2": {100, 64000, 500},
	"gp3": {3000, 16000, 500},
}

func (b BlockDevice) check(f *faults, path string) {
	if b.DeviceName == "" {
		f.fields([]string{path + ".device_name", path}, "must be set, such as /dev/sda1")
	}
	checkVolume(f, path, b.Type, b.Size, b.IOPS, b.Throughput)
	if b.KMSKey != "" && (b.Encrypted == nil || !*b.Encrypted) {
		f.fields([]string{path + ".kms_key_id", path + ".encrypted"}, "needs encrypted = true")
	}
	if b.SnapshotID != "" && !strings.HasPrefix(b.SnapshotID, "snap-") {
		f.field(path+".snapshot_id", "%q is not the id of a snapshot, such as snap-0123456789abcdef0", b.SnapshotID)
	}
	if b.VirtualName != "" && !ephemeral.MatchString(b.VirtualName) {
		f.field(path+".virtual_name", "%q is not of the form ephemeral0", b.VirtualName)
	}
	f.only(map[string]bool{path + ".no_device": b.NoDevice, path + ".virtual_name": b.VirtualName != ""})
	if b.NoDevice && (b.Size != 0 || b.Type != "" || b.SnapshotID != "" || b.Encrypted != nil) {
		f.fields([]string{path + ".no_device", path + ".volume_size", path + ".volume_type", path + ".snapshot_id", path + ".encrypted"},
			"leaves the device out: nothing else of it can be set")
	}
}

func checkVolume(f *faults, path, typ string, size, iops, throughput int) {
	f.oneOf(path+".volume_type", typ, "standard", "gp2", "gp3", "io1", "io2", "sc1", "st1")
	if size < 0 || size > 65536 {
		f.field(path+".volume_size", "is 1 to 65536 GiB, not %d", size)
	}
	if iops != 0 {
		l, ok := iopsLimits[typ]
		both := []string{path + ".iops", path + ".volume_type"}
		switch {
		case !ok:
			f.fields(both, "is for volumes of the types io1, io2 and gp3 only")
		case iops < l.minIOPS || iops > l.maxIOPS:
			f.fields(both, "of a volume of the type %s is %d to %d, not %d", typ, l.minIOPS, l.maxIOPS, iops)
		case size > 0 && iops > size*l.ratio && iops > l.minIOPS:
			f.fields(append(both, path+".volume_size"), "of a volume of the type %s is %d a GiB at most: %d for %d GiB, not %d", typ, l.ratio, size*l.ratio, size, iops)
		}
	} else if typ == "io1" || typ == "io2" {
		f.fields([]string{path + ".iops", path + ".volume_type"}, "must be set for a volume of the type %s", typ)
	}
	if throughput != 0 {
		both := []string{path + ".throughput", path + ".volume_type"}
		switch {
		case typ != "gp3":
			f.fields(both, "is for volumes of the type gp3 only")
		case throughput < 125 || throughput > 1000:
			f.fields(both, "is 125 to 1000 MiB/s, not %d", throughput)
		}
	}
}

func checkMappings(f *faults, opt string, list []BlockDevice) {
	seen := map[string]bool{}
	for i, b := range list {
		path := fmt.Sprintf("%s[%d]", opt, i)
		b.check(f, path)
		if b.DeviceName != "" && seen[b.DeviceName] {
			f.field(path+".device_name", "%s is there already", b.DeviceName)
		}
		seen[b.DeviceName] = true
	}
}

func (c *EBSConfig) prepare(f *faults, r renderer) {
	f.add(c.Access.Prepare())
	c.RunOptions.prepare(f, &c.Comm)
	if c.SkipCreateAMI && c.AMIName == "" {
		c.AMIName = "not-made" // nobody sees it
	}
	c.ImageOptions.prepare(f, r, c.Access.Region)
	checkMappings(f, "ami_block_device_mappings", c.AMIMappings)
	checkMappings(f, "launch_block_device_mappings", c.LaunchMappings)
	checkTags(f, "run_volume_tags", c.RunVolumeTags, "run_volume_tag", c.RunVolumeTagEntries)
	c.FastLaunch.prepare(f, c.Regions, c.Access.Region)
	if c.SkipCreateAMI && len(c.Regions) > 0 {
		f.warn([]string{"ami_regions", "skip_create_ami"}, "has no effect with skip_create_ami")
	}
}

func (l *FastLaunch) prepare(f *faults, regions []string, buildRegion string) {
	if l == nil {
		return
	}
	const opt = "fast_launch"
	if l.TemplateID != "" || l.TemplateName != "" || l.TemplateVersion != 0 || l.MaxParallel != 0 || l.TargetCount != 0 {
		l.Enable = true
	}
	template := func(path, id, name string, version int) {
		f.only(map[string]bool{path + ".template_id": id != "", path + ".template_name": name != ""})
		if version != 0 && id == "" && name == "" {
			f.fields([]string{path + ".template_version", path + ".template_id", path + ".template_name"}, "needs template_id or template_name")
		}
		if version < 0 {
			f.field(path+".template_version", "must not be negative")
		}
	}
	template(opt, l.TemplateID, l.TemplateName, l.TemplateVersion)
	if l.MaxParallel != 0 && l.MaxParallel < 6 {
		f.field(opt+".max_parallel_launches", "is 6 at least, not %d", l.MaxParallel)
	}
	if l.TargetCount < 0 {
		f.field(opt+".target_resource_count", "must not be negative")
	}
	for i, r := range l.Regions {
		path := fmt.Sprintf("%s.region_launch_templates[%d]", opt, i)
		switch {
		case r.Region == "":
			f.fields([]string{path + ".region", path}, "must be set")
		case buildRegion != "" && r.Region != buildRegion && !slices.Contains(regions, r.Region):
			f.fields([]string{path + ".region", "ami_regions"}, "region %q is neither the build region nor in ami_regions", r.Region)
		}
		template(path, r.TemplateID, r.TemplateName, r.TemplateVersion)
		if r.Enable == nil || *r.Enable {
			l.Enable = true
		}
	}
}

func (c *SurrogateConfig) prepare(f *faults, r renderer) {
	f.add(c.Access.Prepare())
	c.RunOptions.prepare(f, &c.Comm)
	c.ImageOptions.prepare(f, r, c.Access.Region)
	if c.Virtualization == "" {
		f.field("ami_virtualization_type", "must be set")
	}
	checkMappings(f, "ami_block_device_mappings", c.AMIMappings)
	checkMappings(f, "launch_block_device_mappings", c.launch())
	checkTags(f, "run_volume_tags", c.RunVolumeTags, "run_volume_tag", c.RunVolumeTagEntries)
	const root = "ami_root_device"
	d := c.RootDevice
	if d.Source == "" {
		f.fields([]string{root + ".source_device_name", root}, "must be set: the disk that becomes the root of the image")
	}
	if d.DeviceName == "" {
		f.fields([]string{root + ".device_name", root}, "must be set, such as /dev/xvda")
	}
	checkVolume(f, root, d.Type, d.Size, d.IOPS, d.Throughput)
	found := slices.IndexFunc(c.LaunchMappings, func(b LaunchBlockDevice) bool { return b.DeviceName == d.Source })
	paths := []string{root + ".source_device_name", "launch_block_device_mappings"}
	switch {
	case d.Source == "":
	case found < 0:
		f.fields(paths, "%s is not in launch_block_device_mappings", d.Source)
	case c.LaunchMappings[found].Omit:
		f.fields(append(paths, fmt.Sprintf("launch_block_device_mappings[%d].omit_from_artifact", found)), "%s is left out of the image by omit_from_artifact", d.Source)
	}
	f.oneOf("ami_architecture", c.Architecture, "x86_64", "arm64", "i386", "arm64_mac", "x86_64_mac")
	f.oneOf("boot_mode", c.BootMode, "legacy-bios", "uefi", "uefi-preferred")
	f.oneOf("tpm_support", c.TPMSupport, "v2.0")
	if c.TPMSupport != "" && c.BootMode != "uefi" && c.BootMode != "" {
		f.fields([]string{"tpm_support", "boot_mode"}, `needs boot_mode = "uefi"`)
	}
	if c.UEFIData != "" && c.BootMode == "legacy-bios" {
		f.fields([]string{"uefi_data", "boot_mode"}, `needs boot_mode = "uefi" or "uefi-preferred"`)
	}
	if c.UseCreateImage {
		for opt, on := range map[string]bool{
			"boot_mode": c.BootMode != "", "uefi_data": c.UEFIData != "", "tpm_support": c.TPMSupport != "", "ami_architecture": c.Architecture != "",
		} {
			if on {
				f.fields([]string{opt, "use_create_image"}, "has no effect with use_create_image: the image takes it from the instance")
			}
		}
	}
}

// launch are the disks of the instance.
func (c *SurrogateConfig) launch() []BlockDevice {
	var out []BlockDevice
	for _, b := range c.LaunchMappings {
		out = append(out, b.BlockDevice)
	}
	return out
}

func (c *VolumeConfig) prepare(f *faults) {
	f.add(c.Access.Prepare())
	c.RunOptions.prepare(f, &c.Comm)
	checkMappings(f, "ebs_volumes", c.launch())
	checkTags(f, "run_volume_tags", c.RunVolumeTags, "run_volume_tag", c.RunVolumeTagEntries)
	for i, v := range c.Volumes {
		path := fmt.Sprintf("ebs_volumes[%d]", i)
		checkTags(f, path+".tags", v.Tags, path+".tag", v.TagEntries)
		checkTags(f, path+".snapshot_tags", v.SnapshotTags, path+".snapshot_tag", v.SnapshotTagEntries)
		sub := ImageOptions{SnapshotUsers: v.SnapshotUsers, SnapshotGroups: v.SnapshotGroups}
		var sf faults
		sub.prepareSharing(&sf)
		for _, err := range sf.errs {
			f.fields([]string{path}, "%w", err)
		}
		extras := len(v.SnapshotTags)+len(v.SnapshotTagEntries)+len(v.SnapshotUsers)+len(v.SnapshotGroups) > 0 || v.SnapshotDescription != ""
		if extras && !v.Snapshot {
			f.warn([]string{path, path + ".snapshot_volume"}, "what is said of the snapshot has an effect with snapshot_volume = true only")
		}
		if v.NoDevice && v.Snapshot {
			f.fields([]string{path + ".snapshot_volume", path + ".no_device"}, "there is no volume to make a snapshot of")
		}
	}
}

// launch are the disks of the instance.
func (c *VolumeConfig) launch() []BlockDevice {
	var out []BlockDevice
	for _, v := range c.Volumes {
		out = append(out, v.BlockDevice)
	}
	return out
}
