package localcloud

import (
	"context"
	"fmt"
	"strings"
	"time"
)

// regions are those of the cloud, with the letters that the ids of their zones
// begin with. The order is that of replies.
var regions = []struct{ name, short string }{
	{"ap-northeast-1", "apne1"},
	{"ap-northeast-2", "apne2"},
	{"ap-northeast-3", "apne3"},
	{"ap-south-1", "aps1"},
	{"ap-southeast-1", "apse1"},
	{"ap-southeast-2", "apse2"},
	{"ca-central-1", "cac1"},
	{"eu-central-1", "euc1"},
	{"eu-north-1", "eun1"},
	{"eu-west-1", "euw1"},
	{"eu-west-2", "euw2"},
	{"eu-west-3", "euw3"},
	{"sa-east-1", "sae1"},
	{"us-east-1", "use1"},
	{"us-east-2", "use2"},
	{"us-west-1", "usw1"},
	{"us-west-2", "usw2"},
}

// Regions returns the names of the regions, sorted.
func Regions() []string {
	out := make([]string, len(regions))
	for i, r := range regions {
		out[i] = r.name
	}
	return out
}

// KnownRegion reports whether there is a region with the name.
func KnownRegion(name string) bool {
	for _, r := range regions {
		if r.name == name {
			return true
		}
	}
	return false
}

// zoneLetters end the names of a region's availability zones.
const zoneLetters = "abc"

// A Zone is an availability zone.
type Zone struct {
	Name   string // us-east-1a
	ID     string // use1-az1
	Region string
}

// Zones returns the availability zones of a region; none for an unknown one.
func Zones(region string) []Zone {
	var out []Zone
	for _, r := range regions {
		if r.name != region {
			continue
		}
		for i, l := range zoneLetters {
			out = append(out, Zone{Name: region + string(l), ID: fmt.Sprintf("%s-az%d", r.short, i+1), Region: region})
		}
	}
	return out
}

// ZoneOf returns the zone of a region with a name or id.
func ZoneOf(region, nameOrID string) (Zone, bool) {
	for _, z := range Zones(region) {
		if z.Name == nameOrID || z.ID == nameOrID {
			return z, true
		}
	}
	return Zone{}, false
}

// ZoneID is the id of a zone, "" for an unknown name.
func ZoneID(name string) string {
	z, _ := ZoneOf(strings.TrimRight(name, zoneLetters), name)
	return z.ID
}

// A founding marks a cloud whose regions have their default VPCs.
type founding struct {
	At time.Time `json:"at"`
}

// RecordKind implements [Record].
func (founding) RecordKind() string { return "founding" }

// RecordID implements [Record].
func (founding) RecordID() string { return "cloud" }

// found gives a new cloud a default VPC in each region, once.
func (c *Cloud) found(ctx context.Context) error {
	var done bool
	look := func(t *Tx) (err error) {
		_, done, err = Get[founding](t, founding{}.RecordID())
		return err
	}
	// The view fails where there is no database yet; Update makes it, and
	// tells of a real fault.
	if err := c.View(ctx, "", look); err == nil && done {
		return nil
	}
	return c.Update(ctx, "", func(t *Tx) error {
		if err := look(t); err != nil || done {
			return err
		}
		for _, r := range Regions() {
			if _, err := t.In(r).makeDefaultVPC(); err != nil {
				return err
			}
		}
		return Put(t, founding{At: t.Now})
	})
}
