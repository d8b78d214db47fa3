package localcloud

import (
	"context"
	"encoding/base64"
	"errors"
	"regexp"
	"slices"
	"time"
)

var imageName = regexp.MustCompile(`^[A-Za-z0-9()\[\] ./\-'@_]{3,128}$`)

// errNoImage says that there is no such image.
func errNoImage(id string) error {
	return Errorf("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", id)
}

// FindImage returns an image that the account may see. One that is gone is
// InvalidAMIID.Unavailable, one that never was InvalidAMIID.NotFound.
func (t *Tx) FindImage(id string) (Image, error) {
	if !ValidID("ami", id) {
		return Image{}, Errorf("InvalidAMIID.Malformed", "Invalid id: \"%s\" (expecting \"ami-...\")", id)
	}
	i, ok, err := Get[Image](t, id)
	switch {
	case err != nil:
		return i, err
	case !ok || !i.Launchable():
		return i, errNoImage(id)
	case i.State == "deregistered":
		return i, Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is no longer available", id)
	}
	return i, nil
}

// ownImage returns an image that the account may change.
func (t *Tx) ownImage(id string) (Image, error) {
	i, err := t.FindImage(id)
	if err == nil && i.Owner != AccountID {
		err = Errorf("AuthFailure", "Not authorized for image:%s", id).withStatus(403)
	}
	return i, err
}

// Launchable reports whether the account may see and launch an image: its own,
// a public one, or one shared with it.
func (i Image) Launchable() bool {
	return i.Owner == AccountID || i.Public || slices.Contains(i.LaunchUsers, AccountID)
}

// checkName refuses names that an image of the account cannot have.
func (t *Tx) checkName(name string) error {
	if name == "" {
		return Errorf("MissingParameter", "The request must contain the parameter Name")
	}
	if !imageName.MatchString(name) {
		return Errorf("InvalidAMIName.Malformed", "AMI names must be between 3 and 128 characters long, and may contain letters, numbers, spaces and ( ) [ ] . / - ' @ _")
	}
	all, err := All[Image](t)
	if err != nil {
		return err
	}
	for _, i := range all {
		if i.Name == name && i.Owner == AccountID && i.State != "deregistered" && i.State != "failed" {
			return Errorf("InvalidAMIName.Duplicate", "AMI name %s is already in use by AMI %s", name, i.ID)
		}
	}
	return nil
}

// checkDescription refuses descriptions that are too long.
func checkDescription(s string) error {
	if len(s) > 255 {
		return Errorf("InvalidParameterValue", "The description is %d characters long; at most 255 are allowed", len(s))
	}
	return nil
}

// RegisterParams describe an image made of snapshots.
type RegisterParams struct {
	Name, Description    string
	Arch, Virtualization string
	RootDevice           string
	Devices              []DeviceMapping
	BootMode             string
	TPMSupport           string
	IMDSSupport          string
	UEFIData             string
	ENA                  bool
	SriovNet             string
	Tags                 Tags
}

// RegisterImage makes an image of snapshots that are completed. It is
// available at once, or after [Settings].ImagePending.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html
func (c *Cloud) RegisterImage(ctx context.Context, region string, p RegisterParams) (i Image, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if err := errors.Join(t.checkName(p.Name), checkDescription(p.Description)); err != nil {
			return err
		}
		i = Image{
			ID: NewID("ami"), Name: p.Name, Description: p.Description, Owner: AccountID, Location: AccountID + "/" + p.Name,
			State: "pending", Arch: p.Arch, Virtualization: p.Virtualization, BootMode: p.BootMode, TPMSupport: p.TPMSupport,
			IMDSSupport: p.IMDSSupport, UEFIData: p.UEFIData, ENA: p.ENA, SriovNet: p.SriovNet, RootDevice: p.RootDevice,
			Created: t.Now, Tags: p.Tags.Clone(),
		}
		if i.Arch == "" {
			i.Arch = "i386"
		}
		if i.Virtualization == "" {
			i.Virtualization = "paravirtual"
		}
		if err := i.checkPlatform(); err != nil {
			return err
		}
		if err := CheckMappings(p.Devices); err != nil {
			return err
		}
		for _, m := range p.Devices {
			m, err := t.imageDevice(m)
			if err != nil {
				return err
			}
			i.Devices = append(i.Devices, m)
		}
		if p.RootDevice == "" {
			return Errorf("MissingParameter", "The request must contain the parameter rootDeviceName")
		}
		if root, ok := mapping(i.Devices, p.RootDevice); !ok || root.Volume == nil || root.Volume.SnapshotID == "" {
			return Errorf("InvalidBlockDeviceMapping", "No snapshot is mapped to the root device %s", p.RootDevice)
		}
		set, err := t.Settings()
		if err != nil {
			return err
		}
		i.Ready = t.Now.Add(set.ImagePending)
		i, err = t.settleImage(i)
		return err
	})
	return i, err
}

// imageDevice checks a mapping of an image and fills in what it leaves open.
func (t *Tx) imageDevice(m DeviceMapping) (DeviceMapping, error) {
	if m.Volume == nil {
		return m, nil
	}
	if m.Volume.Encrypted && m.Volume.SnapshotID != "" {
		s, err := t.FindSnapshot(m.Volume.SnapshotID)
		if err != nil {
			return m, err
		}
		if !s.Encrypted {
			return m, Errorf("InvalidBlockDeviceMapping", "The mapping of %s asks for encryption of a snapshot that is not encrypted; copy the image with encryption", m.Device)
		}
	}
	spec, _, err := t.ResolveVolume(*m.Volume)
	m.Volume = &spec
	return m, err
}

// values of the fields of images, of
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RegisterImage.html
var (
	imageArchs     = []string{"i386", "x86_64", "arm64", "x86_64_mac", "arm64_mac"}
	imageBootModes = []string{"", "legacy-bios", "uefi", "uefi-preferred"}
)

// checkPlatform refuses combinations that no machine can boot.
func (i Image) checkPlatform() error {
	invalid := func(name, value, legal string) error {
		return Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It must be %s", value, name, legal)
	}
	arm := i.Arch == "arm64" || i.Arch == "arm64_mac"
	uefi := i.BootMode == "uefi" || i.BootMode == "uefi-preferred" || arm
	switch {
	case !slices.Contains(imageArchs, i.Arch):
		return invalid("architecture", i.Arch, "i386, x86_64, arm64, x86_64_mac or arm64_mac")
	case i.Virtualization != "hvm" && i.Virtualization != "paravirtual":
		return invalid("virtualizationType", i.Virtualization, "hvm or paravirtual")
	case !slices.Contains(imageBootModes, i.BootMode):
		return invalid("bootMode", i.BootMode, "legacy-bios, uefi or uefi-preferred")
	case i.TPMSupport != "" && i.TPMSupport != "v2.0":
		return invalid("tpmSupport", i.TPMSupport, "v2.0")
	case i.IMDSSupport != "" && i.IMDSSupport != "v2.0":
		return invalid("imdsSupport", i.IMDSSupport, "v2.0")
	case i.SriovNet != "" && i.SriovNet != "simple":
		return invalid("sriovNetSupport", i.SriovNet, "simple")
	case arm && i.Virtualization != "hvm":
		return Errorf("InvalidParameterCombination", "The architecture %s needs the virtualization type hvm", i.Arch)
	case arm && i.BootMode == "legacy-bios":
		return Errorf("InvalidParameterCombination", "The architecture %s does not boot with legacy-bios", i.Arch)
	case i.Virtualization == "paravirtual" && i.BootMode != "" && i.BootMode != "legacy-bios":
		return Errorf("InvalidParameterCombination", "The boot mode %s needs the virtualization type hvm", i.BootMode)
	case i.Virtualization == "paravirtual" && (i.ENA || i.SriovNet != ""):
		return Errorf("InvalidParameterCombination", "Enhanced networking needs the virtualization type hvm")
	case i.TPMSupport != "" && i.BootMode != "uefi":
		return Errorf("InvalidParameterCombination", "tpmSupport needs the boot mode uefi")
	case i.UEFIData != "" && !uefi:
		return Errorf("InvalidParameterCombination", "uefiData needs the boot mode uefi or uefi-preferred")
	}
	if _, err := base64.StdEncoding.DecodeString(i.UEFIData); err != nil {
		return invalid("uefiData", "…", "base64")
	}
	return nil
}

// settleImage makes a pending image available when its time has come and all
// its snapshots are completed, failed when one of them is in error, and writes
// it.
func (t *Tx) settleImage(i Image) (Image, error) {
	if i.State != "pending" {
		return i, nil
	}
	done := true
	for _, id := range snapshotsOf(i.Devices) {
		s, ok, err := Get[Snapshot](t, id)
		switch {
		case err != nil:
			return i, err
		case !ok:
			i.State, i.Reason = "failed", "Client.InvalidSnapshot.NotFound: The snapshot "+id+" was deleted"
		case s.State == "error":
			i.State, i.Reason = "failed", "Server.InternalError: The snapshot "+id+" failed: "+s.StateMessage
		}
		done = done && s.State == "completed"
	}
	if i.State == "pending" && done {
		if t.Now.Before(i.Ready) {
			if err := t.Later("image-settle", i.ID, i.Ready, nil); err != nil {
				return i, err
			}
		} else {
			i.State = "available"
		}
	}
	return i, Put(t, i)
}

// settleImagesOf settles the images that wait for a snapshot.
func (t *Tx) settleImagesOf(snapshot string) error {
	all, err := All[Image](t)
	if err != nil {
		return err
	}
	for _, i := range all {
		if i.State == "pending" && slices.Contains(snapshotsOf(i.Devices), snapshot) {
			if _, err := t.settleImage(i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cloud) imageSettle(ctx context.Context, j Job) error {
	return c.Update(ctx, j.Region, func(t *Tx) error {
		i, ok, err := Get[Image](t, j.Target)
		if err == nil && ok {
			_, err = t.settleImage(i)
		}
		return errors.Join(err, t.Done(j))
	})
}

// A SnapshotRemoval says what became of a snapshot of a deregistered image.
type SnapshotRemoval struct {
	Snapshot string
	Code     string // success skipped client-error
}

// DeregisterImage ends an image; with snapshots it deletes its snapshots too,
// except those that other images use.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeregisterImage.html
func (c *Cloud) DeregisterImage(ctx context.Context, region, id string, snapshots bool) (gone []SnapshotRemoval, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		gone = nil
		i, err := t.ownImage(id)
		if err != nil {
			return err
		}
		if i.protected(t.Now) {
			return Errorf("OperationNotPermitted", "The image %s has deregistration protection; disable it first", id)
		}
		i.State = "deregistered"
		i.Public, i.LaunchUsers, i.LaunchGroups, i.LaunchOrgs, i.LaunchOUs = false, nil, nil, nil, nil
		i.Transitioned = t.Now
		if err := Put(t, i); err != nil || !snapshots {
			return err
		}
		for _, sid := range snapshotsOf(i.Devices) {
			r := SnapshotRemoval{Snapshot: sid, Code: "success"}
			s, err := t.ownSnapshot(sid)
			if err == nil {
				err = t.deleteSnapshot(s)
			}
			switch {
			case CodeOf(err) == "InvalidSnapshot.InUse":
				r.Code = "skipped"
			case CodeOf(err) != "":
				r.Code = "client-error"
			case err != nil:
				return err
			}
			gone = append(gone, r)
		}
		return nil
	})
	return gone, err
}

// protected reports whether an image may not be deregistered.
func (i Image) protected(now time.Time) bool {
	switch i.Protected {
	case "enabled-with-cooldown", "enabled-without-cooldown":
		return true
	}
	return now.Before(i.ProtectedUntil)
}

// FindImages returns the images of a region that the account may see; those with
// the ids when any are given.
func (c *Cloud) FindImages(ctx context.Context, region string, ids []string) (out []Image, err error) {
	err = c.View(ctx, region, func(t *Tx) (err error) {
		if len(ids) == 0 {
			out, err = All[Image](t)
			out = slices.DeleteFunc(out, func(i Image) bool { return !i.Launchable() || i.State == "deregistered" })
			return err
		}
		for _, id := range ids {
			i, err := t.FindImage(id)
			if err != nil {
				return err
			}
			out = append(out, i)
		}
		return nil
	})
	return out, err
}
