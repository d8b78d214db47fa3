package amazon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
)

// makeTemplate makes the launch template that a fleet of one spot instance is
// started from.
func (m *machine) makeTemplate(ctx context.Context, r *builder.Run, s *state) error {
	if m.run.SpotPrice == "" || s.Template.ID != "" {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	data, err := m.templateData(r, s)
	if err != nil {
		return err
	}
	tags, err := m.runTags(r, s)
	if err != nil {
		return err
	}
	if s.Template.Name == "" {
		s.Template.Name = s.token(r, "launch-template "+m.keyName(s))
	}
	err = c.once(ctx, making{
		begun: s.Template.Begun,
		mark:  func() error { s.Template.Begun = true; return r.Save() },
		find: func(ctx context.Context) (bool, error) {
			out, err := c.DescribeLaunchTemplates(ctx, &ec2.DescribeLaunchTemplatesInput{LaunchTemplateNames: []string{s.Template.Name}})
			if err != nil || len(out.LaunchTemplates) == 0 {
				return false, gone(err, templateGone...)
			}
			s.Template.ID = aws.ToString(out.LaunchTemplates[0].LaunchTemplateId)
			return true, nil
		},
		make: func(ctx context.Context) error {
			out, err := c.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
				LaunchTemplateName: &s.Template.Name, LaunchTemplateData: data, ClientToken: aws.String(s.token(r, "launch-template")),
				TagSpecifications: []types.TagSpecification{spec(types.ResourceTypeLaunchTemplate, tags)},
			})
			if err == nil {
				s.Template.ID = aws.ToString(out.LaunchTemplate.LaunchTemplateId)
			}
			return err
		},
		taken: "InvalidLaunchTemplateName.AlreadyExistsException",
	})
	return err
}

var templateGone = []string{"InvalidLaunchTemplateName.NotFoundException", "InvalidLaunchTemplateId.NotFound", "InvalidLaunchTemplateId.NotFoundException"}

func (m *machine) removeTemplate(ctx context.Context, _ *builder.Run, s *state) error {
	if !s.Template.Begun {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	_, err = c.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateName: &s.Template.Name})
	if err = gone(err, templateGone...); err == nil {
		s.Template = thing{}
	}
	return err
}

// fleetInput is a fleet of one spot instance.
func (m *machine) fleetInput(r *builder.Run, s *state, at place) (*ec2.CreateFleetInput, error) {
	o := m.run
	user, err := m.renderTags(s, mergeTags(o.FleetTags, o.FleetTagEntries))
	if err != nil {
		return nil, err
	}
	config := types.FleetLaunchTemplateConfigRequest{LaunchTemplateSpecification: &types.FleetLaunchTemplateSpecificationRequest{
		LaunchTemplateId: &s.Template.ID, Version: aws.String("1"),
	}}
	for n, typ := range o.types() {
		if !m.fits(s.Source, typ) {
			continue
		}
		ov := types.FleetLaunchTemplateOverridesRequest{InstanceType: types.InstanceType(typ), SubnetId: optional(at.Subnet)}
		if at.Subnet == "" {
			ov.AvailabilityZone = optional(at.Zone)
		}
		if o.SpotPrice != "auto" {
			ov.MaxPrice = aws.String(o.SpotPrice)
		}
		if o.SpotStrategy == "capacity-optimized-prioritized" {
			ov.Priority = aws.Float64(float64(n))
		}
		config.Overrides = append(config.Overrides, ov)
	}
	in := &ec2.CreateFleetInput{
		Type: types.FleetTypeInstant, ClientToken: aws.String(s.token(r, "fleet "+m.keyName(s)+" "+at.Subnet+" "+at.Zone)),
		LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{config},
		TargetCapacitySpecification: &types.TargetCapacitySpecificationRequest{
			TotalTargetCapacity: aws.Int32(1), DefaultTargetCapacityType: types.DefaultTargetCapacityTypeSpot,
		},
		TagSpecifications: []types.TagSpecification{spec(types.ResourceTypeFleet, tagged(user, ofRun(r)...))},
	}
	if o.SpotStrategy != "" {
		in.SpotOptions = &types.SpotOptionsRequest{AllocationStrategy: types.SpotAllocationStrategy(o.SpotStrategy)}
	}
	return in, nil
}

// runFleet starts a spot instance by a fleet that answers at once.
func (m *machine) runFleet(ctx context.Context, c cloud, r *builder.Run, s *state, at place) error {
	in, err := m.fleetInput(r, s, at)
	if err != nil {
		return err
	}
	if err := r.Save(); err != nil {
		return err
	}
	out, err := c.CreateFleet(ctx, in, onLadder)
	what := "a spot instance of the type " + strings.Join(m.run.types(), " or ")
	if isCapacity(err) {
		return &capacityError{what, err}
	}
	if err != nil {
		return err
	}
	for _, i := range out.Instances {
		if len(i.InstanceIds) > 0 {
			s.Instance.ID, s.Instance.Type = i.InstanceIds[0], string(i.InstanceType)
			r.Say("Started spot instance %s (%s)", s.Instance.ID, s.Instance.Type)
			if resent(out.ResultMetadata) {
				return m.endStrays(ctx, c, r, s)
			}
			return nil
		}
	}
	// The answer may be the second one to a call whose instance exists: ask.
	ids, err := m.ourInstances(ctx, c, r)
	if err != nil {
		return err
	}
	if len(ids) > 0 {
		s.Instance.ID = ids[0]
		return nil
	}
	full := len(out.Errors) > 0
	var errs []error
	for _, e := range out.Errors {
		code := aws.ToString(e.ErrorCode)
		full = full && slices.Contains(noCapacity, code)
		errs = append(errs, fmt.Errorf("%s: %s", code, aws.ToString(e.ErrorMessage)))
	}
	if err = errors.Join(errs...); err == nil {
		err = errors.New("the fleet started none and gave no reason")
	}
	if full {
		return &capacityError{what, err}
	}
	return fmt.Errorf("%s: %w", what, err)
}
