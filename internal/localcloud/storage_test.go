package localcloud

import (
	"bytes"
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/imagestore"
	"github.com/ingot-build/ingot/internal/localcloud/machine"
)

const here, there = "us-east-1", "eu-west-1"

// limit is how long a test waits for what must come.
const limit = 5 * time.Minute

// testCloud opens a cloud; its jobs are done until the test ends.
func testCloud(t *testing.T) *Cloud {
	t.Helper()
	c := idleCloud(t)
	work, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.Work(work) }()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := c.Shutdown(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c
}

// idleCloud opens a cloud in which no job is done by itself.
func idleCloud(t *testing.T) *Cloud {
	t.Helper()
	c, err := Open(context.Background(), Config{Dir: t.TempDir(), Machines: &machine.Simulated{}, Warn: func(err error) { t.Log("cloud:", err) }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func limited(t *testing.T) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), limit)
	t.Cleanup(stop)
	return ctx
}

func ok(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	if CodeOf(err) != code || err != nil && code == "" {
		t.Errorf("got %v, want the code %q", err, code)
	}
}

// base registers a public image with a disk of 32 MiB, "base" at its begin.
func base(t *testing.T, c *Cloud) (image, snapshot string) {
	t.Helper()
	disk := make([]byte, 32<<20)
	copy(disk, "base")
	path := filepath.Join(t.TempDir(), "base.raw")
	ok(t, os.WriteFile(path, disk, 0o600))
	ids, err := c.RegisterBase(limited(t), BaseImage{
		Path: path, Format: "raw", Name: "debian-12-amd64-20240717-1811", Description: "Debian 12", Arch: "x86_64",
	})
	ok(t, err)
	imgs, err := c.FindImages(limited(t), here, []string{ids[here]})
	ok(t, err)
	return ids[here], imgs[0].Devices[0].Volume.SnapshotID
}

// await waits until a record is as it should be, and returns it.
func await[T Record](t *testing.T, c *Cloud, region, id string, done func(T) bool) (r T) {
	t.Helper()
	var there bool
	err := c.Await(limited(t), region, func(tx *Tx) (bool, error) {
		var err error
		r, there, err = Get[T](tx, id)
		return there && done(r), err
	})
	if err != nil {
		t.Fatalf("%s is %+v: %v", id, r, err)
	}
	return r
}

func awaitGone[T Record](t *testing.T, c *Cloud, region, id string) {
	t.Helper()
	ok(t, c.Await(limited(t), region, func(tx *Tx) (bool, error) {
		_, there, err := Get[T](tx, id)
		return !there, err
	}))
}

func awaitSnapshot(t *testing.T, c *Cloud, region, id string) Snapshot {
	t.Helper()
	return await(t, c, region, id, func(s Snapshot) bool { return s.State == "completed" })
}

func awaitImage(t *testing.T, c *Cloud, region, id, state string) Image {
	t.Helper()
	return await(t, c, region, id, func(i Image) bool { return i.State == state })
}

// scribble writes a byte over 64 KiB of a volume's disk at an offset of MiB.
func scribble(t *testing.T, c *Cloud, region, volume, pattern string, mib int) {
	t.Helper()
	cmd := exec.Command("qemu-io", "-f", "qcow2", "-c", "write -P "+pattern+" "+itoa(mib)+"M 64k", c.volumePath(region, volume))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("qemu-io: %v: %s", err, out)
	}
}

func itoa(n int) string { return string(rune('0' + n)) }

// holds checks 64 KiB of a snapshot's content.
func holds(t *testing.T, c *Cloud, s Snapshot, b byte, mib int64) {
	t.Helper()
	d, err := c.images.Read(s.Layer)
	ok(t, err)
	defer d.Close()
	got := make([]byte, 64<<10)
	if _, err := d.ReadAt(got, mib<<20); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, bytes.Repeat([]byte{b}, len(got))) {
		t.Errorf("%s holds %#x at %d MiB, want %#x", s.ID, got[0], mib, b)
	}
}

func TestVolumeFromSnapshotToSnapshot(t *testing.T) {
	c := testCloud(t)
	ctx := limited(t)
	_, snap := base(t, c)
	p := VolumeParams{Zone: here + "a", Spec: VolumeSpec{SnapshotID: snap, Type: "gp3"}, ClientToken: "once", Tags: Tags{"k": "v"}}
	v, err := c.CreateVolume(ctx, here, p)
	ok(t, err)
	again, err := c.CreateVolume(ctx, here, p)
	ok(t, err)
	if again.ID != v.ID || v.State != "creating" || v.Spec.IOPS != 3000 || v.Spec.Throughput != 125 {
		t.Errorf("%+v, then %+v", v, again)
	}
	p.Spec.Type = "gp2"
	_, err = c.CreateVolume(ctx, here, p)
	wantCode(t, err, "IdempotentParameterMismatch")
	await(t, c, here, v.ID, func(v Volume) bool { return v.State == "available" })
	scribble(t, c, here, v.ID, "0x41", 2)
	s, err := c.CreateSnapshot(ctx, here, v.ID, SnapshotParams{Description: "first", Tags: Tags{"a": "b"}})
	ok(t, err)
	if s.State != "pending" || s.VolumeID != v.ID {
		t.Errorf("%+v", s)
	}
	s = awaitSnapshot(t, c, here, s.ID)
	holds(t, c, s, 0x41, 2)
	l, err := c.images.Stat(s.Layer)
	ok(t, err)
	parent, err := c.FindSnapshotLayer(ctx, here, snap)
	ok(t, err)
	if l.Parent != parent || l.Bytes > 2<<20 {
		t.Errorf("a snapshot with 64 KiB changed is %+v over %s", l, parent)
	}
	// What is written later is not in it.
	scribble(t, c, here, v.ID, "0x42", 2)
	holds(t, c, s, 0x41, 2)
	ok(t, c.DeleteVolume(ctx, here, v.ID))
	awaitGone[Volume](t, c, here, v.ID)
	if _, err := os.Stat(c.volumePath(here, v.ID)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the disk is still there: %v", err)
	}
	holds(t, c, s, 0x41, 2)
	ok(t, c.DeleteSnapshot(ctx, here, s.ID))
	wantCode(t, c.DeleteSnapshot(ctx, here, s.ID), "InvalidSnapshot.NotFound")
}

// FindSnapshotLayer returns the layer of a snapshot.
func (c *Cloud) FindSnapshotLayer(ctx context.Context, region, id string) (string, error) {
	all, err := c.Snapshots(ctx, region, []string{id})
	if err != nil {
		return "", err
	}
	return all[0].Layer, nil
}

func TestVolumeModification(t *testing.T) {
	c := testCloud(t)
	ctx := limited(t)
	v, err := c.CreateVolume(ctx, here, VolumeParams{Zone: here + "b", Spec: VolumeSpec{SizeGiB: 1}})
	ok(t, err)
	await(t, c, here, v.ID, func(v Volume) bool { return v.State == "available" })
	m, err := c.ModifyVolume(ctx, here, v.ID, VolumeSpec{SizeGiB: 2, Type: "gp3"})
	ok(t, err)
	if m.State != "modifying" || m.From.Type != "gp2" || m.To.IOPS != 3000 {
		t.Errorf("%+v", m)
	}
	await(t, c, here, v.ID, func(m VolumeModification) bool { return m.State == "completed" })
	if n, err := overlaySize(c.volumePath(here, v.ID)); err != nil || n != 2*gib {
		t.Errorf("the disk has %d bytes: %v", n, err)
	}
	_, err = c.ModifyVolume(ctx, here, v.ID, VolumeSpec{SizeGiB: 1})
	wantCode(t, err, "InvalidParameterValue")
	_, err = c.ModifyVolume(ctx, here, v.ID, VolumeSpec{})
	wantCode(t, err, "MissingParameter")
}

func TestDryRunChangesNothing(t *testing.T) {
	c := testCloud(t)
	ctx := WithDryRun(limited(t))
	_, err := c.CreateVolume(ctx, here, VolumeParams{Zone: here + "a", Spec: VolumeSpec{SizeGiB: 1}})
	wantCode(t, err, "DryRunOperation")
	_, err = c.CreateVolume(ctx, here, VolumeParams{Zone: "mars-1a", Spec: VolumeSpec{SizeGiB: 1}})
	wantCode(t, err, "InvalidZone.NotFound")
	all, err := c.Volumes(limited(t), here, nil)
	if err != nil || len(all) != 0 {
		t.Errorf("%v, %v", all, err)
	}
}

func TestVolumeLimits(t *testing.T) {
	c := idleCloud(t)
	for _, tt := range []struct {
		spec VolumeSpec
		code string
	}{
		{VolumeSpec{}, "MissingParameter"},
		{VolumeSpec{SizeGiB: 1, Type: "gp9"}, "InvalidParameterValue"},
		{VolumeSpec{SizeGiB: 100, Type: "st1"}, "InvalidParameterValue"},
		{VolumeSpec{SizeGiB: 100, Type: "gp2", IOPS: 3000}, "InvalidParameterCombination"},
		{VolumeSpec{SizeGiB: 100, Type: "io1"}, "MissingParameter"},
		{VolumeSpec{SizeGiB: 10, Type: "io1", IOPS: 1000}, "InvalidParameterValue"},
		{VolumeSpec{SizeGiB: 20, Type: "io1", IOPS: 1000}, ""},
		{VolumeSpec{SizeGiB: 1, Type: "gp3", IOPS: 3000, Throughput: 800}, "InvalidParameterValue"},
		{VolumeSpec{SizeGiB: 1, Type: "gp3", Throughput: 750}, ""},
		{VolumeSpec{SizeGiB: 1, Type: "gp2", Throughput: 125}, "InvalidParameterCombination"},
		{VolumeSpec{SizeGiB: 1, KMSKeyID: "alias/mine"}, "InvalidParameterDependency"},
		{VolumeSpec{SizeGiB: 1, KMSKeyID: "no key", Encrypted: true}, "InvalidParameterValue"},
		{VolumeSpec{SnapshotID: "snap-12"}, "InvalidSnapshotID.Malformed"},
		{VolumeSpec{SnapshotID: "snap-0123456789abcdef0"}, "InvalidSnapshot.NotFound"},
	} {
		err := c.View(limited(t), here, func(tx *Tx) error {
			_, _, err := tx.ResolveVolume(tt.spec)
			return err
		})
		if CodeOf(err) != tt.code {
			t.Errorf("%+v: %v, want %q", tt.spec, err, tt.code)
		}
	}
}

func TestDamagedLayerIsNotUsed(t *testing.T) {
	c := testCloud(t)
	ctx := limited(t)
	img, snap := base(t, c)
	layer, err := c.FindSnapshotLayer(ctx, here, snap)
	ok(t, err)
	spoil(t, c.images, layer)
	v, err := c.CreateVolume(ctx, here, VolumeParams{Zone: here + "a", Spec: VolumeSpec{SnapshotID: snap}})
	ok(t, err)
	await(t, c, here, v.ID, func(v Volume) bool { return v.State == "error" })
	cp, err := c.CopyImage(ctx, there, CopyImageParams{SourceRegion: here, SourceImage: img, Name: "copy"})
	ok(t, err)
	cp = awaitImage(t, c, there, cp.ID, "failed")
	if cp.Reason == "" {
		t.Error("a failed copy has no reason")
	}
}

// spoil changes the last byte of data of a layer's file.
func spoil(t *testing.T, s *imagestore.Store, layer string) {
	t.Helper()
	raw, err := os.ReadFile(s.Path(layer))
	ok(t, err)
	at := bytes.LastIndex(raw, []byte("base"))
	if at < 0 {
		t.Fatal("the layer has no data")
	}
	raw[at] ^= 1
	ok(t, os.Chmod(s.Path(layer), 0o600))
	ok(t, os.WriteFile(s.Path(layer), raw, 0o600))
	ok(t, os.Chtimes(s.Path(layer), time.Time{}, time.Now().Add(time.Hour)))
}

func nowAt(t time.Time) func() time.Time { return func() time.Time { return t } }
