package network_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/localcloud"
)

func tag(key, value string) types.Tag { return types.Tag{Key: &key, Value: &value} }

// every makes one resource of each type that has tags, and returns their ids
// by type.
func every(t *testing.T, s *site) map[string]string {
	t.Helper()
	c, ctx := s.ec2(east), t.Context()
	i := instance(t, s, east, nil)
	image := localcloud.Image{ID: localcloud.NewID("ami"), Owner: localcloud.AccountID, State: "available"}
	snapshot := localcloud.Snapshot{ID: localcloud.NewID("snap"), Owner: localcloud.AccountID, State: "completed"}
	volume := localcloud.Volume{ID: localcloud.NewID("vol"), State: "available"}
	fleet, request := localcloud.Fleet{ID: localcloud.NewID("fleet")}, localcloud.SpotRequest{ID: localcloud.NewID("sir")}
	task := localcloud.RootTask{ID: localcloud.NewID("replacevol")}
	imports := []localcloud.ImportTask{{ID: localcloud.NewID("import-ami")}, {ID: localcloud.NewID("import-snap")}}
	put(t, s, east, image)
	put(t, s, east, snapshot)
	put(t, s, east, volume)
	put(t, s, east, fleet)
	put(t, s, east, request)
	put(t, s, east, task)
	put(t, s, east, imports...)
	group := newGroup(t, c, "g")
	rule := must(c.AuthorizeSecurityGroupIngress(ctx, &ec2.AuthorizeSecurityGroupIngressInput{GroupId: group, IpPermissions: []types.IpPermission{tcp(22, 22, "0.0.0.0/0")}}))(t)
	key := must(c.CreateKeyPair(ctx, &ec2.CreateKeyPairInput{KeyName: aws.String("k"), KeyType: types.KeyTypeEd25519}))(t)
	template := must(c.CreateLaunchTemplate(ctx, &ec2.CreateLaunchTemplateInput{LaunchTemplateName: aws.String("tpl"), LaunchTemplateData: &types.RequestLaunchTemplateData{ImageId: &image.ID}}))(t)
	address := must(c.AllocateAddress(ctx, &ec2.AllocateAddressInput{}))(t)
	table := must(c.DescribeRouteTables(ctx, &ec2.DescribeRouteTablesInput{}))(t).RouteTables[0]
	acl := must(c.DescribeNetworkAcls(ctx, &ec2.DescribeNetworkAclsInput{}))(t).NetworkAcls[0]
	gateway := must(c.DescribeInternetGateways(ctx, &ec2.DescribeInternetGatewaysInput{}))(t).InternetGateways[0]
	return map[string]string{
		"instance": i.ID, "network-interface": i.Interface.ID, "image": image.ID, "snapshot": snapshot.ID, "volume": volume.ID,
		"fleet": fleet.ID, "spot-instances-request": request.ID, "replace-root-volume-task": task.ID,
		"import-image-task": imports[0].ID, "import-snapshot-task": imports[1].ID, "subnet": i.Subnet, "vpc": i.VPC,
		"security-group": *group, "security-group-rule": *rule.SecurityGroupRules[0].SecurityGroupRuleId, "key-pair": *key.KeyPairId,
		"launch-template": *template.LaunchTemplate.LaunchTemplateId, "elastic-ip": *address.AllocationId,
		"route-table": *table.RouteTableId, "network-acl": *acl.NetworkAclId, "internet-gateway": *gateway.InternetGatewayId,
	}
}

func TestTagsOfEverything(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	things := every(t, s)
	var ids []string
	for _, id := range things {
		ids = append(ids, id)
	}
	if _, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids, Tags: []types.Tag{tag("run", "r1"), tag("empty", "")}}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids, Tags: []types.Tag{tag("run", "r2")}}); err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for p := ec2.NewDescribeTagsPaginator(c, &ec2.DescribeTagsInput{MaxResults: aws.Int32(7), Filters: filters("key", "run", "value", "r2")}); p.HasMorePages(); {
		for _, d := range must(p.NextPage(ctx))(t).Tags {
			got[string(d.ResourceType)] = *d.ResourceId
		}
	}
	if len(got) != len(things) {
		t.Errorf("%d of %d things are tagged", len(got), len(things))
	}
	for kind, id := range things {
		if got[kind] != id {
			t.Errorf("%s: %q, want %q", kind, got[kind], id)
		}
		one := must(c.DescribeTags(ctx, &ec2.DescribeTagsInput{Filters: filters("resource-id", id, "tag:empty", "")}))(t).Tags
		if len(one) != 1 || string(one[0].ResourceType) != kind {
			t.Errorf("%s: %+v", kind, one)
		}
	}
	del := &ec2.DeleteTagsInput{Resources: ids, Tags: []types.Tag{{Key: aws.String("run"), Value: aws.String("other")}, {Key: aws.String("none")}}}
	if _, err := c.DeleteTags(ctx, del); err != nil {
		t.Fatal(err)
	}
	if n := len(must(c.DescribeTags(ctx, &ec2.DescribeTagsInput{Filters: filters("key", "run")}))(t).Tags); n != len(things) {
		t.Errorf("a tag with another value was deleted: %d are left", n)
	}
	del.Tags = []types.Tag{{Key: aws.String("run")}}
	if _, err := c.DeleteTags(ctx, del); err != nil {
		t.Fatal(err)
	}
	if _, err := c.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: ids[:1]}); err != nil {
		t.Fatal(err)
	}
	if n := len(must(c.DescribeTags(ctx, &ec2.DescribeTagsInput{Filters: filters("key", "empty,run")}))(t).Tags); n != 0 {
		t.Errorf("a comma is no list: %d", n)
	}
	left := must(c.DescribeTags(ctx, &ec2.DescribeTagsInput{Filters: []types.Filter{{Name: aws.String("key"), Values: []string{"empty", "run"}}}}))(t).Tags
	if len(left) != len(things)-1 {
		t.Errorf("%d are left", len(left))
	}
}

func TestTagRefusals(t *testing.T) {
	s := newSite(t)
	c, ctx := s.ec2(east), t.Context()
	i := instance(t, s, east, nil)
	shown := instance(t, s, east, func(i *localcloud.Instance) { i.Metadata.Tags = "enabled" })
	for _, tt := range []struct {
		what, id string
		tag      types.Tag
		code     string
	}{
		{"no such image", "ami-0123456789abcdef0", tag("a", "b"), "InvalidAMIID.NotFound"},
		{"no such instance", "i-0123456789abcdef0", tag("a", "b"), "InvalidInstanceID.NotFound"},
		{"no such snapshot", "snap-0123456789abcdef0", tag("a", "b"), "InvalidSnapshot.NotFound"},
		{"no such volume", "vol-0123456789abcdef0", tag("a", "b"), "InvalidVolume.NotFound"},
		{"not an id", "thing", tag("a", "b"), "InvalidID"},
		{"unknown type", "cow-0123456789abcdef0", tag("a", "b"), "InvalidID"},
		{"reserved", i.ID, tag("aws:x", "b"), "InvalidParameterValue"},
		{"long key", i.ID, tag(strings.Repeat("k", 129), "b"), "InvalidParameterValue"},
		{"long value", i.ID, tag("k", strings.Repeat("v", 257)), "InvalidParameterValue"},
		{"not for metadata", shown.ID, tag("a b", "c"), "InvalidParameterValue"},
	} {
		_, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{i.ID, tt.id}, Tags: []types.Tag{tt.tag}})
		refused(t, tt.what, err, tt.code)
	}
	if n := len(must(c.DescribeTags(ctx, &ec2.DescribeTagsInput{}))(t).Tags); n != 0 {
		t.Errorf("a refused call made %d tags", n)
	}
	var many []types.Tag
	for n := range 50 {
		many = append(many, tag(fmt.Sprintf("key%d", n), "v"))
	}
	if _, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{i.ID}, Tags: many}); err != nil {
		t.Fatal(err)
	}
	_, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{i.ID}, Tags: []types.Tag{tag("one more", "v")}})
	refused(t, "51 tags", err, "TagLimitExceeded")
	_, err = c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{i.ID}, Tags: []types.Tag{tag("key1", "w")}, DryRun: aws.Bool(true)})
	refused(t, "dry run", err, "DryRunOperation")
	if got := s.instanceNow(t, east, i.ID).Tags["key1"]; got != "v" {
		t.Errorf("a dry run changed a tag to %q", got)
	}
}
