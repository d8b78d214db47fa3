package localcloud

import (
	"context"
	"slices"
	"strings"
	"time"
	"unicode/utf8"
)

// Limits of security groups.
// https://docs.aws.amazon.com/vpc/latest/userguide/amazon-vpc-limits.html
const (
	maxRules     = 60 // in one direction
	maxGroupText = 255
)

func everythingOut() SecurityRule {
	return SecurityRule{ID: NewID("sgr"), Egress: true, Protocol: "-1", From: -1, To: -1, CIDR4: "0.0.0.0/0", Tags: Tags{}}
}

// SecurityGroupParams are those of CreateSecurityGroup.
type SecurityGroupParams struct {
	Name, Description string
	VPC               string // "": the default one
	Tags              Tags
}

// CreateSecurityGroup makes a group that lets everything out and nothing in.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateSecurityGroup.html
func (c *Cloud) CreateSecurityGroup(ctx context.Context, region string, p SecurityGroupParams) (g SecurityGroup, err error) {
	if err := checkGroupText("groupName", p.Name); err != nil {
		return g, err
	}
	if err := checkGroupText("groupDescription", p.Description); err != nil {
		return g, err
	}
	switch {
	case p.Name == "" || p.Description == "":
		return g, Errorf("MissingParameter", "A security group needs groupName and groupDescription")
	case strings.HasPrefix(p.Name, "sg-"):
		return g, Errorf("InvalidParameterValue", "Invalid value '%s' for groupName: it must not begin with sg-", p.Name)
	case strings.TrimSpace(p.Name) == "default":
		return g, Errorf("InvalidParameterValue", "Cannot use reserved security group name: default")
	}
	err = c.Update(ctx, region, func(t *Tx) error {
		vpc := p.VPC
		if vpc == "" {
			v, ok, err := t.DefaultVPC()
			if err != nil {
				return err
			}
			if !ok {
				return Errorf("VPCIdNotSpecified", "No default VPC for this user")
			}
			vpc = v.ID
		} else if _, err := t.VPC(vpc); err != nil {
			return err
		}
		all, err := All[SecurityGroup](t)
		if err != nil {
			return err
		}
		if slices.ContainsFunc(all, func(o SecurityGroup) bool { return o.VPC == vpc && o.Name == p.Name }) {
			return Errorf("InvalidGroup.Duplicate", "The security group '%s' already exists for VPC '%s'", p.Name, vpc)
		}
		g = SecurityGroup{ID: NewID("sg"), Name: p.Name, Description: p.Description, VPC: vpc, Rules: []SecurityRule{everythingOut()}, Tags: p.Tags.Clone()}
		return Put(t, g)
	})
	return g, err
}

// checkGroupText refuses letters that names and descriptions may not have.
func checkGroupText(parameter, s string) error {
	if n := utf8.RuneCountInString(s); n > maxGroupText {
		return Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid: %d characters are more than %d", s, parameter, n, maxGroupText)
	}
	for _, r := range s {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune(" ._-:/()#,@[]+=&;{}!$*", r) {
			continue
		}
		return Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. Character sets beyond ASCII are not supported: %q", s, parameter, r)
	}
	return nil
}

// SecurityGroup returns the group with an id, or InvalidGroup.NotFound.
func (t *Tx) SecurityGroup(id string) (SecurityGroup, error) {
	if !ValidID("sg", id) {
		return SecurityGroup{}, Errorf("InvalidGroupId.Malformed", "Invalid id: \"%s\" (expecting \"sg-...\")", id)
	}
	g, ok, err := Get[SecurityGroup](t, id)
	if err == nil && !ok {
		err = Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist", id)
	}
	return g, err
}

// SecurityGroupNamed returns the group of a VPC with a name, of the default
// VPC for "".
func (t *Tx) SecurityGroupNamed(vpc, name string) (SecurityGroup, error) {
	if vpc == "" {
		v, ok, err := t.DefaultVPC()
		if err != nil {
			return SecurityGroup{}, err
		}
		if !ok {
			return SecurityGroup{}, Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist: there is no default VPC in %s, use group ids", name, t.Region)
		}
		vpc = v.ID
	}
	all, err := All[SecurityGroup](t)
	if err != nil {
		return SecurityGroup{}, err
	}
	i := slices.IndexFunc(all, func(g SecurityGroup) bool { return g.VPC == vpc && g.Name == name })
	if i < 0 {
		return SecurityGroup{}, Errorf("InvalidGroup.NotFound", "The security group '%s' does not exist in VPC '%s'", name, vpc)
	}
	return all[i], nil
}

// groupBy returns a group by id or, with an empty id, by its name in the
// default VPC.
func (t *Tx) groupBy(id, name string) (SecurityGroup, error) {
	switch {
	case id != "":
		return t.SecurityGroup(id)
	case name != "":
		return t.SecurityGroupNamed("", name)
	}
	return SecurityGroup{}, Errorf("MissingParameter", "The request must contain the parameter groupName or groupId")
}

// DeleteSecurityGroup removes a group that nothing uses, named by id or, with
// an empty id, by its name in the default VPC. It returns the id.
func (c *Cloud) DeleteSecurityGroup(ctx context.Context, region, id, name string) (string, error) {
	err := c.Update(ctx, region, func(t *Tx) error {
		g, err := t.groupBy(id, name)
		if err != nil {
			return err
		}
		id = g.ID
		if g.Name == "default" {
			return Errorf("CannotDelete", "the specified group: \"%s\" name: \"%s\" cannot be deleted by a user", g.ID, g.Name)
		}
		instances, ierr := All[Instance](t)
		groups, gerr := All[SecurityGroup](t)
		if err := firstError(ierr, gerr); err != nil {
			return err
		}
		used := slices.ContainsFunc(instances, func(i Instance) bool { return holdsAddress(i) && slices.Contains(i.SecurityGroups, g.ID) }) ||
			slices.ContainsFunc(groups, func(o SecurityGroup) bool {
				return o.ID != g.ID && slices.ContainsFunc(o.Rules, func(r SecurityRule) bool { return r.Group == g.ID })
			})
		if used {
			return Errorf("DependencyViolation", "resource %s has a dependent object", g.ID)
		}
		return Delete[SecurityGroup](t, g.ID)
	})
	return id, err
}

// ports makes the running instances of a group follow its rules.
func (t *Tx) ports(group string) error {
	instances, err := All[Instance](t)
	if err != nil {
		return err
	}
	for _, i := range instances {
		if slices.Contains(i.SecurityGroups, group) {
			if err := t.readdress(i); err != nil {
				return err
			}
		}
	}
	return nil
}

// readdress makes a running machine follow its addresses and open ports. One
// that is about to run finds them by itself.
func (t *Tx) readdress(i Instance) error {
	if i.State != "running" {
		return nil
	}
	return t.Later("instance-ports", i.ID, time.Time{}, nil)
}

// wellKnown are the ports that a rule for very many ports opens: each one
// costs a listener on this machine.
var wellKnown = []int{
	22, 25, 53, 80, 110, 143, 443, 465, 587, 993, 995, 1433, 1521, 2375, 2376, 2379, 3000, 3128, 3306, 3389,
	4443, 5000, 5432, 5601, 5671, 5672, 5900, 5985, 5986, 6379, 6443, 7000, 8000, 8008, 8080, 8081, 8086, 8088,
	8443, 8500, 8888, 9000, 9042, 9090, 9092, 9093, 9100, 9200, 9300, 9418, 10250, 11211, 15672, 27017,
}

// maxRange is the largest range of ports of which each one is opened.
const maxRange = 64

// OpenPorts returns the TCP ports, sorted, on which groups (ids) let this
// machine in. It counts as being in every range of addresses, and in no group
// or prefix list. Of a rule for more than 64 ports, "all traffic" included,
// only well-known ones are opened.
func (c *Cloud) OpenPorts(t *Tx, groups []string) ([]int, error) {
	open := map[int]bool{}
	for _, id := range groups {
		g, ok, err := Get[SecurityGroup](t, id)
		if err != nil {
			return nil, err
		}
		if !ok {
			continue // deleted with a forced clean-up: opens nothing
		}
		for _, r := range g.Rules {
			if r.Egress || r.CIDR4 == "" && r.CIDR6 == "" || r.Protocol != "tcp" && r.Protocol != "-1" {
				continue
			}
			from, to := r.From, r.To
			if r.Protocol == "-1" {
				from, to = 0, 65535
			}
			if to-from < maxRange {
				for p := max(from, 1); p <= to; p++ {
					open[p] = true
				}
				continue
			}
			for _, p := range wellKnown {
				if p >= from && p <= to {
					open[p] = true
				}
			}
		}
	}
	out := make([]int, 0, len(open))
	for p := range open {
		out = append(out, p)
	}
	slices.Sort(out)
	return out, nil
}
