package legacyjson

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
	"golang.org/x/tools/txtar"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

var update = flag.Bool("update", false, "rewrite the expectations in testdata; read the difference")

var startTime = time.Date(2024, 2, 29, 13, 4, 5, 0, time.UTC)

// component has options of the kinds that components have.
type component struct {
	Text     string            `hcl:"text" json:"text,omitempty"`
	Num      int               `hcl:"num" json:"num,omitempty"`
	On       bool              `hcl:"on" json:"on,omitempty"`
	Inline   []string          `hcl:"inline" json:"inline,omitempty"`
	Args     [][]string        `hcl:"qemuargs,late" json:"qemuargs,omitempty"`
	Command  string            `hcl:"execute_command,late" json:"execute_command,omitempty"`
	Tags     map[string]string `hcl:"tags" json:"tags,omitempty"`
	Wait     time.Duration     `hcl:"ssh_timeout" json:"ssh_timeout,omitempty"`
	Password secret.String     `hcl:"ssh_password" json:"-"`
	Region   string            `hcl:"region" json:"region,omitempty"`
	AMIName  string            `hcl:"ami_name,late" json:"ami_name,omitempty"`
	AMI      string            `hcl:"source_ami" json:"source_ami,omitempty"`
	Filter   *filter           `hcl:"source_ami_filter,block" json:"source_ami_filter,omitempty"`
	Playbook string            `hcl:"playbook_file" json:"playbook_file,omitempty"`
	Disks    []disk            `hcl:"disk,block" json:"disk,omitempty"`
	Root     *disk             `hcl:"root,block" json:"root,omitempty"`
}

type filter struct {
	Filters map[string]string `hcl:"filters" json:"filters,omitempty"`
	Owners  []string          `hcl:"owners" json:"owners,omitempty"`
	Latest  bool              `hcl:"most_recent" json:"most_recent,omitempty"`
}

type disk struct {
	Size int    `hcl:"size" json:"size,omitempty"`
	Name string `hcl:"name" json:"name,omitempty"`
}

func shapes(string, string) (hcl.Shape, bool) { return hcl.ShapeOf(&component{}), true }

// decoded is what a template means, as far as components see it.
type decoded struct {
	Build   string
	Source  component
	Steps   []decodedStep
	Cleanup *decodedStep
	Chains  [][]decodedStep
}

type decodedStep struct {
	Type, Name string
	Skipped    bool `json:",omitempty"`
	Meta       string
	Options    component
}

func (s decodedStep) MarshalJSON() ([]byte, error) {
	type plain decodedStep
	return json.Marshal(plain(s))
}

// meaning decodes all of a template, as if a guest were there.
func meaning(t *hcl.Template) ([]decoded, diag.List) {
	var l diag.List
	var out []decoded
	for _, b := range t.Builds {
		for _, src := range b.Sources {
			s := t.Scope().With("source", cty.ObjectVal(map[string]cty.Value{"type": cty.StringVal(src.Type), "name": cty.StringVal(src.LocalName)}))
			texts := t.Texts()
			texts.BuildName, texts.BuildType = src.LocalName, src.Type
			d := decoded{Build: src.LocalName}
			l = append(l, src.Body.Decode(s.WithTexts(texts), &d.Source)...)
			texts.Build = func(name string) (string, error) { return "<" + name + ">", nil }
			s = s.With("build", cty.ObjectVal(map[string]cty.Value{"ID": cty.StringVal("<ID>"), "Host": cty.StringVal("<Host>")})).WithTexts(texts)
			prov := func(p *hcl.Provisioner) decodedStep {
				st := decodedStep{Type: p.Type, Name: p.Name, Skipped: p.Skips(src)}
				st.Meta = fmt.Sprint(p.PauseBefore, p.Timeout, p.MaxRetries, p.ContinueOnError)
				l = append(l, p.BlockFor(src).Decode(s, &st.Options)...)
				return st
			}
			for _, p := range b.Provisioners {
				d.Steps = append(d.Steps, prov(p))
			}
			if b.ErrorCleanup != nil {
				st := prov(b.ErrorCleanup)
				d.Cleanup = &st
			}
			for _, chain := range b.PostProcessors {
				var steps []decodedStep
				for _, p := range chain {
					st := decodedStep{Type: p.Type, Name: p.Name, Skipped: p.Skips(src)}
					if p.KeepInput != nil {
						st.Meta = fmt.Sprint(*p.KeepInput)
					}
					l = append(l, p.Block.Decode(s, &st.Options)...)
					steps = append(steps, st)
				}
				d.Chains = append(d.Chains, steps)
			}
			out = append(out, d)
		}
	}
	return out, hcl.Dedupe(l)
}

// caseInput is the optional part "in" of a case.
type caseInput struct {
	Path     string
	VarFiles []string
	Vars     []string
	Env      []string
	Syntax   bool
	NoHCL    bool // the meaning of the upgraded template is another
}

// TestCases reads the templates in testdata/load.txt: lines "=== name", then
// files in the txtar format: "in", the template t.json, variable files, what
// it means ("want"), what is reported ("diag"), and the template as HCL
// ("hcl") with what is reported of that ("hcldiag"). Where both can be decoded
// they must mean the same.
func TestCases(t *testing.T) {
	const file = "testdata/load.txt"
	src, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split("\n"+string(src), "\n=== ")
	out := strings.TrimPrefix(parts[0], "\n")
	for _, part := range parts[1:] {
		name, body, _ := strings.Cut(part, "\n")
		out += "=== " + name + "\n"
		t.Run(name, func(t *testing.T) { out += runCase(t, txtar.Parse([]byte(body+"\n"))) })
	}
	if len(parts) < 30 {
		t.Errorf("only %d cases found", len(parts)-1)
	}
	if *update {
		if err := os.WriteFile(file, []byte(strings.TrimRight(out, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func runCase(t *testing.T, ar *txtar.Archive) string {
	dir := t.TempDir()
	in := caseInput{Path: "t.json"}
	want := map[string]string{}
	kept := &txtar.Archive{Comment: ar.Comment}
	var text []byte
	for _, f := range ar.Files {
		switch f.Name {
		case "in":
			if err := json.Unmarshal(f.Data, &in); err != nil {
				t.Fatalf("in: %v", err)
			}
			kept.Files = append(kept.Files, f)
		case "want", "diag", "hcl", "hcldiag":
			want[f.Name] = strings.TrimRight(string(f.Data), "\n")
		default:
			kept.Files = append(kept.Files, f)
			if f.Name == "t.json" {
				text = f.Data
			}
			if err := os.WriteFile(filepath.Join(dir, f.Name), f.Data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	inputs := hcl.Inputs{
		Path: in.Path, VarFiles: in.VarFiles, Vars: in.Vars, Env: in.Env, Cwd: dir, Version: "1.16.0", Now: startTime,
		Secrets: new(secret.Set), SyntaxOnly: in.Syntax, SecretsManager: manager, Stdin: bytes.NewReader(text),
	}
	got := map[string]string{}
	tmpl, l := Load(context.Background(), inputs)
	m, found := meaning(tmpl)
	if !in.Syntax {
		l = hcl.Dedupe(append(l, found...))
	}
	got["want"], got["diag"] = show(m), strings.ReplaceAll(showDiags(l), dir, "DIR")
	if !l.HasErrors() && in.Path == "t.json" {
		up, ul := Upgrade(context.Background(), "t.json", text, UpgradeOptions{Shape: shapes})
		got["hcl"], got["hcldiag"] = strings.TrimRight(string(up), "\n"), showDiags(ul)
		if again, fl := hcl.FormatFile(up, "t.pkr.hcl"); fl.HasErrors() || !bytes.Equal(again, up) {
			t.Errorf("not formatted:\n%s", up)
		}
		if !in.NoHCL && !in.Syntax {
			sameMeaning(t, inputs, dir, up, got["want"])
		}
	}
	for k, v := range got {
		got[k] = strings.TrimRight(strings.ReplaceAll(v, dir, "DIR"), "\n")
	}
	if *update {
		for _, k := range []string{"want", "diag", "hcl", "hcldiag"} {
			if got[k] != "" {
				kept.Files = append(kept.Files, txtar.File{Name: k, Data: []byte(got[k])})
			}
		}
		return string(txtar.Format(kept))
	}
	for _, k := range []string{"want", "diag", "hcl", "hcldiag"} {
		if got[k] != want[k] {
			t.Errorf("%s:\n%s\nwant:\n%s", k, got[k], want[k])
		}
	}
	var b strings.Builder
	if err := diag.Format(&b, l, tmpl.Files, 80); err != nil {
		t.Errorf("format: %v", err)
	}
	return ""
}

// sameMeaning loads an upgraded template with the same inputs.
func sameMeaning(t *testing.T, in hcl.Inputs, dir string, text []byte, want string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, "t.pkr.hcl"), text, 0o644); err != nil {
		t.Fatal(err)
	}
	in.Path, in.VarFiles = "t.pkr.hcl", nil
	in.Data = func(context.Context, *hcl.Block, hcl.Scope) (cty.Value, diag.List) {
		return cty.ObjectVal(map[string]cty.Value{"id": cty.StringVal("ami-found")}), nil
	}
	tmpl, l := hcl.Load(context.Background(), in)
	m, found := meaning(tmpl)
	l = append(l, found...)
	if l.HasErrors() {
		t.Fatalf("upgraded:\n%s\n%v", text, l.Err())
	}
	if got := show(m); got != want {
		t.Errorf("the upgraded template means\n%s\nbut the old one\n%s\n%s", got, want, text)
	}
}

func manager(_ context.Context, name string) (string, error) {
	if name != "s" {
		return "", fmt.Errorf("there is no secret %q", name)
	}
	return `{"a": "alpha", "n": 7}`, nil
}

func show(m []decoded) string {
	b, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		panic(err)
	}
	s := string(b)
	// What a component renders itself is the same before and after that.
	for _, r := range [][2]string{{"{{build `ID`}}", "<ID>"}, {`\u003c`, "<"}, {`\u003e`, ">"}, {`\u0026`, "&"}} {
		s = strings.ReplaceAll(s, r[0], r[1])
	}
	return s
}

func showDiags(l diag.List) string {
	var b strings.Builder
	for _, d := range l {
		at := "-"
		if d.Subject != nil {
			at = d.Subject.String()
		}
		fmt.Fprintf(&b, "%s %s: %s: %s\n", strings.ToLower(d.Severity.String()), at, d.Summary, strings.ReplaceAll(d.Detail, "\n", " / "))
	}
	return b.String()
}
