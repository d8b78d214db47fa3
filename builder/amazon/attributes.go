package amazon

import (
	"context"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
)

// finish gives an image what cannot be said as it is made: who may use it, how
// long it is meant to live. All of it may be done twice.
func (m *machine) finish(ctx context.Context, c cloud, r *builder.Run, s *state, region string, i types.Image) error {
	imageTags, snapshotTags, err := m.imageTags(r, s)
	if err != nil {
		return err
	}
	id, snaps := aws.ToString(i.ImageId), ids(snapshotsOf(i))
	err = together(
		func() error {
			return c.ensureTags(ctx, i, snaps, imageTags, snapshotTags, region == s.Region && s.Image.TagLater)
		},
		func() error { return m.setAttributes(ctx, c, s, i) },
		func() error { return c.share(ctx, snaps, m.img.SnapshotUsers, m.img.SnapshotGroups) },
		func() error { return m.deprecate(ctx, c, id) },
		func() error { return m.fastLaunch(ctx, c, r, id, region) },
	)
	if err != nil {
		return err
	}
	if err := c.sealImage(ctx, id, snaps, imageTags, snapshotTags); err != nil {
		return err
	}
	// Last: until then the image may have to be replaced.
	return m.protect(ctx, c, id)
}

// permissions are who may start instances of the image.
func (o *ImageOptions) permissions() []types.LaunchPermission {
	var out []types.LaunchPermission
	for _, u := range o.Users {
		out = append(out, types.LaunchPermission{UserId: aws.String(u)})
	}
	for _, g := range o.Groups {
		out = append(out, types.LaunchPermission{Group: types.PermissionGroup(g)})
	}
	for _, a := range o.OrgARNs {
		out = append(out, types.LaunchPermission{OrganizationArn: aws.String(a)})
	}
	for _, a := range o.OUARNs {
		out = append(out, types.LaunchPermission{OrganizationalUnitArn: aws.String(a)})
	}
	return out
}

// setAttributes sets what the image does not have yet. EC2 changes one kind of
// attribute with a call.
func (m *machine) setAttributes(ctx context.Context, c cloud, s *state, i types.Image) error {
	description, err := m.description(s)
	if err != nil {
		return err
	}
	var calls []*ec2.ModifyImageAttributeInput
	if description != aws.ToString(i.Description) && description != "" {
		calls = append(calls, &ec2.ModifyImageAttributeInput{Description: &types.AttributeValue{Value: &description}})
	}
	if p := m.img.permissions(); len(p) > 0 {
		calls = append(calls, &ec2.ModifyImageAttributeInput{LaunchPermission: &types.LaunchPermissionModifications{Add: p}})
	}
	if len(m.img.ProductCodes) > 0 {
		calls = append(calls, &ec2.ModifyImageAttributeInput{Attribute: aws.String("productCodes"), ProductCodes: m.img.ProductCodes})
	}
	if v := m.img.IMDSSupport; v != "" && string(i.ImdsSupport) != v {
		calls = append(calls, &ec2.ModifyImageAttributeInput{ImdsSupport: &types.AttributeValue{Value: &v}})
	}
	for _, in := range calls {
		in.ImageId = i.ImageId
		if _, err := c.ModifyImageAttribute(ctx, in); err != nil {
			return err
		}
	}
	return nil
}

// share lets accounts and groups make volumes of the snapshots.
func (c cloud) share(ctx context.Context, snapshots, users, groups []string) error {
	var add []types.CreateVolumePermission
	for _, u := range users {
		add = append(add, types.CreateVolumePermission{UserId: aws.String(u)})
	}
	for _, g := range groups {
		add = append(add, types.CreateVolumePermission{Group: types.PermissionGroup(g)})
	}
	if len(add) == 0 {
		return nil
	}
	for _, id := range snapshots {
		_, err := c.ModifySnapshotAttribute(ctx, &ec2.ModifySnapshotAttributeInput{
			SnapshotId: aws.String(id), CreateVolumePermission: &types.CreateVolumePermissionModifications{Add: add},
		})
		if err != nil {
			return err
		}
	}
	return nil
}
