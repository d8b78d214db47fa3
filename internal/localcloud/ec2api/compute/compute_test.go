package compute_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
)

const region = "us-east-1"

// image registers a small public image and returns its id.
func image(t *testing.T, c *cloudtest.Cloud) string {
	t.Helper()
	disk := filepath.Join(t.TempDir(), "disk.raw")
	if err := os.WriteFile(disk, bytes.Repeat([]byte("ingot"), 20<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	ids, err := c.RegisterBase(cloudtest.Context(t), localcloud.BaseImage{
		Path: disk, Format: "raw", Name: "debian-12-amd64-20240717-1811", Arch: "x86_64",
	})
	if err != nil {
		t.Fatal(err)
	}
	return ids[region]
}

func wantCode(t *testing.T, err error, code string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code {
		t.Errorf("error %v, want %s", err, code)
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// waits are those of the SDK's waiters, made short.
const (
	least = 5 * time.Millisecond
	most  = 50 * time.Millisecond
)

func awaitRunning(t *testing.T, api *ec2.Client, ids ...string) []types.Instance {
	t.Helper()
	w := ec2.NewInstanceRunningWaiter(api, func(o *ec2.InstanceRunningWaiterOptions) { o.MinDelay, o.MaxDelay = least, most })
	out, err := w.WaitForOutput(cloudtest.Context(t), &ec2.DescribeInstancesInput{InstanceIds: ids}, cloudtest.Limit)
	if err != nil {
		t.Fatal(err)
	}
	var all []types.Instance
	for _, r := range out.Reservations {
		all = append(all, r.Instances...)
	}
	return all
}

func TestRunDescribeTerminate(t *testing.T) {
	c := cloudtest.New(t)
	ctx, api, ami := cloudtest.Context(t), c.EC2(region), image(t, c)
	run := must[*ec2.RunInstancesOutput](t)(api.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: &ami, InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(2), MaxCount: aws.Int32(2),
		UserData:                          aws.String(base64.StdEncoding.EncodeToString([]byte("#!/bin/sh"))),
		InstanceInitiatedShutdownBehavior: types.ShutdownBehaviorTerminate,
		BlockDeviceMappings: []types.BlockDeviceMapping{
			{DeviceName: aws.String("/dev/sdf"), Ebs: &types.EbsBlockDevice{VolumeSize: aws.Int32(1), VolumeType: types.VolumeTypeGp3}},
			{DeviceName: aws.String("/dev/sdg"), NoDevice: aws.String("")},
		},
		NetworkInterfaces:   []types.InstanceNetworkInterfaceSpecification{{DeviceIndex: aws.Int32(0), AssociatePublicIpAddress: aws.Bool(true)}},
		MetadataOptions:     &types.InstanceMetadataOptionsRequest{HttpTokens: types.HttpTokensStateRequired, HttpPutResponseHopLimit: aws.Int32(3)},
		CreditSpecification: &types.CreditSpecificationRequest{CpuCredits: aws.String("standard")},
		TagSpecifications: []types.TagSpecification{
			{ResourceType: types.ResourceTypeInstance, Tags: []types.Tag{{Key: aws.String("Name"), Value: aws.String("x")}}},
			{ResourceType: types.ResourceTypeVolume, Tags: []types.Tag{{Key: aws.String("v"), Value: aws.String("y")}}},
			{ResourceType: types.ResourceTypeNetworkInterface, Tags: []types.Tag{{Key: aws.String("n"), Value: aws.String("z")}}},
		},
	}))
	if len(run.Instances) != 2 || run.Instances[0].State.Name != types.InstanceStateNamePending {
		t.Fatalf("launched %+v", run)
	}
	id := *run.Instances[0].InstanceId
	i := awaitRunning(t, api, id, *run.Instances[1].InstanceId)[0]
	if i.PublicIpAddress == nil || i.PrivateDnsName == nil || i.MetadataOptions.HttpTokens != types.HttpTokensStateRequired ||
		*i.MetadataOptions.HttpPutResponseHopLimit != 3 || len(i.BlockDeviceMappings) != 2 || i.LaunchTime == nil ||
		len(i.NetworkInterfaces) != 1 || i.NetworkInterfaces[0].Association == nil || i.Architecture != types.ArchitectureValuesX8664 ||
		i.Tags[0].Key == nil || *i.Tags[0].Value != "x" || len(i.SecurityGroups) != 1 || *i.SecurityGroups[0].GroupName != "default" {
		t.Errorf("described %+v", i)
	}

	by := func(name, value string) int {
		t.Helper()
		out := must[*ec2.DescribeInstancesOutput](t)(api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{
			Filters: []types.Filter{{Name: &name, Values: []string{value}}},
		}))
		n := 0
		for _, r := range out.Reservations {
			n += len(r.Instances)
		}
		return n
	}
	for _, f := range []struct {
		name, value string
		want        int
	}{
		{"tag:Name", "x", 2},
		{"tag:Name", "nobody", 0},
		{"instance-state-name", "running", 2},
		{"instance-state-code", "16", 2},
		{"image-id", ami, 2},
		{"instance-id", id, 1},
		{"launch-index", "1", 1},
		{"reservation-id", *run.ReservationId, 2},
		{"network-interface.addresses.private-ip-address", *i.PrivateIpAddress, 1},
		{"block-device-mapping.device-name", "/dev/sdf", 2},
		{"instance.group-name", "default", 2},
		{"instance-type", "t3.*", 2},
	} {
		if n := by(f.name, f.value); n != f.want {
			t.Errorf("%s=%s: %d instances, want %d", f.name, f.value, n, f.want)
		}
	}
	_, err := api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{Filters: []types.Filter{{Name: aws.String("colour"), Values: []string{"x"}}}})
	wantCode(t, err, "InvalidParameterValue")
	_, err = api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{"i-0123456789abcdef0"}})
	wantCode(t, err, "InvalidInstanceID.NotFound")
	_, err = api.DescribeInstances(ctx, &ec2.DescribeInstancesInput{DryRun: aws.Bool(true)})
	wantCode(t, err, "DryRunOperation")

	st := must[*ec2.DescribeInstanceStatusOutput](t)(api.DescribeInstanceStatus(ctx, &ec2.DescribeInstanceStatusInput{InstanceIds: []string{id}}))
	if len(st.InstanceStatuses) != 1 || st.InstanceStatuses[0].SystemStatus.Status != types.SummaryStatusOk {
		t.Errorf("status %+v", st)
	}
	attr := must[*ec2.DescribeInstanceAttributeOutput](t)(api.DescribeInstanceAttribute(ctx, &ec2.DescribeInstanceAttributeInput{
		InstanceId: &id, Attribute: types.InstanceAttributeNameUserData,
	}))
	if text, err := base64.StdEncoding.DecodeString(aws.ToString(attr.UserData.Value)); err != nil || string(text) != "#!/bin/sh" {
		t.Errorf("user data %q, %v", text, err)
	}

	_, err = api.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}, DryRun: aws.Bool(true)})
	wantCode(t, err, "DryRunOperation")
	term := must[*ec2.TerminateInstancesOutput](t)(api.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}}))
	if ch := term.TerminatingInstances[0]; ch.PreviousState.Name != types.InstanceStateNameRunning || *ch.CurrentState.Code != 32 {
		t.Errorf("terminating %+v", ch)
	}
	w := ec2.NewInstanceTerminatedWaiter(api, func(o *ec2.InstanceTerminatedWaiterOptions) { o.MinDelay, o.MaxDelay = least, most })
	if err := w.Wait(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}}, cloudtest.Limit); err != nil {
		t.Fatal(err)
	}
}

func TestPagesOfInstances(t *testing.T) {
	c := cloudtest.New(t)
	ctx, api, ami := cloudtest.Context(t), c.EC2(region), image(t, c)
	must[*ec2.RunInstancesOutput](t)(api.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: &ami, InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(7), MaxCount: aws.Int32(7),
	}))
	p := ec2.NewDescribeInstancesPaginator(api, &ec2.DescribeInstancesInput{MaxResults: aws.Int32(5)})
	pages, seen := 0, 0
	for p.HasMorePages() {
		out := must[*ec2.DescribeInstancesOutput](t)(p.NextPage(ctx))
		pages++
		for _, r := range out.Reservations {
			seen += len(r.Instances)
		}
	}
	if pages != 2 || seen != 7 {
		t.Errorf("%d instances on %d pages", seen, pages)
	}
}

func TestStopModifyStart(t *testing.T) {
	c := cloudtest.New(t)
	ctx, api, ami := cloudtest.Context(t), c.EC2(region), image(t, c)
	run := must[*ec2.RunInstancesOutput](t)(api.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: &ami, InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), DisableApiTermination: aws.Bool(true),
	}))
	id := *run.Instances[0].InstanceId
	awaitRunning(t, api, id)
	_, err := api.TerminateInstances(ctx, &ec2.TerminateInstancesInput{InstanceIds: []string{id}})
	wantCode(t, err, "OperationNotPermitted")
	_, err = api.ModifyInstanceAttribute(ctx, &ec2.ModifyInstanceAttributeInput{InstanceId: &id, EnaSupport: &types.AttributeBooleanValue{Value: aws.Bool(true)}})
	wantCode(t, err, "IncorrectInstanceState")
	must[*ec2.StopInstancesOutput](t)(api.StopInstances(ctx, &ec2.StopInstancesInput{InstanceIds: []string{id}}))
	w := ec2.NewInstanceStoppedWaiter(api, func(o *ec2.InstanceStoppedWaiterOptions) { o.MinDelay, o.MaxDelay = least, most })
	if err := w.Wait(ctx, &ec2.DescribeInstancesInput{InstanceIds: []string{id}}, cloudtest.Limit); err != nil {
		t.Fatal(err)
	}
	for _, in := range []*ec2.ModifyInstanceAttributeInput{
		{InstanceId: &id, EnaSupport: &types.AttributeBooleanValue{Value: aws.Bool(true)}},
		{InstanceId: &id, SriovNetSupport: &types.AttributeValue{Value: aws.String("simple")}},
		{InstanceId: &id, InstanceType: &types.AttributeValue{Value: aws.String("t3.small")}},
		{InstanceId: &id, DisableApiTermination: &types.AttributeBooleanValue{Value: aws.Bool(false)}},
		{InstanceId: &id, Attribute: types.InstanceAttributeNameInstanceInitiatedShutdownBehavior, Value: aws.String("terminate")},
		{InstanceId: &id, BlockDeviceMappings: []types.InstanceBlockDeviceMappingSpecification{{
			DeviceName: run.Instances[0].RootDeviceName, Ebs: &types.EbsInstanceBlockDeviceSpecification{DeleteOnTermination: aws.Bool(true)},
		}}},
	} {
		if _, err := api.ModifyInstanceAttribute(ctx, in); err != nil {
			t.Error(err)
		}
	}
	must[*ec2.StartInstancesOutput](t)(api.StartInstances(ctx, &ec2.StartInstancesInput{InstanceIds: []string{id}}))
	if i := awaitRunning(t, api, id)[0]; i.InstanceType != types.InstanceTypeT3Small || aws.ToString(i.SriovNetSupport) != "simple" {
		t.Errorf("%+v", i)
	}
	meta := must[*ec2.ModifyInstanceMetadataOptionsOutput](t)(api.ModifyInstanceMetadataOptions(ctx, &ec2.ModifyInstanceMetadataOptionsInput{
		InstanceId: &id, HttpTokens: types.HttpTokensStateRequired,
	}))
	if meta.InstanceMetadataOptions.HttpTokens != types.HttpTokensStateRequired {
		t.Errorf("%+v", meta.InstanceMetadataOptions)
	}
	must[*ec2.RebootInstancesOutput](t)(api.RebootInstances(ctx, &ec2.RebootInstancesInput{InstanceIds: []string{id}}))
	must[*ec2.MonitorInstancesOutput](t)(api.MonitorInstances(ctx, &ec2.MonitorInstancesInput{InstanceIds: []string{id}}))
	credits := must[*ec2.DescribeInstanceCreditSpecificationsOutput](t)(api.DescribeInstanceCreditSpecifications(ctx, &ec2.DescribeInstanceCreditSpecificationsInput{InstanceIds: []string{id}}))
	if len(credits.InstanceCreditSpecifications) != 1 || aws.ToString(credits.InstanceCreditSpecifications[0].CpuCredits) != "unlimited" {
		t.Errorf("%+v", credits)
	}
	out := must[*ec2.GetConsoleOutputOutput](t)(api.GetConsoleOutput(ctx, &ec2.GetConsoleOutputInput{InstanceId: &id}))
	if text, err := base64.StdEncoding.DecodeString(aws.ToString(out.Output)); err != nil || !bytes.Contains(text, []byte("SSH HOST KEY")) {
		t.Errorf("console %q, %v", text, err)
	}
	if pw := must[*ec2.GetPasswordDataOutput](t)(api.GetPasswordData(ctx, &ec2.GetPasswordDataInput{InstanceId: &id})); aws.ToString(pw.PasswordData) != "" {
		t.Errorf("a password of Linux: %+v", pw)
	}
}

// The calls of a spot build of the Amazon builder.
func TestFleetOfTemplate(t *testing.T) {
	c := cloudtest.New(t)
	ctx, api, ami := cloudtest.Context(t), c.EC2(region), image(t, c)
	if err := c.SetSettings(ctx, localcloud.Settings{NoCapacity: []string{"t3.micro"}}); err != nil {
		t.Fatal(err)
	}
	tpl := must[*ec2.CreateLaunchTemplateOutput](t)(api.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String("ingot-fleet"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &ami, BlockDeviceMappings: []types.LaunchTemplateBlockDeviceMappingRequest{
			{DeviceName: aws.String("/dev/sdf"), Ebs: &types.LaunchTemplateEbsBlockDeviceRequest{VolumeSize: aws.Int32(2)}},
		}},
	}))
	in := &ec2.CreateFleetInput{
		Type: types.FleetTypeInstant,
		LaunchTemplateConfigs: []types.FleetLaunchTemplateConfigRequest{{
			LaunchTemplateSpecification: &types.FleetLaunchTemplateSpecificationRequest{LaunchTemplateId: tpl.LaunchTemplate.LaunchTemplateId, Version: aws.String("1")},
			Overrides:                   []types.FleetLaunchTemplateOverridesRequest{{InstanceType: types.InstanceTypeT3Micro}, {InstanceType: types.InstanceTypeT3Large}},
		}},
		TargetCapacitySpecification: &types.TargetCapacitySpecificationRequest{TotalTargetCapacity: aws.Int32(1), DefaultTargetCapacityType: types.DefaultTargetCapacityTypeSpot},
		SpotOptions:                 &types.SpotOptionsRequest{AllocationStrategy: types.SpotAllocationStrategyCapacityOptimized},
		TagSpecifications:           []types.TagSpecification{{ResourceType: types.ResourceTypeFleet, Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}},
	}
	f := must[*ec2.CreateFleetOutput](t)(api.CreateFleet(ctx, in))
	if len(f.Instances) != 1 || f.Instances[0].InstanceType != types.InstanceTypeT3Large || len(f.Errors) == 0 ||
		aws.ToString(f.Errors[0].ErrorCode) != "InsufficientInstanceCapacity" || f.Instances[0].Lifecycle != types.InstanceLifecycleSpot {
		t.Fatalf("%+v", f)
	}
	i := awaitRunning(t, api, f.Instances[0].InstanceIds[0])[0]
	if len(i.BlockDeviceMappings) != 2 || i.SpotInstanceRequestId == nil || i.InstanceLifecycle != types.InstanceLifecycleTypeSpot {
		t.Errorf("%+v", i)
	}
	fleets := must[*ec2.DescribeFleetsOutput](t)(api.DescribeFleets(ctx, &ec2.DescribeFleetsInput{FleetIds: []string{*f.FleetId}}))
	if len(fleets.Fleets) != 1 || fleets.Fleets[0].FleetState != types.FleetStateCodeActive || aws.ToFloat64(fleets.Fleets[0].FulfilledCapacity) != 1 {
		t.Errorf("%+v", fleets.Fleets)
	}
	members := must[*ec2.DescribeFleetInstancesOutput](t)(api.DescribeFleetInstances(ctx, &ec2.DescribeFleetInstancesInput{FleetId: f.FleetId}))
	if len(members.ActiveInstances) != 1 {
		t.Errorf("%+v", members)
	}
	spot := must[*ec2.DescribeSpotInstanceRequestsOutput](t)(api.DescribeSpotInstanceRequests(ctx, &ec2.DescribeSpotInstanceRequestsInput{}))
	if len(spot.SpotInstanceRequests) != 1 || spot.SpotInstanceRequests[0].State != types.SpotInstanceStateActive {
		t.Errorf("%+v", spot)
	}
	gone := must[*ec2.DeleteFleetsOutput](t)(api.DeleteFleets(ctx, &ec2.DeleteFleetsInput{FleetIds: []string{*f.FleetId}, TerminateInstances: aws.Bool(true)}))
	if len(gone.SuccessfulFleetDeletions) != 1 {
		t.Errorf("%+v", gone)
	}
	in.Type = types.FleetTypeMaintain
	_, err := api.CreateFleet(ctx, in)
	wantCode(t, err, "UnsupportedOperation")
}

func TestRunFromTemplateAndRequestSpot(t *testing.T) {
	c := cloudtest.New(t)
	ctx, api, ami := cloudtest.Context(t), c.EC2(region), image(t, c)
	must[*ec2.CreateLaunchTemplateOutput](t)(api.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{
		LaunchTemplateName: aws.String("tpl"),
		LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &ami, InstanceType: types.InstanceTypeT3Micro},
	}))
	run := must[*ec2.RunInstancesOutput](t)(api.RunInstances(ctx, &ec2.RunInstancesInput{
		MinCount: aws.Int32(1), MaxCount: aws.Int32(1), InstanceType: types.InstanceTypeT3Small,
		LaunchTemplate: &types.LaunchTemplateSpecification{LaunchTemplateName: aws.String("tpl"), Version: aws.String("$Latest")},
	}))
	if i := run.Instances[0]; i.InstanceType != types.InstanceTypeT3Small || aws.ToString(i.ImageId) != ami {
		t.Errorf("%+v", i)
	}
	req := must[*ec2.RequestSpotInstancesOutput](t)(api.RequestSpotInstances(ctx, &ec2.RequestSpotInstancesInput{
		LaunchSpecification: &types.RequestSpotLaunchSpecification{ImageId: &ami, InstanceType: types.InstanceTypeT3Micro},
	}))
	id := *req.SpotInstanceRequests[0].SpotInstanceRequestId
	w := ec2.NewSpotInstanceRequestFulfilledWaiter(api, func(o *ec2.SpotInstanceRequestFulfilledWaiterOptions) { o.MinDelay, o.MaxDelay = least, most })
	if err := w.Wait(ctx, &ec2.DescribeSpotInstanceRequestsInput{SpotInstanceRequestIds: []string{id}}, cloudtest.Limit); err != nil {
		t.Fatal(err)
	}
	can := must[*ec2.CancelSpotInstanceRequestsOutput](t)(api.CancelSpotInstanceRequests(ctx, &ec2.CancelSpotInstanceRequestsInput{SpotInstanceRequestIds: []string{id}}))
	if can.CancelledSpotInstanceRequests[0].State != types.CancelSpotInstanceRequestStateCancelled {
		t.Errorf("%+v", can)
	}
}

func TestReplaceRootVolume(t *testing.T) {
	c := cloudtest.New(t)
	ctx, api, ami := cloudtest.Context(t), c.EC2(region), image(t, c)
	run := must[*ec2.RunInstancesOutput](t)(api.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: &ami, InstanceType: types.InstanceTypeT3Micro, MinCount: aws.Int32(1), MaxCount: aws.Int32(1),
	}))
	id := *run.Instances[0].InstanceId
	before := awaitRunning(t, api, id)[0]
	task := must[*ec2.CreateReplaceRootVolumeTaskOutput](t)(api.CreateReplaceRootVolumeTask(ctx, &ec2.CreateReplaceRootVolumeTaskInput{InstanceId: &id, ImageId: &ami}))
	taskID := *task.ReplaceRootVolumeTask.ReplaceRootVolumeTaskId
	cloudtest.Eventually(t, "the root volume is replaced", func() bool {
		out := must[*ec2.DescribeReplaceRootVolumeTasksOutput](t)(api.DescribeReplaceRootVolumeTasks(ctx, &ec2.DescribeReplaceRootVolumeTasksInput{ReplaceRootVolumeTaskIds: []string{taskID}}))
		switch s := out.ReplaceRootVolumeTasks[0].TaskState; s {
		case types.ReplaceRootVolumeTaskStateFailed:
			t.Fatalf("%+v", out.ReplaceRootVolumeTasks[0])
		case types.ReplaceRootVolumeTaskStateSucceeded:
			return true
		}
		return false
	})
	after := awaitRunning(t, api, id)[0]
	if *after.BlockDeviceMappings[0].Ebs.VolumeId == *before.BlockDeviceMappings[0].Ebs.VolumeId {
		t.Error("the root volume is the same")
	}
}
