package localcloud

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/ingot-build/ingot/internal/imagestore"
)

// pending returns the jobs of a cloud in which nobody works.
func pending(t *testing.T, c *Cloud) (jobs []Job) {
	t.Helper()
	ok(t, c.View(limited(t), "", func(tx *Tx) (err error) {
		jobs, err = All[Job](tx)
		return err
	}))
	return jobs
}

// redo does every job that is due as a process does that dies before it writes
// that it did: twice, and then once more for good.
func redo(t *testing.T, c *Cloud) {
	t.Helper()
	// A job may ask for another.
	for n := 0; n < 10; n++ {
		left := 0
		for _, j := range pending(t, c) {
			if j.After.After(c.now()) {
				continue
			}
			left++
			for range 2 {
				ok(t, c.handlers[j.Kind](limited(t), j))
				ok(t, c.Update(limited(t), "", func(tx *Tx) error { return Put(tx, j) }))
			}
			ok(t, c.do(limited(t), j))
		}
		if left == 0 {
			return
		}
	}
	t.Errorf("jobs are left: %+v", pending(t, c))
}

func TestJobsMayBeDoneAgain(t *testing.T) {
	c := idleCloud(t)
	ctx := limited(t)
	source, snap := base(t, c)
	v, err := c.CreateVolume(ctx, here, VolumeParams{Zone: here + "a", Spec: VolumeSpec{SnapshotID: snap}})
	ok(t, err)
	redo(t, c)
	scribble(t, c, here, v.ID, "0x71", 1)
	s, err := c.CreateSnapshot(ctx, here, v.ID, SnapshotParams{})
	ok(t, err)
	cp, err := c.CopyImage(ctx, there, CopyImageParams{SourceRegion: here, SourceImage: source, Name: "copy"})
	ok(t, err)
	cs, err := c.CopySnapshot(ctx, there, CopySnapshotParams{SourceRegion: here, Source: snap})
	ok(t, err)
	redo(t, c)
	holds(t, c, awaitSnapshot(t, c, here, s.ID), 0x71, 1)
	awaitImage(t, c, there, cp.ID, "available")
	awaitSnapshot(t, c, there, cs.ID)
	// A snapshot that is deleted before its job, and a volume before its disk.
	s, err = c.CreateSnapshot(ctx, here, v.ID, SnapshotParams{})
	ok(t, err)
	ok(t, c.DeleteSnapshot(ctx, here, s.ID))
	ok(t, c.DeleteVolume(ctx, here, v.ID))
	redo(t, c)
	awaitGone[Volume](t, c, here, v.ID)
}

// upload begins a snapshot of 1 GiB and writes blocks, each of one byte.
func upload(t *testing.T, c *Cloud, parent string, blocks map[int64]byte) (Snapshot, string) {
	t.Helper()
	ctx := limited(t)
	s, err := c.StartSnapshot(ctx, here, UploadParams{SizeGiB: 1, Parent: parent})
	ok(t, err)
	u, err := c.OpenUpload(ctx, s)
	ok(t, err)
	for i, b := range blocks {
		data := bytes.Repeat([]byte{b}, imagestore.BlockSize)
		ok(t, u.Write(i, data, sha256.Sum256(data)))
		ok(t, u.Write(i, data, sha256.Sum256(data)))
	}
	n, sum, err := u.Sum()
	ok(t, err)
	if n != len(blocks) {
		t.Errorf("%d blocks, want %d", n, len(blocks))
	}
	ok(t, u.Close())
	return s, sum
}

func TestUploadSurvivesItsProcess(t *testing.T) {
	c := idleCloud(t)
	ctx := limited(t)
	s, sum := upload(t, c, "", map[int64]byte{3: 0x31, 5: 0x35})
	// Another process goes on with what the first one wrote.
	other, err := Open(context.Background(), Config{Dir: c.dir, Machines: c.machines})
	ok(t, err)
	u, err := other.OpenUpload(ctx, s)
	ok(t, err)
	if n, again, err := u.Sum(); err != nil || n != 2 || again != sum {
		t.Errorf("%d blocks with the sum %s: %v", n, again, err)
	}
	var busy *imagestore.BusyError
	if _, err := c.OpenUpload(ctx, s); !errors.As(err, &busy) {
		t.Errorf("two processes write to one upload: %v", err)
	}
	data := bytes.Repeat([]byte{0x37}, imagestore.BlockSize)
	ok(t, u.Write(8, data, sha256.Sum256(data)))
	ok(t, u.Close())
	_, err = c.FinishUpload(ctx, here, s.ID)
	ok(t, err)
	redo(t, c)
	s = awaitSnapshot(t, c, here, s.ID)
	holds(t, c, s, 0x37, 4)
	if _, err := os.Stat(c.sumsPath(s.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the sums of a finished upload are left: %v", err)
	}
	// Over a parent only what differs is kept.
	next, _ := upload(t, c, s.ID, map[int64]byte{3: 0x31, 9: 0x39})
	_, err = c.FinishUpload(ctx, here, next.ID)
	ok(t, err)
	redo(t, c)
	next = awaitSnapshot(t, c, here, next.ID)
	if l, err := c.images.Stat(next.Layer); err != nil || l.Parent != s.Layer || l.Bytes > 2*imagestore.BlockSize {
		t.Errorf("%+v, %v", l, err)
	}
	if yes, err := c.Related(ctx, here, s, next); err != nil || !yes {
		t.Errorf("a snapshot is not related to its parent: %v", err)
	}
	strange, _ := upload(t, c, "", map[int64]byte{1: 9})
	_, err = c.FinishUpload(ctx, here, strange.ID)
	ok(t, err)
	redo(t, c)
	if yes, err := c.Related(ctx, here, awaitSnapshot(t, c, here, strange.ID), next); err != nil || yes {
		t.Errorf("unrelated snapshots are related: %v", err)
	}
	// One that is deleted leaves nothing.
	dropped, _ := upload(t, c, s.ID, map[int64]byte{1: 1})
	ok(t, c.DeleteSnapshot(ctx, here, dropped.ID))
	redo(t, c)
	var gone *imagestore.NotFoundError
	if _, err := c.images.OpenUpload(dropped.ID); !errors.As(err, &gone) {
		t.Errorf("the upload of a deleted snapshot: %v", err)
	}
}

func TestUploadIsGivenUp(t *testing.T) {
	c := idleCloud(t)
	s, _ := upload(t, c, "", map[int64]byte{1: 1})
	later := c.now().Add(2 * s.uploadTimeout())
	c.now = nowAt(later)
	c.store.now = c.now
	redo(t, c)
	s = await(t, c, here, s.ID, func(s Snapshot) bool { return s.State == "error" })
	if s.StateMessage == "" {
		t.Errorf("%+v", s)
	}
	redo(t, c)
}

// object stores a file in the bucket "disks".
func object(t *testing.T, c *Cloud, key string, data []byte) {
	t.Helper()
	ctx := limited(t)
	ok(t, c.Update(ctx, "", func(tx *Tx) error { return Put(tx, Bucket{Name: "disks", Region: here}) }))
	o, err := c.StoreObject(ctx, bytes.NewReader(data))
	ok(t, err)
	o.Bucket, o.Key = "disks", key
	ok(t, c.PutObject(ctx, o))
}

func TestImports(t *testing.T) {
	c := idleCloud(t)
	ctx := limited(t)
	dir := t.TempDir()
	raw := filepath.Join(dir, "disk.raw")
	disk := bytes.Repeat([]byte{0x5a}, 3<<20)
	ok(t, os.WriteFile(raw, disk, 0o600))
	files := map[string][]byte{"RAW": disk}
	for format, args := range map[string][]string{
		"VMDK": {"-O", "vmdk", "-o", "subformat=streamOptimized"}, "VHD": {"-O", "vpc"}, "VHDX": {"-O", "vhdx"},
	} {
		out := filepath.Join(dir, format)
		if msg, err := exec.Command("qemu-img", append(append([]string{"convert", "-f", "raw"}, args...), raw, out)...).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, msg)
		}
		data, err := os.ReadFile(out)
		ok(t, err)
		files[format] = data
	}
	var ova bytes.Buffer
	w := tar.NewWriter(&ova)
	for _, f := range []struct {
		name string
		data []byte
	}{{"a.ovf", []byte("<Envelope/>")}, {"a-disk1.vmdk", files["VMDK"]}, {"a-disk2.vmdk", files["VMDK"]}} {
		ok(t, w.WriteHeader(&tar.Header{Name: f.name, Mode: 0o600, Size: int64(len(f.data))}))
		_, err := w.Write(f.data)
		ok(t, err)
	}
	ok(t, w.Close())
	files["OVA"] = ova.Bytes()
	for format, data := range files {
		object(t, c, "a."+format, data)
		task, err := c.Import(ctx, here, ImportParams{Image: true, Task: ImportTask{
			Arch: "x86_64", Platform: "Linux", Disks: []ImportDisk{{Bucket: "disks", Key: "a." + format}},
		}})
		ok(t, err)
		redo(t, c)
		task = await(t, c, here, task.ID, func(i ImportTask) bool { return i.Status != "active" })
		if task.Status != "completed" {
			t.Errorf("%s: %+v", format, task)
			continue
		}
		img := awaitImage(t, c, here, task.ImageID, "available")
		disks := 1
		if format == "OVA" {
			disks = 2
		}
		if len(img.Devices) != disks || img.RootDevice != "/dev/sda1" || img.Virtualization != "hvm" {
			t.Errorf("%s: %+v", format, img)
		}
		for _, d := range img.Devices {
			holds(t, c, awaitSnapshot(t, c, here, d.Volume.SnapshotID), 0x5a, 2)
		}
	}

	task, err := c.Import(ctx, here, ImportParams{Task: ImportTask{Disks: []ImportDisk{{URL: "s3://disks/a.VMDK"}}, Tags: Tags{"a": "b"}}})
	ok(t, err)
	redo(t, c)
	task = await(t, c, here, task.ID, func(i ImportTask) bool { return i.Status == "completed" })
	holds(t, c, awaitSnapshot(t, c, here, task.Disks[0].SnapshotID), 0x5a, 1)

	// A descriptor that names a file of this machine, and what is no disk.
	object(t, c, "evil.vmdk", []byte("# Disk DescriptorFile\nRW 8 FLAT \"/etc/passwd\" 0\n"))
	object(t, c, "no.ova", []byte("not a tar archive"))
	for _, key := range []string{"evil.vmdk", "no.ova"} {
		task, err := c.Import(ctx, here, ImportParams{Image: true, Task: ImportTask{Disks: []ImportDisk{{Bucket: "disks", Key: key}}}})
		ok(t, err)
		redo(t, c)
		task = await(t, c, here, task.ID, func(i ImportTask) bool { return i.Status == "deleted" })
		if task.Message == "" {
			t.Errorf("%s: %+v", key, task)
		}
	}
	for _, tt := range []struct {
		disk ImportDisk
		code string
	}{
		{ImportDisk{}, "MissingParameter"},
		{ImportDisk{URL: "http://x/y.raw"}, "InvalidParameterValue"},
		{ImportDisk{Bucket: "disks", Key: "gone.raw"}, "InvalidParameter"},
		{ImportDisk{Bucket: "disks", Key: "a.qcow2"}, "InvalidParameterValue"},
		{ImportDisk{SnapshotID: "snap-0123456789abcdef0"}, "InvalidSnapshot.NotFound"},
	} {
		_, err := c.Import(ctx, here, ImportParams{Image: true, Task: ImportTask{Disks: []ImportDisk{tt.disk}}})
		wantCode(t, err, tt.code)
	}
	task, err = c.Import(ctx, here, ImportParams{Task: ImportTask{Disks: []ImportDisk{{URL: "s3://disks/a.RAW"}}}})
	ok(t, err)
	_, err = c.CancelImport(ctx, here, task.ID, "wrong disk")
	ok(t, err)
	redo(t, c)
	await(t, c, here, task.ID, func(i ImportTask) bool {
		return i.Status == "deleted" && len(i.Disks) == 1 && i.Disks[0].SnapshotID == ""
	})
}

func TestRegisterBaseAgain(t *testing.T) {
	c := idleCloud(t)
	first, _ := base(t, c)
	again, _ := base(t, c)
	if first != again {
		t.Errorf("the same disk is %s and %s", first, again)
	}
	for _, r := range Regions() {
		all, err := c.FindImages(limited(t), r, nil)
		if err != nil || len(all) != 1 || all[0].Owner != Debian || !all[0].Public {
			t.Errorf("%s: %+v, %v", r, all, err)
		}
	}
}
