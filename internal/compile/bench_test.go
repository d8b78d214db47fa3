package compile

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/builder/null"
	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/provisioner"
	"github.com/ingot-build/ingot/provisioner/shell"
)

// largeFolder is a template of 100 sources with 20 provisioners each: in a
// build for every source, or in one build of all.
func largeFolder(b *testing.B, apart bool) string {
	b.Helper()
	dir := b.TempDir()
	provisioners := func(i int) string {
		var s strings.Builder
		for n := range 20 {
			fmt.Fprintf(&s, `
  provisioner "shell" {
    inline           = ["echo ${source.name} ${var.name} %d", "echo ${build.ID} {{build_name}}", "uname -a"]
    environment_vars = ["N=%d", "HOST=${build.Host}"]
    execute_command  = "sudo {{ .Vars }} {{ .Path }}"
    max_retries      = 2
  }`, n, i)
		}
		return s.String()
	}
	var all, refs strings.Builder
	for i := range 100 {
		text := fmt.Sprintf("source \"null\" \"s%d\" {\n  communicator = \"ssh\"\n  ssh_host = \"h%d.${var.domain}\"\n  ssh_username = local.user\n  ssh_password = var.password\n}\n", i, i)
		if apart {
			text += fmt.Sprintf("build {\n  name = \"b%d\"\n  sources = [\"null.s%d\"]\n%s\n}\n", i, i, provisioners(i))
		}
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("s%d.pkr.hcl", i)), []byte(text), 0o644); err != nil {
			b.Fatal(err)
		}
		fmt.Fprintf(&refs, "%q, ", fmt.Sprintf("null.s%d", i))
	}
	all.WriteString("variable \"name\" { default = \"n\" }\nvariable \"domain\" { default = \"example.com\" }\nvariable \"password\" {\n  default = \"hunter22\"\n  sensitive = true\n}\nlocals { user = lower(\"ROOT\") }\n")
	if !apart {
		fmt.Fprintf(&all, "build {\n  sources = [%s]\n%s\n}\n", refs.String(), provisioners(0))
	}
	if err := os.WriteFile(filepath.Join(dir, "build.pkr.hcl"), []byte(all.String()), 0o644); err != nil {
		b.Fatal(err)
	}
	return dir
}

// BenchmarkValidate is what ingot validate does but for starting a process.
// The aim is 300 ms.
func BenchmarkValidate(b *testing.B) {
	set := component.Set{Builders: []builder.Driver{null.Driver()}, Provisioners: []provisioner.Driver{shell.Driver()}}
	for _, apart := range []bool{true, false} {
		b.Run(fmt.Sprintf("apart=%v", apart), func(b *testing.B) {
			dir := largeFolder(b, apart)
			for b.Loop() {
				in := hcl.Inputs{Path: ".", Cwd: dir, Version: "1.16.0", Now: time.Now(), Secrets: &secret.Set{}}
				t, l := Load(b.Context(), in, set, false)
				p, more := Plan(t, set, Options{})
				if l.HasErrors() || more.HasErrors() || len(p.Builds) != 100 || len(p.Builds[99].Provisioners) != 20 {
					b.Fatal(l.Err(), more.Err())
				}
			}
		})
	}
}
