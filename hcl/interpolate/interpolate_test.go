package interpolate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/hcl/secretstore"
)

func testContext() *Context {
	return &Context{
		BuildName: "web", BuildType: "qemu", Start: time.Date(2024, 2, 29, 13, 4, 5, 0, time.FixedZone("x", 3600)), Cwd: "/work",
		TemplateDir: "/srv/t", Version: "1.16.0", User: map[string]string{"a": "alpha", "empty": "", "tricky": "{{ .X }}"},
		Getenv: func(name string) string { return map[string]string{"HOME": "/root"}[name] },
		Stores: secretstore.Stores{SecretsManager: func(_ context.Context, name string) (string, error) {
			if name != "db" {
				return "", fmt.Errorf("no secret %q", name)
			}
			return `{"user": "root", "pw": "x"}`, nil
		}},
		Build: func(name string) (string, error) {
			switch name {
			case "ID":
				return "i-1", nil
			case "Late":
				return "", ErrLater
			}
			return "", fmt.Errorf("a build has no value %q", name)
		},
	}
}

// TestRender renders texts; an expectation that begins with ! is a part of the
// error.
func TestRender(t *testing.T) {
	for text, want := range map[string]string{
		"plain":                                "plain",
		"}} { {":                               "}} { {",
		"":                                     "",
		"{{build_name}}/{{build_type}}":        "web/qemu",
		"{{isotime}}":                          "2024-02-29T12:04:05Z",
		"{{isotime \"2006-01-02\"}}":           "2024-02-29",
		"{{isotime `a` `b`}}":                  "!at most one layout",
		"{{timestamp}}":                        "1709208245",
		"{{strftime `%Y%j`}}":                  "2024060",
		"{{pwd}} {{packer_version}}":           "/work 1.16.0",
		"{{template_dir}}":                     "/srv/t",
		"{{user `a`}}{{user `empty`}}":         "alpha",
		"{{user `none`}}.":                     ".",
		"{{user `tricky`}}":                    "{{ .X }}",
		"{{user}}":                             "!wrong number of args",
		"{{upper `a`}}{{lower `B`}}":           "Ab",
		"{{user `a` | upper | lower}}":         "alpha",
		"{{replace `a` `b` 1 `aaa`}}":          "baa",
		"{{replace `a` `b` -1 `aaa`}}":         "bbb",
		"{{replace_all `a` `b` `aaa`}}":        "bbb",
		"{{split `a-b-c` `-` 1}}":              "b",
		"{{split `a-b` `-` 2}}":                "!has no part 2",
		"{{split `a` `` 0}}":                   "!a separator that is not empty",
		"{{split `a` `-` -1}}":                 "!has no part -1",
		"{{sed `s/a/b/` `a`}}":                 "!was removed",
		"{{build `ID`}} {{.ID}}":               "i-1 i-1",
		"{{build `Nope`}}":                     "!has no value \"Nope\"",
		"{{.Nope}}":                            "!there is no value .Nope",
		"{{.ID.X}}":                            "!can't evaluate field X",
		"{{env `HOME`}}":                       "!only in the variables of a JSON template",
		"{{vault `a` `b`}}":                    "!vault is allowed only",
		"{{consul_key `a`}}":                   "!consul_key is allowed only",
		"{{aws_secretsmanager `db`}}":          "!aws_secretsmanager is allowed only",
		"{{aws_secretsmanager_raw `db`}}":      "!aws_secretsmanager_raw is allowed only",
		"{{clean_resource_name `a b`}}":        "!in the options of builders of images only",
		"{{var.x}}":                            "!${var.name}",
		"{{ nope":                              "!not defined",
		"{{ upper `a`":                         "!unclosed action",
		"{{if eq (user `a`) `alpha`}}y{{end}}": "y",
		"{{with user `a`}}{{.}}{{end}}":        "alpha",
		"a {{- user `a` -}} b":                 "aalphab",
		"{{`{{`}} x }}":                        "{{ x }}",
		"{{/* a comment */}}x":                 "x",
		"{{range 5}}x{{end}}":                  "!range cannot be used",
		"{{define `x`}}{{end}}":                "!define and block",
		"{{template `x`}}":                     "!template cannot be used",
		"{{printf `%5000000d` 1}}":             "!a width of more than three digits",
		"{{printf `2024-%05d-%s` 7 `x`}}":      "2024-00007-x",
		"{{index . `ID`}}":                     "", // no field is named: there is nothing to find
	} {
		got, err := testContext().Render(text)
		if part, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %v, want %q", text, err, part)
			}
			continue
		}
		if err != nil || got != want {
			t.Errorf("%s is %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestLater(t *testing.T) {
	for _, text := range []string{"{{build `Late`}}", "x{{.Late}}", "{{if true}}{{build `Late` | upper}}{{end}}", "{{.Late}}{{nope2 := 1}}"} {
		_, err := testContext().Render(text)
		if strings.Contains(text, "nope2") {
			if err == nil || errors.Is(err, ErrLater) {
				t.Errorf("%s: the mistake is not told: %v", text, err)
			}
			continue
		}
		if !errors.Is(err, ErrLater) {
			t.Errorf("%s: %v", text, err)
		}
	}
	c := testContext()
	c.Build = nil
	if _, err := c.Render("{{build `ID`}}"); err == nil || !strings.Contains(err.Error(), "provisioners and post-processors") {
		t.Errorf("%v", err)
	}
	if uuid, err := c.Render("{{uuid}}"); err != nil || len(uuid) != 36 {
		t.Errorf("%q %v", uuid, err)
	}
	c = &Context{}
	for _, text := range []string{"{{build_name}}", "{{build_type}}", "{{template_dir}}"} {
		if _, err := c.Render(text); err == nil {
			t.Errorf("%s has a value", text)
		}
	}
	if got, err := c.Render("{{user `a`}}"); got != "" || err != nil {
		t.Errorf("%q %v", got, err)
	}
	c.StrictUser = true
	if _, err := c.Render("{{user `a`}}"); err == nil || !strings.Contains(err.Error(), `no variable "a"`) {
		t.Errorf("%v", err)
	}
}

func TestMissing(t *testing.T) {
	c := testContext()
	var names []string
	c.Missing = func(name string) { names = append(names, name) }
	got, err := c.Render("{{.A}} {{.ID}} {{if .B}}b{{end}}{{.A}}")
	if err != nil || got != "<no value> i-1 <no value>" || !slices.Equal(names, []string{"A", "B"}) {
		t.Errorf("%q %v %q", got, err, names)
	}
}

func TestVariables(t *testing.T) {
	c := testContext().With(context.Background())
	c.Variables = true
	for text, want := range map[string]string{
		"{{env `HOME`}}{{env `NONE`}}":            "/root",
		"{{aws_secretsmanager `db`}}":             "root",
		"{{aws_secretsmanager `db` `pw`}}":        "x",
		"{{aws_secretsmanager `db` `a` `b`}}":     "!at most one key",
		"{{aws_secretsmanager `nope`}}":           "!no secret",
		"{{aws_secretsmanager_raw `db` | upper}}": `{"USER": "ROOT", "PW": "X"}`,
		"{{vault `a` `b`}}":                       "!VAULT_TOKEN",
	} {
		got, err := c.Render(text)
		if part, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %v, want %q", text, err, part)
			}
		} else if err != nil || got != want {
			t.Errorf("%s is %q, %v, want %q", text, got, err, want)
		}
	}
	c.Getenv = nil
	if got, err := c.Render("{{env `HOME`}}"); got != "" || err != nil {
		t.Errorf("%q %v", got, err)
	}
}

func TestStatic(t *testing.T) {
	for text, want := range map[string]string{
		"{{ .Vars }} {{ .Path }}":                                      "{{ .Vars }} {{ .Path }}",
		"{{ user `a` }} {{ .Vars }}":                                   "alpha {{.Vars}}",
		"{{ .Vars | upper }} {{timestamp}}":                            "{{.Vars | upper}} 1709208245",
		"{{ user `a` | clean }}":                                       `{{"alpha" | clean}}`,
		"{{ clean (user `a`) .X }}":                                    `{{clean "alpha" .X}}`,
		"{{ clean (printf `%s-%s` (user `a`) `b`) }}":                  `{{clean "alpha-b"}}`,
		"{{ if .X }}{{ user `a` }}{{ else }}{{ build `ID` }}{{ end }}": "{{if .X}}alpha{{else}}{{build `ID`}}{{end}}",
		"{{ if eq (user `a`) .X }}y{{ end }}":                          `{{if eq "alpha" .X}}y{{end}}`,
		"{{ $x := user `a` }}{{ $x }}":                                 `{{$x := "alpha"}}{{$x}}`,
		"{{ user `tricky` }}":                                          `{{"{{ .X }}"}}`,
		"{{ `text` }}{{ 5 }}{{ true }}":                                "{{ `text` }}{{ 5 }}{{ true }}",
		"{{ with .X }}{{ lower `A` }}{{ end }}":                        "{{with .X}}a{{end}}",
		"{{ unclosed":                                                  "{{ unclosed",
		"no {{ template":                                               "no {{ template",
		"{{ build_name }}":                                             "web",
		"{{ template_dir }}-{{ sed `x` }}":                             "!was removed",
		"{{ env `HOME` }}{{ .X }}":                                     "!only in the variables",
	} {
		got, err := testContext().Static(text)
		if part, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), part) {
				t.Errorf("%s: error %v, want %q", text, err, part)
			}
		} else if err != nil || got != want {
			t.Errorf("%s is %q, %v, want %q", text, got, err, want)
		}
	}
}

func TestUsers(t *testing.T) {
	for text, want := range map[string][]string{
		"{{user `a`}} {{ user \"b\" | upper }} {{user `a`}}":       {"a", "b"},
		"{{ lower (user `c`) }}{{if user `d`}}{{user `e`}}{{end}}": {"c", "d", "e"},
		"{{ `f` | user }}": {"f"},
		"user `x`":         nil,
		"{{ user .X }}":    nil,
		"{{ broken":        nil,
	} {
		if got := Users(text); !slices.Equal(got, want) {
			t.Errorf("%s names %q, want %q", text, got, want)
		}
	}
}

// FuzzRender renders arbitrary texts whole and in parts.
func FuzzRender(f *testing.F) {
	for _, s := range []string{
		"{{user `a`}}", "{{ .Vars | upper }}", "{{if eq (user `a`) .X}}y{{else}}n{{end}}", "{{with $x := user `a`}}{{$x}}{{end}}",
		"{{range 9}}x{{end}}", "{{define `a`}}{{template `a`}}{{end}}", "{{split `a-b` `-` 1}}", "{{printf `%9s` (printf `%d` 5)}}", "{{- 1 -}}",
		"{{slice `abc` 1 2 | len}}", "{{call .X}}", "{{build `Late`}}{{isotime `2006`}}", "{{/* x */}}", "{{`{{`}}",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		c := testContext()
		_, err := c.Render(text)
		if err != nil && err.Error() == "" {
			t.Error("an error without a reason")
		}
		Users(text)
		part, err := c.Static(text)
		if err != nil {
			return
		}
		if !strings.Contains(part, "{{") {
			return
		}
		// What is left is a template if it was one.
		if _, err := c.Static(part); err != nil {
			t.Errorf("%q became %q: %v", text, part, err)
		}
	})
}
