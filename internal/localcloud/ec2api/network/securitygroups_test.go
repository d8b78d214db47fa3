package network_test

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/localcloud"
)

func newGroup(t *testing.T, c *ec2.Client, name string) *string {
	t.Helper()
	out := must(c.CreateSecurityGroup(t.Context(), &ec2.CreateSecurityGroupInput{
		GroupName: &name, Description: aws.String("for a test"), TagSpecifications: tagged("security-group", "run", "r1"),
	}))(t)
	return out.GroupId
}

func tcp(from, to int32, cidrs ...string) types.IpPermission {
	p := types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: &from, ToPort: &to}
	for _, c := range cidrs {
		p.IpRanges = append(p.IpRanges, types.IpRange{CidrIp: &c, Description: aws.String("why")})
	}
	return p
}

func TestSecurityGroupLife(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	id := newGroup(t, c, "ssh")
	for _, tt := range []struct{ name, description, code string }{
		{"ssh", "again", "InvalidGroup.Duplicate"},
		{"sg-1", "d", "InvalidParameterValue"},
		{"default", "d", "InvalidParameterValue"},
		{"gäste", "d", "InvalidParameterValue"},
	} {
		_, err := c.CreateSecurityGroup(ctx, &ec2.CreateSecurityGroupInput{GroupName: &tt.name, Description: &tt.description})
		refused(t, tt.name, err, tt.code)
	}
	// The waiter that builders use.
	if err := ec2.NewSecurityGroupExistsWaiter(c).Wait(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{*id}}, 60e9); err != nil {
		t.Fatal(err)
	}
	add := must(c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: id, IpPermissions: []types.IpPermission{tcp(22, 22, "10.1.2.3/8", "0.0.0.0/0"), {IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: id}}}},
		TagSpecifications: tagged("security-group-rule", "k", "v"),
	}))(t)
	if len(add.SecurityGroupRules) != 3 || aws.ToString(add.SecurityGroupRules[0].CidrIpv4) != "10.0.0.0/8" ||
		aws.ToString(add.SecurityGroupRules[0].Description) != "why" || len(add.SecurityGroupRules[0].Tags) != 1 {
		t.Fatalf("%+v", add.SecurityGroupRules)
	}
	if _, err := c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupName: aws.String("ssh"), IpProtocol: aws.String("tcp"), FromPort: aws.Int32(443), ToPort: aws.Int32(443), CidrIp: aws.String("0.0.0.0/0"),
	}); err != nil {
		t.Fatal(err)
	}
	g := must(c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{
		Filters: filters("group-name", "s*", "ip-permission.from-port", "22", "egress.ip-permission.cidr", "0.0.0.0/0", "tag:run", "r1"),
	}))(t).SecurityGroups
	if len(g) != 1 || len(g[0].IpPermissions) != 3 || len(g[0].IpPermissionsEgress) != 1 {
		t.Fatalf("%+v", g)
	}
	if p := g[0].IpPermissions[0]; len(p.IpRanges) != 2 || aws.ToInt32(p.FromPort) != 22 {
		t.Errorf("%+v", p)
	}
	if p := g[0].IpPermissions[1]; p.FromPort != nil || len(p.UserIdGroupPairs) != 1 || aws.ToString(p.UserIdGroupPairs[0].GroupId) != *id {
		t.Errorf("%+v", p)
	}
	for _, tt := range []struct {
		what string
		p    types.IpPermission
		code string
	}{
		{"the same", tcp(22, 22, "10.0.0.0/8"), "InvalidPermission.Duplicate"},
		{"twice", tcp(80, 80, "10.0.0.0/8", "10.9.9.9/8"), "InvalidParameterValue"},
		{"bad ports", tcp(30, 20, "10.0.0.0/8"), "InvalidParameterValue"},
		{"bad range", tcp(30, 40, "10.0.0.0/33"), "InvalidParameterValue"},
		{"bad protocol", types.IpPermission{IpProtocol: aws.String("sctpx"), IpRanges: []types.IpRange{{CidrIp: aws.String("10.0.0.0/8")}}}, "InvalidPermission.Malformed"},
		{"no peer", types.IpPermission{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(1), ToPort: aws.Int32(2)}, "MissingParameter"},
		{"no such group", types.IpPermission{IpProtocol: aws.String("-1"), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: aws.String("sg-00000000000000000")}}}, "InvalidGroup.NotFound"},
		{"no such list", types.IpPermission{IpProtocol: aws.String("-1"), PrefixListIds: []types.PrefixListId{{PrefixListId: aws.String("pl-00000000")}}}, "InvalidPrefixListID.NotFound"},
	} {
		_, err := c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: id, IpPermissions: []types.IpPermission{tt.p}})
		refused(t, tt.what, err, tt.code)
	}
	_, err := c.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: id, IpPermissions: []types.IpPermission{tcp(81, 81, "10.0.0.0/8")}})
	refused(t, "revoke what is not there", err, "InvalidPermission.NotFound")
	gone := must(c.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: id, IpPermissions: []types.IpPermission{tcp(22, 22, "10.0.0.0/8")}}))(t)
	if len(gone.RevokedSecurityGroupRules) != 1 {
		t.Errorf("%+v", gone)
	}
	out := g[0].IpPermissionsEgress
	if _, err := c.RevokeSecurityGroupEgress(ctx, &ec2.RevokeSecurityGroupEgressInput{GroupId: id, IpPermissions: out}); err != nil {
		t.Error(err)
	}

	i := instance(t, s, east, func(i *localcloud.Instance) { i.SecurityGroups = []string{*id} })
	_, err = c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: id})
	refused(t, "group of an instance", err, "DependencyViolation")
	i.State = "terminated"
	put(t, s, east, i)
	other := newGroup(t, c, "other")
	if _, err := c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: other, SourceSecurityGroupName: aws.String("ssh")}); err != nil {
		t.Fatal(err)
	}
	_, err = c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: id})
	refused(t, "group that another names", err, "DependencyViolation")
	for _, name := range []string{"other", "ssh"} {
		if _, err := c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupName: &name}); err != nil {
			t.Fatal(err)
		}
	}
	_, err = c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupId: id})
	refused(t, "deleted twice", err, "InvalidGroup.NotFound")
	_, err = c.DescribeSecurityGroups(ctx, &ec2.DescribeSecurityGroupsInput{GroupIds: []string{"sg-zz"}})
	refused(t, "bad id", err, "InvalidGroupId.Malformed")
	_, err = c.DeleteSecurityGroup(ctx, &ec2.DeleteSecurityGroupInput{GroupName: aws.String("default")})
	refused(t, "default group", err, "CannotDelete")
}

func TestSecurityGroupRules(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	id := newGroup(t, c, "g")
	add := must(c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: id, IpPermissions: []types.IpPermission{tcp(22, 22, "10.0.0.0/8"), tcp(80, 80, "10.0.0.0/8")},
	}))(t).SecurityGroupRules
	rule := add[0].SecurityGroupRuleId
	change := func(port int32, cidr string) error {
		_, err := c.ModifySecurityGroupRules(ctx, &ec2.ModifySecurityGroupRulesInput{GroupId: id, SecurityGroupRules: []types.SecurityGroupRuleUpdate{{
			SecurityGroupRuleId: rule,
			SecurityGroupRule:   &types.SecurityGroupRuleRequest{IpProtocol: aws.String("tcp"), FromPort: &port, ToPort: &port, CidrIpv4: &cidr, Description: aws.String("new")},
		}}})
		return err
	}
	refused(t, "into another rule", change(80, "10.0.0.0/8"), "InvalidPermission.Duplicate")
	if err := change(2222, "192.168.0.0/16"); err != nil {
		t.Fatal(err)
	}
	got := must(c.DescribeSecurityGroupRules(ctx, &ec2.DescribeSecurityGroupRulesInput{SecurityGroupRuleIds: []string{*rule}}))(t).SecurityGroupRules
	if len(got) != 1 || aws.ToInt32(got[0].FromPort) != 2222 || aws.ToString(got[0].CidrIpv4) != "192.168.0.0/16" || aws.ToString(got[0].Description) != "new" || aws.ToBool(got[0].IsEgress) {
		t.Errorf("%+v", got)
	}
	if _, err := c.UpdateSecurityGroupRuleDescriptionsIngress(ctx, &ec2.UpdateSecurityGroupRuleDescriptionsIngressInput{
		GroupId: id, SecurityGroupRuleDescriptions: []types.SecurityGroupRuleDescription{{SecurityGroupRuleId: rule, Description: aws.String("newer")}},
	}); err != nil {
		t.Fatal(err)
	}
	all := must(c.DescribeSecurityGroupRules(ctx, &ec2.DescribeSecurityGroupRulesInput{Filters: filters("group-id", *id)}))(t).SecurityGroupRules
	if len(all) != 3 || !slices.ContainsFunc(all, func(r types.SecurityGroupRule) bool { return aws.ToString(r.Description) == "newer" }) {
		t.Errorf("%+v", all)
	}
	if _, err := c.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: id, SecurityGroupRuleIds: []string{*rule}}); err != nil {
		t.Fatal(err)
	}
	_, err := c.RevokeSecurityGroupIngress(ctx, &ec2.RevokeSecurityGroupIngressInput{GroupId: id, SecurityGroupRuleIds: []string{*rule}})
	refused(t, "revoked twice", err, "InvalidSecurityGroupRuleId.NotFound")
}

func TestRuleLimit(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	id := newGroup(t, c, "g")
	var ps []types.IpPermission
	for p := range int32(61) {
		ps = append(ps, tcp(1000+p, 1000+p, "10.0.0.0/8"))
	}
	_, err := c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: id, IpPermissions: ps})
	refused(t, "61 rules", err, "RulesPerSecurityGroupLimitExceeded")
	if _, err := c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: id, IpPermissions: ps[:60]}); err != nil {
		t.Error(err)
	}
}

// What a rule change means for machines that run is a job for each.
func TestRulesReachInstances(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	id := newGroup(t, c, "g")
	i := instance(t, s, east, func(i *localcloud.Instance) { i.SecurityGroups = []string{*id} })
	instance(t, s, east, func(i *localcloud.Instance) { i.SecurityGroups, i.State = []string{*id}, "stopped" })
	instance(t, s, east, nil)
	open := func() (ports []int, jobs []localcloud.Job) {
		err := s.View(ctx, east, func(tx *localcloud.Tx) (err error) {
			if ports, err = s.OpenPorts(tx, i.SecurityGroups); err != nil {
				return err
			}
			jobs, err = localcloud.All[localcloud.Job](tx.In(""))
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		return ports, jobs
	}
	if ports, jobs := open(); len(ports) != 0 || len(jobs) != 0 {
		t.Errorf("%v, %+v", ports, jobs)
	}
	ps := []types.IpPermission{
		tcp(22, 22, "0.0.0.0/0"), tcp(5985, 5986, "10.0.0.0/8"),
		{IpProtocol: aws.String("udp"), FromPort: aws.Int32(53), ToPort: aws.Int32(53), IpRanges: []types.IpRange{{CidrIp: aws.String("0.0.0.0/0")}}},
		{IpProtocol: aws.String("tcp"), FromPort: aws.Int32(7), ToPort: aws.Int32(7), UserIdGroupPairs: []types.UserIdGroupPair{{GroupId: id}}},
	}
	if _, err := c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: id, IpPermissions: ps}); err != nil {
		t.Fatal(err)
	}
	ports, jobs := open()
	if !slices.Equal(ports, []int{22, 5985, 5986}) {
		t.Errorf("open: %v", ports)
	}
	if len(jobs) != 1 || jobs[0].Kind != "instance-ports" || jobs[0].Target != i.ID || jobs[0].Region != east {
		t.Errorf("%+v", jobs)
	}
	if _, err := c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{
		GroupId: id, IpPermissions: []types.IpPermission{{IpProtocol: aws.String("-1"), Ipv6Ranges: []types.Ipv6Range{{CidrIpv6: aws.String("::/0")}}}},
	}); err != nil {
		t.Fatal(err)
	}
	if ports, _ := open(); !slices.Contains(ports, 8080) || !slices.Contains(ports, 22) || len(ports) > 100 {
		t.Errorf("all traffic opens %v", ports)
	}
}
