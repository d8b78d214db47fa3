package amazonparameterstore

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

func stand(t *testing.T) awsaccess.Locator {
	t.Helper()
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var in struct {
			Name           string
			WithDecryption bool
		}
		_ = json.NewDecoder(r.Body).Decode(&in)
		w.Header().Set("Content-Type", "application/x-amz-json-1.1")
		switch {
		case r.Header.Get("X-Amz-Target") != "AmazonSSM.GetParameter":
			w.WriteHeader(400)
			fmt.Fprint(w, `{"__type":"InvalidAction"}`)
		case in.Name == "/ami":
			fmt.Fprint(w, `{"Parameter":{"Name":"/ami","Type":"String","Value":"ami-1","Version":7,"ARN":"arn:x"}}`)
		case in.Name == "/pw" && in.WithDecryption:
			fmt.Fprint(w, `{"Parameter":{"Type":"SecureString","Value":"hunter2","Version":1}}`)
		case in.Name == "/pw":
			fmt.Fprint(w, `{"Parameter":{"Type":"SecureString","Value":"AQIC","Version":1}}`)
		default:
			w.WriteHeader(400)
			fmt.Fprint(w, `{"__type":"ParameterNotFound"}`)
		}
	}))
	t.Cleanup(srv.Close)
	return func(context.Context) (*awsaccess.Endpoint, error) {
		return &awsaccess.Endpoint{URL: srv.URL, Region: "eu-west-1", AccessKey: "A", SecretKey: secret.New("s")}, nil
	}
}

func TestRead(t *testing.T) {
	d := Driver("1", stand(t))
	read := func(c Config) (any, error) {
		src, err := d.Open(&c)
		if err != nil {
			return nil, err
		}
		return src.Read(t.Context())
	}
	if o, err := read(Config{Name: "/ami"}); err != nil || o != (Output{"ami-1", "7", "arn:x"}) {
		t.Errorf("%+v %v", o, err)
	}
	o, err := read(Config{Name: "/pw", WithDecryption: true})
	if s, ok := o.(secureOutput); err != nil || !ok || s.Value.Reveal() != "hunter2" || strings.Contains(fmt.Sprintf("%+v", o), "hunter2") {
		t.Errorf("%+v %v", o, err)
	}
	o, err = read(Config{Name: "/pw"})
	if s, ok := o.(secureOutput); err != nil || !ok || s.Value.Reveal() != "AQIC" {
		t.Errorf("%+v %v", o, err)
	}
	if _, err := read(Config{Name: "/none"}); err == nil || !strings.Contains(err.Error(), `no parameter "/none" in eu-west-1`) || diag.Hint(err) == "" {
		t.Error(err)
	}
	if _, err := read(Config{}); err == nil || !strings.Contains(err.Error(), "name") {
		t.Error(err)
	}
}
