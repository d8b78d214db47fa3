package network_test

import (
	"encoding/base64"
	"reflect"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/localcloud"
)

// whole is a template's data with everything that is kept.
func whole() *types.RequestLaunchTemplateData {
	return &types.RequestLaunchTemplateData{
		ImageId: aws.String("ami-0123456789abcdef0"), InstanceType: types.InstanceTypeT3Micro, KeyName: aws.String("k"),
		UserData:     aws.String(base64.StdEncoding.EncodeToString([]byte("#!/bin/sh\n"))),
		EbsOptimized: aws.Bool(true), DisableApiTermination: aws.Bool(false), DisableApiStop: aws.Bool(true),
		KernelId: aws.String("aki-1"), RamDiskId: aws.String("ari-1"),
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorTerminate,
		Monitoring:                        &types.LaunchTemplatesMonitoringRequest{Enabled: aws.Bool(true)},
		IamInstanceProfile:                &types.LaunchTemplateIamInstanceProfileSpecificationRequest{Name: aws.String("p")},
		BlockDeviceMappings: []types.LaunchTemplateBlockDeviceMappingRequest{
			{DeviceName: aws.String("/dev/xvda"), Ebs: &types.LaunchTemplateEbsBlockDeviceRequest{
				VolumeSize: aws.Int32(20), VolumeType: types.VolumeTypeGp3, Iops: aws.Int32(4000), Throughput: aws.Int32(250),
				DeleteOnTermination: aws.Bool(false), Encrypted: aws.Bool(true), KmsKeyId: aws.String("alias/k"), SnapshotId: aws.String("snap-1"),
			}},
			{DeviceName: aws.String("/dev/sdc"), NoDevice: aws.String("")},
			{DeviceName: aws.String("/dev/sdd"), VirtualName: aws.String("ephemeral0")},
		},
		NetworkInterfaces: []types.LaunchTemplateInstanceNetworkInterfaceSpecificationRequest{{
			DeviceIndex: aws.Int32(0), AssociatePublicIpAddress: aws.Bool(true), SubnetId: aws.String("subnet-1"),
			Groups: []string{"sg-1", "sg-2"}, DeleteOnTermination: aws.Bool(true), Description: aws.String("d"),
		}},
		Placement: &types.LaunchTemplatePlacementRequest{AvailabilityZone: aws.String("us-east-1a"), Tenancy: types.TenancyDefault},
		MetadataOptions: &types.LaunchTemplateInstanceMetadataOptionsRequest{
			HttpTokens: types.LaunchTemplateHttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(2),
			HttpEndpoint: types.LaunchTemplateInstanceMetadataEndpointStateEnabled, InstanceMetadataTags: types.LaunchTemplateInstanceMetadataTagsStateEnabled,
		},
		CreditSpecification: &types.CreditSpecificationRequest{CpuCredits: aws.String("unlimited")},
		InstanceMarketOptions: &types.LaunchTemplateInstanceMarketOptionsRequest{
			MarketType: types.MarketTypeSpot,
			SpotOptions: &types.LaunchTemplateSpotMarketOptionsRequest{
				MaxPrice: aws.String("0.05"), SpotInstanceType: types.SpotInstanceTypeOneTime, ValidUntil: aws.Time(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)),
			},
		},
		CapacityReservationSpecification: &types.LaunchTemplateCapacityReservationSpecificationRequest{
			CapacityReservationPreference: types.CapacityReservationPreferenceOpen,
		},
		CpuOptions:            &types.LaunchTemplateCpuOptionsRequest{CoreCount: aws.Int32(1), ThreadsPerCore: aws.Int32(2)},
		LicenseSpecifications: []types.LaunchTemplateLicenseConfigurationRequest{{LicenseConfigurationArn: aws.String("arn:aws:license-manager:x")}},
		HibernationOptions:    &types.LaunchTemplateHibernationOptionsRequest{Configured: aws.Bool(false)},
		EnclaveOptions:        &types.LaunchTemplateEnclaveOptionsRequest{Enabled: aws.Bool(true)},
		MaintenanceOptions:    &types.LaunchTemplateInstanceMaintenanceOptionsRequest{AutoRecovery: types.LaunchTemplateAutoRecoveryStateDisabled},
		PrivateDnsNameOptions: &types.LaunchTemplatePrivateDnsNameOptionsRequest{HostnameType: types.HostnameTypeIpName, EnableResourceNameDnsARecord: aws.Bool(true)},
		TagSpecifications: []types.LaunchTemplateTagSpecificationRequest{
			{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{tag("a", "b"), tag("c", "d")}},
			{ResourceType: types.ResourceTypeVolume, Tags: []types.Tag{tag("e", "f")}},
		},
	}
}

// Every field that is set in the request is set to the same in the reply.
func TestTemplateDataComesBack(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	in := whole()
	l := must(c.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("all"), LaunchTemplateData: in}))(t).LaunchTemplate
	v := must(c.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: l.LaunchTemplateId}))(t).LaunchTemplateVersions
	if len(v) != 1 {
		t.Fatalf("%+v", v)
	}
	compare(t, "data", reflect.ValueOf(*in), reflect.ValueOf(*v[0].LaunchTemplateData))
}

// compare compares the fields that both of two structs have.
func compare(t *testing.T, at string, want, got reflect.Value) {
	t.Helper()
	if want.Kind() == reflect.Pointer {
		if want.IsNil() {
			return
		}
		if got.IsNil() {
			t.Errorf("%s is missing", at)
			return
		}
		want, got = want.Elem(), got.Elem()
	}
	switch {
	case want.Type() == reflect.TypeFor[time.Time]():
		if !want.Interface().(time.Time).Equal(got.Interface().(time.Time)) {
			t.Errorf("%s is %v, want %v", at, got, want)
		}
	case want.Kind() == reflect.Struct:
		for n := range want.NumField() {
			f := want.Type().Field(n)
			if !f.IsExported() {
				continue
			}
			g := got.FieldByName(f.Name)
			if !g.IsValid() {
				if !want.Field(n).IsZero() {
					t.Errorf("%s.%s is not in the reply's type", at, f.Name)
				}
				continue
			}
			compare(t, at+"."+f.Name, want.Field(n), g)
		}
	case want.Kind() == reflect.Slice:
		if want.Len() != got.Len() {
			t.Errorf("%s has %d items, want %d", at, got.Len(), want.Len())
			return
		}
		for n := range want.Len() {
			compare(t, at, want.Index(n), got.Index(n))
		}
	case want.Interface() != got.Convert(want.Type()).Interface():
		t.Errorf("%s is %v, want %v", at, got, want)
	}
}

func TestTemplateVersions(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	create := &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String("tpl"), ClientToken: aws.String("token"), TagSpecifications: tagged("launch-template", "a", "b"),
		VersionDescription: aws.String("one"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: aws.String("ami-1"), InstanceType: types.InstanceTypeT3Micro, KeyName: aws.String("k")},
	}
	l := must(c.CreateLaunchTemplate(ctx, create))(t).LaunchTemplate
	if again := must(c.CreateLaunchTemplate(ctx, create))(t).LaunchTemplate; *again.LaunchTemplateId != *l.LaunchTemplateId {
		t.Error("one token made two templates")
	}
	create.LaunchTemplateData.ImageId = aws.String("ami-2")
	_, err := c.CreateLaunchTemplate(ctx, create)
	refused(t, "same token, other data", err, "IdempotentParameterMismatch")
	create.ClientToken = aws.String("another")
	_, err = c.CreateLaunchTemplate(ctx, create)
	refused(t, "same name", err, "InvalidLaunchTemplateName.AlreadyExistsException")
	_, err = c.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("a b"), LaunchTemplateData: create.LaunchTemplateData})
	refused(t, "bad name", err, "InvalidLaunchTemplateName.MalformedException")

	v2 := must(c.CreateLaunchTemplateVersion(ctx, &ec2.CreateLaunchTemplateVersionInput{
		LaunchTemplateName: aws.String("tpl"), SourceVersion: aws.String("1"), LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: aws.String("ami-3")},
	}))(t).LaunchTemplateVersion
	if aws.ToInt64(v2.VersionNumber) != 2 || aws.ToString(v2.LaunchTemplateData.ImageId) != "ami-3" || aws.ToString(v2.LaunchTemplateData.KeyName) != "k" || aws.ToBool(v2.DefaultVersion) {
		t.Errorf("%+v", v2)
	}
	version := func(v string) int64 {
		t.Helper()
		out := must(c.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: l.LaunchTemplateId, Versions: []string{v}}))(t)
		return aws.ToInt64(out.LaunchTemplateVersions[0].VersionNumber)
	}
	if version("$Latest") != 2 || version("$Default") != 1 {
		t.Errorf("latest %d, default %d", version("$Latest"), version("$Default"))
	}
	del := must(c.DeleteLaunchTemplateVersions(ctx, &ec2.DeleteLaunchTemplateVersionsInput{LaunchTemplateId: l.LaunchTemplateId, Versions: []string{"1", "7"}}))(t)
	if len(del.SuccessfullyDeletedLaunchTemplateVersions) != 0 || len(del.UnsuccessfullyDeletedLaunchTemplateVersions) != 2 ||
		del.UnsuccessfullyDeletedLaunchTemplateVersions[1].ResponseError.Code != types.LaunchTemplateErrorCodeLaunchTemplateVersionDoesNotExist {
		t.Errorf("%+v", del)
	}
	m := must(c.ModifyLaunchTemplate(ctx, &ec2.ModifyLaunchTemplateInput{LaunchTemplateId: l.LaunchTemplateId, DefaultVersion: aws.String("2")}))(t).LaunchTemplate
	if aws.ToInt64(m.DefaultVersionNumber) != 2 {
		t.Errorf("%+v", m)
	}
	del = must(c.DeleteLaunchTemplateVersions(ctx, &ec2.DeleteLaunchTemplateVersionsInput{LaunchTemplateId: l.LaunchTemplateId, Versions: []string{"1"}}))(t)
	if len(del.SuccessfullyDeletedLaunchTemplateVersions) != 1 {
		t.Errorf("%+v", del)
	}
	_, err = c.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{LaunchTemplateId: l.LaunchTemplateId, Versions: []string{"1"}})
	refused(t, "deleted version", err, "InvalidLaunchTemplateId.VersionNotFound")
	latest := must(c.DescribeLaunchTemplateVersions(ctx, &ec2.DescribeLaunchTemplateVersionsInput{Versions: []string{"$Latest"}, Filters: filters("image-id", "ami-3")}))(t)
	if len(latest.LaunchTemplateVersions) != 1 {
		t.Errorf("%+v", latest)
	}

	d := must(c.DescribeLaunchTemplates(ctx, &ec2.DescribeLaunchTemplatesInput{Filters: filters("tag:a", "b")}))(t).LaunchTemplates
	if len(d) != 1 || aws.ToInt64(d[0].LatestVersionNumber) != 2 {
		t.Errorf("%+v", d)
	}
	if _, err := c.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateName: aws.String("tpl")}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteLaunchTemplate(ctx, &ec2.DeleteLaunchTemplateInput{LaunchTemplateId: l.LaunchTemplateId})
	refused(t, "deleted twice", err, "InvalidLaunchTemplateId.NotFound")
	_, err = c.DescribeLaunchTemplates(ctx, &ec2.DescribeLaunchTemplatesInput{LaunchTemplateNames: []string{"tpl"}})
	refused(t, "by name", err, "InvalidLaunchTemplateName.NotFoundException")
}

func TestTemplateOfAnInstance(t *testing.T) {
	s := newSite(t)
	i := instance(t, s, east, func(i *localcloud.Instance) { i.Tags, i.KeyName = localcloud.Tags{"a": "b"}, "k" })
	d := must(s.ec2(east).GetLaunchTemplateData(t.Context(), &ec2.GetLaunchTemplateDataInput{InstanceId: &i.ID}))(t).LaunchTemplateData
	if aws.ToString(d.ImageId) != i.ImageID || d.InstanceType != types.InstanceTypeT3Micro || aws.ToString(d.KeyName) != "k" ||
		len(d.NetworkInterfaces) != 1 || len(d.NetworkInterfaces[0].Groups) != 1 || len(d.TagSpecifications) != 1 {
		t.Errorf("%+v", d)
	}
}
