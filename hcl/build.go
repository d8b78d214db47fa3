package hcl

import (
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/diag"
)

var buildAttributes = []hcl2.AttributeSchema{
	{Name: "name"},
	{Name: "description"},
	{Name: "sources"},
	{Name: "timeout"},
	{Name: "for_each"},
	{Name: "count"},
	{Name: "depends_on"},
}

var buildBlocks = []hcl2.BlockHeaderSchema{
	{Type: "source", LabelNames: []string{"reference"}},
	{Type: "provisioner", LabelNames: []string{"type"}},
	{Type: "error-cleanup-provisioner", LabelNames: []string{"type"}},
	{Type: "post-processor", LabelNames: []string{"type"}},
	{Type: "post-processors"},
	{Type: "hcp_packer_registry"},
}

// buildBlock reads a build block: one build, or one for each of its keys.
func (t *Template) buildBlock(b *hcl2.Block, l *diag.List) {
	head, _ := partialContent(b.Body, &hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{{Name: "for_each"}, {Name: "count"}}})
	for _, k := range t.instances(head.Attributes, l) {
		t.oneBuild(b, k, l)
	}
}

func (t *Template) oneBuild(b *hcl2.Block, k Key, l *diag.List) {
	build := &Build{Range: toRange(b.DefRange), Key: k}
	t.Builds = append(t.Builds, build)
	schema := &hcl2.BodySchema{Attributes: buildAttributes, Blocks: append([]hcl2.BlockHeaderSchema{}, buildBlocks...)}
	for _, typ := range sortedKeys(t.in.BuildBlocks) {
		schema.Blocks = append(schema.Blocks, hcl2.BlockHeaderSchema{Type: typ, LabelNames: t.in.BuildBlocks[typ]})
	}
	content, hd := readContent(t.repeated(b, k), schema)
	t.addExpansion(l, hd)

	given := t.option(content.Attributes["name"], &build.Name, l)
	build.Family = build.Name
	if !k.IsZero() {
		if given && build.Name == "" {
			*l = append(*l, report(b.DefRange, b.DefRange, "Repeated build without a name", "The builds of a block with for_each or count are told apart by its name and their keys. Add name = \"…\"."))
		}
		build.Name += k.text
	}
	given = t.option(content.Attributes["description"], &build.Description, l) && given
	t.buildTimeout(build, content.Attributes["timeout"], l)
	build.dependsOn = content.Attributes["depends_on"]
	found := true
	if a := content.Attributes["sources"]; a != nil {
		found, given = t.sourcesList(build, a, l, given)
	}
	for _, blk := range content.Blocks {
		if blk.Type == "source" {
			found = t.buildSource(build, blk, l) && found
		}
	}
	if len(build.Sources) == 0 && found && given && !hd.HasErrors() && !t.in.SyntaxOnly {
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

// sourcesList reads sources = [...]. good is false after a mistake and for an
// unknown value; empty when a reference names a repeated source that has no
// instances.
func (t *Template) sourcesList(build *Build, a *hcl2.Attribute, l *diag.List, given bool) (found, good bool) {
	v, ok := t.valueIn(t.sourceScope(), a, l)
	if !ok {
		return true, false
	}
	if v.IsNull() {
		return true, given
	}
	if isMapping(v.Type()) && v.LengthInt() > 0 { // all of a repeated source
		v = cty.TupleVal([]cty.Value{v})
	}
	if !isSequence(v.Type()) {
		*l = append(*l, report(a.Expr.Range(), a.Range, "Unsuitable sources", "sources is a list of references: [\"source.type.name\"]."))
		return true, false
	}
	elems, hd := hcl2.ExprList(a.Expr)
	found, good = true, given
	refer := func(e cty.Value, at hcl2.Range) {
		if e.IsNull() || e.Type() != cty.String {
			*l = append(*l, report(at, a.Range, "Unsuitable sources", "Each source is a text such as \"source.type.name\"."))
			good = false
			return
		}
		list, ok := t.refer(build, e.AsString(), nil, at, a.Range, l)
		good = good && ok
		found = found && (len(list) > 0 || !ok)
	}
	i := 0
	for it := v.ElementIterator(); it.Next(); i++ {
		_, e := it.Element()
		at := a.Expr.Range()
		if !hd.HasErrors() && i < len(elems) {
			at = elems[i].Range()
		}
		if e.IsNull() || !isMapping(e.Type()) && !isSequence(e.Type()) {
			refer(e, at)
			continue
		}
		found = found && e.LengthInt() > 0
		for inner := e.ElementIterator(); inner.Next(); {
			_, m := inner.Element()
			refer(m, at)
		}
	}
	return found, good
}

// refer adds the sources that ref names to the build; extra is the body of
// further options, or nil. It reports whether there are such sources: those of
// a repeated block may be none.
func (t *Template) refer(build *Build, ref string, extra hcl2.Body, at, around hcl2.Range, l *diag.List) ([]*BuildSource, bool) {
	tops, f, ok := t.lookUp(ref, at, around, l)
	if !ok && f != nil && f.unknown {
		tops, ok = f.members, true
	}
	if !ok {
		typ, name, key, valid := splitRef(ref)
		if !valid || !t.in.SyntaxOnly {
			return nil, false
		}
		tops = []*Block{{Type: typ, Name: name + key, Range: toRange(at), body: hcl2.EmptyBody()}}
		f = &family{typ: typ, name: name + key}
	}
	var out []*BuildSource
	for _, top := range tops {
		if t.total++; t.total > mostBuilds {
			if t.total == mostBuilds+1 {
				*l = append(*l, report(at, around, "Too many builds", "The template comes to more than %d builds: every source of every build is one.", mostBuilds))
			}
			return out, true
		}
		s := &BuildSource{Type: top.Type, Name: top.Name, LocalName: top.Name, Range: toRange(at), Plain: t.Legacy, Key: top.key, local: f.name, block: top}
		body := top.body
		if extra != nil {
			body = hcl2.MergeBodies([]hcl2.Body{top.body, extra})
		}
		body = bind(bind(body, top.key.vars), build.Key.vars)
		s.Body = &Block{Type: s.Type, Name: s.Name, Range: top.Range, body: body, hidden: top.hidden, merged: extra != nil && !t.Legacy}
		build.Sources = append(build.Sources, s)
		out = append(out, s)
	}
	return out, true
}

// buildSource reads source "type.name" { } inside a build. It is false when a
// repeated source has no instances.
func (t *Template) buildSource(build *Build, b *hcl2.Block, l *diag.List) bool {
	content, rest, hd := b.Body.PartialContent(&hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{{Name: "name"}}})
	t.addExpansion(l, hd)
	list, ok := t.refer(build, b.Labels[0], rest, b.LabelRanges[0], b.DefRange, l)
	if len(list) == 0 {
		return !ok
	}
	var name string
	t.option(content.Attributes["name"], &name, l)
	if name != "" {
		for _, s := range list {
			s.local, s.LocalName = name, name+s.Key.text
		}
	}
	return true
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
		known = append(known, s.Ref(), s.familyRef())
	}
	for _, r := range refs {
		if contains(known, r) || t.index.sources[r] != nil || t.index.families[r] != nil {
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
		known = append(known, s.LocalName, s.local)
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
		if s.Name == name || strings.TrimSuffix(s.Name, s.key.text) == name {
			return true
		}
	}
	return false
}
