package compute

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) roots() awswire.Operations {
	return awswire.Operations{
		"CreateReplaceRootVolumeTask":    awswire.Op(a.replaceRoot),
		"DescribeReplaceRootVolumeTasks": awswire.Op(a.describeRootTasks),
	}
}

type rootInput struct {
	instanceID
	Image       string            `q:"ImageId"`
	Snapshot    string            `q:"SnapshotId"`
	DeleteOld   bool              `q:"DeleteReplacedRootVolume"`
	ClientToken string            `q:"ClientToken"`
	Tags        []ec2wire.TagSpec `q:"TagSpecification"`
}

type rootTask struct {
	ID        string        `xml:"replaceRootVolumeTaskId"`
	Instance  string        `xml:"instanceId"`
	State     string        `xml:"taskState"`
	Started   string        `xml:"startTime"`
	Ended     string        `xml:"completeTime,omitempty"`
	Image     string        `xml:"imageId,omitempty"`
	Snapshot  string        `xml:"snapshotId,omitempty"`
	DeleteOld bool          `xml:"deleteReplacedRootVolume"`
	Tags      []ec2wire.Tag `xml:"tagSet>item"`
}

func rootTaskOf(r localcloud.RootTask) rootTask {
	return rootTask{
		r.ID, r.Instance, r.State, awswire.Time(r.Started), awswire.Time(r.Ended), r.Image, r.Snapshot,
		r.DeleteOld, ec2wire.Tags(r.Tags),
	}
}

type rootOutput struct {
	Task rootTask `xml:"replaceRootVolumeTask"`
}

func (a *api) replaceRoot(ctx context.Context, call *awswire.Call, in *rootInput) (*rootOutput, error) {
	tags, err := ec2wire.SpecTags(in.Tags, "replace-root-volume-task")
	if err != nil {
		return nil, err
	}
	r, err := a.cloud.ReplaceRoot(dry(ctx, in.DryRun), call.Region, localcloud.RootParams{
		Instance: in.ID, Image: in.Image, Snapshot: in.Snapshot, DeleteOld: in.DeleteOld, ClientToken: in.ClientToken, Tags: tags,
	})
	if err != nil {
		return nil, err
	}
	return &rootOutput{rootTaskOf(r)}, nil
}

type rootTasksInput struct {
	ec2wire.DryRun
	ec2wire.Page
	IDs     []string        `q:"ReplaceRootVolumeTaskId"`
	Filters ec2wire.Filters `q:"Filter"`
}

type rootTasksOutput struct {
	Tasks []rootTask `xml:"replaceRootVolumeTaskSet>item"`
	Next  string     `xml:"nextToken,omitempty"`
}

func (a *api) describeRootTasks(ctx context.Context, call *awswire.Call, in *rootTasksInput) (*rootTasksOutput, error) {
	all, err := a.cloud.RootTasks(ctx, call.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	by := ec2wire.FilterBy[localcloud.RootTask]{
		"instance-id": func(r localcloud.RootTask) []string { return ec2wire.One(r.Instance) },
	}
	if all, err = by.Match(in.Filters, all, func(r localcloud.RootTask) localcloud.Tags { return r.Tags }); err != nil {
		return nil, err
	}
	if err := in.Check(); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 1, 50)
	return &rootTasksOutput{ec2wire.Mapped(page, rootTaskOf), next}, err
}
