// Package amazonparameterstore is the data source "amazon-parameterstore": a
// parameter of Systems Manager.
package amazonparameterstore

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/datasource"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// Config is the options of the data source.
type Config struct {
	awsaccess.Config

	Name           string `hcl:"name"`
	WithDecryption bool   `hcl:"with_decryption"` // without it a SecureString is its cipher text
}

// Output is what it gives.
type Output struct {
	Value   string `hcl:"value"`
	Version string `hcl:"version"`
	ARN     string `hcl:"arn"`
}

// secureOutput is an [Output] whose value must not be shown.
type secureOutput struct {
	Value   secret.String `hcl:"value"`
	Version string        `hcl:"version"`
	ARN     string        `hcl:"arn"`
}

// Driver returns the data source "amazon-parameterstore". The value of a
// SecureString is sensitive.
func Driver(version string, at awsaccess.Locator) datasource.Driver {
	return datasource.NewDriver[Config, Output]("amazon-parameterstore", func(c Config) (datasource.DataSource, error) {
		return source{c, version, at}, c.prepare()
	})
}

type source struct {
	cfg     Config
	version string
	at      awsaccess.Locator
}

var _ datasource.DataSource = source{}

func (c *Config) prepare() error {
	err := c.Config.Prepare()
	if c.Name == "" {
		err = errors.Join(err, diag.Fieldf("name", "must be set: the name of the parameter"))
	}
	return err
}

// Read implements [datasource.DataSource].
func (s source) Read(ctx context.Context) (any, error) {
	c := s.cfg
	if err := c.prepare(); err != nil {
		return nil, err
	}
	sess, err := awsaccess.Open(ctx, c.Config, s.version, s.at)
	if err != nil {
		return nil, err
	}
	out, err := sess.SSM("").GetParameter(ctx, &ssm.GetParameterInput{Name: &c.Name, WithDecryption: &c.WithDecryption})
	if awsaccess.Code(err) == "ParameterNotFound" {
		return nil, diag.WithHint(fmt.Errorf("there is no parameter %q in %s", c.Name, sess.Region()), "check name and region")
	}
	if err != nil {
		return nil, awsaccess.Explain(ctx, sess, err)
	}
	p := out.Parameter
	if p == nil {
		return nil, fmt.Errorf("parameter %q: the answer is empty", c.Name)
	}
	o := Output{Value: aws.ToString(p.Value), Version: strconv.FormatInt(p.Version, 10), ARN: aws.ToString(p.ARN)}
	if p.Type == types.ParameterTypeSecureString {
		return secureOutput{secret.New(o.Value), o.Version, o.ARN}, nil
	}
	return o, nil
}
