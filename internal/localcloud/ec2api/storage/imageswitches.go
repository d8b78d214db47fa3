package storage

import (
	"context"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) imageSwitches() awswire.Operations {
	return awswire.Operations{
		"EnableImage":                          awswire.Op(a.enableImage),
		"DisableImage":                         awswire.Op(a.disableImage),
		"EnableImageDeprecation":               awswire.Op(a.enableDeprecation),
		"DisableImageDeprecation":              awswire.Op(a.disableDeprecation),
		"EnableImageDeregistrationProtection":  awswire.Op(a.enableProtection),
		"DisableImageDeregistrationProtection": awswire.Op(a.disableProtection),
	}
}

func (a *api) enableImage(ctx context.Context, c *awswire.Call, in *imageIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.EnableImage(dry(ctx, in.DryRun), c.Region, in.ID)
}

func (a *api) disableImage(ctx context.Context, c *awswire.Call, in *imageIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.DisableImage(dry(ctx, in.DryRun), c.Region, in.ID)
}

type deprecationIn struct {
	imageIn
	At time.Time `q:"DeprecateAt,required"`
}

func (a *api) enableDeprecation(ctx context.Context, c *awswire.Call, in *deprecationIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.DeprecateImage(dry(ctx, in.DryRun), c.Region, in.ID, in.At)
}

func (a *api) disableDeprecation(ctx context.Context, c *awswire.Call, in *imageIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.DeprecateImage(dry(ctx, in.DryRun), c.Region, in.ID, time.Time{})
}

// protectionOut says what the protection is now.
type protectionOut struct {
	State string `xml:"return"`
}

type protectionIn struct {
	imageIn
	Cooldown bool `q:"WithCooldown"`
}

func (a *api) enableProtection(ctx context.Context, c *awswire.Call, in *protectionIn) (*protectionOut, error) {
	s, err := a.cloud.ProtectImage(dry(ctx, in.DryRun), c.Region, in.ID, true, in.Cooldown)
	return &protectionOut{s}, err
}

func (a *api) disableProtection(ctx context.Context, c *awswire.Call, in *imageIn) (*protectionOut, error) {
	s, err := a.cloud.ProtectImage(dry(ctx, in.DryRun), c.Region, in.ID, false, false)
	return &protectionOut{s}, err
}

func (a *api) fastLaunch() awswire.Operations {
	return awswire.Operations{
		"EnableFastLaunch":         awswire.Op(a.enableFastLaunch),
		"DisableFastLaunch":        awswire.Op(a.disableFastLaunch),
		"DescribeFastLaunchImages": awswire.Op(a.describeFastLaunch),
	}
}

type fastTemplate struct {
	ID      string `q:"LaunchTemplateId" xml:"launchTemplateId,omitempty"`
	Name    string `q:"LaunchTemplateName" xml:"launchTemplateName,omitempty"`
	Version string `q:"Version,required" xml:"version"`
}

type fastTarget struct {
	Count int `q:"TargetResourceCount" xml:"targetResourceCount"`
}

type enableFastLaunchIn struct {
	imageIn
	Template *fastTemplate `q:"LaunchTemplate"`
	Max      int           `q:"MaxParallelLaunches"`
	Resource string        `q:"ResourceType"`
	Snapshot fastTarget    `q:"SnapshotConfiguration"`
}

type fastLaunchOut struct {
	ID       string        `xml:"imageId"`
	Resource string        `xml:"resourceType"`
	Snapshot fastTarget    `xml:"snapshotConfiguration"`
	Template *fastTemplate `xml:"launchTemplate"`
	Max      int           `xml:"maxParallelLaunches"`
	Owner    string        `xml:"ownerId"`
	State    string        `xml:"state"`
	Reason   string        `xml:"stateTransitionReason"`
	Since    string        `xml:"stateTransitionTime,omitempty"`
}

func fastLaunchOf(f localcloud.FastLaunch) fastLaunchOut {
	out := fastLaunchOut{
		ID: f.Image, Resource: f.Resource, Snapshot: fastTarget{f.Target}, Max: f.MaxParallel, Owner: localcloud.AccountID,
		State: f.State, Reason: f.TransitionReason, Since: awswire.Time(f.Since),
	}
	if f.TemplateID != "" || f.TemplateName != "" {
		out.Template = &fastTemplate{f.TemplateID, f.TemplateName, f.TemplateVersion}
	}
	return out
}

func (a *api) enableFastLaunch(ctx context.Context, c *awswire.Call, in *enableFastLaunchIn) (*fastLaunchOut, error) {
	f := localcloud.FastLaunch{Image: in.ID, MaxParallel: in.Max, Target: in.Snapshot.Count, Resource: in.Resource}
	if t := in.Template; t != nil {
		if (t.ID == "") == (t.Name == "") {
			return nil, awswire.Errorf("InvalidParameterCombination", "The launch template must be given by its id or by its name")
		}
		f.TemplateID, f.TemplateName, f.TemplateVersion = t.ID, t.Name, t.Version
	}
	f, err := a.cloud.EnableFastLaunch(dry(ctx, in.DryRun), c.Region, f)
	out := fastLaunchOf(f)
	return &out, err
}

type disableFastLaunchIn struct {
	imageIn
	Force bool `q:"Force"` // nothing holds it up here
}

func (a *api) disableFastLaunch(ctx context.Context, c *awswire.Call, in *disableFastLaunchIn) (*fastLaunchOut, error) {
	f, err := a.cloud.DisableFastLaunch(dry(ctx, in.DryRun), c.Region, in.ID)
	out := fastLaunchOf(f)
	return &out, err
}

var fastLaunchFilters = ec2wire.FilterBy[localcloud.FastLaunch]{
	"owner-id":      func(localcloud.FastLaunch) []string { return ec2wire.One(localcloud.AccountID) },
	"resource-type": func(f localcloud.FastLaunch) []string { return ec2wire.One(f.Resource) },
	"state":         func(f localcloud.FastLaunch) []string { return ec2wire.One(f.State) },
}

type describeFastLaunchIn struct {
	ec2wire.DryRun
	ec2wire.Page
	IDs     []string        `q:"ImageId"`
	Filters ec2wire.Filters `q:"Filter"`
}

type describeFastLaunchOut struct {
	Images []fastLaunchOut `xml:"fastLaunchImageSet>item"`
	Next   string          `xml:"nextToken,omitempty"`
}

func (a *api) describeFastLaunch(ctx context.Context, c *awswire.Call, in *describeFastLaunchIn) (*describeFastLaunchOut, error) {
	all, err := a.cloud.FastLaunches(ctx, c.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	if all, err = fastLaunchFilters.Match(in.Filters, all, func(localcloud.FastLaunch) localcloud.Tags { return nil }); err != nil {
		return nil, err
	}
	if err := in.DryRun.Check(); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 1, 200)
	return &describeFastLaunchOut{ec2wire.Mapped(page, fastLaunchOf), next}, err
}
