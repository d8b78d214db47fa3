package amazon

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/diag"
)

var start = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

var opening = opener{version: "1.2.3", start: start}

// decode reads options as a template has them.
func decode(t testing.TB, typ, body string, dst any) {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf("source %q \"a\" {\n%s\n}\nbuild {\n  sources = [\"%s.a\"]\n}\n", typ, body, typ)
	if err := os.WriteFile(filepath.Join(dir, "a.pkr.hcl"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	tmpl, l := hcl.Load(t.Context(), hcl.Inputs{Path: ".", Cwd: dir, Version: "1.16.0", Now: start})
	if l.HasErrors() {
		t.Fatal(l.Err())
	}
	if l := tmpl.Sources[0].Decode(tmpl.Scope(), dst); l.HasErrors() {
		t.Fatal(l.Err())
	}
}

// open opens the builder of that type with the options.
func open(t testing.TB, typ, body string) (*machine, error) {
	t.Helper()
	info := builder.Info{Name: "a", Type: typ, Build: typ + ".a", RunID: "run-1"}
	switch typ {
	case typeEBS:
		var c EBSConfig
		decode(t, typ, body, &c)
		return opening.newEBS(c, info)
	case typeSurrogate:
		var c SurrogateConfig
		decode(t, typ, body, &c)
		return opening.newSurrogate(c, info)
	}
	var c VolumeConfig
	decode(t, typ, body, &c)
	return opening.newVolume(c, info)
}

const minimal = `
  region        = "us-east-1"
  ami_name      = "web"
  source_ami    = "ami-0123456789abcdef0"
  instance_type = "t3.small"
  ssh_username  = "admin"
`

const minimalSurrogate = minimal + `
  ami_virtualization_type = "hvm"
  launch_block_device_mappings {
    device_name           = "/dev/xvdf"
    volume_size           = 8
    volume_type           = "gp3"
    delete_on_termination = true
  }
  ami_root_device {
    source_device_name    = "/dev/xvdf"
    device_name           = "/dev/xvda"
    volume_size           = 8
    delete_on_termination = true
  }
`

const minimalVolume = `
  region        = "us-east-1"
  source_ami    = "ami-0123456789abcdef0"
  instance_type = "t3.small"
  ssh_username  = "admin"
`

func must(t testing.TB, typ, body string) *machine {
	t.Helper()
	m, err := open(t, typ, body)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// wantFault fails unless err has a fault at the option that says text. The
// option may begin with "warn ".
func wantFault(t *testing.T, err error, option, text string) {
	t.Helper()
	option, warn := strings.CutPrefix(option, "warn ")

	var all []string
	for _, e := range diag.Flatten(err) {
		var f *diag.FieldError
		if !errors.As(e, &f) {
			t.Errorf("not a fault of an option: %v", e)
			continue
		}
		all = append(all, e.Error())
		if slices.Contains(f.Paths, option) && strings.Contains(f.Err.Error(), text) && f.Warn == warn {
			return
		}
	}
	t.Errorf("no fault of %q with %q (warning: %t) in:\n%s", option, text, warn, strings.Join(all, "\n"))
}
