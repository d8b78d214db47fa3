package localcloud

import (
	"context"
	"net/netip"
	"slices"
)

// An InternetGateway is a VPC's way out.
type InternetGateway struct {
	ID, VPC string // VPC "" while detached
	Tags    Tags
}

// RecordKind implements [Record].
func (InternetGateway) RecordKind() string { return "internet-gateway" }

// RecordID implements [Record].
func (g InternetGateway) RecordID() string { return g.ID }

// A RouteTable says where a VPC's traffic goes. Nothing is routed by it: it is
// kept because clients make one and read it back.
type RouteTable struct {
	ID, VPC      string
	Routes       []Route
	Associations []RouteAssociation
	Tags         Tags
}

// RecordKind implements [Record].
func (RouteTable) RecordKind() string { return "route-table" }

// RecordID implements [Record].
func (r RouteTable) RecordID() string { return r.ID }

// Main reports whether the table is its VPC's main one.
func (r RouteTable) Main() bool {
	return slices.ContainsFunc(r.Associations, func(a RouteAssociation) bool { return a.Main })
}

// A Route is one line of a [RouteTable].
type Route struct {
	CIDR, CIDR6 string // one of them
	Gateway     string // igw-…, "local"
	Instance    string
	Interface   string
	Origin      string // CreateRouteTable CreateRoute
}

// A RouteAssociation is what a table is for: a subnet, or the VPC's main one.
type RouteAssociation struct {
	ID, Subnet string
	Main       bool
}

// CreateInternetGateway makes a detached internet gateway.
func (c *Cloud) CreateInternetGateway(ctx context.Context, region string, tags Tags) (g InternetGateway, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		g = InternetGateway{ID: NewID("igw"), Tags: tags.Clone()}
		return Put(t, g)
	})
	return g, err
}

func (t *Tx) internetGateway(id string) (InternetGateway, error) {
	g, ok, err := Get[InternetGateway](t, id)
	if err == nil && !ok {
		err = Errorf("InvalidInternetGatewayID.NotFound", "The internetGateway ID '%s' does not exist", id)
	}
	return g, err
}

// AttachInternetGateway attaches a gateway to a VPC that has none.
func (c *Cloud) AttachInternetGateway(ctx context.Context, region, id, vpc string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		g, err := t.internetGateway(id)
		if err != nil {
			return err
		}
		if _, err := t.VPC(vpc); err != nil {
			return err
		}
		all, err := All[InternetGateway](t)
		if err != nil {
			return err
		}
		for _, o := range all {
			if o.VPC == vpc || o.ID == id && o.VPC != "" {
				return Errorf("Resource.AlreadyAssociated", "resource %s is already attached to network %s", o.ID, o.VPC)
			}
		}
		g.VPC = vpc
		return Put(t, g)
	})
}

// DetachInternetGateway detaches a gateway.
func (c *Cloud) DetachInternetGateway(ctx context.Context, region, id, vpc string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		g, err := t.internetGateway(id)
		if err != nil {
			return err
		}
		if g.VPC == "" || g.VPC != vpc {
			return Errorf("Gateway.NotAttached", "resource %s is not attached to network %s", id, vpc)
		}
		instances, err := All[Instance](t)
		if err != nil {
			return err
		}
		for _, i := range instances {
			if i.VPC == vpc && i.PublicIP != "" && holdsAddress(i) {
				return Errorf("DependencyViolation", "Network %s has some mapped public address(es). Please unmap those public address(es) before detaching the gateway.", vpc)
			}
		}
		g.VPC = ""
		return Put(t, g)
	})
}

// DeleteInternetGateway removes a detached gateway.
func (c *Cloud) DeleteInternetGateway(ctx context.Context, region, id string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		g, err := t.internetGateway(id)
		if err != nil {
			return err
		}
		if g.VPC != "" {
			return Errorf("DependencyViolation", "The internetGateway '%s' has dependencies and cannot be deleted.", id)
		}
		return Delete[InternetGateway](t, id)
	})
}

// CreateRouteTable makes a table that routes within the VPC.
func (c *Cloud) CreateRouteTable(ctx context.Context, region, vpc, token string, tags Tags) (r RouteTable, err error) {
	type params struct {
		VPC  string
		Tags Tags
	}
	p := params{vpc, tags}
	err = c.Update(ctx, region, func(t *Tx) error {
		ids, used, err := t.Token("CreateRouteTable", token, p)
		if err != nil {
			return err
		}
		if used {
			r, err = t.routeTable(ids[0])
			return err
		}
		v, err := t.VPC(vpc)
		if err != nil {
			return err
		}
		r = RouteTable{ID: NewID("rtb"), VPC: v.ID, Tags: tags.Clone(), Routes: []Route{{CIDR: v.CIDR, Gateway: "local", Origin: "CreateRouteTable"}}}
		return firstError(Put(t, r), t.SaveToken("CreateRouteTable", token, p, r.ID))
	})
	return r, err
}

func (t *Tx) routeTable(id string) (RouteTable, error) {
	r, ok, err := Get[RouteTable](t, id)
	if err == nil && !ok {
		err = Errorf("InvalidRouteTableID.NotFound", "The routeTable ID '%s' does not exist", id)
	}
	return r, err
}

func (t *Tx) mainRouteTable(vpc string) (RouteTable, error) {
	all, err := All[RouteTable](t)
	if err != nil {
		return RouteTable{}, err
	}
	for _, r := range all {
		if r.VPC == vpc && r.Main() {
			return r, nil
		}
	}
	return RouteTable{}, Errorf("InvalidRouteTableID.NotFound", "The vpc '%s' has no main route table", vpc)
}

// DeleteRouteTable removes a table that is neither main nor associated.
func (c *Cloud) DeleteRouteTable(ctx context.Context, region, id string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		r, err := t.routeTable(id)
		if err != nil {
			return err
		}
		if len(r.Associations) > 0 {
			return Errorf("DependencyViolation", "The routeTable '%s' has dependencies and cannot be deleted.", id)
		}
		return Delete[RouteTable](t, id)
	})
}

// PutRoute adds a route to a table, or with replace changes the one with the
// same destination.
func (c *Cloud) PutRoute(ctx context.Context, region, table string, route Route, replace bool) error {
	to, err := netip.ParsePrefix(route.CIDR + route.CIDR6)
	if err != nil || (route.CIDR != "") != to.Addr().Is4() || (route.CIDR != "") == (route.CIDR6 != "") {
		return Errorf("InvalidParameterValue", "Value (%s%s) for parameter destinationCidrBlock is invalid. This is not a valid CIDR block.", route.CIDR, route.CIDR6)
	}
	targets := 0
	for _, s := range []string{route.Gateway, route.Instance, route.Interface} {
		if s != "" {
			targets++
		}
	}
	if targets != 1 {
		return Errorf("InvalidParameterCombination", "A route has exactly one target: gatewayId, instanceId or networkInterfaceId")
	}
	route.Origin = "CreateRoute"
	return c.Update(ctx, region, func(t *Tx) error {
		r, err := t.routeTable(table)
		if err != nil {
			return err
		}
		if err := t.checkTarget(r.VPC, route); err != nil {
			return err
		}
		i := slices.IndexFunc(r.Routes, func(o Route) bool { return o.CIDR == route.CIDR && o.CIDR6 == route.CIDR6 })
		switch {
		case replace && i < 0:
			return Errorf("InvalidParameterValue", "There is no route defined for '%s' in the route table. Use CreateRoute instead.", to)
		case i >= 0 && r.Routes[i].Gateway == "local":
			return Errorf("InvalidParameterValue", "The route for '%s' is the VPC's own and cannot be changed.", to)
		case !replace && i >= 0:
			return Errorf("RouteAlreadyExists", "The route identified by %s already exists.", to)
		case replace:
			r.Routes[i] = route
		default:
			r.Routes = append(r.Routes, route)
		}
		return Put(t, r)
	})
}

func (t *Tx) checkTarget(vpc string, route Route) error {
	instances, err := All[Instance](t)
	if err != nil {
		return err
	}
	switch {
	case route.Gateway != "":
		g, err := t.internetGateway(route.Gateway)
		if err != nil {
			return err
		}
		if g.VPC != vpc {
			return Errorf("InvalidParameterValue", "route table and network gateway %s belong to different networks", g.ID)
		}
	case route.Instance != "":
		if !slices.ContainsFunc(instances, func(i Instance) bool { return i.ID == route.Instance && i.VPC == vpc }) {
			return Errorf("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", route.Instance)
		}
	case !slices.ContainsFunc(instances, func(i Instance) bool { return i.Interface.ID == route.Interface && i.VPC == vpc }):
		return Errorf("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", route.Interface)
	}
	return nil
}

// DeleteRoute removes a route from a table.
func (c *Cloud) DeleteRoute(ctx context.Context, region, table, cidr string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		r, err := t.routeTable(table)
		if err != nil {
			return err
		}
		i := slices.IndexFunc(r.Routes, func(o Route) bool { return cidr != "" && (o.CIDR == cidr || o.CIDR6 == cidr) })
		if i < 0 {
			return Errorf("InvalidRoute.NotFound", "no route with destination-cidr-block %s in route table %s", cidr, table)
		}
		if r.Routes[i].Gateway == "local" {
			return Errorf("InvalidParameterValue", "cannot remove local route %s in route table %s", cidr, table)
		}
		r.Routes = slices.Delete(r.Routes, i, i+1)
		return Put(t, r)
	})
}

// AssociateRouteTable makes a table that of a subnet and returns the id of the
// association.
func (c *Cloud) AssociateRouteTable(ctx context.Context, region, table, subnet string) (id string, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		r, err := t.routeTable(table)
		if err != nil {
			return err
		}
		s, err := t.Subnet(subnet)
		if err != nil {
			return err
		}
		if s.VPC != r.VPC {
			return Errorf("InvalidParameterValue", "route table %s and subnet %s belong to different networks", table, subnet)
		}
		all, err := All[RouteTable](t)
		if err != nil {
			return err
		}
		for _, o := range all {
			for _, a := range o.Associations {
				switch {
				case a.Subnet != subnet:
				case o.ID == table:
					id = a.ID // done before
					return nil
				default:
					return Errorf("Resource.AlreadyAssociated", "the specified association for route table %s conflicts with an existing association", table)
				}
			}
		}
		id = NewID("rtbassoc")
		r.Associations = append(r.Associations, RouteAssociation{ID: id, Subnet: subnet})
		return Put(t, r)
	})
	return id, err
}

// DisassociateRouteTable ends the association of a table with a subnet.
func (c *Cloud) DisassociateRouteTable(ctx context.Context, region, association string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		all, err := All[RouteTable](t)
		if err != nil {
			return err
		}
		for _, r := range all {
			i := slices.IndexFunc(r.Associations, func(a RouteAssociation) bool { return a.ID == association })
			if i < 0 {
				continue
			}
			if r.Associations[i].Main {
				return Errorf("InvalidParameterValue", "cannot disassociate the main route table association %s", association)
			}
			r.Associations = slices.Delete(r.Associations, i, i+1)
			return Put(t, r)
		}
		return Errorf("InvalidAssociationID.NotFound", "The association ID '%s' does not exist", association)
	})
}
