package hcl

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"golang.org/x/tools/txtar"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata/cases; read the difference")

// startTime is Inputs.Now in all tests.
var startTime = time.Date(2024, 2, 29, 13, 4, 5, 0, time.UTC)

// caseInput is the optional "in" part of a case.
type caseInput struct {
	Path     string
	VarFiles []string
	Vars     []string
	Env      []string
	Warn     bool
	Syntax   bool
	Texts    bool // render the {{ }} of options
	Extra    map[string][]string
	Build    map[string][]string
	// Data are the results of data sources by "type.name": evaluated when given.
	Data map[string]string
}

// TestCases loads the templates in testdata/cases. A case begins with a line
// "=== name"; its parts are files in the txtar format: "in" (JSON, how it is
// called), template files, "want" (the template, with every component checked
// against the test component) and "diag" (what is reported).
func TestCases(t *testing.T) {
	files, err := filepath.Glob("testdata/cases/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no cases: %v", err)
	}
	total := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		parts := strings.Split("\n"+string(text), "\n=== ")
		out := strings.TrimPrefix(parts[0], "\n")
		for _, part := range parts[1:] {
			name, body, _ := strings.Cut(part, "\n")
			total++
			if out != "" && !strings.HasSuffix(out, "\n") {
				out += "\n"
			}
			out += "=== " + name + "\n"
			t.Run(strings.TrimSuffix(filepath.Base(file), ".txt")+"/"+name, func(t *testing.T) {
				out += runCase(t, txtar.Parse([]byte(body+"\n")))
			})
		}
		if *update {
			if err := os.WriteFile(file, []byte(strings.TrimRight(out, "\n")+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	if total < 140 {
		t.Errorf("only %d cases found", total)
	}
}

func runCase(t *testing.T, ar *txtar.Archive) string {
	dir := t.TempDir()
	in := caseInput{Path: "."}
	want := map[string]string{}
	kept := &txtar.Archive{Comment: ar.Comment}
	for _, f := range ar.Files {
		switch f.Name {
		case "in":
			if err := json.Unmarshal(f.Data, &in); err != nil {
				t.Fatalf("in: %v", err)
			}
			kept.Files = append(kept.Files, f)
		case "want", "diag":
			want[f.Name] = strings.TrimRight(string(f.Data), "\n")
		default:
			kept.Files = append(kept.Files, f)
			path := filepath.Join(dir, f.Name)
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	set := new(secret.Set)
	inputs := Inputs{
		Path: in.Path, VarFiles: in.VarFiles, Vars: in.Vars, Env: in.Env, Cwd: dir, Version: "1.16.0", Now: startTime,
		Secrets: set, WarnUndeclared: in.Warn, SyntaxOnly: in.Syntax, ExtraBlocks: in.Extra, BuildBlocks: in.Build,
		OutputType: func(typ string) cty.Type {
			if typ == "typed" {
				return cty.Object(map[string]cty.Type{"id": cty.String, "ids": cty.List(cty.String)})
			}
			return cty.DynamicPseudoType
		},
	}
	if in.Data != nil {
		inputs.Data = func(_ context.Context, b *Block, s Scope) (cty.Value, diag.List) {
			var c component
			if l := b.Decode(s, &c); l.HasErrors() {
				return cty.NilVal, l
			}
			text, ok := in.Data[b.Type+"."+b.Name]
			if !ok {
				var l diag.List
				l.Errorf(&b.Range, "Nothing there", "The test has no such data.")
				return cty.NilVal, l
			}
			return cty.ObjectVal(map[string]cty.Value{"id": cty.StringVal(text), "text": cty.StringVal(c.Text)}), nil
		}
	}
	if in.Path == stdin {
		for _, f := range ar.Files {
			if f.Name == "stdin" {
				inputs.ForceHCL, inputs.Stdin = true, bytes.NewReader(f.Data)
			}
		}
	}
	tmpl, l := Load(context.Background(), inputs)
	got, found := dumpTemplate(tmpl, in.Texts)
	l = Dedupe(append(l, found...))
	diags := strings.TrimRight(strings.ReplaceAll(dumpDiags(l), dir, "DIR"), "\n")
	got = strings.TrimRight(strings.ReplaceAll(got, dir, "DIR"), "\n")
	if *update {
		kept.Files = append(kept.Files, txtar.File{Name: "want", Data: []byte(got)})
		if diags != "" {
			kept.Files = append(kept.Files, txtar.File{Name: "diag", Data: []byte(diags)})
		}
		return string(txtar.Format(kept))
	}
	if got != want["want"] {
		t.Errorf("template:\n%s\nwant:\n%s", got, want["want"])
	}
	if diags != want["diag"] {
		t.Errorf("findings:\n%s\nwant:\n%s", diags, want["diag"])
	}
	var b strings.Builder
	if err := diag.Format(&b, l, tmpl.Files, 80); err != nil {
		t.Errorf("format: %v", err)
	}
	return ""
}

// evalScope is the scope of an empty template in dir.
func evalScope(t testing.TB, dir string, env ...string) Scope {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "t.pkr.hcl"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	tmpl, l := Load(context.Background(), Inputs{Path: ".", Cwd: dir, Version: "1.16.0", Now: startTime, Env: env, Secrets: new(secret.Set)})
	if l.HasErrors() {
		t.Fatal(l.Err())
	}
	return tmpl.Scope()
}

// TestExpressions evaluates testdata/expressions.txt: lines "expr => JSON", or
// "expr =! text" for an error whose detail has the text.
func TestExpressions(t *testing.T) {
	text, err := os.ReadFile("testdata/expressions.txt")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range map[string]string{
		"a.txt": "hello\n", "sub/b.txt": "b", "sub/deep/c.txt": "c", "bin": "\xff\xfe",
		"hi.tpl": "Hi ${name}!%{ for x in list } ${x}%{ endfor }", "one.tpl": "${list}", "rec.tpl": `${templatefile("a.txt", {})}`,
		"bad.tpl": "${", "fn.tpl": "${upper(name)}",
	} {
		p := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	s := evalScope(t, dir, "HOME=/home/x").
		With("unk", cty.UnknownVal(cty.String)).
		With("dyn", cty.DynamicVal).
		With("sec", MarkSensitive(cty.StringVal("s3cret")))
	n := 0
	for i, line := range strings.Split(string(text), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		n++
		expr, want, isValue := strings.Cut(line, " => ")
		if !isValue {
			expr, want, _ = strings.Cut(line, " =! ")
		}
		v, l := s.Eval(expr)
		got := strings.ReplaceAll(string(show(v)), dir, "DIR")
		switch {
		case isValue && l.HasErrors():
			t.Errorf("line %d: %s: %v", i+1, expr, l.Err())
		case isValue && got != want:
			t.Errorf("line %d: %s is %s, want %s", i+1, expr, got, want)
		case !isValue && !strings.Contains(fmt.Sprint(l.Err()), want):
			t.Errorf("line %d: %s: error %v, want %q", i+1, expr, l.Err(), want)
		}
	}
	if n < 100 {
		t.Errorf("only %d expressions", n)
	}
}

// functionsOf are functions that shout, by name.
func functionsOf(names ...string) map[string]function.Function {
	out := map[string]function.Function{}
	for _, n := range names {
		out[n] = textFunc("x", func(s string) (string, error) { return strings.ToUpper(s) + "!", nil })
	}
	return out
}
