package network

import (
	"context"
	"slices"
	"strconv"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) regions() awswire.Operations {
	return awswire.Operations{
		"DescribeRegions":              awswire.Op(a.describeRegions),
		"DescribeAvailabilityZones":    awswire.Op(a.describeZones),
		"DescribeAccountAttributes":    awswire.Op(a.describeAccount),
		"DescribePrefixLists":          awswire.Op(a.describePrefixLists),
		"DescribeManagedPrefixLists":   awswire.Op(a.describeManagedPrefixLists),
		"DescribeVpcEndpoints":         awswire.Op(a.describeEndpoints),
		"DescribeCapacityReservations": awswire.Op(a.describeReservations),
		"DescribeDhcpOptions":          awswire.Op(a.describeDHCP),
	}
}

type region struct {
	Name     string `xml:"regionName"`
	Endpoint string `xml:"regionEndpoint"`
	OptIn    string `xml:"optInStatus"`
}

var regionFilters = ec2wire.FilterBy[region]{
	"region-name":   func(r region) []string { return ec2wire.One(r.Name) },
	"endpoint":      func(r region) []string { return ec2wire.One(r.Endpoint) },
	"opt-in-status": func(r region) []string { return ec2wire.One(r.OptIn) },
}

type describeRegionsIn struct {
	ec2wire.DryRun
	AllRegions bool            `q:"AllRegions"` // all are enabled here
	Names      []string        `q:"RegionName"`
	Filters    ec2wire.Filters `q:"Filter"`
}

type describeRegionsOut struct {
	Regions []region `xml:"regionInfo>item"`
}

func (a *api) describeRegions(_ context.Context, _ *awswire.Call, in *describeRegionsIn) (*describeRegionsOut, error) {
	all := ec2wire.Mapped(localcloud.Regions(), func(name string) region {
		return region{Name: name, Endpoint: "ec2." + name + ".amazonaws.com", OptIn: "opt-in-not-required"}
	})
	all, err := pick(all, in.Names, func(r region) string { return r.Name }, func(name string) error {
		return awswire.Errorf("InvalidParameterValue", "Invalid region names found: [%s]", name)
	})
	if err != nil {
		return nil, err
	}
	if all, err = regionFilters.Match(in.Filters, all, noTags[region]); err != nil {
		return nil, err
	}
	return &describeRegionsOut{Regions: all}, in.Check()
}

type zone struct {
	Name        string `xml:"zoneName"`
	ID          string `xml:"zoneId"`
	Region      string `xml:"regionName"`
	State       string `xml:"zoneState"`
	Type        string `xml:"zoneType"`
	OptIn       string `xml:"optInStatus"`
	Group       string `xml:"groupName"`
	BorderGroup string `xml:"networkBorderGroup"`
}

var zoneFilters = ec2wire.FilterBy[zone]{
	"zone-name":     func(z zone) []string { return ec2wire.One(z.Name) },
	"zone-id":       func(z zone) []string { return ec2wire.One(z.ID) },
	"region-name":   func(z zone) []string { return ec2wire.One(z.Region) },
	"state":         func(z zone) []string { return ec2wire.One(z.State) },
	"zone-state":    func(z zone) []string { return ec2wire.One(z.State) },
	"zone-type":     func(z zone) []string { return ec2wire.One(z.Type) },
	"opt-in-status": func(z zone) []string { return ec2wire.One(z.OptIn) },
	"group-name":    func(z zone) []string { return ec2wire.One(z.Group) },
	"message":       func(zone) []string { return nil },
}

type describeZonesIn struct {
	ec2wire.DryRun
	All     bool            `q:"AllAvailabilityZones"`
	IDs     []string        `q:"ZoneId"`
	Names   []string        `q:"ZoneName"`
	Filters ec2wire.Filters `q:"Filter"`
}

type describeZonesOut struct {
	Zones []zone `xml:"availabilityZoneInfo>item"`
}

func (a *api) describeZones(_ context.Context, c *awswire.Call, in *describeZonesIn) (*describeZonesOut, error) {
	all := ec2wire.Mapped(localcloud.Zones(c.Region), func(z localcloud.Zone) zone {
		return zone{
			Name: z.Name, ID: z.ID, Region: z.Region, State: "available", Type: "availability-zone",
			OptIn: "opt-in-not-required", Group: z.Region, BorderGroup: z.Region,
		}
	})
	missing := func(name string) error {
		return awswire.Errorf("InvalidParameterValue", "Invalid availability zone: [%s]", name)
	}
	all, err := pick(all, in.Names, func(z zone) string { return z.Name }, missing)
	if err != nil {
		return nil, err
	}
	if all, err = pick(all, in.IDs, func(z zone) string { return z.ID }, missing); err != nil {
		return nil, err
	}
	if all, err = zoneFilters.Match(in.Filters, all, noTags[zone]); err != nil {
		return nil, err
	}
	return &describeZonesOut{Zones: all}, in.Check()
}

type accountAttribute struct {
	Name   string         `xml:"attributeName"`
	Values []accountValue `xml:"attributeValueSet>item"`
}

type accountValue struct {
	Value string `xml:"attributeValue"`
}

type describeAccountIn struct {
	ec2wire.DryRun
	Names []string `q:"AttributeName"`
}

type describeAccountOut struct {
	Attributes []accountAttribute `xml:"accountAttributeSet>item"`
}

func (a *api) describeAccount(ctx context.Context, c *awswire.Call, in *describeAccountIn) (*describeAccountOut, error) {
	vpc := "none"
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) error {
		v, ok, err := t.DefaultVPC()
		if ok {
			vpc = v.ID
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	value := func(name, v string) accountAttribute {
		return accountAttribute{Name: name, Values: []accountValue{{v}}}
	}
	all, err := pick([]accountAttribute{
		value("supported-platforms", "VPC"), value("default-vpc", vpc),
		value("max-instances", strconv.Itoa(100)), value("vpc-max-security-groups-per-interface", strconv.Itoa(16)),
		value("max-elastic-ips", strconv.Itoa(100)), value("vpc-max-elastic-ips", strconv.Itoa(100)),
	}, in.Names, func(v accountAttribute) string { return v.Name }, func(name string) error {
		return awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter attributeName is invalid.", name)
	})
	if err != nil {
		return nil, err
	}
	return &describeAccountOut{Attributes: all}, in.Check()
}

type prefixList struct {
	ID    string   `xml:"prefixListId"`
	Name  string   `xml:"prefixListName"`
	CIDRs []string `xml:"cidrSet>item"`
}

type listIn struct {
	ec2wire.DryRun
	ec2wire.Page
	Filters ec2wire.Filters `q:"Filter"`
}

type describePrefixListsIn struct {
	listIn
	IDs []string `q:"PrefixListId"`
}

type describePrefixListsOut struct {
	Lists []prefixList `xml:"prefixListSet>item"`
	Next  string       `xml:"nextToken,omitempty"`
}

var prefixListFilters = ec2wire.FilterBy[localcloud.PrefixList]{
	"prefix-list-id":   func(l localcloud.PrefixList) []string { return ec2wire.One(l.ID) },
	"prefix-list-name": func(l localcloud.PrefixList) []string { return ec2wire.One(l.Name) },
	"owner-id":         func(localcloud.PrefixList) []string { return []string{"AWS"} },
}

func findPrefixLists(region string, in *describePrefixListsIn) ([]localcloud.PrefixList, string, error) {
	all, err := pick(localcloud.PrefixLists(region), in.IDs, func(l localcloud.PrefixList) string { return l.ID },
		notFound("pl", "InvalidPrefixListID.NotFound", "InvalidPrefixListId.Malformed", "prefix list ID"))
	if err != nil {
		return nil, "", err
	}
	if all, err = prefixListFilters.Match(in.Filters, all, noTags[localcloud.PrefixList]); err != nil {
		return nil, "", err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 1, 100)
	if err != nil {
		return nil, "", err
	}
	return page, next, in.Check()
}

func (a *api) describePrefixLists(_ context.Context, c *awswire.Call, in *describePrefixListsIn) (*describePrefixListsOut, error) {
	lists, next, err := findPrefixLists(c.Region, in)
	return &describePrefixListsOut{Next: next, Lists: ec2wire.Mapped(lists, func(l localcloud.PrefixList) prefixList {
		return prefixList{ID: l.ID, Name: l.Name, CIDRs: l.CIDRs}
	})}, err
}

type managedPrefixList struct {
	ID     string `xml:"prefixListId"`
	Name   string `xml:"prefixListName"`
	ARN    string `xml:"prefixListArn"`
	Family string `xml:"addressFamily"`
	Owner  string `xml:"ownerId"`
	State  string `xml:"state"`
}

type describeManagedPrefixListsOut struct {
	Lists []managedPrefixList `xml:"prefixListSet>item"`
	Next  string              `xml:"nextToken,omitempty"`
}

func (a *api) describeManagedPrefixLists(_ context.Context, c *awswire.Call, in *describePrefixListsIn) (*describeManagedPrefixListsOut, error) {
	lists, next, err := findPrefixLists(c.Region, in)
	return &describeManagedPrefixListsOut{Next: next, Lists: ec2wire.Mapped(lists, func(l localcloud.PrefixList) managedPrefixList {
		return managedPrefixList{
			ID: l.ID, Name: l.Name, ARN: "arn:aws:ec2:" + c.Region + ":aws:prefix-list/" + l.ID,
			Family: "IPv4", Owner: "AWS", State: "create-complete",
		}
	})}, err
}

// nothing is what there is of the kinds that this cloud cannot make.
type nothing struct{}

var endpointFilters = ec2wire.FilterBy[nothing]{
	"vpc-id": never, "vpc-endpoint-id": never, "vpc-endpoint-state": never, "vpc-endpoint-type": never,
	"service-name": never, "service-region": never, "ip-address-type": never,
}

var reservationFilters = ec2wire.FilterBy[nothing]{
	"instance-type": never, "owner-id": never, "instance-platform": never, "availability-zone": never, "tenancy": never,
	"outpost-arn": never, "state": never, "start-date": never, "end-date": never, "end-date-type": never,
	"instance-match-criteria": never, "placement-group-arn": never, "availability-zone-id": never,
}

func never(nothing) []string { return nil }

// checkNone answers a listing of what there is nothing of.
func checkNone(in listIn, ids []string, by ec2wire.FilterBy[nothing], missing func(string) error) error {
	if _, err := by.Match(in.Filters, nil, noTags[nothing]); err != nil {
		return err
	}
	if len(ids) > 0 {
		return missing(ids[0])
	}
	if _, _, err := ec2wire.Slice(in.Page, []nothing{}, 1, 1000); err != nil {
		return err
	}
	return in.Check()
}

type describeEndpointsIn struct {
	listIn
	IDs []string `q:"VpcEndpointId"`
}

type describeEndpointsOut struct {
	Endpoints struct{} `xml:"vpcEndpointSet"`
}

func (a *api) describeEndpoints(_ context.Context, _ *awswire.Call, in *describeEndpointsIn) (*describeEndpointsOut, error) {
	return &describeEndpointsOut{}, checkNone(in.listIn, in.IDs, endpointFilters,
		notFound("vpce", "InvalidVpcEndpointId.NotFound", "InvalidVpcEndpointId.Malformed", "Vpc Endpoint Id"))
}

type describeReservationsIn struct {
	listIn
	IDs []string `q:"CapacityReservationId"`
}

type describeReservationsOut struct {
	Reservations struct{} `xml:"capacityReservationSet"`
}

func (a *api) describeReservations(_ context.Context, _ *awswire.Call, in *describeReservationsIn) (*describeReservationsOut, error) {
	return &describeReservationsOut{}, checkNone(in.listIn, in.IDs, reservationFilters,
		notFound("cr", "InvalidCapacityReservationId.NotFound", "InvalidCapacityReservationId.Malformed", "capacity reservation ID"))
}

type dhcpOptions struct {
	ID      string       `xml:"dhcpOptionsId"`
	Owner   string       `xml:"ownerId"`
	Configs []dhcpConfig `xml:"dhcpConfigurationSet>item"`
}

type dhcpConfig struct {
	Key    string      `xml:"key"`
	Values []textValue `xml:"valueSet>item"`
}

func (d dhcpOptions) values(key string) (out []string) {
	for _, c := range d.Configs {
		if key == "" {
			out = append(out, c.Key)
		}
		for _, v := range c.Values {
			if c.Key == key || key == "*" {
				out = append(out, v.Value)
			}
		}
	}
	return out
}

var dhcpFilters = ec2wire.FilterBy[dhcpOptions]{
	"dhcp-options-id": func(d dhcpOptions) []string { return ec2wire.One(d.ID) },
	"owner-id":        func(d dhcpOptions) []string { return ec2wire.One(d.Owner) },
	"key":             func(d dhcpOptions) []string { return d.values("") },
	"value":           func(d dhcpOptions) []string { return d.values("*") },
}

type describeDHCPIn struct {
	listIn
	IDs []string `q:"DhcpOptionsId"`
}

type describeDHCPOut struct {
	Options []dhcpOptions `xml:"dhcpOptionsSet>item"`
	Next    string        `xml:"nextToken,omitempty"`
}

func (a *api) describeDHCP(ctx context.Context, c *awswire.Call, in *describeDHCPIn) (*describeDHCPOut, error) {
	vpcs, err := records[localcloud.VPC](ctx, a, c.Region)
	if err != nil {
		return nil, err
	}
	domain := c.Region + ".compute.internal"
	if c.Region == "us-east-1" {
		domain = "ec2.internal"
	}
	var all []dhcpOptions
	for _, v := range vpcs {
		if slices.ContainsFunc(all, func(d dhcpOptions) bool { return d.ID == v.DHCPOptions }) {
			continue
		}
		all = append(all, dhcpOptions{ID: v.DHCPOptions, Owner: localcloud.AccountID, Configs: []dhcpConfig{
			{Key: "domain-name", Values: []textValue{{domain}}},
			{Key: "domain-name-servers", Values: []textValue{{"AmazonProvidedDNS"}}},
		}})
	}
	all, err = pick(all, in.IDs, func(d dhcpOptions) string { return d.ID },
		notFound("dopt", "InvalidDhcpOptionID.NotFound", "InvalidDhcpOptionsId.Malformed", "dhcpOptions ID"))
	if err != nil {
		return nil, err
	}
	if all, err = dhcpFilters.Match(in.Filters, all, noTags[dhcpOptions]); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	if err != nil {
		return nil, err
	}
	return &describeDHCPOut{Options: page, Next: next}, in.Check()
}
