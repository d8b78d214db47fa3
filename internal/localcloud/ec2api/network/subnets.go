package network

import (
	"cmp"
	"context"
	"strconv"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) subnets() awswire.Operations {
	return awswire.Operations{
		"DescribeSubnets":       awswire.Op(a.describeSubnets),
		"CreateSubnet":          awswire.Op(a.createSubnet),
		"CreateDefaultSubnet":   awswire.Op(a.createDefaultSubnet),
		"DeleteSubnet":          awswire.Op(a.deleteSubnet),
		"ModifySubnetAttribute": awswire.Op(a.modifySubnet),
	}
}

// A freeSubnet is a subnet with the number of addresses left in it.
type freeSubnet struct {
	localcloud.Subnet
	free int
}

func subnetARN(region, id string) string {
	return "arn:aws:ec2:" + region + ":" + localcloud.AccountID + ":subnet/" + id
}

type subnet struct {
	ID        string        `xml:"subnetId"`
	ARN       string        `xml:"subnetArn"`
	Owner     string        `xml:"ownerId"`
	State     string        `xml:"state"`
	VPC       string        `xml:"vpcId"`
	CIDR      string        `xml:"cidrBlock"`
	Free      int           `xml:"availableIpAddressCount"`
	Zone      string        `xml:"availabilityZone"`
	ZoneID    string        `xml:"availabilityZoneId"`
	Default   bool          `xml:"defaultForAz"`
	MapPublic bool          `xml:"mapPublicIpOnLaunch"`
	MapOwned  bool          `xml:"mapCustomerOwnedIpOnLaunch"`
	IPv6      bool          `xml:"assignIpv6AddressOnCreation"`
	OnlyIPv6  bool          `xml:"ipv6Native"`
	DNS64     bool          `xml:"enableDns64"`
	Names     subnetNames   `xml:"privateDnsNameOptionsOnLaunch"`
	Tags      []ec2wire.Tag `xml:"tagSet>item"`
}

type subnetNames struct {
	Type string `xml:"hostnameType"`
	A    bool   `xml:"enableResourceNameDnsARecord"`
	AAAA bool   `xml:"enableResourceNameDnsAAAARecord"`
}

func toSubnet(region string) func(freeSubnet) subnet {
	return func(s freeSubnet) subnet {
		return subnet{
			ID: s.ID, ARN: subnetARN(region, s.ID), Owner: localcloud.AccountID, State: "available", VPC: s.VPC, CIDR: s.CIDR,
			Free: s.free, Zone: s.Zone, ZoneID: localcloud.ZoneID(s.Zone), Default: s.Default, MapPublic: s.MapPublic,
			Names: subnetNames{Type: "ip-name"}, Tags: ec2wire.Tags(s.Tags),
		}
	}
}

var subnetFilters = ec2wire.FilterBy[freeSubnet]{
	"subnet-id":                  func(s freeSubnet) []string { return ec2wire.One(s.ID) },
	"vpc-id":                     func(s freeSubnet) []string { return ec2wire.One(s.VPC) },
	"cidr":                       func(s freeSubnet) []string { return ec2wire.One(s.CIDR) },
	"cidr-block":                 func(s freeSubnet) []string { return ec2wire.One(s.CIDR) },
	"cidrBlock":                  func(s freeSubnet) []string { return ec2wire.One(s.CIDR) },
	"availability-zone":          func(s freeSubnet) []string { return ec2wire.One(s.Zone) },
	"availabilityZone":           func(s freeSubnet) []string { return ec2wire.One(s.Zone) },
	"availability-zone-id":       func(s freeSubnet) []string { return ec2wire.One(localcloud.ZoneID(s.Zone)) },
	"availabilityZoneId":         func(s freeSubnet) []string { return ec2wire.One(localcloud.ZoneID(s.Zone)) },
	"available-ip-address-count": func(s freeSubnet) []string { return ec2wire.One(strconv.Itoa(s.free)) },
	"default-for-az":             func(s freeSubnet) []string { return ec2wire.Bool(s.Default) },
	"defaultForAz":               func(s freeSubnet) []string { return ec2wire.Bool(s.Default) },
	"map-public-ip-on-launch":    func(s freeSubnet) []string { return ec2wire.Bool(s.MapPublic) },
	"ipv6-native":                func(freeSubnet) []string { return ec2wire.Bool(false) },
	"owner-id":                   func(freeSubnet) []string { return []string{localcloud.AccountID} },
	"state":                      func(freeSubnet) []string { return []string{"available"} },
	"ipv6-cidr-block-association.ipv6-cidr-block": func(freeSubnet) []string { return nil },
	"outpost-arn": func(freeSubnet) []string { return nil },
}

type describeSubnetsIn struct {
	listIn
	IDs []string `q:"SubnetId"`
}

type describeSubnetsOut struct {
	Subnets []subnet `xml:"subnetSet>item"`
	Next    string   `xml:"nextToken,omitempty"`
}

func (a *api) describeSubnets(ctx context.Context, c *awswire.Call, in *describeSubnetsIn) (*describeSubnetsOut, error) {
	var all []freeSubnet
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) error {
		free, err := t.FreeAddresses()
		if err != nil {
			return err
		}
		subnets, err := localcloud.All[localcloud.Subnet](t)
		all = ec2wire.Mapped(subnets, func(s localcloud.Subnet) freeSubnet { return freeSubnet{s, free[s.ID]} })
		return err
	})
	if err != nil {
		return nil, err
	}
	all, err = pick(all, in.IDs, func(s freeSubnet) string { return s.ID },
		notFound("subnet", "InvalidSubnetID.NotFound", "InvalidSubnetId.Malformed", "subnet ID"))
	if err != nil {
		return nil, err
	}
	if all, err = subnetFilters.Match(in.Filters, all, func(s freeSubnet) localcloud.Tags { return s.Tags }); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	if err != nil {
		return nil, err
	}
	return &describeSubnetsOut{Subnets: ec2wire.Mapped(page, toSubnet(c.Region)), Next: next}, in.Check()
}

type createSubnetIn struct {
	ec2wire.DryRun
	VPC    string            `q:"VpcId,required"`
	CIDR   string            `q:"CidrBlock,required"`
	Zone   string            `q:"AvailabilityZone"`
	ZoneID string            `q:"AvailabilityZoneId"`
	Tags   []ec2wire.TagSpec `q:"TagSpecification"`
}

type subnetOut struct {
	Subnet subnet `xml:"subnet"`
}

// subnetReply is the reply with a subnet that was made, as it is then.
func (a *api) subnetReply(ctx context.Context, c *awswire.Call, s localcloud.Subnet) (*subnetOut, error) {
	out := &subnetOut{}
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) error {
		free, err := t.FreeAddresses()
		out.Subnet = toSubnet(c.Region)(freeSubnet{s, free[s.ID]})
		return err
	})
	return out, err
}

func (a *api) createSubnet(ctx context.Context, c *awswire.Call, in *createSubnetIn) (*subnetOut, error) {
	tags, err := ec2wire.SpecTags(in.Tags, "subnet")
	if err != nil {
		return nil, err
	}
	if in.Zone != "" && in.ZoneID != "" {
		return nil, awswire.Errorf("InvalidParameterCombination", "Only one of availabilityZone and availabilityZoneId can be given")
	}
	s, err := a.cloud.CreateSubnet(dry(ctx, in.DryRun), c.Region, localcloud.SubnetParams{
		VPC: in.VPC, CIDR: in.CIDR, Zone: cmp.Or(in.Zone, in.ZoneID), Tags: tags,
	})
	if err != nil {
		return nil, err
	}
	return a.subnetReply(ctx, c, s)
}

type createDefaultSubnetIn struct {
	ec2wire.DryRun
	Zone   string `q:"AvailabilityZone"`
	ZoneID string `q:"AvailabilityZoneId"`
}

func (a *api) createDefaultSubnet(ctx context.Context, c *awswire.Call, in *createDefaultSubnetIn) (*subnetOut, error) {
	if (in.Zone == "") == (in.ZoneID == "") {
		return nil, awswire.Errorf("MissingParameter", "The request must contain exactly one of the parameters availabilityZone and availabilityZoneId")
	}
	s, err := a.cloud.CreateDefaultSubnet(dry(ctx, in.DryRun), c.Region, cmp.Or(in.Zone, in.ZoneID))
	if err != nil {
		return nil, err
	}
	return a.subnetReply(ctx, c, s)
}

type subnetIn struct {
	ec2wire.DryRun
	ID string `q:"SubnetId,required"`
}

func (a *api) deleteSubnet(ctx context.Context, c *awswire.Call, in *subnetIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.DeleteSubnet(dry(ctx, in.DryRun), c.Region, in.ID)
}

type modifySubnetIn struct {
	ID        string     `q:"SubnetId,required"`
	MapPublic *boolValue `q:"MapPublicIpOnLaunch,required"`
}

func (a *api) modifySubnet(ctx context.Context, c *awswire.Call, in *modifySubnetIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.ModifySubnet(ctx, c.Region, in.ID, in.MapPublic.Value)
}
