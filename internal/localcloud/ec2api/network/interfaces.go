package network

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) interfaces() awswire.Operations {
	return awswire.Operations{
		"DescribeNetworkInterfaces":         awswire.Op(a.describeInterfaces),
		"DescribeNetworkInterfaceAttribute": awswire.Op(a.describeInterface),
		"ModifyNetworkInterfaceAttribute":   awswire.Op(a.modifyInterface),
	}
}

// An iface is the primary interface of an instance; there are no others.
type iface struct {
	region   string
	instance localcloud.Instance
	elastic  localcloud.Address
	groups   []groupItem
}

type networkInterface struct {
	ID              string                `xml:"networkInterfaceId"`
	Subnet          string                `xml:"subnetId"`
	VPC             string                `xml:"vpcId"`
	Zone            string                `xml:"availabilityZone"`
	ZoneID          string                `xml:"availabilityZoneId"`
	Description     string                `xml:"description"`
	Owner           string                `xml:"ownerId"`
	Managed         bool                  `xml:"requesterManaged"`
	Status          string                `xml:"status"`
	MAC             string                `xml:"macAddress"`
	PrivateIP       string                `xml:"privateIpAddress"`
	PrivateDNS      string                `xml:"privateDnsName"`
	SourceDestCheck bool                  `xml:"sourceDestCheck"`
	Groups          []groupItem           `xml:"groupSet>item"`
	Attachment      interfaceAttachment   `xml:"attachment"`
	Association     *interfaceAssociation `xml:"association"`
	Addresses       []interfaceAddress    `xml:"privateIpAddressesSet>item"`
	Type            string                `xml:"interfaceType"`
	Tags            []ec2wire.Tag         `xml:"tagSet>item"`
}

type interfaceAttachment struct {
	ID                  string `xml:"attachmentId"`
	Instance            string `xml:"instanceId"`
	Owner               string `xml:"instanceOwnerId"`
	Index               int    `xml:"deviceIndex"`
	Card                int    `xml:"networkCardIndex"`
	Status              string `xml:"status"`
	Time                string `xml:"attachTime"`
	DeleteOnTermination bool   `xml:"deleteOnTermination"`
}

type interfaceAssociation struct {
	IP          string `xml:"publicIp"`
	DNS         string `xml:"publicDnsName"`
	Owner       string `xml:"ipOwnerId"`
	Allocation  string `xml:"allocationId,omitempty"`
	Association string `xml:"associationId,omitempty"`
}

type interfaceAddress struct {
	IP          string                `xml:"privateIpAddress"`
	DNS         string                `xml:"privateDnsName"`
	Primary     bool                  `xml:"primary"`
	Association *interfaceAssociation `xml:"association"`
}

func (f iface) association() *interfaceAssociation {
	if f.instance.PublicIP == "" {
		return nil
	}
	out := &interfaceAssociation{IP: f.instance.PublicIP, DNS: f.instance.PublicDNS(f.region), Owner: "amazon"}
	if f.elastic.ID != "" {
		out.Owner, out.Allocation, out.Association = localcloud.AccountID, f.elastic.ID, f.elastic.Association
	}
	return out
}

func (f iface) attachment() interfaceAttachment {
	return interfaceAttachment{
		ID: f.instance.Interface.Attachment, Instance: f.instance.ID, Owner: localcloud.AccountID, Status: "attached",
		Time: awswire.Time(f.instance.Launched), DeleteOnTermination: true,
	}
}

func (f iface) reply() networkInterface {
	i := f.instance
	return networkInterface{
		ID: i.Interface.ID, Subnet: i.Subnet, VPC: i.VPC, Zone: i.Zone, ZoneID: localcloud.ZoneID(i.Zone),
		Description: i.Interface.Description, Owner: localcloud.AccountID, Status: "in-use", MAC: i.Interface.MAC,
		PrivateIP: i.PrivateIP, PrivateDNS: i.PrivateDNS(f.region), SourceDestCheck: i.SourceDestCheck, Groups: f.groups,
		Attachment: f.attachment(), Association: f.association(), Type: "interface", Tags: ec2wire.Tags(i.Interface.Tags),
		Addresses: []interfaceAddress{{IP: i.PrivateIP, DNS: i.PrivateDNS(f.region), Primary: true, Association: f.association()}},
	}
}

func (f iface) associated(get func(interfaceAssociation) string) []string {
	if a := f.association(); a != nil {
		return ec2wire.One(get(*a))
	}
	return nil
}

func (f iface) groupValues(get func(groupItem) string) []string { return ec2wire.Mapped(f.groups, get) }

var interfaceFilters = ec2wire.FilterBy[iface]{
	"network-interface-id":             func(f iface) []string { return ec2wire.One(f.instance.Interface.ID) },
	"subnet-id":                        func(f iface) []string { return ec2wire.One(f.instance.Subnet) },
	"vpc-id":                           func(f iface) []string { return ec2wire.One(f.instance.VPC) },
	"availability-zone":                func(f iface) []string { return ec2wire.One(f.instance.Zone) },
	"availability-zone-id":             func(f iface) []string { return ec2wire.One(localcloud.ZoneID(f.instance.Zone)) },
	"description":                      func(f iface) []string { return []string{f.instance.Interface.Description} },
	"owner-id":                         func(iface) []string { return []string{localcloud.AccountID} },
	"requester-managed":                func(iface) []string { return ec2wire.Bool(false) },
	"status":                           func(iface) []string { return []string{"in-use"} },
	"interface-type":                   func(iface) []string { return []string{"interface"} },
	"mac-address":                      func(f iface) []string { return ec2wire.One(f.instance.Interface.MAC) },
	"private-ip-address":               func(f iface) []string { return ec2wire.One(f.instance.PrivateIP) },
	"private-dns-name":                 func(f iface) []string { return ec2wire.One(f.instance.PrivateDNS(f.region)) },
	"addresses.private-ip-address":     func(f iface) []string { return ec2wire.One(f.instance.PrivateIP) },
	"addresses.primary":                func(iface) []string { return ec2wire.Bool(true) },
	"source-dest-check":                func(f iface) []string { return ec2wire.Bool(f.instance.SourceDestCheck) },
	"group-id":                         func(f iface) []string { return f.groupValues(func(g groupItem) string { return g.ID }) },
	"group-name":                       func(f iface) []string { return f.groupValues(func(g groupItem) string { return g.Name }) },
	"attachment.attachment-id":         func(f iface) []string { return ec2wire.One(f.instance.Interface.Attachment) },
	"attachment.instance-id":           func(f iface) []string { return ec2wire.One(f.instance.ID) },
	"attachment.instance-owner-id":     func(iface) []string { return []string{localcloud.AccountID} },
	"attachment.device-index":          func(iface) []string { return []string{"0"} },
	"attachment.status":                func(iface) []string { return []string{"attached"} },
	"attachment.delete-on-termination": func(iface) []string { return ec2wire.Bool(true) },
	"association.public-ip": func(f iface) []string {
		return f.associated(func(a interfaceAssociation) string { return a.IP })
	},
	"addresses.association.public-ip": func(f iface) []string {
		return f.associated(func(a interfaceAssociation) string { return a.IP })
	},
	"association.allocation-id": func(f iface) []string {
		return f.associated(func(a interfaceAssociation) string { return a.Allocation })
	},
	"association.association-id": func(f iface) []string {
		return f.associated(func(a interfaceAssociation) string { return a.Association })
	},
	"association.ip-owner-id": func(f iface) []string {
		return f.associated(func(a interfaceAssociation) string { return a.Owner })
	},
	"association.public-dns-name": func(f iface) []string {
		return f.associated(func(a interfaceAssociation) string { return a.DNS })
	},
}

var noInterface = notFound("eni", "InvalidNetworkInterfaceID.NotFound", "InvalidNetworkInterfaceId.Malformed", "networkInterface ID")

// allInterfaces are those of the instances that are not terminated.
func (a *api) allInterfaces(ctx context.Context, region string) (out []iface, err error) {
	err = a.cloud.View(ctx, region, func(t *localcloud.Tx) error {
		instances, err := localcloud.All[localcloud.Instance](t)
		if err != nil {
			return err
		}
		for _, i := range instances {
			if i.State == "terminated" || i.Interface.ID == "" {
				continue
			}
			f := iface{region: region, instance: i}
			if f.elastic, _, err = t.AddressOf(i.ID); err != nil {
				return err
			}
			for _, id := range i.SecurityGroups {
				g, _, err := localcloud.Get[localcloud.SecurityGroup](t, id)
				if err != nil {
					return err
				}
				f.groups = append(f.groups, groupItem{ID: id, Name: g.Name})
			}
			out = append(out, f)
		}
		return nil
	})
	return out, err
}

type describeInterfacesIn struct {
	listIn
	IDs     []string `q:"NetworkInterfaceId"`
	Managed bool     `q:"IncludeManagedResources"` // there are none
}

type describeInterfacesOut struct {
	Interfaces []networkInterface `xml:"networkInterfaceSet>item"`
	Next       string             `xml:"nextToken,omitempty"`
}

func (a *api) describeInterfaces(ctx context.Context, c *awswire.Call, in *describeInterfacesIn) (*describeInterfacesOut, error) {
	if err := ec2wire.OnlyWithout(in.Page, in.IDs); err != nil {
		return nil, err
	}
	all, err := a.allInterfaces(ctx, c.Region)
	if err != nil {
		return nil, err
	}
	if all, err = pick(all, in.IDs, func(f iface) string { return f.instance.Interface.ID }, noInterface); err != nil {
		return nil, err
	}
	if all, err = interfaceFilters.Match(in.Filters, all, func(f iface) localcloud.Tags { return f.instance.Interface.Tags }); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	if err != nil {
		return nil, err
	}
	return &describeInterfacesOut{Interfaces: ec2wire.Mapped(page, iface.reply), Next: next}, in.Check()
}

type describeInterfaceIn struct {
	ec2wire.DryRun
	ID        string `q:"NetworkInterfaceId,required"`
	Attribute string `q:"Attribute"`
}

type describeInterfaceOut struct {
	ID              string               `xml:"networkInterfaceId"`
	Description     *textValue           `xml:"description"`
	SourceDestCheck *boolValue           `xml:"sourceDestCheck"`
	Groups          []groupItem          `xml:"groupSet>item"`
	Attachment      *interfaceAttachment `xml:"attachment"`
}

func (a *api) describeInterface(ctx context.Context, c *awswire.Call, in *describeInterfaceIn) (*describeInterfaceOut, error) {
	all, err := a.allInterfaces(ctx, c.Region)
	if err != nil {
		return nil, err
	}
	if all, err = pick(all, []string{in.ID}, func(f iface) string { return f.instance.Interface.ID }, noInterface); err != nil {
		return nil, err
	}
	f := all[0]
	out := &describeInterfaceOut{ID: in.ID}
	switch in.Attribute {
	case "description":
		out.Description = &textValue{f.instance.Interface.Description}
	case "sourceDestCheck":
		out.SourceDestCheck = &boolValue{f.instance.SourceDestCheck}
	case "groupSet":
		out.Groups = f.groups
	case "attachment":
		at := f.attachment()
		out.Attachment = &at
	default:
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Use description, sourceDestCheck, groupSet or attachment", in.Attribute)
	}
	return out, in.Check()
}

type modifyInterfaceIn struct {
	ec2wire.DryRun
	ID              string     `q:"NetworkInterfaceId,required"`
	Description     *textValue `q:"Description"`
	SourceDestCheck *boolValue `q:"SourceDestCheck"`
	Groups          []string   `q:"SecurityGroupId"`
}

func (a *api) modifyInterface(ctx context.Context, c *awswire.Call, in *modifyInterfaceIn) (*ec2wire.Return, error) {
	ch := localcloud.InterfaceChange{Groups: in.Groups}
	n := 0
	if in.Description != nil {
		ch.Description = &in.Description.Value
		n++
	}
	if in.SourceDestCheck != nil {
		ch.SourceDestCheck = &in.SourceDestCheck.Value
		n++
	}
	if len(in.Groups) > 0 {
		n++
	}
	if n != 1 {
		return nil, awswire.Errorf("InvalidParameterCombination", "The request must contain exactly one attribute: Description, SourceDestCheck or SecurityGroupId")
	}
	return ec2wire.OK(), a.cloud.ModifyInterface(dry(ctx, in.DryRun), c.Region, in.ID, ch)
}
