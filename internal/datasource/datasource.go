// Package datasource is the contract of what a template can ask the world
// before it builds.
package datasource

import "context"

// A DataSource reads. It changes nothing and may be read again.
type DataSource interface {
	// Read returns a struct whose fields are tagged `hcl:"…"`.
	Read(ctx context.Context) (any, error)
}

// A Driver opens data sources of one type.
type Driver struct {
	Name   string
	Config func() any // a pointer to an empty configuration, tagged `hcl:"…"`
	Output any        // a zero value of what Read returns, for its type
	Open   func(cfg any) (DataSource, error)
}

// NewDriver describes a data source type with options C and result O. open
// validates c and sets defaults; it uses no network and returns every fault at
// once, as joined *diag.FieldError values.
func NewDriver[C, O any](name string, open func(c C) (DataSource, error)) Driver {
	var zero O
	return Driver{
		Name:   name,
		Config: func() any { return new(C) },
		Output: zero,
		Open:   func(cfg any) (DataSource, error) { return open(*cfg.(*C)) },
	}
}
