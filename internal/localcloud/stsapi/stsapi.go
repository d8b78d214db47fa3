// Package stsapi speaks the protocol of the Security Token Service.
// https://docs.aws.amazon.com/STS/latest/APIReference/
package stsapi

import (
	"context"
	"encoding/base64"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

const namespace = "https://sts.amazonaws.com/doc/2011-06-15/"

// Handler serves authenticated calls.
func Handler(c *localcloud.Cloud) func(http.ResponseWriter, *awswire.Call) {
	a := api{c}
	return awswire.QueryHandler(awswire.Operations{
		"GetCallerIdentity":          awswire.Op(a.identity),
		"AssumeRole":                 awswire.Op(a.assume),
		"GetSessionToken":            awswire.Op(a.session),
		"DecodeAuthorizationMessage": awswire.Op(a.decode),
	}, namespace, localcloud.Refusal)
}

type api struct{ cloud *localcloud.Cloud }

type identity struct {
	Account string
	Arn     string
	UserId  string
}

func (a api) identity(ctx context.Context, c *awswire.Call, _ *struct{}) (*identity, error) {
	var who localcloud.Credential
	err := a.cloud.View(ctx, "", func(t *localcloud.Tx) (err error) {
		who, _, err = localcloud.Get[localcloud.Credential](t, c.AccessKey)
		return err
	})
	return &identity{Account: c.Account, Arn: who.ARN, UserId: who.UserID}, err
}

type credentials struct {
	AccessKeyId     string
	SecretAccessKey string
	SessionToken    string
	Expiration      string
}

// new makes a temporary credential; those that have ended are dropped.
func (a api) new(ctx context.Context, arn, user string, life int) (credentials, error) {
	var cred localcloud.Credential
	err := a.cloud.Update(ctx, "", func(t *localcloud.Tx) error {
		all, err := localcloud.All[localcloud.Credential](t)
		if err != nil {
			return err
		}
		for _, k := range all {
			if !k.Expires.IsZero() && t.Now.After(k.Expires) {
				if err := localcloud.Delete[localcloud.Credential](t, k.AccessKey); err != nil {
					return err
				}
			}
		}
		cred = localcloud.NewSession(arn, user, t.Now.Add(time.Duration(life)*time.Second))
		return localcloud.Put(t, cred)
	})
	return credentials{cred.AccessKey, cred.Secret, cred.Token, awswire.Time(cred.Expires)}, err
}

type assumeInput struct {
	RoleARN    string `q:"RoleArn,required"`
	Session    string `q:"RoleSessionName,required"`
	Duration   *int   `q:"DurationSeconds"`
	ExternalID string `q:"ExternalId"`
	Policy     string `q:"Policy"`
	PolicyARNs []struct {
		ARN string `q:"arn"`
	} `q:"PolicyArns,member"`
	Serial   string `q:"SerialNumber"`
	Code     string `q:"TokenCode"`
	Identity string `q:"SourceIdentity"`
	Tags     []struct {
		Key   string `q:"Key,required"`
		Value string `q:"Value"`
	} `q:"Tags,member"`
	Transitive []string `q:"TransitiveTagKeys,member"`
}

type assumeOutput struct {
	Credentials     credentials
	AssumedRoleUser struct {
		Arn           string
		AssumedRoleId string
	}
	PackedPolicySize int
	SourceIdentity   string `xml:",omitempty"`
}

var (
	roleARN     = regexp.MustCompile(`^arn:aws[a-z-]*:iam::(\d{12}):role/([\w+=,.@/-]+)$`)
	sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)
)

// assume lets any role of this account be assumed, and one that exists in IAM
// or not: nothing here is guarded by it.
func (a api) assume(ctx context.Context, _ *awswire.Call, in *assumeInput) (*assumeOutput, error) {
	m := roleARN.FindStringSubmatch(in.RoleARN)
	if m == nil {
		return nil, awswire.Errorf("ValidationError", "%s is invalid", in.RoleARN)
	}
	if m[1] != localcloud.AccountID {
		return nil, awswire.Statusf(http.StatusForbidden, "AccessDenied", "The role %s is of another account: the local cloud's is %s", in.RoleARN, localcloud.AccountID)
	}
	if !sessionName.MatchString(in.Session) {
		return nil, awswire.Errorf("ValidationError", "Value '%s' at 'roleSessionName' failed to satisfy constraint: 2 to 64 letters, digits and _+=,.@-", in.Session)
	}
	life, err := lifetime(in.Duration, 3600, 900, 12*3600)
	if err != nil {
		return nil, err
	}
	name := m[2][strings.LastIndex(m[2], "/")+1:]
	arn := "arn:aws:sts::" + localcloud.AccountID + ":assumed-role/" + name + "/" + in.Session
	user := "AROALOCALCLOUDOFINGOT:" + in.Session
	out := &assumeOutput{SourceIdentity: in.Identity}
	out.AssumedRoleUser.Arn, out.AssumedRoleUser.AssumedRoleId = arn, user
	out.Credentials, err = a.new(ctx, arn, user, life)
	return out, err
}

func lifetime(asked *int, otherwise, least, most int) (int, error) {
	if asked == nil {
		return otherwise, nil
	}
	if *asked < least || *asked > most {
		return 0, awswire.Errorf("ValidationError", "Value '%d' at 'durationSeconds' failed to satisfy constraint: it must be between %d and %d", *asked, least, most)
	}
	return *asked, nil
}

type sessionInput struct {
	Duration *int   `q:"DurationSeconds"`
	Serial   string `q:"SerialNumber"`
	Code     string `q:"TokenCode"`
}

type sessionOutput struct{ Credentials credentials }

func (a api) session(ctx context.Context, c *awswire.Call, in *sessionInput) (*sessionOutput, error) {
	life, err := lifetime(in.Duration, 12*3600, 900, 36*3600)
	if err != nil {
		return nil, err
	}
	who, err := a.identity(ctx, c, nil)
	if err != nil {
		return nil, err
	}
	cred, err := a.new(ctx, who.Arn, who.UserId, life)
	return &sessionOutput{cred}, err
}

type decodeInput struct {
	Message string `q:"EncodedMessage,required"`
}

type decodeOutput struct{ DecodedMessage string }

// decode reads messages in the form the local cloud writes them: base64.
func (a api) decode(_ context.Context, _ *awswire.Call, in *decodeInput) (*decodeOutput, error) {
	text, err := base64.RawURLEncoding.DecodeString(in.Message)
	if err != nil {
		return nil, awswire.Errorf("InvalidAuthorizationMessageException", "The message cannot be decoded: it is not of this cloud")
	}
	return &decodeOutput{string(text)}, nil
}
