package cli

import (
	"context"
	"encoding/json"
	"flag"
	"io"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/compile"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/pipeline"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/internal/ui"
)

type planOptions struct {
	templateFlags
	selectFlags
	force, json, check, dataSources bool
}

func planCommand() *command {
	return &command{
		name:     "plan",
		args:     "TEMPLATE",
		synopsis: "show what a build would do",
		about: `Shows what ingot build would do with a template, and does nothing of it: the
			values of variables and locals, and for each build its image, its regions, what
			would be replaced, and the steps in their order.

			No platform and no data source is asked, unless -check or -evaluate-datasources
			say so; what is asked then is only read. An option that needs the answer of a data
			source is told as known later.

			With -json it is one object:

			format           1; it grows when a field changes its meaning, not for new fields
			version, packer_version, template
			variables, locals, data_sources, outputs
			                 lists of name, origin, sensitive, known, value; the value is left
			                 out when it is sensitive or not known
			builds           a list of name, type, source, extends (a source), after (names of
			                 builds), image, region, copies (regions),
			                 replaces, known_later (options), checked, base (id, region, name,
			                 arch, virtualization, boot, digest), provisioners, error_cleanup,
			                 post_processors (chains); it is empty when there are errors
			                 in the template. Steps have type, name, pause_before, timeout (in
			                 seconds), max_retries, continue_on_error, keep_input_artifact
			diagnostics      a list of severity, summary, detail, range

			TEMPLATE is a file or a folder. The exit code is 1 when a build would fail at
			once.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			var o planOptions
			o.templateFlags.declare(fs)
			o.selectFlags.declare(fs)
			fs.BoolVar(&o.force, "force", false, "plan for a build with -force")
			fs.BoolVar(&o.json, "json", false, "print one JSON object")
			fs.BoolVar(&o.check, "check", false, "ask the platforms for the base images and for what stands in the way")
			fs.BoolVar(&o.dataSources, "evaluate-datasources", false, "ask the data sources")
			declareCompatible(fs, "use-sequential-evaluation")
			return func(ctx context.Context, args []string) int {
				if len(args) != 1 {
					return a.wrong("plan", args, "one template")
				}
				return a.showPlan(ctx, args[0], o)
			}
		},
	}
}

func (a *app) showPlan(ctx context.Context, path string, o planOptions) int {
	secrets := &secret.Set{}
	t, diags := compile.Load(ctx, a.inputs(path, o.templateFlags, secrets), a.set, o.dataSources)
	plan := &pipeline.Plan{}
	if !t.Broken {
		p, more := compile.Plan(t, a.set, compile.Options{
			Only: o.only, Except: o.except, Force: o.force, OnError: string(pipeline.Cleanup), Cache: a.cacheDir(), Faulty: diags.HasErrors(),
		})
		plan, diags = p, append(diags, more...)
	}
	diags = append(hcl.Dedupe(diags), unpublished(t)...)
	if diags.HasErrors() {
		plan.Builds = nil // they might be others without the mistakes
	}
	v := a.planView(ctx, path, t, plan, o, &diags, secrets.Mask)
	diags = masked(diags, secrets)
	switch {
	case o.json:
		for _, d := range diags {
			v.Diagnostics = append(v.Diagnostics, ui.DiagnosticOf(d))
		}
		if err := v.write(a.Out); err != nil {
			return exitFailed
		}
	default:
		a.report.diagnostics(diags, t.Files)
		if len(v.Builds) > 0 {
			a.report.say(v.text(secrets.Mask(describeValues(t)), secrets.Mask(strings.TrimPrefix(outputsOf(t), "\n"))))
		}
	}
	if diags.HasErrors() || ctx.Err() != nil {
		return exitFailed
	}
	return exitDone
}

// A planView is a plan as -json prints it. Secrets are not in it.
type planView struct {
	Format        int             `json:"format"`
	Version       string          `json:"version"`        // of Ingot
	PackerVersion string          `json:"packer_version"` // that templates see
	Template      string          `json:"template"`
	Variables     []planValue     `json:"variables"`
	Locals        []planValue     `json:"locals"`
	Data          []planValue     `json:"data_sources"` // by "type.name"
	Builds        []planBuild     `json:"builds"`       // none when the template has mistakes
	Outputs       []planValue     `json:"outputs"`
	Diagnostics   []ui.Diagnostic `json:"diagnostics"`
}

// A planValue is a value that a template names.
type planValue struct {
	Name      string          `json:"name"`
	Origin    string          `json:"origin,omitempty"` // of a variable: default, environment, -var or a file
	Sensitive bool            `json:"sensitive,omitempty"`
	Known     bool            `json:"known"`
	Value     json.RawMessage `json:"value,omitempty"` // when known and not sensitive
}

// A planBuild is one build.
type planBuild struct {
	Name           string       `json:"name"`
	Type           string       `json:"type"`
	Source         string       `json:"source"`            // its local name
	Extends        string       `json:"extends,omitempty"` // the source it builds on
	After          []string     `json:"after"`             // builds that come before it
	Image          string       `json:"image,omitempty"`
	Region         string       `json:"region,omitempty"`
	Copies         []string     `json:"copies"`                  // regions
	Replaces       []string     `json:"replaces"`                // for a person
	KnownLater     []string     `json:"known_later"`             // options of the builder
	Checked        bool         `json:"checked"`                 // -check found nothing in the way
	Base           *planBase    `json:"base,omitempty"`          // with -check
	Provisioners   []planStep   `json:"provisioners"`            //
	ErrorCleanup   *planStep    `json:"error_cleanup,omitempty"` // error-cleanup-provisioner
	PostProcessors [][]planStep `json:"post_processors"`
}

type planBase struct {
	ID             string `json:"id"`
	Region         string `json:"region,omitempty"`
	Name           string `json:"name,omitempty"`
	Arch           string `json:"arch,omitempty"`
	Virtualization string `json:"virtualization,omitempty"`
	Boot           string `json:"boot,omitempty"`
	Digest         string `json:"digest,omitempty"`
}

// A planStep is a provisioner or post-processor. Durations are in seconds.
type planStep struct {
	Type            string  `json:"type"`
	Name            string  `json:"name,omitempty"`
	PauseBefore     float64 `json:"pause_before,omitempty"`
	Timeout         float64 `json:"timeout,omitempty"`
	MaxRetries      int     `json:"max_retries,omitempty"`
	ContinueOnError bool    `json:"continue_on_error,omitempty"`
	KeepInput       *bool   `json:"keep_input_artifact,omitempty"`
}

func (a *app) planView(ctx context.Context, path string, t *hcl.Template, plan *pipeline.Plan, o planOptions, diags *diag.List, mask func(string) string) *planView {
	v := &planView{
		Format: 1, Version: a.Version, PackerVersion: PackerVersion, Template: path,
		Variables: []planValue{}, Locals: []planValue{}, Data: []planValue{}, Builds: []planBuild{}, Outputs: []planValue{}, Diagnostics: []ui.Diagnostic{},
	}
	for _, x := range t.Variables {
		p := planned(x.Name, x.Value, x.Sensitive, mask)
		p.Origin = x.Origin
		v.Variables = append(v.Variables, p)
	}
	for _, x := range t.Locals {
		v.Locals = append(v.Locals, planned(x.Name, x.Value, x.Sensitive, mask))
	}
	for _, d := range t.Data {
		x, _ := t.Scope().Eval("data." + d.Type + "." + d.Name) // a fault is told already: the value is unknown
		v.Data = append(v.Data, planned(d.Type+"."+d.Name, x, false, mask))
	}
	outs, _ := compile.Outputs(t, nil) // what is wrong with them is told already
	for _, x := range outs {
		v.Outputs = append(v.Outputs, planned(x.Name, x.Value, x.Sensitive, mask))
	}
	extends := map[string]string{}
	for _, b := range t.Builds {
		for _, s := range b.Sources {
			extends[hcl.FullName(b, s)] = s.Base()
		}
	}
	for _, b := range plan.Builds {
		p := planOf(ctx, b, o.check, diags, mask)
		p.Extends = mask(extends[b.Info.Build])
		for _, name := range b.After {
			p.After = append(p.After, mask(name))
		}
		v.Builds = append(v.Builds, p)
	}
	return v
}

// planOf tells what b would do. With check its platform is asked.
func planOf(ctx context.Context, b pipeline.Build, check bool, diags *diag.List, mask func(string) string) (out planBuild) {
	out = planBuild{
		Name: mask(b.Info.Build), Type: b.Info.Type, Source: mask(b.Info.Name),
		After: []string{}, Copies: []string{}, Replaces: []string{}, KnownLater: []string{}, Provisioners: []planStep{}, PostProcessors: [][]planStep{},
	}
	for _, p := range b.Provisioners {
		out.Provisioners = append(out.Provisioners, provisionerStep(p))
	}
	if b.ErrorCleanup != nil {
		s := provisionerStep(*b.ErrorCleanup)
		out.ErrorCleanup = &s
	}
	for _, chain := range b.PostProcessors {
		var steps []planStep
		for _, p := range chain {
			steps = append(steps, planStep{Type: p.Type, Name: p.Name, KeepInput: p.KeepInput})
		}
		out.PostProcessors = append(out.PostProcessors, steps)
	}
	if len(b.Later) > 0 {
		for _, name := range b.Later {
			if !slices.Contains(out.KnownLater, name) {
				out.KnownLater = append(out.KnownLater, name)
			}
		}
		return out
	}
	fail := func(err error) planBuild {
		if list := (*diag.ListError)(nil); asError(err, &list) {
			*diags = append(*diags, list.List...)
			return out
		}
		diags.Errorf(nil, "Build "+b.Info.Build+" would fail", "%s", strings.TrimSpace(sentence(err.Error())+" "+sentence(diag.Hint(err))))
		return out
	}
	bld, err := b.Open(b.Info)
	if bld == nil {
		return fail(err) // warnings alone come with a builder, and are told already
	}
	intends := func() {
		if p, ok := bld.(builder.Planner); ok {
			i := p.Intent()
			out.Image, out.Region = mask(i.Name), i.Region
			out.Copies = append([]string{}, i.Copies...)
			for _, r := range i.Replaces {
				out.Replaces = append(out.Replaces, mask(r))
			}
		}
	}
	if !check {
		intends()
		return out
	}
	defer intends() // the platform knows its region now
	if err := bld.Check(ctx); err != nil {
		return fail(err)
	}
	base, err := bld.Base(ctx)
	if err != nil {
		return fail(err)
	}
	out.Checked = true
	if base.ID != "" {
		out.Base = &planBase{
			ID: mask(base.ID), Region: base.Region, Name: mask(base.Name), Arch: string(base.Arch),
			Virtualization: string(base.Virtualization), Boot: string(base.Boot), Digest: base.Digest,
		}
	}
	return out
}

func provisionerStep(p pipeline.Provisioner) planStep {
	return planStep{
		Type: p.Type, Name: p.Name, PauseBefore: p.PauseBefore.Seconds(), Timeout: p.Timeout.Seconds(),
		MaxRetries: p.MaxRetries, ContinueOnError: p.ContinueOnError,
	}
}

func (v *planView) write(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}
