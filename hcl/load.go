package hcl

import (
	"context"
	"path/filepath"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/diag"
)

// blocks are the top-level block types with their labels.
var blocks = []hcl2.BlockHeaderSchema{
	{Type: "packer"},
	{Type: "variable", LabelNames: []string{"name"}},
	{Type: "variables"},
	{Type: "locals"},
	{Type: "local", LabelNames: []string{"name"}},
	{Type: "data", LabelNames: []string{"type", "name"}},
	{Type: "source", LabelNames: []string{"type", "name"}},
	{Type: "build"},
	{Type: "hcp_packer_registry"},
	{Type: "output", LabelNames: []string{"name"}},
	{Type: "communicator", LabelNames: []string{"type", "name"}},
}

// expanded are those that dynamic may generate.
func expandable(b hcl2.BlockHeaderSchema) bool {
	switch b.Type {
	case "packer", "variable", "variables", "locals", "local", "data":
		return false
	}
	return true
}

// Load reads a template. The template is never nil: with mistakes it holds as
// much as could be understood. All mistakes are reported, each once, in the
// order of the files.
func Load(ctx context.Context, in Inputs) (*Template, diag.List) {
	t := &Template{Files: map[string][]byte{}, Root: ".", in: in, names: &names{}, order: map[string]int{}}
	t.Legacy = in.Parse != nil
	t.index = index{vars: map[string]*Variable{}, locals: map[string]*Local{}, data: map[string]*Block{}, sources: map[string]*Block{}, families: map[string]*family{}}
	var l diag.List
	t.load(ctx, &l)
	l = Dedupe(l)
	sortDiags(l, t.order)
	return t, l
}

func (t *Template) load(ctx context.Context, l *diag.List) {
	var config, auto []string
	if t.in.Path != "" { // a console may have no template
		config, auto = t.discover(l)
	}
	t.scope = t.rootScope(ctx)
	files := t.parseConfig(config, l)
	if l.HasErrors() {
		// What the parser lost would be missed everywhere: whatever can be
		// understood is there for the caller, and only the files that parsed
		// have their declarations checked.
		t.Broken, t.in.Data = true, nil
		var rest, dropped diag.List
		defer func() { *l = append(*l, outside(rest, *l)...) }()
		t.evaluated(ctx, files, auto, &rest, &dropped)
		return
	}
	t.evaluated(ctx, files, auto, l, l)
}

// outside returns the findings of l in files that have none in broken.
func outside(l, broken diag.List) diag.List {
	files := map[string]bool{}
	for _, d := range broken {
		if d.Subject != nil {
			files[d.Subject.Filename] = true
		}
	}
	var out diag.List
	for _, d := range l {
		if d.Subject != nil && !files[d.Subject.Filename] {
			out = append(out, d)
		}
	}
	return out
}

// evaluated goes through the phases. Findings about declarations go to l,
// those about values and references to refs.
func (t *Template) evaluated(ctx context.Context, files []source, auto []string, l, refs *diag.List) {
	if !t.requiredVersions(files, l) {
		return
	}

	schema := &hcl2.BodySchema{Blocks: append([]hcl2.BlockHeaderSchema{}, blocks...)}
	for _, typ := range sortedKeys(t.in.ExtraBlocks) {
		schema.Blocks = append(schema.Blocks, hcl2.BlockHeaderSchema{Type: typ, LabelNames: t.in.ExtraBlocks[typ]})
	}
	known := map[string]bool{"dynamic": true}
	for _, b := range schema.Blocks {
		known[b.Type] = true
	}
	for i := range files {
		t.splitExtra(&files[i], known)
	}
	t.declarations(files, schema, l)
	t.setNames()
	t.assignAll(auto, refs)
	t.settle(refs)
	vars := make(map[string]cty.Value, len(t.Variables))
	for _, v := range t.Variables {
		vars[v.Name] = v.Value
	}
	t.scope = t.scope.With("var", cty.ObjectVal(vars))
	t.evaluateAll(ctx, refs)
	t.contents(files, schema, refs)
}

// rootScope has the names that need no template: functions, path, packer.
func (t *Template) rootScope(ctx context.Context) Scope {
	cwd := t.in.Cwd
	if cwd == "" {
		cwd = "."
	}
	e := funcEnv{ctx: background(ctx), root: t.in.abs(t.Root), cwd: cwd, now: t.in.Now, env: t.in.Env, extra: t.in.Functions}
	e.stores = t.in.Stores()
	values := &hcl2.EvalContext{
		Functions: functions(e),
		Variables: map[string]cty.Value{
			"path": cty.ObjectVal(map[string]cty.Value{
				"root": cty.StringVal(filepath.ToSlash(t.Root)),
				"cwd":  cty.StringVal(filepath.ToSlash(cwd)),
			}),
			"packer": cty.ObjectVal(map[string]cty.Value{
				"version":            cty.StringVal(t.in.Version),
				"iterationID":        cty.UnknownVal(cty.String),
				"versionFingerprint": cty.UnknownVal(cty.String),
			}),
		},
	}
	return Scope{ctx: values, names: t.names, secrets: t.in.Secrets, layouts: new(layouts)}
}

// declarations is the first pass over the files: everything that is settled
// before dynamic blocks can be expanded.
func (t *Template) declarations(files []source, schema *hcl2.BodySchema, l *diag.List) {
	static := &hcl2.BodySchema{Blocks: append(append([]hcl2.BlockHeaderSchema{}, schema.Blocks...),
		hcl2.BlockHeaderSchema{Type: "dynamic", LabelNames: []string{"type"}})}
	for _, f := range files {
		content, hd := f.body.Content(static)
		*l = append(*l, t.names.convertDiags(hd)...)
		for _, b := range content.Blocks {
			switch b.Type {
			case "packer":
				t.packerBlock(b, l)
			case "variable":
				t.variableBlock(b, l)
			case "variables":
				t.variablesBlock(b, l)
			case "locals":
				t.localsBlock(b, l)
			case "local":
				t.localBlock(b, l)
			case "data":
				t.dataBlock(b, l)
			case "dynamic":
				t.dynamicTarget(b, schema, l)
			}
		}
	}
}

// dynamicTarget refuses a top-level dynamic block for a type that cannot be
// generated, which the expansion would pass over in silence.
func (t *Template) dynamicTarget(b *hcl2.Block, schema *hcl2.BodySchema, l *diag.List) {
	var types []string
	for _, s := range schema.Blocks {
		if !expandable(s) {
			continue
		}
		if s.Type == b.Labels[0] {
			return
		}
		types = append(types, s.Type)
	}
	*l = append(*l, report(b.LabelRanges[0], b.DefRange, "Unsupported block type",
		"Blocks of type %q cannot be generated here.%s", b.Labels[0], didYouMean(b.Labels[0], types)))
}

// contents is the second pass: sources and builds, with dynamic blocks
// expanded.
func (t *Template) contents(files []source, schema *hcl2.BodySchema, l *diag.List) {
	second := &hcl2.BodySchema{}
	for _, b := range schema.Blocks {
		if expandable(b) {
			second.Blocks = append(second.Blocks, b)
		}
	}
	var found []*hcl2.Block
	t.parsed = files
	for _, f := range files {
		content, hd := partialContent(dynblock.Expand(f.body, t.scope.ctx), second)
		t.addExpansion(l, hd)
		for _, b := range content.Blocks {
			if b.Type == "source" {
				t.sourceBlock(b, l)
			}
		}
		found = append(found, content.Blocks...)
	}
	t.names.sources = map[string][]string{}
	for _, f := range t.index.families {
		t.names.sources[f.typ] = append(t.names.sources[f.typ], f.name)
	}
	t.extendAll(l)
	for _, b := range found {
		switch b.Type {
		case "source", "communicator":
		case "output":
			t.outputBlock(b, l)
		case "build":
			t.buildBlock(b, l)
		case "hcp_packer_registry":
			t.topRegistry(b, l)
		default:
			t.Extra = append(t.Extra, extraBlock(b, false))
		}
	}
	t.dependencies(l)
	t.parsed, t.raw = nil, nil
}

// addExpansion adds findings about a body whose dynamic blocks were expanded.
// When the template has mistakes already, or is not evaluated, a label that
// is not known follows from that.
func (t *Template) addExpansion(l *diag.List, hd hcl2.Diagnostics) {
	broken := l.HasErrors()
	for _, d := range hd {
		if d.Expression != nil && t.in.SyntaxOnly {
			continue
		}
		if d.Summary == "Invalid dynamic block label" && broken {
			continue
		}
		*l = append(*l, t.names.convertDiags(hcl2.Diagnostics{d})...)
	}
}

// partialContent is body.PartialContent behind the guard of [readContent].
func partialContent(body hcl2.Body, schema *hcl2.BodySchema) (*hcl2.BodyContent, hcl2.Diagnostics) {
	return readContent(partialBody{body}, schema)
}

// partialBody reads a body as if nothing else were in it.
type partialBody struct{ hcl2.Body }

func (p partialBody) Content(schema *hcl2.BodySchema) (*hcl2.BodyContent, hcl2.Diagnostics) {
	c, _, diags := p.Body.PartialContent(schema)
	return c, diags
}
