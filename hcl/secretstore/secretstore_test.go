package secretstore

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// a store that answers for both vendors and asks for their tokens.
func handler(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Vault-Token") != "tok" && r.Header.Get("X-Consul-Token") != "ctok" {
		http.Error(w, "no", http.StatusForbidden)
		return
	}
	user, pass, basic := r.BasicAuth()
	body, ok := map[string]string{
		"/v1/secret/data/app": `{"data": {"data": {"pw": "v2", "n": 5, "null": null, "o": {"a": 1}}, "metadata": {"version": 1}}}`,
		"/v1/kv/app":          `{"data": {"pw": "v1", "data": "a key of that name", "ns": "` + r.Header.Get("X-Vault-Namespace") + `"}}`,
		"/v1/odd":             `<html>`,
		"/v1/kv/some/key":     "from consul",
		"/v1/kv/empty":        "",
		"/v1/kv/who":          fmt.Sprint(user, "/", pass, "/", basic, "/", r.Header.Get("X-Consul-Namespace"), "/", r.URL.RawQuery),
		"/v1/kv/broken":       "x",
	}[r.URL.Path]
	switch {
	case r.URL.Path == "/v1/kv/broken":
		http.Error(w, "x", http.StatusInternalServerError)
	case !ok:
		http.NotFound(w, r)
	default:
		_, _ = w.Write([]byte(body))
	}
}

func stores(env map[string]string) Stores {
	return Stores{Getenv: func(name string) string { return env[name] }}
}

func TestVault(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(handler))
	defer srv.Close()
	env := map[string]string{"VAULT_ADDR": srv.URL + "/", "VAULT_TOKEN": "tok", "VAULT_NAMESPACE": "team"}
	for in, want := range map[[2]string]string{
		{"secret/data/app", "pw"}:   "v2",
		{"/secret/data/app", "n"}:   "5",
		{"secret/data/app", "o"}:    `{"a": 1}`,
		{"secret/data/app", "null"}: `!has no key "null"; its keys are: n, null, o, pw`,
		{"secret/data/app", ""}:     `!has no key ""`,
		{"kv/app", "pw"}:            "v1",
		{"kv/app", "data"}:          "a key of that name",
		{"kv/app", "ns"}:            "team",
		{"nope", "pw"}:              "!has nothing at /v1/nope",
		{"odd", "pw"}:               "!not understood",
	} {
		got, err := stores(env).Vault(context.Background(), in[0], in[1])
		check(t, fmt.Sprint(in), got, err, want)
	}
	env["VAULT_TOKEN"] = "hunter2"
	_, err := stores(env).Vault(context.Background(), "kv/app", "pw")
	if check(t, "wrong token", "", err, "!does not allow"); strings.Contains(err.Error(), "hunter2") {
		t.Error("the token is shown")
	}
	env["VAULT_SKIP_VERIFY"] = "perhaps"
	_, err = stores(env).Vault(context.Background(), "kv/app", "pw")
	check(t, "skip", "", err, "!VAULT_SKIP_VERIFY is true or false")
	_, err = Stores{}.Vault(context.Background(), "a", "b")
	check(t, "no settings", "", err, "!VAULT_TOKEN")
}

func TestConsul(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(handler))
	defer srv.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("ctok\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	env := map[string]string{
		"CONSUL_HTTP_ADDR": strings.TrimPrefix(srv.URL, "http://"), "CONSUL_HTTP_TOKEN_FILE": token,
		"CONSUL_HTTP_AUTH": "u:p", "CONSUL_NAMESPACE": "ns",
	}
	for key, want := range map[string]string{
		"some/key": "from consul", "/some/key": "from consul", "empty": "!is empty", "nope": "!has nothing at", "broken": "!500",
		"who": "u/p/true/ns/raw",
	} {
		got, err := stores(env).Consul(context.Background(), key)
		check(t, key, got, err, want)
	}
	for name, bad := range map[string]string{"CONSUL_HTTP_SSL": "x", "CONSUL_HTTP_SSL_VERIFY": "x"} {
		_, err := Stores{Getenv: func(n string) string {
			if n == name {
				return bad
			}
			return env[n]
		}}.Consul(context.Background(), "some/key")
		check(t, name, "", err, "!"+name)
	}
	env["CONSUL_HTTP_TOKEN_FILE"] = token + "x"
	_, err := stores(env).Consul(context.Background(), "some/key")
	check(t, "token file", "", err, "!CONSUL_HTTP_TOKEN_FILE")
}

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(http.HandlerFunc(handler))
	defer srv.Close()
	folder := t.TempDir()
	ca := filepath.Join(folder, "ca.pem")
	if err := os.WriteFile(ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: srv.Certificate().Raw}), 0o600); err != nil {
		t.Fatal(err)
	}
	none := filepath.Join(t.TempDir(), "none.pem")
	if err := os.WriteFile(none, []byte("nothing"), 0o600); err != nil {
		t.Fatal(err)
	}
	base := map[string]string{
		"VAULT_ADDR": srv.URL, "VAULT_TOKEN": "tok",
		"CONSUL_HTTP_ADDR": strings.TrimPrefix(srv.URL, "https://"), "CONSUL_HTTP_SSL": "true", "CONSUL_HTTP_TOKEN": "ctok",
	}
	for _, c := range []struct {
		name, value string
		vault, want string
	}{
		{"", "", "both", "!certificate"},
		{"VAULT_CACERT", ca, "vault", ""},
		{"VAULT_CAPATH", folder, "vault", ""},
		{"VAULT_SKIP_VERIFY", "1", "vault", ""},
		{"VAULT_CACERT", none, "vault", "!holds no certificate"},
		{"VAULT_CAPATH", none + "x", "vault", "!no such file"},
		{"VAULT_CLIENT_CERT", ca, "vault", "!both its file and its key"},
		{"CONSUL_CACERT", ca, "consul", ""},
		{"CONSUL_CAPATH", folder, "consul", ""},
		{"CONSUL_HTTP_SSL_VERIFY", "false", "consul", ""},
		{"CONSUL_CLIENT_KEY", ca, "consul", "!both its file and its key"},
	} {
		s := Stores{Getenv: func(n string) string {
			if n == c.name {
				return c.value
			}
			return base[n]
		}}
		if c.vault != "consul" {
			got, err := s.Vault(context.Background(), "kv/app", "pw")
			check(t, "vault "+c.name, got, err, or(c.want, "v1"))
		}
		if c.vault != "vault" {
			got, err := s.Consul(context.Background(), "some/key")
			check(t, "consul "+c.name, got, err, or(c.want, "from consul"))
		}
	}
}

func or(a, b string) string {
	if a == "" {
		return b
	}
	return a
}

func TestSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Skip(err) // a path too long for a socket
	}
	srv := &http.Server{Handler: http.HandlerFunc(handler)} //nolint:gosec // a test
	go func() { _ = srv.Serve(l) }()
	defer srv.Close()
	got, err := stores(map[string]string{"CONSUL_HTTP_ADDR": "unix://" + path, "CONSUL_HTTP_TOKEN": "ctok"}).Consul(context.Background(), "some/key")
	check(t, "socket", got, err, "from consul")
}

func TestSecretsManager(t *testing.T) {
	s := Stores{SecretsManager: func(_ context.Context, name string) (string, error) {
		text, ok := map[string]string{
			"db": `{"user": "root", "pw": "x", "n": 7, "b": true}`, "plain": "text", "empty": "{}", "list": `["a"]`, "broken": `{"a": 1`,
		}[name]
		if !ok {
			return "", errors.New("no such secret")
		}
		return text, nil
	}}
	for in, want := range map[[2]string]string{
		{"db", ""}: "root", {"db", "pw"}: "x", {"db", "n"}: "7", {"db", "b"}: "true", {"db", "nope"}: `!has no key "nope"`,
		{"plain", ""}: "text", {"plain", "k"}: "!is not a JSON object", {"empty", ""}: "{}", {"list", ""}: `["a"]`,
		{"broken", ""}: `{"a": 1`, {"broken", "a"}: "!is not a JSON object", {"none", ""}: "!no such secret",
	} {
		got, err := s.Secret(context.Background(), in[0], in[1])
		check(t, fmt.Sprint(in), got, err, want)
	}
	got, err := s.Raw(context.Background(), "db")
	check(t, "raw", got, err, `{"user": "root", "pw": "x", "n": 7, "b": true}`)
	_, err = Stores{}.Raw(context.Background(), "db")
	check(t, "none", "", err, "!cannot be asked")
}

// check compares; a wanted text that begins with ! is a part of the error.
func check(t *testing.T, what, got string, err error, want string) {
	t.Helper()
	if part, bad := strings.CutPrefix(want, "!"); bad {
		if err == nil || !strings.Contains(err.Error(), part) {
			t.Errorf("%s: %q, error %v, want %q", what, got, err, part)
		}
	} else if err != nil || got != want {
		t.Errorf("%s is %q, %v, want %q", what, got, err, want)
	}
}
