package localcloud

import (
	"cmp"
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"time"
)

// A Fleet is a set of instances that one request launched, each of the first
// kind that could be had.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateFleet.html
type Fleet struct {
	ID        string
	State     string // active deleted_running deleted_terminating deleted
	Params    FleetParams
	Instances []FleetInstances
	Errors    []FleetError
	OnDemand  float64 // capacity that was launched
	Spot      float64
	Created   time.Time
	Tags      Tags
}

// RecordKind implements [Record].
func (Fleet) RecordKind() string { return "fleet" }

// RecordID implements [Record].
func (f Fleet) RecordID() string { return f.ID }

// FleetParams are those of CreateFleet.
type FleetParams struct {
	Type         string // instant
	Configs      []FleetConfig
	Total        int
	OnDemand     int
	Spot         int
	DefaultType  string // spot on-demand; what of Total is neither of the two
	SpotOptions  FleetOptions
	OnDemandOpts FleetOptions
	ClientToken  string `json:",omitempty"`
	Context      string `json:",omitempty"`
	InstanceTags Tags
	Tags         Tags
}

// FleetOptions are SpotOptions or OnDemandOptions.
type FleetOptions struct {
	Strategy     string
	Interruption string // of spot instances
	Least        int    // MinTargetCapacity: less than this is nothing
	SingleType   bool
	SingleZone   bool
	MaxPrice     string // of all
}

// A FleetConfig is a launch template with what replaces parts of it.
type FleetConfig struct {
	Template  LaunchTemplateChoice
	Overrides []FleetOverride
}

// A FleetOverride replaces parts of a launch template.
type FleetOverride struct {
	Launch   LaunchSpec // type, subnet, zone, image …
	MaxPrice string
	Priority *float64
	Weight   *float64
}

// FleetInstances are instances of a fleet that are alike.
type FleetInstances struct {
	IDs                []string
	Type, Zone, Subnet string
	Lifecycle          string // spot on-demand
	Template           LaunchTemplateChoice
	Override           FleetOverride
	Platform           string
}

// A FleetError says why one kind of instance was not launched.
type FleetError struct {
	Code, Message string
	Lifecycle     string
	Template      LaunchTemplateChoice
	Override      FleetOverride
}

var (
	spotStrategies     = []string{"lowest-price", "diversified", "capacity-optimized", "capacity-optimized-prioritized", "price-capacity-optimized"}
	onDemandStrategies = []string{"lowest-price", "prioritized"}
)

func (p *FleetParams) check() error {
	switch {
	case p.Type != "instant":
		return Errorf("UnsupportedOperation", "The local cloud makes fleets of the type instant only, not '%s'", or(p.Type, "maintain"))
	case p.Total < 1 || p.Total > maxLaunch:
		return Errorf("InvalidParameterValue", "Value (%d) for parameter TotalTargetCapacity is invalid. It is from 1 to %d", p.Total, maxLaunch)
	case p.DefaultType != "" && p.DefaultType != "spot" && p.DefaultType != "on-demand":
		return badValue(p.DefaultType, "DefaultTargetCapacityType", "spot", "on-demand")
	case p.OnDemand < 0 || p.Spot < 0 || p.OnDemand+p.Spot > p.Total:
		return Errorf("InvalidParameterCombination", "The on-demand and spot target capacities of %d and %d are more than the total of %d", p.OnDemand, p.Spot, p.Total)
	case len(p.Configs) == 0:
		return Errorf("MissingParameter", "The request must contain the parameter LaunchTemplateConfigs")
	case p.SpotOptions.Strategy != "" && !slices.Contains(spotStrategies, p.SpotOptions.Strategy):
		return badValue(p.SpotOptions.Strategy, "SpotOptions.AllocationStrategy", spotStrategies...)
	case p.OnDemandOpts.Strategy != "" && !slices.Contains(onDemandStrategies, p.OnDemandOpts.Strategy):
		return badValue(p.OnDemandOpts.Strategy, "OnDemandOptions.AllocationStrategy", onDemandStrategies...)
	}
	for _, price := range []string{p.SpotOptions.MaxPrice, p.OnDemandOpts.MaxPrice} {
		if err := checkPrice(price); err != nil {
			return err
		}
	}
	for _, c := range p.Configs {
		for _, o := range c.Overrides {
			if o.Weight != nil && (*o.Weight <= 0 || *o.Weight > 999) {
				return Errorf("InvalidParameterValue", "Value (%g) for parameter WeightedCapacity is invalid.", *o.Weight)
			}
			if err := checkPrice(o.MaxPrice); err != nil {
				return err
			}
		}
	}
	rest := p.Total - p.OnDemand - p.Spot
	if or(p.DefaultType, "on-demand") == "spot" {
		p.Spot += rest
	} else {
		p.OnDemand += rest
	}
	return nil
}

// CreateFleet launches as much capacity as it can get, in the order of the
// allocation strategy. What cannot be had is told in the fleet's errors and is
// no error of the call, also when nothing could be had.
func (c *Cloud) CreateFleet(ctx context.Context, region string, p FleetParams) (f Fleet, err error) {
	asked := p
	if err := p.check(); err != nil {
		return f, err
	}
	err = c.Update(ctx, region, func(t *Tx) error {
		ids, used, err := t.Token("CreateFleet", p.ClientToken, asked)
		if err != nil {
			return err
		}
		if used {
			f, err = t.findFleet(ids[0])
			return err
		}
		f = Fleet{ID: NewID("fleet"), State: "active", Params: p, Created: t.Now, Tags: p.Tags.Clone()}
		kinds, err := t.fleetKinds(p.Configs)
		if err != nil {
			return err
		}
		if f.OnDemand, err = t.fillFleet(&f, kinds, p.OnDemand, "on-demand", p.OnDemandOpts); err != nil {
			return err
		}
		if f.Spot, err = t.fillFleet(&f, kinds, p.Spot, "spot", p.SpotOptions); err != nil {
			return err
		}
		return errors.Join(Put(t, f), t.SaveToken("CreateFleet", p.ClientToken, asked, f.ID))
	})
	return f, err
}

// A fleetKind is one kind of instance that a fleet may have.
type fleetKind struct {
	spec     LaunchSpec
	template LaunchTemplateChoice
	override FleetOverride
	weight   float64
}

// fleetKinds lists the kinds of instances of a fleet in the order given. One
// that leaves its zone open is listed for each zone.
func (t *Tx) fleetKinds(configs []FleetConfig) (out []fleetKind, err error) {
	for _, c := range configs {
		l, v, err := t.LaunchTemplateOf(c.Template)
		if err != nil {
			return nil, err
		}
		template := LaunchTemplateChoice{ID: l.ID, Version: c.Template.Version}
		overrides := c.Overrides
		if len(overrides) == 0 {
			overrides = []FleetOverride{{}}
		}
		for _, o := range overrides {
			k := fleetKind{spec: o.Launch.Over(v.Spec), template: template, override: o, weight: 1}
			k.spec.Market = nil
			if o.Weight != nil {
				k.weight = *o.Weight
			}
			if !k.spec.placed() {
				for _, z := range Zones(t.Region) {
					in := k
					in.spec.Placement = &LaunchPlacement{}
					if k.spec.Placement != nil {
						*in.spec.Placement = *k.spec.Placement
					}
					in.spec.Placement.Zone = z.Name
					out = append(out, in)
				}
				continue
			}
			out = append(out, k)
		}
	}
	return out, nil
}

// placed reports whether a launch says in which zone it is to be.
func (s *LaunchSpec) placed() bool {
	return s.SubnetID != "" || len(s.Interfaces) > 0 && s.Interfaces[0].SubnetID != "" ||
		s.Placement != nil && (s.Placement.Zone != "" || s.Placement.ZoneID != "")
}

// fillFleet launches target capacity of one lifecycle and returns how much.
func (t *Tx) fillFleet(f *Fleet, kinds []fleetKind, target int, lifecycle string, o FleetOptions) (got float64, err error) {
	if target == 0 {
		return 0, nil
	}
	type chosen struct {
		kind  fleetKind
		plan  launchPlan
		count int
	}
	var able []chosen
	for _, k := range kinds {
		plan, err := t.fleetPlan(k, target, lifecycle, o)
		var e *Error
		if errors.As(err, &e) {
			f.Errors = append(f.Errors, FleetError{e.Code, e.Message, lifecycle, k.template, k.override})
			continue
		}
		if err != nil {
			return 0, err
		}
		able = append(able, chosen{kind: k, plan: plan})
	}
	switch o.Strategy {
	case "prioritized", "capacity-optimized-prioritized":
		slices.SortStableFunc(able, func(a, b chosen) int { return cmp.Compare(priority(a.kind), priority(b.kind)) })
	case "capacity-optimized", "diversified":
	default:
		slices.SortStableFunc(able, func(a, b chosen) int { return cmp.Compare(unitPrice(a.kind, a.plan), unitPrice(b.kind, b.plan)) })
	}
	if o.SingleType || o.SingleZone {
		able = slices.DeleteFunc(able, func(a chosen) bool {
			return o.SingleType && a.plan.kind.Name != able[0].plan.kind.Name || o.SingleZone && a.plan.subnet.Zone != able[0].plan.subnet.Zone
		})
	}
	rest := float64(target)
	for n := 0; len(able) > 0 && rest > 0; n = (n + 1) % len(able) {
		a := &able[n]
		count := int(math.Ceil(rest / a.kind.weight))
		if o.Strategy == "diversified" {
			count = 1
		}
		a.count += count
		rest -= float64(count) * a.kind.weight
	}
	if got = float64(target) - rest; len(able) == 0 || got < float64(o.Least) {
		return 0, nil
	}
	for i := range able {
		if able[i].count == 0 {
			continue
		}
		if err := t.launchKind(f, able[i].kind, &able[i].plan, able[i].count, lifecycle, o); err != nil {
			return 0, err
		}
	}
	return got, nil
}

// fleetPlan plans instances of a kind, and fails with an [Error] when there
// are none to be had.
func (t *Tx) fleetPlan(k fleetKind, target int, lifecycle string, o FleetOptions) (launchPlan, error) {
	spot := lifecycle == "spot"
	n := int(math.Ceil(float64(target) / k.weight))
	p, err := t.planLaunch(k.spec, n)
	if err != nil {
		return p, err
	}
	if total, err := strconv.ParseFloat(o.MaxPrice, 64); err == nil && total < p.hourly(spot)*float64(n) {
		return p, Errorf("MaxTotalPriceExceeded", "%d instances of the type %s cost %.4f an hour, more than the maximum total price of %s", n, p.kind.Name, p.hourly(spot)*float64(n), o.MaxPrice)
	}
	if spot {
		if err := p.priceAllows(k.override.MaxPrice); err != nil {
			return p, err
		}
		if p.spec.Enclave != nil && *p.spec.Enclave {
			return p, Errorf("InvalidParameterCombination", "Spot instances do not support Nitro Enclaves")
		}
	}
	_, err = t.capacity(&p, n, n, spot)
	return p, err
}

func (t *Tx) launchKind(f *Fleet, k fleetKind, p *launchPlan, count int, lifecycle string, o FleetOptions) error {
	l := launching{template: k.template.ID, fleet: f.ID}
	if lifecycle == "spot" {
		l.market = &LaunchMarket{Type: "spot", MaxPrice: k.override.MaxPrice, Interruption: o.Interruption}
	}
	tags := p.spec.Tags["instance"].Clone()
	for key, v := range f.Params.InstanceTags {
		tags[key] = v
	}
	tags["aws:ec2:fleet-id"] = f.ID
	p.spec.Tags["instance"] = tags
	made, err := t.launch(p, count, l)
	if err != nil {
		return err
	}
	g := FleetInstances{
		Type: p.kind.Name, Zone: p.subnet.Zone, Subnet: p.subnet.ID, Lifecycle: lifecycle,
		Template: k.template, Override: k.override, Platform: p.image.Platform,
	}
	for _, i := range made {
		g.IDs = append(g.IDs, i.ID)
	}
	f.Instances = append(f.Instances, g)
	return nil
}

func priority(k fleetKind) float64 {
	if k.override.Priority == nil {
		return math.Inf(1)
	}
	return *k.override.Priority
}

func unitPrice(k fleetKind, p launchPlan) float64 { return p.kind.SpotUSD() / k.weight }

func (t *Tx) findFleet(id string) (Fleet, error) {
	if !ValidID("fleet", id) {
		return Fleet{}, Errorf("InvalidFleetId.Malformed", "Invalid id: \"%s\" (expecting \"fleet-...\")", id)
	}
	f, ok, err := Get[Fleet](t, id)
	if err == nil && !ok {
		err = Errorf("InvalidFleetId.NotFound", "The fleet ID '%s' does not exist", id)
	}
	return f, err
}

// Fleets returns the fleets with the ids; those of instant fleets must be
// given, as with EC2: without any there are none.
func (c *Cloud) Fleets(ctx context.Context, region string, ids []string) (out []Fleet, err error) {
	err = c.View(ctx, region, func(t *Tx) error {
		for _, id := range ids {
			f, err := t.findFleet(id)
			if err != nil {
				return err
			}
			out = append(out, f)
		}
		return nil
	})
	return out, err
}

// FleetMembers returns the instances of a fleet that are not terminated.
func (c *Cloud) FleetMembers(ctx context.Context, region, id string) (out []Instance, err error) {
	err = c.View(ctx, region, func(t *Tx) error {
		if _, err := t.findFleet(id); err != nil {
			return err
		}
		all, err := t.Instances(nil)
		for _, i := range all {
			if i.Fleet == id && i.State != "terminated" && i.State != "shutting-down" {
				out = append(out, i)
			}
		}
		return err
	})
	return out, err
}

// A FleetRemoval is what became of one fleet that was to be deleted.
type FleetRemoval struct {
	ID, Previous, Current string
	Code, Message         string // why not
}

// DeleteFleets deletes fleets, each by itself. Those of the type instant take
// their instances with them and must be told to.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DeleteFleets.html
func (c *Cloud) DeleteFleets(ctx context.Context, region string, ids []string, terminate bool) (out []FleetRemoval, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		out = nil
		for _, id := range ids {
			r, err := t.deleteFleet(id, terminate)
			if err != nil {
				return err
			}
			out = append(out, r)
		}
		return nil
	})
	return out, err
}

func (t *Tx) deleteFleet(id string, terminate bool) (FleetRemoval, error) {
	r := FleetRemoval{ID: id}
	f, err := t.findFleet(id)
	switch CodeOf(err) {
	case "InvalidFleetId.Malformed":
		r.Code, r.Message = "fleetIdMalformed", err.Error()
		return r, nil
	case "InvalidFleetId.NotFound":
		r.Code, r.Message = "fleetIdDoesNotExist", err.Error()
		return r, nil
	}
	if err != nil {
		return r, err
	}
	switch {
	case f.State != "active":
		r.Code, r.Message = "fleetNotInDeletableState", "The fleet is "+f.State
		return r, nil
	case !terminate:
		r.Code, r.Message = "unexpectedError", "A fleet of the type instant is deleted with its instances: set TerminateInstances"
		return r, nil
	}
	all, err := All[Instance](t)
	if err != nil {
		return r, err
	}
	for _, i := range all {
		if i.Fleet != id || i.State == "terminated" || i.State == "shutting-down" || i.APITermination {
			continue
		}
		if err := errors.Join(t.terminate(&i, reasonUser, "User initiated shutdown"), Put(t, i)); err != nil {
			return r, err
		}
	}
	r.Previous, r.Current = f.State, "deleted_terminating"
	f.State = r.Current
	return r, Put(t, f)
}
