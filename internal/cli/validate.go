package cli

import (
	"context"
	"flag"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/compile"
	"github.com/ingot-build/ingot/internal/secret"
)

type validateOptions struct {
	templateFlags
	selectFlags
	syntaxOnly, dataSources, noWarn bool
}

func validateCommand() *command {
	return &command{
		name:     "validate",
		args:     "TEMPLATE",
		synopsis: "check that a template is valid",
		about: `Checks a template: its syntax, variables and references, and every option of
			every builder, provisioner and post-processor it uses. Nothing is made and no
			platform is asked. All mistakes are reported at once.

			TEMPLATE is a file or a folder.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			var o validateOptions
			o.templateFlags.declare(fs)
			o.selectFlags.declare(fs)
			fs.BoolVar(&o.syntaxOnly, "syntax-only", false, "check the syntax only: variables need no values")
			fs.BoolVar(&o.dataSources, "evaluate-datasources", false, "ask the data sources")
			fs.BoolVar(&o.noWarn, "no-warn-undeclared-var", false, "do not warn about values for undeclared variables")
			declareCompatible(fs, "ignore-prerelease-plugins", "use-sequential-evaluation")
			return func(ctx context.Context, args []string) int {
				if len(args) != 1 {
					return a.wrong("validate", args, "one template")
				}
				return a.validate(ctx, args[0], o)
			}
		},
	}
}

func (a *app) validate(ctx context.Context, path string, o validateOptions) int {
	secrets := &secret.Set{}
	in := a.inputs(path, o.templateFlags, secrets)
	in.WarnUndeclared, in.SyntaxOnly = !o.noWarn, o.syntaxOnly
	t, diags := compile.Load(ctx, in, a.set, o.dataSources && !o.syntaxOnly)
	if !t.Broken && !o.syntaxOnly {
		_, more := compile.Plan(t, a.set, compile.Options{Only: o.only, Except: o.except, Cache: a.cacheDir(), Faulty: diags.HasErrors()})
		diags = append(diags, more...)
	}
	diags = hcl.Dedupe(diags)
	if !o.syntaxOnly {
		diags = append(diags, unpublished(t)...)
	}
	a.report.diagnostics(masked(diags, secrets), t.Files)
	switch {
	case diags.HasErrors():
		return exitFailed
	case o.syntaxOnly:
		a.report.say("Syntax-only check passed. Everything looks okay.")
	default:
		a.report.say("The configuration is valid.")
	}
	return exitDone
}
