package awsaccess

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"regexp"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/ingot-build/ingot/internal/diag"
)

// A CallError is an answer of AWS as a person reads it. It unwraps to the
// SDK's error.
type CallError struct {
	Operation string // "RunInstances"
	Code      string // "UnauthorizedOperation"
	Message   string
	RequestID string
	Decoded   string // what an encoded authorization message says, when asked for
	err       error
}

func (e *CallError) Error() string {
	s := e.Code + ": " + e.Message
	if e.Operation != "" {
		s = e.Operation + ": " + s
	}
	if e.RequestID != "" {
		s += " (request id " + e.RequestID + ")"
	}
	if e.Decoded != "" {
		s += "\nauthorization: " + e.Decoded
	}
	return s
}

func (e *CallError) Unwrap() error { return e.err }

// encodedMessage is the tail of a refusal that STS can decode.
var encodedMessage = regexp.MustCompile(`(?i)encoded authorization failure message: ([\w-]{16,})`)

// hints say what to do, by the API's code.
var hints = map[string]string{
	"ExpiredToken":                "the credentials have expired: log in again, or take a longer session",
	"ExpiredTokenException":       "the credentials have expired: log in again, or take a longer session",
	"RequestExpired":              "this machine's clock is probably wrong: set it by NTP",
	"RequestTimeTooSkewed":        "this machine's clock is wrong: set it by NTP",
	"InvalidClientTokenId":        "the access key does not exist (any more): check access_key, AWS_ACCESS_KEY_ID and the profile; temporary keys need their token",
	"UnrecognizedClientException": "the access key does not exist (any more), or the region is not enabled for the account",
	"SignatureDoesNotMatch":       "the secret key does not belong to the access key, or this machine's clock is wrong",
	"AuthFailure":                 "AWS does not accept the credentials in this region: check them, the machine's clock, and that the region is enabled for the account",
	"OptInRequired":               "the region or the service is not enabled for the account",
	"PendingVerification":         "AWS is still verifying the account for this region: try again in some hours",
	"UnauthorizedOperation":       "the credentials lack a permission",
	"AccessDenied":                "the credentials lack a permission",
	"AccessDeniedException":       "the credentials lack a permission",
}

// Explain returns err as a person needs it: code, message and request id once,
// with a hint where there is a usual remedy. With decode_authorization_messages
// a refusal's encoded message is decoded by STS. s may be nil. What is
// explained already, and what is no answer of AWS and has no remedy, is
// returned as it is.
func Explain(ctx context.Context, s *Session, err error) error {
	var done *CallError
	if err == nil || errors.As(err, &done) {
		return err
	}
	var ae smithy.APIError
	if !errors.As(err, &ae) {
		return explainLocal(err)
	}
	e := &CallError{Code: trimCode(ae.ErrorCode()), Message: ae.ErrorMessage(), RequestID: requestID(err), err: err}
	var op *smithy.OperationError
	if errors.As(err, &op) {
		e.Operation = op.OperationName
	}
	hint := hints[e.Code]
	if m := encodedMessage.FindStringSubmatch(e.Message); m != nil {
		e.Message = strings.TrimSpace(strings.Replace(e.Message, m[0], "", 1))
		switch {
		case s != nil && s.opt.DecodeAuthorizationMessages:
			text, derr := s.decode(ctx, m[1])
			if derr != nil {
				text = fmt.Sprintf("could not be decoded (%s)", Code(derr))
			}
			e.Decoded = text
		default:
			hint += "; decode_authorization_messages = true shows which"
		}
	}
	if hint == "" || diag.Hint(err) != "" {
		return e
	}
	return diag.WithHint(e, "%s", hint)
}

// decode asks STS what an encoded message says.
func (s *Session) decode(ctx context.Context, text string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 20*time.Second)
	defer cancel()
	out, err := s.STS().DecodeAuthorizationMessage(ctx, &sts.DecodeAuthorizationMessageInput{EncodedMessage: &text})
	if err != nil {
		return "", err
	}
	var m struct {
		Allowed      bool `json:"allowed"`
		ExplicitDeny bool `json:"explicitDeny"`
		Context      struct {
			Principal struct {
				ARN string `json:"arn"`
			} `json:"principal"`
			Action   string `json:"action"`
			Resource string `json:"resource"`
		} `json:"context"`
	}
	if json.Unmarshal([]byte(aws.ToString(out.DecodedMessage)), &m) != nil || m.Context.Action == "" {
		return aws.ToString(out.DecodedMessage), nil
	}
	why := "no policy allows it"
	if m.ExplicitDeny {
		why = "a policy denies it"
	}
	return fmt.Sprintf("%s may not %s on %s: %s", m.Context.Principal.ARN, m.Context.Action, m.Context.Resource, why), nil
}

// explainLocal adds the remedy to what fails on our side of the wire.
func explainLocal(err error) error {
	if diag.Hint(err) != "" {
		return err
	}
	var (
		dns     *net.DNSError
		profile config.SharedConfigProfileNotExistError
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return diag.WithHint(err, "there is no %s: check the spelling of the region, and the network", dns.Name)
	case errors.As(err, &profile):
		return diag.WithHint(err, "check profile and AWS_PROFILE against ~/.aws/config and ~/.aws/credentials")
	case isNoCredentials(err):
		return diag.WithHint(err, "no credentials were found: set access_key and secret_key, AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile; or run on an instance with a role")
	}
	return err
}

// isNoCredentials: the last source the SDK asks is the instance metadata, and
// its error is all that is left of the others.
func isNoCredentials(err error) bool {
	text := err.Error()
	return strings.Contains(text, "get identity: get credentials") || strings.Contains(text, "failed to refresh cached credentials")
}
