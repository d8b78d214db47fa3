package network

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
	"github.com/ingot-build/ingot/internal/localcloud/instancetype"
)

type spotPrice struct {
	Type    string `xml:"instanceType"`
	Product string `xml:"productDescription"`
	Price   string `xml:"spotPrice"`
	Time    string `xml:"timestamp"`
	Zone    string `xml:"availabilityZone"`
	ZoneID  string `xml:"availabilityZoneId"`
}

var spotPriceFilters = ec2wire.FilterBy[spotPrice]{
	"availability-zone":    func(p spotPrice) []string { return ec2wire.One(p.Zone) },
	"availability-zone-id": func(p spotPrice) []string { return ec2wire.One(p.ZoneID) },
	"instance-type":        func(p spotPrice) []string { return ec2wire.One(p.Type) },
	"product-description":  func(p spotPrice) []string { return ec2wire.One(p.Product) },
	"spot-price":           func(p spotPrice) []string { return ec2wire.One(p.Price) },
	"timestamp":            func(p spotPrice) []string { return ec2wire.One(p.Time) },
}

// spotProducts are what a price is for, with what their licence makes of it.
var spotProducts = []struct {
	name   string
	factor float64
}{{"Linux/UNIX", 1}, {"Red Hat Enterprise Linux", 1.5}, {"SUSE Linux", 1.4}, {"Windows", 1.8}}

type spotPricesIn struct {
	listIn
	Types    []string   `q:"InstanceType"`
	Products []string   `q:"ProductDescription"`
	Zone     string     `q:"AvailabilityZone"`
	ZoneID   string     `q:"AvailabilityZoneId"`
	Start    *time.Time `q:"StartTime"`
	End      *time.Time `q:"EndTime"`
}

type spotPricesOut struct {
	Prices []spotPrice `xml:"spotPriceHistorySet>item"`
	Next   string      `xml:"nextToken,omitempty"`
}

// spotPrices answers with the one price that each type has in each zone: here
// prices do not change, so it has been in effect since before any start.
func (a *api) spotPrices(_ context.Context, c *awswire.Call, in *spotPricesIn) (*spotPricesOut, error) {
	if in.Start != nil && in.End != nil && in.End.Before(*in.Start) {
		return nil, awswire.Errorf("InvalidParameterValue", "The end time is before the start time")
	}
	for _, want := range []string{in.Zone, in.ZoneID} {
		if _, ok := localcloud.ZoneOf(c.Region, want); want != "" && !ok {
			return nil, awswire.Errorf("InvalidParameterValue", "Invalid availability zone: [%s]", want)
		}
	}
	kinds, err := pick(typesIn(c.Region), in.Types, func(k instancetype.Type) string { return k.Name }, func(name string) error {
		return awswire.Errorf("InvalidParameterValue", "Invalid instance type: %s", name)
	})
	if err != nil {
		return nil, err
	}
	since := awswire.Time(time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC))
	var all []spotPrice
	for _, k := range kinds {
		for n, z := range localcloud.Zones(c.Region) {
			if in.Zone != "" && in.Zone != z.Name || in.ZoneID != "" && in.ZoneID != z.ID || !k.OfferedIn(z.Name) {
				continue
			}
			for _, p := range spotProducts {
				if len(in.Products) > 0 && !slices.Contains(in.Products, p.name) && !slices.Contains(in.Products, p.name+" (Amazon VPC)") {
					continue
				}
				all = append(all, spotPrice{
					Type: k.Name, Product: p.name, Zone: z.Name, ZoneID: z.ID, Time: since,
					Price: fmt.Sprintf("%.6f", k.SpotUSD()*p.factor*(1+float64(n)/20)),
				})
			}
		}
	}
	if all, err = spotPriceFilters.Match(in.Filters, all, noTags[spotPrice]); err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 1, 1000)
	if err != nil {
		return nil, err
	}
	return &spotPricesOut{Prices: page, Next: next}, in.Check()
}
