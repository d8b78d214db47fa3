package localcloud

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
)

// reservedAddresses of a subnet are the provider's: the first four and the
// last.
const reservedAddresses = 5

// SubnetParams are those of CreateSubnet.
type SubnetParams struct {
	VPC, CIDR string
	Zone      string // name or id; "": the first
	Tags      Tags
}

// CreateSubnet makes a subnet.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSubnet.html
func (c *Cloud) CreateSubnet(ctx context.Context, region string, p SubnetParams) (s Subnet, err error) {
	cidr, err := parseRange(p.CIDR, "cidrBlock", "InvalidSubnet.Range")
	if err != nil {
		return s, err
	}
	zone, err := zoneOr(region, p.Zone)
	if err != nil {
		return s, err
	}
	err = c.Update(ctx, region, func(t *Tx) error {
		v, err := t.VPC(p.VPC)
		if err != nil {
			return err
		}
		s = Subnet{ID: NewID("subnet"), VPC: v.ID, CIDR: cidr.String(), Zone: zone.Name, Tags: p.Tags.Clone()}
		return t.makeSubnet(v, s)
	})
	return s, err
}

// CreateDefaultSubnet makes the default subnet of a zone where it was deleted.
func (c *Cloud) CreateDefaultSubnet(ctx context.Context, region, zone string) (s Subnet, err error) {
	z, ok := ZoneOf(region, zone)
	if !ok {
		return s, badZone(region, zone)
	}
	err = c.Update(ctx, region, func(t *Tx) error {
		v, ok, err := t.DefaultVPC()
		if err != nil {
			return err
		}
		if !ok {
			return Errorf("DefaultVpcDoesNotExist", "There is no default VPC in %s. Create one with CreateDefaultVpc", region)
		}
		subnets, err := All[Subnet](t)
		if err != nil {
			return err
		}
		for _, o := range subnets {
			if o.VPC == v.ID && o.Default && o.Zone == z.Name {
				return Errorf("DefaultSubnetAlreadyExistsInAvailabilityZone", "'%s' is the default subnet in %s.", o.ID, z.Name)
			}
		}
		s, err = t.makeDefaultSubnet(v, z.Name)
		return err
	})
	return s, err
}

// makeDefaultSubnet takes the first free /20 of a default VPC.
func (t *Tx) makeDefaultSubnet(v VPC, zone string) (Subnet, error) {
	all, err := All[Subnet](t)
	if err != nil {
		return Subnet{}, err
	}
	vpc, err := netip.ParsePrefix(v.CIDR)
	if err != nil {
		return Subnet{}, fmt.Errorf("local cloud: %s: %w", v.ID, err)
	}
	for i := range uint32(16) {
		free := netip.PrefixFrom(addressAt(vpc.Addr(), i<<12), 20)
		if slices.ContainsFunc(all, func(s Subnet) bool { return s.VPC == v.ID && overlaps(s.CIDR, free) }) {
			continue
		}
		s := Subnet{ID: NewID("subnet"), VPC: v.ID, CIDR: free.String(), Zone: zone, Default: true, MapPublic: true, Tags: Tags{}}
		return s, t.makeSubnet(v, s)
	}
	return Subnet{}, Errorf("InvalidSubnet.Conflict", "There is no free /20 left in %s", v.ID)
}

func (t *Tx) makeSubnet(v VPC, s Subnet) error {
	vpc, verr := netip.ParsePrefix(v.CIDR)
	cidr, serr := netip.ParsePrefix(s.CIDR)
	if err := firstError(verr, serr); err != nil {
		return fmt.Errorf("local cloud: %s: %w", v.ID, err)
	}
	if cidr.Bits() < vpc.Bits() || !vpc.Contains(cidr.Addr()) {
		return Errorf("InvalidSubnet.Range", "The CIDR '%s' is invalid: it is not within %s of %s.", s.CIDR, v.CIDR, v.ID)
	}
	all, err := All[Subnet](t)
	if err != nil {
		return err
	}
	for _, o := range all {
		if o.VPC == v.ID && overlaps(o.CIDR, cidr) {
			return Errorf("InvalidSubnet.Conflict", "The CIDR '%s' conflicts with another subnet: %s has %s", s.CIDR, o.ID, o.CIDR)
		}
	}
	acls, err := All[NetworkACL](t)
	if err != nil {
		return err
	}
	for _, a := range acls {
		if a.VPC == v.ID {
			if a.Associations == nil {
				a.Associations = map[string]string{}
			}
			a.Associations[s.ID] = NewID("aclassoc")
			if err := Put(t, a); err != nil {
				return err
			}
		}
	}
	return Put(t, s)
}

// Subnet returns the subnet with an id, or InvalidSubnetID.NotFound.
func (t *Tx) Subnet(id string) (Subnet, error) {
	s, ok, err := Get[Subnet](t, id)
	if err == nil && !ok {
		err = Errorf("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
	}
	return s, err
}

// DefaultSubnet returns the default subnet of a zone, of the first zone that
// has one for "". ok is false when there is none.
func (t *Tx) DefaultSubnet(zone string) (s Subnet, ok bool, err error) {
	all, err := All[Subnet](t)
	if err != nil {
		return s, false, err
	}
	for _, o := range all {
		if o.Default && (zone == "" || o.Zone == zone) && (!ok || o.Zone < s.Zone) {
			s, ok = o, true
		}
	}
	return s, ok, nil
}

// DeleteSubnet removes a subnet without instances.
func (c *Cloud) DeleteSubnet(ctx context.Context, region, id string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		s, err := t.Subnet(id)
		if err != nil {
			return err
		}
		used, err := t.privateAddresses(id)
		if err != nil {
			return err
		}
		if len(used) > 0 {
			return Errorf("DependencyViolation", "The subnet '%s' has dependencies and cannot be deleted.", id)
		}
		tables, terr := All[RouteTable](t)
		acls, aerr := All[NetworkACL](t)
		if err := firstError(terr, aerr); err != nil {
			return err
		}
		for _, r := range tables {
			kept := slices.DeleteFunc(slices.Clone(r.Associations), func(a RouteAssociation) bool { return a.Subnet == id })
			if len(kept) != len(r.Associations) {
				r.Associations = kept
				if err := Put(t, r); err != nil {
					return err
				}
			}
		}
		for _, a := range acls {
			if a.VPC == s.VPC {
				delete(a.Associations, id)
				if err := Put(t, a); err != nil {
					return err
				}
			}
		}
		return Delete[Subnet](t, id)
	})
}

// ModifySubnet says whether instances of a subnet get a public address.
func (c *Cloud) ModifySubnet(ctx context.Context, region, id string, mapPublic bool) error {
	return c.Update(ctx, region, func(t *Tx) error {
		s, err := t.Subnet(id)
		if err != nil {
			return err
		}
		s.MapPublic = mapPublic
		return Put(t, s)
	})
}

// FreeAddresses returns how many more instances each of the region's subnets
// takes, by id.
func (t *Tx) FreeAddresses() (map[string]int, error) {
	subnets, err := All[Subnet](t)
	if err != nil {
		return nil, err
	}
	instances, err := All[Instance](t)
	if err != nil {
		return nil, err
	}
	free := make(map[string]int, len(subnets))
	for _, s := range subnets {
		p, err := netip.ParsePrefix(s.CIDR)
		if err != nil {
			return nil, fmt.Errorf("local cloud: %s: %w", s.ID, err)
		}
		free[s.ID] = 1<<(32-p.Bits()) - reservedAddresses
	}
	for _, i := range instances {
		if holdsAddress(i) {
			free[i.Subnet]--
		}
	}
	return free, nil
}

func zoneOr(region, zone string) (Zone, error) {
	if zone == "" {
		return Zones(region)[0], nil
	}
	z, ok := ZoneOf(region, zone)
	if !ok {
		return z, badZone(region, zone)
	}
	return z, nil
}

func badZone(region, zone string) error {
	names := ""
	for i, z := range Zones(region) {
		if i > 0 {
			names += ", "
		}
		names += z.Name
	}
	return Errorf("InvalidParameterValue", "Value (%s) for parameter availabilityZone is invalid. Subnets can currently only be created in the following availability zones: %s.", zone, names)
}

func overlaps(cidr string, p netip.Prefix) bool {
	o, err := netip.ParsePrefix(cidr)
	return err == nil && o.Overlaps(p)
}

// addressAt returns the n-th address after a.
func addressAt(a netip.Addr, n uint32) netip.Addr {
	b := a.As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+n)
	return netip.AddrFrom4(b)
}
