package network_test

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/localcloud"
)

func TestDefaultVPCs(t *testing.T) {
	s := newSite(t)
	ctx := t.Context()
	ids := map[string]bool{}
	for _, region := range []string{east, "sa-east-1", "eu-north-1"} {
		c := s.ec2(region)
		vpcs := must(c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: filters("is-default", "true")}))(t).Vpcs
		if len(vpcs) != 1 || aws.ToString(vpcs[0].CidrBlock) != "172.31.0.0/16" || vpcs[0].State != types.VpcStateAvailable {
			t.Fatalf("%s: %+v", region, vpcs)
		}
		ids[*vpcs[0].VpcId] = true
		subnets := must(c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{Filters: filters("default-for-az", "true", "vpc-id", *vpcs[0].VpcId)}))(t).Subnets
		if len(subnets) != 3 {
			t.Fatalf("%s: %d subnets", region, len(subnets))
		}
		for _, sub := range subnets {
			if aws.ToInt32(sub.AvailableIpAddressCount) != 4091 || !aws.ToBool(sub.MapPublicIpOnLaunch) {
				t.Errorf("%+v", sub)
			}
		}
		gws := must(c.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{Filters: filters("attachment.vpc-id", *vpcs[0].VpcId)}))(t)
		tables := must(c.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: filters("association.main", "true")}))(t).RouteTables
		if len(gws.InternetGateways) != 1 || len(tables) != 1 || len(tables[0].Routes) != 2 ||
			aws.ToString(tables[0].Routes[1].GatewayId) != aws.ToString(gws.InternetGateways[0].InternetGatewayId) {
			t.Errorf("%s: %+v", region, tables)
		}
		acls := must(c.DescribeNetworkAcls(ctx, &ec2.DescribeNetworkAclsInput{Filters: filters("default", "true")}))(t).NetworkAcls
		if len(acls) != 1 || len(acls[0].Associations) != 3 || len(acls[0].Entries) != 4 {
			t.Errorf("%s: %+v", region, acls)
		}
	}
	if len(ids) != 3 {
		t.Errorf("regions share a VPC: %v", ids)
	}
}

func TestVPCLife(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	_, err := c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/8")})
	refused(t, "too large", err, "InvalidVpc.Range")
	_, err = c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0")})
	refused(t, "not a range", err, "InvalidParameterValue")
	_, err = c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/16"), DryRun: aws.Bool(true)})
	refused(t, "dry run", err, "DryRunOperation")
	if n := len(must(c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{}))(t).Vpcs); n != 1 {
		t.Errorf("a dry run made a VPC: %d", n)
	}
	v := must(c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.1.2.3/16"), TagSpecifications: tagged("vpc", "Name", "mine")}))(t).Vpc
	if aws.ToString(v.CidrBlock) != "10.1.0.0/16" || len(v.Tags) != 1 || aws.ToBool(v.IsDefault) {
		t.Errorf("%+v", v)
	}
	found := must(c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: filters("tag:Name", "m?ne", "state", "available")}))(t).Vpcs
	if len(found) != 1 || *found[0].VpcId != *v.VpcId {
		t.Errorf("%+v", found)
	}
	_, err = c.ModifyVpcAttribute(ctx, &ec2.ModifyVpcAttributeInput{VpcId: v.VpcId, EnableDnsHostnames: &types.AttributeBooleanValue{Value: aws.Bool(true)}})
	if err != nil {
		t.Fatal(err)
	}
	at := must(c.DescribeVpcAttribute(ctx, &ec2.DescribeVpcAttributeInput{VpcId: v.VpcId, Attribute: types.VpcAttributeNameEnableDnsHostnames}))(t)
	if at.EnableDnsHostnames == nil || !aws.ToBool(at.EnableDnsHostnames.Value) {
		t.Errorf("%+v", at)
	}

	sub := must(c.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: v.VpcId, CidrBlock: aws.String("10.1.1.0/24"), AvailabilityZone: aws.String("us-east-1b")}))(t).Subnet
	if aws.ToInt32(sub.AvailableIpAddressCount) != 251 || aws.ToString(sub.AvailabilityZoneId) != "use1-az2" || aws.ToBool(sub.MapPublicIpOnLaunch) {
		t.Errorf("%+v", sub)
	}
	for _, tt := range []struct{ cidr, zone, code string }{
		{"10.1.1.128/25", "us-east-1a", "InvalidSubnet.Conflict"},
		{"10.2.1.0/24", "us-east-1a", "InvalidSubnet.Range"},
		{"10.1.2.0/30", "us-east-1a", "InvalidSubnet.Range"},
		{"10.1.2.0/24", "us-west-1a", "InvalidParameterValue"},
	} {
		_, err := c.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: v.VpcId, CidrBlock: &tt.cidr, AvailabilityZone: &tt.zone})
		refused(t, tt.cidr+" in "+tt.zone, err, tt.code)
	}
	_, err = c.ModifySubnetAttribute(ctx, &ec2.ModifySubnetAttributeInput{SubnetId: sub.SubnetId, MapPublicIpOnLaunch: &types.AttributeBooleanValue{Value: aws.Bool(true)}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: v.VpcId})
	refused(t, "VPC with a subnet", err, "DependencyViolation")

	i := instance(t, s, east, func(i *localcloud.Instance) { i.Subnet, i.VPC, i.PrivateIP = *sub.SubnetId, *v.VpcId, "10.1.1.4" })
	now := must(c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{*sub.SubnetId}}))(t).Subnets[0]
	if aws.ToInt32(now.AvailableIpAddressCount) != 250 || !aws.ToBool(now.MapPublicIpOnLaunch) {
		t.Errorf("%+v", now)
	}
	_, err = c.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: sub.SubnetId})
	refused(t, "subnet with an instance", err, "DependencyViolation")
	i.State = "terminated"
	put(t, s, east, i)
	if _, err = c.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: sub.SubnetId}); err != nil {
		t.Fatal(err)
	}
	if _, err = c.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: v.VpcId}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{*v.VpcId}})
	refused(t, "deleted VPC", err, "InvalidVpcID.NotFound")
	_, err = c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{VpcIds: []string{"vpc-XYZ"}})
	refused(t, "bad id", err, "InvalidVpcId.Malformed")
	if acls := must(c.DescribeNetworkAcls(ctx, &ec2.DescribeNetworkAclsInput{}))(t).NetworkAcls; len(acls) != 1 {
		t.Errorf("the VPC's ACL is left: %+v", acls)
	}
}

func TestDefaultVPCAgain(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	_, err := c.CreateDefaultVpc(ctx, &ec2.CreateDefaultVpcInput{})
	refused(t, "there is one", err, "DefaultVpcAlreadyExists")
	_, err = c.CreateDefaultSubnet(ctx, &ec2.CreateDefaultSubnetInput{AvailabilityZone: aws.String("us-east-1a")})
	refused(t, "there is one", err, "DefaultSubnetAlreadyExistsInAvailabilityZone")
	subnets := must(c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{}))(t).Subnets
	vpc := subnets[0].VpcId
	for n, sub := range subnets {
		if _, err := c.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: sub.SubnetId}); err != nil {
			t.Fatal(err)
		}
		if n == 0 {
			again := must(c.CreateDefaultSubnet(ctx, &ec2.CreateDefaultSubnetInput{AvailabilityZone: sub.AvailabilityZone}))(t).Subnet
			if *again.CidrBlock != *sub.CidrBlock || *again.SubnetId == *sub.SubnetId || !aws.ToBool(again.DefaultForAz) {
				t.Errorf("%+v", again)
			}
			if _, err := c.DeleteSubnet(ctx, &ec2.DeleteSubnetInput{SubnetId: again.SubnetId}); err != nil {
				t.Fatal(err)
			}
		}
	}
	igw := must(c.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{}))(t).InternetGateways[0].InternetGatewayId
	_, err = c.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: igw})
	refused(t, "attached gateway", err, "DependencyViolation")
	if _, err := c.DetachInternetGateway(ctx, &ec2.DetachInternetGatewayInput{InternetGatewayId: igw, VpcId: vpc}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteInternetGateway(ctx, &ec2.DeleteInternetGatewayInput{InternetGatewayId: igw}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteVpc(ctx, &ec2.DeleteVpcInput{VpcId: vpc}); err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: aws.String("g"), Description: aws.String("d")})
	refused(t, "no default VPC", err, "VPCIdNotSpecified")
	v := must(c.CreateDefaultVpc(ctx, &ec2.CreateDefaultVpcInput{}))(t).Vpc
	if !aws.ToBool(v.IsDefault) || *v.VpcId == *vpc {
		t.Errorf("%+v", v)
	}
	if n := len(must(c.DescribeSubnets(ctx, &ec2.DescribeSubnetsInput{}))(t).Subnets); n != 3 {
		t.Errorf("%d subnets", n)
	}
}

func TestRoutes(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	vpc := must(c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/16")}))(t).Vpc.VpcId
	sub := must(c.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc, CidrBlock: aws.String("10.0.1.0/24")}))(t).Subnet.SubnetId
	igw := must(c.CreateInternetGateway(ctx, &ec2.CreateInternetGatewayInput{}))(t).InternetGateway.InternetGatewayId
	attach := &ec2.AttachInternetGatewayInput{InternetGatewayId: igw, VpcId: vpc}
	if _, err := c.AttachInternetGateway(ctx, attach); err != nil {
		t.Fatal(err)
	}
	_, err := c.AttachInternetGateway(ctx, attach)
	refused(t, "attached twice", err, "Resource.AlreadyAssociated")
	create := &ec2.CreateRouteTableInput{VpcId: vpc, ClientToken: aws.String("t1")}
	table := must(c.CreateRouteTable(ctx, create))(t).RouteTable.RouteTableId
	if again := must(c.CreateRouteTable(ctx, create))(t).RouteTable.RouteTableId; *again != *table {
		t.Errorf("one token made %s and %s", *table, *again)
	}
	out := &ec2.CreateRouteInput{RouteTableId: table, DestinationCidrBlock: aws.String("0.0.0.0/0"), GatewayId: igw}
	if _, err := c.CreateRoute(ctx, out); err != nil {
		t.Fatal(err)
	}
	_, err = c.CreateRoute(ctx, out)
	refused(t, "route twice", err, "RouteAlreadyExists")
	assoc := must(c.AssociateRouteTable(ctx, &ec2.AssociateRouteTableInput{RouteTableId: table, SubnetId: sub}))(t)
	if assoc.AssociationState == nil || assoc.AssociationState.State != types.RouteTableAssociationStateCodeAssociated {
		t.Errorf("%+v", assoc)
	}
	got := must(c.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{Filters: filters("association.subnet-id", *sub)}))(t).RouteTables
	if len(got) != 1 || *got[0].RouteTableId != *table || len(got[0].Routes) != 2 || got[0].Routes[1].State != types.RouteStateActive {
		t.Fatalf("%+v", got)
	}
	_, err = c.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: table})
	refused(t, "associated table", err, "DependencyViolation")
	if _, err := c.DisassociateRouteTable(ctx, &ec2.DisassociateRouteTableInput{AssociationId: assoc.AssociationId}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteRoute(ctx, &ec2.DeleteRouteInput{RouteTableId: table, DestinationCidrBlock: aws.String("10.0.0.0/16")})
	refused(t, "local route", err, "InvalidParameterValue")
	if _, err := c.DeleteRoute(ctx, &ec2.DeleteRouteInput{RouteTableId: table, DestinationCidrBlock: aws.String("0.0.0.0/0")}); err != nil {
		t.Fatal(err)
	}
	_, err = c.ReplaceRoute(ctx, &ec2.ReplaceRouteInput{RouteTableId: table, DestinationCidrBlock: aws.String("0.0.0.0/0"), GatewayId: igw})
	refused(t, "no route to replace", err, "InvalidParameterValue")
	if _, err := c.DeleteRouteTable(ctx, &ec2.DeleteRouteTableInput{RouteTableId: table}); err != nil {
		t.Fatal(err)
	}
}

func TestPages(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	var want []string
	for n := range 12 {
		v := must(c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String([]string{"10.0.0.0/16", "10.1.0.0/16"}[n%2])}))(t)
		want = append(want, *v.Vpc.VpcId)
	}
	var got []string
	pages := 0
	for p := ec2.NewDescribeVpcsPaginator(c, &ec2.DescribeVpcsInput{MaxResults: aws.Int32(5), Filters: filters("cidr", "10.*")}); p.HasMorePages(); pages++ {
		for _, v := range must(p.NextPage(ctx))(t).Vpcs {
			got = append(got, *v.VpcId)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if !slices.Equal(got, want) || pages != 3 {
		t.Errorf("%d pages: %v, want %v", pages, got, want)
	}
	_, err := c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{MaxResults: aws.Int32(2)})
	refused(t, "page too small", err, "InvalidParameterValue")
}

func tagged(kind, key, value string) []types.TagSpecification {
	return []types.TagSpecification{{ResourceType: types.ResourceType(kind), Tags: []types.Tag{{Key: &key, Value: &value}}}}
}
