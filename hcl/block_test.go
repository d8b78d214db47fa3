package hcl

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/hcl/interpolate"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// load reads files from a new folder.
func load(t testing.TB, in Inputs, files map[string]string) (*Template, diag.List) {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in.Cwd, in.Version, in.Now = dir, "1.16.0", startTime
	if in.Path == "" {
		in.Path = "."
	}
	return Load(context.Background(), in)
}

func mustLoad(t testing.TB, in Inputs, text string) *Template {
	t.Helper()
	tmpl, l := load(t, in, map[string]string{"a.pkr.hcl": text})
	if l.HasErrors() {
		t.Fatal(l.Err())
	}
	return tmpl
}

func TestDecodeNeedsEveryValue(t *testing.T) {
	tmpl := mustLoad(t, Inputs{}, `
source "null" "a" {}
build {
  sources = ["null.a"]
  provisioner "shell" {
    text   = "id ${build.ID}"
    inline = [source.name]
    wait   = "2s"
  }
}`)
	b := tmpl.Builds[0].Provisioners[0].Block
	s := tmpl.Scope().With("source", cty.ObjectVal(map[string]cty.Value{"name": cty.StringVal("a")}))
	var c component
	unknown, l := b.Check(s.With("build", cty.DynamicVal), &c)
	if len(l) != 0 || !reflect.DeepEqual(unknown, []string{"text"}) || c.Timeout != 2*time.Second || c.List[0] != "a" {
		t.Errorf("check: %v %v %+v", unknown, l, c)
	}
	if l := b.Decode(s.With("build", cty.DynamicVal), &component{}); !l.HasErrors() || l[0].Subject.Start.Line != 6 {
		t.Errorf("decode with an unknown value: %v", l)
	}
	c = component{}
	l = b.Decode(s.With("build", cty.ObjectVal(map[string]cty.Value{"ID": cty.StringVal("i-1")})), &c)
	if len(l) != 0 || c.Text != "id i-1" {
		t.Errorf("decode: %v %+v", l, c)
	}
	if l := b.Decode(s.With("build", cty.EmptyObjectVal), &component{}); !l.HasErrors() {
		t.Error("a missing build value is no error")
	}
}

func TestFieldRange(t *testing.T) {
	tmpl := mustLoad(t, Inputs{}, `source "null" "a" {
  text   = "x"
  inline = ["a",
    "b"]
  tags = {
    Name = "n"
  }
  disk {
    size = 1
  }
  disk {
    name = "n"
    part { label = "l" }
  }
}
build { sources = ["null.a"] }`)
	b := tmpl.Builds[0].Sources[0].Body
	if got := b.FieldRange("text"); got.Start.Line != 1 {
		t.Errorf("before a check: %v", got)
	}
	if _, l := b.Check(tmpl.Scope(), &component{}); len(l) != 0 {
		t.Fatal(l)
	}
	for path, want := range map[string]string{
		"text": "2,12", "inline": "3,12", "inline[0]": "3,13", "inline[1]": "4,5", "inline[7]": "3,12",
		"tags": "5,10", "tags.Name": "6,12", "tags.Nope": "5,10",
		"disk": "8,3", "disk[0]": "8,3", "disk[1]": "11,3", "disk[0].size": "9,12", "disk[1].size": "11,3",
		"disk[1].part[0].label": "13,20", "disk[5].size": "8,3", "nope": "1,1", "": "1,1", "nope.x[3]": "1,1",
	} {
		r := b.FieldRange(path)
		if got := fmt.Sprintf("%d,%d", r.Start.Line, r.Start.Column); got != want {
			t.Errorf("place of %q is %s, want %s", path, got, want)
		}
	}
}

func TestSecretsAreRegistered(t *testing.T) {
	set := new(secret.Set)
	tmpl := mustLoad(t, Inputs{Secrets: set, Vars: []string{"pw=correct horse"}}, `
variable "pw" { sensitive = true }
variable "multi" {
  sensitive = true
  default   = { a = "line-one\nline-two", n = 5 }
}
variable "short" {
  sensitive = true
  default   = "s1"
}
locals { enc = base64encode(var.pw) }
local "l" {
  expression = ["declared"]
  sensitive  = true
}
source "null" "a" {
  text   = var.pw == "" ? "no" : "yes"
  inline = ["${var.multi.a}-derived"]
}
build { sources = ["null.a"] }`)
	var c component
	if l := tmpl.Builds[0].Sources[0].Body.Decode(tmpl.Scope(), &c); len(l) != 0 {
		t.Fatal(l)
	}
	if c.Text != "yes" || c.List[0] != "line-one\nline-two-derived" {
		t.Errorf("values changed: %+v", c)
	}
	for _, s := range []string{"correct horse", "line-two", "s1", "Y29ycmVjdCBob3JzZQ==", "declared", "line-one\nline-two-derived"} {
		if got := set.Mask(s); strings.Contains(got, s) {
			t.Errorf("%q is not masked", s)
		}
	}
	for _, s := range []string{"yes", "no"} {
		if got := set.Mask(s); got != s {
			t.Errorf("%q is masked", s)
		}
	}
}

func TestRejectedSecretIsNotShown(t *testing.T) {
	set := new(secret.Set)
	tmpl, l := load(t, Inputs{Secrets: set, Vars: []string{"n=hunter2"}}, map[string]string{"a.pkr.hcl": `
variable "n" {
  sensitive = true
  type      = number
}`})
	if !l.HasErrors() {
		t.Fatal("no error")
	}
	var b strings.Builder
	if err := diag.Format(&b, l, tmpl.Files, 80); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "hunter2") || set.Mask("hunter2") == "hunter2" {
		t.Errorf("secret shown: %s", b.String())
	}
}

// lateOptions has texts that its component renders.
type lateOptions struct {
	Text    string            `hcl:"text"`
	Command string            `hcl:"command,late"`
	Tags    map[string]string `hcl:"tags,late"`
	Entry   []lateEntry       `hcl:"entry,block,late"`
	Own     *allLateEntry     `hcl:"own,block"`
}

type lateEntry struct {
	Value string `hcl:"value"`
}

type allLateEntry struct {
	_     struct{} `hcl:",late"`
	Value string   `hcl:"value"`
	lateEmbedded
}

type lateEmbedded struct {
	More string `hcl:"more"`
}

func textsOf(known bool) interpolate.Context {
	return interpolate.Context{
		BuildName: "web", BuildType: "null", Start: startTime, Cwd: "/w", Version: "1.16.0", User: map[string]string{"n": "7", "b": "true"},
		Build: func(name string) (string, error) {
			if !known {
				return "", interpolate.ErrLater
			}
			return "<" + name + ">", nil
		},
	}
}

func TestTexts(t *testing.T) {
	tmpl := mustLoad(t, Inputs{}, `
source "null" "a" {
  text   = "{{ build_name | upper }}"
  num    = "{{ user \"n\" }}"
  inline = ["x", "{{ isotime \"2006\" }}"]
  tags   = { "{{ build_type }}" = "{{ timestamp }}" }
  tri    = "{{ user `+"`b`"+` }}"
  wait   = "{{ nope }}"
  disk { name = "{{ build \"ID\" }}" }
}
build { sources = ["null.a"] }`)
	body := tmpl.Builds[0].Sources[0].Body
	var c component
	l := body.Decode(tmpl.Scope().WithTexts(textsOf(true)), &c)
	if len(l) != 1 || l[0].Subject.Start.Line != 8 || !strings.Contains(l[0].Detail, `function "nope" not defined`) {
		t.Errorf("findings: %+v", l)
	}
	if c.Text != "WEB" || c.Num != 7 || c.List[1] != "2024" || c.Tags["null"] != "1709211845" || !*c.Tri || c.Disks[0].Name != "<ID>" {
		t.Errorf("not rendered: %+v", c)
	}
	unknown, _ := body.Check(tmpl.Scope().WithTexts(textsOf(false)), &component{})
	if !slices.Equal(unknown, []string{"wait", "disk[0].name"}) {
		t.Errorf("unknown: %q", unknown)
	}
}

func TestLateTexts(t *testing.T) {
	tmpl := mustLoad(t, Inputs{}, `
source "null" "a" {
  text    = "{{ build_name }}"
  command = "{{ build_name }} {{ .Vars }} {{ own (user \"n\") }}"
  tags    = { "{{ build_name }}" = "{{ .SourceAMI }}" }
  entry { value = "{{ build_name }}{{ build \"ID\" }}" }
  own {
    value = "{{ .X }}"
    more  = "{{ .Y | upper }}"
  }
}
build { sources = ["null.a"] }`)
	for _, known := range []bool{false, true} {
		var c lateOptions
		if l := tmpl.Builds[0].Sources[0].Body.Decode(tmpl.Scope().WithTexts(textsOf(known)), &c); len(l) != 0 {
			t.Fatal(l)
		}
		if c.Text != "web" || c.Command != `web {{.Vars}} {{own "7"}}` || c.Tags["web"] != "{{ .SourceAMI }}" || c.Entry[0].Value != `web{{build "ID"}}` {
			t.Errorf("%+v", c)
		}
		if c.Own.Value != "{{ .X }}" || c.Own.More != "{{ .Y | upper }}" {
			t.Errorf("%+v", c.Own)
		}
	}
}

// TestTextsOfSecrets sees that a mistake in a secret shows nothing of it.
func TestTextsOfSecrets(t *testing.T) {
	tmpl := mustLoad(t, Inputs{}, `
variable "s" {
  default   = "{{ hunter2 }}"
  sensitive = true
}
source "null" "a" { text = var.s }
build { sources = ["null.a"] }`)
	l := tmpl.Builds[0].Sources[0].Body.Decode(tmpl.Scope().WithTexts(textsOf(true)), &component{})
	if len(l) != 1 || strings.Contains(l[0].Detail, "hunter2") {
		t.Errorf("findings: %+v", l)
	}
}

func TestIsUnknown(t *testing.T) {
	u := []string{"text", "disk[1].size", "tags"}
	for path, want := range map[string]bool{
		"text": true, "text2": false, "disk": true, "disk[1]": true, "disk[0].size": false, "disk[1].size": true, "tags.x": true, "tag": false,
	} {
		if IsUnknown(u, path) != want {
			t.Errorf("IsUnknown(%q) is %v", path, !want)
		}
	}
}

func TestOverrideIsASeparateBlock(t *testing.T) {
	tmpl := mustLoad(t, Inputs{}, `
source "null" "a" {}
source "null" "b" {}
build {
  sources = ["null.a", "null.b"]
  provisioner "shell" {
    text     = build.ID
    num      = 1
    override = { b = { text = "over" } }
  }
}`)
	build := tmpl.Builds[0]
	p := build.Provisioners[0]
	s := tmpl.Scope().With("build", cty.DynamicVal)
	var a, b component
	ua, la := p.BlockFor(build.Sources[0]).Check(s, &a)
	ub, lb := p.BlockFor(build.Sources[1]).Check(s, &b)
	if len(la)+len(lb) != 0 || len(ua) != 1 || len(ub) != 0 || a.Text != "" || b.Text != "over" || b.Num != 1 {
		t.Errorf("%v %v %v %v %+v %+v", ua, la, ub, lb, a, b)
	}
	if got := p.BlockFor(build.Sources[1]); got == p.Block {
		t.Error("override changed the block itself")
	}
}

func TestOnlyExcept(t *testing.T) {
	a, b := &BuildSource{Type: "null", LocalName: "a"}, &BuildSource{Type: "null", LocalName: "b"}
	for _, tc := range []struct {
		o    OnlyExcept
		a, b bool
	}{
		{OnlyExcept{}, false, false},
		{OnlyExcept{Only: []string{"null.a"}}, false, true},
		{OnlyExcept{Except: []string{"null.a"}}, true, false},
	} {
		if tc.o.Skips(a) != tc.a || tc.o.Skips(b) != tc.b {
			t.Errorf("%+v skips %v %v", tc.o, tc.o.Skips(a), tc.o.Skips(b))
		}
	}
}

func TestBlockFromSeveralGoroutines(t *testing.T) {
	tmpl := mustLoad(t, Inputs{Secrets: new(secret.Set)}, `
variable "pw" {
  default   = "longsecret"
  sensitive = true
}
source "null" "a" {
  text = upper("${var.pw}x")
  dynamic "disk" {
    for_each = [1, 2]
    content { size = disk.value }
  }
}
build { sources = ["null.a"] }`)
	b := tmpl.Builds[0].Sources[0].Body
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			var c component
			if l := b.Decode(tmpl.Scope(), &c); len(l) != 0 || len(c.Disks) != 2 {
				t.Errorf("%v %+v", l, c)
			}
			b.FieldRange("disk[1].size")
		})
	}
	wg.Wait()
}

func TestWrongTagsPanic(t *testing.T) {
	tmpl := mustLoad(t, Inputs{}, `
source "null" "a" { x = "y" }
build { sources = ["null.a"] }`)
	for name, dst := range map[string]any{
		"not a pointer": component{},
		"unknown kind": &struct {
			X string `hcl:"x,nonsense"`
		}{},
		"unsupported type": &struct {
			X chan int `hcl:"x"`
		}{},
		"block that is no struct": &struct {
			X string `hcl:"x,block"`
		}{},
		"twice": &struct {
			X string `hcl:"x"`
			Y string `hcl:"x"`
		}{},
		"not exported": &struct {
			x string `hcl:"x"`
		}{},
	} {
		t.Run(name, func(t *testing.T) {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			tmpl.Builds[0].Sources[0].Body.Check(tmpl.Scope(), dst)
		})
	}
}

// named has a type of its own for texts, and one that reads itself.
type level string

type address struct{ host, port string }

func (a *address) UnmarshalText(b []byte) error {
	h, p, ok := strings.Cut(string(b), ":")
	if !ok {
		return errors.New("an address is host:port")
	}
	a.host, a.port = h, p
	return nil
}

func TestNamedTypes(t *testing.T) {
	type conf struct {
		Level  level           `hcl:"level"`
		Addr   address         `hcl:"addr"`
		Addrs  []address       `hcl:"addrs"`
		Secret *secret.String  `hcl:"secret"`
		Wait   *time.Duration  `hcl:"wait"`
		Multi  map[string]int  `hcl:"multi"`
		Small  uint8           `hcl:"small"`
		Secs   []secret.String `hcl:"secs"`
	}
	tmpl := mustLoad(t, Inputs{}, `
source "null" "a" {
  level  = "debug"
  addr   = "h:1"
  addrs  = ["a:1", "b:2"]
  secret = "s"
  wait   = "3s"
  multi  = { a = "1" }
  small  = 255
  secs   = ["x"]
}
source "null" "b" {
  addr  = "nonsense"
  small = 256
}
build { sources = ["null.a", "null.b"] }`)
	var c conf
	if l := tmpl.Builds[0].Sources[0].Body.Decode(tmpl.Scope(), &c); len(l) != 0 {
		t.Fatal(l.Err())
	}
	if c.Level != "debug" || c.Addr.port != "1" || c.Addrs[1].host != "b" || c.Secret.Reveal() != "s" || *c.Wait != 3*time.Second ||
		c.Multi["a"] != 1 || c.Small != 255 || c.Secs[0].Reveal() != "x" {
		t.Errorf("%+v", c)
	}
	if l := tmpl.Builds[0].Sources[1].Body.Decode(tmpl.Scope(), &c); len(l) != 2 {
		t.Errorf("findings: %v", l)
	}
}

func TestTooManyBuilds(t *testing.T) {
	dir := t.TempDir()
	src := `
source "null" "a" { count = 1000 }
build {
  name    = "b"
  count   = 1000
  sources = ["null.a"]
}
`
	if err := os.WriteFile(filepath.Join(dir, "a.pkr.hcl"), []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	tmpl, l := Load(t.Context(), Inputs{Path: ".", Cwd: dir, Version: "1.16.0", Now: startTime})
	n := 0
	for _, b := range tmpl.Builds {
		n += len(b.Sources)
	}
	if n != mostBuilds || len(l) != 1 || l[0].Summary != "Too many builds" {
		t.Errorf("%d builds, %v", n, l)
	}
}
