package awsaccess

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/smithy-go/middleware"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/poll"
)

// The limits of one request and of the questions that are answered at once or
// not at all.
const (
	requestTime  = 90 * time.Second
	metadataTime = 3 * time.Second
	backoffMax   = 20 * time.Second
	connections  = 128 // kept per host
)

// Open resolves the credentials and the region of c, which must be prepared.
// version is Ingot's, for the user agent. Unless skip_credential_validation is
// set it asks AWS once who the credentials belong to, so that wrong ones are
// found before anything is made; a local cloud, which at locates, is not
// asked. The session's credentials renew themselves where their source can.
func Open(ctx context.Context, c Config, version string, at Locator) (*Session, error) {
	s := &Session{opt: c, polling: pollingOf(c.Polling, environment)}
	var ep *Endpoint
	if at != nil {
		var err error
		if ep, err = at(ctx); err != nil {
			return nil, fmt.Errorf("local cloud: %w", err)
		}
	}
	options := []func(*middleware.Stack) error{awsmiddleware.AddUserAgentKeyValue("ingot", version)}
	if ep != nil {
		return s, s.openLocal(c, ep, options)
	}
	if err := s.openAWS(ctx, c, options); err != nil {
		return nil, Explain(ctx, nil, err)
	}
	if err := s.validate(ctx); err != nil {
		return nil, Explain(ctx, s, err)
	}
	return s, nil
}

// openLocal reads nothing of the environment: what is there is for AWS.
func (s *Session) openLocal(c Config, ep *Endpoint, options []func(*middleware.Stack) error) error {
	region := c.Region
	if region == "" {
		region = ep.Region
	}
	if region == "" {
		return noRegion()
	}
	s.local = true
	pool := httpClient(c)
	s.cfg = aws.Config{
		Region:       region,
		Credentials:  aws.NewCredentialsCache(credentials.NewStaticCredentialsProvider(ep.AccessKey, ep.SecretKey.Reveal(), "")),
		BaseEndpoint: aws.String(ep.URL),
		Retryer:      retryer(c.MaxRetries),
		APIOptions:   options,
	}
	s.pool(pool)
	return nil
}

func (s *Session) openAWS(ctx context.Context, c Config, options []func(*middleware.Stack) error) error {
	load := []func(*config.LoadOptions) error{
		config.WithHTTPClient(httpClient(c)),
		config.WithRetryer(retryer(c.MaxRetries)),
		config.WithAPIOptions(options),
		config.WithAssumeRoleCredentialOptions(profileMFA(c.MFACode)),
	}
	if c.Region != "" {
		load = append(load, config.WithRegion(c.Region))
	}
	if c.Profile != "" {
		load = append(load, config.WithSharedConfigProfile(c.Profile))
	}
	if c.SharedCredentialsFile != "" {
		name, err := expandHome(c.SharedCredentialsFile)
		if err != nil {
			return err
		}
		load = append(load, config.WithSharedCredentialsFiles([]string{name}))
	}
	if c.SkipMetadataAPICheck {
		load = append(load, config.WithEC2IMDSClientEnableState(imds.ClientDisabled))
	}
	switch {
	case c.VaultAWSEngine != nil:
		p, err := newVaultProvider(*c.VaultAWSEngine, environment)
		if err != nil {
			return err
		}
		load = append(load, config.WithCredentialsProvider(p))
	case c.AccessKey != "":
		load = append(load, config.WithCredentialsProvider(
			credentials.NewStaticCredentialsProvider(c.AccessKey, c.SecretKey.Reveal(), c.Token.Reveal())))
	}
	cfg, err := config.LoadDefaultConfig(ctx, load...)
	if err != nil {
		return err
	}
	cfg.RetryMaxAttempts = 0 // AWS_MAX_ATTEMPTS is of the waits here; max_retries decides
	s.cfg = cfg
	if s.cfg.Region == "" && !c.SkipMetadataAPICheck {
		s.cfg.Region = metadataRegion(ctx, cfg)
	}
	if s.cfg.Region == "" {
		return noRegion()
	}
	// LoadDefaultConfig hands back a client with AWS_CA_BUNDLE in it.
	if pool, ok := cfg.HTTPClient.(*awshttp.BuildableClient); ok {
		s.pool(pool)
	} else {
		s.bulk = cfg.HTTPClient
	}
	s.withMFA(c)
	s.withRole(c.AssumeRole)
	return nil
}

// pool makes all clients share one set of connections.
func (s *Session) pool(pool *awshttp.BuildableClient) {
	s.cfg.HTTPClient = whole{pool.Freeze()}
	s.bulk = whole{pool.WithTimeout(0).Freeze()}
}

func noRegion() error {
	return diag.WithHint(diag.Fieldf("region", "is not known"),
		"set the option region, or AWS_REGION in the environment, or a region in the profile")
}

// expandHome replaces a leading "~" with the user's home folder.
func expandHome(name string) (string, error) {
	if name != "~" && !strings.HasPrefix(name, "~/") {
		return name, nil
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(home, strings.TrimPrefix(name, "~")), nil
}

// metadataRegion asks the machine we are on, which on most is no instance.
func metadataRegion(ctx context.Context, cfg aws.Config) string {
	ctx, cancel := context.WithTimeout(ctx, metadataTime)
	defer cancel()
	out, err := imds.NewFromConfig(cfg).GetRegion(ctx, &imds.GetRegionInput{})
	if err != nil {
		return ""
	}
	return out.Region
}

// retryer sends a request again after growing pauses with jitter. The SDK's
// quota of retries is off: it gives up early exactly when AWS is slow, and our
// limiter already keeps the pace.
func retryer(retries int) func() aws.Retryer {
	if retries <= 0 {
		retries = defaultMaxRetries
	}
	return func() aws.Retryer {
		return retry.NewStandard(func(o *retry.StandardOptions) {
			o.MaxAttempts = retries + 1
			o.MaxBackoff = backoffMax
			o.RateLimiter = ratelimit.None
			o.Retryables = append(o.Retryables, retry.IsErrorRetryableFunc(func(err error) aws.Ternary {
				if IsThrottled(err) {
					return aws.TrueTernary
				}
				return aws.UnknownTernary
			}))
		})
	}
}

// transportOptions set what the SDK leaves small.
func transportOptions(c Config) func(*http.Transport) {
	return func(t *http.Transport) {
		t.MaxIdleConns = 4 * connections
		t.MaxIdleConnsPerHost = connections
		t.WriteBufferSize, t.ReadBufferSize = 64<<10, 64<<10
		if c.InsecureSkipTLSVerify {
			t.TLSClientConfig.InsecureSkipVerify = true //nolint:gosec // the option says so
		}
	}
}

// validate finds wrong credentials before anything is made. A user that Vault
// has just made is not known everywhere at once.
func (s *Session) validate(ctx context.Context) error {
	if s.opt.SkipCredentialValidation {
		return nil
	}
	limit := time.Duration(0)
	if s.opt.VaultAWSEngine != nil {
		limit = 30 * time.Second
	}
	start := time.Now()
	for {
		_, err := s.AccountID(ctx)
		if err == nil {
			return nil
		}
		elapsed := time.Since(start)
		if Code(err) != "InvalidClientTokenId" || elapsed >= limit {
			return err
		}
		if err := poll.Sleep(ctx, pause(elapsed, false)); err != nil {
			return err
		}
	}
}
