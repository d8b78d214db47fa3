package hcl

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"
	"golang.org/x/tools/txtar"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// seeds are the files of the cases with one of the suffixes.
func seeds(f *testing.F, suffixes ...string) {
	f.Helper()
	files, err := filepath.Glob("testdata/cases/*.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			f.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "=== ") {
			for _, file := range txtar.Parse([]byte(part)).Files {
				for _, s := range suffixes {
					if strings.HasSuffix(file.Name, s) {
						f.Add(file.Data, strings.HasSuffix(file.Name, "json"))
					}
				}
			}
		}
	}
}

// touchesTheWorld reports whether a text calls what reads files or servers,
// or takes long on purpose.
func touchesTheWorld(text []byte) bool {
	for _, word := range []string{"vault", "consul", "file", "bcrypt", "range", "pow", "rsadecrypt", "setproduct", "chunklist"} {
		if strings.Contains(strings.ToLower(string(text)), word) {
			return true
		}
	}
	return false
}

// checkAll looks at everything a template has, and at the findings.
func checkAll(t *testing.T, tmpl *Template, l diag.List) {
	_, found := dumpTemplate(tmpl, true)
	var b strings.Builder
	if err := diag.Format(&b, append(l, found...), tmpl.Files, 80); err != nil {
		t.Fatal(err)
	}
	for _, d := range append(l, found...) {
		if d.Summary == "" || d.Detail == "" {
			t.Errorf("finding without a reason: %+v", d)
		}
	}
}

// FuzzLoad loads a template of arbitrary text: with values at hand and
// without, and only for its syntax.
func FuzzLoad(f *testing.F) {
	seeds(f, ".pkr.hcl", ".pkr.json")
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte, isJSON bool) {
		if touchesTheWorld(text) {
			t.Skip()
		}
		name := "a.pkr.hcl"
		if isJSON {
			name = "a.pkr.json"
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
		in := Inputs{
			Path: name, Cwd: dir, Version: "1.16.0", Secrets: new(secret.Set), WarnUndeclared: true,
			Env: []string{"PKR_VAR_a=x", "PKR_VAR_l=[1]"},
		}
		tmpl, l := Load(context.Background(), in)
		checkAll(t, tmpl, l)
		in.SyntaxOnly = true
		tmpl, l = Load(context.Background(), in)
		checkAll(t, tmpl, l)
		in.SyntaxOnly = false
		in.Data = func(_ context.Context, b *Block, s Scope) (cty.Value, diag.List) {
			return cty.ObjectVal(map[string]cty.Value{"id": MarkSensitive(cty.StringVal("x"))}), nil
		}
		tmpl, l = Load(context.Background(), in)
		checkAll(t, tmpl, l)
	})
}

// FuzzVarFile reads arbitrary variable files.
func FuzzVarFile(f *testing.F) {
	seeds(f, "pkrvars.hcl", "pkrvars.json", "v.hcl", "one.hcl", "two.json")
	dir := f.TempDir()
	const decl = `
variable "a" {}
variable "n" { type = number }
variable "l" {
  type = list(string)
  sensitive = true
}
variable "o" { type = object({ a = number, b = optional(string, "x"), c = optional(list(any)) }) }
variable "d" { default = { a = [1] } }
variable "disks" { type = list(object({ size = number, opts = optional(object({ f = optional(bool, true) }), {}) })) }
`
	if err := os.WriteFile(filepath.Join(dir, "a.pkr.hcl"), []byte(decl), 0o644); err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, text []byte, isJSON bool) {
		name := "v.hcl"
		if isJSON {
			name = "v.json"
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
		in := Inputs{Path: "a.pkr.hcl", Cwd: dir, Version: "1.16.0", Secrets: new(secret.Set), WarnUndeclared: true, VarFiles: []string{name}}
		if !strings.ContainsRune(string(text), 0) {
			in.Vars = []string{"o=" + string(text), "n=" + string(text), "a=" + string(text)}
		}
		tmpl, l := Load(context.Background(), in)
		checkAll(t, tmpl, l)
	})
}

// FuzzEval evaluates what a person types into a console.
func FuzzEval(f *testing.F) {
	text, err := os.ReadFile("testdata/expressions.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, line := range strings.Split(string(text), "\n") {
		expr, _, _ := strings.Cut(line, " =")
		f.Add(expr)
	}
	s := evalScope(f, f.TempDir()).With("unk", cty.UnknownVal(cty.String)).With("dyn", cty.DynamicVal).With("sec", MarkSensitive(cty.StringVal("x")))
	f.Fuzz(func(_ *testing.T, expr string) {
		if touchesTheWorld([]byte(expr)) {
			return
		}
		v, l := s.Eval(expr)
		if !l.HasErrors() {
			show(v)
		}
	})
}
