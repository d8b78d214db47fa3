package storage

import (
	"context"
	"slices"
	"strconv"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) snapshots() awswire.Operations {
	return awswire.Operations{
		"CreateSnapshot":    awswire.Op(a.createSnapshot),
		"CreateSnapshots":   awswire.Op(a.createSnapshots),
		"CopySnapshot":      awswire.Op(a.copySnapshot),
		"DeleteSnapshot":    awswire.Op(a.deleteSnapshot),
		"DescribeSnapshots": awswire.Op(a.describeSnapshots),
	}
}

type snapshot struct {
	ID            string        `xml:"snapshotId"`
	VolumeID      string        `xml:"volumeId"`
	Status        string        `xml:"status"`
	StatusMessage string        `xml:"statusMessage,omitempty"`
	Started       string        `xml:"startTime"`
	Completed     string        `xml:"completionTime,omitempty"`
	Progress      string        `xml:"progress"`
	Owner         string        `xml:"ownerId"`
	Size          int64         `xml:"volumeSize"`
	Description   string        `xml:"description"`
	Encrypted     bool          `xml:"encrypted"`
	KMSKeyID      string        `xml:"kmsKeyId,omitempty"`
	Tier          string        `xml:"storageTier"`
	Transfer      string        `xml:"transferType,omitempty"`
	Tags          []ec2wire.Tag `xml:"tagSet>item"`
}

func progressOf(s localcloud.Snapshot) string { return strconv.Itoa(s.Progress) + "%" }

func snapshotOf(s localcloud.Snapshot) snapshot {
	out := snapshot{
		ID: s.ID, VolumeID: s.VolumeID, Status: s.State, StatusMessage: s.StateMessage, Started: awswire.Time(s.Started),
		Completed: awswire.Time(s.Completed), Progress: progressOf(s), Owner: s.Owner, Size: s.SizeGiB, Description: s.Description,
		Encrypted: s.Encrypted, KMSKeyID: s.KMSKeyID, Tier: "standard", Tags: ec2wire.Tags(s.Tags),
	}
	if s.Copied {
		out.Transfer = "standard"
	}
	return out
}

// atHome refuses what is for AWS Outposts and Local Zones.
func atHome(location, outpost string) error {
	if location != "" && location != "regional" || outpost != "" {
		return awswire.Errorf("UnsupportedOperation", "The local cloud has no Outposts and no Local Zones")
	}
	return nil
}

type createSnapshotIn struct {
	ec2wire.DryRun
	VolumeID    string            `q:"VolumeId,required"`
	Description string            `q:"Description"`
	Location    string            `q:"Location"`
	Outpost     string            `q:"OutpostArn"`
	TagSpecs    []ec2wire.TagSpec `q:"TagSpecification"`
}

func (a *api) createSnapshot(ctx context.Context, c *awswire.Call, in *createSnapshotIn) (*snapshot, error) {
	tags, err := ec2wire.SpecTags(in.TagSpecs, "snapshot")
	if err == nil {
		err = atHome(in.Location, in.Outpost)
	}
	if err != nil {
		return nil, err
	}
	s, err := a.cloud.CreateSnapshot(dry(ctx, in.DryRun), c.Region, in.VolumeID, localcloud.SnapshotParams{Description: in.Description, Tags: tags})
	out := snapshotOf(s)
	return &out, err
}

type createSnapshotsIn struct {
	ec2wire.DryRun
	Instance struct {
		ID          string   `q:"InstanceId,required"`
		ExcludeBoot bool     `q:"ExcludeBootVolume"`
		ExcludeData []string `q:"ExcludeDataVolumeId"`
	} `q:"InstanceSpecification,required"`
	CopyTags    string            `q:"CopyTagsFromSource"`
	Description string            `q:"Description"`
	Location    string            `q:"Location"`
	Outpost     string            `q:"OutpostArn"`
	TagSpecs    []ec2wire.TagSpec `q:"TagSpecification"`
}

// A snapshotInfo is a snapshot as CreateSnapshots describes it.
type snapshotInfo struct {
	ID          string        `xml:"snapshotId"`
	VolumeID    string        `xml:"volumeId"`
	State       string        `xml:"state"`
	Started     string        `xml:"startTime"`
	Progress    string        `xml:"progress"`
	Owner       string        `xml:"ownerId"`
	Size        int64         `xml:"volumeSize"`
	Description string        `xml:"description"`
	Encrypted   bool          `xml:"encrypted"`
	Tags        []ec2wire.Tag `xml:"tagSet>item"`
}

type createSnapshotsOut struct {
	Snapshots []snapshotInfo `xml:"snapshotSet>item"`
}

func (a *api) createSnapshots(ctx context.Context, c *awswire.Call, in *createSnapshotsIn) (*createSnapshotsOut, error) {
	tags, err := ec2wire.SpecTags(in.TagSpecs, "snapshot")
	if err == nil {
		err = atHome(in.Location, in.Outpost)
	}
	if err == nil && in.CopyTags != "" && in.CopyTags != "volume" {
		err = awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter copyTagsFromSource is invalid. It must be volume", in.CopyTags)
	}
	if err != nil {
		return nil, err
	}
	all, err := a.cloud.CreateSnapshots(dry(ctx, in.DryRun), c.Region, localcloud.SnapshotsParams{
		SnapshotParams: localcloud.SnapshotParams{Description: in.Description, Tags: tags},
		Instance:       in.Instance.ID, ExcludeBoot: in.Instance.ExcludeBoot, ExcludeData: in.Instance.ExcludeData, CopyTagsFrom: in.CopyTags,
	})
	return &createSnapshotsOut{ec2wire.Mapped(all, func(s localcloud.Snapshot) snapshotInfo {
		return snapshotInfo{
			ID: s.ID, VolumeID: s.VolumeID, State: s.State, Started: awswire.Time(s.Started), Progress: progressOf(s), Owner: s.Owner,
			Size: s.SizeGiB, Description: s.Description, Encrypted: s.Encrypted, Tags: ec2wire.Tags(s.Tags),
		}
	})}, err
}

type copySnapshotIn struct {
	ec2wire.DryRun
	SourceRegion string            `q:"SourceRegion,required"`
	SourceID     string            `q:"SourceSnapshotId,required"`
	Description  string            `q:"Description"`
	Destination  string            `q:"DestinationRegion"`
	Presigned    string            `q:"PresignedUrl"` // proves the right to the source: everything here is one account's
	Zone         string            `q:"DestinationAvailabilityZone"`
	Outpost      string            `q:"DestinationOutpostArn"`
	Encrypted    bool              `q:"Encrypted"`
	KMSKeyID     string            `q:"KmsKeyId"`
	Minutes      int64             `q:"CompletionDurationMinutes"`
	TagSpecs     []ec2wire.TagSpec `q:"TagSpecification"`
}

type copySnapshotOut struct {
	ID   string        `xml:"snapshotId"`
	Tags []ec2wire.Tag `xml:"tagSet>item"`
}

func (a *api) copySnapshot(ctx context.Context, c *awswire.Call, in *copySnapshotIn) (*copySnapshotOut, error) {
	tags, err := ec2wire.SpecTags(in.TagSpecs, "snapshot")
	if err == nil {
		err = atHome(in.Zone, in.Outpost)
	}
	if err == nil && in.Destination != "" && in.Destination != c.Region {
		err = awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter destinationRegion is invalid. It must be %s, where the request was sent", in.Destination, c.Region)
	}
	if err != nil {
		return nil, err
	}
	s, err := a.cloud.CopySnapshot(dry(ctx, in.DryRun), c.Region, localcloud.CopySnapshotParams{
		SnapshotParams: localcloud.SnapshotParams{Description: in.Description, Tags: tags},
		SourceRegion:   in.SourceRegion, Source: in.SourceID, Encrypted: in.Encrypted, KMSKeyID: in.KMSKeyID, Minutes: in.Minutes,
	})
	return &copySnapshotOut{s.ID, ec2wire.Tags(s.Tags)}, err
}

type snapshotIn struct {
	ec2wire.DryRun
	ID string `q:"SnapshotId,required"`
}

func (a *api) deleteSnapshot(ctx context.Context, c *awswire.Call, in *snapshotIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.DeleteSnapshot(dry(ctx, in.DryRun), c.Region, in.ID)
}

var snapshotFilters = ec2wire.FilterBy[localcloud.Snapshot]{
	"description":   func(s localcloud.Snapshot) []string { return ec2wire.One(s.Description) },
	"encrypted":     func(s localcloud.Snapshot) []string { return ec2wire.Bool(s.Encrypted) },
	"owner-alias":   func(localcloud.Snapshot) []string { return nil },
	"owner-id":      func(s localcloud.Snapshot) []string { return ec2wire.One(s.Owner) },
	"progress":      func(s localcloud.Snapshot) []string { return ec2wire.One(progressOf(s)) },
	"snapshot-id":   func(s localcloud.Snapshot) []string { return ec2wire.One(s.ID) },
	"start-time":    func(s localcloud.Snapshot) []string { return ec2wire.One(awswire.Time(s.Started)) },
	"status":        func(s localcloud.Snapshot) []string { return ec2wire.One(s.State) },
	"storage-tier":  func(localcloud.Snapshot) []string { return ec2wire.One("standard") },
	"transfer-type": func(s localcloud.Snapshot) []string { return ec2wire.One(snapshotOf(s).Transfer) },
	"volume-id":     func(s localcloud.Snapshot) []string { return ec2wire.One(s.VolumeID) },
	"volume-size":   func(s localcloud.Snapshot) []string { return number(s.SizeGiB) },
}

type describeSnapshotsIn struct {
	ec2wire.DryRun
	ec2wire.Page
	IDs        []string        `q:"SnapshotId"`
	Owners     []string        `q:"Owner"`
	Restorable []string        `q:"RestorableBy"`
	Filters    ec2wire.Filters `q:"Filter"`
}

type describeSnapshotsOut struct {
	Snapshots []snapshot `xml:"snapshotSet>item"`
	Next      string     `xml:"nextToken,omitempty"`
}

func (a *api) describeSnapshots(ctx context.Context, c *awswire.Call, in *describeSnapshotsIn) (*describeSnapshotsOut, error) {
	if err := ec2wire.OnlyWithout(in.Page, in.IDs); err != nil {
		return nil, err
	}
	all, err := a.cloud.Snapshots(ctx, c.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(s localcloud.Snapshot) bool {
		return len(in.Owners) > 0 && !ownedBy(in.Owners, s.Owner, "") || len(in.Restorable) > 0 && !restorableBy(in.Restorable, s)
	})
	if all, err = snapshotFilters.Match(in.Filters, all, func(s localcloud.Snapshot) localcloud.Tags { return s.Tags }); err != nil {
		return nil, err
	}
	if err := in.DryRun.Check(); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	return &describeSnapshotsOut{ec2wire.Mapped(page, snapshotOf), next}, err
}

// ownedBy reports whether an owner is one of those a request names: "self", an
// account id or an alias.
func ownedBy(names []string, owner, alias string) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		return n == owner || n == "self" && owner == localcloud.AccountID || alias != "" && n == alias
	})
}

func restorableBy(names []string, s localcloud.Snapshot) bool {
	return slices.ContainsFunc(names, func(n string) bool {
		switch n {
		case "self", localcloud.AccountID:
			return s.Owner == localcloud.AccountID || slices.Contains(s.Users, localcloud.AccountID)
		case "all":
			return slices.Contains(s.Groups, "all")
		}
		return slices.Contains(s.Users, n)
	})
}
