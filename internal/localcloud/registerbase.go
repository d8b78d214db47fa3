package localcloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ingot-build/ingot/internal/imagestore"
)

// Debian owns the public images that [Cloud.RegisterBase] registers.
// https://wiki.debian.org/Cloud/AmazonEC2Image
const Debian = "136693071363"

// Amazon owns those of Amazon Linux; its alias is "amazon".
const Amazon = "137112412989"

// A BaseImage is a disk image on this machine that becomes a public one.
type BaseImage struct {
	Path, Format string // qcow2 or raw
	Name         string // e.g. debian-12-amd64-20240717-1811
	Description  string
	Arch         string // x86_64 arm64
	BootMode     string // "": the type decides
	Owner        string // "": Debian
	Created      time.Time
	SizeGiB      int64 // of the root volume; 0: what the disk needs
}

// RegisterBase registers a disk image as a public image in every region and
// returns the ids by region. The bytes are there once. The same disk under the
// same name is the same image: registering it again changes nothing.
func (c *Cloud) RegisterBase(ctx context.Context, b BaseImage) (map[string]string, error) {
	if !imageName.MatchString(b.Name) {
		return nil, Errorf("InvalidAMIName.Malformed", "%q cannot be the name of an image", b.Name)
	}
	if b.Arch != "x86_64" && b.Arch != "arm64" {
		return nil, Errorf("InvalidParameterValue", "The architecture %q is not x86_64 or arm64", b.Arch)
	}
	if b.Owner == "" {
		b.Owner = Debian
	}
	release, err := c.images.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	layer, err := c.baseLayer(ctx, b)
	if err != nil {
		return nil, fmt.Errorf("register %s: %w", b.Name, err)
	}
	size := max(b.SizeGiB, (layer.Size+gib-1)/gib)
	ids := map[string]string{}
	write := func(t *Tx, changes bool) (missing bool, err error) {
		for _, region := range Regions() {
			in := t.In(region)
			ids[region] = derivedID("ami", region, b.Name, layer.Digest)
			if _, ok, err := Get[Image](in, ids[region]); err != nil || ok {
				if err != nil {
					return false, err
				}
				continue
			}
			if missing = true; !changes {
				continue
			}
			snap := derivedID("snap", region, b.Name, layer.Digest)
			created := b.Created
			if created.IsZero() {
				created = t.Now
			}
			s := Snapshot{
				ID: snap, Description: b.Description, Owner: b.Owner, VolumeID: NoVolume, SizeGiB: size, State: "completed",
				Progress: 100, Layer: layer.Digest, Started: created, Completed: created, Groups: []string{"all"}, Tags: Tags{},
			}
			i := Image{
				ID: ids[region], Name: b.Name, Description: b.Description, Owner: b.Owner, Location: b.Owner + "/" + b.Name,
				State: "available", Arch: b.Arch, Virtualization: "hvm", BootMode: b.BootMode, ENA: true, SriovNet: "simple",
				RootDevice: "/dev/xvda", Public: true, LaunchGroups: []string{"all"}, Created: created, Tags: Tags{},
				Devices: []DeviceMapping{{Device: "/dev/xvda", Volume: &VolumeSpec{
					SnapshotID: snap, SizeGiB: size, Type: "gp3", IOPS: 3000, Throughput: 125, DeleteOnTermination: true,
				}}},
			}
			if b.Owner == Amazon {
				i.OwnerAlias = "amazon"
			}
			if err := i.checkPlatform(); err != nil {
				return false, err
			}
			if err := errors.Join(Put(in, s), Put(in, i)); err != nil {
				return false, err
			}
		}
		return missing, nil
	}
	missing := false
	err = c.View(ctx, "", func(t *Tx) (err error) {
		missing, err = write(t, false)
		return err
	})
	if err == nil && missing {
		err = c.Update(ctx, "", func(t *Tx) error { _, err := write(t, true); return err })
	}
	return ids, err
}

// A knownFile is a file that became a layer: it is not read again as long as it
// looks the same.
type knownFile struct {
	Path     string
	Size     int64
	Modified time.Time
	Digest   string
}

// RecordKind implements [Record].
func (knownFile) RecordKind() string { return "known-file" }

// RecordID implements [Record].
func (k knownFile) RecordID() string { return k.Path }

// baseLayer makes a layer of a file, or finds the one it became before.
func (c *Cloud) baseLayer(ctx context.Context, b BaseImage) (imagestore.Layer, error) {
	path, err := filepath.Abs(b.Path)
	if err != nil {
		return imagestore.Layer{}, err
	}
	st, err := os.Stat(path)
	if err != nil {
		return imagestore.Layer{}, err
	}
	var known knownFile
	err = c.View(ctx, "", func(t *Tx) (err error) {
		known, _, err = Get[knownFile](t, path)
		return err
	})
	if err != nil {
		return imagestore.Layer{}, err
	}
	if known.Size == st.Size() && known.Modified.Equal(st.ModTime()) {
		if l, err := c.images.Stat(known.Digest); err == nil {
			return l, nil
		}
	}
	l, err := c.images.Import(ctx, path, b.Format)
	if err != nil {
		return l, err
	}
	return l, c.Update(ctx, "", func(t *Tx) error {
		return Put(t, knownFile{Path: path, Size: st.Size(), Modified: st.ModTime(), Digest: l.Digest})
	})
}

// derivedID is an id that follows from what it is of.
func derivedID(prefix string, of ...string) string {
	h := sha256.New()
	for _, s := range of {
		fmt.Fprintf(h, "%d:%s", len(s), s)
	}
	return prefix + "-0" + hex.EncodeToString(h.Sum(nil))[:16]
}
