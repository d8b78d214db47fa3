package cloudtest

import (
	"bytes"
	"errors"
	"io"
	"net/http"
)

// Client is for clients of the SDK that talk to a server on this machine.
func Client() *http.Client { return &http.Client{Transport: whole{http.DefaultTransport}} }

// maxWhole is the largest body that is sent as one piece with its header.
const maxWhole = 1 << 20

// whole sends small requests in one piece. The SDK hides that its bodies are
// in memory, so net/http sends the header first, then the body, then looks
// whether there is more of it; and the SDK closes the body when the reply
// begins. A server on the same machine replies before that look, which then
// fails, and the connection is closed under the reader of the reply.
type whole struct{ to http.RoundTripper }

// RoundTrip implements [http.RoundTripper].
func (w whole) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.ContentLength <= 0 || r.ContentLength > maxWhole {
		return w.to.RoundTrip(r)
	}
	body, err := io.ReadAll(r.Body)
	if err := errors.Join(err, r.Body.Close()); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return w.to.RoundTrip(r)
}
