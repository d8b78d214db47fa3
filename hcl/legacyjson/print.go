package legacyjson

import (
	"bytes"
	"encoding/json"
	"strings"
)

// print is n as JSON, indented by two spaces, members in their order.
func (n *node) print(b *strings.Builder, indent string) {
	inner := indent + "  "
	switch n.kind {
	case null:
		b.WriteString("null")
	case boolean:
		if n.truth {
			b.WriteString("true")
		} else {
			b.WriteString("false")
		}
	case number:
		b.WriteString(n.text)
	case text:
		b.WriteString(quoted(n.text))
	case list:
		if len(n.items) == 0 {
			b.WriteString("[]")
			return
		}
		for i, x := range n.items {
			b.WriteString(opening("[", i) + inner)
			x.print(b, inner)
		}
		b.WriteString("\n" + indent + "]")
	case object:
		if len(n.members) == 0 {
			b.WriteString("{}")
			return
		}
		for i, m := range n.members {
			b.WriteString(opening("{", i) + inner + quoted(m.name) + ": ")
			m.value.print(b, inner)
		}
		b.WriteString("\n" + indent + "}")
	}
}

func opening(bracket string, i int) string {
	if i == 0 {
		return bracket + "\n"
	}
	return ",\n"
}

// quoted is a text in JSON, in which < and > are themselves.
func quoted(s string) string {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(s); err != nil {
		panic(err) // a string has an encoding
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// set changes or adds a member.
func (n *node) set(name string, v *node) {
	for i, m := range n.members {
		if m.name == name {
			n.members[i].value = v
			return
		}
	}
	n.members = append(n.members, member{name: name, nameAt: n.at, value: v})
}

// remove takes a member out and returns it, or nil.
func (n *node) remove(name string) *node {
	for i, m := range n.members {
		if m.name == name {
			n.members = append(n.members[:i:i], n.members[i+1:]...)
			return m.value
		}
	}
	return nil
}

// rename gives a member another name, unless there is one of that name: then
// the old one goes.
func (n *node) rename(from, to string) {
	if n.get(to) != nil {
		n.remove(from)
		return
	}
	for i, m := range n.members {
		if m.name == from {
			n.members[i].name = to
		}
	}
}

func newText(s string) *node { return &node{kind: text, text: s} }

// each calls f for every text under n.
func (n *node) each(f func(*node)) {
	if n.kind == text {
		f(n)
	}
	for _, x := range n.items {
		x.each(f)
	}
	for _, m := range n.members {
		m.value.each(f)
	}
}
