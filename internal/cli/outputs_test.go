package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/hcl"
)

var oddTexts = map[string]string{
	"plain": "ami-0123/x:y,z", "empty": "", "space": "a b", "quote": `it's "so"`, "dollar": "$HOME ${HOME} $(id) `id`", "percent": "%{ if true }x%{ endif }",
	"backslash": `C:\n\'`, "lines": "one\n'two'\n", "hash": "a #b", "unicode": "Größe", "equals": "a=b",
}

// TestOutputsCanBeReadBack gives the files to those that read them: HCL and
// JSON to a template, lines of the environment to a shell.
func TestOutputsCanBeReadBack(t *testing.T) {
	dir := t.TempDir()
	values := map[string]cty.Value{
		"list": cty.ListVal([]cty.Value{cty.StringVal("a"), cty.StringVal("${b}")}), "number": cty.NumberFloatVal(1.5), "yes": cty.True,
		"map": cty.MapVal(map[string]cty.Value{`web["eu"]`: cty.StringVal("x")}),
	}
	template := "variable \"list\" { type = list(string) }\nvariable \"number\" { type = number }\nvariable \"yes\" { type = bool }\nvariable \"map\" { type = map(string) }\n"
	names := []string{"list", "number", "yes", "map"}
	for name, text := range oddTexts {
		values[name] = cty.StringVal(text)
		names = append(names, name)
		template += "variable \"" + name + "\" { type = string }\n"
	}
	if err := os.WriteFile(filepath.Join(dir, "t.pkr.hcl"), []byte(template), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"o.pkrvars.hcl", "o.pkrvars.json"} {
		format, err := outputFormatOf(file)
		if err != nil {
			t.Fatal(err)
		}
		text, err := format(names, values)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, file), text, 0o600); err != nil {
			t.Fatal(err)
		}
		tmpl, diags := hcl.Load(t.Context(), hcl.Inputs{Path: "t.pkr.hcl", VarFiles: []string{file}, Cwd: dir, Version: PackerVersion, Now: time.Now()})
		if diags.HasErrors() {
			t.Fatalf("%s: %v\n%s", file, diags.Err(), text)
		}
		for _, v := range tmpl.Variables {
			if !v.Value.RawEquals(values[v.Name]) {
				t.Errorf("%s: %s is %#v, want %#v", file, v.Name, v.Value, values[v.Name])
			}
		}
	}
}

func TestOutputsOfAShell(t *testing.T) {
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("there is no shell")
	}
	dir := t.TempDir()
	for name, text := range oddTexts {
		file, err := outputsEnv([]string{name + "-x"}, map[string]cty.Value{name + "-x": cty.StringVal(text)})
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "o.env"), file, 0o600); err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), sh, "-c", `. ./o.env; printf %s "$`+name+`_x"`)
		cmd.Dir = dir
		got, err := cmd.Output()
		if err != nil || string(got) != text {
			t.Errorf("%s: %q, %v; want %q; the file is %s", name, got, err, text, file)
		}
	}
	if _, err := outputsEnv([]string{"nul"}, map[string]cty.Value{"nul": cty.StringVal("a\x00")}); err == nil {
		t.Error("a NUL was written")
	}
	js, err := outputsEnv([]string{"l", "n"}, map[string]cty.Value{"l": cty.ListVal([]cty.Value{cty.StringVal("a")}), "n": cty.NullVal(cty.String)})
	if err != nil || string(js) != "l='[\"a\"]'\nn=\n" {
		t.Errorf("%s %v", js, err)
	}
}
