package legacyjson

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

func seeds(f *testing.F) {
	f.Helper()
	src, err := os.ReadFile("testdata/load.txt")
	if err != nil {
		f.Fatal(err)
	}
	for _, part := range strings.Split("\n"+string(src), "\n=== ") {
		for _, file := range txtar.Parse([]byte(part)).Files {
			if file.Name == "t.json" {
				f.Add(file.Data)
			}
		}
	}
}

// FuzzTemplate loads, upgrades and fixes arbitrary texts. What is upgraded
// without a warning means in HCL what it meant before.
func FuzzTemplate(f *testing.F) {
	seeds(f)
	dir := f.TempDir()
	f.Fuzz(func(t *testing.T, text []byte) {
		in := hcl.Inputs{
			Path: "-", Stdin: bytes.NewReader(text), Cwd: dir, Version: "1.16.0", Now: startTime, Secrets: new(secret.Set), SecretsManager: manager,
		}
		tmpl, l := Load(context.Background(), in)
		m, found := meaning(tmpl)
		var b strings.Builder
		if err := diag.Format(&b, append(l, found...), tmpl.Files, 80); err != nil {
			t.Fatal(err)
		}
		for _, d := range append(l, found...) {
			if d.Summary == "" || d.Detail == "" {
				t.Errorf("finding without a reason: %+v", d)
			}
		}
		for _, o := range []UpgradeOptions{{}, {Annotate: true, Shape: shapes}} {
			if _, l := Upgrade(context.Background(), "t.json", text, o); l.HasErrors() {
				break
			}
		}
		if len(l)+len(found) == 0 && !strings.Contains(string(text), "uuid") && !strings.Contains(string(text), "filter") {
			sameInHCL(t, in, dir, text, show(m))
		}
		out, l := Fix("t.json", text)
		if l.HasErrors() {
			return
		}
		if !json.Valid(out) {
			t.Errorf("not JSON: %s", out)
		}
	})
}

func sameInHCL(t *testing.T, in hcl.Inputs, dir string, text []byte, want string) {
	up, l := Upgrade(context.Background(), "t.json", text, UpgradeOptions{Shape: shapes})
	if len(l) > 0 {
		return
	}
	if err := os.WriteFile(filepath.Join(dir, "t.pkr.hcl"), up, 0o644); err != nil {
		t.Fatal(err)
	}
	in.Path = "t.pkr.hcl"
	tmpl, l := hcl.Load(context.Background(), in)
	m, found := meaning(tmpl)
	if l = append(l, found...); l.HasErrors() {
		t.Fatalf("%s\nbecame\n%s\n%v", text, up, l.Err())
	}
	if got := show(m); got != want {
		t.Errorf("%s\nmeans\n%s\nand became\n%s\nwhich means\n%s", text, want, up, got)
	}
}
