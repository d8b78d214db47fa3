package amazon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/diag"
)

// together runs the functions at the same time and joins their errors.
func together(list ...func() error) error {
	errs := make([]error, len(list))
	var wg sync.WaitGroup
	for i, f := range list {
		wg.Go(func() { errs[i] = f() })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// check finds what would make the build fail later. What can be asked at the
// same time is.
func (m *machine) check(ctx context.Context) error {
	if err := m.checkPlugin(); err != nil {
		return err
	}
	sess, err := m.session(ctx)
	if err != nil {
		return err
	}
	checks := []func() error{func() error { return m.checkGuards(ctx) }}
	if p := m.run.InstanceProfile; p != "" && !m.run.SkipProfileCheck {
		checks = append(checks, func() error { return m.checkProfile(ctx, p) })
	}
	if m.img != nil && !m.skipsImage() {
		if len(m.targets(sess.Region())) == 0 {
			return diag.Fieldsf([]string{"skip_save_build_region", "ami_regions"}, "needs another region than %s in ami_regions: no image would be left", sess.Region())
		}
		if len(m.img.copyRegions(sess.Region())) > 0 && !m.img.SkipRegionCheck {
			checks = append(checks, func() error { return m.checkRegions(ctx) })
		}
		checks = append(checks, func() error { return m.checkNames(ctx, sess.Region()) })
	}
	return together(checks...)
}

func (m *machine) skipsImage() bool { return m.ebs != nil && m.ebs.SkipCreateAMI }

// replaces reports whether an image of the same name is to be removed.
func (m *machine) replaces() bool { return m.img.ForceDeregister || m.info.Force }

func (m *machine) checkRegions(ctx context.Context) error {
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	out, err := c.DescribeRegions(ctx, &ec2.DescribeRegionsInput{})
	if err != nil {
		return err
	}
	var known []string
	for _, r := range out.Regions {
		known = append(known, aws.ToString(r.RegionName))
	}
	slices.Sort(known)
	var errs []error
	for i, r := range m.img.Regions {
		if !slices.Contains(known, r) {
			errs = append(errs, diag.WithHint(diag.Fieldf(fmt.Sprintf("ami_regions[%d]", i), "the account has no region %q", r),
				"enable it for the account, or skip_region_validation = true; it has %s", strings.Join(known, ", ")))
		}
	}
	return errors.Join(errs...)
}

// checkNames refuses when the name is taken in any region the image goes to,
// or taken by an image that cannot be removed: after the build it would be too
// late.
func (m *machine) checkNames(ctx context.Context, buildRegion string) error {
	// A name that says something of the source image needs it first.
	name := m.img.AMIName
	if strings.Contains(name, "{{") {
		src, err := m.source(ctx)
		if err != nil {
			return nil //nolint:nilerr // told by the guards, which look for it too
		}
		if name, err = m.imageName(buildRegion, src); err != nil {
			return err
		}
	}
	var checks []func() error
	for _, region := range m.targets(buildRegion) {
		checks = append(checks, func() error {
			c, err := m.in(ctx, region)
			if err != nil {
				return err
			}
			i, found, err := c.imageNamed(ctx, name)
			if err != nil || !found || ours(m.info.RunID, i.Tags) {
				return err
			}
			if m.replaces() {
				return removable(i, region)
			}
			return diag.WithHint(fmt.Errorf("the account has an image named %q in %s already: %s", name, region, aws.ToString(i.ImageId)),
				"choose another ami_name, with {{timestamp}} for example; or have the old image removed by force_deregister = true or -force")
		})
	}
	return together(checks...)
}

// removable says why an image cannot be deregistered.
func removable(i types.Image, region string) error {
	if p := aws.ToString(i.DeregistrationProtection); strings.HasPrefix(p, "enabled") {
		return diag.WithHint(fmt.Errorf("image %s in %s has the name and is protected from being deregistered (%s)", aws.ToString(i.ImageId), region, p),
			"choose another ami_name, or take the protection away: aws ec2 disable-image-deregistration-protection")
	}
	return nil
}

// targets are all regions in which there is an image in the end.
func (m *machine) targets(buildRegion string) []string {
	out := m.img.copyRegions(buildRegion)
	if !m.img.SkipBuildRegion {
		out = append([]string{buildRegion}, out...)
	}
	return out
}

// ours reports whether the run made what has the tags.
func ours(run string, tags []types.Tag) bool {
	return run != "" && tagMap(tags)[tagRun] == run
}

// imageNamed returns the account's image of that name: there is one at most.
func (c cloud) imageNamed(ctx context.Context, name string) (types.Image, bool, error) {
	list, err := allImages(ctx, c, &ec2.DescribeImagesInput{
		Owners: []string{"self"}, Filters: []types.Filter{{Name: aws.String("name"), Values: []string{name}}},
	})
	for _, i := range list {
		if aws.ToString(i.Name) == name && i.State != types.ImageStateDeregistered {
			return i, true, nil
		}
	}
	return types.Image{}, false, err
}
