package storage_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
)

const here, there = "us-east-1", "eu-central-1"

type fixture struct {
	*cloudtest.Cloud
	t        *testing.T
	ctx      context.Context
	ec2      *ec2.Client
	image    string // the public one
	snapshot string // of it
}

func setUp(t *testing.T) *fixture {
	t.Helper()
	f := &fixture{Cloud: cloudtest.New(t), t: t, ctx: cloudtest.Context(t)}
	f.ec2 = f.EC2(here)
	disk := filepath.Join(t.TempDir(), "base.raw")
	if err := os.WriteFile(disk, append([]byte("base"), make([]byte, 8<<20)...), 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := f.RegisterBase(f.ctx, localcloud.BaseImage{
		Path: disk, Format: "raw", Name: "debian-12-amd64-20240717-1811", Description: "Debian 12 (20240717-1811)", Arch: "x86_64",
	})
	if err != nil {
		t.Fatal(err)
	}
	f.image = ids[here]
	f.snapshot = *f.describe(here, f.image).BlockDeviceMappings[0].Ebs.SnapshotId
	return f
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func (f *fixture) code(err error, want string) {
	f.t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != want {
		f.t.Errorf("got %v, want the code %s", err, want)
	}
}

func (f *fixture) describe(region, id string) types.Image {
	f.t.Helper()
	out, err := f.EC2(region).DescribeImages(f.ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
	f.ok(err)
	return out.Images[0]
}

func (f *fixture) until(region, id string, state types.ImageState) types.Image {
	f.t.Helper()
	var i types.Image
	cloudtest.Eventually(f.t, id+" is "+string(state), func() bool {
		i = f.describe(region, id)
		return i.State == state
	})
	return i
}

func (f *fixture) launch() string {
	f.t.Helper()
	run, err := f.ec2.RunInstances(f.ctx, &ec2.RunInstancesInput{
		ImageId: &f.image, InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
	})
	f.ok(err)
	id := *run.Instances[0].InstanceId
	cloudtest.Eventually(f.t, id+" runs", func() bool {
		out, err := f.ec2.DescribeInstances(f.ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}})
		f.ok(err)
		return out.Reservations[0].Instances[0].State.Name == types.InstanceStateNameRunning
	})
	return id
}

func filter(name string, values ...string) types.Filter {
	return types.Filter{Name: &name, Values: values}
}

func TestDebianIsFound(t *testing.T) {
	f := setUp(t)
	out, err := f.ec2.DescribeImages(f.ctx, &ec2.DescribeImagesInput{
		Owners: []string{"136693071363"},
		Filters: []types.Filter{
			filter("name", "debian-12-amd64-*"), filter("virtualization-type", "hvm"), filter("root-device-type", "ebs"),
			filter("architecture", "x86_64"), filter("state", "available"), filter("is-public", "true"), filter("ena-support", "true"),
		},
	})
	f.ok(err)
	if len(out.Images) != 1 {
		t.Fatalf("%+v", out.Images)
	}
	i := out.Images[0]
	root := i.BlockDeviceMappings[0]
	if *i.RootDeviceName != "/dev/xvda" || !*i.Public || i.Hypervisor != types.HypervisorTypeXen || *root.Ebs.VolumeSize != 1 ||
		!*root.Ebs.DeleteOnTermination || root.Ebs.VolumeType != types.VolumeTypeGp3 || *i.PlatformDetails != "Linux/UNIX" || i.ImageType != types.ImageTypeValuesMachine {
		t.Errorf("%+v", i)
	}
	if _, err := time.Parse(time.RFC3339, *i.CreationDate); err != nil {
		t.Error(err)
	}
	for _, in := range []*ec2.DescribeImagesInput{
		{Owners: []string{"self"}},
		{Owners: []string{"amazon"}},
		{Filters: []types.Filter{filter("name", "debian-13-*")}},
		{ExecutableUsers: []string{"self"}},
	} {
		if out, err := f.ec2.DescribeImages(f.ctx, in); err != nil || len(out.Images) != 0 {
			t.Errorf("%+v finds %+v, %v", in, out, err)
		}
	}
	_, err = f.ec2.DescribeImages(f.ctx, &ec2.DescribeImagesInput{Filters: []types.Filter{filter("colour", "blue")}})
	f.code(err, "InvalidParameterValue")
	_, err = f.ec2.DescribeImages(f.ctx, &ec2.DescribeImagesInput{ImageIds: []string{"ami-0123456789abcdef0"}})
	f.code(err, "InvalidAMIID.NotFound")
	_, err = f.ec2.DescribeImages(f.ctx, &ec2.DescribeImagesInput{ImageIds: []string{"nonsense"}})
	f.code(err, "InvalidAMIID.Malformed")
	_, err = f.ec2.DescribeImages(f.ctx, &ec2.DescribeImagesInput{DryRun: aws.Bool(true)})
	f.code(err, "DryRunOperation")
}

func TestImageFromBakeToRelease(t *testing.T) {
	f := setUp(t)
	id := f.launch()
	made, err := f.ec2.CreateImage(f.ctx, &ec2.CreateImageInput{
		InstanceId: &id, Name: aws.String("golden 1.0"), Description: aws.String("d"),
		BlockDeviceMappings: []types.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/sdf"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(3), VolumeType: types.VolumeTypeGp3}},
			{DeviceName: aws.String("/dev/sdg"), NoDevice: aws.String("")},
		},
		TagSpecifications: []types.TagSpecification{
			{ResourceType: types.ResourceTypeImage, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("1")}}},
			{ResourceType: types.ResourceTypeSnapshot, Tags: []types.Tag{{Key: aws.String("b"), Value: aws.String("2")}}},
		},
	})
	f.ok(err)
	i := f.until(here, *made.ImageId, types.ImageStateAvailable)
	if len(i.BlockDeviceMappings) != 2 || *i.Tags[0].Key != "a" || *i.SourceInstanceId != id || i.StateReason != nil {
		t.Errorf("%+v", i)
	}
	snap := *i.BlockDeviceMappings[0].Ebs.SnapshotId
	snaps, err := f.ec2.DescribeSnapshots(f.ctx, &ec2.DescribeSnapshotsInput{
		OwnerIds: []string{"self"}, Filters: []types.Filter{filter("status", "completed"), filter("tag:b", "2")},
	})
	f.ok(err)
	if len(snaps.Snapshots) != 1 || *snaps.Snapshots[0].SnapshotId != snap || *snaps.Snapshots[0].Progress != "100%" {
		t.Errorf("%+v", snaps.Snapshots)
	}
	_, err = f.ec2.DeleteSnapshot(f.ctx, &ec2.DeleteSnapshotInput{SnapshotId: &snap})
	f.code(err, "InvalidSnapshot.InUse")
	_, err = f.ec2.CreateImage(f.ctx, &ec2.CreateImageInput{InstanceId: &id, Name: aws.String("golden 1.0")})
	f.code(err, "InvalidAMIName.Duplicate")
	_, err = f.ec2.CreateImage(f.ctx, &ec2.CreateImageInput{InstanceId: aws.String("i-0123456789abcdef0"), Name: aws.String("other")})
	f.code(err, "InvalidInstanceID.NotFound")

	copied, err := f.EC2(there).CopyImage(f.ctx, &ec2.CopyImageInput{
		Name: i.Name, SourceImageId: i.ImageId, SourceRegion: aws.String(here), CopyImageTags: aws.Bool(true),
	})
	f.ok(err)
	c := f.until(there, *copied.ImageId, types.ImageStateAvailable)
	if *c.SourceImageId != *i.ImageId || *c.SourceImageRegion != here || len(c.Tags) != 1 || *c.BlockDeviceMappings[0].Ebs.SnapshotId == snap {
		t.Errorf("%+v", c)
	}
	f.attributes(*i.ImageId)
	f.switches(*i.ImageId)

	gone, err := f.ec2.DeregisterImage(f.ctx, &ec2.DeregisterImageInput{ImageId: i.ImageId, DeleteAssociatedSnapshots: aws.Bool(true)})
	f.ok(err)
	if len(gone.DeleteSnapshotResults) != 1 || gone.DeleteSnapshotResults[0].ReturnCode != types.SnapshotReturnCodesSuccess {
		t.Errorf("%+v", gone)
	}
	_, err = f.ec2.DescribeImages(f.ctx, &ec2.DescribeImagesInput{ImageIds: []string{*i.ImageId}})
	f.code(err, "InvalidAMIID.Unavailable")
}

func (f *fixture) attributes(id string) {
	f.t.Helper()
	org := "arn:aws:organizations::123456789012:organization/o-abcdefghij"
	ou := "arn:aws:organizations::123456789012:ou/o-abcdefghij/ou-ab12-cdefghij"
	for _, in := range []*ec2.ModifyImageAttributeInput{
		{LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{UserId: aws.String("111122223333")}, {OrganizationArn: &org}, {OrganizationalUnitArn: &ou}}}},
		{Attribute: aws.String("launchPermission"), OperationType: types.OperationTypeAdd, UserGroups: []string{"all"}},
		{Description: &types.AttributeValue{Value: aws.String("new")}},
		{ImdsSupport: &types.AttributeValue{Value: aws.String("v2.0")}},
		{Attribute: aws.String("productCodes"), ProductCodes: []string{"code1"}},
	} {
		in.ImageId = &id
		_, err := f.ec2.ModifyImageAttribute(f.ctx, in)
		f.ok(err)
	}
	i := f.describe(here, id)
	if !*i.Public || *i.Description != "new" || i.ImdsSupport != types.ImdsSupportValuesV20 || *i.ProductCodes[0].ProductCodeId != "code1" {
		f.t.Errorf("%+v", i)
	}
	at, err := f.ec2.DescribeImageAttribute(f.ctx, &ec2.DescribeImageAttributeInput{ImageId: &id, Attribute: types.ImageAttributeNameLaunchPermission})
	f.ok(err)
	if len(at.LaunchPermissions) != 4 {
		f.t.Errorf("%+v", at.LaunchPermissions)
	}
	at, err = f.ec2.DescribeImageAttribute(f.ctx, &ec2.DescribeImageAttributeInput{ImageId: &id, Attribute: types.ImageAttributeNameDescription})
	f.ok(err)
	if *at.Description.Value != "new" {
		f.t.Errorf("%+v", at)
	}
	_, err = f.ec2.ResetImageAttribute(f.ctx, &ec2.ResetImageAttributeInput{ImageId: &id, Attribute: types.ResetImageAttributeNameLaunchPermission})
	f.ok(err)
	if *f.describe(here, id).Public {
		f.t.Error("the image is still public")
	}
	for _, in := range []*ec2.ModifyImageAttributeInput{
		{LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{UserId: aws.String("12")}}}},
		{Attribute: aws.String("launchPermission"), OperationType: types.OperationTypeAdd, UserGroups: []string{"everybody"}},
	} {
		in.ImageId = &id
		_, err := f.ec2.ModifyImageAttribute(f.ctx, in)
		f.code(err, "InvalidAMIAttributeItemValue")
	}
	_, err = f.ec2.ModifyImageAttribute(f.ctx, &ec2.ModifyImageAttributeInput{ImageId: &id})
	f.code(err, "MissingParameter")
	_, err = f.ec2.ModifyImageAttribute(f.ctx, &ec2.ModifyImageAttributeInput{ImageId: &f.image, Description: &types.AttributeValue{Value: aws.String("mine")}})
	f.code(err, "AuthFailure")
	snap := *f.describe(here, id).BlockDeviceMappings[0].Ebs.SnapshotId
	_, err = f.ec2.ModifySnapshotAttribute(f.ctx, &ec2.ModifySnapshotAttributeInput{
		SnapshotId: &snap, CreateVolumePermission: &types.CreateVolumePermissionModifications{Add: []types.CreateVolumePermission{{UserId: aws.String("111122223333")}}},
	})
	f.ok(err)
	sat, err := f.ec2.DescribeSnapshotAttribute(f.ctx, &ec2.DescribeSnapshotAttributeInput{SnapshotId: &snap, Attribute: types.SnapshotAttributeNameCreateVolumePermission})
	f.ok(err)
	if len(sat.CreateVolumePermissions) != 1 || *sat.CreateVolumePermissions[0].UserId != "111122223333" {
		f.t.Errorf("%+v", sat)
	}
}

func (f *fixture) switches(id string) {
	f.t.Helper()
	at := time.Now().Add(48 * time.Hour).UTC().Truncate(time.Minute)
	_, err := f.ec2.EnableImageDeprecation(f.ctx, &ec2.EnableImageDeprecationInput{ImageId: &id, DeprecateAt: &at})
	f.ok(err)
	if got, err := time.Parse(time.RFC3339, *f.describe(here, id).DeprecationTime); err != nil || !got.Equal(at) {
		f.t.Errorf("deprecated at %s, want %s: %v", got, at, err)
	}
	_, err = f.ec2.DisableImageDeprecation(f.ctx, &ec2.DisableImageDeprecationInput{ImageId: &id})
	f.ok(err)
	p, err := f.ec2.EnableImageDeregistrationProtection(f.ctx, &ec2.EnableImageDeregistrationProtectionInput{ImageId: &id})
	f.ok(err)
	if *p.Return != "enabled-without-cooldown" || *f.describe(here, id).DeregistrationProtection != *p.Return {
		f.t.Errorf("%+v", p)
	}
	_, err = f.ec2.DeregisterImage(f.ctx, &ec2.DeregisterImageInput{ImageId: &id})
	f.code(err, "OperationNotPermitted")
	_, err = f.ec2.DisableImageDeregistrationProtection(f.ctx, &ec2.DisableImageDeregistrationProtectionInput{ImageId: &id})
	f.ok(err)
	_, err = f.ec2.DisableImage(f.ctx, &ec2.DisableImageInput{ImageId: &id})
	f.ok(err)
	out, err := f.ec2.DescribeImages(f.ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}})
	f.ok(err)
	if len(out.Images) != 0 {
		f.t.Errorf("a disabled image is listed: %+v", out.Images)
	}
	_, err = f.ec2.EnableImage(f.ctx, &ec2.EnableImageInput{ImageId: &id})
	f.ok(err)
	_, err = f.ec2.EnableFastLaunch(f.ctx, &ec2.EnableFastLaunchInput{ImageId: &id})
	f.code(err, "InvalidParameterValue") // not of Windows
}

func TestFastLaunchOfWindows(t *testing.T) {
	f := setUp(t)
	reg, err := f.ec2.RegisterImage(f.ctx, &ec2.RegisterImageInput{
		Name: aws.String("win"), Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"), RootDeviceName: aws.String("/dev/sda1"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/sda1"), Ebs: &types.EbsBlockDevice{SnapshotId: &f.snapshot}}},
	})
	f.ok(err)
	f.until(here, *reg.ImageId, types.ImageStateAvailable)
	_, err = f.ChangeImage(f.ctx, here, *reg.ImageId, func(_ *localcloud.Tx, i *localcloud.Image) error {
		i.Platform = "windows"
		return nil
	})
	f.ok(err)
	on, err := f.ec2.EnableFastLaunch(f.ctx, &ec2.EnableFastLaunchInput{ImageId: reg.ImageId, LaunchTemplate: &types.FastLaunchLaunchTemplateSpecificationRequest{
		LaunchTemplateName: aws.String("lt"), Version: aws.String("1"),
	}})
	f.ok(err)
	if on.State != types.FastLaunchStateCodeEnabling || *on.MaxParallelLaunches != 6 {
		t.Errorf("%+v", on)
	}
	got, err := f.ec2.DescribeFastLaunchImages(f.ctx, &ec2.DescribeFastLaunchImagesInput{ImageIds: []string{*reg.ImageId}})
	f.ok(err)
	if len(got.FastLaunchImages) != 1 || got.FastLaunchImages[0].State != types.FastLaunchStateCodeEnabled || *got.FastLaunchImages[0].LaunchTemplate.LaunchTemplateName != "lt" {
		t.Errorf("%+v", got)
	}
	_, err = f.ec2.DisableFastLaunch(f.ctx, &ec2.DisableFastLaunchInput{ImageId: reg.ImageId})
	f.ok(err)
}

func TestVolumesOverTheWire(t *testing.T) {
	f := setUp(t)
	v, err := f.ec2.CreateVolume(f.ctx, &ec2.CreateVolumeInput{
		AvailabilityZone: aws.String(here + "a"), SnapshotId: &f.snapshot, VolumeType: types.VolumeTypeGp3, Encrypted: aws.Bool(true),
		TagSpecifications: []types.TagSpecification{{ResourceType: types.ResourceTypeVolume, Tags: []types.Tag{{Key: aws.String("k"), Value: aws.String("v")}}}},
	})
	f.ok(err)
	if v.State != types.VolumeStateCreating || *v.Iops != 3000 || *v.Throughput != 125 || !strings.HasPrefix(*v.KmsKeyId, "arn:aws:kms:"+here) {
		t.Errorf("%+v", v)
	}
	cloudtest.Eventually(t, "the volume is available", func() bool {
		out, err := f.ec2.DescribeVolumes(f.ctx, &ec2.DescribeVolumesInput{Filters: []types.Filter{filter("tag:k", "v"), filter("status", "available")}})
		f.ok(err)
		return len(out.Volumes) == 1 && *out.Volumes[0].Size == 1 && *out.Volumes[0].SnapshotId == f.snapshot
	})
	st, err := f.ec2.DescribeVolumeStatus(f.ctx, &ec2.DescribeVolumeStatusInput{VolumeIds: []string{*v.VolumeId}})
	f.ok(err)
	if st.VolumeStatuses[0].VolumeStatus.Status != types.VolumeStatusInfoStatusOk || len(st.VolumeStatuses[0].VolumeStatus.Details) != 2 {
		t.Errorf("%+v", st)
	}
	m, err := f.ec2.ModifyVolume(f.ctx, &ec2.ModifyVolumeInput{VolumeId: v.VolumeId, Iops: aws.Int32(400), VolumeType: types.VolumeTypeIo2, Size: aws.Int32(8)})
	f.ok(err)
	if *m.VolumeModification.TargetSize != 8 || m.VolumeModification.OriginalVolumeType != types.VolumeTypeGp3 {
		t.Errorf("%+v", m.VolumeModification)
	}
	cloudtest.Eventually(t, "the volume is modified", func() bool {
		out, err := f.ec2.DescribeVolumesModifications(f.ctx, &ec2.DescribeVolumesModificationsInput{VolumeIds: []string{*v.VolumeId}})
		f.ok(err)
		return out.VolumesModifications[0].ModificationState == types.VolumeModificationStateCompleted
	})
	_, err = f.ec2.ModifyVolumeAttribute(f.ctx, &ec2.ModifyVolumeAttributeInput{VolumeId: v.VolumeId, AutoEnableIO: &types.AttributeBooleanValue{Value: aws.Bool(true)}})
	f.ok(err)
	at, err := f.ec2.DescribeVolumeAttribute(f.ctx, &ec2.DescribeVolumeAttributeInput{VolumeId: v.VolumeId, Attribute: types.VolumeAttributeNameAutoEnableIO})
	f.ok(err)
	if !*at.AutoEnableIO.Value {
		t.Errorf("%+v", at)
	}
	s, err := f.ec2.CreateSnapshot(f.ctx, &ec2.CreateSnapshotInput{VolumeId: v.VolumeId, Description: aws.String("d")})
	f.ok(err)
	if s.State != types.SnapshotStatePending || !*s.Encrypted {
		t.Errorf("%+v", s)
	}
	if err := ec2.NewSnapshotCompletedWaiter(f.ec2, func(o *ec2.SnapshotCompletedWaiterOptions) {
		o.MinDelay, o.MaxDelay = time.Millisecond, 20*time.Millisecond
	}).
		Wait(f.ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*s.SnapshotId}}, cloudtest.Limit); err != nil {
		t.Error(err)
	}
	cp, err := f.EC2(there).CopySnapshot(f.ctx, &ec2.CopySnapshotInput{SourceRegion: aws.String(here), SourceSnapshotId: s.SnapshotId})
	f.ok(err)
	cloudtest.Eventually(t, "the copy is completed", func() bool {
		out, err := f.EC2(there).DescribeSnapshots(f.ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{*cp.SnapshotId}})
		f.ok(err)
		return out.Snapshots[0].State == types.SnapshotStateCompleted && *out.Snapshots[0].Encrypted
	})
	id := f.launch()
	set, err := f.ec2.CreateSnapshots(f.ctx, &ec2.CreateSnapshotsInput{InstanceSpecification: &types.InstanceSpecification{InstanceId: &id}})
	f.ok(err)
	if len(set.Snapshots) != 1 || set.Snapshots[0].State != types.SnapshotStatePending {
		t.Errorf("%+v", set)
	}
	_, err = f.ec2.DeleteVolume(f.ctx, &ec2.DeleteVolumeInput{VolumeId: v.VolumeId})
	f.ok(err)
	cloudtest.Eventually(t, "the volume is gone", func() bool {
		_, err := f.ec2.DescribeVolumes(f.ctx, &ec2.DescribeVolumesInput{VolumeIds: []string{*v.VolumeId}})
		var e smithy.APIError
		return errors.As(err, &e) && e.ErrorCode() == "InvalidVolume.NotFound"
	})
}

func TestPagesOfImages(t *testing.T) {
	f := setUp(t)
	var want []string
	for _, n := range []string{"one", "two", "three", "four", "five"} {
		reg, err := f.ec2.RegisterImage(f.ctx, &ec2.RegisterImageInput{
			Name: aws.String(n), Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"), RootDeviceName: aws.String("/dev/xvda"),
			BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: &f.snapshot}}},
		})
		f.ok(err)
		want = append(want, *reg.ImageId)
	}
	var got []string
	p := ec2.NewDescribeImagesPaginator(f.ec2, &ec2.DescribeImagesInput{Owners: []string{"self"}, MaxResults: aws.Int32(2)})
	for p.HasMorePages() {
		page, err := p.NextPage(f.ctx)
		f.ok(err)
		for _, i := range page.Images {
			got = append(got, *i.ImageId)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	_, err := f.ec2.DescribeImages(f.ctx, &ec2.DescribeImagesInput{MaxResults: aws.Int32(2), NextToken: aws.String("nonsense")})
	f.code(err, "InvalidParameterValue")
}

func TestEncryptionByDefault(t *testing.T) {
	f := setUp(t)
	key, err := f.ec2.GetEbsDefaultKmsKeyId(f.ctx, &ec2.GetEbsDefaultKmsKeyIdInput{})
	f.ok(err)
	if *key.KmsKeyId != "alias/aws/ebs" {
		t.Errorf("%s", *key.KmsKeyId)
	}
	_, err = f.ec2.EnableEbsEncryptionByDefault(f.ctx, &ec2.EnableEbsEncryptionByDefaultInput{})
	f.ok(err)
	got, err := f.ec2.GetEbsEncryptionByDefault(f.ctx, &ec2.GetEbsEncryptionByDefaultInput{})
	f.ok(err)
	v, err := f.ec2.CreateVolume(f.ctx, &ec2.CreateVolumeInput{AvailabilityZone: aws.String(here + "a"), Size: aws.Int32(1)})
	f.ok(err)
	if !*got.EbsEncryptionByDefault || !*v.Encrypted {
		t.Errorf("%+v, %+v", got, v)
	}
	other, err := f.EC2(there).GetEbsEncryptionByDefault(f.ctx, &ec2.GetEbsEncryptionByDefaultInput{})
	f.ok(err)
	if *other.EbsEncryptionByDefault {
		t.Error("the default is of another region too")
	}
}

func TestBlockPublicAccess(t *testing.T) {
	f := setUp(t)
	reg, err := f.ec2.RegisterImage(f.ctx, &ec2.RegisterImageInput{
		Name: aws.String("mine"), Architecture: types.ArchitectureValuesX8664, VirtualizationType: aws.String("hvm"), RootDeviceName: aws.String("/dev/xvda"),
		BlockDeviceMappings: []types.BlockDeviceMapping{{DeviceName: aws.String("/dev/xvda"), Ebs: &types.EbsBlockDevice{SnapshotId: &f.snapshot}}},
	})
	f.ok(err)
	share := &ec2.ModifyImageAttributeInput{ImageId: reg.ImageId, LaunchPermission: &types.LaunchPermissionModifications{Add: []types.LaunchPermission{{Group: types.PermissionGroupAll}}}}
	_, err = f.ec2.EnableImageBlockPublicAccess(f.ctx, &ec2.EnableImageBlockPublicAccessInput{ImageBlockPublicAccessState: types.ImageBlockPublicAccessEnabledStateBlockNewSharing})
	f.ok(err)
	got, err := f.ec2.GetImageBlockPublicAccessState(f.ctx, &ec2.GetImageBlockPublicAccessStateInput{})
	f.ok(err)
	if *got.ImageBlockPublicAccessState != "block-new-sharing" {
		t.Errorf("%+v", got)
	}
	_, err = f.ec2.ModifyImageAttribute(f.ctx, share)
	f.code(err, "OperationNotPermitted")
	_, err = f.ec2.DisableImageBlockPublicAccess(f.ctx, &ec2.DisableImageBlockPublicAccessInput{})
	f.ok(err)
	_, err = f.ec2.ModifyImageAttribute(f.ctx, share)
	f.ok(err)
	_, err = f.ec2.EnableSnapshotBlockPublicAccess(f.ctx, &ec2.EnableSnapshotBlockPublicAccessInput{State: types.SnapshotBlockPublicAccessStateBlockAllSharing})
	f.ok(err)
	snaps, err := f.ec2.GetSnapshotBlockPublicAccessState(f.ctx, &ec2.GetSnapshotBlockPublicAccessStateInput{})
	f.ok(err)
	if snaps.State != types.SnapshotBlockPublicAccessStateBlockAllSharing {
		t.Errorf("%+v", snaps)
	}
	_, err = f.ec2.DisableSnapshotBlockPublicAccess(f.ctx, &ec2.DisableSnapshotBlockPublicAccessInput{})
	f.ok(err)
}

func TestImportOverTheWire(t *testing.T) {
	f := setUp(t)
	f.ok(f.Update(f.ctx, "", func(tx *localcloud.Tx) error { return localcloud.Put(tx, localcloud.Bucket{Name: "b", Region: here}) }))
	o, err := f.StoreObject(f.ctx, strings.NewReader(strings.Repeat("disk", 1<<18)))
	f.ok(err)
	o.Bucket, o.Key = "b", "disk.raw"
	f.ok(f.PutObject(f.ctx, o))
	task, err := f.ec2.ImportImage(f.ctx, &ec2.ImportImageInput{
		Architecture: aws.String("x86_64"), Platform: aws.String("Linux"), LicenseType: aws.String("BYOL"),
		DiskContainers: []types.ImageDiskContainer{{Format: aws.String("raw"), UserBucket: &types.UserBucket{S3Bucket: aws.String("b"), S3Key: aws.String("disk.raw")}}},
	})
	f.ok(err)
	if *task.Status != "active" || *task.SnapshotDetails[0].UserBucket.S3Key != "disk.raw" {
		t.Errorf("%+v", task)
	}
	var image string
	cloudtest.Eventually(t, "the import is completed", func() bool {
		out, err := f.ec2.DescribeImportImageTasks(f.ctx, &ec2.DescribeImportImageTasksInput{ImportTaskIds: []string{*task.ImportTaskId}})
		f.ok(err)
		image = aws.ToString(out.ImportImageTasks[0].ImageId)
		return *out.ImportImageTasks[0].Status == "completed"
	})
	f.until(here, image, types.ImageStateAvailable)
	snap, err := f.ec2.ImportSnapshot(f.ctx, &ec2.ImportSnapshotInput{DiskContainer: &types.SnapshotDiskContainer{Url: aws.String("s3://b/disk.raw")}})
	f.ok(err)
	cloudtest.Eventually(t, "the snapshot is imported", func() bool {
		out, err := f.ec2.DescribeImportSnapshotTasks(f.ctx, &ec2.DescribeImportSnapshotTasksInput{
			ImportTaskIds: []string{*snap.ImportTaskId}, Filters: []types.Filter{filter("task-state", "completed")},
		})
		f.ok(err)
		return len(out.ImportSnapshotTasks) == 1 && out.ImportSnapshotTasks[0].SnapshotTaskDetail.SnapshotId != nil
	})
	_, err = f.ec2.CancelImportTask(f.ctx, &ec2.CancelImportTaskInput{ImportTaskId: snap.ImportTaskId})
	f.code(err, "IncorrectState")
	_, err = f.ec2.DescribeImportImageTasks(f.ctx, &ec2.DescribeImportImageTasksInput{ImportTaskIds: []string{"import-ami-0123"}})
	f.code(err, "InvalidConversionTaskId.NotFound")
}
