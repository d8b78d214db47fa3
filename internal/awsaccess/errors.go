package awsaccess

import (
	"context"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"

	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// throttles are the codes of a request that was not carried out because there
// are too many, besides those the SDK knows.
var throttles = []string{
	"RequestThrottled", "RequestLimitExceeded", "Client.RequestLimitExceeded", "Throttled",
	"ConcurrentLimitExceededException", "EC2ThrottledException", "SnapshotCreationPerVolumeRateExceeded",
}

// Code returns the API's code of the error, such as
// "InvalidAMIID.NotFound", or "" when the API did not answer with one.
func Code(err error) string {
	var ae smithy.APIError
	if errors.As(err, &ae) {
		return ae.ErrorCode()
	}
	return ""
}

// IsThrottled reports whether the API refused the request because there are
// too many: it was not carried out.
func IsThrottled(err error) bool {
	code := Code(err)
	if code == "" {
		return false
	}
	if _, ok := retry.DefaultThrottleErrorCodes[code]; ok {
		return code != "LimitExceededException" || status(err) == http.StatusTooManyRequests
	}
	for _, c := range throttles {
		if code == c {
			return true
		}
	}
	return status(err) == http.StatusTooManyRequests
}

// IsTemporary reports whether the same request may well succeed later:
// throttling, a fault of the service, a fault of the network. Refused
// credentials are not temporary, nor is the end of a context.
func IsTemporary(err error) bool {
	switch {
	case err == nil, errors.Is(err, context.Canceled):
		return false
	case IsThrottled(err):
		return true
	}
	if st := status(err); st != 0 {
		return st >= 500 || st == http.StatusRequestTimeout || Code(err) == "RequestTimeout"
	}
	switch Code(err) {
	case "":
		return isNetwork(err)
	case "InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable", "RequestTimeout":
		return true
	}
	return false
}

// isNetwork reports whether err is of a connection and may pass.
func isNetwork(err error) bool {
	var (
		dns  *net.DNSError
		cert *x509.CertificateInvalidError
		host x509.HostnameError
		ca   x509.UnknownAuthorityError
		ne   net.Error
		send *smithyhttp.RequestSendError
	)
	switch {
	case errors.As(err, &cert), errors.As(err, &host), errors.As(err, &ca):
		return false
	case errors.As(err, &dns):
		return !dns.IsNotFound
	case errors.As(err, &send), errors.As(err, &ne):
		return true
	}
	return errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// status is the code of the HTTP answer, 0 when there was none.
func status(err error) int {
	var re *smithyhttp.ResponseError
	if errors.As(err, &re) && re.Response != nil {
		return re.HTTPStatusCode()
	}
	return 0
}

// requestID is what AWS's support asks for.
func requestID(err error) string {
	var re interface{ ServiceRequestID() string }
	if errors.As(err, &re) {
		return re.ServiceRequestID()
	}
	return ""
}

// An UncertainError is a request of which nobody knows whether it was carried
// out, and which must not be sent again blindly: it would make a second thing.
type UncertainError struct{ Err error }

func (e *UncertainError) Error() string { return e.Err.Error() }
func (e *UncertainError) Unwrap() error { return e.Err }

// RetryableError keeps the SDK from sending the request again.
func (e *UncertainError) RetryableError() bool { return false }

// IsUncertain reports whether the request may have been carried out although
// it failed. The caller looks for what it asked for before asking again; see
// [Session.Once].
func IsUncertain(err error) bool {
	var u *UncertainError
	return errors.As(err, &u)
}

// unsafe are the calls that make a thing each time, without a client token.
var unsafe = map[string]bool{
	"CreateImage": true, "RegisterImage": true, "CreateSnapshot": true, "CreateSnapshots": true,
	"CopySnapshot": true, "CreateKeyPair": true,
}

// guardUnsafe turns the failures of [unsafe] calls after which the effect is
// not known into [*UncertainError]. It sits next to the wire: what fails
// before is not sent.
func guardUnsafe(stack *middleware.Stack) error {
	return stack.Deserialize.Add(middleware.DeserializeMiddlewareFunc("IngotUncertain", func(
		ctx context.Context, in middleware.DeserializeInput, next middleware.DeserializeHandler,
	) (middleware.DeserializeOutput, middleware.Metadata, error) {
		out, meta, err := next.HandleDeserialize(ctx, in)
		if err != nil && unsafe[awsmiddleware.GetOperationName(ctx)] && maybeDone(err) {
			err = &UncertainError{err}
		}
		return out, meta, err
	}), middleware.Before)
}

func maybeDone(err error) bool {
	if IsThrottled(err) {
		return false
	}
	if st := status(err); st != 0 && st < 500 && Code(err) != "" {
		return false // refused, with a reason
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return false // never sent
	}
	return true
}

// trimCode drops the part of an EC2 code that only says who is to blame.
func trimCode(code string) string {
	return strings.TrimPrefix(strings.TrimPrefix(code, "Client."), "Server.")
}
