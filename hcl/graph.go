package hcl

import (
	"context"
	"sort"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/diag"
)

var localSchema = &hcl2.BodySchema{
	Attributes: []hcl2.AttributeSchema{{Name: "expression", Required: true}, {Name: "sensitive"}},
}

// localsBlock and localBlock collect declarations; nothing is evaluated yet.
func (t *Template) localsBlock(b *hcl2.Block, l *diag.List) {
	attrs, hd := b.Body.JustAttributes()
	*l = append(*l, t.names.convertDiags(hd)...)
	for _, a := range inOrder(attrs) {
		t.addLocal(&Local{Name: a.Name, Range: toRange(a.Range), expr: a.Expr}, a.NameRange, l)
	}
}

func (t *Template) localBlock(b *hcl2.Block, l *diag.List) {
	content, hd := b.Body.Content(localSchema)
	*l = append(*l, t.names.convertDiags(hd)...)
	x := &Local{Name: b.Labels[0], Range: toRange(b.DefRange)}
	if !hclsyntax.ValidIdentifier(x.Name) {
		*l = append(*l, report(b.DefRange, b.DefRange, "Invalid local name",
			"%q is not a name: names begin with a letter and have only letters, digits, underscores and dashes.", x.Name))
	}
	if a := content.Attributes["expression"]; a != nil {
		x.expr = a.Expr
	}
	if a := content.Attributes["sensitive"]; a != nil {
		t.constant(a, cty.Bool, l, func(v cty.Value) { x.Sensitive = v.True() })
	}
	t.addLocal(x, b.DefRange, l)
}

func (t *Template) addLocal(x *Local, at hcl2.Range, l *diag.List) {
	x.Value = cty.DynamicVal
	if o := t.index.locals[x.Name]; o != nil {
		*l = append(*l, report(at, fromRange(x.Range), "Duplicate local value", "The local value %q is already defined at %s. Rename one of them.", x.Name, o.Range))
		return
	}
	t.index.locals[x.Name] = x
	t.Locals = append(t.Locals, x)
}

func (t *Template) dataBlock(b *hcl2.Block, l *diag.List) {
	d := &Block{Type: b.Labels[0], Name: b.Labels[1], Range: toRange(b.DefRange), body: b.Body, expand: true}
	if o := t.index.data[d.Type+"."+d.Name]; o != nil {
		*l = append(*l, report(b.DefRange, b.DefRange, "Duplicate data source", "The data source %s.%s is already defined at %s. Rename one of them.", d.Type, d.Name, o.Range))
		return
	}
	t.index.data[d.Type+"."+d.Name] = d
	t.Data = append(t.Data, d)
}

// A node is a local value or a data source on its way to a value.
type node struct {
	label string // as written: local.x, data.type.name
	local *Local
	data  *Block
	deps  []*node
	state int // 0 new, 1 being evaluated, 2 done
	value cty.Value
	cycle bool
}

// graph is the locals and data sources of a template.
type graph struct {
	t     *Template
	nodes []*node
	by    map[string]*node
	types map[string][]*node // data sources by type
}

// evaluateAll gives locals and data sources their values, each after those it
// refers to.
func (t *Template) evaluateAll(ctx context.Context, l *diag.List) {
	g := &graph{t: t, by: map[string]*node{}, types: map[string][]*node{}}
	for _, d := range t.Data {
		n := &node{label: "data." + d.Type + "." + d.Name, data: d}
		g.nodes = append(g.nodes, n)
		g.by[n.label] = n
		g.types[d.Type] = append(g.types[d.Type], n)
	}
	for _, x := range t.Locals {
		n := &node{label: "local." + x.Name, local: x}
		g.nodes = append(g.nodes, n)
		g.by[n.label] = n
	}
	for _, n := range g.nodes {
		n.deps = g.dependencies(n)
	}
	for _, n := range g.nodes {
		g.visit(ctx, n, nil, l)
	}
	all := map[string]cty.Value{}
	for _, x := range t.Locals {
		all[x.Name] = x.Value
	}
	data := map[string]map[string]cty.Value{}
	for _, n := range g.nodes {
		if n.data != nil {
			addData(data, n)
		}
	}
	t.scope = t.scope.with2(all, data)
}

func addData(data map[string]map[string]cty.Value, n *node) {
	if data[n.data.Type] == nil {
		data[n.data.Type] = map[string]cty.Value{}
	}
	data[n.data.Type][n.data.Name] = n.value
}

// with2 adds the objects local and data.
func (s Scope) with2(locals map[string]cty.Value, data map[string]map[string]cty.Value) Scope {
	types := make(map[string]cty.Value, len(data))
	for typ, byName := range data {
		types[typ] = cty.ObjectVal(byName)
	}
	s.ctx = s.ctx.NewChild()
	s.ctx.Variables = map[string]cty.Value{"local": cty.ObjectVal(locals), "data": cty.ObjectVal(types)}
	return s
}

// dependencies finds what n refers to, statically. A reference to all locals
// or to all data sources of a type at once depends on each of them.
func (g *graph) dependencies(n *node) []*node {
	seen := map[*node]bool{}
	var out []*node
	add := func(d *node, self bool) {
		if d != nil && !seen[d] && (self || d != n) {
			seen[d] = true
			out = append(out, d)
		}
	}
	for _, tr := range g.references(n) {
		name := stepName(tr, 1)
		switch tr.RootName() {
		case "local":
			if name != "" {
				add(g.by["local."+name], true)
				continue
			}
			for _, d := range g.nodes {
				if d.local != nil {
					add(d, false)
				}
			}
		case "data":
			if key := stepName(tr, 2); key != "" {
				add(g.by["data."+name+"."+key], true)
				continue
			}
			list := g.types[name]
			if name == "" {
				list = g.nodes
			}
			for _, d := range list {
				if d.data != nil {
					add(d, false)
				}
			}
		}
	}
	return out
}

func (g *graph) references(n *node) []hcl2.Traversal {
	if n.local != nil {
		if n.local.expr == nil {
			return nil
		}
		return n.local.expr.Variables()
	}
	body, ok := n.data.body.(*hclsyntax.Body)
	if !ok {
		var out []hcl2.Traversal
		attrs, _ := n.data.body.JustAttributes()
		for _, a := range attrs {
			out = append(out, a.Expr.Variables()...)
		}
		return out
	}
	var out []hcl2.Traversal
	_ = hclsyntax.VisitAll(body, func(x hclsyntax.Node) hcl2.Diagnostics {
		if e, ok := x.(*hclsyntax.ScopeTraversalExpr); ok {
			out = append(out, e.Traversal)
		}
		return nil
	})
	return out
}

func (g *graph) visit(ctx context.Context, n *node, path []*node, l *diag.List) {
	switch n.state {
	case 2:
		return
	case 1:
		g.cycle(n, path, l)
		return
	}
	n.state = 1
	path = append(path, n)
	for _, d := range n.deps {
		g.visit(ctx, d, path, l)
	}
	n.state = 2
	n.value = cty.DynamicVal
	if !n.cycle {
		n.value = g.evaluate(ctx, n, l)
	}
	if n.local != nil {
		n.local.Value = n.value
	}
}

// cycle reports a loop that ends at n once, naming its members.
func (g *graph) cycle(n *node, path []*node, l *diag.List) {
	i := len(path) - 1
	for path[i] != n {
		i--
	}
	members := path[i:]
	var labels []string
	fresh := false
	for _, m := range members {
		fresh = fresh || !m.cycle
		m.cycle = true
		labels = append(labels, m.label)
	}
	if !fresh {
		return
	}
	labels = append(labels, n.label)
	at := fromRange(n.place())
	*l = append(*l, report(at, at, "Cycle of references", "These refer to each other in a circle, so none can be evaluated first: %s. Break the circle.", strings.Join(labels, " -> ")))
}

func (n *node) place() diag.Range {
	if n.local != nil {
		return n.local.Range
	}
	return n.data.Range
}

// evaluate computes n in a scope that holds just what n refers to: building
// the whole of it for every node would be quadratic.
func (g *graph) evaluate(ctx context.Context, n *node, l *diag.List) cty.Value {
	t := g.t
	locals, data := map[string]cty.Value{}, map[string]map[string]cty.Value{}
	for _, d := range n.deps {
		if d.local != nil {
			locals[d.local.Name] = d.value
		} else {
			addData(data, d)
		}
	}
	s := t.scope.with2(locals, data)
	if n.data != nil {
		return t.readData(ctx, n.data, s, l)
	}
	if n.local.expr == nil {
		return cty.DynamicVal
	}
	v, hd := evaluate(n.local.expr, s.ctx)
	t.addEval(l, hd)
	if hd.HasErrors() {
		return cty.DynamicVal
	}
	if n.local.Sensitive {
		registerAll(t.in.Secrets, v)
		return MarkSensitive(v)
	}
	registerMarked(t.in.Secrets, v)
	return v
}

func (t *Template) readData(ctx context.Context, b *Block, s Scope, l *diag.List) cty.Value {
	ty := cty.DynamicPseudoType
	if t.in.OutputType != nil {
		ty = t.in.OutputType(b.Type)
	}
	if t.in.Data == nil || t.in.SyntaxOnly || l.HasErrors() {
		// With mistakes in the template nothing will be built: the world is
		// not asked, and every other mistake is still found.
		return cty.UnknownVal(ty)
	}
	if err := ctx.Err(); err != nil {
		l.Errorf(&b.Range, "Data source not read", "%v.", context.Cause(ctx))
		return cty.UnknownVal(ty)
	}
	v, found := t.in.Data(ctx, b, s)
	*l = append(*l, found...)
	if found.HasErrors() || v == cty.NilVal {
		return cty.UnknownVal(ty)
	}
	registerMarked(t.in.Secrets, v)
	return v
}

// addEval adds findings of an evaluation. With SyntaxOnly nothing is evaluated
// in earnest: values may be missing, so their findings mean nothing.
func (t *Template) addEval(l *diag.List, hd hcl2.Diagnostics) {
	if t.in.SyntaxOnly {
		return
	}
	*l = append(*l, t.names.convertDiags(hd)...)
}

// setNames tells the explainer of references what is declared.
func (t *Template) setNames() {
	n := t.names
	for _, v := range t.Variables {
		n.vars = append(n.vars, v.Name)
	}
	for _, x := range t.Locals {
		n.locals = append(n.locals, x.Name)
	}
	n.data = map[string][]string{}
	for _, d := range t.Data {
		n.data[d.Type] = append(n.data[d.Type], d.Name)
	}
	sort.Strings(n.vars)
	sort.Strings(n.locals)
}
