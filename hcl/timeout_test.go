package hcl

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The timeout of a build is Ingot's own.
func TestBuildTimeout(t *testing.T) {
	for text, want := range map[string]struct {
		limit time.Duration
		fault string
	}{
		``:                {},
		`timeout = "90m"`: {limit: 90 * time.Minute},
		`timeout = var.d`: {limit: time.Minute},
		`timeout = "-1s"`: {limit: -time.Second, fault: "is negative"},
		`timeout = "90"`:  {fault: `write "90s"`},
	} {
		dir := t.TempDir()
		src := "variable \"d\" { default = \"1m\" }\nsource \"null\" \"a\" {}\nbuild {\n  sources = [\"null.a\"]\n  " + text + "\n}\n"
		if err := os.WriteFile(filepath.Join(dir, "a.pkr.hcl"), []byte(src), 0o600); err != nil {
			t.Fatal(err)
		}
		tmpl, l := Load(t.Context(), Inputs{Path: ".", Cwd: dir, Version: "1.16.0", Now: time.Now()})
		switch {
		case want.fault == "" && l.HasErrors():
			t.Errorf("%s: %v", text, l.Err())
		case want.fault != "" && (!l.HasErrors() || !strings.Contains(l.Err().Error(), want.fault)):
			t.Errorf("%s: %v, want %q", text, l.Err(), want.fault)
		case want.fault == "" && tmpl.Builds[0].Timeout != want.limit:
			t.Errorf("%s: %s", text, tmpl.Builds[0].Timeout)
		}
	}
}
