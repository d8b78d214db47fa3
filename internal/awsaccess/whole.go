package awsaccess

import (
	"bytes"
	"errors"
	"io"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// maxWhole is the largest body that is sent as one piece with its header.
const maxWhole = 1 << 20

// whole sends small requests in one piece. The SDK hides that its bodies are
// in memory, so net/http sends the header first, then the body, then looks
// whether there is more of it; and the SDK closes the body when the reply
// begins. A server that is near replies before that look, which then fails,
// and the connection is closed under the reader of the reply.
type whole struct{ to aws.HTTPClient }

// Do implements [aws.HTTPClient].
func (w whole) Do(r *http.Request) (*http.Response, error) {
	if r.Body == nil || r.ContentLength <= 0 || r.ContentLength > maxWhole {
		return w.to.Do(r)
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(r.Body, body)
	if err := errors.Join(err, r.Body.Close()); err != nil {
		return nil, err
	}
	r = r.Clone(r.Context())
	r.Body = io.NopCloser(bytes.NewReader(body))
	return w.to.Do(r)
}
