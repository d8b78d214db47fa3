package hcl

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/ingot-build/ingot/hcl/interpolate"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// disk is a nested block of the test component.
type disk struct {
	Size int               `hcl:"size" json:"size,omitempty"`
	Name string            `hcl:"name" json:"name,omitempty"`
	Tags map[string]string `hcl:"tags" json:"tags,omitempty"`
	Part []part            `hcl:"part,block" json:"part,omitempty"`
}

type part struct {
	Label string `hcl:"label" json:"label,omitempty"`
}

// Embedded options, as components share them.
type Comm struct {
	User     string        `hcl:"ssh_username" json:"ssh_username,omitempty"`
	Password secret.String `hcl:"ssh_password" json:"-"`
	Wait     time.Duration `hcl:"ssh_timeout" json:"ssh_timeout,omitempty"`
}

// component has an option of every supported type.
type component struct {
	Comm
	Text    string            `hcl:"text" json:"text,omitempty"`
	Name    string            `hcl:"vm_name" json:"vm_name,omitempty"`
	Num     int               `hcl:"num" json:"num,omitempty"`
	Float   float64           `hcl:"float" json:"float,omitempty"`
	Bool    bool              `hcl:"bool" json:"bool,omitempty"`
	Tri     *bool             `hcl:"tri" json:"tri,omitempty"`
	Opt     *int              `hcl:"opt" json:"opt,omitempty"`
	List    []string          `hcl:"inline" json:"inline,omitempty"`
	Nums    []int             `hcl:"nums" json:"nums,omitempty"`
	Args    [][]string        `hcl:"qemuargs" json:"qemuargs,omitempty"`
	Tags    map[string]string `hcl:"tags" json:"tags,omitempty"`
	Raw     []byte            `hcl:"raw" json:"raw,omitempty"`
	Disks   []disk            `hcl:"disk,block" json:"disk,omitempty"`
	Only1   *disk             `hcl:"root,block" json:"root,omitempty"`
	Timeout time.Duration     `hcl:"wait" json:"wait,omitempty"`
}

type dumpBlock struct {
	Type    string     `json:"type"`
	Name    string     `json:"name,omitempty"`
	Meta    any        `json:"meta,omitempty"`
	Options *component `json:"options,omitempty"`
	Unknown []string   `json:"unknown,omitempty"`
}

type dumpBuild struct {
	Name           string        `json:"name,omitempty"`
	Description    string        `json:"description,omitempty"`
	Sources        []dumpBlock   `json:"sources,omitempty"`
	Provisioners   []dumpBlock   `json:"provisioners,omitempty"`
	Cleanup        *dumpBlock    `json:"cleanup,omitempty"`
	PostProcessors [][]dumpBlock `json:"post_processors,omitempty"`
	Registry       *Registry     `json:"registry,omitempty"`
	Extra          []string      `json:"extra,omitempty"`
	DependsOn      []string      `json:"depends_on,omitempty"`
}

type dump struct {
	Outputs  map[string]json.RawMessage `json:"outputs,omitempty"`
	Var      map[string]json.RawMessage `json:"var,omitempty"`
	Local    map[string]json.RawMessage `json:"local,omitempty"`
	Data     []dumpBlock                `json:"data,omitempty"`
	Plugins  []string                   `json:"plugins,omitempty"`
	Builds   []dumpBuild                `json:"builds,omitempty"`
	Extra    []string                   `json:"extra,omitempty"`
	Registry *Registry                  `json:"registry,omitempty"`
}

// show is a value as JSON; what has no JSON is shown in angle brackets.
func show(v cty.Value) json.RawMessage {
	sensitive := v.ContainsMarked()
	v = Unmark(v)
	var s string
	switch {
	case v == cty.NilVal:
		s = `"<none>"`
	case !v.IsWhollyKnown():
		s = fmt.Sprintf("%q", "<unknown "+v.Type().FriendlyName()+">")
	default:
		b, err := ctyjson.Marshal(v, v.Type())
		if err != nil {
			s = fmt.Sprintf("%q", err)
		} else {
			s = string(b)
		}
	}
	if sensitive {
		s = fmt.Sprintf(`{"sensitive":%s}`, s)
	}
	return json.RawMessage(s)
}

// dumpTemplate checks every component and shows the whole template.
func dumpTemplate(t *Template, texts bool) (string, diag.List) {
	var l diag.List
	out := dump{Var: map[string]json.RawMessage{}, Local: map[string]json.RawMessage{}, Registry: t.Registry}
	for _, v := range t.Variables {
		out.Var[v.Name] = show(v.Value)
	}
	for _, x := range t.Locals {
		out.Local[x.Name] = show(x.Value)
	}
	for _, p := range t.RequiredPlugins {
		out.Plugins = append(out.Plugins, p.Name+" "+p.Source+" "+p.Version)
	}
	for _, b := range t.Extra {
		out.Extra = append(out.Extra, strings.Join(append([]string{b.Type}, b.Labels...), " "))
	}
	builds := t.BuildValues(func(*Build, *BuildSource) cty.Value {
		return cty.UnknownVal(cty.Object(map[string]cty.Type{"id": cty.String, "files": cty.List(cty.String)}))
	})
	for _, o := range t.Outputs {
		v, found := o.Value(t.Scope().With("build", cty.ObjectVal(builds)))
		l = append(l, found...)
		if out.Outputs == nil {
			out.Outputs = map[string]json.RawMessage{}
		}
		out.Outputs[o.Name] = show(v)
	}
	name := ""
	check := func(b *Block, s Scope) dumpBlock {
		var c component
		if texts {
			about := t.Texts()
			about.BuildName, about.BuildType = name, "null"
			if b.Type != "null" && len(t.Data) == 0 {
				about.Build = func(string) (string, error) { return "", interpolate.ErrLater }
			}
			s = s.WithTexts(about)
		}
		unknown, found := b.Check(s, &c)
		l = append(l, found...)
		d := dumpBlock{Type: b.Type, Name: b.Name, Unknown: unknown}
		if !reflect.DeepEqual(c, component{}) {
			d.Options = &c
		}
		return d
	}
	for _, b := range t.Data {
		out.Data = append(out.Data, check(b, t.Scope()))
	}
	for _, b := range t.Builds {
		db := dumpBuild{Name: b.Name, Description: b.Description, Registry: b.Registry}
		for _, x := range b.Extra {
			db.Extra = append(db.Extra, strings.Join(append([]string{x.Type}, x.Labels...), " "))
		}
		for _, r := range b.DependsOn {
			for _, o := range t.Named(r) {
				db.DependsOn = append(db.DependsOn, o.Name)
			}
		}
		inner := t.Scope().With("source", cty.UnknownVal(cty.Object(map[string]cty.Type{"type": cty.String, "name": cty.String}))).With("build", cty.DynamicVal)
		for _, s := range b.Sources {
			name = s.LocalName
			d := check(s.Body, t.Scope().With("source", cty.ObjectVal(map[string]cty.Value{"type": cty.StringVal(s.Type), "name": cty.StringVal(s.SimpleName())})).inBuilds(builds))
			d.Name = FullName(b, s)
			for _, r := range s.Body.References() {
				d.Unknown = append(d.Unknown, "from "+r.String()+"."+r.Member)
			}
			if s.Base() != "" {
				d.Meta = "extends " + s.Base()
			}
			db.Sources = append(db.Sources, d)
		}
		prov := func(p *Provisioner) dumpBlock {
			blk := p.Block
			if len(b.Sources) > 0 {
				blk = p.BlockFor(b.Sources[0])
				inner = b.Sources[0].Key.In(inner)
			}
			d := check(blk, inner)
			d.Meta = metaOf(*p)
			return d
		}
		for _, p := range b.Provisioners {
			db.Provisioners = append(db.Provisioners, prov(p))
		}
		if b.ErrorCleanup != nil {
			d := prov(b.ErrorCleanup)
			db.Cleanup = &d
		}
		for _, chain := range b.PostProcessors {
			var dc []dumpBlock
			for _, p := range chain {
				d := check(p.Block, inner)
				if len(p.Only)+len(p.Except) > 0 || p.KeepInput != nil {
					d.Meta = map[string]any{"only": p.Only, "except": p.Except, "keep": p.KeepInput}
				}
				dc = append(dc, d)
			}
			db.PostProcessors = append(db.PostProcessors, dc)
		}
		out.Builds = append(out.Builds, db)
	}
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if err := enc.Encode(out); err != nil {
		panic(err)
	}
	return b.String(), l
}

func (s Scope) inBuilds(builds map[string]cty.Value) Scope {
	if len(builds) == 0 {
		return s
	}
	return s.With("build", cty.ObjectVal(builds)).Tracking()
}

func metaOf(p Provisioner) any {
	m := map[string]any{}
	if p.PauseBefore != 0 {
		m["pause_before"] = p.PauseBefore.String()
	}
	if p.Timeout != 0 {
		m["timeout"] = p.Timeout.String()
	}
	if p.MaxRetries != 0 {
		m["max_retries"] = p.MaxRetries
	}
	if p.ContinueOnError {
		m["continue_on_error"] = true
	}
	if len(p.Only) > 0 {
		m["only"] = p.Only
	}
	if len(p.Except) > 0 {
		m["except"] = p.Except
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

// dumpDiags shows findings, one a line.
func dumpDiags(l diag.List) string {
	var b strings.Builder
	for _, d := range l {
		at := "-"
		if d.Subject != nil {
			at = d.Subject.String()
		}
		fmt.Fprintf(&b, "%s %s: %s: %s\n", strings.ToLower(d.Severity.String()), at, d.Summary, strings.ReplaceAll(d.Detail, "\n", " / "))
	}
	return b.String()
}
