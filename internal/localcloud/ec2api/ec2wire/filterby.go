package ec2wire

import "github.com/ingot-build/ingot/internal/localcloud"

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
