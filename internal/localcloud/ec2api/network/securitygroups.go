package network

import (
	"cmp"
	"context"
	"slices"
	"strconv"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) securityGroups() awswire.Operations {
	return awswire.Operations{
		"DescribeSecurityGroups": awswire.Op(a.describeGroups),
		"CreateSecurityGroup":    awswire.Op(a.createGroup),
		"DeleteSecurityGroup":    awswire.Op(a.deleteGroup),
	}
}

type securityGroup struct {
	ID          string        `xml:"groupId"`
	ARN         string        `xml:"securityGroupArn"`
	Name        string        `xml:"groupName"`
	Description string        `xml:"groupDescription"`
	Owner       string        `xml:"ownerId"`
	VPC         string        `xml:"vpcId"`
	Ingress     []permission  `xml:"ipPermissions>item"`
	Egress      []permission  `xml:"ipPermissionsEgress>item"`
	Tags        []ec2wire.Tag `xml:"tagSet>item"`
}

// A permission is an IpPermission of a reply.
type permission struct {
	Protocol    string           `xml:"ipProtocol"`
	From        *int             `xml:"fromPort"`
	To          *int             `xml:"toPort"`
	Groups      []permissionPeer `xml:"groups>item"`
	CIDR4       []permissionPeer `xml:"ipRanges>item"`
	CIDR6       []permissionPeer `xml:"ipv6Ranges>item"`
	PrefixLists []permissionPeer `xml:"prefixListIds>item"`
}

type permissionPeer struct {
	Group       string `xml:"groupId,omitempty"`
	User        string `xml:"userId,omitempty"`
	CIDR4       string `xml:"cidrIp,omitempty"`
	CIDR6       string `xml:"cidrIpv6,omitempty"`
	PrefixList  string `xml:"prefixListId,omitempty"`
	Description string `xml:"description,omitempty"`
}

// permissions joins the rules of one direction that have protocol and ports in
// common.
func permissions(g localcloud.SecurityGroup, egress bool) []permission {
	var out []permission
	for _, r := range g.Rules {
		if r.Egress != egress {
			continue
		}
		i := slices.IndexFunc(out, func(p permission) bool {
			return p.Protocol == r.Protocol && (p.From == nil || *p.From == r.From && *p.To == r.To)
		})
		if i < 0 {
			p := permission{Protocol: r.Protocol}
			if hasPorts(r) {
				p.From, p.To = &r.From, &r.To
			}
			out, i = append(out, p), len(out)
		}
		p, peer := &out[i], permissionPeer{Description: r.Description}
		switch {
		case r.Group != "":
			peer.Group, peer.User = r.Group, localcloud.AccountID
			p.Groups = append(p.Groups, peer)
		case r.CIDR4 != "":
			peer.CIDR4 = r.CIDR4
			p.CIDR4 = append(p.CIDR4, peer)
		case r.CIDR6 != "":
			peer.CIDR6 = r.CIDR6
			p.CIDR6 = append(p.CIDR6, peer)
		case r.PrefixList != "":
			peer.PrefixList = r.PrefixList
			p.PrefixLists = append(p.PrefixLists, peer)
		}
	}
	return out
}

// hasPorts reports whether ports (or an ICMP type and code) are a part of a
// rule.
func hasPorts(r localcloud.SecurityRule) bool {
	return slices.Contains([]string{"tcp", "udp", "icmp", "icmpv6"}, r.Protocol)
}

func groupARN(region, id string) string {
	return "arn:aws:ec2:" + region + ":" + localcloud.AccountID + ":security-group/" + id
}

func toGroup(region string) func(localcloud.SecurityGroup) securityGroup {
	return func(g localcloud.SecurityGroup) securityGroup {
		return securityGroup{
			ID: g.ID, ARN: groupARN(region, g.ID), Name: g.Name, Description: g.Description, Owner: localcloud.AccountID, VPC: g.VPC,
			Ingress: permissions(g, false), Egress: permissions(g, true), Tags: ec2wire.Tags(g.Tags),
		}
	}
}

// eachRule makes a filter of what the rules of one direction have.
func eachRule(egress bool, get func(localcloud.SecurityRule) string) func(localcloud.SecurityGroup) []string {
	return func(g localcloud.SecurityGroup) (out []string) {
		for _, r := range g.Rules {
			if r.Egress == egress {
				out = append(out, ec2wire.One(get(r))...)
			}
		}
		return out
	}
}

func port(get func(localcloud.SecurityRule) int) func(localcloud.SecurityRule) string {
	return func(r localcloud.SecurityRule) string {
		if !hasPorts(r) {
			return ""
		}
		return strconv.Itoa(get(r))
	}
}

var groupFilters = ruleFilters(ec2wire.FilterBy[localcloud.SecurityGroup]{
	"group-id":    func(g localcloud.SecurityGroup) []string { return ec2wire.One(g.ID) },
	"group-name":  func(g localcloud.SecurityGroup) []string { return ec2wire.One(g.Name) },
	"description": func(g localcloud.SecurityGroup) []string { return ec2wire.One(g.Description) },
	"owner-id":    func(localcloud.SecurityGroup) []string { return []string{localcloud.AccountID} },
	"vpc-id":      func(g localcloud.SecurityGroup) []string { return ec2wire.One(g.VPC) },
})

// ruleFilters adds the filters for rules, of both directions.
func ruleFilters(by ec2wire.FilterBy[localcloud.SecurityGroup]) ec2wire.FilterBy[localcloud.SecurityGroup] {
	for prefix, egress := range map[string]bool{"ip-permission.": false, "egress.ip-permission.": true} {
		by[prefix+"cidr"] = eachRule(egress, func(r localcloud.SecurityRule) string { return r.CIDR4 })
		by[prefix+"ipv6-cidr"] = eachRule(egress, func(r localcloud.SecurityRule) string { return r.CIDR6 })
		by[prefix+"group-id"] = eachRule(egress, func(r localcloud.SecurityRule) string { return r.Group })
		by[prefix+"prefix-list-id"] = eachRule(egress, func(r localcloud.SecurityRule) string { return r.PrefixList })
		by[prefix+"protocol"] = eachRule(egress, func(r localcloud.SecurityRule) string { return r.Protocol })
		by[prefix+"from-port"] = eachRule(egress, port(func(r localcloud.SecurityRule) int { return r.From }))
		by[prefix+"to-port"] = eachRule(egress, port(func(r localcloud.SecurityRule) int { return r.To }))
		by[prefix+"user-id"] = eachRule(egress, func(r localcloud.SecurityRule) string {
			if r.Group == "" {
				return ""
			}
			return localcloud.AccountID
		})
	}
	return by
}

type describeGroupsIn struct {
	listIn
	IDs   []string `q:"GroupId"`
	Names []string `q:"GroupName"`
}

type describeGroupsOut struct {
	Groups []securityGroup `xml:"securityGroupInfo>item"`
	Next   string          `xml:"nextToken,omitempty"`
}

func (a *api) describeGroups(ctx context.Context, c *awswire.Call, in *describeGroupsIn) (*describeGroupsOut, error) {
	if err := ec2wire.OnlyWithout(in.Page, in.IDs); err != nil {
		return nil, err
	}
	var all []localcloud.SecurityGroup
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) (err error) {
		if len(in.IDs)+len(in.Names) == 0 {
			all, err = localcloud.All[localcloud.SecurityGroup](t)
			return err
		}
		add := func(g localcloud.SecurityGroup, err error) error {
			if err == nil && !slices.ContainsFunc(all, func(o localcloud.SecurityGroup) bool { return o.ID == g.ID }) {
				all = append(all, g)
			}
			return err
		}
		for _, id := range in.IDs {
			if err := add(t.SecurityGroup(id)); err != nil {
				return err
			}
		}
		for _, name := range in.Names {
			if err := add(t.SecurityGroupNamed("", name)); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	if all, err = groupFilters.Match(in.Filters, all, func(g localcloud.SecurityGroup) localcloud.Tags { return g.Tags }); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(x, y localcloud.SecurityGroup) int { return cmp.Compare(x.ID, y.ID) })
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	if err != nil {
		return nil, err
	}
	return &describeGroupsOut{Groups: ec2wire.Mapped(page, toGroup(c.Region)), Next: next}, in.Check()
}

type createGroupIn struct {
	ec2wire.DryRun
	Name        string            `q:"GroupName,required"`
	Description string            `q:"GroupDescription,required"`
	VPC         string            `q:"VpcId"`
	Tags        []ec2wire.TagSpec `q:"TagSpecification"`
}

type createGroupOut struct {
	Return bool          `xml:"return"`
	ID     string        `xml:"groupId"`
	ARN    string        `xml:"securityGroupArn"`
	Tags   []ec2wire.Tag `xml:"tagSet>item"`
}

func (a *api) createGroup(ctx context.Context, c *awswire.Call, in *createGroupIn) (*createGroupOut, error) {
	tags, err := ec2wire.SpecTags(in.Tags, "security-group")
	if err != nil {
		return nil, err
	}
	g, err := a.cloud.CreateSecurityGroup(dry(ctx, in.DryRun), c.Region, localcloud.SecurityGroupParams{
		Name: in.Name, Description: in.Description, VPC: in.VPC, Tags: tags,
	})
	if err != nil {
		return nil, err
	}
	return &createGroupOut{Return: true, ID: g.ID, ARN: groupARN(c.Region, g.ID), Tags: ec2wire.Tags(g.Tags)}, nil
}

type groupIn struct {
	ec2wire.DryRun
	ID   string `q:"GroupId"`
	Name string `q:"GroupName"`
}

type deleteGroupOut struct {
	Return bool   `xml:"return"`
	ID     string `xml:"groupId"`
}

func (a *api) deleteGroup(ctx context.Context, c *awswire.Call, in *groupIn) (*deleteGroupOut, error) {
	id, err := a.cloud.DeleteSecurityGroup(dry(ctx, in.DryRun), c.Region, in.ID, in.Name)
	return &deleteGroupOut{Return: true, ID: id}, err
}
