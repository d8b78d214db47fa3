package localcloud

import (
	"reflect"
	"testing"
)

func TestLaunchOverTemplate(t *testing.T) {
	yes, no := true, false
	base := LaunchSpec{
		ImageID: "ami-1", Type: "t3.micro", EBSOptimized: &yes, UserData: []byte("base"),
		Interfaces: []LaunchInterface{{SecurityGroupIDs: []string{"sg-1"}, PublicIP: &yes}},
		Placement:  &LaunchPlacement{Zone: "us-east-1a", Tenancy: "dedicated"},
		Tags:       map[string]Tags{"instance": {"a": "1", "b": "1"}},
	}
	got := LaunchSpec{
		Type: "m5.large", EBSOptimized: &no, SubnetID: "subnet-2",
		Placement: &LaunchPlacement{ZoneID: "use1-az2"},
		Tags:      map[string]Tags{"instance": {"b": "2"}, "volume": {"c": "3"}},
	}.Over(base)
	want := LaunchSpec{
		ImageID: "ami-1", Type: "m5.large", EBSOptimized: &no, UserData: []byte("base"),
		Interfaces: []LaunchInterface{{SubnetID: "subnet-2", SecurityGroupIDs: []string{"sg-1"}, PublicIP: &yes}},
		Placement:  &LaunchPlacement{ZoneID: "use1-az2", Tenancy: "dedicated"},
		Tags:       map[string]Tags{"instance": {"a": "1", "b": "2"}, "volume": {"c": "3"}},
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if base.Interfaces[0].SubnetID != "" || base.Tags["instance"]["b"] != "1" {
		t.Errorf("the template was changed: %+v", base)
	}
	got = LaunchSpec{SecurityGroupIDs: []string{"sg-2"}}.Over(base)
	if len(got.SecurityGroupIDs) != 0 || got.Interfaces[0].SecurityGroupIDs[0] != "sg-2" {
		t.Errorf("groups over an interface: %+v", got)
	}
	plain := LaunchSpec{SecurityGroupIDs: []string{"sg-1"}, SubnetID: "subnet-1"}
	if got = (LaunchSpec{}).Over(plain); got.SecurityGroupIDs[0] != "sg-1" || got.SubnetID != "subnet-1" {
		t.Errorf("nothing over a template: %+v", got)
	}
	if got = (LaunchSpec{SubnetID: "subnet-2"}).Over(plain); got.SubnetID != "subnet-2" || got.SecurityGroupIDs[0] != "sg-1" {
		t.Errorf("a subnet over a template: %+v", got)
	}
	if got = (LaunchSpec{Interfaces: []LaunchInterface{{SubnetID: "subnet-3"}}}).Over(plain); got.SubnetID != "" || got.SecurityGroupIDs != nil {
		t.Errorf("an interface over a template: %+v", got)
	}
}
