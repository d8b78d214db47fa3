package awswire

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
)

// JSONOp makes an [Operation] of a typed function of a JSON protocol: the
// fields of I carry json tags. A member that I does not have is refused.
func JSONOp[I, O any](fn func(ctx context.Context, c *Call, in *I) (*O, error)) Operation {
	return func(ctx context.Context, c *Call) (any, error) {
		in := new(I)
		if err := DecodeJSON(c.Body, in); err != nil {
			return nil, err
		}
		out, err := fn(ctx, c, in)
		if err != nil {
			return nil, err
		}
		return out, nil
	}
}

// DecodeJSON reads a request's body; an empty one is an empty object.
func DecodeJSON(body []byte, dst any) error {
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	err := d.Decode(dst)
	if err == nil {
		_, err = d.Token()
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return Errorf("ValidationException", "The request's body is not what this action takes: %v", err)
	}
	return nil
}

// Target is the action that the header X-Amz-Target names.
func Target(r *http.Request) string {
	_, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	return action
}

// WriteJSON writes the reply of a JSON protocol.
func WriteJSON(w http.ResponseWriter, c *Call, status int, out any) error {
	body, err := json.Marshal(out)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	w.Header().Set("X-Amzn-Requestid", c.RequestID)
	w.WriteHeader(status)
	_, err = w.Write(body)
	return err
}

// WriteJSONError writes an error in the form of a JSON protocol.
func WriteJSONError(w http.ResponseWriter, requestID string, err error) {
	e := AsError(err)
	body, _ := json.Marshal(struct { // two strings: cannot fail
		Type    string `json:"__type"`
		Message string `json:"message"`
	}{e.Code, e.Message})
	w.Header().Set("X-Amzn-Errortype", e.Code)
	writeError(w, requestID, "application/x-amz-json-1.1", e, body)
}
