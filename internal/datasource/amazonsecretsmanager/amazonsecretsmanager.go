// Package amazonsecretsmanager is the data source "amazon-secretsmanager": a
// secret, or one value in it.
package amazonsecretsmanager

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/datasource"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

const defaultStage = "AWSCURRENT"

// Config is the options of the data source.
type Config struct {
	awsaccess.Config

	Name         string `hcl:"name"` // or ARN
	Key          string `hcl:"key"`  // in a secret that is a JSON object
	VersionID    string `hcl:"version_id"`
	VersionStage string `hcl:"version_stage"` // "": AWSCURRENT, or that of version_id
}

// Output is what it gives. All but the version is sensitive.
type Output struct {
	// Value is that of the key, without a key the first one of a JSON object,
	// or the whole text when it is none.
	Value        secret.String `hcl:"value"`
	SecretString secret.String `hcl:"secret_string"`
	SecretBinary secret.String `hcl:"secret_binary"` // in base64 when it is no UTF-8
	VersionID    string        `hcl:"version_id"`
}

// Driver returns the data source "amazon-secretsmanager".
func Driver(version string, at awsaccess.Locator) datasource.Driver {
	return datasource.NewDriver[Config, Output]("amazon-secretsmanager", func(c Config) (datasource.DataSource, error) {
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
		err = errors.Join(err, diag.Fieldf("name", "must be set: the name or ARN of the secret"))
	}
	if c.VersionStage == "" && c.VersionID == "" {
		c.VersionStage = defaultStage
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
	in := &secretsmanager.GetSecretValueInput{SecretId: &c.Name}
	if c.VersionID != "" {
		in.VersionId = &c.VersionID
	}
	if c.VersionStage != "" {
		in.VersionStage = &c.VersionStage
	}
	out, err := sess.SecretsManager("").GetSecretValue(ctx, in)
	if awsaccess.Code(err) == "ResourceNotFoundException" {
		return nil, diag.WithHint(fmt.Errorf("there is no secret %q, or no such version of it, in %s", c.Name, sess.Region()),
			"check name, version_id, version_stage and region")
	}
	if err != nil {
		return nil, awsaccess.Explain(ctx, sess, err)
	}
	text := aws.ToString(out.SecretString)
	binary := string(out.SecretBinary)
	whole := text
	if out.SecretString == nil {
		whole = binary
	}
	value, err := pick(whole, c.Key)
	if err != nil {
		return nil, fmt.Errorf("secret %q: %w", c.Name, err)
	}
	if !utf8.ValidString(binary) {
		binary = base64.StdEncoding.EncodeToString(out.SecretBinary)
		if value == string(out.SecretBinary) {
			value = binary
		}
	}
	return Output{secret.New(value), secret.New(text), secret.New(binary), aws.ToString(out.VersionId)}, nil
}

// pick returns the value of key in text, a JSON object; without a key the
// first value, or text itself when it is no object. No message shows text.
func pick(text, key string) (string, error) {
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	d.UseNumber()
	if t, err := d.Token(); err != nil || t != json.Delim('{') || !json.Valid([]byte(text)) {
		if key == "" {
			return text, nil
		}
		return "", diag.WithHint(diag.Fieldf("key", "the secret is not a JSON object, so it has no key %q", key), "leave key out to have the whole secret")
	}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "", errors.New("not a JSON object")
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return "", errors.New("not a JSON object")
		}
		if key != "" && name != key {
			continue
		}
		var s string
		if json.Unmarshal(v, &s) == nil && v[0] == '"' {
			return s, nil
		}
		return string(v), nil // numbers and bools as they are written
	}
	if key == "" {
		return text, nil
	}
	return "", diag.Fieldf("key", "the secret has no key %q", key)
}

// Text returns the whole text of the current version of a secret, with the
// credentials and the region of the environment: for the functions of
// templates, which take no options.
func Text(version string, at awsaccess.Locator) func(ctx context.Context, name string) (string, error) {
	return func(ctx context.Context, name string) (string, error) {
		out, err := source{Config{Name: name, VersionStage: defaultStage}, version, at}.Read(ctx)
		if err != nil {
			return "", err
		}
		o := out.(Output)
		if o.SecretString.IsEmpty() {
			return o.SecretBinary.Reveal(), nil
		}
		return o.SecretString.Reveal(), nil
	}
}
