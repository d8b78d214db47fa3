// Package null is the data source "null": it gives back what it is given, now
// that it is known.
package null

import (
	"context"

	"github.com/ingot-build/ingot/internal/datasource"
	"github.com/ingot-build/ingot/internal/diag"
)

// Config is the options of the data source.
type Config struct {
	Input string `hcl:"input"`
}

// Output is what it gives.
type Output struct {
	Output string `hcl:"output"`
}

// Driver returns the data source "null".
func Driver() datasource.Driver { return datasource.NewDriver[Config, Output]("null", open) }

type null struct{ input string }

var _ datasource.DataSource = null{}

func open(c Config) (datasource.DataSource, error) {
	if c.Input == "" {
		return nil, diag.Fieldf("input", "must be set")
	}
	return null{c.Input}, nil
}

// Read implements [datasource.DataSource].
func (n null) Read(context.Context) (any, error) { return Output{Output: n.input}, nil }
