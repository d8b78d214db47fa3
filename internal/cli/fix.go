package cli

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/hcl/legacyjson"
	"github.com/ingot-build/ingot/internal/compile"
	"github.com/ingot-build/ingot/internal/secret"
)

func fixCommand() *command {
	var list strings.Builder
	for _, f := range legacyjson.FixerNames() {
		fmt.Fprintf(&list, "\n    %-28s %s", f[0], f[1])
	}
	return &command{
		name:     "fix",
		args:     "TEMPLATE",
		synopsis: "renew the spellings of old JSON templates",
		about: `Reads a template in Packer's old JSON syntax, writes what older versions spelled
			differently as it is spelled today, and prints the template. The file is not
			changed. The form of the result is checked, unless -validate=false.

			What is renewed:
			` + list.String(),
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			validate := fs.Bool("validate", true, "check the renewed template; =false prints it whatever is wrong with it")
			return func(ctx context.Context, args []string) int {
				if len(args) != 1 {
					return a.wrong("fix", args, "one template")
				}
				return a.fix(ctx, args[0], *validate)
			}
		},
	}
}

func (a *app) fix(ctx context.Context, path string, validate bool) int {
	src, err := a.legacyText(path)
	if err != nil {
		a.report.error(err)
		return exitFailed
	}
	out, diags := legacyjson.Fix(path, src)
	a.report.diagnostics(diags, map[string][]byte{path: src})
	if diags.HasErrors() {
		return exitFailed
	}
	if validate {
		secrets := &secret.Set{}
		in := a.inputs("-", templateFlags{}, secrets)
		in.Stdin = bytes.NewReader(out)
		in.SyntaxOnly = true // a variable without a value is no mistake of the template
		t, diags := compile.Load(ctx, in, a.set, false)
		if diags.HasErrors() {
			a.report.diagnostics(masked(diags, secrets), t.Files)
			a.report.fail("The renewed template is not valid. With -validate=false it is printed nevertheless.")
			return exitFailed
		}
	}
	a.report.say(strings.TrimSuffix(string(out), "\n"))
	return exitDone
}

// legacyText reads a template that must be in the old syntax.
func (a *app) legacyText(path string) ([]byte, error) {
	if path == "-" {
		text, err := io.ReadAll(a.In)
		if err != nil {
			return nil, fmt.Errorf("standard input: %w", err)
		}
		return text, nil
	}
	at := path
	if !filepath.IsAbs(at) {
		at = filepath.Join(a.Cwd, at)
	}
	return os.ReadFile(at)
}
