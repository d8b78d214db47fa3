package storage

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) images() awswire.Operations {
	return awswire.Operations{
		"CreateImage":     awswire.Op(a.createImage),
		"RegisterImage":   awswire.Op(a.registerImage),
		"CopyImage":       awswire.Op(a.copyImage),
		"DeregisterImage": awswire.Op(a.deregisterImage),
	}
}

type imageOut struct {
	ID string `xml:"imageId"`
}

// imageTags returns the tags for an image and for its snapshots.
func imageTags(specs []ec2wire.TagSpec) (image, snapshots localcloud.Tags, err error) {
	if image, err = ec2wire.SpecTags(specs, "image", "snapshot"); err == nil {
		snapshots, err = ec2wire.SpecTags(specs, "snapshot", "image")
	}
	return image, snapshots, err
}

type createImageIn struct {
	ec2wire.DryRun
	InstanceID  string                 `q:"InstanceId,required"`
	Name        string                 `q:"Name,required"`
	Description string                 `q:"Description"`
	NoReboot    bool                   `q:"NoReboot"`
	BootMode    string                 `q:"BootModeOverride"`
	Location    string                 `q:"SnapshotLocation"`
	Devices     []ec2wire.LaunchDevice `q:"BlockDeviceMapping"`
	TagSpecs    []ec2wire.TagSpec      `q:"TagSpecification"`
}

func (a *api) createImage(ctx context.Context, c *awswire.Call, in *createImageIn) (*imageOut, error) {
	if err := atHome(in.Location, ""); err != nil {
		return nil, err
	}
	tags, snapTags, err := imageTags(in.TagSpecs)
	if err != nil {
		return nil, err
	}
	devs, del := devices(in.Devices)
	i, err := a.cloud.CreateImage(dry(ctx, in.DryRun), c.Region, localcloud.CreateImageParams{
		Instance: in.InstanceID, Name: in.Name, Description: in.Description, BootMode: in.BootMode, NoReboot: in.NoReboot,
		Devices: devs, Delete: del, ImageTags: tags, SnapshotTags: snapTags,
	})
	return &imageOut{i.ID}, err
}

type registerImageIn struct {
	ec2wire.DryRun
	Name           string                 `q:"Name,required"`
	Description    string                 `q:"Description"`
	Architecture   string                 `q:"Architecture"`
	Billing        []string               `q:"BillingProduct"`
	Devices        []ec2wire.LaunchDevice `q:"BlockDeviceMapping"`
	BootMode       string                 `q:"BootMode"`
	ENA            bool                   `q:"EnaSupport"`
	Location       string                 `q:"ImageLocation"`
	IMDS           string                 `q:"ImdsSupport"`
	Kernel         string                 `q:"KernelId"`
	Ramdisk        string                 `q:"RamdiskId"`
	RootDevice     string                 `q:"RootDeviceName"`
	Sriov          string                 `q:"SriovNetSupport"`
	TPM            string                 `q:"TpmSupport"`
	UEFIData       string                 `q:"UefiData"`
	Virtualization string                 `q:"VirtualizationType"`
	TagSpecs       []ec2wire.TagSpec      `q:"TagSpecification"`
}

func (a *api) registerImage(ctx context.Context, c *awswire.Call, in *registerImageIn) (*imageOut, error) {
	switch {
	case in.Location != "":
		return nil, awswire.Errorf("UnsupportedOperation", "The local cloud has no images that are backed by S3: leave ImageLocation out")
	case in.Kernel != "" || in.Ramdisk != "":
		return nil, awswire.Errorf("UnsupportedOperation", "The local cloud boots what is on the disk: leave KernelId and RamdiskId out")
	case len(in.Billing) > 0:
		return nil, awswire.Errorf("AuthFailure", "This account may not use billing products")
	}
	tags, err := ec2wire.SpecTags(in.TagSpecs, "image")
	if err != nil {
		return nil, err
	}
	devs, del := devices(in.Devices)
	for _, d := range devs {
		if _, said := del[d.Device]; !said && d.Volume != nil {
			d.Volume.DeleteOnTermination = d.Device == in.RootDevice
		}
	}
	i, err := a.cloud.RegisterImage(dry(ctx, in.DryRun), c.Region, localcloud.RegisterParams{
		Name: in.Name, Description: in.Description, Arch: in.Architecture, Virtualization: in.Virtualization, RootDevice: in.RootDevice,
		Devices: devs, BootMode: in.BootMode, TPMSupport: in.TPM, IMDSSupport: in.IMDS, UEFIData: in.UEFIData, ENA: in.ENA,
		SriovNet: in.Sriov, Tags: tags,
	})
	return &imageOut{i.ID}, err
}

type copyImageIn struct {
	ec2wire.DryRun
	Name         string            `q:"Name,required"`
	SourceID     string            `q:"SourceImageId,required"`
	SourceRegion string            `q:"SourceRegion,required"`
	ClientToken  string            `q:"ClientToken"`
	CopyTags     bool              `q:"CopyImageTags"`
	Description  string            `q:"Description"`
	Zone         string            `q:"DestinationAvailabilityZone"`
	ZoneID       string            `q:"DestinationAvailabilityZoneId"`
	Outpost      string            `q:"DestinationOutpostArn"`
	Encrypted    bool              `q:"Encrypted"`
	KMSKeyID     string            `q:"KmsKeyId"`
	Minutes      int64             `q:"SnapshotCopyCompletionDurationMinutes"`
	TagSpecs     []ec2wire.TagSpec `q:"TagSpecification"`
}

func (a *api) copyImage(ctx context.Context, c *awswire.Call, in *copyImageIn) (*imageOut, error) {
	if err := atHome(in.Zone+in.ZoneID, in.Outpost); err != nil {
		return nil, err
	}
	tags, snapTags, err := imageTags(in.TagSpecs)
	if err != nil {
		return nil, err
	}
	i, err := a.cloud.CopyImage(dry(ctx, in.DryRun), c.Region, localcloud.CopyImageParams{
		SourceRegion: in.SourceRegion, SourceImage: in.SourceID, Name: in.Name, Description: in.Description, Encrypted: in.Encrypted,
		KMSKeyID: in.KMSKeyID, CopyTags: in.CopyTags, Minutes: in.Minutes, ClientToken: in.ClientToken, ImageTags: tags, SnapshotTags: snapTags,
	})
	return &imageOut{i.ID}, err
}

type imageIn struct {
	ec2wire.DryRun
	ID string `q:"ImageId,required"`
}

type deregisterImageIn struct {
	imageIn
	Snapshots bool `q:"DeleteAssociatedSnapshots"`
}

type snapshotRemoval struct {
	ID   string `xml:"snapshotId"`
	Code string `xml:"returnCode"`
}

type deregisterImageOut struct {
	Return    bool              `xml:"return"`
	Snapshots []snapshotRemoval `xml:"deleteSnapshotResultSet>item"`
}

func (a *api) deregisterImage(ctx context.Context, c *awswire.Call, in *deregisterImageIn) (*deregisterImageOut, error) {
	gone, err := a.cloud.DeregisterImage(dry(ctx, in.DryRun), c.Region, in.ID, in.Snapshots)
	return &deregisterImageOut{true, ec2wire.Mapped(gone, func(r localcloud.SnapshotRemoval) snapshotRemoval {
		return snapshotRemoval{r.Snapshot, r.Code}
	})}, err
}
