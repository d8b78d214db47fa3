// Package component is the set of builders, provisioners, post-processors and
// data sources that a program is built with, as a value.
package component

import (
	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/datasource"
	"github.com/ingot-build/ingot/postprocessor"
	"github.com/ingot-build/ingot/provisioner"
)

// A Set is handed from main to whoever turns a template into a plan.
type Set struct {
	Builders       []builder.Driver
	Provisioners   []provisioner.Driver
	PostProcessors []postprocessor.Driver
	DataSources    []datasource.Driver
}
