package awsaccess

import (
	"encoding/json"
	"errors"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// defaultMaxRetries is how often a request is sent again.
const defaultMaxRetries = 10

// Config is the options that everything that calls AWS accepts, embedded in
// its own. Names, types and defaults are Packer's.
type Config struct {
	AccessKey             string        `hcl:"access_key"`
	SecretKey             secret.String `hcl:"secret_key"`
	Token                 secret.String `hcl:"token"`
	Profile               string        `hcl:"profile"`
	SharedCredentialsFile string        `hcl:"shared_credentials_file"`
	Region                string        `hcl:"region"`
	AssumeRole            *AssumeRole   `hcl:"assume_role,block"`
	MFACode               secret.String `hcl:"mfa_code"`
	VaultAWSEngine        *VaultEngine  `hcl:"vault_aws_engine,block"`

	CustomEndpointEC2           string `hcl:"custom_endpoint_ec2"`
	DecodeAuthorizationMessages bool   `hcl:"decode_authorization_messages"`
	InsecureSkipTLSVerify       bool   `hcl:"insecure_skip_tls_verify"`
	MaxRetries                  int    `hcl:"max_retries"` // 0: 10
	SkipMetadataAPICheck        bool   `hcl:"skip_metadata_api_check"`
	SkipCredentialValidation    bool   `hcl:"skip_credential_validation"`

	Polling *Polling `hcl:"aws_polling,block"`
}

// AssumeRole is the block assume_role
// (https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html).
type AssumeRole struct {
	RoleARN           string            `hcl:"role_arn"`
	DurationSeconds   int               `hcl:"duration_seconds"`
	ExternalID        string            `hcl:"external_id"`
	Policy            string            `hcl:"policy"`
	PolicyARNs        []string          `hcl:"policy_arns"`
	SessionName       string            `hcl:"session_name"`
	Tags              map[string]string `hcl:"tags"`
	TransitiveTagKeys []string          `hcl:"transitive_tag_keys"`
}

// VaultEngine is the block vault_aws_engine: credentials that Vault makes
// (https://developer.hashicorp.com/vault/api-docs/secret/aws). Vault's address
// and token come from the environment, as for Vault's own command line.
type VaultEngine struct {
	Name       string `hcl:"name"`
	EngineName string `hcl:"engine_name"`
	RoleARN    string `hcl:"role_arn"`
	TTL        string `hcl:"ttl"`
}

// Polling is the block aws_polling. Where both are zero the environment's
// AWS_POLL_DELAY_SECONDS and AWS_MAX_ATTEMPTS are taken.
type Polling struct {
	DelaySeconds int `hcl:"delay_seconds"`
	MaxAttempts  int `hcl:"max_attempts"`
}

var (
	regionName  = regexp.MustCompile(`^[a-z0-9-]+$`)
	sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
)

// Prepare checks the options and sets their defaults. It uses no network and
// reads no file. The error joins a [*diag.FieldError] for every fault. It may
// be called twice.
func (c *Config) Prepare() error {
	var errs []error
	keys := []string{"access_key", "secret_key"}
	switch {
	case c.AccessKey != "" && c.SecretKey.IsEmpty():
		errs = append(errs, diag.Fieldsf(keys, "needs secret_key as well"))
	case c.AccessKey == "" && !c.SecretKey.IsEmpty():
		errs = append(errs, diag.Fieldsf([]string{keys[1], keys[0]}, "needs access_key as well"))
	case c.AccessKey == "" && !c.Token.IsEmpty():
		errs = append(errs, diag.Fieldsf([]string{"token", "access_key"}, "needs access_key and secret_key as well"))
	}
	if c.Region != "" && !regionName.MatchString(c.Region) {
		errs = append(errs, diag.Fieldf("region", "%q is not the name of a region, such as us-east-1", c.Region))
	}
	if c.MaxRetries < 0 {
		errs = append(errs, diag.Fieldf("max_retries", "must not be negative"))
	}
	if c.MaxRetries == 0 {
		c.MaxRetries = defaultMaxRetries
	}
	errs = append(errs, c.prepareEndpoint(), c.AssumeRole.check(), c.VaultAWSEngine.prepare(c))
	if p := c.Polling; p != nil {
		if p.DelaySeconds < 0 {
			errs = append(errs, diag.Fieldf("aws_polling.delay_seconds", "must not be negative"))
		}
		if p.MaxAttempts < 0 {
			errs = append(errs, diag.Fieldf("aws_polling.max_attempts", "must not be negative"))
		}
	}
	return errors.Join(errs...)
}

func (c *Config) prepareEndpoint() error {
	const opt = "custom_endpoint_ec2"
	if c.CustomEndpointEC2 == "" {
		return nil
	}
	if !strings.Contains(c.CustomEndpointEC2, "://") {
		c.CustomEndpointEC2 = "https://" + c.CustomEndpointEC2
	}
	u, err := url.Parse(c.CustomEndpointEC2)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		return diag.Fieldf(opt, "is not an http or https URL")
	}
	return nil
}

func (a *AssumeRole) check() error {
	if a == nil {
		return nil
	}
	var errs []error
	field := func(name, format string, args ...any) {
		errs = append(errs, diag.Fieldf("assume_role."+name, format, args...))
	}
	switch {
	case a.RoleARN == "":
		field("role_arn", "must be set")
	case !isARN(a.RoleARN):
		field("role_arn", "%q is not an ARN, such as arn:aws:iam::123456789012:role/bake", a.RoleARN)
	}
	if d := a.DurationSeconds; d != 0 && (d < 900 || d > 43200) {
		field("duration_seconds", "%d is not between 900 and 43200", d)
	}
	if a.Policy != "" && !json.Valid([]byte(a.Policy)) {
		field("policy", "is not JSON")
	}
	for _, p := range a.PolicyARNs {
		if !isARN(p) {
			field("policy_arns", "%q is not an ARN", p)
		}
	}
	if a.SessionName != "" && !sessionName.MatchString(a.SessionName) {
		field("session_name", "%q is not 2 to 64 letters, digits and _+=,.@-", a.SessionName)
	}
	for _, k := range a.TransitiveTagKeys {
		if _, ok := a.Tags[k]; !ok {
			field("transitive_tag_keys", "%q is not a key of tags", k)
		}
	}
	if len(a.Tags) > 50 {
		field("tags", "there are %d tags; a session has at most 50", len(a.Tags))
	}
	return errors.Join(errs...)
}

func isARN(s string) bool { return strings.HasPrefix(s, "arn:") && strings.Count(s, ":") >= 5 }

func (v *VaultEngine) prepare(c *Config) error {
	if v == nil {
		return nil
	}
	var errs []error
	if v.Name == "" {
		errs = append(errs, diag.Fieldf("vault_aws_engine.name", "must be set: the role in Vault"))
	}
	if v.EngineName == "" {
		v.EngineName = "aws"
	}
	others := []string{c.AccessKey, c.Profile, c.SharedCredentialsFile}
	if slices.ContainsFunc(others, func(s string) bool { return s != "" }) || c.AssumeRole != nil {
		errs = append(errs, diag.Fieldsf(
			[]string{"vault_aws_engine", "access_key", "profile", "shared_credentials_file", "assume_role"},
			"cannot be used together with access_key, profile, shared_credentials_file or assume_role: choose one source of credentials"))
	}
	return errors.Join(errs...)
}
