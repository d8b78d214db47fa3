package hcl

import (
	"errors"
	"time"

	"github.com/ncruces/go-strftime"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// timestampFunc is the present time in UTC, at each call.
func timestampFunc() function.Function {
	return function.New(&function.Spec{
		Type: function.StaticReturnType(cty.String),
		Impl: func([]cty.Value, cty.Type) (cty.Value, error) {
			return cty.StringVal(time.Now().UTC().Format(time.RFC3339)), nil
		},
	})
}

// isotimeFunc formats the start of the process with a Go layout; without one
// it is RFC 3339.
func isotimeFunc(now time.Time) function.Function {
	return function.New(&function.Spec{
		VarParam: &function.Parameter{Name: "format", Type: cty.String},
		Type:     function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			switch len(args) {
			case 0:
				return cty.StringVal(now.UTC().Format(time.RFC3339)), nil
			case 1:
				return cty.StringVal(now.UTC().Format(args[0].AsString())), nil
			}
			return cty.UnknownVal(cty.String), errors.New("at most one format may be given")
		},
	})
}

// strftimeFunc formats the start of the process as C's strftime does.
func strftimeFunc(now time.Time) function.Function {
	return textFunc("format", func(format string) (string, error) {
		return strftime.Format(format, now.UTC()), nil
	})
}

func timeFields(t time.Time, last string, v cty.Value) cty.Value {
	isoYear, isoWeek := t.ISOWeek()
	n := func(i int) cty.Value { return cty.NumberIntVal(int64(i)) }
	return cty.ObjectVal(map[string]cty.Value{
		"year": n(t.Year()), "year_day": n(t.YearDay()), "day": n(t.Day()),
		"month": n(int(t.Month())), "month_name": cty.StringVal(t.Month().String()),
		"weekday": n(int(t.Weekday())), "weekday_name": cty.StringVal(t.Weekday().String()),
		"hour": n(t.Hour()), "minute": n(t.Minute()), "second": n(t.Second()),
		"iso_year": n(isoYear), "iso_week": n(isoWeek), last: v,
	})
}

func timeFieldsType(last string, ty cty.Type) cty.Type {
	fields := timeFields(time.Time{}, last, cty.UnknownVal(ty))
	return fields.Type()
}

// rfc3339Func takes a time apart.
func rfc3339Func() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "timestamp", Type: cty.String}},
		Type:   function.StaticReturnType(timeFieldsType("unix", cty.Number)),
		Impl: func(args []cty.Value, ret cty.Type) (cty.Value, error) {
			t, err := time.Parse(time.RFC3339, args[0].AsString())
			if err != nil {
				return cty.UnknownVal(ret), function.NewArgErrorf(0, "%q is not a time such as 2006-01-02T15:04:05Z", args[0].AsString())
			}
			return timeFields(t, "unix", cty.NumberIntVal(t.Unix())), nil
		},
	})
}

// unixFunc takes seconds since 1970 apart, in UTC.
func unixFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "seconds", Type: cty.Number}},
		Type:   function.StaticReturnType(timeFieldsType("rfc3339", cty.String)),
		Impl: func(args []cty.Value, ret cty.Type) (cty.Value, error) {
			sec, _ := args[0].AsBigFloat().Int64()
			t := time.Unix(sec, 0).UTC()
			return timeFields(t, "rfc3339", cty.StringVal(t.Format(time.RFC3339))), nil
		},
	})
}
