package cli

import (
	"context"
	"flag"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/compile"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/secret"
)

func initCommand() *command {
	return &command{
		name:     "init",
		args:     "TEMPLATE",
		synopsis: "check that the plugins a template requires are built in",
		about: `Reads required_plugins of a template and tells of each plugin whether what the
			template uses of it is built in. Nothing is downloaded: a plugin that is built in
			is there at once, whatever version is asked for, and no other can be installed.

			The exit code is 1 when something that is used is missing.

			TEMPLATE is a file or a folder.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			declareCompatible(fs, "upgrade", "force")
			return func(ctx context.Context, args []string) int {
				if len(args) != 1 {
					return a.wrong("init", args, "one template")
				}
				return a.init(ctx, args[0])
			}
		},
	}
}

func (a *app) init(ctx context.Context, path string) int {
	t, ok := a.requirements(ctx, path)
	if !ok {
		return exitFailed
	}
	if len(t.RequiredPlugins) == 0 {
		a.report.say("The template requires no plugins: there is nothing to do.")
		return exitDone
	}
	code := exitDone
	for _, p := range t.RequiredPlugins {
		s := standing(a.set, t, p)
		if s.satisfied() {
			a.report.say(s.text)
			continue
		}
		a.report.fail(s.text)
		code = exitFailed
	}
	if code != exitDone {
		a.report.say("\nPlugins cannot be installed. Such a template can be looked at with inspect, fmt and validate -syntax-only.")
	}
	return code
}

// requirements loads a template for what it says of plugins.
func (a *app) requirements(ctx context.Context, path string) (*hcl.Template, bool) {
	secrets := &secret.Set{}
	in := a.inputs(path, templateFlags{}, secrets)
	in.SyntaxOnly = true
	t, diags := compile.Load(ctx, in, a.set, false)
	a.report.diagnostics(masked(hcl.Dedupe(diags), secrets), t.Files)
	return t, !diags.HasErrors()
}

// A pluginState is how a required plugin stands with what is built in.
type pluginState struct {
	text    string
	missing []string // component types that are used and not built in
}

func (s pluginState) satisfied() bool { return len(s.missing) == 0 }

// standing compares what t uses of a plugin with set. Component types begin
// with the name that the template gives the plugin.
func standing(set component.Set, t *hcl.Template, p hcl.RequiredPlugin) pluginState {
	have := componentsOf(set)
	var s pluginState
	used := false
	for _, c := range usedBy(t) {
		if !c.of(p.Name) || slices.ContainsFunc(t.RequiredPlugins, func(o hcl.RequiredPlugin) bool {
			return len(o.Name) > len(p.Name) && c.of(o.Name) // amazon-x, beside amazon
		}) {
			continue
		}
		used = true
		if !slices.Contains(have, c) && !slices.Contains(s.missing, c.typ) {
			s.missing = append(s.missing, c.typ)
		}
	}
	builtin := describeComponents(have, path.Base(p.Source))
	label := p.Source + " (" + p.Version + ")"
	switch {
	case !s.satisfied() && builtin == "":
		s.text = fmt.Sprintf("%s is not built in, and the template uses %s of it.", label, strings.Join(s.missing, ", "))
	case !s.satisfied():
		s.text = fmt.Sprintf("%s is built in without %s, which the template uses. Built in are: %s.", label, strings.Join(s.missing, ", "), builtin)
	case builtin != "":
		s.text = fmt.Sprintf("%s is built in: %s.", label, builtin)
	case used:
		s.text = fmt.Sprintf("%s: all that the template uses of it is built in.", label)
	default:
		s.text = fmt.Sprintf("%s is not built in, and the template uses nothing of it.", label)
	}
	return s
}

// A part is one component, in a template or built in.
type part struct{ kind, typ string }

// of reports whether the component is one of the plugin of that name.
func (c part) of(plugin string) bool {
	return c.typ == plugin || strings.HasPrefix(c.typ, plugin+"-")
}

// The kinds of components, in the order they are told.
var kinds = []string{"builder", "provisioner", "post-processor", "data source"}

func componentsOf(set component.Set) (out []part) {
	for _, d := range set.Builders {
		out = append(out, part{kinds[0], d.Name})
	}
	for _, d := range set.Provisioners {
		out = append(out, part{kinds[1], d.Name})
	}
	for _, d := range set.PostProcessors {
		out = append(out, part{kinds[2], d.Name})
	}
	for _, d := range set.DataSources {
		out = append(out, part{kinds[3], d.Name})
	}
	return out
}

// usedBy returns the components that a template names.
func usedBy(t *hcl.Template) (out []part) {
	add := func(kind, typ string) {
		if c := (part{kind, typ}); !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	for _, b := range t.Sources {
		add(kinds[0], b.Type)
	}
	for _, b := range t.Builds {
		for _, s := range b.Sources {
			add(kinds[0], s.Type)
		}
		for _, p := range b.Provisioners {
			add(kinds[1], p.Type)
		}
		if p := b.ErrorCleanup; p != nil {
			add(kinds[1], p.Type)
		}
		for _, chain := range b.PostProcessors {
			for _, p := range chain {
				add(kinds[2], p.Type)
			}
		}
	}
	for _, b := range t.Data {
		add(kinds[3], b.Type)
	}
	return out
}

// describeComponents lists those of a plugin by kind; "" when there is none.
func describeComponents(all []part, plugin string) string {
	var out []string
	for _, kind := range kinds {
		var types []string
		for _, c := range all {
			if c.kind == kind && c.of(plugin) {
				types = append(types, c.typ)
			}
		}
		slices.Sort(types)
		if len(types) == 1 {
			out = append(out, kind+" "+types[0])
		} else if len(types) > 1 {
			out = append(out, kind+"s "+strings.Join(types, ", "))
		}
	}
	return strings.Join(out, "; ")
}
