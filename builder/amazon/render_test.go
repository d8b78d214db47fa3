package amazon

import (
	"strings"
	"testing"
)

func TestRender(t *testing.T) {
	r := renderer{start: start, buildName: "web", btype: typeEBS, version: "1.2.3"}
	src := source{ID: "ami-1", Name: "debian", Created: "2026-01-02T03:04:05.000Z", Owner: "136693071363", OwnerAlias: "debian", Tags: map[string]string{"Release": "13"}}
	for in, want := range map[string]string{
		"plain {":                                "plain {",
		"{{timestamp}}":                          "1772600767",
		"{{isotime}}":                            "2026-03-04T05:06:07Z",
		"{{isotime `20060102`}}":                 "20260304",
		"{{strftime `%Y-%m`}}":                   "2026-03",
		"{{build_name}}/{{build_type}}":          "web/amazon-ebs",
		"{{clean_resource_name `a:b c_d+e`}}":    "a-b c_d-e",
		"{{isotime | clean_resource_name}}":      "2026-03-04T05-06-07Z",
		"{{upper `a`}}{{lower `B`}}":             "Ab",
		"{{replace `a` `b` 1 `aa`}}":             "ba",
		"{{`a.b` | replace_all `.` `-`}}":        "a-b",
		"{{split `a-b` `-` 1}}":                  "b",
		"{{packer_version}}":                     "1.2.3",
		"{{user `x`}}":                           "",
		"{{ .SourceAMI }} in {{ .BuildRegion }}": "ami-1 in us-east-1",
		"{{ .SourceAMIName }} {{ .SourceAMIOwner }} {{ .SourceAMIOwnerName }}": "debian 136693071363 debian",
		"{{ .SourceAMICreationDate }}":                                         "2026-01-02T03:04:05.000Z",
		"{{ .SourceAMITags.Release }}{{ .SourceAMITags.Missing }}":             "13",
		`{{ index .SourceAMITags "Release" }}`:                                 "13",
	} {
		if got, err := r.render(in, src.data("us-east-1")); err != nil || got != want {
			t.Errorf("%s: %q, %v, want %q", in, got, err, want)
		}
	}
	for in, want := range map[string]string{
		"{{":                  "not a template",
		"{{nope}}":            "not a template",
		"{{.Nope}}":           "Nope",
		"{{env `HOME`}}":      "not available",
		"{{template_dir}}":    "path.root",
		"{{split `a` `-` 1}}": "no part 1",
		"{{isotime `a` `b`}}": "one layout",
	} {
		if got, err := r.render(in, src.data("us-east-1")); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %q, %v, want an error with %q", in, got, err, want)
		}
	}
}

func TestEarlyAndLate(t *testing.T) {
	m := must(t, typeEBS, strings.Replace(minimal, `"web"`, `"web-{{ .SourceAMI }}"`, 1)+`
  ami_description             = "from {{ .SourceAMIName }}"
  temporary_key_pair_name     = "key-{{timestamp}}"
  security_group_ids          = ["sg-{{build_name}}"]
  region_kms_key_ids          = {}
  tags                        = { Base = "{{ .SourceAMITags.Release }}" }
  launch_block_device_mappings {
    device_name = "/dev/{{lower `+"`XVDB`"+`}}"
    volume_size = 1
  }
`)
	if m.comm.TemporaryKeyPairName != "key-1772600767" || m.run.SecurityGroupIDs[0] != "sg-a" || m.ebs.LaunchMappings[0].DeviceName != "/dev/xvdb" {
		t.Errorf("not rendered: %q %q %q", m.comm.TemporaryKeyPairName, m.run.SecurityGroupIDs, m.ebs.LaunchMappings[0].DeviceName)
	}
	src := source{ID: "ami-7", Name: "debian", Tags: map[string]string{"Release": "13"}}
	name, err := m.imageName("us-east-1", src)
	if err != nil || name != "web-ami-7" {
		t.Errorf("%q, %v", name, err)
	}
	s := &state{Region: "us-east-1", Source: src}
	if d, err := m.description(s); err != nil || d != "from debian" {
		t.Errorf("%q, %v", d, err)
	}
	if tags, err := m.renderTags(s, m.img.ImageTags); err != nil || tags["Base"] != "13" {
		t.Errorf("%v, %v", tags, err)
	}
}

// A name with {{uuid}} is decided once.
func TestNameIsStable(t *testing.T) {
	m := must(t, typeEBS, strings.Replace(minimal, `"web"`, `"web-{{uuid}}"`, 1))
	a, err := m.imageName("us-east-1", source{})
	if err != nil {
		t.Fatal(err)
	}
	if b, _ := m.imageName("us-east-1", source{}); a != b || strings.Contains(a, "{{") {
		t.Errorf("%q, then %q", a, b)
	}
}
