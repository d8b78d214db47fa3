package awswire

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A Credential is who signed a request, and for what.
type Credential struct {
	AccessKey, Date, Region, Service string

	// Payload is the digest of the body that the signature vouches for, in
	// hex, or one of the words in its place (UNSIGNED-PAYLOAD, STREAMING-…).
	Payload string
}

// maxSkew is how far a request's time may be from ours.
const maxSkew = 15 * time.Minute

const (
	algorithm = "AWS4-HMAC-SHA256"
	unsigned  = "UNSIGNED-PAYLOAD"
	timeForm  = "20060102T150405Z"
)

// Verify checks the signature (version 4, in the Authorization header or the
// query) of a request. body is the SHA-256 of its body in hex, or "" when it
// has not been read yet: then the caller compares [Credential.Payload] with
// what it reads. secretOf returns the secret of an access key and the session
// token that goes with it. The error is an [*Error] with EC2's code.
// https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
func Verify(r *http.Request, body string, now time.Time, secretOf func(accessKey string) (secret, token string, ok bool)) (Credential, error) {
	s, err := parseSignature(r)
	if err != nil {
		return Credential{}, err
	}
	secret, token, ok := secretOf(s.cred.AccessKey)
	if !ok {
		return Credential{}, Statusf(http.StatusUnauthorized, "AuthFailure", "AWS was not able to validate the provided access credentials: the access key %s is not of this cloud", s.cred.AccessKey)
	}
	given := r.Header.Get("X-Amz-Security-Token")
	if s.inQuery {
		given = r.URL.Query().Get("X-Amz-Security-Token")
	}
	if !hmac.Equal([]byte(given), []byte(token)) {
		return Credential{}, Statusf(http.StatusForbidden, "InvalidClientTokenId", "The security token included in the request is invalid")
	}
	if err := s.checkTime(now); err != nil {
		return Credential{}, err
	}
	digest, err := s.payload(r, body)
	if err != nil {
		return Credential{}, err
	}
	s.cred.Payload = digest
	// S3 signs the path as it is sent, the others escape it once more.
	want := sign(secret, s, canonical(r, s, digest, s.cred.Service == "s3"))
	if !hmac.Equal([]byte(want), []byte(s.signature)) {
		return Credential{}, Statusf(http.StatusForbidden, "SignatureDoesNotMatch", "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method")
	}
	return s.cred, nil
}

func (s signature) checkTime(now time.Time) error {
	at, err := time.Parse(timeForm, s.time)
	if err != nil || !strings.HasPrefix(s.time, s.cred.Date) {
		return Errorf("IncompleteSignature", "the date of the request, %q, is missing or is not the one of the credential scope", s.time)
	}
	limit := maxSkew
	if s.expires > 0 {
		limit = s.expires
	}
	if now.Sub(at) > limit || at.Sub(now) > maxSkew {
		return Errorf("RequestExpired", "Request has expired. It was signed at %s and it is %s", s.time, now.UTC().Format(timeForm))
	}
	return nil
}

// payload is the digest that goes into the signature.
func (s signature) payload(r *http.Request, body string) (string, error) {
	digest := r.Header.Get("X-Amz-Content-Sha256")
	switch {
	case digest == "" && s.inQuery:
		return unsigned, nil
	case digest == "" && body == "":
		return "", Errorf("IncompleteSignature", "the header x-amz-content-sha256 is missing")
	case digest == "":
		return body, nil
	case body == "" || digest == unsigned || strings.HasPrefix(digest, "STREAMING-") || digest == body:
		return digest, nil
	}
	return "", Errorf("XAmzContentSHA256Mismatch", "The provided 'x-amz-content-sha256' header does not match what was computed")
}

type signature struct {
	cred      Credential
	headers   []string // signed, in lower case
	signature string
	time      string
	expires   time.Duration // of a presigned request
	inQuery   bool
}

func parseSignature(r *http.Request) (signature, error) {
	var s signature
	bad := Statusf(http.StatusBadRequest, "IncompleteSignature", "the request's signature is not of the form of AWS Signature Version 4")
	var scope, headers string
	auth := r.Header.Get("Authorization")
	q := r.URL.Query()
	switch {
	case auth != "":
		rest, ok := strings.CutPrefix(auth, algorithm)
		if !ok {
			return s, bad
		}
		for part := range strings.SplitSeq(rest, ",") {
			k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
			switch k {
			case "Credential":
				scope = v
			case "SignedHeaders":
				headers = v
			case "Signature":
				s.signature = v
			}
		}
		s.time = r.Header.Get("X-Amz-Date")
		if d, err := http.ParseTime(r.Header.Get("Date")); s.time == "" && err == nil {
			s.time = d.UTC().Format(timeForm)
		}
	case q.Get("X-Amz-Algorithm") == algorithm:
		s.inQuery = true
		scope, headers, s.signature, s.time = q.Get("X-Amz-Credential"), q.Get("X-Amz-SignedHeaders"), q.Get("X-Amz-Signature"), q.Get("X-Amz-Date")
		d, err := time.ParseDuration(q.Get("X-Amz-Expires") + "s")
		if err != nil || d <= 0 || d > 7*24*time.Hour {
			return s, bad
		}
		s.expires = d
	default:
		return s, Statusf(http.StatusUnauthorized, "MissingAuthenticationToken", "Request is missing an authentication token: it is not signed")
	}
	f := strings.Split(scope, "/")
	if len(f) != 5 || f[4] != "aws4_request" || headers == "" || s.signature == "" {
		return s, bad
	}
	s.cred = Credential{AccessKey: f[0], Date: f[1], Region: f[2], Service: f[3]}
	s.headers = strings.Split(headers, ";")
	if !slices.Contains(s.headers, "host") {
		return s, bad
	}
	return s, nil
}

func canonical(r *http.Request, s signature, digest string, pathAsSent bool) string {
	path := r.URL.EscapedPath()
	if path == "" {
		path = "/"
	}
	if !pathAsSent {
		segments := strings.Split(path, "/")
		for i, seg := range segments {
			segments[i] = escape(seg)
		}
		path = strings.Join(segments, "/")
	}
	var pairs []string
	for k, vs := range r.URL.Query() {
		if s.inQuery && k == "X-Amz-Signature" {
			continue
		}
		for _, v := range vs {
			pairs = append(pairs, escape(k)+"="+escape(v))
		}
	}
	slices.Sort(pairs)
	var b strings.Builder
	b.WriteString(r.Method + "\n" + path + "\n" + strings.Join(pairs, "&") + "\n")
	for _, h := range s.headers {
		v := strings.Join(r.Header.Values(h), ",")
		switch h {
		case "host":
			v = r.Host
		case "content-length":
			v = r.Header.Get("Content-Length")
			if v == "" && r.ContentLength >= 0 {
				v = strconv.FormatInt(r.ContentLength, 10)
			}
		case "transfer-encoding":
			v = strings.Join(r.TransferEncoding, ",")
		}
		b.WriteString(h + ":" + strings.Join(strings.Fields(v), " ") + "\n")
	}
	b.WriteString("\n" + strings.Join(s.headers, ";") + "\n" + digest)
	return b.String()
}

func sign(secret string, s signature, canonical string) string {
	sum := sha256.Sum256([]byte(canonical))
	c := s.cred
	text := algorithm + "\n" + s.time + "\n" + c.Date + "/" + c.Region + "/" + c.Service + "/aws4_request\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + secret)
	for _, part := range []string{c.Date, c.Region, c.Service, "aws4_request", text} {
		m := hmac.New(sha256.New, key)
		m.Write([]byte(part))
		key = m.Sum(nil)
	}
	return hex.EncodeToString(key)
}

// escape is RFC 3986's percent encoding of everything but unreserved letters.
func escape(s string) string {
	return strings.ReplaceAll(strings.ReplaceAll(url.QueryEscape(s), "+", "%20"), "%7E", "~")
}
