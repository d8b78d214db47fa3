package localcloud

import (
	"context"
	"errors"
	"net/url"
	"slices"
	"strings"
	"time"
)

// An ImportDisk is one disk of an import: an object of the local S3, or a
// snapshot.
type ImportDisk struct {
	Description, Format string // RAW VHD VHDX VMDK OVA
	Bucket, Key, URL    string
	Device              string
	SnapshotID          string // given, or made
	Size                int64  // bytes of the object
	Status              string // active completed
}

// An ImportTask turns disk images into a snapshot or an image.
type ImportTask struct {
	ID                       string // import-ami-… or import-snap-…
	Description              string
	Arch, BootMode, Platform string
	Hypervisor, License      string
	Licenses                 []string // ARNs of license configurations
	Encrypted                bool
	KMSKeyID                 string
	Disks                    []ImportDisk
	ImageID                  string
	Status, Message          string // active completed deleting deleted
	Progress                 int
	Created                  time.Time
	Tags                     Tags
}

// RecordKind implements [Record].
func (ImportTask) RecordKind() string { return "import-task" }

// RecordID implements [Record].
func (i ImportTask) RecordID() string { return i.ID }

// OfImage reports whether the task makes an image.
func (i ImportTask) OfImage() bool { return strings.HasPrefix(i.ID, "import-ami-") }

// ImportParams ask for an import.
type ImportParams struct {
	Task        ImportTask // without what the cloud decides
	ClientToken string
	Image       bool // an image, not a snapshot
}

// importFormats are the formats that are taken, with QEMU's names of them.
var importFormats = map[string]string{"RAW": "raw", "VHD": "vpc", "VHDX": "vhdx", "VMDK": "vmdk", "OVA": ""}

// Import begins an import.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ImportImage.html
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ImportSnapshot.html
func (c *Cloud) Import(ctx context.Context, region string, p ImportParams) (task ImportTask, err error) {
	action := "ImportSnapshot"
	if p.Image {
		action = "ImportImage"
	}
	err = c.Update(ctx, region, func(t *Tx) error {
		made, used, err := t.Token(action, p.ClientToken, p)
		if err != nil {
			return err
		}
		if used {
			task, _, err = Get[ImportTask](t, made[0])
			return err
		}
		task = p.Task
		task.Disks = slices.Clone(p.Task.Disks)
		task.Tags, task.Created, task.Status, task.Message, task.Progress = p.Task.Tags.Clone(), t.Now, "active", "pending", 1
		if err := errors.Join(task.check(p.Image), t.resolveKey(&task.Encrypted, &task.KMSKeyID, Snapshot{})); err != nil {
			return err
		}
		for i := range task.Disks {
			if err := t.checkImportDisk(&task.Disks[i], p.Image); err != nil {
				return err
			}
		}
		task.ID = NewID("import-snap")
		if p.Image {
			task.ID = NewID("import-ami")
		}
		return errors.Join(Put(t, task), t.SaveToken(action, p.ClientToken, p, task.ID), t.Later("import", task.ID, time.Time{}, nil))
	})
	return task, err
}

func (i *ImportTask) check(image bool) error {
	legal := func(name string, value *string, values ...string) error {
		for _, v := range values {
			if strings.EqualFold(*value, v) {
				*value = v
				return nil
			}
		}
		return Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It must be one of %s", *value, name, strings.Join(values[1:], ", "))
	}
	if len(i.Disks) == 0 {
		return Errorf("MissingParameter", "The request must contain the parameter DiskContainer")
	}
	if !image {
		return nil
	}
	return errors.Join(
		legal("Architecture", &i.Arch, "", "i386", "x86_64", "arm64"),
		legal("BootMode", &i.BootMode, "", "legacy-bios", "uefi", "uefi-preferred"),
		legal("Platform", &i.Platform, "", "Windows", "Linux"),
		legal("Hypervisor", &i.Hypervisor, "", "xen"),
		legal("LicenseType", &i.License, "", "AWS", "BYOL"),
	)
}

// checkImportDisk finds what a disk is made of.
func (t *Tx) checkImportDisk(d *ImportDisk, image bool) error {
	d.Status = "active"
	if d.SnapshotID != "" {
		_, err := t.usableSnapshot(d.SnapshotID)
		return err
	}
	if d.URL != "" && d.Bucket == "" {
		u, err := url.Parse(d.URL)
		if err != nil || u.Scheme != "s3" || u.Host == "" || len(u.Path) < 2 {
			return Errorf("InvalidParameterValue", "Value (%s) for parameter Url is invalid. It must be s3://BUCKET/KEY", d.URL)
		}
		d.Bucket, d.Key = u.Host, u.Path[1:]
	}
	if d.Bucket == "" || d.Key == "" {
		return Errorf("MissingParameter", "Each disk container needs a Url, a UserBucket with S3Bucket and S3Key, or, for an image, a SnapshotId")
	}
	if d.Format == "" {
		d.Format = d.Key[strings.LastIndexByte(d.Key, '.')+1:]
	}
	d.Format = strings.ToUpper(d.Format)
	if _, ok := importFormats[d.Format]; !ok || !image && (d.Format == "OVA" || d.Format == "VHDX") {
		return Errorf("InvalidParameterValue", "The disk format %q cannot be imported here: it must be RAW, VHD or VMDK, or, for an image, also VHDX or OVA", d.Format)
	}
	o, ok, err := Get[Object](t.In(""), Object{Bucket: d.Bucket, Key: d.Key}.RecordID())
	if err == nil && !ok {
		err = Errorf("InvalidParameter", "The given S3 object (s3://%s/%s) does not exist", d.Bucket, d.Key)
	}
	d.Size = o.Size
	return err
}

// CancelImport ends an import that is not completed; previous is the state it
// was in.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CancelImportTask.html
func (c *Cloud) CancelImport(ctx context.Context, region, id, reason string) (previous string, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		task, ok, err := Get[ImportTask](t, id)
		if err != nil {
			return err
		}
		if !ok {
			return errNoImport(id)
		}
		previous = task.Status
		if task.Status != "active" {
			return Errorf("IncorrectState", "The import task '%s' is '%s'", id, task.Status)
		}
		task.Status, task.Message = "deleted", "The task was canceled by the user"
		if reason != "" {
			task.Message += ": " + reason
		}
		return Put(t, task)
	})
	return previous, err
}

func errNoImport(id string) error {
	return Errorf("InvalidConversionTaskId.NotFound", "The import task ID '%s' does not exist", id)
}

// Imports returns the imports of images or of snapshots of a region; those with
// the ids when any are given.
func (c *Cloud) Imports(ctx context.Context, region string, images bool, ids []string) (out []ImportTask, err error) {
	err = c.View(ctx, region, func(t *Tx) error {
		all, err := All[ImportTask](t)
		if err != nil {
			return err
		}
		for _, id := range ids {
			if !slices.ContainsFunc(all, func(i ImportTask) bool { return i.ID == id && i.OfImage() == images }) {
				return errNoImport(id)
			}
		}
		for _, i := range all {
			if i.OfImage() == images && (len(ids) == 0 || slices.Contains(ids, i.ID)) {
				out = append(out, i)
			}
		}
		return nil
	})
	slices.SortStableFunc(out, func(a, b ImportTask) int { return a.Created.Compare(b.Created) })
	return out, err
}

// imported writes what an import made: a snapshot for each layer, and the
// image. Nothing comes of it when the task was canceled in the meantime.
func (t *Tx) imported(id string, disks []importedDisk) error {
	task, ok, err := Get[ImportTask](t, id)
	if err != nil || !ok || task.Status != "active" {
		return err
	}
	task.Disks = nil
	for _, d := range disks {
		if d.SnapshotID == "" {
			s := Snapshot{
				ID: NewID("snap"), Description: "Created by the import " + task.ID, Owner: AccountID, VolumeID: NoVolume,
				SizeGiB: (d.layer.Size + gib - 1) / gib, State: "completed", Progress: 100, Layer: d.layer.Digest,
				Encrypted: task.Encrypted, KMSKeyID: task.KMSKeyID, Started: task.Created, Completed: t.Now, Tags: Tags{},
			}
			if !task.OfImage() {
				s.Description, s.Tags = d.Description, task.Tags.Clone()
			}
			if err := Put(t, s); err != nil {
				return err
			}
			d.SnapshotID = s.ID
		}
		d.Status = "completed"
		task.Disks = append(task.Disks, d.ImportDisk)
	}
	task.Status, task.Message, task.Progress = "completed", "", 100
	if task.OfImage() {
		if task.ImageID, err = t.importedImage(task); err != nil {
			return err
		}
	}
	return Put(t, task)
}

func (t *Tx) importedImage(task ImportTask) (string, error) {
	i := Image{
		ID: NewID("ami"), Name: task.ID, Description: "Imported: " + task.Description, Owner: AccountID,
		Location: AccountID + "/" + task.ID, State: "pending", Arch: task.Arch, Virtualization: "hvm", BootMode: task.BootMode,
		ENA: true, RootDevice: "/dev/sda1", Created: t.Now, Tags: task.Tags.Clone(),
	}
	if i.Arch == "" {
		i.Arch = "x86_64"
	}
	if task.Platform == "Windows" {
		i.Platform = "windows"
	}
	for n, d := range task.Disks {
		spec, _, err := t.ResolveVolume(VolumeSpec{SnapshotID: d.SnapshotID, DeleteOnTermination: true})
		if err != nil {
			return "", err
		}
		i.Devices = append(i.Devices, DeviceMapping{Device: importDevice(n), Volume: &spec})
	}
	i, err := t.settleImage(i)
	return i.ID, err
}

// importDevice is where the n-th disk of an import is attached.
func importDevice(n int) string {
	if n == 0 {
		return "/dev/sda1"
	}
	return "/dev/sd" + string(rune('e'+n))
}
