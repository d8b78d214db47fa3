package legacyjson

import (
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"

	hcl2 "github.com/hashicorp/hcl/v2"
)

type kind int

const (
	null kind = iota
	boolean
	number
	text
	list
	object
)

// A node is a JSON value with its place. Members keep their order.
type node struct {
	kind    kind
	text    string // of a text; of a number as it is written
	truth   bool
	items   []*node
	members []member
	at      hcl2.Range
}

type member struct {
	name   string
	nameAt hcl2.Range
	value  *node
}

// get returns the member of that name, or nil.
func (n *node) get(name string) *node {
	if n == nil || n.kind != object {
		return nil
	}
	for _, m := range n.members {
		if m.name == name {
			return m.value
		}
	}
	return nil
}

// str is the text of a member, "" when there is none.
func (n *node) str(name string) string {
	if v := n.get(name); v != nil && v.kind == text {
		return v.text
	}
	return ""
}

const noComments = `JSON has no comments. At the top level of a template a key that begins with an underscore, such as "_comment", is one.`

// deepest bounds how far values nest.
const deepest = 200

// A reader parses JSON (RFC 8259) and remembers places. The first mistake ends it.
type reader struct {
	src   string
	pos   hcl2.Pos
	name  string
	depth int
	warns hcl2.Diagnostics
	fault *hcl2.Diagnostic
}

// parseJSON returns nil for a text that is no JSON, with the reason.
func parseJSON(name string, src []byte) (*node, hcl2.Diagnostics) {
	r := &reader{src: strings.TrimPrefix(string(src), "\ufeff"), name: name, pos: hcl2.InitialPos}
	n := r.value()
	r.space()
	if r.fault == nil && r.pos.Byte < len(r.src) {
		r.fail("There is something after the end of the value.")
	}
	if r.fault != nil {
		return nil, append(r.warns, r.fault)
	}
	return n, r.warns
}

func (r *reader) fail(format string, args ...any) {
	if r.fault != nil {
		return
	}
	end := r.pos
	if r.pos.Byte < len(r.src) {
		end.Byte++
		end.Column++
	}
	r.fault = &hcl2.Diagnostic{
		Severity: hcl2.DiagError, Summary: "Invalid JSON", Detail: fmt.Sprintf(format, args...),
		Subject: &hcl2.Range{Filename: r.name, Start: r.pos, End: end},
	}
}

// step moves over n bytes.
func (r *reader) step(n int) {
	for _, c := range r.src[r.pos.Byte : r.pos.Byte+n] {
		if c == '\n' {
			r.pos.Line++
			r.pos.Column = 1
		} else if !unicode.Is(unicode.Mn, c) {
			r.pos.Column++
		}
	}
	r.pos.Byte += n
}

func (r *reader) peek() byte {
	if r.fault != nil || r.pos.Byte >= len(r.src) {
		return 0
	}
	return r.src[r.pos.Byte]
}

func (r *reader) space() {
	for strings.IndexByte(" \t\r\n", r.peek()) >= 0 && r.peek() != 0 {
		r.step(1)
	}
}

func (r *reader) value() *node {
	r.space()
	if r.depth++; r.depth > deepest {
		r.fail("Values are nested more than %d deep.", deepest)
	}
	defer func() { r.depth-- }()
	n := &node{at: hcl2.Range{Filename: r.name, Start: r.pos}}
	switch c := r.peek(); {
	case c == '{':
		n.kind = object
		r.object(n)
	case c == '[':
		n.kind = list
		r.list(n)
	case c == '"':
		n.kind = text
		n.text = r.quoted()
	case c == '-' || c >= '0' && c <= '9':
		n.kind = number
		n.text = r.number()
	case c == 0:
		r.fail("The file ends where a value is expected.")
	default:
		r.word(n)
	}
	n.at.End = r.pos
	return n
}

func (r *reader) word(n *node) {
	rest := r.src[r.pos.Byte:]
	for _, w := range []string{"true", "false", "null"} {
		if strings.HasPrefix(rest, w) {
			if w != "null" {
				n.kind, n.truth = boolean, w == "true"
			}
			r.step(len(w))
			return
		}
	}
	switch {
	case strings.HasPrefix(rest, "//"), strings.HasPrefix(rest, "#"), strings.HasPrefix(rest, "/*"):
		r.fail("%s", noComments)
	case rest[0] == '\'':
		r.fail("Texts are in double quotes.")
	case rest[0] == ']' || rest[0] == '}':
		r.fail("A value is missing here; there may be a comma too many before.")
	default:
		c, _ := utf8.DecodeRuneInString(rest)
		hint := ""
		if r.pos.Byte == 0 {
			hint = " A template in HCL is named *.pkr.hcl, or given with -config-type=hcl2."
		}
		r.fail("A value is expected here, and %q begins none.%s", c, hint)
	}
}

func (r *reader) number() string {
	end := r.pos.Byte
	for end < len(r.src) && strings.IndexByte("+-0123456789.eE", r.src[end]) >= 0 {
		end++
	}
	s := r.src[r.pos.Byte:end]
	if !json.Valid([]byte(s)) {
		r.fail("%q is not a number.", s)
		return ""
	}
	if len(s) > 60 {
		r.fail("The number has more than 60 characters.")
		return ""
	}
	r.step(len(s))
	return s
}

func (r *reader) quoted() string {
	end := r.pos.Byte + 1
	for ; end < len(r.src) && r.src[end] != '"'; end++ {
		switch r.src[end] {
		case '\\':
			end++
		case '\n':
			r.step(end - r.pos.Byte)
			r.fail("The text does not end on its line. A line end in a text is written \\n.")
			return ""
		}
	}
	if end >= len(r.src) {
		r.fail("The text has no end.")
		return ""
	}
	var s string
	if err := json.Unmarshal([]byte(r.src[r.pos.Byte:end+1]), &s); err != nil {
		r.fail("The text has a character or an escape that JSON does not allow; a tab is written \\t and a backslash \\\\.")
		return ""
	}
	r.step(end + 1 - r.pos.Byte)
	return s
}

func (r *reader) list(n *node) {
	r.step(1)
	for r.space(); r.peek() != ']' && r.fault == nil; r.space() {
		if len(n.items) > 0 && !r.comma("]") {
			return
		}
		n.items = append(n.items, r.value())
	}
	r.end(']')
}

func (r *reader) object(n *node) {
	r.step(1)
	for r.space(); r.peek() != '}' && r.fault == nil; r.space() {
		if len(n.members) > 0 && !r.comma("}") {
			return
		}
		r.space()
		m := member{nameAt: hcl2.Range{Filename: r.name, Start: r.pos}}
		if r.peek() != '"' {
			switch c := r.peek(); c {
			case '}':
				r.fail("There is a comma too many before the closing brace.")
			case '/', '#':
				r.fail("%s", noComments)
			default:
				r.fail("The name of a member is expected here, in double quotes.")
			}
			return
		}
		m.name = r.quoted()
		m.nameAt.End = r.pos
		r.space()
		if r.peek() != ':' {
			r.fail("A colon is expected after the name.")
			return
		}
		r.step(1)
		m.value = r.value()
		n.add(m, &r.warns)
	}
	r.end('}')
}

// add adds a member. As for Packer the last of the same name counts.
func (n *node) add(m member, warns *hcl2.Diagnostics) {
	for i, o := range n.members {
		if o.name != m.name {
			continue
		}
		*warns = append(*warns, &hcl2.Diagnostic{
			Severity: hcl2.DiagWarning, Summary: "Duplicate member",
			Detail:  fmt.Sprintf("%q is written twice in the object; the first, on line %d, has no effect.", m.name, o.nameAt.Start.Line),
			Subject: m.nameAt.Ptr(),
		})
		n.members = append(n.members[:i:i], n.members[i+1:]...)
		break
	}
	n.members = append(n.members, m)
}

func (r *reader) comma(closing string) bool {
	r.space()
	if r.peek() != ',' {
		r.fail("A comma or %s is expected here.", closing)
		return false
	}
	r.step(1)
	return true
}

func (r *reader) end(c byte) {
	if r.fault == nil && r.peek() != c {
		r.fail("The file ends before %c.", c)
	}
	if r.fault == nil {
		r.step(1)
	}
}
