package cloudtest

import (
	"context"
	"fmt"
	"reflect"
	"testing"

	"github.com/aws/smithy-go/middleware"
)

// Model checks every reply against the SDK's own model of it: it was decoded
// to get here, and each value of an enumeration must be one the model lists.
func Model(t testing.TB) func(*middleware.Stack) error {
	return func(s *middleware.Stack) error {
		return s.Initialize.Add(middleware.InitializeMiddlewareFunc("ModelCheck", func(ctx context.Context, in middleware.InitializeInput, next middleware.InitializeHandler) (middleware.InitializeOutput, middleware.Metadata, error) {
			out, meta, err := next.HandleInitialize(ctx, in)
			if err == nil {
				for _, bad := range Illegal(out.Result) {
					t.Errorf("%T: %s", out.Result, bad)
				}
			}
			return out, meta, err
		}), middleware.Before)
	}
}

// unlisted are values that EC2 documents and sends though the SDK's model does
// not list them.
var unlisted = map[string]string{
	"AttachmentStatus": "available", // of an internet gateway
}

// Illegal returns the values in a reply of the SDK that its enumerations do
// not have, with the paths to them. The empty value is "not there".
func Illegal(reply any) []string {
	var bad []string
	walk(reflect.ValueOf(reply), "", &bad)
	return bad
}

func walk(v reflect.Value, path string, bad *[]string) {
	switch v.Kind() {
	case reflect.Pointer, reflect.Interface:
		if !v.IsNil() {
			walk(v.Elem(), path, bad)
		}
	case reflect.Struct:
		for i := range v.NumField() {
			f := v.Type().Field(i)
			if f.IsExported() && f.Name != "ResultMetadata" {
				walk(v.Field(i), path+"."+f.Name, bad)
			}
		}
	case reflect.Slice:
		for i := range v.Len() {
			walk(v.Index(i), fmt.Sprintf("%s[%d]", path, i), bad)
		}
	case reflect.Map:
		for _, k := range v.MapKeys() {
			walk(v.MapIndex(k), fmt.Sprintf("%s[%v]", path, k), bad)
		}
	case reflect.String:
		values := v.MethodByName("Values")
		if !values.IsValid() || v.String() == "" {
			return
		}
		legal := values.Call(nil)[0]
		for i := range legal.Len() {
			if legal.Index(i).String() == v.String() {
				return
			}
		}
		if unlisted[v.Type().Name()] == v.String() {
			return
		}
		*bad = append(*bad, fmt.Sprintf("%s is %q, which %s does not have", path, v.String(), v.Type()))
	}
}
