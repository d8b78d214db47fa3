package network

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) vpcs() awswire.Operations {
	return awswire.Operations{
		"DescribeVpcs":         awswire.Op(a.describeVPCs),
		"CreateVpc":            awswire.Op(a.createVPC),
		"CreateDefaultVpc":     awswire.Op(a.createDefaultVPC),
		"DeleteVpc":            awswire.Op(a.deleteVPC),
		"DescribeVpcAttribute": awswire.Op(a.describeVPCAttribute),
		"ModifyVpcAttribute":   awswire.Op(a.modifyVPCAttribute),
	}
}

type vpc struct {
	ID           string        `xml:"vpcId"`
	Owner        string        `xml:"ownerId"`
	State        string        `xml:"state"`
	CIDR         string        `xml:"cidrBlock"`
	Associations []vpcCIDR     `xml:"cidrBlockAssociationSet>item"`
	DHCP         string        `xml:"dhcpOptionsId"`
	Tenancy      string        `xml:"instanceTenancy"`
	Default      bool          `xml:"isDefault"`
	Tags         []ec2wire.Tag `xml:"tagSet>item"`
}

type vpcCIDR struct {
	ID    string `xml:"associationId"`
	CIDR  string `xml:"cidrBlock"`
	State string `xml:"cidrBlockState>state"`
}

func vpcAssociation(v localcloud.VPC) string {
	return "vpc-cidr-assoc-" + v.ID[len("vpc-"):]
}

func toVPC(v localcloud.VPC) vpc {
	return vpc{
		ID: v.ID, Owner: localcloud.AccountID, State: "available", CIDR: v.CIDR, DHCP: v.DHCPOptions,
		Associations: []vpcCIDR{{ID: vpcAssociation(v), CIDR: v.CIDR, State: "associated"}},
		Tenancy:      v.Tenancy, Default: v.Default, Tags: ec2wire.Tags(v.Tags),
	}
}

var vpcFilters = ec2wire.FilterBy[localcloud.VPC]{
	"vpc-id":                            func(v localcloud.VPC) []string { return ec2wire.One(v.ID) },
	"cidr":                              func(v localcloud.VPC) []string { return ec2wire.One(v.CIDR) },
	"cidr-block-association.cidr-block": func(v localcloud.VPC) []string { return ec2wire.One(v.CIDR) },
	"cidr-block-association.association-id": func(v localcloud.VPC) []string {
		if v.ID == "" {
			return nil
		}
		return ec2wire.One(vpcAssociation(v))
	},
	"cidr-block-association.state": func(localcloud.VPC) []string { return []string{"associated"} },
	"dhcp-options-id":              func(v localcloud.VPC) []string { return ec2wire.One(v.DHCPOptions) },
	"is-default":                   func(v localcloud.VPC) []string { return ec2wire.Bool(v.Default) },
	"isDefault":                    func(v localcloud.VPC) []string { return ec2wire.Bool(v.Default) },
	"owner-id":                     func(localcloud.VPC) []string { return []string{localcloud.AccountID} },
	"state":                        func(localcloud.VPC) []string { return []string{"available"} },
}

type describeVPCsIn struct {
	listIn
	IDs []string `q:"VpcId"`
}

type describeVPCsOut struct {
	VPCs []vpc  `xml:"vpcSet>item"`
	Next string `xml:"nextToken,omitempty"`
}

func (a *api) describeVPCs(ctx context.Context, c *awswire.Call, in *describeVPCsIn) (*describeVPCsOut, error) {
	all, err := records[localcloud.VPC](ctx, a, c.Region)
	if err != nil {
		return nil, err
	}
	all, err = pick(all, in.IDs, func(v localcloud.VPC) string { return v.ID }, notFound("vpc", "InvalidVpcID.NotFound", "InvalidVpcId.Malformed", "vpc ID"))
	if err != nil {
		return nil, err
	}
	if all, err = vpcFilters.Match(in.Filters, all, func(v localcloud.VPC) localcloud.Tags { return v.Tags }); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	if err != nil {
		return nil, err
	}
	return &describeVPCsOut{VPCs: ec2wire.Mapped(page, toVPC), Next: next}, in.Check()
}

type createVPCIn struct {
	ec2wire.DryRun
	CIDR    string            `q:"CidrBlock,required"`
	Tenancy string            `q:"InstanceTenancy"`
	IPv6    bool              `q:"AmazonProvidedIpv6CidrBlock"`
	Tags    []ec2wire.TagSpec `q:"TagSpecification"`
}

type vpcOut struct {
	VPC vpc `xml:"vpc"`
}

func (a *api) createVPC(ctx context.Context, c *awswire.Call, in *createVPCIn) (*vpcOut, error) {
	tags, err := ec2wire.SpecTags(in.Tags, "vpc")
	if err != nil {
		return nil, err
	}
	if in.IPv6 {
		return nil, awswire.Errorf("UnsupportedOperation", "The local cloud has no IPv6 ranges: leave AmazonProvidedIpv6CidrBlock out")
	}
	v, err := a.cloud.CreateVPC(dry(ctx, in.DryRun), c.Region, localcloud.VPCParams{CIDR: in.CIDR, Tenancy: in.Tenancy, Tags: tags})
	if err != nil {
		return nil, err
	}
	return &vpcOut{toVPC(v)}, nil
}

type dryIn struct{ ec2wire.DryRun }

func (a *api) createDefaultVPC(ctx context.Context, c *awswire.Call, in *dryIn) (*vpcOut, error) {
	v, err := a.cloud.CreateDefaultVPC(dry(ctx, in.DryRun), c.Region)
	if err != nil {
		return nil, err
	}
	return &vpcOut{toVPC(v)}, nil
}

type vpcIn struct {
	ec2wire.DryRun
	ID string `q:"VpcId,required"`
}

func (a *api) deleteVPC(ctx context.Context, c *awswire.Call, in *vpcIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.DeleteVPC(dry(ctx, in.DryRun), c.Region, in.ID)
}

type describeVPCAttributeIn struct {
	vpcIn
	Attribute string `q:"Attribute,required"`
}

type describeVPCAttributeOut struct {
	ID        string     `xml:"vpcId"`
	Hostnames *boolValue `xml:"enableDnsHostnames"`
	Support   *boolValue `xml:"enableDnsSupport"`
	Usage     *boolValue `xml:"enableNetworkAddressUsageMetrics"`
}

func (a *api) describeVPCAttribute(ctx context.Context, c *awswire.Call, in *describeVPCAttributeIn) (*describeVPCAttributeOut, error) {
	var v localcloud.VPC
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) (err error) {
		v, err = t.VPC(in.ID)
		return err
	})
	if err != nil {
		return nil, err
	}
	out := &describeVPCAttributeOut{ID: v.ID}
	switch in.Attribute {
	case "enableDnsHostnames":
		out.Hostnames = &boolValue{v.DNSHostnames}
	case "enableDnsSupport":
		out.Support = &boolValue{v.DNSSupport}
	case "enableNetworkAddressUsageMetrics":
		out.Usage = &boolValue{}
	default:
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Unknown attribute.", in.Attribute)
	}
	return out, in.Check()
}

type modifyVPCAttributeIn struct {
	ID        string     `q:"VpcId,required"`
	Hostnames *boolValue `q:"EnableDnsHostnames"`
	Support   *boolValue `q:"EnableDnsSupport"`
}

func (a *api) modifyVPCAttribute(ctx context.Context, c *awswire.Call, in *modifyVPCAttributeIn) (*ec2wire.Return, error) {
	var hostnames, support *bool
	switch {
	case (in.Hostnames == nil) == (in.Support == nil):
		return nil, awswire.Errorf("InvalidParameterCombination", "The request must contain exactly one of enableDnsHostnames and enableDnsSupport")
	case in.Hostnames != nil:
		hostnames = &in.Hostnames.Value
	default:
		support = &in.Support.Value
	}
	return ec2wire.OK(), a.cloud.ModifyVPC(ctx, c.Region, in.ID, hostnames, support)
}
