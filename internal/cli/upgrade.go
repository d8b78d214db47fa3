package cli

import (
	"context"
	"flag"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/hcl/legacyjson"
	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/compile"
)

func upgradeCommand() *command {
	return &command{
		name:     "hcl2_upgrade",
		args:     "TEMPLATE",
		synopsis: "turn an old JSON template into HCL",
		about: `Reads a template in Packer's old JSON syntax and writes it as HCL that evaluates
			to the same: variables, locals for what is computed, data sources for the
			filters of Amazon images, one source for each builder, and a build.

			The new file is TEMPLATE.pkr.hcl. What has no equivalent in HCL stays in {{ }},
			which HCL templates have, too, and is told.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			out := fs.String("output-file", "", "the `file` to write; its name should end in .pkr.hcl")
			notes := fs.Bool("with-annotations", false, "explain the parts in comments")
			return func(ctx context.Context, args []string) int {
				if len(args) != 1 {
					return a.wrong("hcl2_upgrade", args, "one template")
				}
				return a.upgrade(ctx, args[0], *out, *notes)
			}
		},
	}
}

func (a *app) upgrade(ctx context.Context, path, target string, notes bool) int {
	src, err := a.legacyText(path)
	if err != nil {
		a.report.error(err)
		return exitFailed
	}
	if target == "" {
		if path == "-" {
			a.report.fail("A template from the standard input needs -output-file.")
			return exitFailed
		}
		target = path + ".pkr.hcl"
	}
	out, diags := legacyjson.Upgrade(ctx, path, src, legacyjson.UpgradeOptions{Annotate: notes, Shape: compile.Shapes(a.set)})
	a.report.diagnostics(hcl.Dedupe(diags), map[string][]byte{path: src})
	if diags.HasErrors() {
		return exitFailed
	}
	at := target
	if !filepath.IsAbs(at) {
		at = filepath.Join(a.Cwd, at)
	}
	if err := atomicfile.Write(at, out, 0o644); err != nil {
		a.report.error(err)
		return exitFailed
	}
	a.report.say(fmt.Sprintf("Successfully created %s.", target))
	if !strings.HasSuffix(target, ".pkr.hcl") {
		a.report.say("Its name does not end in .pkr.hcl: rename it to have it read as a part of a folder.")
	}
	return exitDone
}
