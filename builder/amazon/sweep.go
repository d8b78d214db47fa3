package amazon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
)

// sweep finds what carries the tag of a run, in the order in which it goes
// away: what another thing uses comes after that one. Images, snapshots and
// volumes are found only while they are marked as unfinished.
func (o opener) sweep(ctx context.Context, opt builder.SweepOptions) ([]builder.Find, error) {
	if o.at == nil && len(opt.Regions) == 0 && !opt.AllRegions && !awsaccess.Configured() {
		return nil, fmt.Errorf("%w: no credentials are configured; -region looks all the same", builder.ErrNotAsked)
	}
	c := Access{}
	if len(opt.Regions) > 0 {
		c.Region = opt.Regions[0]
	}
	if err := c.Prepare(); err != nil {
		return nil, err
	}
	sess, err := awsaccess.Open(ctx, c, o.version, o.at)
	if err != nil {
		return nil, err
	}
	regions := slices.Clone(opt.Regions)
	if len(regions) == 0 {
		regions = []string{sess.Region()}
	}
	if opt.AllRegions {
		out, err := sess.EC2("").DescribeRegions(ctx, &ec2.DescribeRegionsInput{})
		if err != nil {
			return nil, awsaccess.Explain(ctx, sess, err)
		}
		regions = nil
		for _, r := range out.Regions {
			regions = append(regions, aws.ToString(r.RegionName))
		}
	}
	found := make([][]builder.Find, len(regions)+1)
	asks := []func() error{func() (err error) {
		found[len(regions)], err = sweepProfiles(ctx, sess)
		return awsaccess.Explain(ctx, sess, err)
	}}
	for n, region := range regions {
		asks = append(asks, func() error {
			s := sweeper{c: cloud{sess.EC2(region), sess}, region: region}
			err := s.all(ctx)
			found[n] = s.found
			if err != nil {
				return fmt.Errorf("%s: %w", region, awsaccess.Explain(ctx, sess, err))
			}
			return nil
		})
	}
	err = together(asks...)
	all := slices.Concat(found...)
	slices.SortStableFunc(all, func(a, b builder.Find) int {
		return cmp.Compare(slices.Index(sweepOrder, a.Kind), slices.Index(sweepOrder, b.Kind))
	})
	return all, err
}

// sweepOrder is the order of removing.
var sweepOrder = []string{"instance", "launch template", "image", "snapshot", "volume", "key pair", "security group", "instance profile"}

// A sweeper looks into one region.
type sweeper struct {
	c      cloud
	region string
	found  []builder.Find
}

var marked = []types.Filter{{Name: aws.String("tag-key"), Values: []string{tagRun}}}

// withState are the filters for what is marked as unfinished.
func withState(more ...types.Filter) []types.Filter {
	return append([]types.Filter{
		{Name: aws.String("tag-key"), Values: []string{tagRun}}, {Name: aws.String("tag:" + tagState), Values: []string{stateBuilding}},
	}, more...)
}

func (s *sweeper) add(kind, id string, tags map[string]string, since *time.Time, remove func(context.Context) error) {
	if id == "" || tags[tagRun] == "" {
		return
	}
	s.found = append(s.found, builder.Find{
		Thing: builder.Thing{Kind: kind, ID: id, At: s.region}, Run: tags[tagRun], Build: tags[tagBuild], Since: aws.ToTime(since),
		Remove: func(ctx context.Context) error { return awsaccess.Explain(ctx, s.c.s, remove(ctx)) },
	})
}

func (s *sweeper) all(ctx context.Context) error {
	for _, look := range []func(context.Context) error{s.instances, s.templates, s.images, s.volumes, s.keys, s.groups} {
		if err := look(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (s *sweeper) instances(ctx context.Context) error {
	in := &ec2.DescribeInstancesInput{Filters: append(slices.Clone(marked),
		types.Filter{Name: aws.String("instance-state-name"), Values: []string{"pending", "running", "stopping", "stopped"}})}
	for {
		out, err := s.c.DescribeInstances(ctx, in)
		if err != nil {
			return err
		}
		for _, res := range out.Reservations {
			for _, i := range res.Instances {
				id := aws.ToString(i.InstanceId)
				s.add("instance", id, tagMap(i.Tags), i.LaunchTime, func(ctx context.Context) error { return s.c.end(ctx, id) })
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

// end terminates an instance and waits until it is, so that what it used can
// be removed.
func (c cloud) end(ctx context.Context, id string) error {
	_, err := c.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	if err = gone(err, "InvalidInstanceID.NotFound"); err != nil {
		return err
	}
	return c.s.Wait(ctx, goneTime, func(ctx context.Context) (bool, error) {
		i, there, err := c.instance(ctx, id)
		return err == nil && (!there || i.State.Name == types.InstanceStateNameTerminated), err
	})
}

func (s *sweeper) templates(ctx context.Context) error {
	in := &ec2.DescribeLaunchTemplatesInput{Filters: marked}
	for {
		out, err := s.c.DescribeLaunchTemplates(ctx, in)
		if err != nil {
			return err
		}
		for _, t := range out.LaunchTemplates {
			id := aws.ToString(t.LaunchTemplateId)
			s.add("launch template", id, tagMap(t.Tags), t.CreateTime, func(ctx context.Context) error {
				_, err := s.c.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateId: &id})
				return gone(err, templateGone...)
			})
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

// images finds the images and snapshots that are not finished. A snapshot
// that another image is made of is none of them, whatever its tags say.
func (s *sweeper) images(ctx context.Context) error {
	list, err := allImages(ctx, s.c, &ec2.DescribeImagesInput{Owners: []string{"self"}, Filters: marked})
	if err != nil {
		return err
	}
	used := map[string]bool{}
	for _, i := range list {
		if !isBuilding(i.Tags) {
			for _, id := range ids(snapshotsOf(i)) {
				used[id] = true
			}
			continue
		}
		var since *time.Time
		if t, err := time.Parse(time.RFC3339, aws.ToString(i.CreationDate)); err == nil {
			since = &t
		}
		id := aws.ToString(i.ImageId)
		s.add("image", id, tagMap(i.Tags), since, func(ctx context.Context) error { return s.c.deregister(ctx, id, nil) })
	}
	in := &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: withState()}
	for {
		out, err := s.c.DescribeSnapshots(ctx, in)
		if err != nil {
			return err
		}
		for _, sn := range out.Snapshots {
			if id := aws.ToString(sn.SnapshotId); !used[id] {
				s.add("snapshot", id, tagMap(sn.Tags), sn.StartTime, func(ctx context.Context) error { return s.c.deleteSnapshot(ctx, id) })
			}
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

// volumes finds those that no instance has: the others go with theirs, or show
// when it is gone.
func (s *sweeper) volumes(ctx context.Context) error {
	in := &ec2.DescribeVolumesInput{Filters: withState(types.Filter{Name: aws.String("status"), Values: []string{"available", "creating", "error"}})}
	for {
		out, err := s.c.DescribeVolumes(ctx, in)
		if err != nil {
			return err
		}
		for _, v := range out.Volumes {
			id := aws.ToString(v.VolumeId)
			s.add("volume", id, tagMap(v.Tags), v.CreateTime, func(ctx context.Context) error { return s.c.deleteVolume(ctx, id) })
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

func (s *sweeper) keys(ctx context.Context) error {
	out, err := s.c.DescribeKeyPairs(ctx, &ec2.DescribeKeyPairsInput{Filters: marked})
	if err != nil {
		return err
	}
	for _, k := range out.KeyPairs {
		id := aws.ToString(k.KeyPairId)
		s.add("key pair", or(aws.ToString(k.KeyName), id), tagMap(k.Tags), k.CreateTime, func(ctx context.Context) error {
			_, err := s.c.DeleteKeyPair(ctx, &ec2.DeleteKeyPairInput{KeyPairId: &id})
			return gone(err, "InvalidKeyPair.NotFound", "InvalidKeyPairId.NotFound")
		})
	}
	return nil
}

func (s *sweeper) groups(ctx context.Context) error {
	in := &ec2.DescribeSecurityGroupsInput{Filters: marked}
	for {
		out, err := s.c.DescribeSecurityGroups(ctx, in)
		if err != nil {
			return err
		}
		for _, g := range out.SecurityGroups {
			id := aws.ToString(g.GroupId)
			s.add("security group", id, tagMap(g.Tags), nil, func(ctx context.Context) error { return s.c.dropGroup(ctx, id) })
		}
		if aws.ToString(out.NextToken) == "" {
			return nil
		}
		in.NextToken = out.NextToken
	}
}

// sweepIAM is the calls of IAM that only a sweep makes.
type sweepIAM interface {
	ListInstanceProfiles(context.Context, *iam.ListInstanceProfilesInput, ...iamOpt) (*iam.ListInstanceProfilesOutput, error)
	ListRoles(context.Context, *iam.ListRolesInput, ...iamOpt) (*iam.ListRolesOutput, error)
	GetRole(context.Context, *iam.GetRoleInput, ...iamOpt) (*iam.GetRoleOutput, error)
}

var _ sweepIAM = (*iam.Client)(nil)

var ourName = regexp.MustCompile(`^ingot-[0-9a-f]{24}$`)

// sweepProfiles finds temporary instance profiles and their roles, which have
// the same name. Lists do not tell tags, so that each of our kind of name is
// asked for. Who may not list them has made none.
func sweepProfiles(ctx context.Context, sess *awsaccess.Session) ([]builder.Find, error) {
	c := sess.IAM()
	names := map[string]bool{}
	for in := (&iam.ListInstanceProfilesInput{}); ; {
		out, err := sweepIAM(c).ListInstanceProfiles(ctx, in)
		if denied(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, p := range out.InstanceProfiles {
			names[aws.ToString(p.InstanceProfileName)] = true
		}
		if !out.IsTruncated {
			break
		}
		in.Marker = out.Marker
	}
	for in := (&iam.ListRolesInput{}); ; {
		out, err := sweepIAM(c).ListRoles(ctx, in)
		if denied(err) {
			return nil, nil
		}
		if err != nil {
			return nil, err
		}
		for _, r := range out.Roles {
			names[aws.ToString(r.RoleName)] = true
		}
		if !out.IsTruncated {
			break
		}
		in.Marker = out.Marker
	}
	s := sweeper{c: cloud{s: sess}}
	for name := range names {
		if !ourName.MatchString(name) {
			continue
		}
		tags, since, err := profileTags(ctx, c, name)
		if err != nil {
			return nil, err
		}
		s.add("instance profile", name, tags, since, func(ctx context.Context) error { return dropProfile(ctx, sess, name) })
	}
	slices.SortFunc(s.found, func(a, b builder.Find) int { return strings.Compare(a.ID, b.ID) })
	return s.found, nil
}

// profileTags are those of the profile of a name, or of the role.
func profileTags(ctx context.Context, c *iam.Client, name string) (map[string]string, *time.Time, error) {
	asMap := func(list []iamtypes.Tag) map[string]string {
		m := map[string]string{}
		for _, t := range list {
			m[aws.ToString(t.Key)] = aws.ToString(t.Value)
		}
		return m
	}
	p, err := iamAPI(c).GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: &name})
	if err == nil {
		return asMap(p.InstanceProfile.Tags), p.InstanceProfile.CreateDate, nil
	}
	if gone(err, "NoSuchEntity") != nil {
		return nil, nil, err
	}
	r, err := sweepIAM(c).GetRole(ctx, &iam.GetRoleInput{RoleName: &name})
	if err != nil {
		return nil, nil, gone(err, "NoSuchEntity")
	}
	return asMap(r.Role.Tags), r.Role.CreateDate, nil
}

func denied(err error) bool {
	code := awsaccess.Code(err)
	return slices.Contains([]string{"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}, code)
}

// dropGroup deletes a group as soon as no instance uses it.
func (c cloud) dropGroup(ctx context.Context, id string) error {
	err := c.s.Wait(ctx, groupTime, func(ctx context.Context) (bool, error) {
		_, err := c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: &id})
		switch awsaccess.Code(err) {
		case "DependencyViolation", "InvalidGroup.InUse":
			return false, nil
		}
		err = gone(err, "InvalidGroup.NotFound")
		return err == nil, err
	})
	var late *awsaccess.TimeoutError
	if errors.As(err, &late) {
		return fmt.Errorf("security group %s is still in use: %w", id, err)
	}
	return err
}
