package legacyjson

import (
	"context"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/hcl"
)

// TestAnnotations sees that comments change nothing else.
func TestAnnotations(t *testing.T) {
	src := []byte("{\"min_packer_version\": \"1.0.0\", \"variables\": {\"a\": \"1\", \"b\": \"{{user `a`}}\"}, \"builders\": [{\"type\": \"amazon-ebs\", \"region\": \"r\", \"source_ami_filter\": {\"owners\": [\"self\"]}}]}")
	plain, l := Upgrade(context.Background(), "t.json", src, UpgradeOptions{})
	if l.HasErrors() {
		t.Fatal(l.Err())
	}
	notes, l := Upgrade(context.Background(), "t.json", src, UpgradeOptions{Annotate: true})
	if l.HasErrors() {
		t.Fatal(l.Err())
	}
	var kept []string
	comments := 0
	for _, line := range strings.Split(string(notes), "\n") {
		if strings.HasPrefix(line, "#") {
			comments++
			continue
		}
		kept = append(kept, line)
	}
	if got := strings.Join(kept, "\n"); got != string(plain) || comments < 6 {
		t.Errorf("%d comments in\n%s\nwithout them it should be\n%s", comments, notes, plain)
	}
}

// TestLooks sees what becomes a block when nobody knows the component.
func TestLooks(t *testing.T) {
	src := []byte(`{"builders": [{"type": "elsewhere", "list_of_objects": [{"a": 1}, {"a": 2}], "object": {"k": "v"}, "vpc_filter": {"filters": {"x": "y"}}, "mixed": [{"a": 1}, "b"], "empty": [], "not a name": 1, "_comment": "x"}]}`)
	out, l := Upgrade(context.Background(), "t.json", src, UpgradeOptions{Shape: func(string, string) (hcl.Shape, bool) { return hcl.Shape{}, false }})
	if l.HasErrors() {
		t.Fatal(l.Err())
	}
	want := `source "elsewhere" "elsewhere" {
  object = {
    k = "v"
  }
  mixed = [
    {
      a = 1
    },
    "b",
  ]
  empty = []
  list_of_objects {
    a = 1
  }
  list_of_objects {
    a = 2
  }
  vpc_filter {
    filters = {
      x = "y"
    }
  }
}
`
	if !strings.Contains(string(out), want) {
		t.Errorf("%s\nwant:\n%s", out, want)
	}
	if len(l) != 1 || !strings.Contains(l[0].Detail, `"not a name"`) {
		t.Errorf("findings: %+v", l)
	}
}

// TestPluginsAreRequired sees the plugins of the types that are used.
func TestPluginsAreRequired(t *testing.T) {
	src := []byte(`{"builders": [{"type": "amazon-ebs"}, {"type": "qemu"}, {"type": "null"}], "provisioners": [{"type": "ansible-local"}, {"type": "shell"}], "post-processors": ["vagrant", "manifest"]}`)
	out, l := Upgrade(context.Background(), "t.json", src, UpgradeOptions{})
	if l.HasErrors() {
		t.Fatal(l.Err())
	}
	for _, p := range []string{"hashicorp/amazon", "hashicorp/ansible", "hashicorp/qemu", "hashicorp/vagrant"} {
		if n := strings.Count(string(out), "github.com/"+p+`"`); n != 1 {
			t.Errorf("%s is required %d times", p, n)
		}
	}
	if n := strings.Count(string(out), "github.com/"); n != 4 {
		t.Errorf("%d plugins:\n%s", n, out)
	}
}
