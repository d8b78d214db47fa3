package amazonimport

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/ebsdirect"
)

const (
	rootDevice  = "/dev/sda1" // what ImportImage gives
	maxTags     = 50
	imageTime   = time.Hour
	cleanUpTime = 2 * time.Minute
)

// tagImport marks what a job made with its token.
const tagImport = "ingot:import"

// ec2API is the calls of EC2 that are made.
type ec2API interface {
	ebsdirect.Snapshots
	CancelImportTask(context.Context, *ec2.CancelImportTaskInput, ...func(*ec2.Options)) (*ec2.CancelImportTaskOutput, error)
	CopyImage(context.Context, *ec2.CopyImageInput, ...func(*ec2.Options)) (*ec2.CopyImageOutput, error)
	CreateTags(context.Context, *ec2.CreateTagsInput, ...func(*ec2.Options)) (*ec2.CreateTagsOutput, error)
	DeregisterImage(context.Context, *ec2.DeregisterImageInput, ...func(*ec2.Options)) (*ec2.DeregisterImageOutput, error)
	DescribeImages(context.Context, *ec2.DescribeImagesInput, ...func(*ec2.Options)) (*ec2.DescribeImagesOutput, error)
	DescribeImportImageTasks(context.Context, *ec2.DescribeImportImageTasksInput, ...func(*ec2.Options)) (*ec2.DescribeImportImageTasksOutput, error)
	ImportImage(context.Context, *ec2.ImportImageInput, ...func(*ec2.Options)) (*ec2.ImportImageOutput, error)
	ModifyImageAttribute(context.Context, *ec2.ModifyImageAttributeInput, ...func(*ec2.Options)) (*ec2.ModifyImageAttributeOutput, error)
	RegisterImage(context.Context, *ec2.RegisterImageInput, ...func(*ec2.Options)) (*ec2.RegisterImageOutput, error)
}

// An image is an AMI that is there.
type image struct {
	id, name string
	snaps    []string
	gib      int64
	tags     map[string]string
	created  time.Time
}

func imageOf(i types.Image) image {
	out := image{id: aws.ToString(i.ImageId), name: aws.ToString(i.Name), tags: map[string]string{}}
	for _, m := range i.BlockDeviceMappings {
		if m.Ebs == nil || m.Ebs.SnapshotId == nil {
			continue
		}
		out.snaps = append(out.snaps, *m.Ebs.SnapshotId)
		if aws.ToString(m.DeviceName) == aws.ToString(i.RootDeviceName) || out.gib == 0 {
			out.gib = int64(aws.ToInt32(m.Ebs.VolumeSize))
		}
	}
	for _, t := range i.Tags {
		out.tags[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	if t, err := time.Parse(time.RFC3339, aws.ToString(i.CreationDate)); err == nil {
		out.created = t.UTC()
	}
	return out
}

// allTags is the user's tags and ours, which never replace one of the user's.
func (j *job) allTags() map[string]string {
	all := maps.Clone(j.Tags)
	if all == nil {
		all = map[string]string{}
	}
	for _, t := range [][2]string{
		{tagImport, j.token},
		{"ingot:run", j.build.RunID},
		{"ingot:build", j.build.Name},
		{"Architecture", string(j.arch)},
		{"VirtualizationType", "hvm"},
		{"BootMode", string(j.boot)},
		{"ingot:version", j.version},
	} {
		if _, given := all[t[0]]; !given && t[1] != "" && len(all) < maxTags {
			all[t[0]] = t[1]
		}
	}
	return all
}

func ec2Tags(m map[string]string) []types.Tag {
	out := make([]types.Tag, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, types.Tag{Key: aws.String(k), Value: aws.String(m[k])})
	}
	return out
}

// named returns the account's image of that name. One that this job did not
// make is an error: a name is there once.
func (j *job) named(ctx context.Context, name string) (img image, found bool, err error) {
	out, err := j.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{
		Owners: []string{"self"}, Filters: []types.Filter{{Name: aws.String("name"), Values: []string{escape(name)}}},
	})
	if err != nil {
		return image{}, false, fmt.Errorf("look for an image %q: %w", name, err)
	}
	for _, i := range out.Images {
		if aws.ToString(i.Name) != name {
			continue
		}
		img := imageOf(i)
		if img.tags[tagImport] != j.token {
			return image{}, false, diag.WithHint(diag.Fieldf("ami_name", "there is an image %q already in %s: %s", name, j.sess.Region(), img.id),
				"choose another name, or put {{timestamp}} in it, or deregister that image")
		}
		return img, true, nil
	}
	return image{}, false, nil
}

// escape makes a text match only itself as the value of a filter.
func escape(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`).Replace(s)
}

// available waits until the image can be used.
func (j *job) available(ctx context.Context, id string) (image, error) {
	var img image
	err := j.sess.Wait(ctx, imageTime, func(ctx context.Context) (bool, error) {
		out, err := j.ec2.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
		if awsaccess.Code(err) == "InvalidAMIID.NotFound" || err == nil && len(out.Images) == 0 {
			return false, nil // not shown yet
		}
		if err != nil {
			return false, err
		}
		i := out.Images[0]
		switch i.State {
		case types.ImageStateAvailable:
			img = imageOf(i)
			return true, nil
		case types.ImageStatePending, types.ImageStateTransient, "":
			return false, nil
		}
		why := ""
		if i.StateReason != nil {
			why = ": " + aws.ToString(i.StateReason.Message)
		}
		return false, fmt.Errorf("it is %s%s", i.State, why)
	})
	if err != nil {
		return image{}, fmt.Errorf("image %s: %w", id, err)
	}
	return img, nil
}

// share gives the image to whom the options name.
func (j *job) share(ctx context.Context, id string) error {
	var add []types.LaunchPermission
	for _, u := range j.Users {
		add = append(add, types.LaunchPermission{UserId: &u})
	}
	for _, g := range j.Groups {
		add = append(add, types.LaunchPermission{Group: types.PermissionGroup(g)})
	}
	for _, o := range j.OrgARNs {
		add = append(add, types.LaunchPermission{OrganizationArn: &o})
	}
	for _, o := range j.OUARNs {
		add = append(add, types.LaunchPermission{OrganizationalUnitArn: &o})
	}
	if len(add) == 0 {
		return nil
	}
	j.say("Sharing %s", id)
	_, err := j.ec2.ModifyImageAttribute(ctx, &ec2.ModifyImageAttributeInput{
		ImageId: &id, LaunchPermission: &types.LaunchPermissionModifications{Add: add},
	})
	if err != nil {
		return fmt.Errorf("share image %s: %w", id, err)
	}
	return nil
}

// remove deregisters the image and deletes its snapshots. What is not there is
// no error.
func (j *job) remove(ctx context.Context, img image) error {
	_, err := j.ec2.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: &img.id})
	if c := awsaccess.Code(err); err != nil && c != "InvalidAMIID.NotFound" && c != "InvalidAMIID.Unavailable" {
		return fmt.Errorf("deregister image %s: %w", img.id, err)
	}
	for _, id := range img.snaps {
		_, err := j.ec2.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
		if err != nil && awsaccess.Code(err) != "InvalidSnapshot.NotFound" {
			return fmt.Errorf("delete snapshot %s of image %s: %w", id, img.id, err)
		}
	}
	return nil
}
