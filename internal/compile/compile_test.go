package compile

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/datasource"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/pipeline"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/postprocessor"
	"github.com/ingot-build/ingot/provisioner"
)

type toyBuilder struct {
	Size int    `hcl:"size"`
	Name string `hcl:"image_name"`
}

type toyStep struct {
	Text   string        `hcl:"text"`
	Texts  []string      `hcl:"texts"`
	Secret secret.String `hcl:"password"`
}

func (s toyStep) Key(context.Context) (checkpoint.Key, error) { return checkpoint.Key{}, nil }
func (s toyStep) Apply(context.Context, communicator.Guest, event.Sink) error {
	return nil
}

type toyOutput struct {
	Answer string `hcl:"answer"`
}

type toyData struct {
	Ask string `hcl:"ask"`
}

func (d toyData) Read(context.Context) (any, error) {
	if d.Ask == "fail" {
		return nil, errors.New("nobody answers")
	}
	return toyOutput{"re: " + d.Ask}, nil
}

func set() component.Set {
	return component.Set{
		Builders: []builder.Driver{builder.NewDriver("toy", func(c toyBuilder, _ builder.Info) (builder.Builder, error) {
			var errs []error
			if c.Size < 1 {
				errs = append(errs, diag.WithHint(diag.Fieldf("size", "is %d, less than 1", c.Size), "say how big"))
			}
			if c.Name == "" {
				errs = append(errs, diag.Fieldf("image_name", "is missing"))
			}
			return &builder.Machine[struct{}]{}, errors.Join(errs...)
		})},
		Provisioners: []provisioner.Driver{provisioner.NewDriver("say", func(c toyStep) (provisioner.Provisioner, error) {
			if (c.Text == "") == (len(c.Texts) == 0) {
				return nil, diag.Fieldsf([]string{"text", "texts"}, "give text or texts")
			}
			return c, nil
		})},
		PostProcessors: []postprocessor.Driver{postprocessor.NewDriver("keep", postprocessor.KeepInput,
			func(struct{}, postprocessor.Build) (postprocessor.PostProcessor, error) { return nil, nil })},
		DataSources: []datasource.Driver{datasource.NewDriver[toyData, toyOutput]("oracle",
			func(c toyData) (datasource.DataSource, error) {
				if c.Ask == "" {
					return nil, diag.Fieldf("ask", "is missing")
				}
				return c, nil
			})},
	}
}

func plan(t *testing.T, src string, evaluate bool, o Options) (*pipeline.Plan, string) {
	t.Helper()
	dir := t.TempDir()
	path := filepath.Join(dir, "t.pkr.hcl")
	if err := os.WriteFile(path, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	tmpl, diags := Load(t.Context(), hcl.Inputs{Path: path, Cwd: dir, Version: "1.16.0", Now: time.Now(), Secrets: &secret.Set{}}, set(), evaluate)
	p := &pipeline.Plan{}
	if !diags.HasErrors() {
		var more diag.List
		p, more = Plan(tmpl, set(), o)
		diags = append(diags, more...)
	}
	var out []string
	for _, d := range diags {
		s := d.Severity.String() + " " + d.Summary + ": " + d.Detail
		if d.Subject != nil {
			s = strings.TrimPrefix(d.Subject.String(), path+":") + " " + s
		}
		out = append(out, s)
	}
	return p, strings.Join(out, "\n")
}

const good = `source "toy" "a" {
  size       = 1
  image_name = "a"
}
source "toy" "b" {
  size       = 2
  image_name = "b"
}
build {
  name    = "n"
  sources = ["source.toy.a", "toy.b"]
  provisioner "say" {
    text = "on ${build.ID} with ${build.Password}"
    only = ["toy.a"]
  }
  provisioner "say" {
    text     = "plain"
    override = { b = { text = "b's own" } }
  }
  post-processors {
    post-processor "keep" { name = "first" }
    post-processor "keep" { name = "second" }
  }
}
`

func TestPlanSelects(t *testing.T) {
	p, diags := plan(t, good, false, Options{})
	if diags != "" {
		t.Fatal(diags)
	}
	if len(p.Builds) != 2 || p.Builds[0].Info.Build != "n.toy.a" || len(p.Builds[0].Provisioners) != 2 || len(p.Builds[1].Provisioners) != 1 {
		t.Errorf("%+v", p.Builds)
	}
	again, _ := plan(t, good, false, Options{}) // in another folder
	other, _ := plan(t, good+"\n", false, Options{})
	if d := p.Builds[0].Info.Template; !strings.HasPrefix(d, "sha256:") || again.Builds[1].Info.Template != d || other.Builds[0].Info.Template == d {
		t.Errorf("digests of the template: %s, %s, %s", d, again.Builds[1].Info.Template, other.Builds[0].Info.Template)
	}
	prov, err := p.Builds[1].Provisioners[0].Open(communicator.Data{})
	if err != nil || prov.(toyStep).Text != "b's own" {
		t.Errorf("override: %+v %v", prov, err)
	}
	prov, err = p.Builds[0].Provisioners[0].Open(communicator.Data{ID: "vm-7", Password: secret.New("pw")})
	if err != nil || prov.(toyStep).Text != "on vm-7 with pw" {
		t.Errorf("build.*: %+v %v", prov, err)
	}
	p, _ = plan(t, good, false, Options{Only: []string{"*.b"}, Except: []string{"second"}})
	if len(p.Builds) != 1 || p.Builds[0].Info.Name != "b" || len(p.Builds[0].PostProcessors[0]) != 1 {
		t.Errorf("%+v", p.Builds)
	}
	_, diags = plan(t, good, false, Options{Only: []string{"nope"}})
	if !strings.Contains(diags, "matched none of: n.toy.a, n.toy.b") || !strings.Contains(diags, "No builds to run") {
		t.Error(diags)
	}
}

func TestEveryMistakeAtOnceWithItsPlace(t *testing.T) {
	_, diags := plan(t, `source "toy" "a" {
  size       = 0
  image_nam3 = 3
}
source "toi" "c" {}
build {
  sources = ["toy.a", "toi.c"]
  provisioner "say" {
    text  = build.ID
  }
  provisioner "say" {
    text  = build.NoSuchThing
  }
  provisioner "say" {
    texts = ["a"]
    text  = "b"
  }
  provisioner "shout" {}
  post-processor "keeps" {}
}
`, false, Options{})
	for _, want := range []string{
		"2,16 Error Invalid option size: Is 0, less than 1; say how big.",
		`Did you mean "image_name"?`,
		"Give text or texts", "NoSuchThing",
		`Unknown source type "toi"`, `Did you mean "toy"?`,
		`Unknown provisioner type "shout"`, `Unknown post-processor type "keeps"`, `Did you mean "keep"?`,
	} {
		if !strings.Contains(diags, want) {
			t.Errorf("not told: %s", want)
		}
	}
	if n := strings.Count(diags, "Give text or texts"); n != 1 {
		t.Errorf("a fault about options that are not known yet is told: %d", n)
	}
	if t.Failed() {
		t.Log(diags)
	}
}

func TestDataSources(t *testing.T) {
	src := `data "oracle" "x" { ask = %s }
locals { l = data.oracle.x.answer }
source "toy" "a" {
  size       = 1
  image_name = local.l
}
build { sources = ["toy.a"] }
`
	if p, diags := plan(t, strings.Replace(src, "%s", `"me"`, 1), false, Options{}); diags != "" || len(p.Builds) != 1 {
		t.Errorf("not evaluated: %s", diags)
	}
	p, diags := plan(t, strings.Replace(src, "%s", `"me"`, 1), true, Options{})
	if diags != "" {
		t.Fatal(diags)
	}
	if _, err := p.Builds[0].Open(builder.Info{}); err != nil {
		t.Error(err)
	}
	if _, diags = plan(t, strings.Replace(src, "%s", `"fail"`, 1), true, Options{}); !strings.Contains(diags, "Nobody answers") {
		t.Errorf("failure not told: %s", diags)
	}
	if _, diags = plan(t, strings.Replace(src, "%s", `""`, 1), true, Options{}); !strings.Contains(diags, "1,") || !strings.Contains(diags, "Is missing") {
		t.Errorf("fault not told: %s", diags)
	}
}
