package awswire

import (
	"encoding/base64"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxList bounds the numbers in parameter names: no call takes more items.
const maxList = 2000

// Decode reads the parameters of a query call into the struct dst points to.
//
// A field's tag is `q:"Name"` with options after commas: "required"; "member"
// for lists in the form Name.member.N of the query protocol (EC2 writes
// Name.N, and that is the default). Fields may be string, bool, the integers,
// float64, []byte (base64), time.Time, structs (Name.Field), pointers to these
// (nil when absent) and slices of them. A struct without a tag that is
// embedded shares its parent's names.
//
// A parameter that no field names is refused as UnknownParameter: what is not
// understood is not ignored.
func Decode(params url.Values, dst any) error {
	d := &decoder{params: params, used: map[string]bool{"Action": true, "Version": true}}
	for k := range params {
		d.keys = append(d.keys, k)
	}
	slices.Sort(d.keys)
	if err := d.fields("", reflect.ValueOf(dst).Elem()); err != nil {
		return err
	}
	for _, k := range d.keys {
		if d.used[k] || strings.HasPrefix(k, "X-Amz-") || k == "AWSAccessKeyId" || k == "Signature" ||
			k == "SignatureMethod" || k == "SignatureVersion" || k == "Timestamp" || k == "SecurityToken" {
			continue
		}
		return Errorf("UnknownParameter", "The parameter %s is not recognized", k)
	}
	return nil
}

type decoder struct {
	params url.Values
	keys   []string // sorted
	used   map[string]bool
}

// present reports whether name or anything below it was given.
func (d *decoder) present(name string) bool {
	i, ok := slices.BinarySearch(d.keys, name)
	if ok {
		return true
	}
	for ; i < len(d.keys) && strings.HasPrefix(d.keys[i], name); i++ {
		if strings.HasPrefix(d.keys[i], name+".") {
			return true
		}
	}
	return false
}

func (d *decoder) fields(prefix string, v reflect.Value) error {
	t := v.Type()
	for i := range t.NumField() {
		f := t.Field(i)
		tag, ok := f.Tag.Lookup("q")
		if !ok {
			if f.Anonymous && f.Type.Kind() == reflect.Struct {
				if err := d.fields(prefix, v.Field(i)); err != nil {
					return err
				}
			}
			continue
		}
		opts := strings.Split(tag, ",")
		name := prefix + opts[0]
		if !d.present(name) {
			if slices.Contains(opts[1:], "required") {
				return Errorf("MissingParameter", "The request must contain the parameter %s", name)
			}
			continue
		}
		if err := d.value(name, v.Field(i), slices.Contains(opts[1:], "member")); err != nil {
			return err
		}
	}
	return nil
}

var timeType = reflect.TypeFor[time.Time]()

func (d *decoder) value(name string, v reflect.Value, member bool) error {
	switch {
	case v.Kind() == reflect.Pointer:
		v.Set(reflect.New(v.Type().Elem()))
		return d.value(name, v.Elem(), member)
	case v.Type() == timeType:
		t, err := time.Parse(time.RFC3339Nano, d.text(name))
		if err != nil {
			return Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It must be an ISO 8601 time", d.text(name), name)
		}
		v.Set(reflect.ValueOf(t.UTC()))
		return nil
	case v.Kind() == reflect.Struct:
		return d.fields(name+".", v)
	case v.Kind() == reflect.Slice && v.Type().Elem().Kind() == reflect.Uint8:
		raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(d.text(name)))
		if err != nil {
			return Errorf("InvalidParameterValue", "Value for parameter %s is invalid. It must be base64", name)
		}
		v.SetBytes(raw)
		return nil
	case v.Kind() == reflect.Slice:
		return d.list(name, v, member)
	}
	return d.scalar(name, v)
}

func (d *decoder) text(name string) string {
	d.used[name] = true
	return d.params.Get(name)
}

// list reads Name.1, Name.2, … in the order of their numbers; gaps are passed
// over, as EC2 does.
func (d *decoder) list(name string, v reflect.Value, member bool) error {
	if d.params.Get(name) == "" && d.params.Has(name) {
		d.used[name] = true // an empty list
	}
	prefix := name + "."
	if member {
		prefix += "member."
	}
	var numbers []int
	i, _ := slices.BinarySearch(d.keys, prefix)
	for ; i < len(d.keys) && strings.HasPrefix(d.keys[i], prefix); i++ {
		digits, _, _ := strings.Cut(d.keys[i][len(prefix):], ".")
		n, err := strconv.Atoi(digits)
		if err != nil || n < 0 || n > maxList {
			return Errorf("InvalidParameterValue", "%s is not an item of the list %s", d.keys[i], name)
		}
		if !slices.Contains(numbers, n) {
			numbers = append(numbers, n)
		}
	}
	slices.Sort(numbers)
	out := reflect.MakeSlice(v.Type(), len(numbers), len(numbers))
	for i, n := range numbers {
		if err := d.value(prefix+strconv.Itoa(n), out.Index(i), member); err != nil {
			return err
		}
	}
	v.Set(out)
	return nil
}

func (d *decoder) scalar(name string, v reflect.Value) error {
	if !d.params.Has(name) {
		return nil // only something below it: told as unknown
	}
	s := d.text(name)
	switch v.Kind() {
	case reflect.String:
		v.SetString(s)
	case reflect.Bool:
		switch strings.ToLower(s) {
		case "true", "1":
			v.SetBool(true)
		case "false", "0":
			v.SetBool(false)
		default:
			return Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It must be true or false", s, name)
		}
	case reflect.Int, reflect.Int32, reflect.Int64:
		n, err := strconv.ParseInt(s, 10, v.Type().Bits())
		if err != nil {
			return Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It must be a whole number", s, name)
		}
		v.SetInt(n)
	case reflect.Float64:
		n, err := strconv.ParseFloat(s, 64)
		if err != nil {
			return Errorf("InvalidParameterValue", "Value (%s) for parameter %s is invalid. It must be a number", s, name)
		}
		v.SetFloat(n)
	default:
		panic("awswire: field of kind " + v.Kind().String() + " for " + name)
	}
	return nil
}
