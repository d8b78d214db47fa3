package storage

import (
	"context"
	"strconv"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) volumes() awswire.Operations {
	return awswire.Operations{
		"CreateVolume":                 awswire.Op(a.createVolume),
		"DeleteVolume":                 awswire.Op(a.deleteVolume),
		"DescribeVolumes":              awswire.Op(a.describeVolumes),
		"DescribeVolumeStatus":         awswire.Op(a.describeVolumeStatus),
		"ModifyVolume":                 awswire.Op(a.modifyVolume),
		"DescribeVolumesModifications": awswire.Op(a.describeModifications),
		"DescribeVolumeAttribute":      awswire.Op(a.describeVolumeAttribute),
		"ModifyVolumeAttribute":        awswire.Op(a.modifyVolumeAttribute),
	}
}

type attachment struct {
	VolumeID   string `xml:"volumeId"`
	InstanceID string `xml:"instanceId"`
	Device     string `xml:"device"`
	Status     string `xml:"status"`
	AttachTime string `xml:"attachTime,omitempty"`
	Delete     bool   `xml:"deleteOnTermination"`
}

type volume struct {
	ID          string        `xml:"volumeId"`
	Size        int64         `xml:"size"`
	SnapshotID  string        `xml:"snapshotId"`
	Zone        string        `xml:"availabilityZone"`
	ZoneID      string        `xml:"availabilityZoneId"`
	Status      string        `xml:"status"`
	Created     string        `xml:"createTime"`
	Attachments []attachment  `xml:"attachmentSet>item"`
	Tags        []ec2wire.Tag `xml:"tagSet>item"`
	Type        string        `xml:"volumeType"`
	IOPS        int64         `xml:"iops,omitempty"`
	Throughput  int64         `xml:"throughput,omitempty"`
	Encrypted   bool          `xml:"encrypted"`
	KMSKeyID    string        `xml:"kmsKeyId,omitempty"`
	MultiAttach bool          `xml:"multiAttachEnabled"`
}

func attachmentOf(v localcloud.Volume) attachment {
	return attachment{v.ID, v.Instance, v.Device, v.AttachState, awswire.Time(v.AttachedAt), v.DeleteOnTermination}
}

func volumeOf(v localcloud.Volume) volume {
	out := volume{
		ID: v.ID, Size: v.Spec.SizeGiB, SnapshotID: v.SnapshotID, Zone: v.Zone, ZoneID: localcloud.ZoneID(v.Zone),
		Status: v.State, Created: awswire.Time(v.Created), Tags: ec2wire.Tags(v.Tags), Type: v.Spec.Type,
		IOPS: v.Spec.ShownIOPS(), Throughput: v.Spec.Throughput, Encrypted: v.Spec.Encrypted, KMSKeyID: v.Spec.KMSKeyID,
	}
	if v.Instance != "" {
		out.Attachments = []attachment{attachmentOf(v)}
	}
	return out
}

type createVolumeIn struct {
	ec2wire.DryRun
	Zone               string            `q:"AvailabilityZone"`
	ZoneID             string            `q:"AvailabilityZoneId"`
	ClientToken        string            `q:"ClientToken"`
	Encrypted          bool              `q:"Encrypted"`
	IOPS               int64             `q:"Iops"`
	KMSKeyID           string            `q:"KmsKeyId"`
	MultiAttach        bool              `q:"MultiAttachEnabled"`
	Size               *int64            `q:"Size"`
	SnapshotID         string            `q:"SnapshotId"`
	TagSpecs           []ec2wire.TagSpec `q:"TagSpecification"`
	Throughput         int64             `q:"Throughput"`
	InitializationRate int64             `q:"VolumeInitializationRate"`
	Type               string            `q:"VolumeType"`
}

func (a *api) createVolume(ctx context.Context, c *awswire.Call, in *createVolumeIn) (*volume, error) {
	zone := in.Zone
	switch {
	case zone == "" && in.ZoneID == "":
		return nil, awswire.Errorf("MissingParameter", "The request must contain the parameter AvailabilityZone or AvailabilityZoneId")
	case zone != "" && in.ZoneID != "":
		return nil, awswire.Errorf("InvalidParameterCombination", "The request must contain one of AvailabilityZone and AvailabilityZoneId, not both")
	case zone == "":
		zone = in.ZoneID
	}
	if in.MultiAttach {
		return nil, awswire.Errorf("UnsupportedOperation", "The local cloud attaches a volume to one instance only: leave MultiAttachEnabled out")
	}
	if in.Size != nil && *in.Size < 1 {
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%d) for parameter size is invalid. It must be positive", *in.Size)
	}
	if r := in.InitializationRate; r != 0 && (r < 100 || r > 300 || in.SnapshotID == "") {
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%d) for parameter volumeInitializationRate is invalid. It is 100 to 300 MiB/s, of a volume with a snapshot", r)
	}
	tags, err := ec2wire.SpecTags(in.TagSpecs, "volume")
	if err != nil {
		return nil, err
	}
	v, err := a.cloud.CreateVolume(dry(ctx, in.DryRun), c.Region, localcloud.VolumeParams{
		Zone: zone, ClientToken: in.ClientToken, Tags: tags,
		Spec: localcloud.VolumeSpec{
			SnapshotID: in.SnapshotID, SizeGiB: deref(in.Size), Type: in.Type, IOPS: in.IOPS, Throughput: in.Throughput,
			Encrypted: in.Encrypted, KMSKeyID: in.KMSKeyID,
		},
	})
	out := volumeOf(v)
	return &out, err
}

type volumeIn struct {
	ec2wire.DryRun
	ID string `q:"VolumeId,required"`
}

func (a *api) deleteVolume(ctx context.Context, c *awswire.Call, in *volumeIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.DeleteVolume(dry(ctx, in.DryRun), c.Region, in.ID)
}

var volumeFilters = ec2wire.FilterBy[localcloud.Volume]{
	"attachment.attach-time":           func(v localcloud.Volume) []string { return ec2wire.One(awswire.Time(v.AttachedAt)) },
	"attachment.delete-on-termination": func(v localcloud.Volume) []string { return ec2wire.Bool(v.DeleteOnTermination) },
	"attachment.device":                func(v localcloud.Volume) []string { return ec2wire.One(v.Device) },
	"attachment.instance-id":           func(v localcloud.Volume) []string { return ec2wire.One(v.Instance) },
	"attachment.status":                func(v localcloud.Volume) []string { return ec2wire.One(v.AttachState) },
	"availability-zone":                func(v localcloud.Volume) []string { return ec2wire.One(v.Zone) },
	"availability-zone-id":             func(v localcloud.Volume) []string { return ec2wire.One(localcloud.ZoneID(v.Zone)) },
	"create-time":                      func(v localcloud.Volume) []string { return ec2wire.One(awswire.Time(v.Created)) },
	"encrypted":                        func(v localcloud.Volume) []string { return ec2wire.Bool(v.Spec.Encrypted) },
	"fast-restored":                    func(localcloud.Volume) []string { return ec2wire.Bool(false) },
	"multi-attach-enabled":             func(localcloud.Volume) []string { return ec2wire.Bool(false) },
	"size":                             func(v localcloud.Volume) []string { return ec2wire.One(strconv.FormatInt(v.Spec.SizeGiB, 10)) },
	"snapshot-id":                      func(v localcloud.Volume) []string { return ec2wire.One(v.SnapshotID) },
	"status":                           func(v localcloud.Volume) []string { return ec2wire.One(v.State) },
	"volume-id":                        func(v localcloud.Volume) []string { return ec2wire.One(v.ID) },
	"volume-type":                      func(v localcloud.Volume) []string { return ec2wire.One(v.Spec.Type) },
}

func volumeTags(v localcloud.Volume) localcloud.Tags { return v.Tags }

type describeVolumesIn struct {
	ec2wire.DryRun
	ec2wire.Page
	IDs     []string        `q:"VolumeId"`
	Filters ec2wire.Filters `q:"Filter"`
	Managed bool            `q:"IncludeManagedResources"` // there are none
}

// page returns the volumes that a request asks for.
func (a *api) volumePage(ctx context.Context, region string, in *describeVolumesIn) ([]localcloud.Volume, string, error) {
	if err := ec2wire.OnlyWithout(in.Page, in.IDs); err != nil {
		return nil, "", err
	}
	all, err := a.cloud.Volumes(ctx, region, in.IDs)
	if err != nil {
		return nil, "", err
	}
	if all, err = volumeFilters.Match(in.Filters, all, volumeTags); err != nil {
		return nil, "", err
	}
	if err := in.DryRun.Check(); err != nil {
		return nil, "", err
	}
	return ec2wire.Slice(in.Page, all, 5, 1000)
}

type describeVolumesOut struct {
	Volumes []volume `xml:"volumeSet>item"`
	Next    string   `xml:"nextToken,omitempty"`
}

func (a *api) describeVolumes(ctx context.Context, c *awswire.Call, in *describeVolumesIn) (*describeVolumesOut, error) {
	page, next, err := a.volumePage(ctx, c.Region, in)
	return &describeVolumesOut{ec2wire.Mapped(page, volumeOf), next}, err
}

type statusDetail struct {
	Name   string `xml:"name"`
	Status string `xml:"status"`
}

type volumeStatus struct {
	ID      string         `xml:"volumeId"`
	Zone    string         `xml:"availabilityZone"`
	ZoneID  string         `xml:"availabilityZoneId"`
	Status  string         `xml:"volumeStatus>status"`
	Details []statusDetail `xml:"volumeStatus>details>item"`
}

type describeVolumeStatusOut struct {
	Volumes []volumeStatus `xml:"volumeStatusSet>item"`
	Next    string         `xml:"nextToken,omitempty"`
}

func statusOf(v localcloud.Volume) volumeStatus {
	s, io := "ok", "passed"
	if v.State == "error" {
		s, io = "impaired", "failed"
	}
	return volumeStatus{v.ID, v.Zone, localcloud.ZoneID(v.Zone), s, []statusDetail{{"io-enabled", io}, {"io-performance", "not-applicable"}}}
}

var volumeStatusFilters = ec2wire.FilterBy[localcloud.Volume]{
	"availability-zone":          volumeFilters["availability-zone"],
	"volume-status.status":       func(v localcloud.Volume) []string { return ec2wire.One(statusOf(v).Status) },
	"volume-status.details-name": func(localcloud.Volume) []string { return []string{"io-enabled", "io-performance"} },
	"volume-status.details-status": func(v localcloud.Volume) []string {
		return ec2wire.Mapped(statusOf(v).Details, func(d statusDetail) string { return d.Status })
	},
}

func (a *api) describeVolumeStatus(ctx context.Context, c *awswire.Call, in *describeVolumesIn) (*describeVolumeStatusOut, error) {
	filters := in.Filters
	in.Filters = nil
	if err := ec2wire.OnlyWithout(in.Page, in.IDs); err != nil {
		return nil, err
	}
	all, err := a.cloud.Volumes(ctx, c.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	if all, err = volumeStatusFilters.Match(filters, all, volumeTags); err != nil {
		return nil, err
	}
	if err := in.DryRun.Check(); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	return &describeVolumeStatusOut{ec2wire.Mapped(page, statusOf), next}, err
}

type modification struct {
	ID           string `xml:"volumeId"`
	State        string `xml:"modificationState"`
	ToSize       int64  `xml:"targetSize"`
	ToIOPS       int64  `xml:"targetIops,omitempty"`
	ToType       string `xml:"targetVolumeType"`
	ToThroughput int64  `xml:"targetThroughput,omitempty"`
	Size         int64  `xml:"originalSize"`
	IOPS         int64  `xml:"originalIops,omitempty"`
	Type         string `xml:"originalVolumeType"`
	Throughput   int64  `xml:"originalThroughput,omitempty"`
	Progress     int64  `xml:"progress"`
	Started      string `xml:"startTime"`
	Ended        string `xml:"endTime,omitempty"`
}

func modificationOf(m localcloud.VolumeModification) modification {
	return modification{
		ID: m.Volume, State: m.State, ToSize: m.To.SizeGiB, ToIOPS: m.To.ShownIOPS(), ToType: m.To.Type, ToThroughput: m.To.Throughput,
		Size: m.From.SizeGiB, IOPS: m.From.ShownIOPS(), Type: m.From.Type, Throughput: m.From.Throughput,
		Progress: m.Progress, Started: awswire.Time(m.Started), Ended: awswire.Time(m.Ended),
	}
}

type modifyVolumeIn struct {
	volumeIn
	IOPS        int64  `q:"Iops"`
	MultiAttach bool   `q:"MultiAttachEnabled"`
	Size        int64  `q:"Size"`
	Throughput  int64  `q:"Throughput"`
	Type        string `q:"VolumeType"`
}

type modifyVolumeOut struct {
	Modification modification `xml:"volumeModification"`
}

func (a *api) modifyVolume(ctx context.Context, c *awswire.Call, in *modifyVolumeIn) (*modifyVolumeOut, error) {
	if in.MultiAttach {
		return nil, awswire.Errorf("UnsupportedOperation", "The local cloud attaches a volume to one instance only: leave MultiAttachEnabled out")
	}
	m, err := a.cloud.ModifyVolume(dry(ctx, in.DryRun), c.Region, in.ID, localcloud.VolumeSpec{
		SizeGiB: in.Size, Type: in.Type, IOPS: in.IOPS, Throughput: in.Throughput,
	})
	return &modifyVolumeOut{modificationOf(m)}, err
}

var modificationFilters = ec2wire.FilterBy[localcloud.VolumeModification]{
	"modification-state":   func(m localcloud.VolumeModification) []string { return ec2wire.One(m.State) },
	"original-size":        func(m localcloud.VolumeModification) []string { return number(m.From.SizeGiB) },
	"original-iops":        func(m localcloud.VolumeModification) []string { return number(m.From.ShownIOPS()) },
	"original-volume-type": func(m localcloud.VolumeModification) []string { return ec2wire.One(m.From.Type) },
	"target-size":          func(m localcloud.VolumeModification) []string { return number(m.To.SizeGiB) },
	"target-iops":          func(m localcloud.VolumeModification) []string { return number(m.To.ShownIOPS()) },
	"target-volume-type":   func(m localcloud.VolumeModification) []string { return ec2wire.One(m.To.Type) },
	"start-time":           func(m localcloud.VolumeModification) []string { return ec2wire.One(awswire.Time(m.Started)) },
	"volume-id":            func(m localcloud.VolumeModification) []string { return ec2wire.One(m.Volume) },
}

func number(n int64) []string { return []string{strconv.FormatInt(n, 10)} }

type describeModificationsOut struct {
	Modifications []modification `xml:"volumeModificationSet>item"`
	Next          string         `xml:"nextToken,omitempty"`
}

func (a *api) describeModifications(ctx context.Context, c *awswire.Call, in *describeVolumesIn) (*describeModificationsOut, error) {
	all, err := a.cloud.VolumeModifications(ctx, c.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	all, err = modificationFilters.Match(in.Filters, all, func(localcloud.VolumeModification) localcloud.Tags { return nil })
	if err != nil {
		return nil, err
	}
	if err := in.DryRun.Check(); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 1, 500)
	return &describeModificationsOut{ec2wire.Mapped(page, modificationOf), next}, err
}
