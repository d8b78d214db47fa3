package hcl

import (
	"fmt"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/diag"
)

var buildAttributes = []hcl2.AttributeSchema{{Name: "name"}, {Name: "description"}, {Name: "sources"}, {Name: "timeout"}}

var buildBlocks = []hcl2.BlockHeaderSchema{
	{Type: "source", LabelNames: []string{"reference"}},
	{Type: "provisioner", LabelNames: []string{"type"}},
	{Type: "error-cleanup-provisioner", LabelNames: []string{"type"}},
	{Type: "post-processor", LabelNames: []string{"type"}},
	{Type: "post-processors"},
	{Type: "hcp_packer_registry"},
}

func (t *Template) sourceBlock(b *hcl2.Block, l *diag.List) {
	s := &Block{Type: b.Labels[0], Name: b.Labels[1], Range: toRange(b.DefRange), body: b.Body}
	for i, part := range b.Labels {
		if part == "" || strings.Contains(part, ".") && i == 0 {
			*l = append(*l, report(b.LabelRanges[i], b.DefRange, "Invalid source label",
				"A source is written as: source \"type\" \"name\" { }; both labels are non-empty and the type has no dot."))
		}
	}
	if o := t.source(s.Type, s.Name); o != nil {
		*l = append(*l, report(b.DefRange, b.DefRange, "Duplicate source", "The source %s.%s is already defined at %s. Rename one of them.", s.Type, s.Name, o.Range))
		return
	}
	t.Sources = append(t.Sources, s)
	t.index.sources[s.Type+"."+s.Name] = s
}

func (t *Template) source(typ, name string) *Block { return t.index.sources[typ+"."+name] }

func (t *Template) buildBlock(b *hcl2.Block, l *diag.List) {
	build := &Build{Range: toRange(b.DefRange)}
	t.Builds = append(t.Builds, build)
	schema := &hcl2.BodySchema{Attributes: buildAttributes, Blocks: append([]hcl2.BlockHeaderSchema{}, buildBlocks...)}
	for _, typ := range sortedKeys(t.in.BuildBlocks) {
		schema.Blocks = append(schema.Blocks, hcl2.BlockHeaderSchema{Type: typ, LabelNames: t.in.BuildBlocks[typ]})
	}
	content, hd := readContent(b.Body, schema)
	t.addExpansion(l, hd)

	given := t.option(content.Attributes["name"], &build.Name, l)
	given = t.option(content.Attributes["description"], &build.Description, l) && given
	t.buildTimeout(build, content.Attributes["timeout"], l)
	if a := content.Attributes["sources"]; a != nil {
		given = t.sourcesList(build, a, l) && given
	}
	for _, blk := range content.Blocks {
		if blk.Type == "source" {
			t.buildSource(build, blk, l)
		}
	}
	if len(build.Sources) == 0 && given && !hd.HasErrors() && !t.in.SyntaxOnly {
		*l = append(*l, report(b.DefRange, b.DefRange, "Build without a source",
			"The build has no source, so nothing would be built. Add sources = [\"source.type.name\"]."))
	}
	for _, blk := range content.Blocks {
		t.buildStep(build, blk, l)
	}
}

// buildTimeout reads an option that Packer does not have.
func (t *Template) buildTimeout(build *Build, a *hcl2.Attribute, l *diag.List) {
	if t.option(a, &build.Timeout, l) && build.Timeout < 0 {
		*l = append(*l, report(a.Expr.Range(), a.Range, "Unsuitable timeout", "The build's timeout is %s, which is negative. Write a duration such as \"2h\".", build.Timeout))
	}
}

func (t *Template) buildStep(build *Build, blk *hcl2.Block, l *diag.List) {
	switch blk.Type {
	case "source":
	case "provisioner":
		build.Provisioners = append(build.Provisioners, t.provisioner(build, blk, l))
	case "error-cleanup-provisioner":
		if build.ErrorCleanup != nil {
			*l = append(*l, report(blk.DefRange, blk.DefRange, "Duplicate error-cleanup-provisioner",
				"A build has at most one; the first is at %s. Merge the two.", build.ErrorCleanup.Range))
			return
		}
		build.ErrorCleanup = t.provisioner(build, blk, l)
	case "post-processor":
		build.PostProcessors = append(build.PostProcessors, []*PostProcessor{t.postProcessor(build, blk, l)})
	case "post-processors":
		content, hd := readContent(blk.Body, &hcl2.BodySchema{Blocks: []hcl2.BlockHeaderSchema{{Type: "post-processor", LabelNames: []string{"type"}}}})
		t.addExpansion(l, hd)
		var chain []*PostProcessor
		for _, p := range content.Blocks {
			chain = append(chain, t.postProcessor(build, p, l))
		}
		if len(chain) > 0 {
			build.PostProcessors = append(build.PostProcessors, chain)
		}
	case "hcp_packer_registry":
		if build.Registry != nil {
			*l = append(*l, report(blk.DefRange, blk.DefRange, "Duplicate hcp_packer_registry", "A build has at most one; the first is at %s.", build.Registry.Range))
			return
		}
		build.Registry = t.registry(blk, l)
	default:
		build.Extra = append(build.Extra, extraBlock(blk, false))
	}
}

// option evaluates an attribute of the language itself into dst. It reports
// whether dst says what the template says: false for an unknown value and for
// a mistake.
func (t *Template) option(a *hcl2.Attribute, dst any, l *diag.List) bool {
	if a == nil {
		return true
	}
	v, ok := t.value(a, l)
	if !ok {
		return false
	}
	return t.into(a.Name, v, dst, a.Expr.Range(), a.Range, l)
}

// value evaluates an attribute; false when it is not known or faulty.
func (t *Template) value(a *hcl2.Attribute, l *diag.List) (cty.Value, bool) {
	v, hd := evaluate(a.Expr, t.scope.ctx)
	t.addEval(l, hd)
	v = Unmark(v)
	return v, !hd.HasErrors() && v.IsWhollyKnown()
}

func (t *Template) into(name string, v cty.Value, dst any, at, around hcl2.Range, l *diag.List) bool {
	d := decoder{scope: Scope{}, places: map[string]place{}}
	d.store(name, v, elem(dst), false, at, around)
	*l = append(*l, d.diags...)
	return len(d.diags) == 0
}

// sourcesList reads sources = [...].
func (t *Template) sourcesList(build *Build, a *hcl2.Attribute, l *diag.List) bool {
	v, ok := t.value(a, l)
	if !ok {
		return false
	}
	if v.IsNull() {
		return true
	}
	if !isSequence(v.Type()) {
		*l = append(*l, report(a.Expr.Range(), a.Range, "Unsuitable sources", "sources is a list of references: [\"source.type.name\"]."))
		return false
	}
	elems, hd := hcl2.ExprList(a.Expr)
	i, good := 0, true
	for it := v.ElementIterator(); it.Next(); i++ {
		_, e := it.Element()
		at := a.Expr.Range()
		if !hd.HasErrors() && i < len(elems) {
			at = elems[i].Range()
		}
		if e.IsNull() || e.Type() != cty.String {
			*l = append(*l, report(at, a.Range, "Unsuitable sources", "Each source is a text such as \"source.type.name\"."))
			good = false
			continue
		}
		good = t.refer(build, e.AsString(), nil, at, a.Range, l) != nil && good
	}
	return good
}

// refer adds the source that ref names to the build; extra is the body of
// further options, or nil.
func (t *Template) refer(build *Build, ref string, extra hcl2.Body, at, around hcl2.Range, l *diag.List) *BuildSource {
	parts := strings.Split(ref, ".")
	if len(parts) == 3 && parts[0] == "source" {
		parts = parts[1:]
	}
	if len(parts) != 2 || parts[0] == "" || parts[1] == "" {
		*l = append(*l, report(at, around, "Invalid source reference", "%q is not a reference to a source. Write \"source.type.name\".", ref))
		return nil
	}
	s := &BuildSource{Type: parts[0], Name: parts[1], LocalName: parts[1], Range: toRange(at), Plain: t.Legacy}
	top := t.source(parts[0], parts[1])
	if top == nil {
		if !t.in.SyntaxOnly {
			var known []string
			for _, o := range t.Sources {
				known = append(known, o.Type+"."+o.Name)
			}
			*l = append(*l, report(at, around, "Unknown source", "There is no source %q.%s", strings.Join(parts, "."),
				remedy(strings.Join(parts, "."), known, fmt.Sprintf("efine it with: source %q %q { }.", parts[0], parts[1]))))
			return nil
		}
		top = &Block{Type: parts[0], Name: parts[1], Range: toRange(at), body: hcl2.EmptyBody()}
	}
	body := top.body
	if extra != nil {
		body = hcl2.MergeBodies([]hcl2.Body{top.body, extra})
	}
	s.Body = &Block{Type: s.Type, Name: s.Name, Range: top.Range, body: body, merged: extra != nil && !t.Legacy}
	build.Sources = append(build.Sources, s)
	return s
}

// buildSource reads source "type.name" { } inside a build.
func (t *Template) buildSource(build *Build, b *hcl2.Block, l *diag.List) {
	content, rest, hd := b.Body.PartialContent(&hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{{Name: "name"}}})
	t.addExpansion(l, hd)
	s := t.refer(build, b.Labels[0], rest, b.LabelRanges[0], b.DefRange, l)
	if s == nil {
		return
	}
	var name string
	t.option(content.Attributes["name"], &name, l)
	if name != "" {
		s.LocalName = name
	}
}

var (
	stepMeta          = []string{"name", "only", "except"}
	provisionerMeta   = append([]string{"pause_before", "max_retries", "timeout", "continue_on_error", "override"}, stepMeta...)
	postProcessorMeta = append([]string{"keep_input_artifact"}, stepMeta...)
)

// meta reads the options of a step that are the language's own.
func (t *Template) meta(b *hcl2.Block, options []string, l *diag.List) map[string]*hcl2.Attribute {
	schema := &hcl2.BodySchema{}
	for _, o := range options {
		schema.Attributes = append(schema.Attributes, hcl2.AttributeSchema{Name: o})
	}
	content, hd := partialContent(b.Body, schema)
	t.addExpansion(l, hd)
	return content.Attributes
}

func (t *Template) provisioner(build *Build, b *hcl2.Block, l *diag.List) *Provisioner {
	a := t.meta(b, provisionerMeta, l)
	p := &Provisioner{Type: b.Labels[0], Range: toRange(b.DefRange)}
	t.option(a["name"], &p.Name, l)
	t.option(a["pause_before"], &p.PauseBefore, l)
	t.option(a["timeout"], &p.Timeout, l)
	t.option(a["max_retries"], &p.MaxRetries, l)
	t.option(a["continue_on_error"], &p.ContinueOnError, l)
	p.OnlyExcept = t.onlyExcept(build, a, l)
	if o := a["override"]; o != nil {
		t.override(build, p, o, l)
	}
	p.Block = &Block{Type: p.Type, Name: p.Name, Range: p.Range, body: b.Body, hidden: provisionerMeta}
	return p
}

func (t *Template) postProcessor(build *Build, b *hcl2.Block, l *diag.List) *PostProcessor {
	a := t.meta(b, postProcessorMeta, l)
	p := &PostProcessor{Type: b.Labels[0], Range: toRange(b.DefRange)}
	t.option(a["name"], &p.Name, l)
	t.option(a["keep_input_artifact"], &p.KeepInput, l)
	p.OnlyExcept = t.onlyExcept(build, a, l)
	p.Block = &Block{Type: p.Type, Name: p.Name, Range: p.Range, body: b.Body, hidden: postProcessorMeta}
	return p
}

func (t *Template) onlyExcept(build *Build, a map[string]*hcl2.Attribute, l *diag.List) OnlyExcept {
	var oe OnlyExcept
	t.option(a["only"], &oe.Only, l)
	t.option(a["except"], &oe.Except, l)
	if len(oe.Only) > 0 && len(oe.Except) > 0 {
		*l = append(*l, report(a["except"].Range, a["except"].Range, "Both only and except",
			"A step is limited either with only or with except. Remove one of them."))
		return OnlyExcept{}
	}
	t.checkRefs(build, a["only"], oe.Only, l)
	t.checkRefs(build, a["except"], oe.Except, l)
	return oe
}

// checkRefs warns about entries of only and except that name no source of the
// build and none of the template: the step would be left out, or run, against
// the author's will. Sources that other builds use, or none, are often named
// in a shared step.
func (t *Template) checkRefs(build *Build, a *hcl2.Attribute, refs []string, l *diag.List) {
	if a == nil || t.in.SyntaxOnly || len(build.Sources) == 0 {
		return
	}
	var known []string
	for _, s := range build.Sources {
		known = append(known, s.Ref())
	}
	for _, r := range refs {
		if contains(known, r) || t.index.sources[r] != nil {
			continue
		}
		d := report(a.Expr.Range(), a.Range, "No such source", "%s names %q, which is no source of this build.%s", a.Name, r, didYouMean(r, known))
		for _, k := range known {
			if strings.HasSuffix(k, "."+r) {
				d.Detail = a.Name + " compares with the type and the name: write \"" + k + "\" instead of \"" + r + "\"."
			}
		}
		d.Severity = diag.Warning
		*l = append(*l, d)
	}
}

func (t *Template) override(build *Build, p *Provisioner, a *hcl2.Attribute, l *diag.List) {
	v, hd := evaluate(a.Expr, t.scope.ctx)
	t.addEval(l, hd)
	v, marks := v.Unmark()
	if hd.HasErrors() || !v.IsKnown() || v.IsNull() {
		return
	}
	p.overAt = a.Range
	if !isMapping(v.Type()) {
		*l = append(*l, report(a.Expr.Range(), a.Range, "Unsuitable override", "override is an object: { source-name = { option = value } }."))
		return
	}
	var known []string
	for _, s := range build.Sources {
		known = append(known, s.LocalName)
	}
	p.Override = map[string]cty.Value{}
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		name := k.AsString()
		if plain, _ := e.Unmark(); plain.IsKnown() && (plain.IsNull() || !isMapping(plain.Type())) {
			*l = append(*l, report(a.Expr.Range(), a.Range, "Unsuitable override", "The override for %q is not an object of options.", name))
			continue
		}
		if !contains(known, name) && !t.isSourceName(name) && len(known) > 0 && !t.in.SyntaxOnly {
			d := report(a.Expr.Range(), a.Range, "No such source",
				"The override for %q has no effect: no source of this build has that local name.%s", name, didYouMean(name, known))
			d.Severity = diag.Warning
			*l = append(*l, d)
		}
		p.Override[name] = e.WithMarks(marks)
	}
}

func (t *Template) isSourceName(name string) bool {
	for _, s := range t.Sources {
		if s.Name == name {
			return true
		}
	}
	return false
}
