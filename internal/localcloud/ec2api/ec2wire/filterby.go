package ec2wire

import (
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

// FilterBy are an action's filters by name: what a resource has for each. The
// functions are also called with the zero value.
type FilterBy[T any] map[string]func(T) []string

// Match returns the resources that pass all filters.
func (by FilterBy[T]) Match(fs Filters, in []T, tags func(T) localcloud.Tags) ([]T, error) {
	values := func(v T) Values {
		return func(name string) ([]string, bool) {
			get, ok := by[name]
			if !ok {
				return nil, false
			}
			return get(v), true
		}
	}
	var zero T
	if err := fs.Check(values(zero)); err != nil {
		return nil, err
	}
	out := make([]T, 0, len(in))
	for _, v := range in {
		ok, err := fs.Match(tags(v), values(v))
		if err != nil {
			return nil, err
		}
		if ok {
			out = append(out, v)
		}
	}
	return out, nil
}

// OnlyWithout refuses the use of ids together with pages, as EC2 does.
func OnlyWithout(p Page, ids []string) error {
	if p.MaxResults != 0 && len(ids) > 0 {
		return awswire.Errorf("InvalidParameterCombination", "The parameter maxResults cannot be used together with ids in the request")
	}
	return nil
}

// One is the only value of a filter; "" is none.
func One(s string) []string {
	if s == "" {
		return nil
	}
	return []string{s}
}

// Mapped applies fn to each item.
func Mapped[T, U any](in []T, fn func(T) U) []U {
	out := make([]U, len(in))
	for i, v := range in {
		out[i] = fn(v)
	}
	return out
}
