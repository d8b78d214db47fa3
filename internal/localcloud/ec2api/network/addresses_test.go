package network_test

import (
	"net/netip"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/localcloud"
)

func (s *site) instanceNow(t *testing.T, region, id string) localcloud.Instance {
	t.Helper()
	var i localcloud.Instance
	err := s.View(t.Context(), region, func(tx *localcloud.Tx) (err error) {
		i, _, err = localcloud.Get[localcloud.Instance](tx, id)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestElasticAddress(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	a := must(c.AllocateAddress(ctx, &ec2.AllocateAddressInput{Domain: types.DomainTypeVpc, TagSpecifications: tagged("elastic-ip", "a", "b")}))(t)
	ip, err := netip.ParseAddr(*a.PublicIp)
	if err != nil || !ip.IsLoopback() {
		t.Fatalf("%s", *a.PublicIp)
	}
	one, two := instance(t, s, east, nil), instance(t, s, east, nil)
	first := must(c.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: a.AllocationId, InstanceId: &one.ID}))(t).AssociationId
	if again := must(c.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: a.AllocationId, InstanceId: &one.ID}))(t).AssociationId; *again != *first {
		t.Errorf("%s, then %s", *first, *again)
	}
	if got := s.instanceNow(t, east, one.ID).PublicIP; got != *a.PublicIp {
		t.Errorf("the instance has %s", got)
	}
	_, err = c.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: a.AllocationId})
	refused(t, "release in use", err, "InvalidIPAddress.InUse")
	_, err = c.AssociateAddress(ctx, &ec2.AssociateAddressInput{AllocationId: a.AllocationId, InstanceId: &two.ID, AllowReassociation: aws.Bool(false)})
	refused(t, "taken", err, "Resource.AlreadyAssociated")
	second := must(c.AssociateAddress(ctx, &ec2.AssociateAddressInput{PublicIp: a.PublicIp, NetworkInterfaceId: &two.Interface.ID}))(t).AssociationId
	if got := s.instanceNow(t, east, one.ID).PublicIP; got == "" || got == *a.PublicIp {
		t.Errorf("the first instance has %q", got)
	}
	d := must(c.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{Filters: filters("instance-id", two.ID, "domain", "vpc", "tag:a", "b")}))(t).Addresses
	if len(d) != 1 || *d[0].AssociationId != *second || aws.ToString(d[0].PrivateIpAddress) != two.PrivateIP {
		t.Errorf("%+v", d)
	}
	if _, err := c.DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: second}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DisassociateAddress(ctx, &ec2.DisassociateAddressInput{AssociationId: second})
	refused(t, "disassociated twice", err, "InvalidAssociationID.NotFound")
	if _, err := c.ReleaseAddress(ctx, &ec2.ReleaseAddressInput{AllocationId: a.AllocationId}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DescribeAddresses(ctx, &ec2.DescribeAddressesInput{AllocationIds: []string{*a.AllocationId}})
	refused(t, "released", err, "InvalidAllocationID.NotFound")
}

// No two things of any region have one address.
func TestAddressesAreUnique(t *testing.T) {
	s := newSite(t)
	public, private := map[string]bool{}, map[string]bool{}
	for _, region := range []string{east, "eu-west-1"} {
		for range 5 {
			i := instance(t, s, region, nil)
			a := must(s.ec2(region).AllocateAddress(t.Context(), &ec2.AllocateAddressInput{}))(t)
			if public[i.PublicIP] || public[*a.PublicIp] || private[region+i.PrivateIP] {
				t.Errorf("%s, %s or %s twice", i.PublicIP, *a.PublicIp, i.PrivateIP)
			}
			public[i.PublicIP], public[*a.PublicIp], private[region+i.PrivateIP] = true, true, true
		}
	}
}

func TestPrivateAddresses(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	vpc := must(c.CreateVpc(ctx, &ec2.CreateVpcInput{CidrBlock: aws.String("10.0.0.0/28")}))(t).Vpc.VpcId
	sub := must(c.CreateSubnet(ctx, &ec2.CreateSubnetInput{VpcId: vpc, CidrBlock: aws.String("10.0.0.0/28")}))(t).Subnet
	err := s.View(ctx, east, func(tx *localcloud.Tx) error {
		subnet, err := tx.Subnet(*sub.SubnetId)
		if err != nil {
			return err
		}
		ips, err := tx.NextPrivateIPs(subnet, 11)
		if err != nil {
			return err
		}
		if ips[0] != "10.0.0.4" || ips[10] != "10.0.0.14" {
			t.Errorf("%v", ips)
		}
		if _, err := tx.NextPrivateIPs(subnet, 12); localcloud.CodeOf(err) != "InsufficientFreeAddressesInSubnet" {
			t.Errorf("12 of 11 addresses: %v", err)
		}
		for ip, code := range map[string]string{
			"10.0.0.4": "", "10.0.0.3": "InvalidParameterValue", "10.0.0.15": "InvalidParameterValue",
			"10.0.1.4": "InvalidParameterValue", "x": "InvalidParameterValue",
		} {
			if err := tx.CheckPrivateIP(subnet, ip); localcloud.CodeOf(err) != code {
				t.Errorf("%s: %v", ip, err)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestInterfaces(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	i := instance(t, s, east, nil)
	instance(t, s, east, func(i *localcloud.Instance) { i.State = "terminated" })
	all := must(c.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{Filters: filters("attachment.instance-id", i.ID, "group-name", "default")}))(t).NetworkInterfaces
	if len(all) != 1 {
		t.Fatalf("%+v", all)
	}
	n := all[0]
	if aws.ToString(n.PrivateIpAddress) != i.PrivateIP || n.Status != types.NetworkInterfaceStatusInUse || aws.ToString(n.Association.PublicIp) != i.PublicIP ||
		!aws.ToBool(n.Attachment.DeleteOnTermination) || len(n.Groups) != 1 || aws.ToString(n.AvailabilityZone) != i.Zone {
		t.Errorf("%+v", n)
	}
	g := newGroup(t, c, "g")
	for _, in := range []*ec2.ModifyNetworkInterfaceAttributeInput{
		{Groups: []string{*g}},
		{Description: &types.AttributeValue{Value: aws.String("first")}},
		{SourceDestCheck: &types.AttributeBooleanValue{Value: aws.Bool(true)}},
	} {
		in.NetworkInterfaceId = n.NetworkInterfaceId
		if _, err := c.ModifyNetworkInterfaceAttribute(ctx, in); err != nil {
			t.Fatal(err)
		}
	}
	now := s.instanceNow(t, east, i.ID)
	if len(now.SecurityGroups) != 1 || now.SecurityGroups[0] != *g || now.Interface.Description != "first" || !now.SourceDestCheck {
		t.Errorf("%+v", now)
	}
	at := must(c.DescribeNetworkInterfaceAttribute(ctx, &ec2.DescribeNetworkInterfaceAttributeInput{NetworkInterfaceId: n.NetworkInterfaceId, Attribute: types.NetworkInterfaceAttributeGroupSet}))(t)
	if len(at.Groups) != 1 || aws.ToString(at.Groups[0].GroupName) != "g" {
		t.Errorf("%+v", at)
	}
	_, err := c.DescribeNetworkInterfaces(ctx, &ec2.DescribeNetworkInterfacesInput{NetworkInterfaceIds: []string{"eni-0123456789abcdef0"}})
	refused(t, "unknown interface", err, "InvalidNetworkInterfaceID.NotFound")
}
