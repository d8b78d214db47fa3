// Package component is the set of builders, provisioners, post-processors and
// data sources that a program is built with, as a value.
package component

import (
	"context"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/datasource"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/postprocessor"
	"github.com/ingot-build/ingot/provisioner"
)

// A Platform says where the components that call out are to call.
type Platform struct {
	Version string // of Ingot, for user agents

	// Amazon, when not nil, is where calls to AWS go instead: a local cloud.
	// It is asked at the first call, not before, and may be asked again.
	Amazon func(ctx context.Context) (Endpoint, error)
}

// An Endpoint is one address that speaks the APIs of a cloud, with the
// credentials it takes.
type Endpoint struct {
	URL       string
	Region    string // where the template names none
	AccessKey string
	SecretKey secret.String
}

// A Builtin makes the set of components for a platform.
type Builtin func(Platform) Set

// A Set is handed from main to whoever turns a template into a plan.
type Set struct {
	Builders       []builder.Driver
	Provisioners   []provisioner.Driver
	PostProcessors []postprocessor.Driver
	DataSources    []datasource.Driver

	// SecretsManager returns the text of a secret of AWS Secrets Manager, for
	// the functions of templates; nil when nothing can be asked.
	SecretsManager func(ctx context.Context, name string) (string, error)
}
