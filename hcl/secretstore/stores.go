package secretstore

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
)

// Vault returns the value of key in the secret at path, of the first or the
// second version of the key-value engine. VAULT_TOKEN is required.
func (s Stores) Vault(ctx context.Context, path, key string) (string, error) {
	token := s.env("VAULT_TOKEN")
	if token == "" {
		return "", errors.New("vault needs the environment variable VAULT_TOKEN (and VAULT_ADDR)")
	}
	addr := s.env("VAULT_ADDR")
	if addr == "" {
		addr = "https://127.0.0.1:8200"
	}
	skip, err := s.truth("VAULT_SKIP_VERIFY", false)
	if err != nil {
		return "", err
	}
	header := http.Header{"X-Vault-Token": {token}, "X-Vault-Request": {"true"}}
	if ns := s.env("VAULT_NAMESPACE"); ns != "" {
		header["X-Vault-Namespace"] = []string{ns}
	}
	body, err := get(ctx, addr, "v1/"+strings.TrimPrefix(path, "/"), "", header, trust{
		caFile: s.env("VAULT_CACERT"), caFolder: s.env("VAULT_CAPATH"), certFile: s.env("VAULT_CLIENT_CERT"),
		keyFile: s.env("VAULT_CLIENT_KEY"), serverName: s.env("VAULT_TLS_SERVER_NAME"), skipVerify: skip,
	})
	if err != nil {
		return "", fmt.Errorf("vault: %w", err)
	}
	var answer struct {
		Data map[string]json.RawMessage `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", errors.New("vault's answer is not understood")
	}
	data := answer.Data
	var inner map[string]json.RawMessage
	if raw, ok := data["data"]; ok && json.Unmarshal(raw, &inner) == nil && inner != nil { // second version
		data = inner
	}
	v, ok := data[key]
	if !ok || string(v) == "null" {
		names := make([]string, 0, len(data))
		for k := range data {
			names = append(names, k)
		}
		slices.Sort(names)
		return "", fmt.Errorf("the secret %q has no key %q; its keys are: %s", path, key, strings.Join(names, ", "))
	}
	return plain(v), nil
}

// plain is a JSON value as text: what is in quotes, and numbers, bools and
// objects as they are written.
func plain(v json.RawMessage) string {
	var text string
	if json.Unmarshal(v, &text) == nil && len(v) > 0 && v[0] == '"' {
		return text
	}
	return string(v)
}

// Consul returns the value of key in Consul's key-value store. An empty value
// is an error, as in Packer.
func (s Stores) Consul(ctx context.Context, key string) (string, error) {
	addr := s.env("CONSUL_HTTP_ADDR")
	if addr == "" {
		addr = "127.0.0.1:8500"
	}
	ssl, err := s.truth("CONSUL_HTTP_SSL", false)
	if err != nil {
		return "", err
	}
	verify, err := s.truth("CONSUL_HTTP_SSL_VERIFY", true)
	if err != nil {
		return "", err
	}
	if !strings.Contains(addr, "://") {
		scheme := "http://"
		if ssl {
			scheme = "https://"
		}
		addr = scheme + addr
	}
	header := http.Header{}
	token := s.env("CONSUL_HTTP_TOKEN")
	if f := s.env("CONSUL_HTTP_TOKEN_FILE"); f != "" && token == "" {
		text, err := os.ReadFile(f)
		if err != nil {
			return "", fmt.Errorf("CONSUL_HTTP_TOKEN_FILE: %w", err)
		}
		token = strings.TrimSpace(string(text))
	}
	if token != "" {
		header["X-Consul-Token"] = []string{token}
	}
	if auth := s.env("CONSUL_HTTP_AUTH"); auth != "" {
		user, pass, _ := strings.Cut(auth, ":")
		r := http.Request{Header: header}
		r.SetBasicAuth(user, pass)
	}
	if ns := s.env("CONSUL_NAMESPACE"); ns != "" {
		header["X-Consul-Namespace"] = []string{ns}
	}
	body, err := get(ctx, addr, "v1/kv/"+strings.TrimPrefix(key, "/"), "raw", header, trust{
		caFile: s.env("CONSUL_CACERT"), caFolder: s.env("CONSUL_CAPATH"), certFile: s.env("CONSUL_CLIENT_CERT"),
		keyFile: s.env("CONSUL_CLIENT_KEY"), serverName: s.env("CONSUL_TLS_SERVER_NAME"), skipVerify: !verify,
	})
	if err != nil {
		return "", fmt.Errorf("consul: %w", err)
	}
	if len(body) == 0 {
		return "", fmt.Errorf("consul: the value of %q is empty", key)
	}
	return string(body), nil
}

// Raw returns the whole text of a secret of AWS Secrets Manager.
func (s Stores) Raw(ctx context.Context, name string) (string, error) {
	if s.SecretsManager == nil {
		return "", errors.New("AWS Secrets Manager cannot be asked here")
	}
	return s.SecretsManager(ctx, name)
}

// Secret returns the value of key in a secret of AWS Secrets Manager that is a
// JSON object. Without a key it is the first value of the object, or the whole
// text when it is no object. No error shows the secret.
func (s Stores) Secret(ctx context.Context, name, key string) (string, error) {
	text, err := s.Raw(ctx, name)
	if err != nil {
		return "", err
	}
	d := json.NewDecoder(bytes.NewReader([]byte(text)))
	if t, err := d.Token(); err != nil || t != json.Delim('{') || !json.Valid([]byte(text)) {
		if key == "" {
			return text, nil
		}
		return "", fmt.Errorf("the secret %q is not a JSON object, so it has no key %q", name, key)
	}
	for d.More() {
		k, err := d.Token()
		if err != nil {
			return "", fmt.Errorf("the secret %q is not a JSON object", name)
		}
		var v json.RawMessage
		if err := d.Decode(&v); err != nil {
			return "", fmt.Errorf("the secret %q is not a JSON object", name)
		}
		if key == "" || k == key {
			return plain(v), nil
		}
	}
	if key == "" {
		return text, nil
	}
	return "", fmt.Errorf("the secret %q has no key %q", name, key)
}
