package hcl

import (
	"encoding"
	"fmt"
	"reflect"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/secret"
)

// TypeOf returns the type of ValueOf(v): v is a tagged struct, a pointer to
// one, or a value of any option type.
func TypeOf(v any) cty.Type {
	if v == nil {
		return cty.DynamicPseudoType
	}
	return typeOf(reflect.TypeOf(v))
}

// ValueOf returns a tagged struct as an object, by option name; a
// secret.String becomes a sensitive text, a duration a text, a nil pointer
// null. It panics for a type that no option can have.
func ValueOf(v any) cty.Value {
	if v == nil {
		return cty.NullVal(cty.DynamicPseudoType)
	}
	return valueOf(reflect.ValueOf(v))
}

func textual(t reflect.Type) bool {
	return t == durationType || t == secretType || t == bytesType || t.Implements(marshaler)
}

func typeOf(t reflect.Type) cty.Type {
	if textual(t) {
		return cty.String
	}
	switch t.Kind() {
	case reflect.Pointer:
		return typeOf(t.Elem())
	case reflect.String:
		return cty.String
	case reflect.Bool:
		return cty.Bool
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64, reflect.Float32, reflect.Float64:
		return cty.Number
	case reflect.Slice:
		return cty.List(typeOf(t.Elem()))
	case reflect.Map:
		return cty.Map(typeOf(t.Elem()))
	case reflect.Struct:
		attrs := map[string]cty.Type{}
		for _, f := range layoutOf(t).fields {
			attrs[f.name] = typeOf(f.typ)
		}
		return cty.Object(attrs)
	}
	panic(fmt.Sprintf("hcl: values of type %s are not supported", t))
}

func valueOf(v reflect.Value) cty.Value {
	t := v.Type()
	switch t {
	case durationType:
		return cty.StringVal(time.Duration(v.Int()).String())
	case secretType:
		return MarkSensitive(cty.StringVal(v.Interface().(secret.String).Reveal()))
	case bytesType:
		return cty.StringVal(string(v.Bytes()))
	}
	if t.Kind() == reflect.Pointer {
		if v.IsNil() {
			return cty.NullVal(typeOf(t))
		}
		return valueOf(v.Elem())
	}
	if m, ok := v.Interface().(encoding.TextMarshaler); ok {
		text, err := m.MarshalText()
		if err != nil {
			panic(fmt.Sprintf("hcl: value of type %s: %v", t, err))
		}
		return cty.StringVal(string(text))
	}
	switch t.Kind() {
	case reflect.String:
		return cty.StringVal(v.String())
	case reflect.Bool:
		return cty.BoolVal(v.Bool())
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		return cty.NumberIntVal(v.Int())
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return cty.NumberUIntVal(v.Uint())
	case reflect.Float32, reflect.Float64:
		return cty.NumberFloatVal(v.Float())
	case reflect.Slice:
		list := make([]cty.Value, v.Len())
		for i := range list {
			list[i] = valueOf(v.Index(i))
		}
		if len(list) == 0 {
			return cty.ListValEmpty(typeOf(t.Elem()))
		}
		return cty.ListVal(list)
	case reflect.Map:
		m := make(map[string]cty.Value, v.Len())
		for it := v.MapRange(); it.Next(); {
			m[it.Key().String()] = valueOf(it.Value())
		}
		if len(m) == 0 {
			return cty.MapValEmpty(typeOf(t.Elem()))
		}
		return cty.MapVal(m)
	case reflect.Struct:
		attrs := map[string]cty.Value{}
		for _, f := range layoutOf(t).fields {
			attrs[f.name] = valueOf(v.FieldByIndex(f.index))
		}
		return cty.ObjectVal(attrs)
	}
	panic(fmt.Sprintf("hcl: values of type %s are not supported", t))
}
