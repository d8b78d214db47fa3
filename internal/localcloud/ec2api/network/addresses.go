package network

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) addresses() awswire.Operations {
	return awswire.Operations{
		"DescribeAddresses":   awswire.Op(a.describeAddresses),
		"AllocateAddress":     awswire.Op(a.allocateAddress),
		"ReleaseAddress":      awswire.Op(a.releaseAddress),
		"AssociateAddress":    awswire.Op(a.associateAddress),
		"DisassociateAddress": awswire.Op(a.disassociateAddress),
	}
}

type address struct {
	ID          string        `xml:"allocationId"`
	IP          string        `xml:"publicIp"`
	Domain      string        `xml:"domain"`
	Pool        string        `xml:"publicIpv4Pool"`
	BorderGroup string        `xml:"networkBorderGroup"`
	Association string        `xml:"associationId,omitempty"`
	Instance    string        `xml:"instanceId,omitempty"`
	Interface   string        `xml:"networkInterfaceId,omitempty"`
	Owner       string        `xml:"networkInterfaceOwnerId,omitempty"`
	PrivateIP   string        `xml:"privateIpAddress,omitempty"`
	Tags        []ec2wire.Tag `xml:"tagSet>item"`
}

// A placedAddress is an address with the instance it is associated with.
type placedAddress struct {
	localcloud.Address
	instance localcloud.Instance
}

var addressFilters = ec2wire.FilterBy[placedAddress]{
	"allocation-id":              func(p placedAddress) []string { return ec2wire.One(p.ID) },
	"association-id":             func(p placedAddress) []string { return ec2wire.One(p.Association) },
	"domain":                     func(placedAddress) []string { return []string{"vpc"} },
	"instance-id":                func(p placedAddress) []string { return ec2wire.One(p.Instance) },
	"network-interface-id":       func(p placedAddress) []string { return ec2wire.One(p.instance.Interface.ID) },
	"network-interface-owner-id": func(p placedAddress) []string { return owner(p.instance.Interface.ID) },
	"private-ip-address":         func(p placedAddress) []string { return ec2wire.One(p.instance.PrivateIP) },
	"public-ip":                  func(p placedAddress) []string { return ec2wire.One(p.IP) },
}

// owner is the owner of a thing with an id, nobody when there is none.
func owner(id string) []string {
	if id == "" {
		return nil
	}
	return []string{localcloud.AccountID}
}

type describeAddressesIn struct {
	ec2wire.DryRun
	IDs     []string        `q:"AllocationId"`
	IPs     []string        `q:"PublicIp"`
	Filters ec2wire.Filters `q:"Filter"`
}

type describeAddressesOut struct {
	Addresses []address `xml:"addressesSet>item"`
}

func (a *api) describeAddresses(ctx context.Context, c *awswire.Call, in *describeAddressesIn) (*describeAddressesOut, error) {
	var all []placedAddress
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) error {
		addresses, err := localcloud.All[localcloud.Address](t)
		for _, o := range addresses {
			p := placedAddress{Address: o}
			if o.Instance != "" {
				if p.instance, _, err = localcloud.Get[localcloud.Instance](t, o.Instance); err != nil {
					return err
				}
			}
			all = append(all, p)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	all, err = pick(all, in.IDs, func(p placedAddress) string { return p.ID }, notFound("eipalloc", "InvalidAllocationID.NotFound", "", "allocation ID"))
	if err != nil {
		return nil, err
	}
	all, err = pick(all, in.IPs, func(p placedAddress) string { return p.IP }, notFound("", "InvalidAddress.NotFound", "", "address"))
	if err != nil {
		return nil, err
	}
	if all, err = addressFilters.Match(in.Filters, all, func(p placedAddress) localcloud.Tags { return p.Tags }); err != nil {
		return nil, err
	}
	return &describeAddressesOut{Addresses: ec2wire.Mapped(all, func(p placedAddress) address {
		out := address{
			ID: p.ID, IP: p.IP, Domain: "vpc", Pool: "amazon", BorderGroup: c.Region, Association: p.Association,
			Instance: p.Instance, Interface: p.instance.Interface.ID, PrivateIP: p.instance.PrivateIP, Tags: ec2wire.Tags(p.Tags),
		}
		if p.instance.ID != "" {
			out.Owner = localcloud.AccountID
		}
		return out
	})}, in.Check()
}

type allocateAddressIn struct {
	ec2wire.DryRun
	Domain string            `q:"Domain"`
	Tags   []ec2wire.TagSpec `q:"TagSpecification"`
}

type allocateAddressOut struct {
	ID          string `xml:"allocationId"`
	IP          string `xml:"publicIp"`
	Domain      string `xml:"domain"`
	Pool        string `xml:"publicIpv4Pool"`
	BorderGroup string `xml:"networkBorderGroup"`
}

func (a *api) allocateAddress(ctx context.Context, c *awswire.Call, in *allocateAddressIn) (*allocateAddressOut, error) {
	tags, err := ec2wire.SpecTags(in.Tags, "elastic-ip")
	if err != nil {
		return nil, err
	}
	if in.Domain != "" && in.Domain != "vpc" {
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter domain is invalid. It must be vpc", in.Domain)
	}
	o, err := a.cloud.AllocateAddress(dry(ctx, in.DryRun), c.Region, tags)
	if err != nil {
		return nil, err
	}
	return &allocateAddressOut{ID: o.ID, IP: o.IP, Domain: "vpc", Pool: "amazon", BorderGroup: c.Region}, nil
}

type releaseAddressIn struct {
	ec2wire.DryRun
	ID string `q:"AllocationId"`
	IP string `q:"PublicIp"`
}

func (a *api) releaseAddress(ctx context.Context, c *awswire.Call, in *releaseAddressIn) (*ec2wire.Return, error) {
	if (in.ID == "") == (in.IP == "") {
		return nil, awswire.Errorf("MissingParameter", "The request must contain exactly one of allocationId and publicIp")
	}
	return ec2wire.OK(), a.cloud.ReleaseAddress(dry(ctx, in.DryRun), c.Region, in.ID, in.IP)
}

type associateAddressIn struct {
	ec2wire.DryRun
	ID        string `q:"AllocationId"`
	IP        string `q:"PublicIp"`
	Instance  string `q:"InstanceId"`
	Interface string `q:"NetworkInterfaceId"`
	Allow     *bool  `q:"AllowReassociation"`
}

type associateAddressOut struct {
	Return bool   `xml:"return"`
	ID     string `xml:"associationId"`
}

func (a *api) associateAddress(ctx context.Context, c *awswire.Call, in *associateAddressIn) (*associateAddressOut, error) {
	switch {
	case (in.ID == "") == (in.IP == ""):
		return nil, awswire.Errorf("MissingParameter", "The request must contain exactly one of allocationId and publicIp")
	case in.Instance == "" && in.Interface == "":
		return nil, awswire.Errorf("MissingParameter", "Either 'InstanceId' or 'NetworkInterfaceId' must be specified.")
	case in.Instance != "" && in.Interface != "":
		return nil, awswire.Errorf("InvalidParameterCombination", "Only one of instanceId and networkInterfaceId can be given")
	}
	id, err := a.cloud.AssociateAddress(dry(ctx, in.DryRun), c.Region, localcloud.AssociateParams{
		Allocation: in.ID, IP: in.IP, Instance: in.Instance, Interface: in.Interface,
		Reassociate: in.Allow == nil || *in.Allow, // in a VPC it is allowed unless refused
	})
	return &associateAddressOut{Return: true, ID: id}, err
}

type disassociateAddressIn struct {
	ec2wire.DryRun
	ID string `q:"AssociationId"`
	IP string `q:"PublicIp"`
}

func (a *api) disassociateAddress(ctx context.Context, c *awswire.Call, in *disassociateAddressIn) (*ec2wire.Return, error) {
	if (in.ID == "") == (in.IP == "") {
		return nil, awswire.Errorf("MissingParameter", "The request must contain exactly one of associationId and publicIp")
	}
	return ec2wire.OK(), a.cloud.DisassociateAddress(dry(ctx, in.DryRun), c.Region, in.ID, in.IP)
}
