package hcl

import (
	"encoding"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/convert"

	"github.com/ingot-build/ingot/hcl/interpolate"
	"github.com/ingot-build/ingot/internal/secret"
)

// A converter writes known, unmarked values into Go fields, as weakly as
// Packer does: numbers and bools from texts and back, "a,b" and single values
// as lists, durations as texts.
type converter struct {
	render func(text string) (string, error)
	failed string // option path of the first text or number that could not be stored
	hide   bool   // the value is sensitive: no message may show it
}

func (c *converter) show(s string) string {
	if c.hide {
		return secret.Redacted
	}
	return strconv.Quote(s)
}

// set stores v, which is known and unmarked, in fv.
func (c *converter) set(path string, v cty.Value, fv reflect.Value) error {
	err := c.store(path, v, fv)
	if err != nil && c.failed == "" {
		c.failed = path
	}
	return err
}

func (c *converter) store(path string, v cty.Value, fv reflect.Value) error {
	t := fv.Type()
	if v.IsNull() {
		return nil
	}
	if v.Type() == cty.String && c.render != nil {
		s, err := c.render(v.AsString())
		if err != nil && c.hide && !errors.Is(err, interpolate.ErrLater) {
			err = errors.New("the {{ }} in it cannot be rendered; the value is sensitive, so the reason is not shown")
		}
		if err != nil {
			return err
		}
		v = cty.StringVal(s)
	}
	if t.Kind() == reflect.Pointer {
		p := reflect.New(t.Elem())
		sub := *c
		if v.Type() == cty.String {
			sub.render = nil // rendered already
		}
		if err := sub.set(path, v, p.Elem()); err != nil {
			c.failed = sub.failed
			return err
		}
		fv.Set(p)
		return nil
	}
	switch t {
	case durationType:
		return c.duration(v, fv)
	case secretType:
		s, err := c.text(v)
		if err == nil {
			fv.Set(reflect.ValueOf(secret.New(s)))
		}
		return err
	case bytesType:
		return c.bytes(path, v, fv)
	}
	if reflect.PointerTo(t).Implements(unmarshaler) {
		s, err := c.text(v)
		if err != nil {
			return err
		}
		return fv.Addr().Interface().(encoding.TextUnmarshaler).UnmarshalText([]byte(s))
	}
	switch t.Kind() {
	case reflect.String:
		s, err := c.text(v)
		if err == nil {
			fv.SetString(s)
		}
		return err
	case reflect.Bool:
		b, err := convert.Convert(trimmed(v), cty.Bool)
		if err != nil {
			return fmt.Errorf("true or false is required, and %s is neither", c.describe(v))
		}
		fv.SetBool(b.True())
		return nil
	case reflect.Slice:
		return c.slice(path, v, fv)
	case reflect.Map:
		return c.mapping(path, v, fv)
	}
	return c.number(v, fv)
}

func trimmed(v cty.Value) cty.Value {
	if v.Type() == cty.String {
		return cty.StringVal(strings.TrimSpace(v.AsString()))
	}
	return v
}

func (c *converter) text(v cty.Value) (string, error) {
	s, err := convert.Convert(v, cty.String)
	if err != nil || s.IsNull() {
		return "", fmt.Errorf("a text is required, and this is %s", c.describe(v))
	}
	return s.AsString(), nil
}

// describe names v for a message: its value when it is short and may be shown,
// else its type.
func (c *converter) describe(v cty.Value) string {
	switch {
	case v.Type() == cty.String && !c.hide && len(v.AsString()) <= 60:
		return strconv.Quote(v.AsString())
	case v.Type() == cty.Number && !c.hide:
		return v.AsBigFloat().Text('g', 20)
	case v.Type() == cty.Bool && !c.hide:
		return strconv.FormatBool(v.True())
	case v.Type().IsTupleType() || v.Type().IsListType() || v.Type().IsSetType():
		return "a list"
	case v.Type().IsObjectType() || v.Type().IsMapType():
		return "an object"
	}
	return "a " + v.Type().FriendlyName()
}

func (c *converter) duration(v cty.Value, fv reflect.Value) error {
	s, err := c.text(v)
	if err != nil {
		return fmt.Errorf("a duration such as \"90s\" or \"5m\" is required, and this is %s", c.describe(v))
	}
	if s == "" {
		fv.SetInt(0)
		return nil
	}
	d, err := time.ParseDuration(s)
	if err != nil {
		if _, numeric := strconv.ParseFloat(s, 64); numeric == nil {
			return fmt.Errorf("a duration needs a unit: write %s for seconds or %s for minutes", c.show(s+"s"), c.show(s+"m"))
		}
		return fmt.Errorf("a duration such as \"90s\" or \"1h30m\" is required, and %s is not one", c.show(s))
	}
	fv.SetInt(int64(d))
	return nil
}

func (c *converter) number(v cty.Value, fv reflect.Value) error {
	n, err := convert.Convert(trimmed(v), cty.Number)
	if err != nil || n.IsNull() {
		return fmt.Errorf("a number is required, and %s is not one", c.describe(v))
	}
	f := n.AsBigFloat()
	switch k := fv.Kind(); k {
	case reflect.Float32, reflect.Float64:
		x, _ := f.Float64()
		fv.SetFloat(x)
		return nil
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		x, acc := f.Int64()
		if acc != big.Exact || fv.OverflowInt(x) {
			return fmt.Errorf("a whole number is required, and %s is not one or too large", c.describe(v))
		}
		fv.SetInt(x)
		return nil
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		x, acc := f.Uint64()
		if acc != big.Exact || fv.OverflowUint(x) {
			return fmt.Errorf("a whole number of zero or more is required, and %s is not one or too large", c.describe(v))
		}
		fv.SetUint(x)
		return nil
	}
	panic(fmt.Sprintf("hcl: options of type %s are not supported", fv.Type()))
}

func isSequence(t cty.Type) bool { return t.IsListType() || t.IsTupleType() || t.IsSetType() }
func isMapping(t cty.Type) bool  { return t.IsMapType() || t.IsObjectType() }

func (c *converter) bytes(path string, v cty.Value, fv reflect.Value) error {
	if !isSequence(v.Type()) {
		s, err := c.text(v)
		if err == nil {
			fv.SetBytes([]byte(s))
		}
		return err
	}
	out := make([]byte, 0, v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		_, e := it.Element()
		var b uint8
		if err := c.set(path, e, reflect.ValueOf(&b).Elem()); err != nil {
			return err
		}
		out = append(out, b)
	}
	fv.SetBytes(out)
	return nil
}

func (c *converter) slice(path string, v cty.Value, fv reflect.Value) error {
	sub := *c
	switch {
	case isSequence(v.Type()):
	case v.Type() == cty.String:
		sub.render = nil // rendered as a whole
		parts := []cty.Value{}
		if s := v.AsString(); s != "" {
			for _, p := range strings.Split(s, ",") {
				parts = append(parts, cty.StringVal(p))
			}
		}
		v = cty.TupleVal(parts)
	case v.Type().IsPrimitiveType():
		v = cty.TupleVal([]cty.Value{v})
	default:
		return fmt.Errorf("a list is required, and this is %s", c.describe(v))
	}
	out := reflect.MakeSlice(fv.Type(), 0, v.LengthInt())
	i := 0
	for it := v.ElementIterator(); it.Next(); i++ {
		_, e := it.Element()
		ev := reflect.New(fv.Type().Elem()).Elem()
		if e.IsNull() {
			return fmt.Errorf("item %d of the list is null", i+1)
		}
		if err := sub.set(fmt.Sprintf("%s[%d]", path, i), e, ev); err != nil {
			c.failed = sub.failed
			return fmt.Errorf("item %d of the list: %w", i+1, err)
		}
		out = reflect.Append(out, ev)
	}
	fv.Set(out)
	return nil
}

func (c *converter) mapping(path string, v cty.Value, fv reflect.Value) error {
	if !isMapping(v.Type()) {
		return fmt.Errorf("an object such as { key = \"value\" } is required, and this is %s", c.describe(v))
	}
	out := reflect.MakeMapWithSize(fv.Type(), v.LengthInt())
	for it := v.ElementIterator(); it.Next(); {
		k, e := it.Element()
		if e.IsNull() {
			continue
		}
		ev := reflect.New(fv.Type().Elem()).Elem()
		if err := c.set(path+"."+k.AsString(), e, ev); err != nil {
			return fmt.Errorf("key %q: %w", k.AsString(), err)
		}
		name := k.AsString()
		if c.render != nil {
			var err error
			if name, err = c.render(name); err != nil {
				return fmt.Errorf("key %q: %w", k.AsString(), err)
			}
		}
		out.SetMapIndex(reflect.ValueOf(name).Convert(fv.Type().Key()), ev)
	}
	fv.Set(out)
	return nil
}
