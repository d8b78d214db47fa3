package network

import (
	"context"
	"maps"
	"slices"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) routeTables() awswire.Operations {
	return awswire.Operations{
		"DescribeRouteTables":    awswire.Op(a.describeRouteTables),
		"CreateRouteTable":       awswire.Op(a.createRouteTable),
		"DeleteRouteTable":       awswire.Op(a.deleteRouteTable),
		"CreateRoute":            awswire.Op(a.createRoute),
		"ReplaceRoute":           awswire.Op(a.replaceRoute),
		"DeleteRoute":            awswire.Op(a.deleteRoute),
		"AssociateRouteTable":    awswire.Op(a.associateRouteTable),
		"DisassociateRouteTable": awswire.Op(a.disassociateRouteTable),
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

type routeTable struct {
	ID           string             `xml:"routeTableId"`
	VPC          string             `xml:"vpcId"`
	Owner        string             `xml:"ownerId"`
	Routes       []route            `xml:"routeSet>item"`
	Associations []routeAssociation `xml:"associationSet>item"`
	Tags         []ec2wire.Tag      `xml:"tagSet>item"`
}

type route struct {
	CIDR      string `xml:"destinationCidrBlock,omitempty"`
	CIDR6     string `xml:"destinationIpv6CidrBlock,omitempty"`
	Gateway   string `xml:"gatewayId,omitempty"`
	Instance  string `xml:"instanceId,omitempty"`
	Interface string `xml:"networkInterfaceId,omitempty"`
	Origin    string `xml:"origin"`
	State     string `xml:"state"`
}

type routeAssociation struct {
	ID     string `xml:"routeTableAssociationId"`
	Table  string `xml:"routeTableId"`
	Subnet string `xml:"subnetId,omitempty"`
	Main   bool   `xml:"main"`
	State  string `xml:"associationState>state"`
}

func toRouteTable(r localcloud.RouteTable) routeTable {
	return routeTable{
		ID: r.ID, VPC: r.VPC, Owner: localcloud.AccountID, Tags: ec2wire.Tags(r.Tags),
		Routes: ec2wire.Mapped(r.Routes, func(o localcloud.Route) route {
			return route{CIDR: o.CIDR, CIDR6: o.CIDR6, Gateway: o.Gateway, Instance: o.Instance, Interface: o.Interface, Origin: o.Origin, State: "active"}
		}),
		Associations: ec2wire.Mapped(r.Associations, func(o localcloud.RouteAssociation) routeAssociation {
			return routeAssociation{ID: o.ID, Table: r.ID, Subnet: o.Subnet, Main: o.Main, State: "associated"}
		}),
	}
}

// eachRoute and eachAssociation make filters of a table's parts.
func eachRoute(get func(localcloud.Route) string) func(localcloud.RouteTable) []string {
	return func(r localcloud.RouteTable) (out []string) {
		for _, o := range r.Routes {
			out = append(out, ec2wire.One(get(o))...)
		}
		return out
	}
}

func eachAssociation(get func(localcloud.RouteAssociation) string) func(localcloud.RouteTable) []string {
	return func(r localcloud.RouteTable) (out []string) {
		for _, o := range r.Associations {
			out = append(out, ec2wire.One(get(o))...)
		}
		return out
	}
}

var routeTableFilters = ec2wire.FilterBy[localcloud.RouteTable]{
	"route-table-id": func(r localcloud.RouteTable) []string { return ec2wire.One(r.ID) },
	"vpc-id":         func(r localcloud.RouteTable) []string { return ec2wire.One(r.VPC) },
	"owner-id":       func(localcloud.RouteTable) []string { return []string{localcloud.AccountID} },
	"association.route-table-id": func(r localcloud.RouteTable) []string {
		if len(r.Associations) == 0 {
			return nil
		}
		return ec2wire.One(r.ID)
	},
	"association.route-table-association-id": eachAssociation(func(a localcloud.RouteAssociation) string { return a.ID }),
	"association.subnet-id":                  eachAssociation(func(a localcloud.RouteAssociation) string { return a.Subnet }),
	"association.main":                       eachAssociation(func(a localcloud.RouteAssociation) string { return ec2wire.Bool(a.Main)[0] }),
	"route.destination-cidr-block":           eachRoute(func(r localcloud.Route) string { return r.CIDR }),
	"route.destination-ipv6-cidr-block":      eachRoute(func(r localcloud.Route) string { return r.CIDR6 }),
	"route.gateway-id":                       eachRoute(func(r localcloud.Route) string { return r.Gateway }),
	"route.instance-id":                      eachRoute(func(r localcloud.Route) string { return r.Instance }),
	"route.nat-gateway-id":                   eachRoute(func(localcloud.Route) string { return "" }),
	"route.origin":                           eachRoute(func(r localcloud.Route) string { return r.Origin }),
	"route.state":                            eachRoute(func(localcloud.Route) string { return "active" }),
}

type describeRouteTablesIn struct {
	listIn
	IDs []string `q:"RouteTableId"`
}

type describeRouteTablesOut struct {
	Tables []routeTable `xml:"routeTableSet>item"`
	Next   string       `xml:"nextToken,omitempty"`
}

func (a *api) describeRouteTables(ctx context.Context, c *awswire.Call, in *describeRouteTablesIn) (*describeRouteTablesOut, error) {
	all, err := records[localcloud.RouteTable](ctx, a, c.Region)
	if err != nil {
		return nil, err
	}
	all, err = pick(all, in.IDs, func(r localcloud.RouteTable) string { return r.ID },
		notFound("rtb", "InvalidRouteTableID.NotFound", "InvalidRouteTableId.Malformed", "routeTable ID"))
	if err != nil {
		return nil, err
	}
	if all, err = routeTableFilters.Match(in.Filters, all, func(r localcloud.RouteTable) localcloud.Tags { return r.Tags }); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 100)
	if err != nil {
		return nil, err
	}
	return &describeRouteTablesOut{Tables: ec2wire.Mapped(page, toRouteTable), Next: next}, in.Check()
}

type createRouteTableIn struct {
	ec2wire.DryRun
	VPC   string            `q:"VpcId,required"`
	Token string            `q:"ClientToken"`
	Tags  []ec2wire.TagSpec `q:"TagSpecification"`
}

type routeTableOut struct {
	Table routeTable `xml:"routeTable"`
}

func (a *api) createRouteTable(ctx context.Context, c *awswire.Call, in *createRouteTableIn) (*routeTableOut, error) {
	tags, err := ec2wire.SpecTags(in.Tags, "route-table")
	if err != nil {
		return nil, err
	}
	r, err := a.cloud.CreateRouteTable(dry(ctx, in.DryRun), c.Region, in.VPC, in.Token, tags)
	if err != nil {
		return nil, err
	}
	return &routeTableOut{toRouteTable(r)}, nil
}

type routeTableIn struct {
	ec2wire.DryRun
	ID string `q:"RouteTableId,required"`
}

func (a *api) deleteRouteTable(ctx context.Context, c *awswire.Call, in *routeTableIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.DeleteRouteTable(dry(ctx, in.DryRun), c.Region, in.ID)
}

type routeIn struct {
	routeTableIn
	CIDR      string `q:"DestinationCidrBlock"`
	CIDR6     string `q:"DestinationIpv6CidrBlock"`
	Gateway   string `q:"GatewayId"`
	Instance  string `q:"InstanceId"`
	Interface string `q:"NetworkInterfaceId"`
}

func (in routeIn) route() localcloud.Route {
	return localcloud.Route{CIDR: in.CIDR, CIDR6: in.CIDR6, Gateway: in.Gateway, Instance: in.Instance, Interface: in.Interface}
}

func (a *api) createRoute(ctx context.Context, c *awswire.Call, in *routeIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.PutRoute(dry(ctx, in.DryRun), c.Region, in.ID, in.route(), false)
}

func (a *api) replaceRoute(ctx context.Context, c *awswire.Call, in *routeIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.PutRoute(dry(ctx, in.DryRun), c.Region, in.ID, in.route(), true)
}

type deleteRouteIn struct {
	routeTableIn
	CIDR  string `q:"DestinationCidrBlock"`
	CIDR6 string `q:"DestinationIpv6CidrBlock"`
}

func (a *api) deleteRoute(ctx context.Context, c *awswire.Call, in *deleteRouteIn) (*ec2wire.Return, error) {
	if (in.CIDR == "") == (in.CIDR6 == "") {
		return nil, awswire.Errorf("MissingParameter", "The request must contain exactly one of destinationCidrBlock and destinationIpv6CidrBlock")
	}
	return ec2wire.OK(), a.cloud.DeleteRoute(dry(ctx, in.DryRun), c.Region, in.ID, in.CIDR+in.CIDR6)
}

type associateRouteTableIn struct {
	routeTableIn
	Subnet string `q:"SubnetId,required"`
}

type associateRouteTableOut struct {
	ID    string `xml:"associationId"`
	State string `xml:"associationState>state"`
}

func (a *api) associateRouteTable(ctx context.Context, c *awswire.Call, in *associateRouteTableIn) (*associateRouteTableOut, error) {
	id, err := a.cloud.AssociateRouteTable(dry(ctx, in.DryRun), c.Region, in.ID, in.Subnet)
	return &associateRouteTableOut{ID: id, State: "associated"}, err
}

type disassociateRouteTableIn struct {
	ec2wire.DryRun
	ID string `q:"AssociationId,required"`
}

func (a *api) disassociateRouteTable(ctx context.Context, c *awswire.Call, in *disassociateRouteTableIn) (*ec2wire.Return, error) {
	return ec2wire.OK(), a.cloud.DisassociateRouteTable(dry(ctx, in.DryRun), c.Region, in.ID)
}
