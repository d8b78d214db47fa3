package network

import (
	"cmp"
	"context"
	"slices"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) securityRules() awswire.Operations {
	return awswire.Operations{
		"AuthorizeSecurityGroupIngress":              awswire.Op(a.authorize(false)),
		"AuthorizeSecurityGroupEgress":               awswire.Op(a.authorize(true)),
		"RevokeSecurityGroupIngress":                 awswire.Op(a.revoke(false)),
		"RevokeSecurityGroupEgress":                  awswire.Op(a.revoke(true)),
		"UpdateSecurityGroupRuleDescriptionsIngress": awswire.Op(a.setDescriptions(false)),
		"UpdateSecurityGroupRuleDescriptionsEgress":  awswire.Op(a.setDescriptions(true)),
		"DescribeSecurityGroupRules":                 awswire.Op(a.describeRules),
		"ModifySecurityGroupRules":                   awswire.Op(a.modifyRules),
	}
}

// permissionIn is an IpPermission of a request.
type permissionIn struct {
	Protocol string `q:"IpProtocol"`
	From     *int   `q:"FromPort"`
	To       *int   `q:"ToPort"`
	CIDR4    []struct {
		CIDR        string `q:"CidrIp,required"`
		Description string `q:"Description"`
	} `q:"IpRanges"`
	CIDR6 []struct {
		CIDR        string `q:"CidrIpv6,required"`
		Description string `q:"Description"`
	} `q:"Ipv6Ranges"`
	Groups []struct {
		ID          string `q:"GroupId"`
		Name        string `q:"GroupName"`
		User        string `q:"UserId"`
		VPC         string `q:"VpcId"`
		Description string `q:"Description"`
	} `q:"Groups"`
	PrefixLists []struct {
		ID          string `q:"PrefixListId,required"`
		Description string `q:"Description"`
	} `q:"PrefixListIds"`
}

func (p permissionIn) core() (localcloud.Permission, error) {
	out := localcloud.Permission{Protocol: p.Protocol, From: p.From, To: p.To}
	for _, r := range p.CIDR4 {
		out.CIDR4 = append(out.CIDR4, localcloud.Peer{ID: r.CIDR, Description: r.Description})
	}
	for _, r := range p.CIDR6 {
		out.CIDR6 = append(out.CIDR6, localcloud.Peer{ID: r.CIDR, Description: r.Description})
	}
	for _, g := range p.Groups {
		if g.ID == "" && g.Name == "" {
			return out, awswire.Errorf("MissingParameter", "A group of a permission needs GroupId or GroupName")
		}
		if err := ownGroup(g.User); err != nil {
			return out, err
		}
		out.Groups = append(out.Groups, localcloud.Peer{ID: g.ID, Name: g.Name, Description: g.Description})
	}
	for _, l := range p.PrefixLists {
		out.PrefixLists = append(out.PrefixLists, localcloud.Peer{ID: l.ID, Description: l.Description})
	}
	return out, nil
}

// ownGroup refuses a group of another account: there is no other.
func ownGroup(user string) error {
	if user != "" && user != localcloud.AccountID {
		return awswire.Errorf("InvalidGroup.NotFound", "The account %s has no security groups in the local cloud, whose account is %s", user, localcloud.AccountID)
	}
	return nil
}

// changeIn names a group and rules, as a list or as one flat rule.
type changeIn struct {
	groupIn
	Permissions []permissionIn `q:"IpPermissions"`
	Protocol    string         `q:"IpProtocol"`
	From        *int           `q:"FromPort"`
	To          *int           `q:"ToPort"`
	CIDR        string         `q:"CidrIp"`
	SourceGroup string         `q:"SourceSecurityGroupName"`
	SourceUser  string         `q:"SourceSecurityGroupOwnerId"`
}

func (in changeIn) core(egress bool) (localcloud.GroupChange, error) {
	out := localcloud.GroupChange{ID: in.ID, Name: in.Name, Egress: egress}
	if egress && in.Name != "" {
		return out, awswire.Errorf("InvalidParameterValue", "Rules for traffic out take a group's id, not its name")
	}
	for _, p := range in.Permissions {
		c, err := p.core()
		if err != nil {
			return out, err
		}
		out.Permissions = append(out.Permissions, c)
	}
	if in.Protocol == "" && in.From == nil && in.To == nil && in.CIDR == "" && in.SourceGroup == "" {
		return out, nil
	}
	if len(in.Permissions) > 0 {
		return out, awswire.Errorf("InvalidParameterCombination", "The parameter ipPermissions cannot be used together with a protocol, ports or peers beside it")
	}
	if err := ownGroup(in.SourceUser); err != nil {
		return out, err
	}
	flat := localcloud.Permission{Protocol: in.Protocol, From: in.From, To: in.To}
	if in.SourceGroup != "" {
		// The old form for groups: all traffic, unless it says less.
		flat.Protocol = cmp.Or(flat.Protocol, "-1")
		flat.Groups = []localcloud.Peer{{Name: in.SourceGroup}}
	}
	if in.CIDR != "" {
		flat.CIDR4 = []localcloud.Peer{{ID: in.CIDR}}
	}
	out.Permissions = []localcloud.Permission{flat}
	return out, nil
}

// A groupRule is a rule and whose it is.
type groupRule struct {
	localcloud.SecurityRule
	group, vpc string
}

type securityRule struct {
	ID          string        `xml:"securityGroupRuleId"`
	ARN         string        `xml:"securityGroupRuleArn"`
	Group       string        `xml:"groupId"`
	Owner       string        `xml:"groupOwnerId"`
	Egress      bool          `xml:"isEgress"`
	Protocol    string        `xml:"ipProtocol"`
	From        int           `xml:"fromPort"`
	To          int           `xml:"toPort"`
	CIDR4       string        `xml:"cidrIpv4,omitempty"`
	CIDR6       string        `xml:"cidrIpv6,omitempty"`
	PrefixList  string        `xml:"prefixListId,omitempty"`
	Peer        *rulePeer     `xml:"referencedGroupInfo"`
	Description string        `xml:"description,omitempty"`
	Tags        []ec2wire.Tag `xml:"tagSet>item"`
}

type rulePeer struct {
	Group string `xml:"groupId"`
	User  string `xml:"userId"`
	VPC   string `xml:"vpcId,omitempty"`
}

func toRule(region string) func(groupRule) securityRule {
	return func(r groupRule) securityRule {
		out := securityRule{
			ID: r.ID, ARN: "arn:aws:ec2:" + region + ":" + localcloud.AccountID + ":security-group-rule/" + r.ID,
			Group: r.group, Owner: localcloud.AccountID, Egress: r.Egress,
			Protocol: r.Protocol, From: r.From, To: r.To, CIDR4: r.CIDR4, CIDR6: r.CIDR6, PrefixList: r.PrefixList,
			Description: r.Description, Tags: ec2wire.Tags(r.Tags),
		}
		if r.Group != "" {
			out.Peer = &rulePeer{Group: r.Group, User: localcloud.AccountID, VPC: r.vpc}
		}
		return out
	}
}

func rulesOf(g localcloud.SecurityGroup, rules []localcloud.SecurityRule) []groupRule {
	return ec2wire.Mapped(rules, func(r localcloud.SecurityRule) groupRule { return groupRule{r, g.ID, g.VPC} })
}

type authorizeIn struct {
	changeIn
	Tags []ec2wire.TagSpec `q:"TagSpecification"`
}

type authorizeOut struct {
	Return bool           `xml:"return"`
	Rules  []securityRule `xml:"securityGroupRuleSet>item"`
}

func (a *api) authorize(egress bool) func(context.Context, *awswire.Call, *authorizeIn) (*authorizeOut, error) {
	return func(ctx context.Context, c *awswire.Call, in *authorizeIn) (*authorizeOut, error) {
		change, err := in.core(egress)
		if err != nil {
			return nil, err
		}
		if change.Tags, err = ec2wire.SpecTags(in.Tags, "security-group-rule"); err != nil {
			return nil, err
		}
		rules, g, err := a.cloud.AuthorizeRules(dry(ctx, in.DryRun), c.Region, change)
		if err != nil {
			return nil, err
		}
		return &authorizeOut{Return: true, Rules: ec2wire.Mapped(rulesOf(g, rules), toRule(c.Region))}, nil
	}
}

type revokeIn struct {
	changeIn
	Rules []string `q:"SecurityGroupRuleId"`
}

type revokeOut struct {
	Return bool          `xml:"return"`
	Rules  []revokedRule `xml:"revokedSecurityGroupRuleSet>item"`
}

type revokedRule struct {
	ID          string `xml:"securityGroupRuleId"`
	Group       string `xml:"groupId"`
	Egress      bool   `xml:"isEgress"`
	Protocol    string `xml:"ipProtocol"`
	From        int    `xml:"fromPort"`
	To          int    `xml:"toPort"`
	CIDR4       string `xml:"cidrIpv4,omitempty"`
	CIDR6       string `xml:"cidrIpv6,omitempty"`
	PrefixList  string `xml:"prefixListId,omitempty"`
	Peer        string `xml:"referencedGroupId,omitempty"`
	Description string `xml:"description,omitempty"`
}

func (a *api) revoke(egress bool) func(context.Context, *awswire.Call, *revokeIn) (*revokeOut, error) {
	return func(ctx context.Context, c *awswire.Call, in *revokeIn) (*revokeOut, error) {
		change, err := in.core(egress)
		if err != nil {
			return nil, err
		}
		change.Rules = in.Rules
		rules, g, err := a.cloud.RevokeRules(dry(ctx, in.DryRun), c.Region, change)
		if err != nil {
			return nil, err
		}
		return &revokeOut{Return: true, Rules: ec2wire.Mapped(rules, func(r localcloud.SecurityRule) revokedRule {
			return revokedRule{
				ID: r.ID, Group: g.ID, Egress: r.Egress, Protocol: r.Protocol, From: r.From, To: r.To,
				CIDR4: r.CIDR4, CIDR6: r.CIDR6, PrefixList: r.PrefixList, Peer: r.Group, Description: r.Description,
			}
		})}, nil
	}
}

type setDescriptionsIn struct {
	groupIn
	Permissions []permissionIn `q:"IpPermissions"`
	Rules       []struct {
		ID          string `q:"SecurityGroupRuleId,required"`
		Description string `q:"Description"`
	} `q:"SecurityGroupRuleDescription"`
}

func (a *api) setDescriptions(egress bool) func(context.Context, *awswire.Call, *setDescriptionsIn) (*ec2wire.Return, error) {
	return func(ctx context.Context, c *awswire.Call, in *setDescriptionsIn) (*ec2wire.Return, error) {
		if (len(in.Permissions) > 0) == (len(in.Rules) > 0) {
			return nil, awswire.Errorf("InvalidParameterCombination", "The request must contain exactly one of ipPermissions and securityGroupRuleDescriptions")
		}
		change, err := changeIn{groupIn: in.groupIn, Permissions: in.Permissions}.core(egress)
		if err != nil {
			return nil, err
		}
		texts := map[string]string{}
		for _, r := range in.Rules {
			texts[r.ID] = r.Description
		}
		return ec2wire.OK(), a.cloud.SetRuleDescriptions(dry(ctx, in.DryRun), c.Region, change, texts)
	}
}

var securityRuleFilters = ec2wire.FilterBy[groupRule]{
	"group-id":               func(r groupRule) []string { return ec2wire.One(r.group) },
	"security-group-rule-id": func(r groupRule) []string { return ec2wire.One(r.ID) },
}

type describeRulesIn struct {
	listIn
	IDs []string `q:"SecurityGroupRuleId"`
}

type describeRulesOut struct {
	Rules []securityRule `xml:"securityGroupRuleSet>item"`
	Next  string         `xml:"nextToken,omitempty"`
}

func (a *api) describeRules(ctx context.Context, c *awswire.Call, in *describeRulesIn) (*describeRulesOut, error) {
	groups, err := records[localcloud.SecurityGroup](ctx, a, c.Region)
	if err != nil {
		return nil, err
	}
	var all []groupRule
	for _, g := range groups {
		all = append(all, rulesOf(g, g.Rules)...)
	}
	all, err = pick(all, in.IDs, func(r groupRule) string { return r.ID },
		notFound("sgr", "InvalidSecurityGroupRuleId.NotFound", "InvalidSecurityGroupRuleId.Malformed", "security group rule ID"))
	if err != nil {
		return nil, err
	}
	if all, err = securityRuleFilters.Match(in.Filters, all, func(r groupRule) localcloud.Tags { return r.Tags }); err != nil {
		return nil, err
	}
	slices.SortFunc(all, func(x, y groupRule) int { return cmp.Compare(x.ID, y.ID) })
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	if err != nil {
		return nil, err
	}
	return &describeRulesOut{Rules: ec2wire.Mapped(page, toRule(c.Region)), Next: next}, in.Check()
}

type modifyRulesIn struct {
	ec2wire.DryRun
	Group string `q:"GroupId,required"`
	Rules []struct {
		ID   string `q:"SecurityGroupRuleId,required"`
		Rule struct {
			Protocol    string `q:"IpProtocol"`
			From        *int   `q:"FromPort"`
			To          *int   `q:"ToPort"`
			CIDR4       string `q:"CidrIpv4"`
			CIDR6       string `q:"CidrIpv6"`
			PrefixList  string `q:"PrefixListId"`
			Group       string `q:"ReferencedGroupId"`
			Description string `q:"Description"`
		} `q:"SecurityGroupRule,required"`
	} `q:"SecurityGroupRule,required"`
}

func (a *api) modifyRules(ctx context.Context, c *awswire.Call, in *modifyRulesIn) (*ec2wire.Return, error) {
	var changes []localcloud.RuleChange
	for _, r := range in.Rules {
		s := r.Rule
		peers := func(id string) []localcloud.Peer {
			if id == "" {
				return nil
			}
			return []localcloud.Peer{{ID: id, Description: s.Description}}
		}
		changes = append(changes, localcloud.RuleChange{Rule: r.ID, To: localcloud.Permission{
			Protocol: s.Protocol, From: s.From, To: s.To,
			CIDR4: peers(s.CIDR4), CIDR6: peers(s.CIDR6), PrefixLists: peers(s.PrefixList), Groups: peers(s.Group),
		}})
	}
	return ec2wire.OK(), a.cloud.ModifyRules(dry(ctx, in.DryRun), c.Region, in.Group, changes)
}
