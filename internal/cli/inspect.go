package cli

import (
	"context"
	"flag"
	"fmt"
	"strings"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/compile"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

func inspectCommand() *command {
	return &command{
		name:     "inspect",
		args:     "TEMPLATE",
		synopsis: "show what a template consists of",
		about: `Shows the variables and locals of a template with their values, and its builds
			with their sources, provisioners and post-processors. A variable needs no
			value. Nothing is made and no data source is asked.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			var t templateFlags
			t.declare(fs)
			declareCompatible(fs, "use-sequential-evaluation")
			return func(ctx context.Context, args []string) int {
				if len(args) != 1 {
					return a.wrong("inspect", args, "one template")
				}
				return a.inspect(ctx, args[0], t)
			}
		},
	}
}

func (a *app) inspect(ctx context.Context, path string, flags templateFlags) int {
	t, diags, secrets := a.describe(ctx, path, flags)
	if diags.HasErrors() {
		a.report.diagnostics(masked(diags, secrets), t.Files)
		return exitFailed
	}
	title := "Ingot Inspect: HCL2 mode"
	if a.asPacker() {
		title = "Packer Inspect: HCL2 mode"
	}
	if t.Legacy {
		title = strings.Replace(title, "HCL2", "JSON", 1)
	}
	a.report.say(secrets.Mask(title + "\n\n" + describeValues(t) + "\n" + describeBuilds(t) + outputsOf(t)))
	return exitDone
}

// describe loads a template that is looked at and not run: what its values
// lack is passed over, as long as the template can be read.
func (a *app) describe(ctx context.Context, path string, flags templateFlags) (*hcl.Template, diag.List, *secret.Set) {
	secrets := &secret.Set{}
	in := a.inputs(path, flags, secrets)
	t, diags := compile.Load(ctx, in, a.set, false)
	if diags.HasErrors() {
		in.SyntaxOnly = true
		if s, l := compile.Load(ctx, in, a.set, false); l.HasErrors() {
			return s, l, secrets
		}
	}
	return t, nil, secrets
}

func describeValues(t *hcl.Template) string {
	var b strings.Builder
	b.WriteString("> input-variables:\n\n")
	for _, v := range t.Variables {
		text := printed(v.Value)
		if v.Sensitive {
			text = secret.Redacted
		}
		fmt.Fprintf(&b, "var.%s: %q\n", v.Name, text)
	}
	b.WriteString("\n> local-variables:\n\n")
	for _, l := range t.Locals {
		text := printed(l.Value)
		if l.Sensitive {
			text = secret.Redacted
		}
		fmt.Fprintf(&b, "local.%s: %q\n", l.Name, text)
	}
	return b.String()
}

func describeBuilds(t *hcl.Template) string {
	var b strings.Builder
	b.WriteString("> builds:\n")
	for i, bld := range t.Builds {
		name := bld.Name
		if name == "" {
			name = fmt.Sprintf("<unnamed build %d>", i)
		}
		fmt.Fprintf(&b, "\n  > %s:\n", name)
		if bld.Description != "" {
			fmt.Fprintf(&b, "\n  > Description: %s\n", strings.ReplaceAll(strings.TrimSpace(bld.Description), "\n", "\n    "))
		}
		section := func(title, none string, lines []string) {
			if len(lines) == 0 {
				lines = []string{none}
			}
			fmt.Fprintf(&b, "\n    %s:\n\n      %s\n", title, strings.Join(lines, "\n      "))
		}
		var sources, provisioners, chains []string
		for _, s := range bld.Sources {
			text := s.Ref()
			if base := s.Base(); base != "" {
				text += " (extends " + base + ")"
			}
			sources = append(sources, text)
		}
		for _, p := range bld.Provisioners {
			provisioners = append(provisioners, labelled(p.Type, p.Name))
		}
		for n, chain := range bld.PostProcessors {
			chains = append(chains, fmt.Sprintf("%d:", n))
			for _, p := range chain {
				chains = append(chains, "  "+labelled(p.Type, p.Name))
			}
		}
		section("sources", "<no source>", sources)
		if len(bld.DependsOn) > 0 {
			var after []string
			for _, r := range bld.DependsOn {
				after = append(after, r.String())
			}
			section("depends on", "", after)
		}
		section("provisioners", "<no provisioner>", provisioners)
		if p := bld.ErrorCleanup; p != nil {
			section("error-cleanup-provisioner", "", []string{labelled(p.Type, p.Name)})
		}
		section("post-processors", "<no post-processor>", chains)
	}
	return strings.TrimRight(b.String(), "\n")
}

// outputsOf is the section about the outputs of a template that is not run,
// empty when it has none.
func outputsOf(t *hcl.Template) string {
	if len(t.Outputs) == 0 {
		return ""
	}
	list, _ := compile.Outputs(t, nil) // what is wrong with them is of no concern here
	return "\n\n" + strings.TrimRight(describeOutputs(list), "\n")
}

func labelled(typ, name string) string {
	if name == "" {
		return typ
	}
	return typ + " (" + name + ")"
}
