package hcl

import (
	"fmt"
	"strings"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/ingot-build/ingot/internal/diag"
)

const (
	mostInstances = 1000  // of one block
	mostBuilds    = 10000 // of a template: sources times builds
)

// notYet is the key of the one instance that stands for all while for_each or
// count is not known.
const notYet = "*"

// A Key tells the instances of a repeated block apart. The zero Key is that of
// a block that is not repeated.
type Key struct {
	value cty.Value
	text  string // as in a name: ["eu"], [0]
	vars  map[string]cty.Value
}

// IsZero reports whether the block is not repeated.
func (k Key) IsZero() bool { return k.text == "" }

// String is the key as names have it: ["eu"] of for_each, [0] of count, "" of
// a block that is not repeated.
func (k Key) String() string { return k.text }

// Known reports whether for_each or count is known.
func (k Key) Known() bool { return k.IsZero() || k.value.IsKnown() }

// In is s with each, or count, of the instance.
func (k Key) In(s Scope) Scope {
	for name, v := range k.vars {
		s = s.With(name, v)
	}
	return s
}

// plain is the key in a form that is fit for a file name.
func (k Key) plain() string {
	text := strings.Trim(k.text, `[]"`)
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || r == '.' || r == '_' {
			return r
		}
		return '-'
	}, text)
}

func forEachKey(key, value cty.Value) Key {
	text := notYet
	if key.IsKnown() {
		text = key.AsString()
	}
	return Key{
		value: key, text: fmt.Sprintf("[%q]", text),
		vars: map[string]cty.Value{"each": cty.ObjectVal(map[string]cty.Value{"key": key, "value": value})},
	}
}

func countKey(i cty.Value) Key {
	text := notYet
	if i.IsKnown() {
		text = i.AsBigFloat().Text('f', -1)
	}
	return Key{
		value: i, text: "[" + text + "]",
		vars: map[string]cty.Value{"count": cty.ObjectVal(map[string]cty.Value{"index": i})},
	}
}

// instances are the keys that for_each or count give a block: one zero Key
// when it has neither, none after a mistake.
func (t *Template) instances(attrs hcl2.Attributes, l *diag.List) []Key {
	each, count := attrs["for_each"], attrs["count"]
	switch {
	case each != nil && count != nil:
		*l = append(*l, report(count.Range, count.Range, "Both for_each and count", "A block is repeated either for each element or so many times. Remove one of the two."))
		return nil
	case each != nil:
		return t.forEach(each, l)
	case count != nil:
		return t.counted(count, l)
	}
	return []Key{{}}
}

func (t *Template) forEach(a *hcl2.Attribute, l *diag.List) []Key {
	wrong := func(format string, args ...any) []Key {
		*l = append(*l, report(a.Expr.Range(), a.Range, "Unsuitable for_each", format, args...))
		return nil
	}
	v, hd := evaluate(a.Expr, t.scope.ctx)
	t.addEval(l, hd)
	switch {
	case hd.HasErrors():
		return []Key{forEachKey(cty.UnknownVal(cty.String), cty.DynamicVal)}
	case v.IsMarked():
		return wrong("for_each is a sensitive value, and its keys are parts of names, which are shown. Use a value that is not sensitive.")
	case !v.IsKnown():
		return []Key{forEachKey(cty.UnknownVal(cty.String), cty.DynamicVal)}
	case v.IsNull():
		return wrong("for_each is null. Give a map, or a list of texts; an empty one makes no block.")
	}
	ty := v.Type()
	if !isMapping(ty) && !isSequence(ty) {
		return wrong("for_each is a %s. Give a map, or a list of texts.", ty.FriendlyName())
	}
	var out []Key
	if n := v.LengthInt(); n > mostInstances {
		return wrong("for_each has %d elements; the most that there may be is %d.", n, mostInstances)
	}
	plain := map[string]string{}
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		switch {
		case isMapping(ty):
		case e.IsMarked():
			return wrong("An element of for_each is sensitive, and it is part of a name, which is shown. Use a value that is not sensitive.")
		case !e.IsKnown():
			return []Key{forEachKey(cty.UnknownVal(cty.String), cty.DynamicVal)}
		case e.IsNull() || e.Type() != cty.String:
			return wrong("An element of for_each is not a text, so it has no name. Give a list of texts, or a map with a name for each element.")
		default:
			k = e
		}
		key := forEachKey(k, e)
		if o, ok := plain[key.plain()]; ok && o == k.AsString() {
			return wrong("for_each has %q twice. Each element is the name of one block.", o)
		} else if ok {
			return wrong("The keys %q and %q differ only in signs that file names do not have. Rename one of them.", o, k.AsString())
		}
		plain[key.plain()] = k.AsString()
		out = append(out, key)
	}
	return out
}

func (t *Template) counted(a *hcl2.Attribute, l *diag.List) []Key {
	v, hd := evaluate(a.Expr, t.scope.ctx)
	t.addEval(l, hd)
	v = Unmark(v)
	if hd.HasErrors() || !v.IsKnown() {
		return []Key{countKey(cty.UnknownVal(cty.Number))}
	}
	n := -1
	if v, err := convert.Convert(v, cty.Number); err == nil && !v.IsNull() {
		if f := v.AsBigFloat(); f.IsInt() && f.Sign() >= 0 {
			if i, _ := f.Int64(); i <= mostInstances {
				n = int(i)
			}
		}
	}
	if n < 0 {
		*l = append(*l, report(a.Expr.Range(), a.Range, "Unsuitable count", "count is a whole number from 0 to %d.", mostInstances))
		return nil
	}
	out := make([]Key, n)
	for i := range out {
		out[i] = countKey(cty.NumberIntVal(int64(i)))
	}
	return out
}

// repeated is the body of one instance of a block. raw finds the body as it is
// written, with its dynamic blocks not expanded: in them each and count can be
// used, too.
func (t *Template) repeated(b *hcl2.Block, k Key) hcl2.Body {
	if k.IsZero() {
		return b.Body
	}
	body := b.Body
	if raw, ok := t.rawBody(b); ok {
		body = dynblock.Expand(raw, k.In(t.scope).ctx)
	}
	return bind(body, k.vars)
}

// rawBody finds a block's body as the file has it; false for a block that
// another one generates.
func (t *Template) rawBody(b *hcl2.Block) (hcl2.Body, bool) {
	if t.raw == nil {
		t.raw = map[hcl2.Range]hcl2.Body{}
		for _, f := range t.parsed {
			content, _, _ := f.body.PartialContent(&hcl2.BodySchema{Blocks: []hcl2.BlockHeaderSchema{
				{Type: "source", LabelNames: []string{"type", "name"}}, {Type: "build"},
			}})
			if content == nil {
				continue
			}
			for _, blk := range content.Blocks {
				t.raw[blk.DefRange] = blk.Body
			}
		}
	}
	body, ok := t.raw[b.DefRange]
	return body, ok
}
