package compile

import (
	"context"

	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/hcl/interpolate"
	"github.com/ingot-build/ingot/hcl/legacyjson"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/diag"
)

// Load reads a template with the data sources of set. Without evaluate they
// are checked and not asked: their results are unknown values of their type.
// A template in Packer's old JSON syntax is read, too.
func Load(ctx context.Context, in hcl.Inputs, set component.Set, evaluate bool) (*hcl.Template, diag.List) {
	x := newIndex(set)
	in.SecretsManager = set.SecretsManager
	var unknowns []string
	texts := interpolate.Context{Start: in.Now, Cwd: in.Cwd, Version: in.Version}
	in.OutputType = func(typ string) cty.Type {
		if d, ok := x.dataSources[typ]; ok {
			return hcl.TypeOf(d.Output)
		}
		return cty.DynamicPseudoType
	}
	in.Data = func(ctx context.Context, b *hcl.Block, s hcl.Scope) (cty.Value, diag.List) {
		c := &compiler{set: x}
		s = s.WithTexts(texts)
		d, ok := x.dataSources[b.Type]
		if !ok {
			c.unknown(b.Range, "data source", b.Type, x.dataSourceNames)
			unknowns = append(unknowns, c.unknowns...)
			return cty.DynamicVal, c.diags
		}
		c.check(b, s, d.Config(), func(cfg any) error {
			_, err := d.Open(cfg)
			return err
		})
		if c.diags.HasErrors() || !evaluate {
			return cty.UnknownVal(hcl.TypeOf(d.Output)), c.diags
		}
		cfg := d.Config()
		diags := b.Decode(s, cfg)
		if diags.HasErrors() {
			return cty.UnknownVal(hcl.TypeOf(d.Output)), diags
		}
		src, err := d.Open(cfg)
		var v any
		if err == nil {
			v, err = src.Read(ctx)
		}
		if err != nil {
			r := b.Range
			diags.Errorf(&r, "Data source "+b.Type+"."+b.Name+" failed", "%s", sentence(err))
			return cty.UnknownVal(hcl.TypeOf(d.Output)), diags
		}
		return hcl.ValueOf(v), diags
	}
	load := hcl.Load
	if legacyjson.Is(in) {
		load = legacyjson.Load
	}
	t, diags := load(ctx, in)
	return t, collapsed(diags, unknowns)
}
