package legacyjson

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template/parse"

	"github.com/hashicorp/hcl/v2/hclsyntax"
)

// A place in a template decides what an expression can name there.
type where int

const (
	inDefault where = iota // of a variable: env alone
	inLocal
	inBuilder
	inStep // provisioner or post-processor: with build and source
)

// A translator turns texts with {{ }} into expressions of HCL that mean the
// same.
type translator struct {
	u     *upgrade
	where where
	kept  []string // what has no equivalent and stays in {{ }}
}

// template is a text as an HCL expression: a quoted template.
func (t *translator) template(s string) string {
	if !strings.Contains(s, "{{") {
		return `"` + quote(s) + `"`
	}
	tree := parse.New("text")
	tree.Mode = parse.SkipFuncCheck
	tree, err := tree.Parse(s, "", "", map[string]*parse.Tree{})
	if err != nil || tree == nil || tree.Root == nil {
		return `"` + quote(s) + `"` // not a template: Packer takes it to a component, which tells
	}
	var parts []string
	only := ""
	for _, n := range tree.Root.Nodes {
		if text, ok := n.(*parse.TextNode); ok {
			parts = append(parts, quote(string(text.Text)))
			continue
		}
		if e, ok := t.node(n); ok {
			only = e
			parts = append(parts, "${"+e+"}")
			continue
		}
		t.kept = append(t.kept, n.String())
		parts = append(parts, t.keep(n))
	}
	if len(parts) == 1 && only != "" {
		return only
	}
	return `"` + strings.Join(parts, "") + `"`
}

// keep is a node that stays, with HCL in place of the variables in it. It is
// the inside of a quoted template.
func (t *translator) keep(n parse.Node) string {
	branch := func(word string, b parse.BranchNode) string {
		s := "{{" + word + " " + t.keepPipe(b.Pipe) + "}}" + t.keepList(b.List)
		if b.ElseList != nil {
			s += "{{else}}" + t.keepList(b.ElseList)
		}
		return s + "{{end}}"
	}
	switch n := n.(type) {
	case *parse.ActionNode:
		return "{{" + t.keepPipe(n.Pipe) + "}}"
	case *parse.IfNode:
		return branch("if", n.BranchNode)
	case *parse.WithNode:
		return branch("with", n.BranchNode)
	case *parse.RangeNode:
		return branch("range", n.BranchNode)
	}
	return quote(n.String())
}

func (t *translator) keepList(l *parse.ListNode) string {
	var b strings.Builder
	for _, n := range l.Nodes {
		switch x := n.(type) {
		case *parse.TextNode:
			b.WriteString(quote(string(x.Text)))
		default:
			if e, ok := t.node(n); ok {
				b.WriteString("${" + e + "}")
			} else {
				b.WriteString(t.keep(n))
			}
		}
	}
	return b.String()
}

// keepPipe is a pipeline that stays. What HCL can say of it, its beginning and
// pipelines among the arguments, is a text in backquotes.
func (t *translator) keepPipe(p *parse.PipeNode) string {
	var cmds []string
	done := 0
	for n := len(p.Cmds) - 1; n > 0 && len(p.Decl) == 0; n-- {
		head := &parse.PipeNode{NodeType: parse.NodePipe, Cmds: p.Cmds[:n]}
		if e, ok := t.pipe(head); ok && !strings.HasPrefix(e, `"`) {
			cmds, done = []string{"`${" + e + "}`"}, n
			break
		}
	}
	for _, c := range p.Cmds[done:] {
		var args []string
		for _, a := range c.Args {
			sub, ok := a.(*parse.PipeNode)
			if !ok {
				args = append(args, quote(a.String()))
				continue
			}
			if e, ok := t.pipe(sub); ok {
				args = append(args, "`${"+e+"}`")
			} else {
				args = append(args, "("+t.keepPipe(sub)+")")
			}
		}
		cmds = append(cmds, strings.Join(args, " "))
	}
	decl := ""
	if len(p.Decl) > 0 {
		var names []string
		for _, d := range p.Decl {
			names = append(names, d.String())
		}
		sign := " := "
		if p.IsAssign {
			sign = " = "
		}
		decl = quote(strings.Join(names, ", ")) + sign
	}
	return decl + strings.Join(cmds, " | ")
}

// quote is a text inside the quotes of HCL.
func quote(s string) string {
	var b []byte
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '\n':
			b = append(b, `\n`...)
		case c == '\r':
			b = append(b, `\r`...)
		case c == '\t':
			b = append(b, `\t`...)
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case (c == '$' || c == '%') && i+1 < len(s) && s[i+1] == '{':
			b = append(b, c, c)
		case c < 0x20 || c == 0x7f:
			b = fmt.Appendf(b, `\u%04x`, c)
		default:
			b = append(b, c)
		}
	}
	return string(b)
}

func (t *translator) node(n parse.Node) (string, bool) {
	a, ok := n.(*parse.ActionNode)
	if !ok || len(a.Pipe.Decl) > 0 {
		return "", false
	}
	return t.pipe(a.Pipe)
}

func (t *translator) pipe(p *parse.PipeNode) (string, bool) {
	if len(p.Decl) > 0 {
		return "", false
	}
	last := ""
	for i, cmd := range p.Cmds {
		var args []string
		for _, a := range cmd.Args[1:] {
			e, ok := t.arg(a)
			if !ok {
				return "", false
			}
			args = append(args, e)
		}
		if i > 0 {
			args = append(args, last)
		}
		id, ok := cmd.Args[0].(*parse.IdentifierNode)
		if !ok {
			e, ok := t.arg(cmd.Args[0])
			if !ok || len(args) > 0 {
				return "", false
			}
			last = e
			continue
		}
		if last, ok = t.call(id.Ident, args); !ok {
			return "", false
		}
	}
	return last, last != ""
}

func (t *translator) arg(n parse.Node) (string, bool) {
	switch n := n.(type) {
	case *parse.StringNode:
		// Where options are rendered, {{ from HCL would be an action.
		return `"` + quote(n.Text) + `"`, !strings.Contains(n.Text, "{{")
	case *parse.NumberNode:
		return n.Text, n.IsInt
	case *parse.PipeNode:
		return t.pipe(n)
	}
	return "", false
}

// plainText is the text of an expression that is one.
func plainText(e string) (string, bool) {
	s, err := strconv.Unquote(e)
	return s, err == nil && strings.HasPrefix(e, `"`) && !strings.Contains(e, "${") && !strings.Contains(e, "%{")
}

// call is a function call in HCL; args are expressions, the piped one last.
func (t *translator) call(name string, args []string) (string, bool) {
	list := strings.Join(args, ", ")
	step := t.where == inStep
	switch n := len(args); {
	case name == "user" && n == 1:
		v, ok := plainText(args[0])
		if !ok {
			return "", false
		}
		return t.u.ref(v, t.where)
	case t.where == inDefault:
		return "env(" + list + ")", name == "env" && n == 1
	case name == "build" && n == 1 && step:
		v, ok := plainText(args[0])
		return "build." + v, ok && hclsyntax.ValidIdentifier(v)
	case name == "build_name" && n == 0:
		return "source.name", step
	case name == "build_type" && n == 0:
		return "source.type", step
	case name == "timestamp" && n == 0:
		t.u.timestamp = true
		return "local." + t.u.timestampName(), true
	case name == "isotime" && n <= 1:
		return "legacy_isotime(" + list + ")", true
	case name == "strftime" && n == 1:
		return "legacy_strftime(" + list + ")", true
	case name == "uuid" && n == 0:
		return "uuidv4()", true
	case name == "pwd" && n == 0:
		return "path.cwd", true
	case name == "template_dir" && n == 0:
		return "abspath(path.root)", true
	case name == "packer_version" && n == 0:
		return "packer.version", true
	case (name == "upper" || name == "lower") && n == 1:
		return name + "(" + list + ")", true
	case name == "replace_all" && n == 3:
		// A text between slashes is a text here, and a pattern for no one.
		return "replace(" + strings.Join([]string{args[2], args[0], args[1]}, ", ") + ")", true
	case name == "replace" && n == 4 && strings.HasPrefix(args[2], "-"):
		return "replace(" + strings.Join([]string{args[3], args[0], args[1]}, ", ") + ")", true
	case name == "split" && n == 3:
		return "split(" + args[1] + ", " + args[0] + ")[" + args[2] + "]", true
	case t.u.amazon && slices.Contains([]string{"clean_resource_name", "clean_ami_name"}, name) && n == 1:
		return `regex_replace(` + list + `, "[^a-zA-Z0-9()\\[\\] ./\\-'@_]", "-")`, true
	case t.where == inLocal && name == "env" && n == 1:
		v, ok := plainText(args[0])
		return t.u.envVariable(v), ok
	case t.where == inLocal && (name == "vault" && n == 2 || (name == "consul_key" || name == "aws_secretsmanager_raw") && n == 1):
		return name + "(" + list + ")", true
	case t.where == inLocal && name == "aws_secretsmanager" && n == 1:
		return "aws_secretsmanager(" + list + ", null)", true
	case t.where == inLocal && name == "aws_secretsmanager" && n == 2:
		return "aws_secretsmanager(" + list + ")", true
	}
	return "", false
}
