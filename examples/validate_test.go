package examples

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestExamplesAreValid runs `ingot validate` and `ingot fmt -check` on every
// example.
func TestExamplesAreValid(t *testing.T) {
	ingot := filepath.Join(t.TempDir(), "ingot")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", ingot, "../cmd/ingot").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, dir := range []string{"base", "web-prod"} {
		for _, args := range [][]string{{"validate", dir}, {"fmt", "-check", "-diff", dir}} {
			if out, err := exec.CommandContext(t.Context(), ingot, args...).CombinedOutput(); err != nil {
				t.Errorf("ingot %q: %v\n%s", args, err, out)
			}
		}
	}
	for _, bad := range [][]string{
		{"-var", "image_version=latest"},
		{"-var", "site_name=a/b&c"},
		{"-var", "base_checksum=abc"},
		{"-var", "memory=100"},
		{"-var", `metrics_from=["everywhere"]`},
		{"-var", "metrics_from=[]"},
	} {
		args := append(append([]string{"validate"}, bad...), "web-prod")
		if out, err := exec.CommandContext(t.Context(), ingot, args...).CombinedOutput(); err == nil {
			t.Errorf("ingot %q was accepted:\n%s", args, out)
		}
	}
}
