package amazon

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
)

const fastLaunchTime = 2 * time.Hour // it starts instances of the image first

// of returns what holds in a region, nil when fast launch is off there.
func (l *FastLaunch) of(region string) *FastLaunch {
	if l == nil || !l.Enable {
		return nil
	}
	out := *l
	out.Regions = nil
	for _, r := range l.Regions {
		if r.Region != region {
			continue
		}
		if r.Enable != nil && !*r.Enable {
			return nil
		}
		// A template exists in one region: the block's takes its place whole.
		out.TemplateID, out.TemplateName, out.TemplateVersion = r.TemplateID, r.TemplateName, r.TemplateVersion
	}
	return &out
}

// fastLaunch prepares a Windows image to start faster and waits until it does.
func (m *machine) fastLaunch(ctx context.Context, c cloud, r *builder.Run, image, region string) error {
	if m.ebs == nil {
		return nil
	}
	l := m.ebs.FastLaunch.of(region)
	if l == nil {
		return nil
	}
	in := &ec2.EnableFastLaunchInput{ImageId: &image, ResourceType: aws.String("snapshot"), MaxParallelLaunches: optionalInt(l.MaxParallel)}
	if l.TargetCount > 0 {
		in.SnapshotConfiguration = &types.FastLaunchSnapshotConfigurationRequest{TargetResourceCount: optionalInt(l.TargetCount)}
	}
	if l.TemplateID != "" || l.TemplateName != "" {
		version := strconv.Itoa(l.TemplateVersion)
		if l.TemplateVersion == 0 {
			latest, err := c.latestVersion(ctx, l.TemplateID, l.TemplateName)
			if err != nil {
				return err
			}
			version = latest
		}
		in.LaunchTemplate = &types.FastLaunchLaunchTemplateSpecificationRequest{
			LaunchTemplateId: optional(l.TemplateID), LaunchTemplateName: optional(l.TemplateName), Version: &version,
		}
	}
	r.Say("Enabling fast launch of image %s in %s", image, region)
	if _, err := c.EnableFastLaunch(ctx, in); err != nil {
		return err
	}
	err := c.s.Wait(ctx, fastLaunchTime, func(ctx context.Context) (bool, error) {
		out, err := c.DescribeFastLaunchImages(ctx, &ec2.DescribeFastLaunchImagesInput{ImageIds: []string{image}})
		if err != nil || len(out.FastLaunchImages) == 0 {
			return false, err
		}
		switch i := out.FastLaunchImages[0]; i.State {
		case types.FastLaunchStateCodeEnabled:
			return true, nil
		case types.FastLaunchStateCodeEnabledFailed, types.FastLaunchStateCodeEnablingFailed:
			return false, fmt.Errorf("fast launch of image %s: %s: %s", image, i.State, aws.ToString(i.StateTransitionReason))
		}
		return false, nil
	})
	var late *awsaccess.TimeoutError
	if errors.As(err, &late) {
		return fmt.Errorf("fast launch of image %s is not enabled: %w", image, err)
	}
	return err
}

// latestVersion is the number of a launch template's newest version.
func (c cloud) latestVersion(ctx context.Context, id, name string) (string, error) {
	in := &ec2.DescribeLaunchTemplatesInput{}
	if id != "" {
		in.LaunchTemplateIds = []string{id}
	} else {
		in.LaunchTemplateNames = []string{name}
	}
	out, err := c.DescribeLaunchTemplates(ctx, in)
	if err != nil {
		return "", err
	}
	if len(out.LaunchTemplates) != 1 {
		return "", fmt.Errorf("there is no launch template %s%s", id, name)
	}
	return strconv.FormatInt(aws.ToInt64(out.LaunchTemplates[0].LatestVersionNumber), 10), nil
}
