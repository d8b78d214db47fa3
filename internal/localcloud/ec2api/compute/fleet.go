package compute

import (
	"context"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) fleets() awswire.Operations {
	return awswire.Operations{
		"CreateFleet":            awswire.Op(a.createFleet),
		"DescribeFleets":         awswire.Op(a.describeFleets),
		"DescribeFleetInstances": awswire.Op(a.describeFleetInstances),
		"DeleteFleets":           awswire.Op(a.deleteFleets),
	}
}

type overrideInput struct {
	InstanceType string                   `q:"InstanceType"`
	ImageID      string                   `q:"ImageId"`
	KeyName      string                   `q:"KeyName"`
	SubnetID     string                   `q:"SubnetId"`
	Zone         string                   `q:"AvailabilityZone"`
	ZoneID       string                   `q:"AvailabilityZoneId"`
	MaxPrice     string                   `q:"MaxPrice"`
	Priority     *float64                 `q:"Priority"`
	Weight       *float64                 `q:"WeightedCapacity"`
	Devices      []ec2wire.LaunchDevice   `q:"BlockDeviceMapping"`
	Profile      ec2wire.LaunchProfile    `q:"IamInstanceProfile"`
	Metadata     *ec2wire.LaunchMetadata  `q:"MetadataOptions"`
	Placement    *ec2wire.LaunchPlacement `q:"Placement"`
}

func (o overrideInput) override() (localcloud.FleetOverride, error) {
	out := localcloud.FleetOverride{MaxPrice: o.MaxPrice, Priority: o.Priority, Weight: o.Weight}
	devices, err := ec2wire.Devices(o.Devices)
	if err != nil {
		return out, err
	}
	s := localcloud.LaunchSpec{
		Type: o.InstanceType, ImageID: o.ImageID, KeyName: o.KeyName, SubnetID: o.SubnetID, Devices: devices,
		ProfileARN: o.Profile.ARN, ProfileName: o.Profile.Name,
	}
	if o.Metadata != nil {
		if s.Metadata, err = o.Metadata.Spec(); err != nil {
			return out, err
		}
	}
	if o.Placement != nil {
		s.Placement = o.Placement.Spec()
	}
	if o.Zone != "" || o.ZoneID != "" {
		if s.Placement == nil {
			s.Placement = &localcloud.LaunchPlacement{}
		}
		s.Placement.Zone, s.Placement.ZoneID = o.Zone, o.ZoneID
	}
	out.Launch = s
	return out, nil
}

type fleetOptionsInput struct {
	Strategy     string `q:"AllocationStrategy"`
	Interruption string `q:"InstanceInterruptionBehavior"`
	Least        int    `q:"MinTargetCapacity"`
	SingleType   bool   `q:"SingleInstanceType"`
	SingleZone   bool   `q:"SingleAvailabilityZone"`
	MaxPrice     string `q:"MaxTotalPrice"`
	Pools        int    `q:"InstancePoolsToUseCount"` // of the strategy lowest-price, which takes the cheapest here
}

func (o fleetOptionsInput) options() localcloud.FleetOptions {
	return localcloud.FleetOptions{
		Strategy: o.Strategy, Interruption: o.Interruption, Least: o.Least, SingleType: o.SingleType,
		SingleZone: o.SingleZone, MaxPrice: o.MaxPrice,
	}
}

type fleetInput struct {
	ec2wire.DryRun
	Type        string `q:"Type"`
	ClientToken string `q:"ClientToken"`
	Context     string `q:"Context"`
	Configs     []struct {
		Template  ec2wire.LaunchTemplate `q:"LaunchTemplateSpecification"`
		Overrides []overrideInput        `q:"Overrides"`
	} `q:"LaunchTemplateConfigs,required"`
	Target struct {
		Total       int    `q:"TotalTargetCapacity,required"`
		OnDemand    int    `q:"OnDemandTargetCapacity"`
		Spot        int    `q:"SpotTargetCapacity"`
		DefaultType string `q:"DefaultTargetCapacityType"`
		Unit        string `q:"TargetCapacityUnitType"`
	} `q:"TargetCapacitySpecification,required"`
	Spot             fleetOptionsInput `q:"SpotOptions"`
	OnDemand         fleetOptionsInput `q:"OnDemandOptions"`
	Tags             []ec2wire.TagSpec `q:"TagSpecification"`
	Excess           string            `q:"ExcessCapacityTerminationPolicy"` // of fleets that are maintained
	ReplaceUnhealthy bool              `q:"ReplaceUnhealthyInstances"`       // likewise
	EndWithFleet     bool              `q:"TerminateInstancesWithExpiration"`
	ValidFrom        *time.Time        `q:"ValidFrom"`
	ValidUntil       *time.Time        `q:"ValidUntil"`
}

func (in *fleetInput) params() (p localcloud.FleetParams, err error) {
	if in.Target.Unit != "" && in.Target.Unit != "units" {
		return p, awswire.Errorf("UnsupportedOperation", "The local cloud counts the capacity of fleets in units, not in %s", in.Target.Unit)
	}
	if in.Excess != "" || in.ReplaceUnhealthy || in.EndWithFleet || in.ValidFrom != nil || in.ValidUntil != nil {
		return p, awswire.Errorf("InvalidParameterCombination", "ExcessCapacityTerminationPolicy, ReplaceUnhealthyInstances, TerminateInstancesWithExpiration, ValidFrom and ValidUntil are not of fleets of the type instant")
	}
	p = localcloud.FleetParams{
		Type: in.Type, Total: in.Target.Total, OnDemand: in.Target.OnDemand, Spot: in.Target.Spot,
		DefaultType: in.Target.DefaultType, SpotOptions: in.Spot.options(), OnDemandOpts: in.OnDemand.options(),
		ClientToken: in.ClientToken, Context: in.Context,
	}
	if p.Tags, err = ec2wire.SpecTags(in.Tags, "fleet", "instance"); err != nil {
		return p, err
	}
	if p.InstanceTags, err = ec2wire.SpecTags(in.Tags, "instance", "fleet"); err != nil {
		return p, err
	}
	for _, c := range in.Configs {
		choice := c.Template.Choice()
		if choice == nil {
			return p, awswire.Errorf("MissingParameter", "Each of LaunchTemplateConfigs must contain LaunchTemplateSpecification with an id or a name")
		}
		config := localcloud.FleetConfig{Template: *choice}
		for _, o := range c.Overrides {
			over, err := o.override()
			if err != nil {
				return p, err
			}
			config.Overrides = append(config.Overrides, over)
		}
		p.Configs = append(p.Configs, config)
	}
	return p, nil
}

type fleetTemplate struct {
	ID      string `xml:"launchTemplateId,omitempty"`
	Name    string `xml:"launchTemplateName,omitempty"`
	Version string `xml:"version,omitempty"`
}

func fleetTemplateOf(c localcloud.LaunchTemplateChoice) fleetTemplate {
	return fleetTemplate{c.ID, c.Name, c.Version}
}

type fleetOverride struct {
	Type     string   `xml:"instanceType,omitempty"`
	Image    string   `xml:"imageId,omitempty"`
	Subnet   string   `xml:"subnetId,omitempty"`
	Zone     string   `xml:"availabilityZone,omitempty"`
	ZoneID   string   `xml:"availabilityZoneId,omitempty"`
	MaxPrice string   `xml:"maxPrice,omitempty"`
	Priority *float64 `xml:"priority"`
	Weight   *float64 `xml:"weightedCapacity"`
}

func fleetOverrideOf(o localcloud.FleetOverride) fleetOverride {
	out := fleetOverride{
		Type: o.Launch.Type, Image: o.Launch.ImageID, Subnet: o.Launch.SubnetID, MaxPrice: o.MaxPrice,
		Priority: o.Priority, Weight: o.Weight,
	}
	if p := o.Launch.Placement; p != nil {
		out.Zone, out.ZoneID = p.Zone, p.ZoneID
	}
	return out
}

type templateAndOverride struct {
	Template fleetTemplate `xml:"launchTemplateSpecification"`
	Override fleetOverride `xml:"overrides"`
}

type fleetInstances struct {
	Chosen    templateAndOverride `xml:"launchTemplateAndOverrides"`
	Lifecycle string              `xml:"lifecycle"`
	IDs       []string            `xml:"instanceIds>item"`
	Type      string              `xml:"instanceType"`
	Platform  string              `xml:"platform,omitempty"`
	Subnet    string              `xml:"subnetId,omitempty"`
	Zone      string              `xml:"availabilityZone,omitempty"`
	ZoneID    string              `xml:"availabilityZoneId,omitempty"`
}

type fleetError struct {
	Chosen    templateAndOverride `xml:"launchTemplateAndOverrides"`
	Lifecycle string              `xml:"lifecycle"`
	Code      string              `xml:"errorCode"`
	Message   string              `xml:"errorMessage"`
}

type fleetOutput struct {
	ID        string           `xml:"fleetId"`
	Errors    []fleetError     `xml:"errorSet>item"`
	Instances []fleetInstances `xml:"fleetInstanceSet>item"`
}

func fleetOf(f localcloud.Fleet) fleetOutput {
	return fleetOutput{
		ID: f.ID,
		Errors: ec2wire.Mapped(f.Errors, func(e localcloud.FleetError) fleetError {
			return fleetError{templateAndOverride{fleetTemplateOf(e.Template), fleetOverrideOf(e.Override)}, e.Lifecycle, e.Code, e.Message}
		}),
		Instances: ec2wire.Mapped(f.Instances, func(g localcloud.FleetInstances) fleetInstances {
			return fleetInstances{
				templateAndOverride{fleetTemplateOf(g.Template), fleetOverrideOf(g.Override)},
				g.Lifecycle, g.IDs, g.Type, g.Platform, g.Subnet, g.Zone, localcloud.ZoneID(g.Zone),
			}
		}),
	}
}

func (a *api) createFleet(ctx context.Context, call *awswire.Call, in *fleetInput) (*fleetOutput, error) {
	p, err := in.params()
	if err != nil {
		return nil, err
	}
	f, err := a.cloud.CreateFleet(dry(ctx, in.DryRun), call.Region, p)
	if err != nil {
		return nil, err
	}
	out := fleetOf(f)
	return &out, nil
}

type fleetsInput struct {
	ec2wire.DryRun
	ec2wire.Page
	IDs     []string        `q:"FleetId"`
	Filters ec2wire.Filters `q:"Filter"`
}

type fleetOptions struct {
	Strategy   string `xml:"allocationStrategy,omitempty"`
	Least      int    `xml:"minTargetCapacity,omitempty"`
	SingleType bool   `xml:"singleInstanceType"`
	SingleZone bool   `xml:"singleAvailabilityZone"`
	MaxPrice   string `xml:"maxTotalPrice,omitempty"`
}

type fleetConfig struct {
	Template  fleetTemplate   `xml:"launchTemplateSpecification"`
	Overrides []fleetOverride `xml:"overrides>item"`
}

type fleetDescription struct {
	fleetOutput
	State     string        `xml:"fleetState"`
	Activity  string        `xml:"activityStatus"`
	Type      string        `xml:"type"`
	Created   string        `xml:"createTime"`
	Token     string        `xml:"clientToken,omitempty"`
	Context   string        `xml:"context,omitempty"`
	Fulfilled float64       `xml:"fulfilledCapacity"`
	OnDemand  float64       `xml:"fulfilledOnDemandCapacity"`
	Configs   []fleetConfig `xml:"launchTemplateConfigs>item"`
	Target    struct {
		Total       int    `xml:"totalTargetCapacity"`
		OnDemand    int    `xml:"onDemandTargetCapacity"`
		Spot        int    `xml:"spotTargetCapacity"`
		DefaultType string `xml:"defaultTargetCapacityType,omitempty"`
	} `xml:"targetCapacitySpecification"`
	SpotOptions     fleetOptions  `xml:"spotOptions"`
	OnDemandOptions fleetOptions  `xml:"onDemandOptions"`
	Tags            []ec2wire.Tag `xml:"tagSet>item"`
}

type fleetsOutput struct {
	Fleets []fleetDescription `xml:"fleetSet>item"`
	Next   string             `xml:"nextToken,omitempty"`
}

func (a *api) describeFleets(ctx context.Context, call *awswire.Call, in *fleetsInput) (*fleetsOutput, error) {
	all, err := a.cloud.Fleets(ctx, call.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	by := ec2wire.FilterBy[localcloud.Fleet]{
		"activity-status":                    func(f localcloud.Fleet) []string { return ec2wire.One(activity(f)) },
		"excess-capacity-termination-policy": func(localcloud.Fleet) []string { return nil },
		"fleet-state":                        func(f localcloud.Fleet) []string { return ec2wire.One(f.State) },
		"replace-unhealthy-instances":        func(localcloud.Fleet) []string { return []string{"false"} },
		"type":                               func(f localcloud.Fleet) []string { return ec2wire.One(f.Params.Type) },
	}
	if all, err = by.Match(in.Filters, all, func(f localcloud.Fleet) localcloud.Tags { return f.Tags }); err != nil {
		return nil, err
	}
	if err := in.Check(); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 1, 1000)
	return &fleetsOutput{ec2wire.Mapped(page, describeFleet), next}, err
}

// activity is whether a fleet has what was asked for.
func activity(f localcloud.Fleet) string {
	switch {
	case f.State != "active":
		return "pending_termination"
	case f.OnDemand+f.Spot >= float64(f.Params.Total):
		return "fulfilled"
	}
	return "error"
}

func describeFleet(f localcloud.Fleet) fleetDescription {
	options := func(o localcloud.FleetOptions) fleetOptions {
		return fleetOptions{o.Strategy, o.Least, o.SingleType, o.SingleZone, o.MaxPrice}
	}
	d := fleetDescription{
		fleetOutput: fleetOf(f), State: f.State, Activity: activity(f), Type: f.Params.Type, Created: awswire.Time(f.Created),
		Token: f.Params.ClientToken, Context: f.Params.Context, Fulfilled: f.OnDemand + f.Spot, OnDemand: f.OnDemand,
		SpotOptions: options(f.Params.SpotOptions), OnDemandOptions: options(f.Params.OnDemandOpts), Tags: ec2wire.Tags(f.Tags),
	}
	d.Target.Total, d.Target.OnDemand, d.Target.Spot = f.Params.Total, f.Params.OnDemand, f.Params.Spot
	d.Target.DefaultType = f.Params.DefaultType
	for _, c := range f.Params.Configs {
		d.Configs = append(d.Configs, fleetConfig{fleetTemplateOf(c.Template), ec2wire.Mapped(c.Overrides, fleetOverrideOf)})
	}
	return d
}

type fleetMembersInput struct {
	ec2wire.DryRun
	ec2wire.Page
	ID      string          `q:"FleetId,required"`
	Filters ec2wire.Filters `q:"Filter"`
}

type activeInstance struct {
	ID          string `xml:"instanceId"`
	Type        string `xml:"instanceType"`
	SpotRequest string `xml:"spotInstanceRequestId,omitempty"`
	Health      string `xml:"instanceHealth"`
}

type fleetMembersOutput struct {
	ID        string           `xml:"fleetId"`
	Instances []activeInstance `xml:"activeInstanceSet>item"`
	Next      string           `xml:"nextToken,omitempty"`
}

func (a *api) describeFleetInstances(ctx context.Context, call *awswire.Call, in *fleetMembersInput) (*fleetMembersOutput, error) {
	all, err := a.cloud.FleetMembers(ctx, call.Region, in.ID)
	if err != nil {
		return nil, err
	}
	by := ec2wire.FilterBy[localcloud.Instance]{"instance-type": func(i localcloud.Instance) []string { return ec2wire.One(i.Type) }}
	if all, err = by.Match(in.Filters, all, instanceTags); err != nil {
		return nil, err
	}
	if err := in.Check(); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 1, 1000)
	return &fleetMembersOutput{in.ID, ec2wire.Mapped(page, func(i localcloud.Instance) activeInstance {
		return activeInstance{i.ID, i.Type, i.SpotRequest, "healthy"}
	}), next}, err
}

type deleteFleetsInput struct {
	ec2wire.DryRun
	IDs       []string `q:"FleetId,required"`
	Terminate *bool    `q:"TerminateInstances,required"`
}

type fleetDeleted struct {
	ID       string `xml:"fleetId"`
	Current  string `xml:"currentFleetState"`
	Previous string `xml:"previousFleetState"`
}

type fleetNotDeleted struct {
	ID    string `xml:"fleetId"`
	Error reason `xml:"error"`
}

type deleteFleetsOutput struct {
	Done    []fleetDeleted    `xml:"successfulFleetDeletionSet>item"`
	Refused []fleetNotDeleted `xml:"unsuccessfulFleetDeletionSet>item"`
}

func (a *api) deleteFleets(ctx context.Context, call *awswire.Call, in *deleteFleetsInput) (*deleteFleetsOutput, error) {
	all, err := a.cloud.DeleteFleets(dry(ctx, in.DryRun), call.Region, in.IDs, *in.Terminate)
	if err != nil {
		return nil, err
	}
	out := &deleteFleetsOutput{}
	for _, r := range all {
		if r.Code != "" {
			out.Refused = append(out.Refused, fleetNotDeleted{r.ID, reason{r.Code, r.Message}})
			continue
		}
		out.Done = append(out.Done, fleetDeleted{r.ID, r.Current, r.Previous})
	}
	return out, nil
}
