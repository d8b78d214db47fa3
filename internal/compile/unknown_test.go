package compile

import (
	"fmt"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/hcl"
)

// TestUnknownTypesAreToldOnce sees that a component that is not built in is
// told once, whatever uses it, and that nothing else is said of it or of what
// depends on it. No build is left: Packer, too, runs none.
func TestUnknownTypesAreToldOnce(t *testing.T) {
	p, l := planFile(t, "t.pkr.hcl", `
data "other-thing" "a" { x = 1 }
data "other-thing" "b" { x = data.other-thing.a.y }
locals { y = data.other-thing.b.z }
source "toy" "good" {
  size       = 1
  image_name = "x-${local.y}"
}
source "cloud-vm" "a" { anything = local.y }
source "cloud-vm" "b" {
  nested { more = true }
}
build {
  sources = ["toy.good", "cloud-vm.a", "cloud-vm.b"]
  provisioner "say" { text = "${build.Whatever} {{ build `+"`Other`"+` }}" }
  provisioner "yell" { text = build.Whatever }
  provisioner "yell" {}
  provisioner "yell" {}
  provisioner "yell" {}
  provisioner "yell" {}
  provisioner "yell" {}
  provisioner "yell" {}
  post-processor "box" {}
  post-processors {
    post-processor "box" {}
    post-processor "send" {}
  }
}`, hcl.Inputs{}, Options{Only: []string{"cloud-vm.*"}})
	var got []string
	for _, d := range l {
		got = append(got, fmt.Sprintf("%d: %s", d.Subject.Start.Line, d.Summary))
	}
	want := `2: Unknown data source type "other-thing"
14: Unknown source type "cloud-vm"
16: Unknown provisioner type "yell"
23: Unknown post-processor type "box"
26: Unknown post-processor type "send"`
	if text := strings.Join(got, "\n"); text != want {
		t.Errorf("told:\n%s\nwant:\n%s", text, want)
	}
	if len(p.Builds) != 0 {
		t.Errorf("builds %v are to be run", p.Builds)
	}
	for _, d := range l {
		if strings.Contains(d.Summary, "yell") && !strings.HasSuffix(d.Detail, "It is used at t.pkr.hcl line 17, t.pkr.hcl line 18, t.pkr.hcl line 19, t.pkr.hcl line 20 and 2 more places, too.") {
			t.Errorf("the other places: %s", d.Detail)
		}
	}
}
