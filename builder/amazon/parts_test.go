package amazon

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
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

func TestHostOf(t *testing.T) {
	i := types.Instance{
		PublicIpAddress: aws.String("192.0.2.1"), PrivateIpAddress: aws.String("10.0.0.1"), PublicDnsName: aws.String("pub"), PrivateDnsName: aws.String("priv"),
		NetworkInterfaces: []types.InstanceNetworkInterface{{Ipv6Addresses: []types.InstanceIpv6Address{{Ipv6Address: aws.String("2001:db8::1")}}}},
	}
	for kind, want := range map[string]string{
		"": "192.0.2.1", "public_ip": "192.0.2.1", "private_ip": "10.0.0.1", "public_dns": "pub", "private_dns": "priv", "ipv6": "2001:db8::1",
	} {
		if got := hostOf(i, kind); got != want {
			t.Errorf("%q: %q, want %q", kind, got, want)
		}
	}
	i.PublicIpAddress, i.PublicDnsName = nil, aws.String("")
	if got := hostOf(i, ""); got != "10.0.0.1" {
		t.Errorf("%q", got)
	}
}

func TestWindowsPassword(t *testing.T) {
	key, line, err := ssh.GenerateKey("rsa", 2048, "k")
	if err != nil {
		t.Fatal(err)
	}
	pub, _, _, _, err := gossh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	box, err := rsa.EncryptPKCS1v15(rand.Reader, pub.(gossh.CryptoPublicKey).CryptoPublicKey().(*rsa.PublicKey), []byte("s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := decryptPassword(key, base64.StdEncoding.EncodeToString(box))
	if err != nil || got.Reveal() != "s3cret" {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
	other, _, err := ssh.GenerateKey("ed25519", 0, "k")
	if err != nil {
		t.Fatal(err)
	}
	_, err = decryptPassword(other, base64.StdEncoding.EncodeToString(box))
	wantText(t, "ed25519", err, "cannot be opened")
	_, err = decryptPassword(key, "!")
	wantText(t, "no base64", err, "password")
}

const consoleText = `[    5.1] cloud-init[512]: Cloud-init v. 24 running 'modules:final'
<14>Mar  4 05:06:07 cloud-init: -----BEGIN SSH HOST KEY KEYS-----
ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg= root@ip-10-0-0-1
[    5.2] ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl root@ip-10-0-0-1
random: crng init done
ssh-rsa garbage
-----END SSH HOST KEY KEYS-----
Debian GNU/Linux 13 ip-10-0-0-1 ttyS0
`

func TestConsoleKeys(t *testing.T) {
	keys := consoleKeys(consoleText)
	if len(keys) != 2 || !strings.HasPrefix(keys[0], "ecdsa-sha2-nistp256 ") || !strings.HasPrefix(keys[1], "ssh-ed25519 ") {
		t.Errorf("%q", keys)
	}
	// A block that is not complete is not believed; the one before it is.
	if got := consoleKeys(consoleText + keysBegin + "\nssh-ed25519 AAAA"); !slices.Equal(got, keys) {
		t.Errorf("%q", got)
	}
	if got := consoleKeys(keysBegin + "\n" + keys[1]); got != nil {
		t.Errorf("%q", got)
	}
	if got := consoleKeys(""); got != nil {
		t.Errorf("%q", got)
	}
}

func FuzzConsoleKeys(f *testing.F) {
	f.Add(consoleText)
	f.Add(keysBegin + keysEnd + keysBegin)
	f.Fuzz(func(t *testing.T, text string) {
		for _, k := range consoleKeys(text) {
			if _, _, _, _, err := gossh.ParseAuthorizedKey([]byte(k)); err != nil {
				t.Errorf("%q: %v", k, err)
			}
		}
	})
}

func TestKeyFinder(t *testing.T) {
	keys := consoleKeys(consoleText)
	now := start
	finder := func(must bool, console func() (string, error)) *keyFinder {
		return &keyFinder{
			r: testRun(t), must: must, pause: lookFirst, now: func() time.Time { return now },
			console: func(context.Context) (string, error) { return console() },
			shown:   func(context.Context) ([]string, error) { return []string{"shown"}, nil },
		}
	}
	find := func(f *keyFinder) []string {
		t.Helper()
		got, err := f.find(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	looks := 0
	printed := finder(false, func() (string, error) { looks++; return consoleText, nil })
	if got := find(printed); !slices.Equal(got, keys) {
		t.Errorf("%q", got)
	}
	if find(printed); looks != 1 {
		t.Errorf("%d looks at the console", looks)
	}
	if got := find(finder(false, func() (string, error) { return "", nil })); !slices.Equal(got, []string{"shown"}) {
		t.Errorf("a guest that prints nothing: %q", got)
	}
	if got := find(finder(true, func() (string, error) { return "login:", nil })); got != nil {
		t.Errorf("a key that was not printed is taken although it must be: %q", got)
	}
	// With cloud-init it is waited for, and not asked for with every try.
	looks = 0
	soon := finder(false, func() (string, error) { looks++; return "cloud-init starts", nil })
	if got := find(soon); got != nil {
		t.Errorf("%q", got)
	}
	if find(soon); looks != 1 {
		t.Errorf("%d looks at once", looks)
	}
	now = now.Add(lookTime + time.Second)
	if got := find(soon); !slices.Equal(got, []string{"shown"}) {
		t.Errorf("after the wait: %q", got)
	}
	boom := errors.New("boom")
	if _, err := finder(true, func() (string, error) { return "", boom }).find(t.Context()); !errors.Is(err, boom) {
		t.Errorf("%v", err)
	}
	if got := find(finder(false, func() (string, error) { return "", boom })); !slices.Equal(got, []string{"shown"}) {
		t.Errorf("%q", got)
	}
}

func TestPublicAddress(t *testing.T) {
	answer := "192.0.2.7\n"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
	defer srv.Close()
	if ip, err := publicAddress(t.Context(), srv.URL); err != nil || ip.String() != "192.0.2.7" {
		t.Errorf("%v, %v", ip, err)
	}
	answer = "<html>"
	if ip, err := publicAddress(t.Context(), srv.URL); err == nil {
		t.Errorf("%v", ip)
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
