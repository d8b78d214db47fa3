package network

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) gateways() awswire.Operations {
	return awswire.Operations{
		"DescribeInternetGateways": awswire.Op(a.describeGateways),
		"CreateInternetGateway":    awswire.Op(a.createGateway),
		"AttachInternetGateway":    awswire.Op(a.attachGateway),
		"DetachInternetGateway":    awswire.Op(a.detachGateway),
		"DeleteInternetGateway":    awswire.Op(a.deleteGateway),
		"DescribeNetworkAcls":      awswire.Op(a.describeACLs),
	}
}

type gateway struct {
	ID          string              `xml:"internetGatewayId"`
	Owner       string              `xml:"ownerId"`
	Attachments []gatewayAttachment `xml:"attachmentSet>item"`
	Tags        []ec2wire.Tag       `xml:"tagSet>item"`
}

type gatewayAttachment struct {
	State string `xml:"state"`
	VPC   string `xml:"vpcId"`
}

func toGateway(g localcloud.InternetGateway) gateway {
	out := gateway{ID: g.ID, Owner: localcloud.AccountID, Tags: ec2wire.Tags(g.Tags)}
	if g.VPC != "" {
		out.Attachments = []gatewayAttachment{{State: "available", VPC: g.VPC}}
	}
	return out
}

var gatewayFilters = ec2wire.FilterBy[localcloud.InternetGateway]{
	"internet-gateway-id": func(g localcloud.InternetGateway) []string { return ec2wire.One(g.ID) },
	"attachment.vpc-id":   func(g localcloud.InternetGateway) []string { return ec2wire.One(g.VPC) },
	"attachment.state": func(g localcloud.InternetGateway) []string {
		if g.VPC == "" {
			return nil
		}
		return []string{"available"}
	},
	"owner-id": func(localcloud.InternetGateway) []string { return []string{localcloud.AccountID} },
}

type describeGatewaysIn struct {
	listIn
	IDs []string `q:"InternetGatewayId"`
}

type describeGatewaysOut struct {
	Gateways []gateway `xml:"internetGatewaySet>item"`
	Next     string    `xml:"nextToken,omitempty"`
}

func (a *api) describeGateways(ctx context.Context, c *awswire.Call, in *describeGatewaysIn) (*describeGatewaysOut, error) {
	all, err := records[localcloud.InternetGateway](ctx, a, c.Region)
	if err != nil {
		return nil, err
	}
	all, err = pick(all, in.IDs, func(g localcloud.InternetGateway) string { return g.ID },
		notFound("igw", "InvalidInternetGatewayID.NotFound", "InvalidInternetGatewayId.Malformed", "internetGateway ID"))
	if err != nil {
		return nil, err
	}
	if all, err = gatewayFilters.Match(in.Filters, all, func(g localcloud.InternetGateway) localcloud.Tags { return g.Tags }); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	if err != nil {
		return nil, err
	}
	return &describeGatewaysOut{Gateways: ec2wire.Mapped(page, toGateway), Next: next}, in.Check()
}

type createGatewayIn struct {
	ec2wire.DryRun
	Tags []ec2wire.TagSpec `q:"TagSpecification"`
}

type gatewayOut struct {
	Gateway gateway `xml:"internetGateway"`
}

func (a *api) createGateway(ctx context.Context, c *awswire.Call, in *createGatewayIn) (*gatewayOut, error) {
	tags, err := ec2wire.SpecTags(in.Tags, "internet-gateway")
	if err != nil {
		return nil, err
	}
	g, err := a.cloud.CreateInternetGateway(dry(ctx, in.DryRun), c.Region, tags)
	if err != nil {
		return nil, err
	}
	return &gatewayOut{toGateway(g)}, nil
}

type gatewayIn struct {
	ec2wire.DryRun
	ID string `q:"InternetGatewayId,required"`
}

type attachGatewayIn struct {
	gatewayIn
	VPC string `q:"VpcId,required"`
}

func (a *api) attachGateway(ctx context.Context, c *awswire.Call, in *attachGatewayIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.AttachInternetGateway(dry(ctx, in.DryRun), c.Region, in.ID, in.VPC)
}

func (a *api) detachGateway(ctx context.Context, c *awswire.Call, in *attachGatewayIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.DetachInternetGateway(dry(ctx, in.DryRun), c.Region, in.ID, in.VPC)
}

func (a *api) deleteGateway(ctx context.Context, c *awswire.Call, in *gatewayIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.DeleteInternetGateway(dry(ctx, in.DryRun), c.Region, in.ID)
}

type acl struct {
	ID           string           `xml:"networkAclId"`
	VPC          string           `xml:"vpcId"`
	Owner        string           `xml:"ownerId"`
	Default      bool             `xml:"default"`
	Entries      []aclEntry       `xml:"entrySet>item"`
	Associations []aclAssociation `xml:"associationSet>item"`
	Tags         []ec2wire.Tag    `xml:"tagSet>item"`
}

type aclEntry struct {
	Number   int    `xml:"ruleNumber"`
	Protocol string `xml:"protocol"`
	Action   string `xml:"ruleAction"`
	Egress   bool   `xml:"egress"`
	CIDR     string `xml:"cidrBlock"`
}

type aclAssociation struct {
	ID     string `xml:"networkAclAssociationId"`
	ACL    string `xml:"networkAclId"`
	Subnet string `xml:"subnetId"`
}

// aclEntries are those of every ACL: all passes, and the rule that ends each
// list.
var aclEntries = []aclEntry{
	{100, "-1", "allow", true, "0.0.0.0/0"},
	{32767, "-1", "deny", true, "0.0.0.0/0"},
	{100, "-1", "allow", false, "0.0.0.0/0"},
	{32767, "-1", "deny", false, "0.0.0.0/0"},
}

func toACL(n localcloud.NetworkACL) acl {
	out := acl{ID: n.ID, VPC: n.VPC, Owner: localcloud.AccountID, Default: true, Entries: aclEntries, Tags: ec2wire.Tags(n.Tags)}
	for _, subnet := range sortedKeys(n.Associations) {
		out.Associations = append(out.Associations, aclAssociation{ID: n.Associations[subnet], ACL: n.ID, Subnet: subnet})
	}
	return out
}

var aclFilters = ec2wire.FilterBy[localcloud.NetworkACL]{
	"network-acl-id": func(n localcloud.NetworkACL) []string { return ec2wire.One(n.ID) },
	"vpc-id":         func(n localcloud.NetworkACL) []string { return ec2wire.One(n.VPC) },
	"default":        func(localcloud.NetworkACL) []string { return ec2wire.Bool(true) },
	"owner-id":       func(localcloud.NetworkACL) []string { return []string{localcloud.AccountID} },
	"association.association-id": func(n localcloud.NetworkACL) (out []string) {
		for _, id := range n.Associations {
			out = append(out, id)
		}
		return out
	},
	"association.network-acl-id": func(n localcloud.NetworkACL) []string { return ec2wire.One(n.ID) },
	"association.subnet-id":      func(n localcloud.NetworkACL) []string { return sortedKeys(n.Associations) },
}

type describeACLsIn struct {
	listIn
	IDs []string `q:"NetworkAclId"`
}

type describeACLsOut struct {
	ACLs []acl  `xml:"networkAclSet>item"`
	Next string `xml:"nextToken,omitempty"`
}

func (a *api) describeACLs(ctx context.Context, c *awswire.Call, in *describeACLsIn) (*describeACLsOut, error) {
	all, err := records[localcloud.NetworkACL](ctx, a, c.Region)
	if err != nil {
		return nil, err
	}
	all, err = pick(all, in.IDs, func(n localcloud.NetworkACL) string { return n.ID },
		notFound("acl", "InvalidNetworkAclID.NotFound", "InvalidNetworkAclId.Malformed", "networkAcl ID"))
	if err != nil {
		return nil, err
	}
	if all, err = aclFilters.Match(in.Filters, all, func(n localcloud.NetworkACL) localcloud.Tags { return n.Tags }); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	if err != nil {
		return nil, err
	}
	return &describeACLsOut{ACLs: ec2wire.Mapped(page, toACL), Next: next}, in.Check()
}
