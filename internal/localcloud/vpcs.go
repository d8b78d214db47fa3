package localcloud

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
)

// defaultVPC is the range of default VPCs; a default subnet takes a /20 of it.
const defaultVPC = "172.31.0.0/16"

// A NetworkACL is the default one of a VPC: it lets everything pass.
type NetworkACL struct {
	ID, VPC      string
	Associations map[string]string // id by subnet
	Tags         Tags
}

// RecordKind implements [Record].
func (NetworkACL) RecordKind() string { return "network-acl" }

// RecordID implements [Record].
func (a NetworkACL) RecordID() string { return a.ID }

// VPCParams are those of CreateVPC.
type VPCParams struct {
	CIDR    string
	Tenancy string // "" is "default"
	Tags    Tags
}

// CreateVPC makes a VPC with a main route table, a network ACL and a default
// security group.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateVpc.html
func (c *Cloud) CreateVPC(ctx context.Context, region string, p VPCParams) (v VPC, err error) {
	cidr, err := parseRange(p.CIDR, "cidrBlock", "InvalidVpc.Range")
	if err != nil {
		return v, err
	}
	tenancy := cmp.Or(p.Tenancy, "default")
	if tenancy != "default" && tenancy != "dedicated" {
		return v, Errorf("InvalidParameterValue", "Value (%s) for parameter instanceTenancy is invalid. It must be default or dedicated", tenancy)
	}
	err = c.Update(ctx, region, func(t *Tx) error {
		v = VPC{ID: NewID("vpc"), CIDR: cidr.String(), Tenancy: tenancy, Created: t.Now, Tags: p.Tags.Clone(), DNSSupport: true}
		return t.makeVPC(v)
	})
	return v, err
}

// CreateDefaultVPC makes a region's default VPC where it was deleted.
func (c *Cloud) CreateDefaultVPC(ctx context.Context, region string) (v VPC, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		d, ok, err := t.DefaultVPC()
		if err != nil {
			return err
		}
		if ok {
			return Errorf("DefaultVpcAlreadyExists", "A Default VPC already exists for this account in this region: %s", d.ID)
		}
		v, err = t.makeDefaultVPC()
		return err
	})
	return v, err
}

// makeDefaultVPC makes a default VPC with a default subnet in each zone, and a
// way out.
func (t *Tx) makeDefaultVPC() (VPC, error) {
	v := VPC{ID: NewID("vpc"), CIDR: defaultVPC, Default: true, DNSHostnames: true, DNSSupport: true, Tenancy: "default", Created: t.Now, Tags: Tags{}}
	if err := t.makeVPC(v); err != nil {
		return v, err
	}
	for _, z := range Zones(t.Region) {
		if _, err := t.makeDefaultSubnet(v, z.Name); err != nil {
			return v, err
		}
	}
	g := InternetGateway{ID: NewID("igw"), VPC: v.ID, Tags: Tags{}}
	if err := Put(t, g); err != nil {
		return v, err
	}
	main, err := t.mainRouteTable(v.ID)
	if err != nil {
		return v, err
	}
	main.Routes = append(main.Routes, Route{CIDR: "0.0.0.0/0", Gateway: g.ID, Origin: "CreateRoute"})
	return v, Put(t, main)
}

func (t *Tx) makeVPC(v VPC) error {
	v.DHCPOptions = cmp.Or(v.DHCPOptions, "dopt-"+strings.TrimPrefix(v.ID, "vpc-"))
	if err := Put(t, v); err != nil {
		return err
	}
	main := RouteTable{
		ID: NewID("rtb"), VPC: v.ID, Tags: Tags{},
		Routes:       []Route{{CIDR: v.CIDR, Gateway: "local", Origin: "CreateRouteTable"}},
		Associations: []RouteAssociation{{ID: NewID("rtbassoc"), Main: true}},
	}
	if err := Put(t, main); err != nil {
		return err
	}
	if err := Put(t, NetworkACL{ID: NewID("acl"), VPC: v.ID, Associations: map[string]string{}, Tags: Tags{}}); err != nil {
		return err
	}
	g := SecurityGroup{ID: NewID("sg"), Name: "default", Description: "default VPC security group", VPC: v.ID, Tags: Tags{}}
	g.Rules = []SecurityRule{
		{ID: NewID("sgr"), Protocol: "-1", From: -1, To: -1, Group: g.ID, Tags: Tags{}},
		everythingOut(),
	}
	return Put(t, g)
}

// DefaultVPC returns the region's default VPC; ok is false where it was
// deleted.
func (t *Tx) DefaultVPC() (v VPC, ok bool, err error) {
	all, err := All[VPC](t)
	if err != nil {
		return v, false, err
	}
	i := slices.IndexFunc(all, func(v VPC) bool { return v.Default })
	if i < 0 {
		return v, false, nil
	}
	return all[i], true, nil
}

// VPC returns the VPC with an id, or InvalidVpcID.NotFound.
func (t *Tx) VPC(id string) (VPC, error) {
	v, ok, err := Get[VPC](t, id)
	if err == nil && !ok {
		err = Errorf("InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", id)
	}
	return v, err
}

// DeleteVPC removes a VPC that holds nothing but what came with it.
func (c *Cloud) DeleteVPC(ctx context.Context, region, id string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		if _, err := t.VPC(id); err != nil {
			return err
		}
		subnets, serr := All[Subnet](t)
		gateways, gerr := All[InternetGateway](t)
		tables, terr := All[RouteTable](t)
		groups, rerr := All[SecurityGroup](t)
		acls, aerr := All[NetworkACL](t)
		if err := firstError(serr, gerr, terr, rerr, aerr); err != nil {
			return err
		}
		if slices.ContainsFunc(subnets, func(s Subnet) bool { return s.VPC == id }) ||
			slices.ContainsFunc(gateways, func(g InternetGateway) bool { return g.VPC == id }) ||
			slices.ContainsFunc(tables, func(r RouteTable) bool { return r.VPC == id && !r.Main() }) ||
			slices.ContainsFunc(groups, func(g SecurityGroup) bool { return g.VPC == id && g.Name != "default" }) {
			return Errorf("DependencyViolation", "The vpc '%s' has dependencies and cannot be deleted.", id)
		}
		for _, r := range tables {
			if r.VPC == id {
				if err := Delete[RouteTable](t, r.ID); err != nil {
					return err
				}
			}
		}
		for _, g := range groups {
			if g.VPC == id {
				if err := Delete[SecurityGroup](t, g.ID); err != nil {
					return err
				}
			}
		}
		for _, a := range acls {
			if a.VPC == id {
				if err := Delete[NetworkACL](t, a.ID); err != nil {
					return err
				}
			}
		}
		return Delete[VPC](t, id)
	})
}

// ModifyVPC changes attributes of a VPC; nil leaves one as it is.
func (c *Cloud) ModifyVPC(ctx context.Context, region, id string, dnsHostnames, dnsSupport *bool) error {
	return c.Update(ctx, region, func(t *Tx) error {
		v, err := t.VPC(id)
		if err != nil {
			return err
		}
		if dnsSupport != nil {
			v.DNSSupport = *dnsSupport
		}
		if dnsHostnames != nil {
			if *dnsHostnames && !v.DNSSupport {
				return Errorf("InvalidParameterCombination", "DNS hostnames need DNS support: enable enableDnsSupport first")
			}
			v.DNSHostnames = *dnsHostnames
		}
		return Put(t, v)
	})
}

// parseRange reads an IPv4 range of /16 to /28, as VPCs and subnets have. Bits
// beyond the prefix are cleared, as EC2 does.
func parseRange(s, parameter, code string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || !p.Addr().Is4() {
		return p, Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. This is not a valid CIDR block.", s, parameter)
	}
	if p.Bits() < 16 || p.Bits() > 28 {
		return p, Errorf(code, "The CIDR '%s' is invalid: its prefix must be between /16 and /28.", s)
	}
	return p.Masked(), nil
}

func firstError(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
