package amazon

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/diag"
)

// findNetwork decides where the instance is connected. With nothing asked for
// that is left to AWS, which takes a subnet of the default VPC.
func (m *machine) findNetwork(ctx context.Context, _ *builder.Run, s *state) error {
	if n := s.Network; n.VPC != "" || n.Subnet != "" || len(n.Groups) > 0 {
		return nil // decided before a crash: what was made since lies there
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	o := m.run
	n := network{VPC: o.VPCID, Subnet: o.SubnetID, Zone: o.AvailabilityZone}
	if o.SecurityGroupID != "" {
		n.Groups = []string{o.SecurityGroupID}
	} else {
		n.Groups = slices.Clone(o.SecurityGroupIDs)
	}
	if n.VPC == "" && o.VPCFilter != nil {
		if n.VPC, err = c.vpc(ctx, filters(o.VPCFilter.Filters, o.VPCFilter.Filter)); err != nil {
			return fmt.Errorf("vpc_filter: %w", err)
		}
	}
	switch {
	case n.Subnet == "" && o.SubnetFilter != nil:
		err = m.chooseSubnet(ctx, c, &n, filters(o.SubnetFilter.Filters, o.SubnetFilter.Filter), o.SubnetFilter)
	case n.Subnet == "" && (n.VPC != "" || o.AssociatePublicIP != nil):
		err = m.chooseSubnet(ctx, c, &n, nil, nil)
	case n.Subnet != "" && n.VPC == "" && (len(n.Groups) == 0 || o.SecurityGroupFilter != nil):
		// A group is made in the subnet's VPC.
		var list []types.Subnet
		if list, err = c.subnets(ctx, &ec2.DescribeSubnetsInput{SubnetIds: []string{n.Subnet}}); err == nil && len(list) == 1 {
			n.VPC = aws.ToString(list[0].VpcId)
		}
	}
	if err != nil {
		return err
	}
	if o.SecurityGroupFilter != nil && len(n.Groups) == 0 {
		if n.Groups, err = c.groups(ctx, n.VPC, filters(o.SecurityGroupFilter.Filters, o.SecurityGroupFilter.Filter)); err != nil {
			return err
		}
	}
	s.Network = n
	return nil
}

func (c cloud) vpc(ctx context.Context, f []types.Filter) (string, error) {
	f = append(f, types.Filter{Name: aws.String("state"), Values: []string{"available"}})
	out, err := c.DescribeVpcs(ctx, &ec2.DescribeVpcsInput{Filters: f})
	if err != nil {
		return "", err
	}
	if len(out.Vpcs) != 1 {
		return "", fmt.Errorf("%d VPCs fit, and it must be one", len(out.Vpcs))
	}
	return aws.ToString(out.Vpcs[0].VpcId), nil
}

func (c cloud) subnets(ctx context.Context, in *ec2.DescribeSubnetsInput) ([]types.Subnet, error) {
	var all []types.Subnet
	for {
		out, err := c.DescribeSubnets(ctx, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Subnets...)
		if aws.ToString(out.NextToken) == "" {
			return all, nil
		}
		in.NextToken = out.NextToken
	}
}

// groups are all that fit; none is no error, then a temporary one is made.
func (c cloud) groups(ctx context.Context, vpc string, f []types.Filter) ([]string, error) {
	if vpc != "" {
		f = append(f, types.Filter{Name: aws.String("vpc-id"), Values: []string{vpc}})
	}
	out, err := c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{Filters: f})
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, g := range out.SecurityGroups {
		ids = append(ids, aws.ToString(g.GroupId))
	}
	return ids, nil
}

// chooseSubnet takes one of the subnets that fit f, with no f one of n's VPC
// or of the default VPC, in a zone that offers the instance type.
func (m *machine) chooseSubnet(ctx context.Context, c cloud, n *network, f []types.Filter, by *SubnetFilter) error {
	where := "subnet_filter"
	if by == nil && n.VPC == "" {
		vpc, err := c.vpc(ctx, []types.Filter{{Name: aws.String("is-default"), Values: []string{"true"}}})
		if err != nil {
			return diag.WithHint(fmt.Errorf("the default VPC: %w", err), "set subnet_id or vpc_id")
		}
		n.VPC = vpc
	}
	if n.VPC != "" {
		f = append(f, types.Filter{Name: aws.String("vpc-id"), Values: []string{n.VPC}})
		if by == nil {
			where = n.VPC
		}
	}
	if n.Zone != "" {
		f = append(f, types.Filter{Name: aws.String("availability-zone"), Values: []string{n.Zone}})
	}
	f = append(f, types.Filter{Name: aws.String("state"), Values: []string{"available"}})
	list, err := c.subnets(ctx, &ec2.DescribeSubnetsInput{Filters: f})
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return diag.WithHint(fmt.Errorf("no subnet fits (%s)", where), "check the VPC, the zone and the filters; or set subnet_id")
	}
	if len(list) > 1 {
		if by != nil && !by.MostFree && !by.Random {
			return diag.WithHint(fmt.Errorf("%d subnets fit subnet_filter", len(list)), "narrow the filter, or set most_free or random")
		}
		if list, err = m.offering(ctx, c, list); err != nil {
			return err
		}
	}
	pick := list[0]
	switch {
	case by != nil && by.Random:
		pick = list[rand.IntN(len(list))] //nolint:gosec // spreads load, keeps no secret
	case len(list) > 1:
		// In the default VPC the zones' own subnets come first.
		slices.SortStableFunc(list, func(a, b types.Subnet) int {
			if da, db := aws.ToBool(a.DefaultForAz), aws.ToBool(b.DefaultForAz); by == nil && da != db {
				if da {
					return -1
				}
				return 1
			}
			if d := int(aws.ToInt32(b.AvailableIpAddressCount)) - int(aws.ToInt32(a.AvailableIpAddressCount)); d != 0 {
				return d
			}
			return strings.Compare(aws.ToString(a.SubnetId), aws.ToString(b.SubnetId))
		})
		pick = list[0]
	}
	n.Subnet, n.Zone, n.VPC = aws.ToString(pick.SubnetId), aws.ToString(pick.AvailabilityZone), aws.ToString(pick.VpcId)
	if by == nil {
		for _, other := range list {
			if id := aws.ToString(other.SubnetId); id != n.Subnet {
				n.Others = append(n.Others, place{Subnet: id, Zone: aws.ToString(other.AvailabilityZone)})
			}
		}
	}
	return nil
}

// offering leaves out the subnets in zones that do not have the first instance
// type at all.
func (m *machine) offering(ctx context.Context, c cloud, list []types.Subnet) ([]types.Subnet, error) {
	zones, err := m.zones(ctx, c, m.run.types()[0])
	if err != nil {
		return nil, err
	}
	var out []types.Subnet
	for _, s := range list {
		if len(zones) == 0 || slices.Contains(zones, aws.ToString(s.AvailabilityZone)) {
			out = append(out, s)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no subnet that fits is in a zone with the instance type " + m.run.types()[0] + ", which " + strings.Join(zones, ", ") + " have")
	}
	return out, nil
}

// zones are those of the region that offer the type.
func (m *machine) zones(ctx context.Context, c cloud, typ string) ([]string, error) {
	out, err := c.DescribeInstanceTypeOfferings(ctx, &ec2.DescribeInstanceTypeOfferingsInput{
		LocationType: types.LocationTypeAvailabilityZone,
		Filters:      []types.Filter{{Name: aws.String("instance-type"), Values: []string{typ}}},
	})
	if err != nil {
		return nil, err
	}
	var zones []string
	for _, o := range out.InstanceTypeOfferings {
		zones = append(zones, aws.ToString(o.Location))
	}
	slices.Sort(zones)
	return zones, nil
}
