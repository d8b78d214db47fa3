package hcl

import (
	"encoding"
	"fmt"
	"reflect"
	"strings"
	"sync"
	"time"

	hcl2 "github.com/hashicorp/hcl/v2"

	"github.com/ingot-build/ingot/internal/secret"
)

var (
	durationType = reflect.TypeFor[time.Duration]()
	secretType   = reflect.TypeFor[secret.String]()
	bytesType    = reflect.TypeFor[[]byte]()
	unmarshaler  = reflect.TypeFor[encoding.TextUnmarshaler]()
	marshaler    = reflect.TypeFor[encoding.TextMarshaler]()
)

// A field is one tagged field of a configuration struct.
type field struct {
	name  string
	index []int // for reflect.Value.FieldByIndex; embedded structs are flattened
	typ   reflect.Type
	block bool // a nested block rather than an attribute
	many  bool // the block may be repeated
	late  bool // the component renders the {{ }} in it
}

// elem is the struct type of a block field.
func (f field) elem() reflect.Type {
	t := f.typ
	if f.many {
		t = t.Elem()
	}
	if t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// A layout is what a configuration struct accepts.
type layout struct {
	fields []field
	byName map[string]int
}

func (l *layout) get(name string) (field, bool) {
	i, ok := l.byName[name]
	if !ok {
		return field{}, false
	}
	return l.fields[i], true
}

func (l *layout) options() []string {
	out := make([]string, len(l.fields))
	for i, f := range l.fields {
		out[i] = f.name
	}
	return out
}

// schema is the layout for the parser.
func (l *layout) schema() *hcl2.BodySchema {
	s := &hcl2.BodySchema{Attributes: make([]hcl2.AttributeSchema, 0, len(l.fields))}
	for _, f := range l.fields {
		if f.block {
			s.Blocks = append(s.Blocks, hcl2.BlockHeaderSchema{Type: f.name})
		} else {
			s.Attributes = append(s.Attributes, hcl2.AttributeSchema{Name: f.name})
		}
	}
	return s
}

// supported reports whether an attribute can have type t.
func supported(t reflect.Type) bool {
	if t == secretType || reflect.PointerTo(t).Implements(unmarshaler) || t.Implements(marshaler) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Float32, reflect.Float64,
		reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return true
	case reflect.Pointer, reflect.Slice:
		return supported(t.Elem())
	case reflect.Map:
		return t.Key().Kind() == reflect.String && supported(t.Elem())
	}
	return false
}

// layouts remembers what layoutOf found. A nil one remembers nothing.
type layouts struct{ m sync.Map } // reflect.Type to *layout

func (c *layouts) of(t reflect.Type) *layout {
	if c == nil {
		return layoutOf(t)
	}
	if l, ok := c.m.Load(t); ok {
		return l.(*layout)
	}
	l, _ := c.m.LoadOrStore(t, layoutOf(t))
	return l.(*layout)
}

// layoutOf reads the tags of struct type t: `hcl:"name"` is an option,
// `hcl:"name,block"` a nested block, repeatable for a slice. With ",late" the
// component itself renders the {{ }} in it, once it has the data. A tag we
// cannot serve is our own mistake and panics.
func layoutOf(t reflect.Type) *layout {
	l := &layout{byName: map[string]int{}}
	l.add(t, nil, false)
	return l
}

// allLate reports whether a struct says that its component renders the {{ }}
// in every option: with a field _ struct{} tagged `hcl:",late"`.
func allLate(t reflect.Type) bool {
	for i := range t.NumField() {
		if sf := t.Field(i); sf.Name == "_" && sf.Tag.Get("hcl") == ",late" {
			return true
		}
	}
	return false
}

func (l *layout) add(t reflect.Type, prefix []int, late bool) {
	if t.Kind() != reflect.Struct {
		panic(fmt.Sprintf("hcl: %s is not a struct", t))
	}
	late = late || allLate(t)
	for i := range t.NumField() {
		sf := t.Field(i)
		index := append(append([]int(nil), prefix...), i)
		tag, tagged := sf.Tag.Lookup("hcl")
		if !tagged {
			if sf.Anonymous && sf.Type.Kind() == reflect.Struct {
				l.add(sf.Type, index, late)
			}
			continue
		}
		if sf.Name == "_" {
			if tag != ",late" {
				panic(fmt.Sprintf("hcl: unknown tag %q on %s", tag, t))
			}
			continue // seen by allLate
		}
		name, kinds, _ := strings.Cut(tag, ",")
		f := field{name: name, index: index, typ: sf.Type, late: late}
		for _, kind := range strings.Split(kinds, ",") {
			switch kind {
			case "", "optional", "attr":
			case "late":
				f.late = true
			case "block":
				f.block = true
				f.many = sf.Type.Kind() == reflect.Slice
				if f.elem().Kind() != reflect.Struct {
					panic(fmt.Sprintf("hcl: block field %s.%s is not a struct", t, sf.Name))
				}
			default:
				panic(fmt.Sprintf("hcl: unknown tag %q on %s.%s", tag, t, sf.Name))
			}
		}
		if !f.block && !supported(sf.Type) {
			panic(fmt.Sprintf("hcl: option %q of %s has the unsupported type %s", name, t, sf.Type))
		}
		if name == "" || !sf.IsExported() {
			panic(fmt.Sprintf("hcl: field %s.%s has no option name or is not exported", t, sf.Name))
		}
		if _, dup := l.byName[name]; dup {
			panic(fmt.Sprintf("hcl: option %q twice in %s", name, t))
		}
		l.byName[name] = len(l.fields)
		l.fields = append(l.fields, f)
	}
}
