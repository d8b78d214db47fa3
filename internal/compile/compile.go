// Package compile turns a template and the set of built-in components into a
// plan. It is the one place where the language meets the contracts.
package compile

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/gobwas/glob"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/pipeline"
)

// Options is what the command line adds to a template.
type Options struct {
	Only, Except []string // globs against full build names; Except also names post-processors
	Force, Debug bool
	OnError      string
	Cache        string // folder for downloads
	Faulty       bool   // the template has errors already: that nothing is left to build is no news
}

// Plan checks every block of t that the options select against the component
// it names, and returns what to run. Values that are known only while a build
// runs are unknown here: a fault in them is found when they are known. All
// faults are returned at once. A build with an error is not in the plan: as
// Packer does, the others can be run, and the run then counts as failed. With a
// component that is not built in the plan is empty. A
// template that Load found errors in may be planned too, to find the others;
// not one that is Broken.
func Plan(t *hcl.Template, set component.Set, o Options) (*pipeline.Plan, diag.List) {
	c := &compiler{t: t, set: newIndex(set), opts: o, digest: digest(t)}
	only, except := c.globs("-only", o.Only), c.globs("-except", o.Except)
	if c.diags.HasErrors() {
		return &pipeline.Plan{}, c.diags
	}
	plan := &pipeline.Plan{}
	c.builds = buildValues(t, nil)
	var names []string
	var all []*work
	var g errgroup.Group
	g.SetLimit(runtime.GOMAXPROCS(0))
	for _, b := range t.Builds {
		for _, src := range b.Sources {
			name := hcl.FullName(b, src)
			names = append(names, name)
			if len(only) > 0 && !matches(only, name) || matches(except, name) {
				continue
			}
			w := &work{compiler: *c, block: b, source: src, name: name}
			w.diags = nil
			all = append(all, w)
			g.Go(func() error {
				w.run()
				return nil
			})
		}
	}
	_ = g.Wait() // what went wrong is in the diags
	for _, w := range all {
		c.diags = append(c.diags, w.diags...)
		c.unknowns = append(c.unknowns, w.unknowns...)
		w.invalid = w.diags.HasErrors()
	}
	plan.Builds = c.ordered(all, names)
	invalid := len(plan.Builds) < len(all)
	if len(c.unknowns) > 0 {
		c.diags = collapsed(c.diags, c.unknowns)
		plan.Builds = nil
	}
	c.unmatched(only, "-only", names)
	if len(plan.Builds) == 0 && !invalid && !c.opts.Faulty {
		c.diags.Errorf(nil, "No builds to run", "%s", noBuilds(t, names))
	}
	_, more := Outputs(t, nil)
	c.diags = append(c.diags, more...)
	// A source that several builds use is checked for each.
	return plan, hcl.Dedupe(c.diags)
}

type compiler struct {
	t      *hcl.Template
	set    index
	opts   Options
	digest string // of the template
	diags  diag.List

	unknowns []string // summaries of what is told of components that are not built in

	builds map[string]cty.Value // build.NAME, by name
	refs   []hcl.Reference      // to them
}

// A work is one build on its way into the plan.
type work struct {
	compiler
	block   *hcl.Build
	source  *hcl.BuildSource
	name    string // full
	build   pipeline.Build
	needs   []need
	invalid bool // it cannot be run

	circle, visited bool
}

func (w *work) run() {
	w.build = w.compile(w.block, w.source, w.name)
	var values bool
	w.needs, values = w.compiler.needs(w.block)
	for _, n := range w.needs {
		if !slices.Contains(w.build.After, n.name) {
			w.build.After = append(w.build.After, n.name)
		}
	}
	if values {
		w.build.Complete = w.complete()
	}
}

// digest is that of the template's files, which are told apart by their names
// in its folder: the same wherever the folder is.
func digest(t *hcl.Template) string {
	h := sha256.New()
	for _, name := range t.FileNames {
		// A hash takes everything.
		_, _ = fmt.Fprintf(h, "%q %d\n%s", filepath.Base(name), len(t.Files[name]), t.Files[name])
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil))
}

func (c *compiler) compile(b *hcl.Build, src *hcl.BuildSource, name string) pipeline.Build {
	out := pipeline.Build{Info: builder.Info{
		Name: src.SimpleName(), Type: src.Type, Build: name,
		Force: c.opts.Force, Debug: c.opts.Debug, Cache: c.opts.Cache, OnFail: c.opts.OnError, Template: c.digest,
	}, Timeout: b.Timeout}
	sc := c.sourceScope(src)
	d, ok := c.set.builders[src.Type]
	if !ok {
		c.unknown(src.Range, "source", src.Type, c.set.builderNames)
	} else {
		out.Open, out.Later = c.openBuilder(d, src.Body, sc, out.Info)
	}
	late := &lateScope{scope: sc, texts: c.texts(src), build: b.Name, builds: c.builds, generated: d.Generated, anything: !ok}
	late.early = late.before()
	for _, p := range b.Provisioners {
		if !p.Skips(src) {
			out.Provisioners = append(out.Provisioners, c.provisioner(p, src, late))
		}
	}
	if p := b.ErrorCleanup; p != nil && !p.Skips(src) {
		ec := c.provisioner(p, src, late)
		out.ErrorCleanup = &ec
	}
	for _, chain := range b.PostProcessors {
		if steps := c.chain(chain, src, out.Info, late); len(steps) > 0 {
			out.PostProcessors = append(out.PostProcessors, steps)
		}
	}
	return out
}

type pattern struct {
	text string
	glob *glob.Pattern
}

// hits reports whether the pattern is the name, or matches it: a name with a
// key has brackets, which mean something in patterns.
func (p pattern) hits(name string) bool { return p.text == name || p.glob.Match(name) }

func (c *compiler) globs(flag string, texts []string) []pattern {
	var out []pattern
	for _, s := range texts {
		g, err := glob.Compile(s)
		if err != nil {
			c.diags.Errorf(nil, "Invalid pattern in "+flag, "%q is not a pattern: %v.", s, err)
			continue
		}
		out = append(out, pattern{s, g})
	}
	return out
}

func matches(ps []pattern, name string) bool {
	for _, p := range ps {
		if p.hits(name) {
			return true
		}
	}
	return false
}

func (c *compiler) unmatched(ps []pattern, flag string, names []string) {
	for _, p := range ps {
		hit := false
		for _, n := range names {
			hit = hit || p.hits(n)
		}
		if !hit {
			c.diags.Warnf(nil, "Pattern matches no build", "%s %q matched none of: %s.", flag, p.text, strings.Join(names, ", "))
		}
	}
}

func noBuilds(t *hcl.Template, names []string) string {
	if len(names) == 0 {
		return "The template has no build block with a source: nothing would be made."
	}
	return fmt.Sprintf("-only and -except leave none of: %s.", strings.Join(names, ", "))
}
