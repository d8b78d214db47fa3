package amazon

import (
	"strings"
	"testing"
)

const surrogateDisks = `
  ami_virtualization_type = "hvm"
  launch_block_device_mappings {
    device_name           = "/dev/sdf"
    volume_size           = 8
    delete_on_termination = true
  }
  ami_root_device {
    source_device_name    = "/dev/sdf"
    device_name           = "/dev/xvda"
    volume_size           = 8
    delete_on_termination = true
  }
`

const ownVolume = `
  ebs_volumes {
    device_name     = "/dev/sdf"
    volume_size     = 1
    snapshot_volume = true
    tags            = { X = "y" }
  }
`

const ownProfile = `
  temporary_iam_instance_profile_policy_document {
    Statement {
      Action   = ["s3:*"]
      Effect   = "Allow"
      Resource = ["*"]
    }
  }
`

// TestBuilds bakes each kind of artifact with a real SSH connection to a
// machine of a local cloud that is a stand-in.
func TestBuilds(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	for _, c := range []struct {
		name, typ, more string
		images          int
	}{
		{"copies", typeEBS, `
  ami_regions    = ["eu-west-1", "us-west-2", "ap-southeast-1"]
  ami_users      = ["123456789012"]
  snapshot_users = ["123456789012"]
  tags           = { A = "b" }
  deprecate_at   = "2030-01-01T00:00:00Z"
`, 4},
		{"encrypted", typeEBS, "encrypt_boot = true\nami_regions = [\"eu-west-1\"]", 2},
		{"spot", typeEBS, "spot_price = \"auto\"\nassociate_public_ip_address = true", 1},
		{"profile", typeEBS, ownProfile, 1},
		{"surrogate", typeSurrogate, surrogateDisks, 1},
		{"swap", typeSurrogate, surrogateDisks + "use_create_image = true", 1},
		{"volume", typeVolume, ownVolume, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := len(g.cloud.Calls())
			b := g.must(t, baking{typ: c.typ, more: c.more})
			calls := g.cloud.Calls()[before:]
			t.Logf("%s, %d calls: %s", b.set.ID, len(calls), strings.ReplaceAll(strings.Join(calls, " "), "ec2:", ""))
			if len(b.set.Images) != c.images {
				t.Errorf("%d images, want %d", len(b.set.Images), c.images)
			}
			for _, i := range b.set.Images {
				tags := g.image(t, i.Region, i.ID).Tags
				if tags[tagArch] != "x86_64" || tags[tagSource] != g.base || tags[tagRun] != b.run || tags[tagTemplate] != "sha256:abc" {
					t.Errorf("%s: tags %v", i.Region, tags)
				}
			}
			if c.typ == typeVolume && (len(b.set.Snapshots) != 1 || !strings.Contains(b.set.ID, ":vol-")) {
				t.Errorf("%+v", b.set)
			}
		})
	}
}
