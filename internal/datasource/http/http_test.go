package http

import (
	"context"
	"errors"
	"fmt"
	"io"
	nethttp "net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/diag"
)

func serve(t *testing.T) *httptest.Server {
	t.Helper()
	s := httptest.NewServer(nethttp.HandlerFunc(func(w nethttp.ResponseWriter, r *nethttp.Request) {
		switch r.URL.Path {
		case "/echo":
			body, _ := io.ReadAll(r.Body)
			w.Header()["X-Two"] = []string{"a", "b"}
			w.WriteHeader(nethttp.StatusCreated)
			fmt.Fprintf(w, "%s %s %s %s", r.Method, r.Host, r.Header.Get("X-In"), body)
		case "/away":
			nethttp.Redirect(w, r, "/echo", nethttp.StatusFound)
		case "/hang":
			<-r.Context().Done()
		case "/long":
			_, _ = io.CopyN(w, zeros{}, maxBody+1)
		default:
			nethttp.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return s
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }

func read(t *testing.T, ctx context.Context, c Config) (Output, error) {
	t.Helper()
	s, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	v, err := s.Read(ctx)
	o, _ := v.(Output)
	return o, err
}

func TestHTTP(t *testing.T) {
	s := serve(t)
	host := strings.TrimPrefix(s.URL, "http://")
	for _, c := range []struct {
		cfg  Config
		body string
	}{
		{Config{URL: s.URL + "/echo"}, "GET " + host + "  "},
		{Config{URL: s.URL + "/away"}, "GET " + host + "  "},
		{
			Config{URL: s.URL + "/echo", Method: "POST", RequestHeaders: map[string]string{"X-In": "h", "host": "other"}, RequestBody: "b"},
			"POST other h b",
		},
		{Config{URL: s.URL + "/echo", Method: "HEAD"}, ""},
	} {
		o, err := read(t, t.Context(), c.cfg)
		if err != nil || o.Body != c.body || o.URL != c.cfg.URL || o.RequestHeaders["X-Two"] != "a, b" {
			t.Errorf("%+v: %+v %v, want body %q", c.cfg, o, err, c.body)
		}
	}
}

func TestFailures(t *testing.T) {
	s := serve(t)
	withPassword := strings.Replace(s.URL, "http://", "http://u:hidden@", 1)
	_, err := read(t, t.Context(), Config{URL: withPassword + "/none"})
	if err == nil || !strings.Contains(err.Error(), "Response code: 404") || strings.Contains(err.Error(), "hidden") {
		t.Errorf("%v", err)
	}
	if _, err := read(t, t.Context(), Config{URL: s.URL + "/long"}); err == nil || !strings.Contains(err.Error(), "longer") {
		t.Errorf("%v", err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := read(t, ctx, Config{URL: s.URL + "/hang"}); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	s.Close()
	if _, err := read(t, t.Context(), Config{URL: withPassword}); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("%v", err)
	}
}

func TestOpenReportsEveryFault(t *testing.T) {
	for _, c := range []Config{{}, {URL: "ftp://x"}, {URL: "http://"}, {URL: "http://u:hidden@x:y"}} {
		c.Method = "BREW"
		_, err := open(c)
		var got []string
		for _, e := range diag.Flatten(err) {
			var f *diag.FieldError
			if errors.As(e, &f) {
				got = append(got, f.Paths[0])
			}
		}
		if !slices.Equal(got, []string{"url", "method"}) || strings.Contains(err.Error(), "hidden") {
			t.Errorf("%+v: %v", c, err)
		}
	}
}
