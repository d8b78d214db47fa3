package compile

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/pipeline"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/postprocessor"
)

// planFile plans the template text as the file name.
func planFile(t *testing.T, name, text string, in hcl.Inputs, o Options) (*pipeline.Plan, diag.List) {
	t.Helper()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	in.Path, in.Cwd, in.Version, in.Secrets = name, dir, "1.16.0", &secret.Set{}
	tmpl, l := Load(context.Background(), in, set(), true)
	if tmpl.Broken {
		return &pipeline.Plan{}, l
	}
	p, more := Plan(tmpl, set(), o)
	return p, append(l, more...)
}

const oldTemplate = `{
  "variables": {"name": "base", "pw": "hunter2"},
  "sensitive-variables": ["pw"],
  "builders": [
    {"type": "toy", "size": "1", "image_name": "{{user ` + "`name`" + `}}-{{build_name}}"},
    {"type": "toy", "name": "second", "size": 2, "image_name": "x"}
  ],
  "provisioners": [
    {"type": "say", "text": "{{build ` + "`ID`" + `}} at {{ .Host }}", "password": "{{user ` + "`pw`" + `}}"},
    {"type": "say", "texts": ["a"], "only": ["second"]}
  ],
  "post-processors": ["keep"]
}`

func TestOldTemplates(t *testing.T) {
	p, l := planFile(t, "t.json", oldTemplate, hcl.Inputs{Vars: []string{"name=web"}}, Options{})
	if l.HasErrors() {
		t.Fatal(l.Err())
	}
	var names []string
	for _, b := range p.Builds {
		names = append(names, b.Info.Build)
	}
	if !slices.Equal(names, []string{"toy", "second"}) || len(p.Builds[0].Provisioners) != 1 || len(p.Builds[1].Provisioners) != 2 {
		t.Fatalf("builds %q", names)
	}
	if _, err := p.Builds[0].Open(builder.Info{}); err != nil {
		t.Error(err)
	}
	prov, err := p.Builds[0].Provisioners[0].Open(communicator.Data{ID: "i-1", Host: "h"})
	if err != nil {
		t.Fatal(err)
	}
	if s := prov.(toyStep); s.Text != "i-1 at h" || s.Secret.Reveal() != "hunter2" {
		t.Errorf("%+v", s)
	}
	if p, l := planFile(t, "t.json", oldTemplate, hcl.Inputs{}, Options{Only: []string{"sec*"}}); l.HasErrors() || len(p.Builds) != 1 || p.Builds[0].Info.Build != "second" {
		t.Errorf("-only: %v", l.Err())
	}
	// Without the ending the content tells.
	if p, l := planFile(t, "template", oldTemplate, hcl.Inputs{}, Options{}); l.HasErrors() || len(p.Builds) != 2 {
		t.Errorf("template without an ending: %v", l.Err())
	}
	if _, l := planFile(t, "t.json", oldTemplate, hcl.Inputs{ForceHCL: true}, Options{}); !l.HasErrors() {
		t.Error("read as HCL and accepted")
	}
}

// TestMissingData sees that data which there is not is a warning.
func TestMissingData(t *testing.T) {
	p, l := planFile(t, "t.pkr.hcl", `source "toy" "a" {
  size       = 1
  image_name = "x"
}
build {
  sources = ["toy.a"]
  provisioner "say" { text = "{{ .Names }}" }
}`, hcl.Inputs{}, Options{})
	if l.HasErrors() || len(l) != 1 || !strings.Contains(l[0].Detail, "{{ .Names }}") || l[0].Subject.Start.Line != 7 {
		t.Fatalf("findings: %+v", l)
	}
	prov, err := p.Builds[0].Provisioners[0].Open(communicator.Data{})
	if err != nil || prov.(toyStep).Text != "<no value>" {
		t.Errorf("%+v %v", prov, err)
	}
}

func TestTextsInHCL(t *testing.T) {
	p, l := planFile(t, "t.pkr.hcl", `
source "toy" "a" {
  size       = "{{ split `+"`1,2` `,` 1"+` }}"
  image_name = "{{ build_type }}-{{ build_name }}-{{ user `+"`x`"+` }}"
}
build {
  sources = ["toy.a"]
  provisioner "say" { texts = ["{{ build `+"`Host`"+` }} ${build.ID}", "{{ .PackerRunUUID }}"] }
  post-processor "keep" {}
}`, hcl.Inputs{}, Options{})
	if l.HasErrors() {
		t.Fatal(l.Err())
	}
	prov, err := p.Builds[0].Provisioners[0].Open(communicator.Data{ID: "i", Host: "h", RunID: "r"})
	if err != nil {
		t.Fatal(err)
	}
	if s := prov.(toyStep); !slices.Equal(s.Texts, []string{"h i", "r"}) {
		t.Errorf("%+v", s)
	}
	if _, err := p.Builds[0].PostProcessors[0][0].Open(postprocessor.Build{}, communicator.Data{}); err != nil {
		t.Error(err)
	}
	for text, want := range map[string]string{
		"{{ build `Hots` }}": `a build has no value "Hots"; did you mean "Host"?`,
		"{{ env `HOME` }}":   "use env() in the default of a variable",
		"{{ nope }}":         `function "nope" not defined`,
		"{{ template_dir }}": "write ${path.root}",
	} {
		_, l := planFile(t, "t.pkr.hcl", `source "toy" "a" {
  size       = 1
  image_name = "x"
}
build {
  sources = ["toy.a"]
  provisioner "say" { text = "`+text+`" }
}`, hcl.Inputs{}, Options{})
		if err := l.Err(); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "t.pkr.hcl:7,") {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}

// TestValidBuildsStay sees that one invalid build does not take the others
// with it.
func TestValidBuildsStay(t *testing.T) {
	p, l := planFile(t, "t.pkr.hcl", `
source "toy" "good" {
  size       = 1
  image_name = "x"
}
source "toy" "bad" { size = 0 }
build {
  sources = ["toy.good", "toy.bad"]
}
build {
  name    = "second"
  sources = ["toy.good"]
  provisioner "say" { text = "a" }
}
build {
  name    = "third"
  sources = ["toy.good"]
  provisioner "say" {}
}`, hcl.Inputs{}, Options{})
	var names []string
	for _, b := range p.Builds {
		names = append(names, b.Info.Build)
	}
	if !l.HasErrors() || !slices.Equal(names, []string{"toy.good", "second.toy.good"}) {
		t.Errorf("builds %q, %v", names, l.Err())
	}
}
