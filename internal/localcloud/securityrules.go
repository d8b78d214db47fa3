package localcloud

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Permission is one IpPermission of a request: a protocol and ports for any
// number of peers.
type Permission struct {
	Protocol    string
	From, To    *int // nil: not said
	CIDR4       []Peer
	CIDR6       []Peer
	Groups      []Peer
	PrefixLists []Peer
}

// A Peer is who a [Permission] is for.
type Peer struct {
	ID          string // range, group id or prefix list
	Name        string // of a group, instead of its id
	Description string
}

// A GroupChange names a security group (by id or, with an empty id, by its name
// in the default VPC), one direction of its rules and some of them.
type GroupChange struct {
	ID, Name    string
	Egress      bool
	Permissions []Permission
	Rules       []string // ids, where the call takes them instead
	Tags        Tags     // of new rules
}

// AuthorizeRules adds rules and returns them. Running instances follow by
// jobs.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AuthorizeSecurityGroupIngress.html
func (c *Cloud) AuthorizeRules(ctx context.Context, region string, p GroupChange) (added []SecurityRule, g SecurityGroup, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if g, err = t.groupBy(p.ID, p.Name); err != nil {
			return err
		}
		if added, err = t.rules(g, p.Egress, p.Permissions); err != nil {
			return err
		}
		for i := range added {
			r := &added[i]
			if slices.ContainsFunc(added[:i], r.same) {
				return Errorf("InvalidParameterValue", "The same permission must not appear multiple times: %s", r)
			}
			if slices.ContainsFunc(g.Rules, r.same) {
				return Errorf("InvalidPermission.Duplicate", "the specified rule \"%s\" already exists", r)
			}
			r.ID, r.Tags = NewID("sgr"), p.Tags.Clone()
		}
		g.Rules = append(g.Rules, added...)
		if n := g.count(p.Egress); n > maxRules {
			return Errorf("RulesPerSecurityGroupLimitExceeded", "The maximum number of rules per security group has been reached: %d of %d", n, maxRules)
		}
		return firstError(Put(t, g), t.ports(g.ID))
	})
	return added, g, err
}

// RevokeRules removes rules, by what they say or by their ids, and returns
// them. Running instances follow by jobs.
func (c *Cloud) RevokeRules(ctx context.Context, region string, p GroupChange) (removed []SecurityRule, g SecurityGroup, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if g, err = t.groupBy(p.ID, p.Name); err != nil {
			return err
		}
		if len(p.Rules) > 0 && len(p.Permissions) > 0 {
			return Errorf("InvalidParameterCombination", "The parameter securityGroupRuleIds cannot be used with ipPermissions")
		}
		removed = nil
		take := func(match func(SecurityRule) bool) bool {
			i := slices.IndexFunc(g.Rules, match)
			if i < 0 {
				return false
			}
			removed = append(removed, g.Rules[i])
			g.Rules = slices.Delete(g.Rules, i, i+1)
			return true
		}
		for _, id := range p.Rules {
			if !take(func(r SecurityRule) bool { return r.ID == id && r.Egress == p.Egress }) {
				return noRule(id)
			}
		}
		if len(p.Rules) == 0 {
			rules, err := t.rules(g, p.Egress, p.Permissions)
			if err != nil {
				return err
			}
			for _, r := range rules {
				if !take(r.same) {
					return Errorf("InvalidPermission.NotFound", "The specified rule does not exist in this security group: %s", &r)
				}
			}
		}
		return firstError(Put(t, g), t.ports(g.ID))
	})
	return removed, g, err
}

func noRule(id string) error {
	return Errorf("InvalidSecurityGroupRuleId.NotFound", "The security group rule ID '%s' does not exist", id)
}

// SetRuleDescriptions sets the descriptions of existing rules, named by what
// they say or, in byID, by their ids; "" removes one.
func (c *Cloud) SetRuleDescriptions(ctx context.Context, region string, p GroupChange, byID map[string]string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		g, err := t.groupBy(p.ID, p.Name)
		if err != nil {
			return err
		}
		for id, text := range byID {
			if err := checkGroupText("description", text); err != nil {
				return err
			}
			i := slices.IndexFunc(g.Rules, func(r SecurityRule) bool { return r.ID == id && r.Egress == p.Egress })
			if i < 0 {
				return noRule(id)
			}
			g.Rules[i].Description = text
		}
		if len(p.Permissions) == 0 {
			return Put(t, g)
		}
		rules, err := t.rules(g, p.Egress, p.Permissions)
		if err != nil {
			return err
		}
		for _, r := range rules {
			i := slices.IndexFunc(g.Rules, r.same)
			if i < 0 {
				return Errorf("InvalidPermission.NotFound", "The specified rule does not exist in this security group: %s", &r)
			}
			g.Rules[i].Description = r.Description
		}
		return Put(t, g)
	})
}

// A RuleChange replaces what a rule says.
type RuleChange struct {
	Rule string
	To   Permission // with one peer
}

// ModifyRules replaces what rules say; they keep their ids.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifySecurityGroupRules.html
func (c *Cloud) ModifyRules(ctx context.Context, region, group string, changes []RuleChange) error {
	return c.Update(ctx, region, func(t *Tx) error {
		g, err := t.SecurityGroup(group)
		if err != nil {
			return err
		}
		for _, ch := range changes {
			i := slices.IndexFunc(g.Rules, func(r SecurityRule) bool { return r.ID == ch.Rule })
			if i < 0 {
				return noRule(ch.Rule)
			}
			rules, err := t.rules(g, g.Rules[i].Egress, []Permission{ch.To})
			if err != nil {
				return err
			}
			if len(rules) != 1 {
				return Errorf("InvalidParameterCombination", "A security group rule has exactly one of cidrIpv4, cidrIpv6, prefixListId and referencedGroupId")
			}
			r := rules[0]
			r.ID, r.Tags = g.Rules[i].ID, g.Rules[i].Tags
			if slices.ContainsFunc(g.Rules, func(o SecurityRule) bool { return o.ID != r.ID && o.same(r) }) {
				return Errorf("InvalidPermission.Duplicate", "the specified rule \"%s\" already exists", &r)
			}
			g.Rules[i] = r
		}
		return firstError(Put(t, g), t.ports(g.ID))
	})
}

// count is the number of rules in one direction.
func (g SecurityGroup) count(egress bool) (n int) {
	for _, r := range g.Rules {
		if r.Egress == egress {
			n++
		}
	}
	return n
}

// same reports whether two rules let the same pass.
func (r SecurityRule) same(o SecurityRule) bool {
	return r.Egress == o.Egress && r.Protocol == o.Protocol && r.From == o.From && r.To == o.To &&
		r.CIDR4 == o.CIDR4 && r.CIDR6 == o.CIDR6 && r.Group == o.Group && r.PrefixList == o.PrefixList
}

func (r *SecurityRule) String() string {
	peer := r.CIDR4 + r.CIDR6 + r.Group + r.PrefixList
	if r.Protocol == "-1" {
		return fmt.Sprintf("peer: %s, ALL, ALLOW", peer)
	}
	return fmt.Sprintf("peer: %s, %s, from port: %d, to port: %d, ALLOW", peer, strings.ToUpper(r.Protocol), r.From, r.To)
}

// rules are permissions taken apart: one rule for each peer, without ids.
func (t *Tx) rules(g SecurityGroup, egress bool, permissions []Permission) ([]SecurityRule, error) {
	if len(permissions) == 0 {
		return nil, Errorf("MissingParameter", "The request must contain the parameter ipPermissions, or a protocol and its peers")
	}
	var out []SecurityRule
	for _, p := range permissions {
		base, err := portsOf(p)
		if err != nil {
			return nil, err
		}
		base.Egress = egress
		before := len(out)
		add := func(peer Peer, set func(r *SecurityRule) error) error {
			r := base
			r.Description = peer.Description
			if err := checkGroupText("description", r.Description); err != nil {
				return err
			}
			if err := set(&r); err != nil {
				return err
			}
			out = append(out, r)
			return nil
		}
		for _, peer := range p.CIDR4 {
			if err := add(peer, func(r *SecurityRule) (err error) { r.CIDR4, err = peerRange(peer.ID, true); return err }); err != nil {
				return nil, err
			}
		}
		for _, peer := range p.CIDR6 {
			if err := add(peer, func(r *SecurityRule) (err error) { r.CIDR6, err = peerRange(peer.ID, false); return err }); err != nil {
				return nil, err
			}
		}
		for _, peer := range p.Groups {
			if err := add(peer, func(r *SecurityRule) (err error) { r.Group, err = t.peerGroup(g.VPC, peer); return err }); err != nil {
				return nil, err
			}
		}
		for _, peer := range p.PrefixLists {
			if err := add(peer, func(r *SecurityRule) (err error) { r.PrefixList, err = t.peerList(peer.ID); return err }); err != nil {
				return nil, err
			}
		}
		if len(out) == before {
			return nil, Errorf("MissingParameter", "A permission needs a peer: a CIDR range, a security group or a prefix list")
		}
	}
	return out, nil
}

var protocols = map[string]string{"6": "tcp", "17": "udp", "1": "icmp", "58": "icmpv6", "all": "-1"}

// portsOf checks a permission's protocol and ports.
func portsOf(p Permission) (r SecurityRule, err error) {
	r.Protocol = strings.ToLower(p.Protocol)
	if name, ok := protocols[r.Protocol]; ok {
		r.Protocol = name
	}
	r.From, r.To = -1, -1
	if p.From != nil {
		r.From = *p.From
	}
	if p.To != nil {
		r.To = *p.To
	}
	switch r.Protocol {
	case "":
		return r, Errorf("MissingParameter", "The request must contain the parameter ipProtocol")
	case "-1":
		r.From, r.To = -1, -1 // ports say nothing here
	case "tcp", "udp":
		switch {
		case p.From == nil || p.To == nil:
			return r, Errorf("InvalidParameterValue", "Invalid value 'Must specify both from and to ports with TCP/UDP.' for portRange.")
		case r.From < 0 || r.To > 65535 || r.To < 0 || r.From > r.To:
			return r, Errorf("InvalidParameterValue", "Invalid %s port range (%d,%d)", strings.ToUpper(r.Protocol), r.From, r.To)
		}
	case "icmp", "icmpv6":
		switch {
		case p.From == nil && p.To == nil && r.Protocol == "icmp":
			return r, Errorf("InvalidParameterValue", "Invalid value 'Must specify both ICMP type and code' for portRange.")
		case r.From < -1 || r.From > 255 || r.To < -1 || r.To > 255 || r.From == -1 && r.To != -1:
			return r, Errorf("InvalidParameterValue", "ICMP code (%d) and type (%d) are invalid together", r.To, r.From)
		}
	default:
		if n, err := strconv.Atoi(r.Protocol); err != nil || n < 0 || n > 255 {
			return r, Errorf("InvalidPermission.Malformed", "Unsupported IP protocol \"%s\" - supported: [tcp, udp, icmp, icmpv6, -1, 0 to 255]", p.Protocol)
		}
		r.From, r.To = -1, -1
	}
	return r, nil
}

// peerRange returns a range in its canonical form.
func peerRange(s string, v4 bool) (string, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4() != v4 {
		return "", Errorf("InvalidParameterValue", "CIDR block %s is malformed", s)
	}
	return p.Masked().String(), nil
}

func (t *Tx) peerGroup(vpc string, p Peer) (string, error) {
	if p.ID != "" {
		g, err := t.SecurityGroup(p.ID)
		if err == nil && g.VPC != vpc {
			err = Errorf("InvalidGroup.NotFound", "You have specified two resources that belong to different networks: %s is in %s", g.ID, g.VPC)
		}
		return g.ID, err
	}
	g, err := t.SecurityGroupNamed(vpc, p.Name)
	return g.ID, err
}

// A PrefixList is the provider's set of ranges for one of its services.
type PrefixList struct {
	ID, Name string
	CIDRs    []string
}

// PrefixLists returns the prefix lists of a region.
func PrefixLists(region string) []PrefixList {
	list := func(service string, cidrs ...string) PrefixList {
		name := "com.amazonaws." + region + "." + service
		sum := sha256.Sum256([]byte(name))
		return PrefixList{ID: "pl-" + hex.EncodeToString(sum[:4]), Name: name, CIDRs: cidrs}
	}
	// Ranges for documentation: the services are on this machine.
	return []PrefixList{list("dynamodb", "198.51.100.0/24"), list("s3", "203.0.113.0/24")}
}

func (t *Tx) peerList(id string) (string, error) {
	if !slices.ContainsFunc(PrefixLists(t.Region), func(l PrefixList) bool { return l.ID == id }) {
		return "", Errorf("InvalidPrefixListID.NotFound", "The prefix list ID '%s' does not exist", id)
	}
	return id, nil
}
