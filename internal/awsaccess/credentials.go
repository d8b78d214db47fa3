package awsaccess

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	ststypes "github.com/aws/aws-sdk-go-v2/service/sts/types"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// renewBefore is how long before their end credentials are renewed: a request
// that is being sent again must not outlive them.
const renewBefore = 5 * time.Minute

// errNoCode asks for the option that is missing.
var errNoCode = diag.WithHint(errors.New("the profile's role asks for a one-time code"),
	"set mfa_code to the code your device shows")

// profileMFA answers for a role of the profile that asks for a second factor.
func profileMFA(code secret.String) func(*stscreds.AssumeRoleOptions) {
	var mu sync.Mutex
	used := false
	return func(o *stscreds.AssumeRoleOptions) {
		o.TokenProvider = func() (string, error) {
			mu.Lock()
			defer mu.Unlock()
			switch {
			case code.IsEmpty():
				return "", errNoCode
			case used:
				return "", errCodeUsed
			}
			used = true
			return code.Reveal(), nil
		}
	}
}

var errCodeUsed = diag.WithHint(errors.New("the credentials that the one-time code gave have expired"),
	"a code works once: give the role a longer duration_seconds, or start again with a new code")

// withMFA turns long-lived keys and a one-time code into session credentials
// that carry the second factor. They last long enough for a role taken with
// them to be renewed. Where the profile names a role and a device, the SDK has
// used the code already.
func (s *Session) withMFA(c Config) {
	if c.MFACode.IsEmpty() {
		return
	}
	serial := ""
	for _, src := range s.cfg.ConfigSources {
		if sc, ok := src.(config.SharedConfig); ok {
			if sc.RoleARN != "" && sc.MFASerial != "" && c.AccessKey == "" {
				return
			}
			serial = sc.MFASerial
		}
	}
	s.cfg.Credentials = cache(&mfaProvider{cfg: s.cfg.Copy(), serial: serial, code: c.MFACode})
}

// withRole makes the session act as the role.
func (s *Session) withRole(a *AssumeRole) {
	if a == nil {
		return
	}
	p := stscreds.NewAssumeRoleProvider(sts.NewFromConfig(s.cfg.Copy()), a.RoleARN, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = a.SessionName
		if o.RoleSessionName == "" {
			o.RoleSessionName = fmt.Sprintf("ingot-%d", time.Now().Unix())
		}
		if a.DurationSeconds > 0 {
			o.Duration = time.Duration(a.DurationSeconds) * time.Second
		}
		if a.ExternalID != "" {
			o.ExternalID = &a.ExternalID
		}
		if a.Policy != "" {
			o.Policy = &a.Policy
		}
		for _, p := range a.PolicyARNs {
			o.PolicyARNs = append(o.PolicyARNs, ststypes.PolicyDescriptorType{Arn: &p})
		}
		for k, v := range a.Tags {
			o.Tags = append(o.Tags, ststypes.Tag{Key: &k, Value: &v})
		}
		o.TransitiveTagKeys = a.TransitiveTagKeys
	})
	s.cfg.Credentials = cache(p)
}

func cache(p aws.CredentialsProvider) *aws.CredentialsCache {
	return aws.NewCredentialsCache(p, func(o *aws.CredentialsCacheOptions) {
		o.ExpiryWindow, o.ExpiryWindowJitterFrac = renewBefore, 0.5
	})
}

// An mfaProvider spends a one-time code on a session
// (https://docs.aws.amazon.com/STS/latest/APIReference/API_GetSessionToken.html).
type mfaProvider struct {
	cfg    aws.Config
	serial string // of the device, "" to look for it
	code   secret.String

	mu   sync.Mutex
	used bool
}

// Retrieve implements [aws.CredentialsProvider].
func (p *mfaProvider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.used {
		return aws.Credentials{}, errCodeUsed
	}
	client := sts.NewFromConfig(p.cfg)
	serial, err := p.device(ctx, client)
	if err != nil {
		return aws.Credentials{}, err
	}
	out, err := client.GetSessionToken(ctx, &sts.GetSessionTokenInput{SerialNumber: &serial, TokenCode: aws.String(p.code.Reveal())})
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("session with the one-time code of %s: %w", serial, err)
	}
	if out.Credentials == nil {
		return aws.Credentials{}, errors.New("session with a one-time code: the answer holds no credentials")
	}
	p.used = true
	return aws.Credentials{
		AccessKeyID: aws.ToString(out.Credentials.AccessKeyId), SecretAccessKey: aws.ToString(out.Credentials.SecretAccessKey),
		SessionToken: aws.ToString(out.Credentials.SessionToken), Source: "mfa_code",
		CanExpire: true, Expires: aws.ToTime(out.Credentials.Expiration),
	}, nil
}

// device finds the user's device: the profile names it, IAM lists it, or it is
// the virtual one that bears the user's name.
func (p *mfaProvider) device(ctx context.Context, client *sts.Client) (string, error) {
	if p.serial != "" {
		return p.serial, nil
	}
	if out, err := iam.NewFromConfig(p.cfg).ListMFADevices(ctx, &iam.ListMFADevicesInput{}); err == nil && len(out.MFADevices) > 0 {
		return aws.ToString(out.MFADevices[0].SerialNumber), nil
	}
	who, err := client.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	if err != nil {
		return "", err
	}
	arn := aws.ToString(who.Arn)
	head, path, ok := strings.Cut(arn, ":user/")
	if !ok {
		return "", diag.WithHint(fmt.Errorf("mfa_code: %s is not a user, which alone has a device", arn),
			"name the device as mfa_serial in the profile")
	}
	return head + ":mfa/" + path[strings.LastIndex(path, "/")+1:], nil
}
