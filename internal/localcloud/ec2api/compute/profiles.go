package compute

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) profiles() awswire.Operations {
	return awswire.Operations{
		"AssociateIamInstanceProfile":            awswire.Op(a.associate),
		"DisassociateIamInstanceProfile":         awswire.Op(a.disassociate),
		"ReplaceIamInstanceProfileAssociation":   awswire.Op(a.replaceAssociation),
		"DescribeIamInstanceProfileAssociations": awswire.Op(a.describeAssociations),
	}
}

type profileAssociation struct {
	ID       string   `xml:"associationId"`
	Instance string   `xml:"instanceId"`
	Profile  *profile `xml:"iamInstanceProfile"`
	State    string   `xml:"state"`
	Since    string   `xml:"timestamp"`
}

func (s *shower) association(p localcloud.ProfileAssociation) profileAssociation {
	return profileAssociation{p.ID, p.Instance, s.profile(p.Profile), p.State, awswire.Time(p.Since)}
}

type associationOutput struct {
	Association profileAssociation `xml:"iamInstanceProfileAssociation"`
}

func (a *api) associationOutput(ctx context.Context, region string, p localcloud.ProfileAssociation, err error) (*associationOutput, error) {
	if err != nil {
		return nil, err
	}
	s, err := a.shower(ctx, region)
	if err != nil {
		return nil, err
	}
	return &associationOutput{s.association(p)}, nil
}

type associateInput struct {
	Instance string                `q:"InstanceId,required"`
	Profile  ec2wire.LaunchProfile `q:"IamInstanceProfile,required"`
}

func (a *api) associate(ctx context.Context, call *awswire.Call, in *associateInput) (*associationOutput, error) {
	p, err := a.cloud.AssociateProfile(ctx, call.Region, in.Instance, in.Profile.ARN, in.Profile.Name)
	p.State = "associating" // as EC2 says at first
	return a.associationOutput(ctx, call.Region, p, err)
}

type associationInput struct {
	ID string `q:"AssociationId,required"`
}

func (a *api) disassociate(ctx context.Context, call *awswire.Call, in *associationInput) (*associationOutput, error) {
	p, err := a.cloud.DisassociateProfile(ctx, call.Region, in.ID)
	return a.associationOutput(ctx, call.Region, p, err)
}

type replaceInput struct {
	ID      string                `q:"AssociationId,required"`
	Profile ec2wire.LaunchProfile `q:"IamInstanceProfile,required"`
}

func (a *api) replaceAssociation(ctx context.Context, call *awswire.Call, in *replaceInput) (*associationOutput, error) {
	p, err := a.cloud.ReplaceProfile(ctx, call.Region, in.ID, in.Profile.ARN, in.Profile.Name)
	p.State = "associating"
	return a.associationOutput(ctx, call.Region, p, err)
}

type associationsInput struct {
	ec2wire.Page
	IDs     []string        `q:"AssociationId"`
	Filters ec2wire.Filters `q:"Filter"`
}

type associationsOutput struct {
	Associations []profileAssociation `xml:"iamInstanceProfileAssociationSet>item"`
	Next         string               `xml:"nextToken,omitempty"`
}

func (a *api) describeAssociations(ctx context.Context, call *awswire.Call, in *associationsInput) (*associationsOutput, error) {
	s, err := a.shower(ctx, call.Region)
	if err != nil {
		return nil, err
	}
	all, err := a.cloud.ProfileAssociations(ctx, call.Region, in.IDs)
	if err != nil {
		return nil, err
	}
	by := ec2wire.FilterBy[localcloud.ProfileAssociation]{
		"instance-id": func(p localcloud.ProfileAssociation) []string { return ec2wire.One(p.Instance) },
		"state":       func(p localcloud.ProfileAssociation) []string { return ec2wire.One(p.State) },
	}
	if all, err = by.Match(in.Filters, all, func(localcloud.ProfileAssociation) localcloud.Tags { return nil }); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	return &associationsOutput{ec2wire.Mapped(page, s.association), next}, err
}
