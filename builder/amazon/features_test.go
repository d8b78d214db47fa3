package amazon

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud"
	inject "github.com/ingot-build/ingot/internal/localcloud/faults"
)

// An image of the same name is refused before anything is made, in every
// region, and removed when asked for, in every region.
func TestForceDeregister(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	const copies = "ami_regions = [\"eu-west-1\"]\n"
	old := g.must(t, baking{typ: typeEBS, name: "web", more: copies})
	f := g.fails(t, baking{typ: typeEBS, name: "web", more: copies}, "an image named \"web\" in us-east-1 already: "+old.in(t, home))
	wantText(t, "the other region", f.err, "in eu-west-1 already: "+old.in(t, away))

	// replaced fails unless the images are gone, and their snapshots as said.
	replaced := func(images map[string]bool, snapshots bool) {
		t.Helper()
		now := g.census(t)
		for id := range images {
			if there, want := now[id] != "", !snapshots && strings.HasPrefix(id, "snap-"); there != want {
				t.Errorf("%s is there: %t, want %t", id, there, want)
			}
		}
	}
	parts := g.parts(t, old.set)
	b := g.bake(t, baking{typ: typeEBS, name: "web", more: copies + "force_deregister = true"})
	ok(t, errors.Join(b.err, b.discard))
	replaced(parts, false)
	b.s.want(t, "Deregistering the image that had the name in us-east-1: "+old.in(t, home), "Deregistering the image that had the name in eu-west-1: "+old.in(t, away))

	parts = g.parts(t, b.set)
	b = g.bake(t, baking{typ: typeEBS, name: "web", more: copies + "force_delete_snapshot = true", force: true})
	ok(t, errors.Join(b.err, b.discard))
	replaced(parts, true)

	// A protected one cannot be removed: that is known before the build.
	_, err := g.cloud.ProtectImage(t.Context(), away, b.in(t, away), true, false)
	ok(t, err)
	g.fails(t, baking{typ: typeEBS, name: "web", more: copies + "force_deregister = true"}, "in eu-west-1 has the name and is protected")
}

func TestCapacityLadder(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	const ladder = "instance_type = \"t3.micro\"\ninstance_types = [\"t3.small\", \"t3.medium\"]\n"
	g.settings(t, localcloud.Settings{NoCapacity: []string{"t3.micro"}})
	g.must(t, baking{typ: typeEBS, more: ladder}).s.want(t, "no capacity for t3.micro: ", "no capacity for t3.micro in us-east-1b", "(t3.small)")

	g.settings(t, localcloud.Settings{NoCapacity: []string{"t3.micro", "t3.small", "us-east-1a/t3.medium", "us-east-1b/t3.medium"}})
	g.must(t, baking{typ: typeEBS, more: ladder + "associate_public_ip_address = true"}).s.want(t, "(t3.medium)")

	g.settings(t, localcloud.Settings{NoCapacity: []string{"t3.micro", "t3.small", "t3.medium"}})
	before := len(g.cloud.Calls())
	f := g.fails(t, baking{typ: typeEBS, more: ladder}, "no capacity for t3.medium in us-east-1")
	wantText(t, "the first type", f.err, "no capacity for t3.micro in us-east-1")
	wantText(t, "AWS's words", f.err, ": RunInstances: InsufficientInstanceCapacity: We currently do not have sufficient t3.micro capacity")
	runs := 0
	for _, c := range g.cloud.Calls()[before:] {
		if c == "ec2:RunInstances" {
			runs++
		}
	}
	if most := 3 * (1 + len(localcloud.Zones(home))); runs > most {
		t.Errorf("%d requests, at most %d are for something new", runs, most)
	}
}

func TestSpotFallback(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.settings(t, localcloud.Settings{NoCapacity: []string{"t3.micro/spot"}})
	const spot = "spot_price = \"auto\"\n"
	g.fails(t, baking{typ: typeEBS, more: spot}, "InsufficientInstanceCapacity")
	b := g.must(t, baking{typ: typeEBS, more: spot + "spot_fallback = true"})
	b.s.want(t, "starting an on-demand instance (spot_fallback)", "(t3.micro)", "Stopping instance")
}

// Credentials that may not import a key may have one made.
func TestCreateKeyPair(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	no := inject.Rule{Kind: inject.Fail, Action: "ImportKeyPair", Code: "UnauthorizedOperation", Status: 403}
	for name, more := range map[string]string{"made": "", "of rsa": "temporary_key_pair_type = \"rsa\"\ntemporary_key_pair_bits = 2048\n", "named": "temporary_key_pair_name = \"mine\"\n"} {
		ok(t, g.cloud.Faults.Set(no))
		g.must(t, baking{typ: typeEBS, more: more})
		// The answer, and with it the key, is lost: another one is made.
		ok(t, g.cloud.Faults.Set(no, inject.Rule{Kind: inject.Lost, Action: "CreateKeyPair", Count: 1}))
		g.must(t, baking{typ: typeEBS, more: more})
		if t.Failed() {
			t.Fatal(name)
		}
	}
	// A key of somebody else stays.
	ok(t, g.cloud.Faults.Set(no))
	_, _, err := g.cloud.CreateKeyPair(t.Context(), home, localcloud.KeyPairParams{Name: "mine"})
	ok(t, err)
	g.fails(t, baking{typ: typeEBS, more: "temporary_key_pair_name = \"mine\""}, "InvalidKeyPair.Duplicate")
}

func TestSkipCreateAMI(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	b := g.must(t, baking{typ: typeEBS, more: "skip_create_ami = true"})
	if !b.set.Empty || len(b.set.Images) != 0 || b.set.Text != "No image was made (skip_create_ami)" {
		t.Errorf("%+v", b.set)
	}
}

func TestEncryption(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	const (
		here  = "arn:aws:kms:us-east-1:123456789012:key/11111111-2222-3333-4444-555555555555"
		there = "arn:aws:kms:eu-west-1:123456789012:key/11111111-2222-3333-4444-555555555555"
	)
	b := g.must(t, baking{typ: typeEBS, more: `
  encrypt_boot       = true
  kms_key_id         = "` + here + `"
  ami_regions        = ["eu-west-1", "us-west-2"]
  region_kms_key_ids = { eu-west-1 = "` + there + `", us-west-2 = "" }
  tags               = { A = "b" }
`})
	b.s.want(t, "Deregistering intermediary image")
	if len(b.set.Images) != 3 {
		t.Errorf("%q", b.set.ID)
	}
	for region, key := range map[string]string{home: here, away: there, far: "arn:aws:kms:us-west-2:123456789012:key/"} {
		id := b.in(t, region)
		if i := g.image(t, region, id); i.Tags["A"] != "b" || i.Tags[tagIntermediary] != "" {
			t.Errorf("%s: %v", region, i.Tags)
		}
		for _, s := range g.snapshots(t, region, id) {
			if !s.Encrypted || !strings.HasPrefix(s.KMSKeyID, key) || s.Tags["A"] != "b" {
				t.Errorf("%s: encrypted %t with %q, want %q; %v", region, s.Encrypted, s.KMSKeyID, key, s.Tags)
			}
		}
	}
	b = g.must(t, baking{typ: typeEBS, more: "skip_save_build_region = true\nami_regions = [\"eu-west-1\"]"})
	if len(b.set.Images) != 1 || b.set.Images[0].Region != away {
		t.Errorf("%q", b.set.ID)
	}
}

// Who may use the image, how long it lives and how it is protected holds in
// every region.
func TestImageAttributes(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	until := time.Now().AddDate(1, 0, 0).UTC().Truncate(time.Minute)
	b := g.must(t, baking{typ: typeEBS, more: `
  ami_description = "of {{ .SourceAMI }}"
  ami_users       = ["210987654321"]
  ami_groups      = ["all"]
  ami_org_arns    = ["arn:aws:organizations::123456789012:organization/o-1234567890"]
  ami_ou_arns     = ["arn:aws:organizations::123456789012:ou/o-1234567890/ou-1234-12345678"]
  snapshot_users  = ["210987654321"]
  snapshot_groups = ["all"]
  imds_support    = "v2.0"
  ena_support     = true
  ami_regions     = ["eu-west-1"]
  run_tags        = { Team = "images" }
  tags            = { A = "b" }
  snapshot_tags   = { A = "c" }
  deprecate_at    = "` + until.Format(time.RFC3339) + `"
  deregistration_protection {
    enabled       = true
    with_cooldown = true
  }
`})
	for _, region := range []string{home, away} {
		i := g.image(t, region, b.in(t, region))
		if i.Description != "of "+g.base || i.IMDSSupport != "v2.0" || !i.ENA || i.Protected != "enabled-with-cooldown" || !i.Deprecated.Equal(until) {
			t.Errorf("%s: %+v", region, i)
		}
		if !slices.Contains(i.LaunchUsers, "210987654321") || !slices.Contains(i.LaunchGroups, "all") || len(i.LaunchOrgs) != 1 || len(i.LaunchOUs) != 1 {
			t.Errorf("%s: shared with %v %v %v %v", region, i.LaunchUsers, i.LaunchGroups, i.LaunchOrgs, i.LaunchOUs)
		}
		if i.Tags["A"] != "b" || i.Tags["Team"] != "images" {
			t.Errorf("%s: %v", region, i.Tags)
		}
		for _, s := range g.snapshots(t, region, i.ID) {
			if !slices.Contains(s.Users, "210987654321") || !slices.Contains(s.Groups, "all") || s.Tags["A"] != "c" {
				t.Errorf("%s: %+v", region, s)
			}
		}
	}
}

// A copy that AWS accepts and gives up later is made again; a region that is
// down costs its own copy only.
func TestCopyFails(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	const two = "ami_regions = [\"eu-west-1\", \"us-west-2\"]"
	g.settings(t, localcloud.Settings{CopyFails: map[string]string{away: "Client.InvalidKey: the key cannot be used"}})
	before := g.census(t)
	b := g.bake(t, baking{typ: typeEBS, more: two})
	ok(t, b.discard)
	wantText(t, "a copy that fails late", b.err, "the key cannot be used")
	if len(b.set.Images) != 2 || b.in(t, far) == "" {
		t.Errorf("%q", b.set.ID)
	}
	g.nothingBut(t, before, b.set)

	g.settings(t, localcloud.Settings{})
	ok(t, g.cloud.Faults.Set(inject.Rule{Kind: inject.Fail, Action: "CopyImage", Region: away, Code: "OptInRequired", Status: 403}))
	before = g.census(t)
	b = g.bake(t, baking{typ: typeEBS, more: two})
	ok(t, b.discard)
	wantText(t, "a region that refuses", b.err, "CopyImage: OptInRequired")
	if len(b.set.Images) != 2 {
		t.Errorf("%q", b.set.ID)
	}
	g.nothingBut(t, before, b.set)
}

// Fast launch is of the regions that the template says.
func TestFastLaunch(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.windows(t)
	b := g.must(t, baking{typ: typeEBS, more: `
  ami_regions = ["eu-west-1"]
  fast_launch {
    enable_fast_launch    = true
    max_parallel_launches = 8
    target_resource_count = 3
    region_launch_templates {
      region             = "eu-west-1"
      enable_fast_launch = false
    }
  }
`})
	here, err := g.cloud.FastLaunches(t.Context(), home, []string{b.in(t, home)})
	ok(t, err)
	if len(here) != 1 || here[0].State != "enabled" || here[0].MaxParallel != 8 || here[0].Target != 3 {
		t.Errorf("%+v", here)
	}
	there, err := g.cloud.FastLaunches(t.Context(), away, []string{b.in(t, away)})
	ok(t, err)
	if len(there) != 0 {
		t.Errorf("on where it is off: %+v", there)
	}
}
