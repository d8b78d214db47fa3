package storage

import (
	"context"
	"strconv"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) imports() awswire.Operations {
	return awswire.Operations{
		"ImportImage":                 awswire.Op(a.importImage),
		"ImportSnapshot":              awswire.Op(a.importSnapshot),
		"DescribeImportImageTasks":    awswire.Op(a.describeImageImports),
		"DescribeImportSnapshotTasks": awswire.Op(a.describeSnapshotImports),
		"CancelImportTask":            awswire.Op(a.cancelImport),
	}
}

type bucketKey struct {
	Bucket string `q:"S3Bucket" xml:"s3Bucket"`
	Key    string `q:"S3Key" xml:"s3Key"`
}

type diskContainer struct {
	Description string    `q:"Description"`
	Device      string    `q:"DeviceName"`
	Format      string    `q:"Format"`
	SnapshotID  string    `q:"SnapshotId"`
	URL         string    `q:"Url"`
	Object      bucketKey `q:"UserBucket"`
}

func (d diskContainer) disk() localcloud.ImportDisk {
	return localcloud.ImportDisk{
		Description: d.Description, Device: d.Device, Format: d.Format, SnapshotID: d.SnapshotID, URL: d.URL,
		Bucket: d.Object.Bucket, Key: d.Object.Key,
	}
}

// clientData is what the client says of its upload; nothing comes of it.
type clientData struct {
	Comment string     `q:"Comment"`
	End     *time.Time `q:"UploadEnd"`
	Size    float64    `q:"UploadSize"`
	Start   *time.Time `q:"UploadStart"`
}

type license struct {
	ARN string `q:"LicenseConfigurationArn" xml:"licenseConfigurationArn"`
}

type importImageIn struct {
	ec2wire.DryRun
	Architecture string            `q:"Architecture"`
	BootMode     string            `q:"BootMode"`
	ClientData   *clientData       `q:"ClientData"`
	ClientToken  string            `q:"ClientToken"`
	Description  string            `q:"Description"`
	Disks        []diskContainer   `q:"DiskContainer"`
	Encrypted    bool              `q:"Encrypted"`
	Hypervisor   string            `q:"Hypervisor"`
	KMSKeyID     string            `q:"KmsKeyId"`
	Licenses     []license         `q:"LicenseSpecifications"`
	License      string            `q:"LicenseType"`
	Platform     string            `q:"Platform"`
	Role         string            `q:"RoleName"` // reads the bucket: everything here is one account's
	TagSpecs     []ec2wire.TagSpec `q:"TagSpecification"`
	Usage        string            `q:"UsageOperation"`
}

type importDetail struct {
	Description string     `xml:"description,omitempty"`
	Device      string     `xml:"deviceName,omitempty"`
	Size        float64    `xml:"diskImageSize,omitempty"`
	Format      string     `xml:"format,omitempty"`
	Progress    string     `xml:"progress,omitempty"`
	SnapshotID  string     `xml:"snapshotId,omitempty"`
	Status      string     `xml:"status"`
	Message     string     `xml:"statusMessage,omitempty"`
	URL         string     `xml:"url,omitempty"`
	Object      *bucketKey `xml:"userBucket"`
	Encrypted   bool       `xml:"encrypted"`
	KMSKeyID    string     `xml:"kmsKeyId,omitempty"`
}

func detailOf(t localcloud.ImportTask, d localcloud.ImportDisk) importDetail {
	out := importDetail{
		Description: d.Description, Device: d.Device, Size: float64(d.Size), Format: d.Format, SnapshotID: d.SnapshotID,
		Status: d.Status, URL: d.URL,
	}
	if d.Bucket != "" {
		out.Object = &bucketKey{d.Bucket, d.Key}
	}
	if !t.OfImage() {
		out.Status, out.Message, out.Encrypted, out.KMSKeyID = t.Status, t.Message, t.Encrypted, t.KMSKeyID
		if t.Status == "active" {
			out.Progress = strconv.Itoa(t.Progress)
		}
	}
	return out
}

type imageTask struct {
	ID           string         `xml:"importTaskId"`
	Architecture string         `xml:"architecture,omitempty"`
	BootMode     string         `xml:"bootMode,omitempty"`
	Description  string         `xml:"description,omitempty"`
	Encrypted    bool           `xml:"encrypted"`
	Hypervisor   string         `xml:"hypervisor,omitempty"`
	ImageID      string         `xml:"imageId,omitempty"`
	KMSKeyID     string         `xml:"kmsKeyId,omitempty"`
	License      string         `xml:"licenseType,omitempty"`
	Licenses     []license      `xml:"licenseSpecifications>item"`
	Platform     string         `xml:"platform,omitempty"`
	Progress     string         `xml:"progress,omitempty"`
	Disks        []importDetail `xml:"snapshotDetailSet>item"`
	Status       string         `xml:"status"`
	Message      string         `xml:"statusMessage,omitempty"`
	Tags         []ec2wire.Tag  `xml:"tagSet>item"`
}

func imageTaskOf(t localcloud.ImportTask) imageTask {
	out := imageTask{
		ID: t.ID, Architecture: t.Arch, BootMode: t.BootMode, Description: t.Description, Encrypted: t.Encrypted, Hypervisor: t.Hypervisor,
		ImageID: t.ImageID, KMSKeyID: t.KMSKeyID, License: t.License, Platform: t.Platform, Status: t.Status, Message: t.Message,
		Disks: ec2wire.Mapped(t.Disks, func(d localcloud.ImportDisk) importDetail { return detailOf(t, d) }), Tags: ec2wire.Tags(t.Tags),
		Licenses: ec2wire.Mapped(t.Licenses, func(arn string) license { return license{arn} }),
	}
	if t.Status == "active" {
		out.Progress = strconv.Itoa(t.Progress)
	}
	return out
}

func (a *api) importImage(ctx context.Context, c *awswire.Call, in *importImageIn) (*imageTask, error) {
	tags, err := ec2wire.SpecTags(in.TagSpecs, "import-image-task")
	if err != nil {
		return nil, err
	}
	if in.Usage != "" {
		return nil, awswire.Errorf("UnsupportedOperation", "The local cloud bills nothing: leave UsageOperation out")
	}
	t, err := a.cloud.Import(dry(ctx, in.DryRun), c.Region, localcloud.ImportParams{Image: true, ClientToken: in.ClientToken, Task: localcloud.ImportTask{
		Description: in.Description, Arch: in.Architecture, BootMode: in.BootMode, Platform: in.Platform, Hypervisor: in.Hypervisor,
		License: in.License, Licenses: ec2wire.Mapped(in.Licenses, func(l license) string { return l.ARN }), Encrypted: in.Encrypted,
		KMSKeyID: in.KMSKeyID, Disks: ec2wire.Mapped(in.Disks, diskContainer.disk), Tags: tags,
	}})
	out := imageTaskOf(t)
	return &out, err
}

type importSnapshotIn struct {
	ec2wire.DryRun
	ClientData  *clientData       `q:"ClientData"`
	ClientToken string            `q:"ClientToken"`
	Description string            `q:"Description"`
	Disk        *diskContainer    `q:"DiskContainer"`
	Encrypted   bool              `q:"Encrypted"`
	KMSKeyID    string            `q:"KmsKeyId"`
	Role        string            `q:"RoleName"` // as of ImportImage
	TagSpecs    []ec2wire.TagSpec `q:"TagSpecification"`
}

type snapshotTask struct {
	ID          string        `xml:"importTaskId"`
	Description string        `xml:"description,omitempty"`
	Detail      *importDetail `xml:"snapshotTaskDetail"`
	Tags        []ec2wire.Tag `xml:"tagSet>item"`
}

func snapshotTaskOf(t localcloud.ImportTask) snapshotTask {
	out := snapshotTask{ID: t.ID, Description: t.Description, Tags: ec2wire.Tags(t.Tags)}
	if len(t.Disks) > 0 {
		d := detailOf(t, t.Disks[0])
		out.Detail = &d
	}
	return out
}

func (a *api) importSnapshot(ctx context.Context, c *awswire.Call, in *importSnapshotIn) (*snapshotTask, error) {
	tags, err := ec2wire.SpecTags(in.TagSpecs, "import-snapshot-task")
	if err != nil {
		return nil, err
	}
	task := localcloud.ImportTask{Description: in.Description, Encrypted: in.Encrypted, KMSKeyID: in.KMSKeyID, Tags: tags}
	if in.Disk != nil {
		task.Disks = []localcloud.ImportDisk{in.Disk.disk()}
	}
	t, err := a.cloud.Import(dry(ctx, in.DryRun), c.Region, localcloud.ImportParams{ClientToken: in.ClientToken, Task: task})
	out := snapshotTaskOf(t)
	return &out, err
}

type describeImportsIn struct {
	ec2wire.DryRun
	ec2wire.Page
	IDs     []string        `q:"ImportTaskId"`
	Filters ec2wire.Filters `q:"Filters"`
}

var importFilters = ec2wire.FilterBy[localcloud.ImportTask]{
	"task-state": func(t localcloud.ImportTask) []string { return ec2wire.One(t.Status) },
}

func (a *api) importPage(ctx context.Context, region string, images bool, in *describeImportsIn) ([]localcloud.ImportTask, string, error) {
	all, err := a.cloud.Imports(ctx, region, images, in.IDs)
	if err != nil {
		return nil, "", err
	}
	if all, err = importFilters.Match(in.Filters, all, func(t localcloud.ImportTask) localcloud.Tags { return t.Tags }); err != nil {
		return nil, "", err
	}
	if err := in.DryRun.Check(); err != nil {
		return nil, "", err
	}
	return ec2wire.Slice(in.Page, all, 1, 1000)
}

type imageImportsOut struct {
	Tasks []imageTask `xml:"importImageTaskSet>item"`
	Next  string      `xml:"nextToken,omitempty"`
}

func (a *api) describeImageImports(ctx context.Context, c *awswire.Call, in *describeImportsIn) (*imageImportsOut, error) {
	page, next, err := a.importPage(ctx, c.Region, true, in)
	return &imageImportsOut{ec2wire.Mapped(page, imageTaskOf), next}, err
}

type snapshotImportsOut struct {
	Tasks []snapshotTask `xml:"importSnapshotTaskSet>item"`
	Next  string         `xml:"nextToken,omitempty"`
}

func (a *api) describeSnapshotImports(ctx context.Context, c *awswire.Call, in *describeImportsIn) (*snapshotImportsOut, error) {
	page, next, err := a.importPage(ctx, c.Region, false, in)
	return &snapshotImportsOut{ec2wire.Mapped(page, snapshotTaskOf), next}, err
}

type cancelImportIn struct {
	ec2wire.DryRun
	ID     string `q:"ImportTaskId,required"`
	Reason string `q:"CancelReason"`
}

type cancelImportOut struct {
	ID       string `xml:"importTaskId"`
	Previous string `xml:"previousState"`
	State    string `xml:"state"`
}

func (a *api) cancelImport(ctx context.Context, c *awswire.Call, in *cancelImportIn) (*cancelImportOut, error) {
	was, err := a.cloud.CancelImport(dry(ctx, in.DryRun), c.Region, in.ID, in.Reason)
	return &cancelImportOut{in.ID, was, "deleting"}, err
}
