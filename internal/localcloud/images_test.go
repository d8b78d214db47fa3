package localcloud

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"
)

// launch starts an instance of the base image with a data disk at /dev/sdf.
func launch(t *testing.T, c *Cloud, image string) Instance {
	t.Helper()
	size, del := int64(1), true
	is, err := c.RunInstances(limited(t), here, RunParams{Min: 1, Max: 1, Launch: LaunchSpec{
		ImageID: image, Type: "t3.micro",
		Devices: []LaunchDevice{{Device: "/dev/sdf", Volume: &LaunchVolume{SizeGiB: size, DeleteOnTermination: &del}}},
	}})
	ok(t, err)
	return awaitState(t, c, is[0].ID, "running")
}

func awaitState(t *testing.T, c *Cloud, id, state string) Instance {
	t.Helper()
	return await(t, c, here, id, func(i Instance) bool { return i.State == state && !i.Rebooting })
}

func stop(t *testing.T, c *Cloud, id string) {
	t.Helper()
	_, err := c.StopInstances(limited(t), here, StopParams{IDs: []string{id}})
	ok(t, err)
	awaitState(t, c, id, "stopped")
}

func TestImageOfStoppedInstance(t *testing.T) {
	c := testCloud(t)
	ctx := limited(t)
	source, _ := base(t, c)
	i := launch(t, c, source)
	stop(t, c, i.ID)
	scribble(t, c, here, i.Devices[0].Volume, "0x51", 3)
	scribble(t, c, here, i.Devices[1].Volume, "0x52", 4)
	img, err := c.CreateImage(ctx, here, CreateImageParams{
		Instance: i.ID, Name: "golden", Description: "d", ImageTags: Tags{"of": "image"}, SnapshotTags: Tags{"of": "snapshot"},
		Devices: []DeviceMapping{
			{Device: "/dev/sdf", Volume: &VolumeSpec{Type: "gp3"}},
			{Device: "/dev/sdg", Volume: &VolumeSpec{SizeGiB: 7, Type: "gp3"}},
			{Device: "/dev/sdb", Virtual: "ephemeral0"},
		},
		Delete: map[string]bool{"/dev/sdf": false},
	})
	ok(t, err)
	// It starts at once: what it writes then is not in the image.
	_, err = c.StartInstances(ctx, here, []string{i.ID})
	ok(t, err)
	awaitState(t, c, i.ID, "running")
	img = awaitImage(t, c, here, img.ID, "available")
	if len(img.Devices) != 4 || img.Tags["of"] != "image" || img.SourceInstance != i.ID || img.SourceImage != source || !img.ENA {
		t.Fatalf("%+v", img)
	}
	root, data := img.Devices[0].Volume, img.Devices[1].Volume
	if !root.DeleteOnTermination || data.DeleteOnTermination || data.Type != "gp3" || img.Devices[2].Volume.SizeGiB != 7 {
		t.Errorf("root %+v, data %+v", root, data)
	}
	s := awaitSnapshot(t, c, here, root.SnapshotID)
	holds(t, c, s, 0x51, 3)
	if s.Tags["of"] != "snapshot" {
		t.Errorf("%+v", s)
	}
	holds(t, c, awaitSnapshot(t, c, here, data.SnapshotID), 0x52, 4)
	wantCode(t, c.DeleteSnapshot(ctx, here, s.ID), "InvalidSnapshot.InUse")

	_, err = c.CreateImage(ctx, here, CreateImageParams{Instance: i.ID, Name: "golden"})
	wantCode(t, err, "InvalidAMIName.Duplicate")
	gone, err := c.DeregisterImage(ctx, here, img.ID, true)
	ok(t, err)
	if len(gone) != 2 || gone[0].Code != "success" || gone[1].Code != "success" {
		t.Errorf("%+v", gone)
	}
	_, err = c.FindImages(ctx, here, []string{img.ID})
	wantCode(t, err, "InvalidAMIID.Unavailable")
	_, err = c.DeregisterImage(ctx, here, img.ID, true)
	wantCode(t, err, "InvalidAMIID.Unavailable")
	all, err := c.Snapshots(ctx, here, nil)
	ok(t, err)
	if slices.ContainsFunc(all, func(s Snapshot) bool { return s.Owner == AccountID }) {
		t.Errorf("snapshots are left: %+v", all)
	}
}

func TestImageOfRunningInstance(t *testing.T) {
	for _, noReboot := range []bool{false, true} {
		c := testCloud(t)
		ctx := limited(t)
		source, _ := base(t, c)
		i := launch(t, c, source)
		img, err := c.CreateImage(ctx, here, CreateImageParams{
			Instance: i.ID, Name: "golden", NoReboot: noReboot, Devices: []DeviceMapping{{Device: "/dev/sdf", None: true}},
		})
		ok(t, err)
		if img.State != "pending" {
			t.Errorf("%+v", img)
		}
		img = awaitImage(t, c, here, img.ID, "available")
		if len(img.Devices) != 1 {
			t.Errorf("the device that was left out is there: %+v", img.Devices)
		}
		now := awaitState(t, c, i.ID, "running")
		if rebooted := string(now.Machine) != string(i.Machine); rebooted == noReboot {
			t.Errorf("NoReboot %t: rebooted %t", noReboot, rebooted)
		}
		if left, err := filepath.Glob(filepath.Join(c.dir, "captures", here, "*")); err != nil || len(left) > 0 {
			// The job removes its file after the image is available.
			ok(t, c.Await(ctx, here, func(*Tx) (bool, error) {
				left, err := filepath.Glob(filepath.Join(c.dir, "captures", here, "*"))
				return len(left) == 0, err
			}))
		}
		// An instance of the image starts from what was captured.
		ok(t, awaitLaunch(c, t, img.ID))
	}
}

func awaitLaunch(c *Cloud, t *testing.T, image string) error {
	is, err := c.RunInstances(limited(t), here, RunParams{Min: 1, Max: 1, Launch: LaunchSpec{ImageID: image, Type: "t3.micro"}})
	if err == nil {
		awaitState(t, c, is[0].ID, "running")
	}
	return err
}

// An image whose process died while the instance was off for it.
func TestImageAfterCrashWhileOff(t *testing.T) {
	c := idleCloud(t)
	ctx := limited(t)
	source, _ := base(t, c)
	is, err := c.RunInstances(ctx, here, RunParams{Min: 1, Max: 1, Launch: LaunchSpec{ImageID: source, Type: "t3.micro"}})
	ok(t, err)
	redo(t, c)
	i := awaitState(t, c, is[0].ID, "running")
	img, err := c.CreateImage(ctx, here, CreateImageParams{Instance: i.ID, Name: "golden"})
	ok(t, err)
	ok(t, c.markRebooting(ctx, here, i.ID))
	_, _, p, err := c.lookUp(ctx, here, i.ID)
	ok(t, err)
	ok(t, p.Kill(ctx))
	redo(t, c)
	awaitImage(t, c, here, img.ID, "available")
	now := awaitState(t, c, i.ID, "running")
	if string(now.Machine) == string(i.Machine) {
		t.Error("the machine was not started again")
	}
	ok(t, c.Shutdown(context.Background()))
}

func TestSnapshotsOfInstance(t *testing.T) {
	c := testCloud(t)
	ctx := limited(t)
	source, _ := base(t, c)
	i := launch(t, c, source)
	data := i.Devices[1].Volume
	all, err := c.CreateSnapshots(ctx, here, SnapshotsParams{Instance: i.ID, SnapshotParams: SnapshotParams{Description: "both"}})
	ok(t, err)
	if len(all) != 2 {
		t.Fatalf("%+v", all)
	}
	for _, s := range all {
		awaitSnapshot(t, c, here, s.ID)
	}
	all, err = c.CreateSnapshots(ctx, here, SnapshotsParams{Instance: i.ID, ExcludeBoot: true})
	ok(t, err)
	if len(all) != 1 || all[0].VolumeID != data {
		t.Errorf("%+v", all)
	}
	_, err = c.CreateSnapshots(ctx, here, SnapshotsParams{Instance: i.ID, ExcludeBoot: true, ExcludeData: []string{data}})
	wantCode(t, err, "InvalidParameterCombination")
	_, err = c.CreateSnapshots(ctx, here, SnapshotsParams{Instance: i.ID, ExcludeData: []string{"vol-0123456789abcdef0"}})
	wantCode(t, err, "InvalidParameterValue")
}

func TestAttachAndDetach(t *testing.T) {
	c := testCloud(t)
	ctx := limited(t)
	source, _ := base(t, c)
	i := launch(t, c, source)
	v, err := c.CreateVolume(ctx, here, VolumeParams{Zone: i.Zone, Spec: VolumeSpec{SizeGiB: 1}})
	ok(t, err)
	await(t, c, here, v.ID, func(v Volume) bool { return v.State == "available" })
	_, err = c.AttachVolume(ctx, here, v.ID, i.ID, "/dev/sdf")
	wantCode(t, err, "InvalidParameterValue")
	_, err = c.AttachVolume(ctx, here, v.ID, i.ID, "nonsense")
	wantCode(t, err, "InvalidParameterValue")
	at, err := c.AttachVolume(ctx, here, v.ID, i.ID, "/dev/sdh")
	ok(t, err)
	if at.State != "in-use" || at.AttachState != "attaching" {
		t.Errorf("%+v", at)
	}
	await(t, c, here, v.ID, func(v Volume) bool { return v.AttachState == "attached" })
	wantCode(t, c.DeleteVolume(ctx, here, v.ID), "VolumeInUse")
	_, err = c.DetachVolume(ctx, here, i.Devices[0].Volume, "", "")
	wantCode(t, err, "OperationNotPermitted")
	_, err = c.DetachVolume(ctx, here, v.ID, i.ID, "/dev/sdi")
	wantCode(t, err, "InvalidAttachment.NotFound")
	_, err = c.DetachVolume(ctx, here, v.ID, i.ID, "")
	ok(t, err)
	await(t, c, here, v.ID, func(v Volume) bool { return v.State == "available" && v.Instance == "" })
	stop(t, c, i.ID)
	_, err = c.AttachVolume(ctx, here, v.ID, i.ID, "/dev/sdh")
	ok(t, err)
	_, err = c.DetachVolume(ctx, here, v.ID, "", "")
	ok(t, err)
	other, err := c.CreateVolume(ctx, here, VolumeParams{Zone: otherZone(i.Zone), Spec: VolumeSpec{SizeGiB: 1}})
	ok(t, err)
	await(t, c, here, other.ID, func(v Volume) bool { return v.State == "available" })
	_, err = c.AttachVolume(ctx, here, other.ID, i.ID, "/dev/sdh")
	wantCode(t, err, "InvalidVolume.ZoneMismatch")
}

func otherZone(z string) string {
	if z == here+"a" {
		return here + "b"
	}
	return here + "a"
}

func TestRegisterImageIsStrict(t *testing.T) {
	c := testCloud(t)
	ctx := limited(t)
	_, snap := base(t, c)
	good := RegisterParams{
		Name: "mine", Arch: "x86_64", Virtualization: "hvm", RootDevice: "/dev/xvda", ENA: true,
		Devices: []DeviceMapping{{Device: "/dev/xvda", Volume: &VolumeSpec{SnapshotID: snap}}},
	}
	for name, tt := range map[string]struct {
		change func(*RegisterParams)
		code   string
	}{
		"no name":          {func(p *RegisterParams) { p.Name = "" }, "MissingParameter"},
		"short name":       {func(p *RegisterParams) { p.Name = "ab" }, "InvalidAMIName.Malformed"},
		"odd name":         {func(p *RegisterParams) { p.Name = "a:b:c" }, "InvalidAMIName.Malformed"},
		"no root":          {func(p *RegisterParams) { p.RootDevice = "" }, "MissingParameter"},
		"root not mapped":  {func(p *RegisterParams) { p.RootDevice = "/dev/sda1" }, "InvalidBlockDeviceMapping"},
		"unknown arch":     {func(p *RegisterParams) { p.Arch = "sparc" }, "InvalidParameterValue"},
		"paravirtual ENA":  {func(p *RegisterParams) { p.Virtualization = "" }, "InvalidParameterCombination"},
		"arm64 BIOS":       {func(p *RegisterParams) { p.Arch, p.BootMode = "arm64", "legacy-bios" }, "InvalidParameterCombination"},
		"TPM without UEFI": {func(p *RegisterParams) { p.TPMSupport = "v2.0" }, "InvalidParameterCombination"},
		"old IMDS":         {func(p *RegisterParams) { p.IMDSSupport = "v1.0" }, "InvalidParameterValue"},
		"UEFI data":        {func(p *RegisterParams) { p.BootMode, p.UEFIData = "uefi", "%" }, "InvalidParameterValue"},
		"unknown snapshot": {func(p *RegisterParams) {
			p.Devices = []DeviceMapping{{Device: "/dev/xvda", Volume: &VolumeSpec{SnapshotID: "snap-0123456789abcdef0"}}}
		}, "InvalidSnapshot.NotFound"},
		"too small": {func(p *RegisterParams) {
			p.Devices = append(p.Devices, DeviceMapping{Device: "/dev/sdf", Volume: &VolumeSpec{SizeGiB: 20000, Type: "gp2"}})
		}, "InvalidParameterValue"},
		"twice": {func(p *RegisterParams) { p.Devices = append(p.Devices, p.Devices[0]) }, "InvalidBlockDeviceMapping"},
		"encrypted": {func(p *RegisterParams) {
			p.Devices = []DeviceMapping{{Device: "/dev/xvda", Volume: &VolumeSpec{SnapshotID: snap, Encrypted: true}}}
		}, "InvalidBlockDeviceMapping"},
	} {
		p := good
		p.Devices = slices.Clone(good.Devices)
		tt.change(&p)
		if _, err := c.RegisterImage(ctx, here, p); CodeOf(err) != tt.code {
			t.Errorf("%s: %v, want %s", name, err, tt.code)
		}
	}
	i, err := c.RegisterImage(ctx, here, good)
	ok(t, err)
	if i.State != "available" || i.Devices[0].Volume.SizeGiB != 1 {
		t.Errorf("%+v", i)
	}
	good.Name, good.Arch, good.Virtualization, good.ENA = "plain", "", "", false
	if i, err = c.RegisterImage(ctx, here, good); err != nil || i.Arch != "i386" || i.Virtualization != "paravirtual" {
		t.Errorf("%+v, %v", i, err)
	}
}

func TestCopies(t *testing.T) {
	c := testCloud(t)
	ctx := limited(t)
	source, snap := base(t, c)
	p := CopyImageParams{SourceRegion: here, SourceImage: source, Name: "copy", ClientToken: "t", Encrypted: true, ImageTags: Tags{"a": "b"}}
	i, err := c.CopyImage(ctx, there, p)
	ok(t, err)
	again, err := c.CopyImage(ctx, there, p)
	ok(t, err)
	if again.ID != i.ID || i.State != "pending" {
		t.Errorf("%s %s, then %s", i.ID, i.State, again.ID)
	}
	i = awaitImage(t, c, there, i.ID, "available")
	s := awaitSnapshot(t, c, there, i.Devices[0].Volume.SnapshotID)
	layer, err := c.FindSnapshotLayer(ctx, here, snap)
	ok(t, err)
	if s.Layer != layer || !s.Encrypted || s.KMSKeyID == "" || i.Owner != AccountID || i.Public || i.Tags["a"] != "b" || !i.Devices[0].Volume.Encrypted {
		t.Errorf("%+v\n%+v", i, s)
	}
	for key, code := range map[string]string{"": "InvalidParameter", "alias/mine": ""} {
		mine, err := c.CopyImage(ctx, there, CopyImageParams{SourceRegion: here, SourceImage: source, Name: "key " + key, Encrypted: true, KMSKeyID: key})
		ok(t, err)
		mine = awaitImage(t, c, there, mine.ID, "available")
		_, err = c.ChangeImage(ctx, there, mine.ID, func(tx *Tx, i *Image) error { return tx.ShareImage(i, Sharing{AddUsers: []string{"111122223333"}}) })
		wantCode(t, err, code)
		wantCode(t, c.ShareSnapshot(ctx, there, mine.Devices[0].Volume.SnapshotID, Sharing{AddUsers: []string{"111122223333"}}), code)
		wantCode(t, c.ShareSnapshot(ctx, there, mine.Devices[0].Volume.SnapshotID, Sharing{AddGroups: []string{"all"}}), "InvalidParameter")
	}
	_, err = c.CopyImage(ctx, there, CopyImageParams{SourceRegion: "mars", SourceImage: source, Name: "other"})
	wantCode(t, err, "InvalidParameterValue")
	_, err = c.CopyImage(ctx, there, CopyImageParams{SourceRegion: here, SourceImage: "ami-0123456789abcdef0", Name: "other"})
	wantCode(t, err, "InvalidAMIID.NotFound")

	// A copy that fails late, and one that is withdrawn while it is pending.
	ok(t, c.SetSettings(ctx, Settings{CopyFails: map[string]string{there: "Client.InvalidKey: no such key"}}))
	i, err = c.CopyImage(ctx, there, CopyImageParams{SourceRegion: here, SourceImage: source, Name: "late"})
	ok(t, err)
	i = awaitImage(t, c, there, i.ID, "failed")
	if i.Reason != "Client.InvalidKey: no such key" {
		t.Errorf("%+v", i)
	}
	await(t, c, there, i.Devices[0].Volume.SnapshotID, func(s Snapshot) bool { return s.State == "error" })
	ok(t, c.SetSettings(ctx, Settings{CopyPending: time.Hour}))
	i, err = c.CopyImage(ctx, there, CopyImageParams{SourceRegion: here, SourceImage: source, Name: "late"})
	ok(t, err)
	_, err = c.CopyImage(ctx, here, CopyImageParams{SourceRegion: there, SourceImage: i.ID, Name: "of a pending one"})
	wantCode(t, err, "InvalidAMIID.Unavailable")
	_, err = c.DeregisterImage(ctx, there, i.ID, true)
	ok(t, err)
	_, err = c.CopyImage(ctx, there, CopyImageParams{SourceRegion: here, SourceImage: source, Name: "late"})
	ok(t, err)
}

func TestCopySnapshot(t *testing.T) {
	c := testCloud(t)
	ctx := limited(t)
	_, snap := base(t, c)
	s, err := c.CopySnapshot(ctx, there, CopySnapshotParams{SourceRegion: here, Source: snap, SnapshotParams: SnapshotParams{Tags: Tags{"x": "y"}}})
	ok(t, err)
	s = awaitSnapshot(t, c, there, s.ID)
	layer, err := c.FindSnapshotLayer(ctx, here, snap)
	ok(t, err)
	if s.Layer != layer || s.Tags["x"] != "y" || s.Encrypted {
		t.Errorf("%+v", s)
	}
	_, err = c.CopySnapshot(ctx, there, CopySnapshotParams{SourceRegion: here, Source: snap, Minutes: 17})
	wantCode(t, err, "InvalidParameterValue")
}

func TestPendingTakesItsTime(t *testing.T) {
	c := idleCloud(t)
	ctx := limited(t)
	_, snap := base(t, c)
	ok(t, c.SetSettings(ctx, Settings{ImagePending: time.Hour}))
	i, err := c.RegisterImage(ctx, here, RegisterParams{
		Name: "slow", Arch: "x86_64", Virtualization: "hvm", RootDevice: "/dev/xvda",
		Devices: []DeviceMapping{{Device: "/dev/xvda", Volume: &VolumeSpec{SnapshotID: snap}}},
	})
	ok(t, err)
	if i.State != "pending" {
		t.Errorf("%+v", i)
	}
	later := time.Now().Add(2 * time.Hour)
	c.now = func() time.Time { return later }
	c.store.now = c.now
	for range 2 { // as after a crash between the work and its record
		ok(t, c.imageSettle(ctx, Job{ID: "job-1", Region: here, Target: i.ID}))
	}
	awaitImage(t, c, here, i.ID, "available")
}

func TestProtectionOfImages(t *testing.T) {
	c := testCloud(t)
	ctx := limited(t)
	source, snap := base(t, c)
	i, err := c.RegisterImage(ctx, here, RegisterParams{
		Name: "kept", Arch: "x86_64", Virtualization: "hvm", RootDevice: "/dev/xvda",
		Devices: []DeviceMapping{{Device: "/dev/xvda", Volume: &VolumeSpec{SnapshotID: snap}}},
	})
	ok(t, err)
	_, err = c.ProtectImage(ctx, here, i.ID, true, true)
	ok(t, err)
	_, err = c.DeregisterImage(ctx, here, i.ID, false)
	wantCode(t, err, "OperationNotPermitted")
	state, err := c.ProtectImage(ctx, here, i.ID, false, false)
	if err != nil || state != "disabled" {
		t.Errorf("%s, %v", state, err)
	}
	_, err = c.DeregisterImage(ctx, here, i.ID, false) // the cooldown
	wantCode(t, err, "OperationNotPermitted")
	_, err = c.DeregisterImage(ctx, here, source, false)
	wantCode(t, err, "AuthFailure")
	wantCode(t, c.DeprecateImage(ctx, here, i.ID, time.Now().Add(-time.Hour)), "InvalidParameterValue")
	ok(t, c.DeprecateImage(ctx, here, i.ID, time.Now().Add(time.Hour)))
	ok(t, c.DisableImage(ctx, here, i.ID))
	_, err = c.CopyImage(ctx, there, CopyImageParams{SourceRegion: here, SourceImage: i.ID, Name: "of a disabled one"})
	wantCode(t, err, "InvalidAMIID.Unavailable")
	ok(t, c.EnableImage(ctx, here, i.ID))
}

func TestCollectKeepsWhatIsNeeded(t *testing.T) {
	c := testCloud(t)
	ctx := limited(t)
	_, snap := base(t, c)
	v, err := c.CreateVolume(ctx, here, VolumeParams{Zone: here + "a", Spec: VolumeSpec{SnapshotID: snap}})
	ok(t, err)
	await(t, c, here, v.ID, func(v Volume) bool { return v.State == "available" })
	scribble(t, c, here, v.ID, "0x61", 1)
	kept, err := c.CreateSnapshot(ctx, here, v.ID, SnapshotParams{})
	ok(t, err)
	awaitSnapshot(t, c, here, kept.ID)
	scribble(t, c, here, v.ID, "0x62", 1)
	dropped, err := c.CreateSnapshot(ctx, here, v.ID, SnapshotParams{})
	ok(t, err)
	dropped = awaitSnapshot(t, c, here, dropped.ID)
	ok(t, c.DeleteSnapshot(ctx, here, dropped.ID))
	n, _, err := c.Collect(ctx)
	ok(t, err)
	if n != 1 {
		t.Errorf("%d layers were removed, want 1", n)
	}
	if _, err := os.Stat(c.images.Path(dropped.Layer)); err == nil {
		t.Error("the layer of a deleted snapshot is still there")
	}
	holds(t, c, awaitSnapshot(t, c, here, kept.ID), 0x61, 1)
}
