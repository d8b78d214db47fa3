package hcl

import (
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"

	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/ext/dynblock"
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/diag"
)

// A Block is one labelled body, kept unevaluated until its scope is known. It
// may be checked and decoded any number of times, from several goroutines.
type Block struct {
	Type, Name string     // the component type and the label or name option; "" when there is none
	Labels     []string   // of an extra block: all its labels
	Range      diag.Range // the header
	Base       string     // of a source that extends another: "type.name" of that

	key     Key             // of a source
	extends *hcl2.Attribute // not followed yet
	refs    []Reference     // as last seen

	body     hcl2.Body
	hidden   []string // options that are not the component's: read elsewhere
	hiddenB  []string // and blocks
	merged   bool     // of a source and what a build adds to it
	expand   bool     // dynamic blocks are not expanded yet
	override cty.Value
	overAt   hcl2.Range

	mu     sync.Mutex
	places map[string]place // by option path, as last seen
}

// place is where an option was written.
type place struct {
	at   hcl2.Range
	expr hcl2.Expression // nil for a block
}

// injected are options Packer's core puts into every component; a template
// may have them and they mean nothing.
var injected = [...]string{
	"packer_build_name", "packer_builder_type", "packer_core_version", "packer_debug", "packer_force",
	"packer_on_error", "packer_user_variables", "packer_sensitive_variables",
}

// Check looks at the options in scope s and fills dst, a pointer to a tagged
// struct, with those that are known. It returns the paths of the options that
// are not: their values come later, or they have a mistake that is reported
// here (so that nobody reports it twice). Every mistake is reported.
func (b *Block) Check(s Scope, dst any) (unknown []string, _ diag.List) {
	d := b.decode(s, dst, false)
	return d.unknown, d.diags
}

// Decode fills dst, a pointer to a tagged struct, in scope s, in which every
// value must be known.
func (b *Block) Decode(s Scope, dst any) diag.List {
	return b.decode(s, dst, true).diags
}

func (b *Block) decode(s Scope, dst any, final bool) *decoder {
	v := reflect.ValueOf(dst)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		panic(fmt.Sprintf("hcl: cannot decode a block into %T", dst))
	}
	d := &decoder{scope: s, final: final, places: map[string]place{}}
	body := b.body
	if b.expand {
		body = dynblock.Expand(body, s.ctx)
	}
	d.top(b, body, v.Elem())
	sortDiags(d.diags, nil)
	b.mu.Lock()
	b.places = d.places
	if s.track {
		b.refs = d.refs
	}
	b.mu.Unlock()
	return d
}

// WithOverride returns a block like b in which the options of v, an object,
// take the place of those written in the body. at is where the override was
// written.
func (b *Block) WithOverride(v cty.Value, at diag.Range) *Block {
	return &Block{
		Type: b.Type, Name: b.Name, Labels: b.Labels, Range: b.Range,
		body: b.body, hidden: b.hidden, hiddenB: b.hiddenB, merged: b.merged, expand: b.expand,
		override: v, overAt: fromRange(at),
	}
}

func fromRange(r diag.Range) hcl2.Range {
	return hcl2.Range{
		Filename: r.Filename,
		Start:    hcl2.Pos{Line: r.Start.Line, Column: r.Start.Column, Byte: r.Start.Byte},
		End:      hcl2.Pos{Line: r.End.Line, Column: r.End.Column, Byte: r.End.Byte},
	}
}

// FieldRange returns the place of an option path such as "iso_checksum" or
// "disks[1].size" as the last Check or Decode saw it: the closest part of it
// that is written in the file, else the header of the block.
func (b *Block) FieldRange(path string) diag.Range {
	b.mu.Lock()
	defer b.mu.Unlock()
	for p := path; p != ""; p = parentPath(p) {
		at, ok := b.places[p]
		if !ok {
			continue
		}
		if at.expr != nil && p != path {
			return toRange(within(at.expr, strings.TrimPrefix(path, p)))
		}
		return toRange(at.at)
	}
	return b.Range
}

// parentPath takes the last step off an option path.
func parentPath(p string) string {
	if i := strings.LastIndexAny(p, ".["); i > 0 {
		return p[:i]
	}
	return ""
}

// within finds the part of e that rest ("[1]", ".key", "[0].x") leads to.
func within(e hcl2.Expression, rest string) hcl2.Range {
	if strings.HasPrefix(rest, "[") {
		num, tail, _ := strings.Cut(rest[1:], "]")
		i, err := strconv.Atoi(num)
		if list, diags := hcl2.ExprList(e); err == nil && !diags.HasErrors() && i >= 0 && i < len(list) {
			return within(list[i], tail)
		}
	}
	if strings.HasPrefix(rest, ".") {
		pairs, diags := hcl2.ExprMap(e)
		if !diags.HasErrors() {
			for _, kv := range pairs {
				k, kd := evaluate(kv.Key, nil)
				if !kd.HasErrors() && k.Type() == cty.String && k.IsKnown() && k.AsString() == rest[1:] {
					return kv.Value.Range()
				}
			}
		}
	}
	return e.Range()
}

// IsUnknown reports whether an option path is among the unknown ones that
// Check returned, or lies inside or around one.
func IsUnknown(unknown []string, path string) bool {
	inside := func(p, q string) bool {
		return strings.HasPrefix(p, q) && (len(p) == len(q) || p[len(q)] == '.' || p[len(q)] == '[')
	}
	for _, u := range unknown {
		if inside(path, u) || inside(u, path) {
			return true
		}
	}
	return false
}
