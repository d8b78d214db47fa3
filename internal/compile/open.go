package compile

import (
	"errors"
	"slices"
	"unicode"
	"unicode/utf8"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/datasource"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/pipeline"
	"github.com/ingot-build/ingot/postprocessor"
	"github.com/ingot-build/ingot/provisioner"
)

// An index finds drivers by name.
type index struct {
	builders       map[string]builder.Driver
	provisioners   map[string]provisioner.Driver
	postProcessors map[string]postprocessor.Driver
	dataSources    map[string]datasource.Driver

	builderNames, provisionerNames, postProcessorNames, dataSourceNames []string
}

func newIndex(s component.Set) index {
	x := index{
		builders:       map[string]builder.Driver{},
		provisioners:   map[string]provisioner.Driver{},
		postProcessors: map[string]postprocessor.Driver{},
		dataSources:    map[string]datasource.Driver{},
	}
	for _, d := range s.Builders {
		x.builders[d.Name] = d
		x.builderNames = append(x.builderNames, d.Name)
	}
	for _, d := range s.Provisioners {
		x.provisioners[d.Name] = d
		x.provisionerNames = append(x.provisionerNames, d.Name)
	}
	for _, d := range s.PostProcessors {
		x.postProcessors[d.Name] = d
		x.postProcessorNames = append(x.postProcessorNames, d.Name)
	}
	for _, d := range s.DataSources {
		x.dataSources[d.Name] = d
		x.dataSourceNames = append(x.dataSourceNames, d.Name)
	}
	for _, l := range [][]string{x.builderNames, x.provisionerNames, x.postProcessorNames, x.dataSourceNames} {
		slices.Sort(l)
	}
	return x
}

// check decodes b into an empty configuration as far as its values are known
// and opens it; the result of open is dropped. An option with a mistake counts
// as not known, so that nothing is said of it twice. Those that are not known
// are returned.
func (c *compiler) check(b *hcl.Block, s hcl.Scope, cfg any, open func(cfg any) error) (unknown []string) {
	unknown, diags := b.Check(s, cfg)
	c.refs = append(c.refs, b.References()...)
	c.diags = append(c.diags, diags...)
	c.diags = append(c.diags, faults(b, open(cfg), unknown)...)
	return unknown
}

// decode fills cfg for use. Its error holds places in the template.
func decode(b *hcl.Block, s hcl.Scope, cfg any) error {
	return b.Decode(s, cfg).Err()
}

// located gives the faults that open found their places.
func located(b *hcl.Block, err error) error {
	if err == nil {
		return nil
	}
	if l := faults(b, err, nil); l.HasErrors() {
		return l.Err()
	}
	return nil
}

// faults turns what a component says of its options into diagnostics. What it
// says of options that are not known yet is left out.
func faults(b *hcl.Block, err error, unknown []string) diag.List {
	var l diag.List
	for _, e := range diag.Flatten(err) {
		var f *diag.FieldError
		if !errors.As(e, &f) {
			r := b.Range
			l.Errorf(&r, "Invalid "+b.Type, "%s", sentence(e))
			continue
		}
		if slices.ContainsFunc(f.Paths, func(p string) bool { return hcl.IsUnknown(unknown, p) }) {
			continue
		}
		r := b.FieldRange(f.Paths[0])
		if f.Warn {
			l.Warnf(&r, "Doubtful option "+f.Paths[0], "%s", sentence(e))
		} else {
			l.Errorf(&r, "Invalid option "+f.Paths[0], "%s", sentence(e))
		}
	}
	return l
}

// sentence is the message of a fault with its remedy.
func sentence(err error) string {
	var f *diag.FieldError
	text := err.Error()
	if errors.As(err, &f) {
		text = f.Err.Error()
	}
	if h := diag.Hint(err); h != "" {
		text += "; " + h
	}
	r, n := utf8.DecodeRuneInString(text)
	return string(unicode.ToUpper(r)) + text[n:] + "."
}

func (c *compiler) openBuilder(d builder.Driver, b *hcl.Block, s hcl.Scope, info builder.Info) (func(builder.Info) (builder.Builder, error), []string) {
	later := c.check(b, s, d.Config(), func(cfg any) error {
		_, err := d.Open(cfg, info)
		return err
	})
	return func(info builder.Info) (builder.Builder, error) {
		cfg := d.Config()
		if err := decode(b, s, cfg); err != nil {
			return nil, err
		}
		bld, err := d.Open(cfg, info)
		return bld, located(b, err)
	}, later
}

func (c *compiler) provisioner(p *hcl.Provisioner, src *hcl.BuildSource, late *lateScope) pipeline.Provisioner {
	out := pipeline.Provisioner{
		Type: p.Type, Name: p.Name, PauseBefore: p.PauseBefore, Timeout: p.Timeout,
		MaxRetries: p.MaxRetries, ContinueOnError: p.ContinueOnError,
	}
	d, ok := c.set.provisioners[p.Type]
	if !ok {
		c.unknown(p.Range, "provisioner", p.Type, c.set.provisionerNames)
		return out
	}
	b := p.BlockFor(src)
	c.check(b, late.early, d.Config(), func(cfg any) error {
		_, err := d.Open(cfg)
		return err
	})
	out.Open = func(data communicator.Data) (provisioner.Provisioner, error) {
		cfg := d.Config()
		if err := decode(b, late.with(data), cfg); err != nil {
			return nil, err
		}
		prov, err := d.Open(cfg)
		return prov, located(b, err)
	}
	return out
}

// chain returns the steps of a chain of post-processors for one source. A step
// that -except names ends the chain, as does one that only or except leaves
// out in a chain of its own.
func (c *compiler) chain(chain []*hcl.PostProcessor, src *hcl.BuildSource, info builder.Info, late *lateScope) []pipeline.PostProcessor {
	except := c.globs("-except", c.opts.Except)
	var out []pipeline.PostProcessor
	for _, p := range chain {
		if matches(except, p.Type) || p.Name != "" && matches(except, p.Name) {
			break
		}
		if p.Skips(src) {
			continue
		}
		d, ok := c.set.postProcessors[p.Type]
		if !ok {
			c.unknown(p.Range, "post-processor", p.Type, c.set.postProcessorNames)
			continue
		}
		out = append(out, c.postProcessor(p, d, info, late))
	}
	return out
}

func (c *compiler) postProcessor(p *hcl.PostProcessor, d postprocessor.Driver, info builder.Info, late *lateScope) pipeline.PostProcessor {
	about := postprocessor.Build{Name: info.Name, BuilderType: info.Type, Force: info.Force}
	c.check(p.Block, late.early, d.Config(), func(cfg any) error {
		_, err := d.Open(cfg, about)
		return err
	})
	return pipeline.PostProcessor{
		Type: p.Type, Name: p.Name, Keep: d.Keep, KeepInput: p.KeepInput,
		Open: func(b postprocessor.Build, data communicator.Data) (postprocessor.PostProcessor, error) {
			cfg := d.Config()
			if err := decode(p.Block, late.with(data), cfg); err != nil {
				return nil, err
			}
			pp, err := d.Open(cfg, b)
			return pp, located(p.Block, err)
		},
	}
}
