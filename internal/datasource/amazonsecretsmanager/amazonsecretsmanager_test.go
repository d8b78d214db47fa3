package amazonsecretsmanager

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/secret"
)

func stand(t *testing.T) awsaccess.Locator {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct{ SecretId, VersionId, VersionStage string }
		_ = json.NewDecoder(r.Body).Decode(&in)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		switch {
		case in.SecretId == "db" && in.VersionStage == "AWSCURRENT":
			fmt.Fprint(w, `{"SecretString":"{\"user\":\"ann\",\"port\":5432,\"tls\":true}","VersionId":"v2"}`)
		case in.SecretId == "db" && in.VersionId == "v1" && in.VersionStage == "":
			fmt.Fprint(w, `{"SecretString":"plain","VersionId":"v1"}`)
		case in.SecretId == "bin":
			fmt.Fprint(w, `{"SecretBinary":"/wD+","VersionId":"v1"}`)
		default:
			w.WriteHeader(400)
			fmt.Fprint(w, `{"__type":"ResourceNotFoundException"}`)
		}
	}))
	t.Cleanup(srv.Close)
	return func(context.Context) (*awsaccess.Endpoint, error) {
		return &awsaccess.Endpoint{URL: srv.URL, Region: "eu-west-1", AccessKey: "A", SecretKey: secret.New("s")}, nil
	}
}

func TestRead(t *testing.T) {
	d := Driver("1", stand(t))
	for _, c := range []struct {
		cfg                   Config
		value, binary, failed string
	}{
		{Config{Name: "db"}, "ann", "", ""},
		{Config{Name: "db", Key: "port"}, "5432", "", ""},
		{Config{Name: "db", Key: "tls"}, "true", "", ""},
		{Config{Name: "db", Key: "none"}, "", "", `no key "none"`},
		{Config{Name: "db", VersionID: "v1"}, "plain", "", ""},
		{Config{Name: "db", VersionID: "v1", Key: "k"}, "", "", "not a JSON object"},
		{Config{Name: "db", VersionStage: "AWSPREVIOUS"}, "", "", "no secret"},
		{Config{Name: "bin"}, "/wD+", "/wD+", ""},
		{Config{}, "", "", "name"},
	} {
		src, err := d.Open(&c.cfg)
		var got any
		if err == nil {
			got, err = src.Read(t.Context())
		}
		if c.failed != "" {
			if err == nil || !strings.Contains(err.Error(), c.failed) || strings.Contains(err.Error(), "ann") {
				t.Errorf("%+v: %v, want %q", c.cfg, err, c.failed)
			}
			continue
		}
		if err != nil {
			t.Errorf("%+v: %v", c.cfg, err)
			continue
		}
		o := got.(Output)
		if o.Value.Reveal() != c.value || o.SecretBinary.Reveal() != c.binary || o.VersionID == "" {
			t.Errorf("%+v: value %q, binary %q", c.cfg, o.Value.Reveal(), o.SecretBinary.Reveal())
		}
		if strings.Contains(fmt.Sprintf("%+v %v", o, o), "ann") {
			t.Error("it shows")
		}
	}
}

func FuzzPick(f *testing.F) {
	for _, s := range []string{`{"a":1}`, `{}`, `{"a":{"b":2}}`, "x", `{"a":`, `{"a":null}`, `{"a" "b"}`} {
		f.Add(s, "a")
		f.Add(s, "")
	}
	f.Fuzz(func(t *testing.T, text, key string) {
		v, err := pick(text, key)
		if key == "" && err != nil {
			t.Errorf("%q without a key: %v", text, err)
		}
		if key != "" && err == nil && !json.Valid([]byte(text)) {
			t.Errorf("%q has no keys, and gave %q", text, v)
		}
	})
}
