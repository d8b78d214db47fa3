package amazon

import (
	"context"
	"errors"
	"strings"

	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/smithy-go"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
)

// ec2Opt is what the SDK's calls end with.
type ec2Opt = func(*ec2.Options)

// api is the calls of EC2 that are made here
// (https://docs.aws.amazon.com/AWSEC2/latest/APIReference/).
type api interface {
	// What is there.
	DescribeRegions(context.Context, *ec2.DescribeRegionsInput, ...ec2Opt) (*ec2.DescribeRegionsOutput, error)
	DescribeImages(context.Context, *ec2.DescribeImagesInput, ...ec2Opt) (*ec2.DescribeImagesOutput, error)
	DescribeInstanceTypes(context.Context, *ec2.DescribeInstanceTypesInput, ...ec2Opt) (*ec2.DescribeInstanceTypesOutput, error)
	DescribeInstanceTypeOfferings(context.Context, *ec2.DescribeInstanceTypeOfferingsInput, ...ec2Opt) (*ec2.DescribeInstanceTypeOfferingsOutput, error)
	DescribeVpcs(context.Context, *ec2.DescribeVpcsInput, ...ec2Opt) (*ec2.DescribeVpcsOutput, error)
	DescribeSubnets(context.Context, *ec2.DescribeSubnetsInput, ...ec2Opt) (*ec2.DescribeSubnetsOutput, error)
	DescribeSecurityGroups(context.Context, *ec2.DescribeSecurityGroupsInput, ...ec2Opt) (*ec2.DescribeSecurityGroupsOutput, error)
	DescribeInstances(context.Context, *ec2.DescribeInstancesInput, ...ec2Opt) (*ec2.DescribeInstancesOutput, error)
	DescribeKeyPairs(context.Context, *ec2.DescribeKeyPairsInput, ...ec2Opt) (*ec2.DescribeKeyPairsOutput, error)
	DescribeVolumes(context.Context, *ec2.DescribeVolumesInput, ...ec2Opt) (*ec2.DescribeVolumesOutput, error)
	DescribeSnapshots(context.Context, *ec2.DescribeSnapshotsInput, ...ec2Opt) (*ec2.DescribeSnapshotsOutput, error)
	DescribeLaunchTemplates(context.Context, *ec2.DescribeLaunchTemplatesInput, ...ec2Opt) (*ec2.DescribeLaunchTemplatesOutput, error)
	DescribeFastLaunchImages(context.Context, *ec2.DescribeFastLaunchImagesInput, ...ec2Opt) (*ec2.DescribeFastLaunchImagesOutput, error)
	GetConsoleOutput(context.Context, *ec2.GetConsoleOutputInput, ...ec2Opt) (*ec2.GetConsoleOutputOutput, error)
	GetPasswordData(context.Context, *ec2.GetPasswordDataInput, ...ec2Opt) (*ec2.GetPasswordDataOutput, error)

	// What serves the build.
	ImportKeyPair(context.Context, *ec2.ImportKeyPairInput, ...ec2Opt) (*ec2.ImportKeyPairOutput, error)
	CreateKeyPair(context.Context, *ec2.CreateKeyPairInput, ...ec2Opt) (*ec2.CreateKeyPairOutput, error)
	DeleteKeyPair(context.Context, *ec2.DeleteKeyPairInput, ...ec2Opt) (*ec2.DeleteKeyPairOutput, error)
	CreateSecurityGroup(context.Context, *ec2.CreateSecurityGroupInput, ...ec2Opt) (*ec2.CreateSecurityGroupOutput, error)
	AuthorizeSecurityGroupIngress(context.Context, *ec2.AuthorizeSecurityGroupIngressInput, ...ec2Opt) (*ec2.AuthorizeSecurityGroupIngressOutput, error)
	DeleteSecurityGroup(context.Context, *ec2.DeleteSecurityGroupInput, ...ec2Opt) (*ec2.DeleteSecurityGroupOutput, error)
	CreateLaunchTemplate(context.Context, *ec2.CreateLaunchTemplateInput, ...ec2Opt) (*ec2.CreateLaunchTemplateOutput, error)
	DeleteLaunchTemplate(context.Context, *ec2.DeleteLaunchTemplateInput, ...ec2Opt) (*ec2.DeleteLaunchTemplateOutput, error)
	CreateFleet(context.Context, *ec2.CreateFleetInput, ...ec2Opt) (*ec2.CreateFleetOutput, error)
	RunInstances(context.Context, *ec2.RunInstancesInput, ...ec2Opt) (*ec2.RunInstancesOutput, error)
	StopInstances(context.Context, *ec2.StopInstancesInput, ...ec2Opt) (*ec2.StopInstancesOutput, error)
	TerminateInstances(context.Context, *ec2.TerminateInstancesInput, ...ec2Opt) (*ec2.TerminateInstancesOutput, error)
	ModifyInstanceAttribute(context.Context, *ec2.ModifyInstanceAttributeInput, ...ec2Opt) (*ec2.ModifyInstanceAttributeOutput, error)
	AttachVolume(context.Context, *ec2.AttachVolumeInput, ...ec2Opt) (*ec2.AttachVolumeOutput, error)
	DetachVolume(context.Context, *ec2.DetachVolumeInput, ...ec2Opt) (*ec2.DetachVolumeOutput, error)
	DeleteVolume(context.Context, *ec2.DeleteVolumeInput, ...ec2Opt) (*ec2.DeleteVolumeOutput, error)
	CreateTags(context.Context, *ec2.CreateTagsInput, ...ec2Opt) (*ec2.CreateTagsOutput, error)
	DeleteTags(context.Context, *ec2.DeleteTagsInput, ...ec2Opt) (*ec2.DeleteTagsOutput, error)

	// What stays.
	CreateImage(context.Context, *ec2.CreateImageInput, ...ec2Opt) (*ec2.CreateImageOutput, error)
	RegisterImage(context.Context, *ec2.RegisterImageInput, ...ec2Opt) (*ec2.RegisterImageOutput, error)
	CopyImage(context.Context, *ec2.CopyImageInput, ...ec2Opt) (*ec2.CopyImageOutput, error)
	DeregisterImage(context.Context, *ec2.DeregisterImageInput, ...ec2Opt) (*ec2.DeregisterImageOutput, error)
	CreateSnapshot(context.Context, *ec2.CreateSnapshotInput, ...ec2Opt) (*ec2.CreateSnapshotOutput, error)
	DeleteSnapshot(context.Context, *ec2.DeleteSnapshotInput, ...ec2Opt) (*ec2.DeleteSnapshotOutput, error)
	ModifyImageAttribute(context.Context, *ec2.ModifyImageAttributeInput, ...ec2Opt) (*ec2.ModifyImageAttributeOutput, error)
	ModifySnapshotAttribute(context.Context, *ec2.ModifySnapshotAttributeInput, ...ec2Opt) (*ec2.ModifySnapshotAttributeOutput, error)
	EnableImageDeprecation(context.Context, *ec2.EnableImageDeprecationInput, ...ec2Opt) (*ec2.EnableImageDeprecationOutput, error)
	EnableImageDeregistrationProtection(context.Context, *ec2.EnableImageDeregistrationProtectionInput, ...ec2Opt) (*ec2.EnableImageDeregistrationProtectionOutput, error)
	EnableFastLaunch(context.Context, *ec2.EnableFastLaunchInput, ...ec2Opt) (*ec2.EnableFastLaunchOutput, error)
}

type iamOpt = func(*iam.Options)

// iamAPI is the calls of IAM that are made here
// (https://docs.aws.amazon.com/IAM/latest/APIReference/).
type iamAPI interface {
	GetInstanceProfile(context.Context, *iam.GetInstanceProfileInput, ...iamOpt) (*iam.GetInstanceProfileOutput, error)
	CreateInstanceProfile(context.Context, *iam.CreateInstanceProfileInput, ...iamOpt) (*iam.CreateInstanceProfileOutput, error)
	DeleteInstanceProfile(context.Context, *iam.DeleteInstanceProfileInput, ...iamOpt) (*iam.DeleteInstanceProfileOutput, error)
	CreateRole(context.Context, *iam.CreateRoleInput, ...iamOpt) (*iam.CreateRoleOutput, error)
	DeleteRole(context.Context, *iam.DeleteRoleInput, ...iamOpt) (*iam.DeleteRoleOutput, error)
	PutRolePolicy(context.Context, *iam.PutRolePolicyInput, ...iamOpt) (*iam.PutRolePolicyOutput, error)
	DeleteRolePolicy(context.Context, *iam.DeleteRolePolicyInput, ...iamOpt) (*iam.DeleteRolePolicyOutput, error)
	AddRoleToInstanceProfile(context.Context, *iam.AddRoleToInstanceProfileInput, ...iamOpt) (*iam.AddRoleToInstanceProfileOutput, error)
	RemoveRoleFromInstanceProfile(context.Context, *iam.RemoveRoleFromInstanceProfileInput, ...iamOpt) (*iam.RemoveRoleFromInstanceProfileOutput, error)
}

type ssmOpt = func(*ssm.Options)

// ssmAPI is the calls of Systems Manager that are made here.
type ssmAPI interface {
	StartSession(context.Context, *ssm.StartSessionInput, ...ssmOpt) (*ssm.StartSessionOutput, error)
	TerminateSession(context.Context, *ssm.TerminateSessionInput, ...ssmOpt) (*ssm.TerminateSessionOutput, error)
}

var (
	_ api    = (*ec2.Client)(nil)
	_ iamAPI = (*iam.Client)(nil)
	_ ssmAPI = (*ssm.Client)(nil)
)

// session returns the session with AWS, opened by the first call.
func (m *machine) session(ctx context.Context) (*awsaccess.Session, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.sess != nil {
		return m.sess, nil
	}
	s, err := awsaccess.Open(ctx, *m.access, m.version, m.at)
	if err != nil {
		return nil, err
	}
	if err := m.rightAccount(ctx, s); err != nil {
		return nil, err
	}
	m.sess = s
	return s, nil
}

// cloud is a session and the calls of one region.
type cloud struct {
	api
	s *awsaccess.Session
}

// in returns the calls of a region, "" for the build region.
func (m *machine) in(ctx context.Context, region string) (cloud, error) {
	s, err := m.session(ctx)
	if err != nil {
		return cloud{}, err
	}
	return cloud{s.EC2(region), s}, nil
}

// explain tells err as a person needs it. Of errors that are joined each is
// told, and what was being done stays in front of AWS's answer.
func (m *machine) explain(ctx context.Context, err error) error {
	m.mu.Lock()
	s := m.sess
	m.mu.Unlock()
	if all := diag.Flatten(err); len(all) > 1 {
		for n := range all {
			all[n] = m.explain(ctx, all[n])
		}
		return errors.Join(all...)
	}
	var call *awsaccess.CallError
	if errors.As(err, &call) {
		return err // told already
	}
	told := awsaccess.Explain(ctx, s, err)
	var op *smithy.OperationError
	if !errors.As(told, &call) || !errors.As(err, &op) {
		return told
	}
	if doing, ok := strings.CutSuffix(err.Error(), op.Error()); ok && doing != "" {
		return &explained{doing, told}
	}
	return told
}

// explained is an answer of AWS with what was being done.
type explained struct {
	doing string
	err   error
}

func (e *explained) Error() string { return e.doing + e.err.Error() }
func (e *explained) Unwrap() error { return e.err }
