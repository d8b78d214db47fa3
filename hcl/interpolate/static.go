package interpolate

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"text/template"
	"text/template/parse"
)

// Static renders the parts of a text that need no data, and leaves the others
// for the component that has it: {{ user `x` }}-{{ .Vars }} becomes
// value-{{.Vars}}. Functions that are not known are the component's own. A
// text that is no template is left alone: the component tells.
func (c *Context) Static(text string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	tree := parse.New("text")
	tree.Mode = parse.SkipFuncCheck
	tree, err := tree.Parse(text, "", "", map[string]*parse.Tree{})
	if err != nil || tree == nil || tree.Root == nil {
		return text, nil //nolint:nilerr // see above
	}
	calls := false
	visit(tree.Root, func(n parse.Node) {
		_, ok := n.(*parse.IdentifierNode)
		calls = calls || ok
	})
	if !calls {
		return text, nil // data alone
	}
	later := false
	s := &static{c: c, later: &later}
	s.funcs = c.funcs(&later)
	if !s.list(tree.Root) {
		return text, s.err // as it was written
	}
	return tree.Root.String(), s.err
}

type static struct {
	c     *Context
	funcs template.FuncMap
	later *bool
	err   error
}

// list rewrites the nodes of l; it reports whether anything changed.
func (s *static) list(l *parse.ListNode) bool {
	if l == nil {
		return false
	}
	changed := false
	for i, n := range l.Nodes {
		switch n := n.(type) {
		case *parse.ActionNode:
			if !s.pipe(n.Pipe) {
				continue
			}
			changed = true
			if text, ok := constant(n.Pipe); ok && len(n.Pipe.Decl) == 0 && !strings.Contains(text, "{{") {
				l.Nodes[i] = &parse.TextNode{NodeType: parse.NodeText, Pos: n.Pos, Text: []byte(text)}
			}
		case *parse.IfNode:
			changed = s.branch(&n.BranchNode) || changed
		case *parse.RangeNode:
			changed = s.branch(&n.BranchNode) || changed
		case *parse.WithNode:
			changed = s.branch(&n.BranchNode) || changed
		}
	}
	return changed
}

func (s *static) branch(n *parse.BranchNode) bool {
	a, b, c := s.pipe(n.Pipe), s.list(n.List), s.list(n.ElseList)
	return a || b || c
}

// constant is the text of a pipeline that is one.
func constant(p *parse.PipeNode) (string, bool) {
	if len(p.Cmds) != 1 || len(p.Cmds[0].Args) != 1 {
		return "", false
	}
	t, ok := p.Cmds[0].Args[0].(*parse.StringNode)
	if !ok {
		return "", false
	}
	return t.Text, true
}

// pipe replaces what can be computed of a pipeline: its longest beginning
// without data, and such pipelines among the arguments.
func (s *static) pipe(p *parse.PipeNode) bool {
	if p == nil || s.err != nil {
		return false
	}
	changed := false
	for _, cmd := range p.Cmds {
		for i, arg := range cmd.Args {
			sub, ok := arg.(*parse.PipeNode)
			if !ok {
				continue
			}
			changed = s.pipe(sub) || changed
			if text, ok := constant(sub); ok {
				cmd.Args[i] = literal(text, sub.Pos)
			}
		}
	}
	n := 0
	for n < len(p.Cmds) && s.command(p.Cmds[n]) {
		n++
	}
	if n == 0 {
		return changed
	}
	if _, done := constant(p); done {
		return changed
	}
	var head []string
	for _, cmd := range p.Cmds[:n] {
		head = append(head, cmd.String())
	}
	text, ok := s.compute(strings.Join(head, " | "))
	if !ok {
		return changed
	}
	lit := &parse.CommandNode{NodeType: parse.NodeCommand, Pos: p.Pos, Args: []parse.Node{literal(text, p.Pos)}}
	p.Cmds = append([]*parse.CommandNode{lit}, p.Cmds[n:]...)
	return true
}

func literal(text string, at parse.Pos) *parse.StringNode {
	return &parse.StringNode{NodeType: parse.NodeString, Pos: at, Quoted: strconv.Quote(text), Text: text}
}

// command reports whether a command calls one of the functions, or is a text,
// and has only literals as arguments. build is not among them: a component
// has it and its data.
func (s *static) command(cmd *parse.CommandNode) bool {
	for i, arg := range cmd.Args {
		switch arg := arg.(type) {
		case *parse.StringNode:
		case *parse.NumberNode, *parse.BoolNode:
			if i == 0 {
				return false
			}
		case *parse.IdentifierNode:
			_, known := s.funcs[arg.Ident]
			if i > 0 || arg.Ident == "build" || !known {
				return false
			}
		default:
			return false
		}
	}
	return len(cmd.Args) > 0
}

func (s *static) compute(expr string) (string, bool) {
	t, err := template.New("text").Funcs(s.funcs).Parse("{{" + expr + "}}")
	if err != nil {
		s.err = explain("{{"+expr+"}}", err)
		return "", false
	}
	text, err := s.c.execute(t, s.later)
	if errors.Is(err, ErrLater) {
		return "", false
	}
	if err != nil {
		s.err = explain("{{"+expr+"}}", err)
		return "", false
	}
	return text, true
}

// fields are the names of data that a template reads at its top: .Name.
func fields(t *parse.Tree) []string {
	if t == nil || t.Root == nil {
		return nil
	}
	var out []string
	visit(t.Root, func(n parse.Node) {
		if f, ok := n.(*parse.FieldNode); ok && !slices.Contains(out, f.Ident[0]) {
			out = append(out, f.Ident[0])
		}
	})
	return out
}

// visit calls f for every node under n, n included.
func visit(n parse.Node, f func(parse.Node)) {
	branch := func(b parse.BranchNode) {
		visit(b.Pipe, f)
		if b.List != nil {
			visit(b.List, f)
		}
		if b.ElseList != nil {
			visit(b.ElseList, f)
		}
	}
	f(n)
	switch n := n.(type) {
	case *parse.ListNode:
		for _, x := range n.Nodes {
			visit(x, f)
		}
	case *parse.ActionNode:
		visit(n.Pipe, f)
	case *parse.TemplateNode:
		if n.Pipe != nil {
			visit(n.Pipe, f)
		}
	case *parse.PipeNode:
		for _, c := range n.Cmds {
			for _, a := range c.Args {
				visit(a, f)
			}
		}
	case *parse.ChainNode:
		visit(n.Node, f)
	case *parse.IfNode:
		branch(n.BranchNode)
	case *parse.RangeNode:
		branch(n.BranchNode)
	case *parse.WithNode:
		branch(n.BranchNode)
	}
}

// Users are the names of variables that a text asks for with {{ user }}, as
// far as they are written out. A text that is no template has none.
func Users(text string) []string {
	if !strings.Contains(text, "{{") {
		return nil
	}
	tree := parse.New("text")
	tree.Mode = parse.SkipFuncCheck
	tree, err := tree.Parse(text, "", "", map[string]*parse.Tree{})
	if err != nil || tree == nil || tree.Root == nil {
		return nil
	}
	var out []string
	visit(tree.Root, func(n parse.Node) {
		p, ok := n.(*parse.PipeNode)
		if !ok {
			return
		}
		before := ""
		for _, c := range p.Cmds {
			name := before
			if len(c.Args) > 1 {
				if s, ok := c.Args[1].(*parse.StringNode); ok {
					name = s.Text
				}
			}
			if id, ok := c.Args[0].(*parse.IdentifierNode); ok && id.Ident == "user" && name != "" && !slices.Contains(out, name) {
				out = append(out, name)
			}
			before = ""
			if s, ok := c.Args[0].(*parse.StringNode); ok && len(c.Args) == 1 {
				before = s.Text
			}
		}
	})
	return out
}
