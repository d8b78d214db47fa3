package compile

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/pipeline"
	"github.com/ingot-build/ingot/internal/secret"
)

const chain = `source "toy" "base" {
  size       = 1
  image_name = "base"
}
source "toy" "web" {
  for_each   = ["eu", "us"]
  size       = 2
  image_name = "${each.key} on ${build.base.artifact.images[each.key]}"
}
build {
  name    = "base"
  sources = ["toy.base"]
}
build {
  name    = "web"
  sources = ["toy.web"]
  provisioner "say" { text = "${each.key} of ${build.base.artifact.name}, ${build.ID}, ${source.name}" }
}
build {
  name       = "last"
  depends_on = [build.web]
  sources    = ["toy.base"]
}
`

func byName(t *testing.T, p *pipeline.Plan, name string) pipeline.Build {
	t.Helper()
	for _, b := range p.Builds {
		if b.Info.Build == name {
			return b
		}
	}
	t.Fatalf("there is no build %s", name)
	return pipeline.Build{}
}

func TestBuildsNameWhatTheyComeAfter(t *testing.T) {
	p, diags := plan(t, chain, false, Options{})
	if diags != "" || len(p.Builds) != 4 {
		t.Fatalf("%d builds, %s", len(p.Builds), diags)
	}
	web, last := byName(t, p, `web.toy.web["us"]`), byName(t, p, "last.toy.base")
	if !slices.Equal(web.After, []string{"base.toy.base"}) || web.Complete == nil || !slices.Equal(web.Later, []string{"image_name"}) {
		t.Errorf("after %q, later %q", web.After, web.Later)
	}
	if !slices.Equal(last.After, []string{`web.toy.web["eu"]`, `web.toy.web["us"]`}) || last.Complete != nil || len(last.Later) > 0 {
		t.Errorf("after %q, later %q", last.After, last.Later)
	}
	if web.Info.Name != "web-us" {
		t.Errorf("the machine is told %q", web.Info.Name)
	}
	whole, err := web.Complete(map[string][]artifact.Set{"base.toy.base": {{
		ID: "x", Images: []artifact.SystemImage{{Ref: artifact.Ref{Region: "eu", ID: "ami-1"}, Name: "golden"}, {Ref: artifact.Ref{Region: "us", ID: "ami-2"}}},
	}}})
	if err != nil || len(whole.Later) > 0 {
		t.Fatalf("%v, later %q", err, whole.Later)
	}
	if _, err := whole.Open(whole.Info); err != nil {
		t.Error(err)
	}
	prov, err := whole.Provisioners[0].Open(communicator.Data{ID: "vm-1"})
	if err != nil || prov.(toyStep).Text != "us of golden, vm-1, web-us" {
		t.Errorf("%v %v", prov, err)
	}
	// An artifact that does not have what is asked of it.
	if _, err := web.Complete(map[string][]artifact.Set{"base.toy.base": {{}}}); err == nil || !strings.Contains(err.Error(), "t.pkr.hcl:8,") {
		t.Errorf("error %v", err)
	}
}

func TestSelectionAndDependencies(t *testing.T) {
	for only, want := range map[string]string{
		"base.*":                   "base.toy.base",
		`web.toy.web["eu"]`:        "Build left out",
		"*web*":                    "Build left out",
		"last.*":                   "last.toy.base",
		`{base.*,web.toy.web*us*}`: `base.toy.base web.toy.web["us"]`,
	} {
		p, diags := plan(t, chain, false, Options{Only: []string{only}})
		got := diags
		if diags == "" {
			var names []string
			for _, b := range p.Builds {
				names = append(names, b.Info.Build)
			}
			got = strings.Join(names, " ")
		}
		if diags == "" && got != want || diags != "" && !strings.Contains(diags, want) {
			t.Errorf("-only=%s: %s, want %s", only, got, want)
		}
	}
}

func TestBuildsThatCannotBeOrdered(t *testing.T) {
	const source = "source \"toy\" \"a\" {\n  size = 1\n  image_name = \"a\"\n}\n"
	build := func(name, rest string) string {
		return "build {\n  name = \"" + name + "\"\n  sources = [\"toy.a\"]\n  " + rest + "\n}\n"
	}
	for name, tc := range map[string]struct {
		src, want string
		builds    int
	}{
		"circle": {
			build("x", "depends_on = [build.y]") + build("y", "depends_on = [build.z]") + build("z", "depends_on = [build.x]") + build("free", ""),
			"Error Cycle of builds: These builds depend on each other in a circle, so none can begin: x.toy.a -> y.toy.a -> z.toy.a -> x.toy.a.", 1,
		},
		"itself":   {build("x", "provisioner \"say\" { text = build.x.artifact.id }"), "Error Cycle of builds", 0},
		"one name": {build("x", "") + build("x", "") + build("y", "provisioner \"say\" { text = build.x.artifact.id }"), "Error Several builds of one name", 2},
		"missing":  {build("x", "provisioner \"say\" { text = build.z.artifact.id }"), "No build block has the name \"z\"", 0},
		"two sources": {
			build("x", "source \"toy.a\" { name = \"b\" }") + build("y", "provisioner \"say\" { text = build.x.artifact.id }"),
			"build.x.artifacts[", 2,
		},
		"behind a mistake": {
			build("x", "provisioner \"say\" {}") + build("y", "depends_on = [build.x]") + build("z", "depends_on = [build.y]") + build("free", ""),
			"Warning Build left out: The build y.toy.a is not run: it depends on x.toy.a, which has a mistake.", 1,
		},
	} {
		p, diags := plan(t, source+tc.src, false, Options{})
		if !strings.Contains(diags, tc.want) || len(p.Builds) != tc.builds {
			t.Errorf("%s: %d builds, want %d; findings:\n%s\nwant %s", name, len(p.Builds), tc.builds, diags, tc.want)
		}
	}
}

func TestOutputs(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "t.ingot.hcl")
	src := chain + `
output "id" { value = build.base.artifact.image }
output "all" { value = { for name, a in build.web.artifacts : name => a.files } }
`
	if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	tmpl, diags := Load(t.Context(), hcl.Inputs{Path: path, Cwd: dir, Version: "1.16.0", Now: time.Now(), Secrets: &secret.Set{}}, set(), true)
	if diags.HasErrors() {
		t.Fatal(diags.Err())
	}
	done := map[string][]artifact.Set{
		`web.toy.web["eu"]`: {{Files: []string{"a"}}},
		`web.toy.web["us"]`: {{Files: []string{"note"}}, {Files: []string{"disk"}, Images: []artifact.SystemImage{{}}}},
	}
	out, diags := Outputs(tmpl, done)
	if len(diags) > 0 || len(out) != 2 || out[0].Value.IsKnown() {
		t.Fatalf("%v %v", out, diags)
	}
	js, err := ctyjson.Marshal(out[1].Value, out[1].Value.Type())
	if err != nil || !json.Valid(js) || string(js) != `{"toy.web[\"eu\"]":["a"],"toy.web[\"us\"]":["disk"]}` {
		t.Errorf("%s %v", js, err)
	}
}
