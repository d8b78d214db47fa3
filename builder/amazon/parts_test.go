package amazon

import (
	"encoding/base64"
	"encoding/json"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/event"
)

func testRun(t *testing.T) *builder.Run {
	info := builder.Info{Name: "a", Type: typeEBS, Build: "amazon-ebs.a", RunID: "run-1", Template: "sha256:abc"}
	return builder.NewRun(info, t.TempDir(), event.Discard, nil, nil)
}

func debian() *state {
	return &state{
		Region: "us-east-1", Name: "web", Attempt: "0a0b0c0d",
		Source: source{ID: "ami-1", Name: "debian", Arch: "x86_64", Virtualization: "hvm", ENA: true, RootDevice: "/dev/xvda", Tags: map[string]string{}},
	}
}

func TestMapping(t *testing.T) {
	full := BlockDevice{
		DeviceName: "/dev/xvdb", Size: 10, Type: "io1", IOPS: 200, Encrypted: aws.Bool(true), KMSKey: "k", SnapshotID: "snap-1", DeleteOnTermination: true,
	}
	want := types.BlockDeviceMapping{DeviceName: aws.String("/dev/xvdb"), Ebs: &types.EbsBlockDevice{
		DeleteOnTermination: aws.Bool(true), VolumeSize: aws.Int32(10), VolumeType: "io1", Iops: aws.Int32(200),
		Encrypted: aws.Bool(true), KmsKeyId: aws.String("k"), SnapshotId: aws.String("snap-1"),
	}}
	if got := full.mapping(); !reflect.DeepEqual(got, want) {
		t.Errorf("%+v", got.Ebs)
	}
	want.Ebs.Encrypted, want.Ebs.KmsKeyId = nil, nil
	if got := full.imageMapping(); !reflect.DeepEqual(got, want) {
		t.Errorf("of an image: %+v", got.Ebs)
	}
	small := BlockDevice{DeviceName: "/dev/xvdb"}.mapping()
	if e := small.Ebs; e == nil || e.VolumeSize != nil || e.Encrypted != nil || *e.DeleteOnTermination {
		t.Errorf("%+v", e)
	}
	if b := (BlockDevice{DeviceName: "b", NoDevice: true}).mapping(); b.NoDevice == nil || b.Ebs != nil {
		t.Errorf("%+v", b)
	}
	if b := (BlockDevice{DeviceName: "b", VirtualName: "ephemeral0"}).mapping(); *b.VirtualName != "ephemeral0" || b.Ebs != nil {
		t.Errorf("%+v", b)
	}
	list := mappings([]BlockDevice{full}, true)
	if len(list) != 27 || *list[1].DeviceName != "xvdca" || *list[26].DeviceName != "xvdcz" || list[26].NoDevice == nil {
		t.Errorf("%d mappings", len(list))
	}
}

func TestRunInput(t *testing.T) {
	m := must(t, typeEBS, minimal+`
  user_data                   = "#!/bin/sh"
  iam_instance_profile        = "builder"
  ebs_optimized               = true
  enable_unlimited_credits    = true
  associate_public_ip_address = true
  run_tags                    = { Owner = "me" }
  run_volume_tags             = { Disk = "d" }
  metadata_options {
    http_endpoint = "disabled"
  }
`)
	s := debian()
	s.Key.Name, s.Group.ID = "key", "sg-1"
	in, err := m.runInput(testRun(t), s, "t3.small", place{Subnet: "subnet-1", Zone: "us-east-1a"})
	if err != nil {
		t.Fatal(err)
	}
	nic := in.NetworkInterfaces[0]
	if *in.ImageId != "ami-1" || *in.KeyName != "key" || *nic.SubnetId != "subnet-1" || nic.Groups[0] != "sg-1" || in.SubnetId != nil || in.SecurityGroupIds != nil {
		t.Errorf("%+v", in)
	}
	if text, _ := base64.StdEncoding.DecodeString(*in.UserData); string(text) != "#!/bin/sh" {
		t.Errorf("user data %q", text)
	}
	if in.Placement != nil || *in.CreditSpecification.CpuCredits != "unlimited" || in.MetadataOptions.HttpEndpoint != "disabled" || *in.IamInstanceProfile.Name != "builder" {
		t.Errorf("%+v", in)
	}
	tags := map[types.ResourceType]map[string]string{}
	for _, sp := range in.TagSpecifications {
		tags[sp.ResourceType] = tagMap(sp.Tags)
	}
	if i := tags["instance"]; i["Owner"] != "me" || i[tagRun] != "run-1" || i[tagBuild] != "amazon-ebs.a" || i["Name"] == "" {
		t.Errorf("instance %v", i)
	}
	if v := tags["volume"]; v["Disk"] != "d" || v[tagRun] != "run-1" || v["Owner"] != "" {
		t.Errorf("volume %v", v)
	}
	// Another place, another key: another request.
	other, _ := m.runInput(testRun(t), s, "t3.small", place{Zone: "us-east-1b"})
	if *other.ClientToken == *in.ClientToken || *other.Placement.AvailabilityZone != "us-east-1b" {
		t.Errorf("%+v", other)
	}
	again, _ := m.runInput(testRun(t), s, "t3.small", place{Subnet: "subnet-1", Zone: "us-east-1a"})
	if *again.ClientToken != *in.ClientToken || len(*in.ClientToken) > 64 {
		t.Errorf("tokens %s, %s", *in.ClientToken, *again.ClientToken)
	}
}

func TestSpotInput(t *testing.T) {
	m := must(t, typeEBS, strings.Replace(minimal, `instance_type = "t3.small"`, `spot_instance_types = ["t3.small", "t3.large"]`, 1)+`
  spot_price               = "0.05"
  spot_allocation_strategy = "capacity-optimized-prioritized"
  spot_tags                = { Name = "spot" }
  fleet_tags               = { Fleet = "f" }
  launch_block_device_mappings {
    device_name = "/dev/xvdb"
    no_device   = true
  }
`)
	s := debian()
	s.Template.ID, s.Group.ID = "lt-1", "sg-1"
	d, err := m.templateData(testRun(t), s)
	if err != nil {
		t.Fatal(err)
	}
	if b := d.BlockDeviceMappings[0]; b.NoDevice == nil || b.Ebs != nil {
		t.Errorf("%+v", b)
	}
	if got := tagMap(d.TagSpecifications[0].Tags); got["Name"] != "spot" || got[tagRun] != "run-1" {
		t.Errorf("%v", got)
	}
	in, err := m.fleetInput(testRun(t), s, place{Zone: "us-east-1a"})
	if err != nil {
		t.Fatal(err)
	}
	ov := in.LaunchTemplateConfigs[0].Overrides
	if len(ov) != 2 || *ov[0].MaxPrice != "0.05" || *ov[1].Priority != 1 || *ov[0].AvailabilityZone != "us-east-1a" || in.Type != types.FleetTypeInstant {
		t.Errorf("%+v", in)
	}
	if got := tagMap(in.TagSpecifications[0].Tags); got["Fleet"] != "f" || got[tagRun] != "run-1" {
		t.Errorf("%v", got)
	}
}

func TestImageTags(t *testing.T) {
	m := must(t, typeEBS, minimal+`
  run_tags      = { Owner = "me", Stage = "build" }
  tags          = { Stage = "image", Architecture = "mine", From = "{{ .SourceAMI }}" }
  snapshot_tags = { Stage = "snapshot" }
`)
	image, snapshot, err := m.imageTags(testRun(t), debian())
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"Owner": "me", "Stage": "image", "From": "ami-1", "Architecture": "mine", // the user's wins
		tagVirt: "hvm", tagBoot: "legacy-bios", tagSource: "ami-1", tagVersion: "1.2.3", tagTemplate: "sha256:abc", tagRun: "run-1", tagBuild: "amazon-ebs.a",
		tagState: stateBuilding,
	}
	if got := tagMap(image); !maps.Equal(got, want) {
		t.Errorf("%v", got)
	}
	want["Stage"] = "snapshot"
	if got := tagMap(snapshot); !maps.Equal(got, want) {
		t.Errorf("snapshot: %v", got)
	}
	m.img.SkipRunTags = true
	image, _, _ = m.imageTags(testRun(t), debian())
	if _, ok := tagMap(image)["Owner"]; ok {
		t.Error("run_tags are on the image although skip_ami_run_tags is set")
	}
}

func TestTagsFit(t *testing.T) {
	user := Tags{}
	for i := range maxTags - 1 {
		user[strings.Repeat("k", i+1)] = "v"
	}
	got := tagMap(tagged(user, tag{tagRun, "r"}, tag{tagBuild, "b"}))
	if len(got) != maxTags || got[tagRun] != "r" {
		t.Errorf("%d tags, run %q", len(got), got[tagRun])
	}
}

func TestSurrogateDevices(t *testing.T) {
	m := must(t, typeSurrogate, minimalSurrogate+`
  launch_block_device_mappings {
    device_name = "/dev/xvdg"
    volume_size = 2
  }
  launch_block_device_mappings {
    device_name        = "/dev/xvdh"
    volume_size        = 3
    omit_from_artifact = true
  }
  ami_block_device_mappings {
    device_name = "/dev/xvdg"
    volume_size = 9
  }
  ami_block_device_mappings {
    device_name  = "/dev/xvdz"
    virtual_name = "ephemeral0"
  }
`)
	snaps := []snapshotState{{Device: "/dev/xvdf", ID: "snap-f"}, {Device: "/dev/xvdg", ID: "snap-g"}}
	list, err := m.sur.imageDevices(snaps)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, b := range list {
		s := *b.DeviceName
		if b.Ebs != nil {
			s += " " + aws.ToString(b.Ebs.SnapshotId)
		}
		got = append(got, s)
	}
	if want := []string{"/dev/xvda snap-f", "/dev/xvdg snap-g", "/dev/xvdz"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := m.sur.imageDevices(snaps[:1]); err == nil {
		t.Error("a disk without a snapshot is no fault")
	}
	s := debian()
	s.Snapshots = snaps
	in, err := m.registerInput(s, nil, "d")
	if err != nil || in.Architecture != "x86_64" || *in.VirtualizationType != "hvm" || *in.RootDeviceName != "/dev/xvda" || !*in.EnaSupport {
		t.Errorf("%+v, %v", in, err)
	}
}

func TestPolicyDocument(t *testing.T) {
	text, err := (&Policy{Version: "2012-10-17", Statements: []Statement{{Action: []string{"s3:Get*"}, Effect: "Allow", Resource: []string{"*"}}}}).document()
	want := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["s3:Get*"],"Resource":["*"]}]}`
	if err != nil || text != want {
		t.Errorf("%s, %v", text, err)
	}
	for _, p := range []string{"aws", "aws-cn"} {
		if !json.Valid([]byte(trust(p))) {
			t.Errorf("%s: %s", p, trust(p))
		}
	}
}

func TestFastLaunchOf(t *testing.T) {
	l := &FastLaunch{Enable: true, TemplateID: "lt-1", MaxParallel: 7, Regions: []FastLaunchInRegion{
		{Region: "eu-west-1", TemplateName: "there", TemplateVersion: 3}, {Region: "eu-west-2", Enable: aws.Bool(false)},
	}}
	if got := l.of("us-east-1"); got.TemplateID != "lt-1" || got.MaxParallel != 7 {
		t.Errorf("%+v", got)
	}
	if got := l.of("eu-west-1"); got.TemplateID != "" || got.TemplateName != "there" || got.TemplateVersion != 3 || got.MaxParallel != 7 {
		t.Errorf("%+v", got)
	}
	if l.of("eu-west-2") != nil || (*FastLaunch)(nil).of("us-east-1") != nil {
		t.Error("on where it is off")
	}
}

func TestCopyInput(t *testing.T) {
	m := must(t, typeEBS, minimal+`
  ami_regions                    = ["eu-west-1"]
  encrypt_boot                   = true
  kms_key_id                     = "here"
  region_kms_key_ids             = { eu-west-1 = "there" }
  snapshot_copy_duration_minutes = 30
  ami_description                = "of {{ .SourceAMI }}"
`)
	s := debian()
	s.Image.ID = "ami-9"
	if got := m.copyRegions(s); !slices.Equal(got, []string{"us-east-1", "eu-west-1"}) || !m.intermediary() {
		t.Errorf("%q", got)
	}
	for region, key := range map[string]string{"us-east-1": "here", "eu-west-1": "there"} {
		cp := builder.NewCopy(testRun(t), region, nil, event.Discard, func(json.RawMessage) error { return nil })
		in, err := m.copyInput(cp, s, copyState{})
		if err != nil || !*in.Encrypted || *in.KmsKeyId != key || *in.SnapshotCopyCompletionDurationMinutes != 30 || *in.Description != "of ami-1" || *in.Name != "web" {
			t.Errorf("%s: %+v, %v", region, in, err)
		}
		again, _ := m.copyInput(cp, s, copyState{Failures: 1})
		if *again.ClientToken == *in.ClientToken {
			t.Error("a copy that AWS gave up is asked for with the same token")
		}
	}
}

func TestArtifact(t *testing.T) {
	m := must(t, typeEBS, minimal)
	image := func(region, id string, tags map[string]string) artifact.SystemImage {
		return artifact.SystemImage{Ref: artifact.Ref{Provider: provider, Region: region, ID: id}, Tags: tags}
	}
	set := artifact.Set{Images: []artifact.SystemImage{image("us-east-1", "ami-1", nil)}}
	got := m.partial(set, []artifact.SystemImage{image("eu-west-1", "ami-2", nil), {}})
	if got.ID != "eu-west-1:ami-2,us-east-1:ami-1" || got.Text != "AMIs were created:\neu-west-1: ami-2\nus-east-1: ami-1\n" || len(set.Images) != 1 {
		t.Errorf("%q %q", got.ID, got.Text)
	}
	set.Images[0].Tags = map[string]string{tagIntermediary: "true"}
	if got := m.partial(set, []artifact.SystemImage{image("us-east-1", "ami-3", nil)}); got.ID != "us-east-1:ami-3" {
		t.Errorf("the intermediary image is in the artifact: %q", got.ID)
	}
}

func TestVolumeArtifact(t *testing.T) {
	m := must(t, typeVolume, minimalVolume+`
  ebs_volumes {
    device_name     = "/dev/xvdf"
    volume_size     = 1
    snapshot_volume = true
  }
  ebs_volumes {
    device_name           = "/dev/xvdg"
    volume_size           = 1
    delete_on_termination = true
  }
`)
	s := debian()
	s.Instance.Volumes = []volumeState{{Device: "/dev/xvdf", ID: "vol-f"}, {Device: "/dev/xvdg", ID: "vol-g", Delete: true}}
	s.Snapshots = []snapshotState{{Device: "/dev/xvdf", ID: "snap-f", Size: 1}}
	var set artifact.Set
	m.volumeResult(s, &set)
	if set.ID != "us-east-1:vol-f,us-east-1:snap-f" || len(set.Snapshots) != 1 || set.Snapshots[0].Consistency != artifact.CleanShutdown || len(set.Images) != 0 {
		t.Errorf("%+v", set)
	}
}

func TestStateHoldsNoSecret(t *testing.T) {
	js, err := json.Marshal(debian())
	if err != nil {
		t.Fatal(err)
	}
	var back state
	if err := json.Unmarshal(js, &back); err != nil || !reflect.DeepEqual(back, *debian()) {
		t.Errorf("%+v, %v", back, err)
	}
}

func TestLeftover(t *testing.T) {
	m := must(t, typeEBS, minimal+"launch_block_device_mappings {\n device_name = \"/dev/xvdb\"\n volume_size = 1\n}")
	s := debian()
	s.Instance.Volumes = []volumeState{{"/dev/xvda", "vol-root", true}, {"/dev/xvdb", "vol-asked", false}, {"/dev/xvdc", "vol-image", false}}
	s.Swap = swapState{Detached: []string{"vol-off"}, Root: "vol-root"}
	if got := m.leftover(s); !slices.Equal(got, []string{"vol-image", "vol-off", "vol-root"}) {
		t.Errorf("%q", got)
	}
}
