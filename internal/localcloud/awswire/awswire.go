// Package awswire is what the protocols of AWS have in common on the server's
// side: signatures, the query protocol's parameters, replies and errors.
package awswire

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"reflect"
)

// A Call is one authenticated request.
type Call struct {
	Service   string // from the credential scope: "ec2", "sts", …
	Region    string
	Action    string
	AccessKey string
	Account   string
	RequestID string
	Params    url.Values    // of a query call
	HTTP      *http.Request // its body has been read
	Body      []byte
}

// An Error is what a client is told.
type Error struct {
	Code    string
	Message string
	Status  int // 0: 400
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf returns an [Error] with HTTP status 400.
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// Statusf returns an [Error] with an HTTP status.
func Statusf(status int, code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...), Status: status}
}

// An Operation serves one action of a query protocol: it decodes the
// parameters and returns the reply, a pointer to a struct with xml tags.
type Operation func(ctx context.Context, c *Call) (any, error)

// Operations are a service's actions by name.
type Operations map[string]Operation

// Op makes an [Operation] of a typed function. The fields of I carry the
// parameter names as `q:"InstanceId"`; see [Decode].
func Op[I, O any](fn func(ctx context.Context, c *Call, in *I) (*O, error)) Operation {
	return func(ctx context.Context, c *Call) (any, error) {
		in := new(I)
		if err := Decode(c.Params, in); err != nil {
			return nil, err
		}
		out, err := fn(ctx, c, in)
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

// Merge joins sets of operations; a name in two of them is our mistake.
func Merge(sets ...Operations) Operations {
	out := Operations{}
	for _, s := range sets {
		for name, op := range s {
			if _, twice := out[name]; twice {
				panic("awswire: two operations named " + name)
			}
			out[name] = op
		}
	}
	return out
}

// NewRequestID returns a random request id in the form of a UUID.
func NewRequestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	s := hex.EncodeToString(b[:])
	return s[:8] + "-" + s[8:12] + "-" + s[12:16] + "-" + s[16:20] + "-" + s[20:]
}

// AsError is the [Error] in err's chain, or an InternalError that says what
// happened.
func AsError(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
		return e
	}
	return Statusf(http.StatusInternalServerError, "InternalError", "%v", err)
}

// isNil reports whether v is nil or holds a nil pointer.
func isNil(v any) bool {
	if v == nil {
		return true
	}
	r := reflect.ValueOf(v)
	return r.Kind() == reflect.Pointer && r.IsNil()
}
