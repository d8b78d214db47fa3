package compute

import (
	"context"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) spot() awswire.Operations {
	return awswire.Operations{
		"RequestSpotInstances":         awswire.Op(a.requestSpot),
		"DescribeSpotInstanceRequests": awswire.Op(a.describeSpot),
		"CancelSpotInstanceRequests":   awswire.Op(a.cancelSpot),
	}
}

type spotInput struct {
	ec2wire.DryRun
	Price        string     `q:"SpotPrice"`
	ClientToken  string     `q:"ClientToken"`
	Count        *int       `q:"InstanceCount"`
	Type         string     `q:"Type"`
	Interruption string     `q:"InstanceInterruptionBehavior"`
	Duration     int        `q:"BlockDurationMinutes"`
	LaunchGroup  string     `q:"LaunchGroup"`
	ZoneGroup    string     `q:"AvailabilityZoneGroup"` // all requests of one count are in one zone anyway
	ValidFrom    *time.Time `q:"ValidFrom"`
	ValidUntil   *time.Time `q:"ValidUntil"`
	Spec         struct {
		ec2wire.Launch
		SubnetID   string `q:"SubnetId"`
		RamdiskID  string `q:"RamdiskId"`
		Addressing string `q:"AddressingType"`
	} `q:"LaunchSpecification,required"`
	Tags []ec2wire.TagSpec `q:"TagSpecification"`
}

type spotLaunch struct {
	ImageID      string  `xml:"imageId"`
	Type         string  `xml:"instanceType,omitempty"`
	KeyName      string  `xml:"keyName,omitempty"`
	Groups       []group `xml:"groupSet>item"`
	Subnet       string  `xml:"subnetId,omitempty"`
	EBSOptimized bool    `xml:"ebsOptimized"`
	Placement    *struct {
		Zone    string `xml:"availabilityZone"`
		Tenancy string `xml:"tenancy,omitempty"`
	} `xml:"placement"`
	Monitoring enabled `xml:"monitoring"`
}

type spotStatus struct {
	Code    string `xml:"code"`
	Updated string `xml:"updateTime"`
	Message string `xml:"message"`
}

type spotFault struct {
	Code    string `xml:"code"`
	Message string `xml:"message"`
}

type spotRequest struct {
	ID           string        `xml:"spotInstanceRequestId"`
	Price        string        `xml:"spotPrice,omitempty"`
	Type         string        `xml:"type"`
	State        string        `xml:"state"`
	Fault        *spotFault    `xml:"fault"`
	Status       spotStatus    `xml:"status"`
	LaunchGroup  string        `xml:"launchGroup,omitempty"`
	Launch       spotLaunch    `xml:"launchSpecification"`
	Instance     string        `xml:"instanceId,omitempty"`
	Created      string        `xml:"createTime"`
	ValidFrom    string        `xml:"validFrom,omitempty"`
	ValidUntil   string        `xml:"validUntil,omitempty"`
	Product      string        `xml:"productDescription"`
	Zone         string        `xml:"launchedAvailabilityZone,omitempty"`
	ZoneID       string        `xml:"launchedAvailabilityZoneId,omitempty"`
	Interruption string        `xml:"instanceInterruptionBehavior"`
	Tags         []ec2wire.Tag `xml:"tagSet>item"`
}

func (s *shower) spotRequest(r localcloud.SpotRequest) spotRequest {
	out := spotRequest{
		ID: r.ID, Price: r.MaxPrice, Type: r.Type, State: r.State, Status: spotStatus{r.Code, awswire.Time(r.Updated), r.Message},
		LaunchGroup: r.LaunchGroup, Instance: r.Instance, Created: awswire.Time(r.Created), ValidFrom: awswire.Time(r.ValidFrom),
		ValidUntil: awswire.Time(r.ValidUntil), Product: "Linux/UNIX", Zone: r.Zone, ZoneID: localcloud.ZoneID(r.Zone),
		Interruption: r.Interruption, Tags: ec2wire.Tags(r.Tags),
	}
	if r.State == "failed" {
		out.Fault = &spotFault{r.Code, r.Message}
	}
	l := &out.Launch
	l.ImageID, l.Type, l.KeyName, l.Subnet = r.Spec.ImageID, r.Spec.Type, r.Spec.KeyName, r.Spec.SubnetID
	l.Groups = s.groupSet(r.Spec.SecurityGroupIDs)
	l.EBSOptimized = r.Spec.EBSOptimized != nil && *r.Spec.EBSOptimized
	l.Monitoring.Enabled = r.Spec.Monitoring != nil && *r.Spec.Monitoring
	if s.images[l.ImageID].Platform == "windows" {
		out.Product = "Windows"
	}
	if p := r.Spec.Placement; p != nil {
		l.Placement = &struct {
			Zone    string `xml:"availabilityZone"`
			Tenancy string `xml:"tenancy,omitempty"`
		}{p.Zone, p.Tenancy}
	}
	return out
}

type spotOutput struct {
	Requests []spotRequest `xml:"spotInstanceRequestSet>item"`
	Next     string        `xml:"nextToken,omitempty"`
}

func (a *api) requestSpot(ctx context.Context, call *awswire.Call, in *spotInput) (*spotOutput, error) {
	if in.Spec.Addressing != "" {
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter addressingType is invalid. It is of EC2-Classic, which is gone", in.Spec.Addressing)
	}
	spec, err := in.Spec.Spec()
	if err != nil {
		return nil, err
	}
	spec.SubnetID, spec.RamdiskID = in.Spec.SubnetID, in.Spec.RamdiskID
	tags, err := ec2wire.SpecTags(in.Tags, "spot-instances-request")
	if err != nil {
		return nil, err
	}
	p := localcloud.SpotParams{
		Launch: spec, Count: 1, Price: in.Price, Type: in.Type, Interruption: in.Interruption, LaunchGroup: in.LaunchGroup,
		Duration: in.Duration, ClientToken: in.ClientToken, Tags: tags,
	}
	if in.Count != nil {
		p.Count = *in.Count
	}
	if in.ValidFrom != nil {
		p.ValidFrom = *in.ValidFrom
	}
	if in.ValidUntil != nil {
		p.ValidUntil = *in.ValidUntil
	}
	made, err := a.cloud.RequestSpotInstances(dry(ctx, in.DryRun), call.Region, p)
	if err != nil {
		return nil, err
	}
	s, err := a.shower(ctx, call.Region)
	if err != nil {
		return nil, err
	}
	return &spotOutput{Requests: ec2wire.Mapped(made, s.spotRequest)}, nil
}

type describeSpotInput struct {
	ec2wire.DryRun
	ec2wire.Page
	IDs     []string        `q:"SpotInstanceRequestId"`
	Filters ec2wire.Filters `q:"Filter"`
}

func (a *api) describeSpot(ctx context.Context, call *awswire.Call, in *describeSpotInput) (*spotOutput, error) {
	if err := ec2wire.OnlyWithout(in.Page, in.IDs); err != nil {
		return nil, err
	}
	all, err := a.cloud.SpotRequests(ctx, call.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	type req = localcloud.SpotRequest
	by := ec2wire.FilterBy[req]{
		"create-time":                func(r req) []string { return ec2wire.One(awswire.Time(r.Created)) },
		"fault-code":                 func(r req) []string { return faultCode(r) },
		"instance-id":                func(r req) []string { return ec2wire.One(r.Instance) },
		"launch-group":               func(r req) []string { return ec2wire.One(r.LaunchGroup) },
		"launch.group-id":            func(r req) []string { return r.Spec.SecurityGroupIDs },
		"launch.image-id":            func(r req) []string { return ec2wire.One(r.Spec.ImageID) },
		"launch.instance-type":       func(r req) []string { return ec2wire.One(r.Spec.Type) },
		"launch.key-name":            func(r req) []string { return ec2wire.One(r.Spec.KeyName) },
		"launched-availability-zone": func(r req) []string { return ec2wire.One(r.Zone) },
		"spot-instance-request-id":   func(r req) []string { return ec2wire.One(r.ID) },
		"spot-price":                 func(r req) []string { return ec2wire.One(r.MaxPrice) },
		"state":                      func(r req) []string { return ec2wire.One(r.State) },
		"status-code":                func(r req) []string { return ec2wire.One(r.Code) },
		"status-message":             func(r req) []string { return ec2wire.One(r.Message) },
		"type":                       func(r req) []string { return ec2wire.One(r.Type) },
	}
	if all, err = by.Match(in.Filters, all, func(r req) localcloud.Tags { return r.Tags }); err != nil {
		return nil, err
	}
	if err := in.Check(); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	if err != nil {
		return nil, err
	}
	s, err := a.shower(ctx, call.Region)
	if err != nil {
		return nil, err
	}
	return &spotOutput{ec2wire.Mapped(page, s.spotRequest), next}, nil
}

func faultCode(r localcloud.SpotRequest) []string {
	if r.State != "failed" {
		return nil
	}
	return ec2wire.One(r.Code)
}

type cancelSpotInput struct {
	ec2wire.DryRun
	IDs []string `q:"SpotInstanceRequestId,required"`
}

type spotCancelled struct {
	ID    string `xml:"spotInstanceRequestId"`
	State string `xml:"state"`
}

type cancelSpotOutput struct {
	Requests []spotCancelled `xml:"spotInstanceRequestSet>item"`
}

func (a *api) cancelSpot(ctx context.Context, call *awswire.Call, in *cancelSpotInput) (*cancelSpotOutput, error) {
	all, err := a.cloud.CancelSpotRequests(dry(ctx, in.DryRun), call.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	return &cancelSpotOutput{ec2wire.Mapped(all, func(r localcloud.SpotRequest) spotCancelled {
		return spotCancelled{r.ID, r.State}
	})}, nil
}
