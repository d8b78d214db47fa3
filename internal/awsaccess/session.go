package awsaccess

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go/middleware"

	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/secret"
)

// An Endpoint is a local cloud: one address that speaks all the APIs, and the
// one key pair it takes.
type Endpoint struct {
	URL       string // "http://127.0.0.1:5000"
	Region    string // where the template names none
	AccessKey string
	SecretKey secret.String
}

// A Locator tells where calls go instead of to AWS. A nil Locator, and a nil
// Endpoint, mean AWS itself.
type Locator func(ctx context.Context) (*Endpoint, error)

// A Session makes clients with the same credentials. Its methods may be called
// from any goroutine.
type Session struct {
	cfg     aws.Config
	opt     Config
	polling polling
	local   bool
	bulk    aws.HTTPClient // without a limit on a whole request

	mu       sync.Mutex
	limiters map[string]*limiter
	ec2      map[string]*ec2.Client
	ssm      map[string]*ssm.Client
	ebs      map[string]*ebs.Client
	secrets  map[string]*secretsmanager.Client
	s3       map[string]*s3.Client
	iam      *iam.Client
	sts      *sts.Client
	account  string
}

// Region is where the session works unless told otherwise.
func (s *Session) Region() string { return s.cfg.Region }

// Local reports whether the calls go to a local cloud.
func (s *Session) Local() bool { return s.local }

// Partition is the part of AWS the session's region is in, as in ARNs.
func (s *Session) Partition() string {
	for _, p := range []struct{ prefix, partition string }{
		{"cn-", "aws-cn"},
		{"us-gov-", "aws-us-gov"},
		{"us-isob-", "aws-iso-b"},
		{"us-isof-", "aws-iso-f"},
		{"us-iso-", "aws-iso"},
		{"eu-isoe-", "aws-iso-e"},
		{"eusc-", "aws-eusc"},
	} {
		if strings.HasPrefix(s.cfg.Region, p.prefix) {
			return p.partition
		}
	}
	return "aws"
}

// limited returns the option that all clients of a region share.
func (s *Session) limited(region string) []func(*middleware.Stack) error {
	if s.local {
		return nil
	}
	if s.limiters[region] == nil {
		if s.limiters == nil {
			s.limiters = map[string]*limiter{}
		}
		s.limiters[region] = newLimiter()
	}
	return []func(*middleware.Stack) error{s.limiters[region].add}
}

// client returns the client of a region, made once.
func client[C any](s *Session, all *map[string]*C, region string, build func(region string) *C) *C {
	if region == "" {
		region = s.cfg.Region
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if c := (*all)[region]; c != nil {
		return c
	}
	if *all == nil {
		*all = map[string]*C{}
	}
	c := build(region)
	(*all)[region] = c
	return c
}

// EC2 returns the client of a region, "" for the session's own. All calls of
// the session in a region share one rate limiter. Calls that make a thing and
// take no client token are not sent again when their outcome is not known: see
// [UncertainError].
func (s *Session) EC2(region string) *ec2.Client {
	return client(s, &s.ec2, region, func(region string) *ec2.Client {
		limit := s.limited(region)
		return ec2.NewFromConfig(s.cfg, func(o *ec2.Options) {
			o.Region = region
			o.APIOptions = append(o.APIOptions, limit...)
			o.APIOptions = append(o.APIOptions, guardUnsafe)
			if s.local {
				o.BaseEndpoint = s.cfg.BaseEndpoint
			} else if s.opt.CustomEndpointEC2 != "" && region == s.cfg.Region {
				o.BaseEndpoint = &s.opt.CustomEndpointEC2
			}
		})
	})
}

// SSM returns the client of a region, "" for the session's own.
func (s *Session) SSM(region string) *ssm.Client {
	return client(s, &s.ssm, region, func(region string) *ssm.Client {
		return ssm.NewFromConfig(s.cfg, func(o *ssm.Options) {
			o.Region = region
			if s.local {
				o.BaseEndpoint = s.cfg.BaseEndpoint
			}
		})
	})
}

// EBS returns the client of the EBS direct APIs of a region, "" for the
// session's own. It sends no request twice: whoever moves blocks has a budget
// of its own.
func (s *Session) EBS(region string) *ebs.Client {
	return client(s, &s.ebs, region, func(region string) *ebs.Client {
		return ebs.NewFromConfig(s.cfg, func(o *ebs.Options) {
			o.Region = region
			o.Retryer = aws.NopRetryer{}
			if s.local {
				o.BaseEndpoint = s.cfg.BaseEndpoint
			}
		})
	})
}

// SecretsManager returns the client of a region, "" for the session's own.
func (s *Session) SecretsManager(region string) *secretsmanager.Client {
	return client(s, &s.secrets, region, func(region string) *secretsmanager.Client {
		return secretsmanager.NewFromConfig(s.cfg, func(o *secretsmanager.Options) {
			o.Region = region
			if s.local {
				o.BaseEndpoint = s.cfg.BaseEndpoint
			}
		})
	})
}

// S3 returns the client of a region, "" for the session's own. Where the
// endpoint is not AWS's, buckets are named in the path.
func (s *Session) S3(region string) *s3.Client {
	return client(s, &s.s3, region, func(region string) *s3.Client {
		return s3.NewFromConfig(s.cfg, func(o *s3.Options) {
			o.Region = region
			o.HTTPClient = s.bulk
			if s.local {
				o.BaseEndpoint = s.cfg.BaseEndpoint
			}
			o.UsePathStyle = o.BaseEndpoint != nil
		})
	})
}

// IAM returns the client of IAM, which has no regions.
func (s *Session) IAM() *iam.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.iam == nil {
		s.iam = iam.NewFromConfig(s.cfg, func(o *iam.Options) {
			if s.local {
				o.BaseEndpoint = s.cfg.BaseEndpoint
			}
		})
	}
	return s.iam
}

// STS returns the client of the security token service in the session's
// region.
func (s *Session) STS() *sts.Client {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sts == nil {
		s.sts = sts.NewFromConfig(s.cfg, func(o *sts.Options) {
			if s.local {
				o.BaseEndpoint = s.cfg.BaseEndpoint
			}
		})
	}
	return s.sts
}

// AccountID returns the number of the account the credentials belong to. It is
// asked for once.
func (s *Session) AccountID(ctx context.Context) (string, error) {
	s.mu.Lock()
	account := s.account
	s.mu.Unlock()
	if account != "" {
		return account, nil
	}
	out, err := s.STS().GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", fmt.Errorf("who the credentials belong to: %w", err)
	}
	if aws.ToString(out.Account) == "" {
		return "", errors.New("who the credentials belong to: the answer names no account")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.account = aws.ToString(out.Account)
	return s.account, nil
}

// Once makes a thing whose API takes no client token. create asks for it;
// where its outcome is not known, find is asked for a few seconds whether the
// thing is there (it may take that long to show), and only when it is not,
// create is called again. An error that says that the thing exists is no
// reason to give up once an attempt was uncertain. Both are called on the
// caller's goroutine.
func (s *Session) Once(ctx context.Context, find func(context.Context) (bool, error), create func(context.Context) error) error {
	uncertain := false
	for n := 0; ; n++ {
		err := create(ctx)
		if err == nil || ctx.Err() != nil {
			return err
		}
		again := IsUncertain(err) || IsTemporary(err)
		uncertain = uncertain || IsUncertain(err)
		if !again && !uncertain {
			return err
		}
		found, ferr := s.look(ctx, find)
		if ferr != nil {
			return errors.Join(err, ferr)
		}
		if found {
			return nil
		}
		if !again || n >= s.opt.MaxRetries {
			return err
		}
	}
}

// look asks find until it says yes or the time in which a new thing shows is
// over.
func (s *Session) look(ctx context.Context, find func(context.Context) (bool, error)) (bool, error) {
	start, visible := time.Now(), 5*time.Second
	if s.local {
		visible = time.Second
	}
	for {
		found, err := find(ctx)
		if found || err != nil {
			return found, err
		}
		elapsed := time.Since(start)
		if elapsed >= visible {
			return false, nil
		}
		if err := poll.Sleep(ctx, pause(elapsed, s.local)); err != nil {
			return false, err
		}
	}
}

// httpClient is the connection pool of a session. Many requests go to one host
// at the same time, and a new connection costs more than the request.
func httpClient(c Config) *awshttp.BuildableClient {
	return awshttp.NewBuildableClient().WithTransportOptions(transportOptions(c)).WithTimeout(requestTime)
}
