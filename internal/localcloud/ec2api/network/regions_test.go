package network_test

import (
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/localcloud"
)

func TestRegionsAndZones(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2("eu-west-1"), t.Context()
	out := must(c.DescribeRegions(ctx, &ec2.DescribeRegionsInput{}))(t)
	if len(out.Regions) != len(localcloud.Regions()) || aws.ToString(out.Regions[0].OptInStatus) != "opt-in-not-required" {
		t.Errorf("%d regions", len(out.Regions))
	}
	out = must(c.DescribeRegions(ctx, &ec2.DescribeRegionsInput{RegionNames: []string{"us-west-2", east}}))(t)
	if len(out.Regions) != 2 || aws.ToString(out.Regions[0].Endpoint) != "ec2.us-east-1.amazonaws.com" {
		t.Errorf("%+v", out.Regions)
	}
	_, err := c.DescribeRegions(ctx, &ec2.DescribeRegionsInput{RegionNames: []string{"mars-1"}})
	refused(t, "unknown region", err, "InvalidParameterValue")
	_, err = c.DescribeRegions(ctx, &ec2.DescribeRegionsInput{Filters: filters("colour", "red")})
	refused(t, "unknown filter", err, "InvalidParameterValue")

	zones := must(c.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{Filters: filters("state", "available")}))(t)
	if len(zones.AvailabilityZones) != 3 {
		t.Fatalf("%+v", zones.AvailabilityZones)
	}
	z := zones.AvailabilityZones[1]
	if aws.ToString(z.ZoneName) != "eu-west-1b" || aws.ToString(z.ZoneId) != "euw1-az2" || z.State != types.AvailabilityZoneStateAvailable {
		t.Errorf("%+v", z)
	}
	_, err = c.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{ZoneNames: []string{"us-east-1a"}})
	refused(t, "zone of another region", err, "InvalidParameterValue")
	_, err = c.DescribeAvailabilityZones(ctx, &ec2.DescribeAvailabilityZonesInput{DryRun: aws.Bool(true)})
	refused(t, "dry run", err, "DryRunOperation")
}

func TestAccountAttributes(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	out := must(c.DescribeAccountAttributes(ctx, &ec2.DescribeAccountAttributesInput{AttributeNames: []types.AccountAttributeName{"default-vpc"}}))(t)
	if len(out.AccountAttributes) != 1 || len(aws.ToString(out.AccountAttributes[0].AttributeValues[0].AttributeValue)) != len("vpc-")+17 {
		t.Errorf("%+v", out.AccountAttributes)
	}
}

func TestWhatThereIsNothingOf(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	if out := must(c.DescribeVpcEndpoints(ctx, &ec2.DescribeVpcEndpointsInput{Filters: filters("vpc-id", "vpc-1")}))(t); len(out.VpcEndpoints) != 0 {
		t.Errorf("%+v", out)
	}
	if out := must(c.DescribeCapacityReservations(ctx, &ec2.DescribeCapacityReservationsInput{}))(t); len(out.CapacityReservations) != 0 {
		t.Errorf("%+v", out)
	}
	_, err := c.DescribeCapacityReservations(ctx, &ec2.DescribeCapacityReservationsInput{CapacityReservationIds: []string{"cr-0123456789abcdef0"}})
	refused(t, "no such reservation", err, "InvalidCapacityReservationId.NotFound")
	_, err = c.DescribeVpcEndpoints(ctx, &ec2.DescribeVpcEndpointsInput{Filters: filters("flavour", "x")})
	refused(t, "unknown filter", err, "InvalidParameterValue")

	lists := must(c.DescribePrefixLists(ctx, &ec2.DescribePrefixListsInput{Filters: filters("prefix-list-name", "*.s3")}))(t)
	if len(lists.PrefixLists) != 1 || len(lists.PrefixLists[0].Cidrs) != 1 {
		t.Fatalf("%+v", lists.PrefixLists)
	}
	managed := must(c.DescribeManagedPrefixLists(ctx, &ec2.DescribeManagedPrefixListsInput{PrefixListIds: []string{*lists.PrefixLists[0].PrefixListId}}))(t)
	if len(managed.PrefixLists) != 1 || managed.PrefixLists[0].State != types.PrefixListStateCreateComplete {
		t.Errorf("%+v", managed.PrefixLists)
	}
	options := must(c.DescribeDhcpOptions(ctx, &ec2.DescribeDhcpOptionsInput{Filters: filters("value", "ec2.internal")}))(t)
	if len(options.DhcpOptions) != 1 || len(options.DhcpOptions[0].DhcpConfigurations) != 2 {
		t.Errorf("%+v", options.DhcpOptions)
	}
}

func filters(pairs ...string) []types.Filter {
	var out []types.Filter
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, types.Filter{Name: aws.String(pairs[i]), Values: []string{pairs[i+1]}})
	}
	return out
}
