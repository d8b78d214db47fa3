// Package http is the data source "http": one request, and what was answered.
package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/datasource"
	"github.com/ingot-build/ingot/internal/diag"
)

// maxBody bounds the answer, in bytes: it becomes a value in a template.
const maxBody = 64 << 20

// Config is the options of the data source.
type Config struct {
	URL            string            `hcl:"url"`
	Method         string            `hcl:"method"`
	RequestHeaders map[string]string `hcl:"request_headers"`
	RequestBody    string            `hcl:"request_body"`
}

// Output is what it gives.
type Output struct {
	URL  string `hcl:"url"`
	Body string `hcl:"body"`
	// RequestHeaders holds the headers of the answer, several values of one
	// joined with ", ". The name is Packer's.
	RequestHeaders map[string]string `hcl:"request_headers"`
}

var methods = []string{
	nethttp.MethodGet, nethttp.MethodHead, nethttp.MethodPost, nethttp.MethodPut,
	nethttp.MethodDelete, nethttp.MethodOptions, nethttp.MethodPatch,
}

// Driver returns the data source "http". Proxies are taken from the
// environment (HTTP_PROXY, HTTPS_PROXY, NO_PROXY).
func Driver() datasource.Driver { return datasource.NewDriver[Config, Output]("http", open) }

type source struct{ cfg Config }

var _ datasource.DataSource = source{}

func open(c Config) (datasource.DataSource, error) {
	var errs []error
	u, err := url.Parse(c.URL)
	switch {
	case c.URL == "":
		errs = append(errs, diag.Fieldf("url", "must be set"))
	case err != nil:
		errs = append(errs, diag.Fieldf("url", "is not a URL"))
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		errs = append(errs, diag.Fieldf("url", "%q is not an http or https URL", u.Redacted()))
	}
	if c.Method == "" {
		c.Method = nethttp.MethodGet
	}
	if !slices.Contains(methods, c.Method) {
		errs = append(errs, diag.Fieldf("method", "%q is not one of %s", c.Method, strings.Join(methods, ", ")))
	}
	return source{c}, errors.Join(errs...)
}

// Read implements [datasource.DataSource]. An answer outside 2xx is an error.
func (s source) Read(ctx context.Context) (any, error) {
	var body io.Reader
	if s.cfg.RequestBody != "" {
		body = strings.NewReader(s.cfg.RequestBody)
	}
	req, err := nethttp.NewRequestWithContext(ctx, s.cfg.Method, s.cfg.URL, body)
	if err != nil {
		return nil, fmt.Errorf("request: %w", err)
	}
	req.Header.Set("User-Agent", "Ingot")
	for k, v := range s.cfg.RequestHeaders {
		if strings.EqualFold(k, "Host") {
			req.Host = v // net/http takes it from here only
		}
		req.Header.Set(k, v)
	}
	// A client of its own: it keeps no connection that outlives the call.
	transport := &nethttp.Transport{Proxy: nethttp.ProxyFromEnvironment, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	res, err := (&nethttp.Client{Transport: transport}).Do(req)
	if err != nil {
		return nil, err // names the method and the URL, without its password
	}
	defer res.Body.Close()
	if res.StatusCode < 200 || res.StatusCode > 299 {
		return nil, diag.WithHint(fmt.Errorf("%s %s: HTTP request error. Response code: %d", s.cfg.Method, req.URL.Redacted(), res.StatusCode),
			"only answers with a code of 2xx are taken")
	}
	text, err := io.ReadAll(io.LimitReader(res.Body, maxBody+1))
	if err != nil {
		return nil, fmt.Errorf("read the answer of %s: %w", req.URL.Redacted(), err)
	}
	if len(text) > maxBody {
		return nil, fmt.Errorf("the answer of %s is longer than %d MiB", req.URL.Redacted(), maxBody>>20)
	}
	o := Output{URL: s.cfg.URL, Body: string(text), RequestHeaders: map[string]string{}}
	for k, v := range res.Header {
		o.RequestHeaders[k] = strings.Join(v, ", ")
	}
	return o, nil
}
