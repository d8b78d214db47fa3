package network_test

import (
	"slices"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/localcloud/instancetype"
)

func TestInstanceTypes(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	k := must(c.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"m6g.xlarge"}}))(t).InstanceTypes[0]
	if !slices.Equal(k.ProcessorInfo.SupportedArchitectures, []types.ArchitectureType{types.ArchitectureTypeArm64}) ||
		!slices.Equal(k.SupportedBootModes, []types.BootModeType{types.BootModeTypeUefi}) || aws.ToInt32(k.VCpuInfo.DefaultVCpus) != 4 ||
		aws.ToInt64(k.MemoryInfo.SizeInMiB) != 16384 || k.NetworkInfo.EnaSupport != types.EnaSupportRequired || k.Hypervisor != types.InstanceTypeHypervisorNitro ||
		k.NitroEnclavesSupport != types.NitroEnclavesSupportSupported || len(k.PlacementGroupInfo.SupportedStrategies) != 3 ||
		k.EbsInfo.EbsOptimizedSupport != types.EbsOptimizedSupportDefault || aws.ToInt32(k.EbsInfo.EbsOptimizedInfo.BaselineBandwidthInMbps) == 0 {
		t.Errorf("%+v", k)
	}
	old := must(c.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{Filters: filters("supported-virtualization-type", "paravirtual", "hypervisor", "xen", "instance-type", "m*")}))(t).InstanceTypes
	if len(old) != 8 || aws.ToInt64(old[0].InstanceStorageInfo.TotalSizeInGB) == 0 {
		t.Errorf("%d types: %+v", len(old), old)
	}
	seen := map[types.InstanceType]bool{}
	for p := ec2.NewDescribeInstanceTypesPaginator(c, &ec2.DescribeInstanceTypesInput{}); p.HasMorePages(); {
		for _, k := range must(p.NextPage(ctx))(t).InstanceTypes {
			seen[k.InstanceType] = true
		}
	}
	if len(seen) != len(instancetype.All()) {
		t.Errorf("%d of %d types", len(seen), len(instancetype.All()))
	}
	_, err := c.DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"t9.micro"}})
	refused(t, "unknown type", err, "InvalidInstanceType")
	_, err = s.ec2("eu-north-1").DescribeInstanceTypes(ctx, &ec2.DescribeInstanceTypesInput{InstanceTypes: []types.InstanceType{"m1.small"}})
	refused(t, "not in the region", err, "InvalidInstanceType")
}

func TestOfferings(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2("eu-west-1"), t.Context()
	zones := func(kind string) (out []string) {
		for _, o := range must(c.DescribeInstanceTypeOfferings(ctx, &ec2.DescribeInstanceTypeOfferingsInput{
			LocationType: types.LocationTypeAvailabilityZone, Filters: filters("instance-type", kind),
		}))(t).InstanceTypeOfferings {
			out = append(out, *o.Location)
		}
		return out
	}
	if got := zones("t3.micro"); !slices.Equal(got, []string{"eu-west-1a", "eu-west-1b", "eu-west-1c"}) {
		t.Errorf("t3.micro: %v", got)
	}
	if got := zones("m8g.large"); !slices.Equal(got, []string{"eu-west-1a", "eu-west-1b"}) {
		t.Errorf("m8g.large: %v", got)
	}
	region := must(c.DescribeInstanceTypeOfferings(ctx, &ec2.DescribeInstanceTypeOfferingsInput{Filters: filters("instance-type", "t3.*")}))(t).InstanceTypeOfferings
	if len(region) != 7 || *region[0].Location != "eu-west-1" || region[0].LocationType != types.LocationTypeRegion {
		t.Errorf("%+v", region)
	}
}

func TestTypesForRequirements(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	out := must(c.GetInstanceTypesFromInstanceRequirements(ctx, &ec2.GetInstanceTypesFromInstanceRequirementsInput{
		ArchitectureTypes: []types.ArchitectureType{types.ArchitectureTypeX8664}, VirtualizationTypes: []types.VirtualizationType{types.VirtualizationTypeHvm},
		InstanceRequirements: &types.InstanceRequirementsRequest{
			VCpuCount: &types.VCpuCountRangeRequest{Min: aws.Int32(2), Max: aws.Int32(2)},
			MemoryMiB: &types.MemoryMiBRequest{Min: aws.Int32(4096), Max: aws.Int32(8192)}, ExcludedInstanceTypes: []string{"m*"},
			CpuManufacturers: []types.CpuManufacturer{types.CpuManufacturerIntel}, InstanceGenerations: []types.InstanceGeneration{types.InstanceGenerationCurrent},
		},
	}))(t)
	var got []string
	for _, k := range out.InstanceTypes {
		got = append(got, *k.InstanceType)
	}
	if want := []string{"c5.large", "c6i.large", "c7i.large"}; !slices.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestSpotPrices(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	out := must(c.DescribeSpotPriceHistory(ctx, &ec2.DescribeSpotPriceHistoryInput{
		InstanceTypes: []types.InstanceType{types.InstanceTypeT3Micro}, ProductDescriptions: []string{"Linux/UNIX"}, StartTime: aws.Time(time.Now()),
	}))(t).SpotPriceHistory
	if len(out) != 3 || aws.ToString(out[0].SpotPrice) == "" || out[0].Timestamp == nil || out[0].ProductDescription != types.RIProductDescriptionLinuxUnix {
		t.Errorf("%+v", out)
	}
	_, err := c.DescribeSpotPriceHistory(ctx, &ec2.DescribeSpotPriceHistoryInput{AvailabilityZone: aws.String("eu-west-1a")})
	refused(t, "zone of another region", err, "InvalidParameterValue")
}
