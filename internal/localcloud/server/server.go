// Package server serves a local cloud over HTTP: it checks signatures, applies
// the faults that were asked for, and hands each call to its service.
package server

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ebsapi"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api"
	"github.com/ingot-build/ingot/internal/localcloud/faults"
	"github.com/ingot-build/ingot/internal/localcloud/iamapi"
	"github.com/ingot-build/ingot/internal/localcloud/s3api"
	"github.com/ingot-build/ingot/internal/localcloud/secretsapi"
	"github.com/ingot-build/ingot/internal/localcloud/ssmapi"
	"github.com/ingot-build/ingot/internal/localcloud/stsapi"
)

// maxBody bounds what a call sends; objects of S3 are read as they come.
const maxBody = 16 << 20

// Options are what a server may have.
type Options struct {
	Faults *faults.Injector                        // nil: those of the cloud's folder
	Seen   func(service, action, region string)    // told of each call before it is served; may be nil
	Served func()                                  // told when a call that was seen is over, however it ended; may be nil
	Failed func(service, action string, err error) // told of faults of ours; may be nil
	Now    func() time.Time                        // nil: time.Now
}

// A Server is an [http.Handler]. It is safe for concurrent use.
type Server struct {
	cloud    *localcloud.Cloud
	opts     Options
	services map[string]service
	root     localcloud.Credential
}

// A service is one of the vendor's APIs.
type service struct {
	action func(*awswire.Call) string
	serve  func(http.ResponseWriter, *awswire.Call)
	refuse func(w http.ResponseWriter, requestID string, err error)
	global bool // has no regions
	stream bool // reads the body by itself
}

// New returns a server of a cloud.
func New(ctx context.Context, c *localcloud.Cloud, o Options) (*Server, error) {
	if o.Faults == nil {
		o.Faults = faults.New(c.Dir())
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	root, err := c.Root(ctx)
	if err != nil {
		return nil, err
	}
	param := func(call *awswire.Call) string { return call.Params.Get("Action") }
	target := func(call *awswire.Call) string { return awswire.Target(call.HTTP) }
	return &Server{cloud: c, opts: o, root: root, services: map[string]service{
		"ec2":            {action: param, serve: ec2api.Handler(c), refuse: awswire.WriteEC2Error},
		"ebs":            {action: ebsapi.Action, serve: ebsapi.Handler(c), refuse: awswire.WriteJSONError},
		"sts":            {action: param, serve: stsapi.Handler(c), refuse: awswire.WriteQueryError},
		"iam":            {action: param, serve: iamapi.Handler(c), refuse: awswire.WriteQueryError, global: true},
		"ssm":            {action: target, serve: ssmapi.Handler(c), refuse: awswire.WriteJSONError},
		"secretsmanager": {action: target, serve: secretsapi.Handler(c), refuse: awswire.WriteJSONError},
		"s3":             {action: s3api.Action, serve: s3api.Handler(c), refuse: s3api.WriteError, stream: true},
	}}, nil
}

// Credential is what clients sign with.
func (s *Server) Credential() localcloud.Credential { return s.root }

// ServeHTTP implements [http.Handler].
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	call := &awswire.Call{RequestID: awswire.NewRequestID(), HTTP: r, Account: localcloud.AccountID}
	svc, err := s.accept(call)
	if err != nil {
		if svc.refuse == nil {
			svc.refuse = awswire.WriteEC2Error
		}
		svc.refuse(w, call.RequestID, err)
		return
	}
	call.Action = svc.action(call)
	if s.opts.Served != nil {
		defer s.opts.Served()
	}
	if s.opts.Seen != nil {
		s.opts.Seen(call.Service, call.Action, call.Region)
	}
	refuse := func(w http.ResponseWriter, status int, code, message string) {
		svc.refuse(w, call.RequestID, awswire.Statusf(status, code, "%s", message))
	}
	s.opts.Faults.Serve(w, r, faults.Call{Service: call.Service, Action: call.Action, Region: call.Region, RequestID: call.RequestID}, about(call), refuse,
		func(w http.ResponseWriter) { svc.serve(w, call) })
}

// about is the text in which the ids of a call are.
func about(call *awswire.Call) string {
	var b strings.Builder
	b.WriteString(call.HTTP.URL.Path)
	for k, vs := range call.Params {
		// A client token names nothing.
		if k != "ClientToken" {
			b.WriteString(" " + strings.Join(vs, " "))
		}
	}
	return b.String()
}

// accept reads and authenticates a call. The service is returned also with an
// error, once it is known.
func (s *Server) accept(call *awswire.Call) (service, error) {
	r := call.HTTP
	scope := serviceOf(r)
	svc, ok := s.services[scope]
	if !ok {
		if scope == "" {
			return svc, awswire.Statusf(http.StatusUnauthorized, "MissingAuthenticationToken", "This is a local cloud of Ingot. It answers signed requests of AWS clients; `ingot local env` prints what they need")
		}
		return svc, awswire.Statusf(http.StatusNotImplemented, "UnknownService", "The local cloud has no service %q", scope)
	}
	digest := ""
	if !svc.stream {
		body, err := readBody(r)
		var tooBig *http.MaxBytesError
		if errors.As(err, &tooBig) {
			return svc, awswire.Statusf(http.StatusRequestEntityTooLarge, "RequestEntityTooLarge", "The request is larger than %d bytes", maxBody)
		}
		if err != nil {
			return svc, awswire.Errorf("IncompleteBody", "The request's body ended early")
		}
		call.Body = body
		if h := r.Header.Get("X-Amz-Content-Sha256"); h == "" || !strings.HasPrefix(h, "UNSIGNED") {
			sum := sha256.Sum256(body)
			digest = hex.EncodeToString(sum[:])
		}
	}
	cred, err := awswire.Verify(r, digest, s.opts.Now(), func(key string) (string, string, bool) { return s.secretOf(r.Context(), key) })
	if err != nil {
		return svc, err
	}
	call.Service, call.Region, call.AccessKey = cred.Service, cred.Region, cred.AccessKey
	if !svc.global && !slices.Contains(localcloud.Regions(), call.Region) {
		return svc, awswire.Errorf("InvalidRegion", "The local cloud has no region %q", call.Region)
	}
	call.Params = r.URL.Query()
	if strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		form, err := url.ParseQuery(string(call.Body))
		if err != nil {
			return svc, awswire.Errorf("MalformedQueryString", "The query string contains a syntax error")
		}
		for k, v := range form {
			call.Params[k] = v
		}
	}
	return svc, nil
}

// readBody reads a body of known length into room for just that.
func readBody(r *http.Request) ([]byte, error) {
	src := http.MaxBytesReader(nil, r.Body, maxBody)
	if r.ContentLength < 0 || r.ContentLength > maxBody {
		return io.ReadAll(src)
	}
	body := make([]byte, r.ContentLength)
	_, err := io.ReadFull(src, body)
	return body, err
}

func (s *Server) secretOf(ctx context.Context, key string) (secret, token string, ok bool) {
	if key == s.root.AccessKey {
		return s.root.Secret, "", true
	}
	var c localcloud.Credential
	err := s.cloud.View(ctx, "", func(t *localcloud.Tx) (err error) {
		c, ok, err = localcloud.Get[localcloud.Credential](t, key)
		return err
	})
	if err != nil || !ok || !c.Expires.IsZero() && s.opts.Now().After(c.Expires) {
		return "", "", false
	}
	return c.Secret, c.Token, true
}

// serviceOf reads the service out of the credential scope, before the
// signature is checked.
func serviceOf(r *http.Request) string {
	scope := r.URL.Query().Get("X-Amz-Credential")
	if _, rest, ok := strings.Cut(r.Header.Get("Authorization"), "Credential="); ok {
		scope, _, _ = strings.Cut(rest, ",")
	}
	f := strings.Split(strings.TrimSpace(scope), "/")
	if len(f) != 5 {
		return ""
	}
	return f[3]
}
