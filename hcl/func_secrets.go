package hcl

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// secretTimeout bounds one question to a secret store.
const secretTimeout = 30 * time.Second

// largestSecret bounds an answer.
const largestSecret = 4 << 20

// fetch is one GET. The answer of a server that says no is an error that
// never contains what was asked with.
func fetch(req *http.Request) ([]byte, error) {
	client := &http.Client{Timeout: secretTimeout}
	resp, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, largestSecret))
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return body, nil
	case http.StatusNotFound:
		return nil, fmt.Errorf("%s has nothing at %s", req.URL.Host, req.URL.Path)
	case http.StatusForbidden, http.StatusUnauthorized:
		return nil, fmt.Errorf("%s does not allow to read %s with the token given", req.URL.Host, req.URL.Path)
	}
	return nil, fmt.Errorf("%s answered %s", req.URL.Host, resp.Status)
}

// vaultFunc reads one key of a HashiCorp Vault secret, of the first or second
// version of the key-value engine. VAULT_TOKEN is required; VAULT_ADDR and
// VAULT_NAMESPACE as Vault's own client reads them.
func (e funcEnv) vaultFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}, {Name: "key", Type: cty.String}},
		Type:   function.StaticReturnType(cty.String),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			v, err := e.vault(args[0].AsString(), args[1].AsString())
			if err != nil {
				return cty.UnknownVal(cty.String), err
			}
			return MarkSensitive(cty.StringVal(v)), nil
		},
	})
}

func (e funcEnv) vault(path, key string) (string, error) {
	token := e.getenv("VAULT_TOKEN")
	if token == "" {
		return "", errors.New("vault needs the environment variable VAULT_TOKEN (and VAULT_ADDR)")
	}
	addr := e.getenv("VAULT_ADDR")
	if addr == "" {
		addr = "https://127.0.0.1:8200"
	}
	req, err := http.NewRequest(http.MethodGet, strings.TrimSuffix(addr, "/")+"/v1/"+strings.TrimPrefix(path, "/"), nil) //nolint:noctx // bounded by the client's timeout
	if err != nil {
		return "", fmt.Errorf("VAULT_ADDR: %w", err)
	}
	req.Header.Set("X-Vault-Token", token)
	req.Header.Set("X-Vault-Request", "true")
	if ns := e.getenv("VAULT_NAMESPACE"); ns != "" {
		req.Header.Set("X-Vault-Namespace", ns)
	}
	body, err := fetch(req)
	if err != nil {
		return "", err
	}
	var answer struct {
		Data map[string]any `json:"data"`
	}
	if err := json.Unmarshal(body, &answer); err != nil {
		return "", errors.New("vault's answer is not understood")
	}
	data := answer.Data
	if inner, ok := data["data"].(map[string]any); ok { // second version
		data = inner
	}
	v, ok := data[key]
	if !ok || v == nil {
		return "", fmt.Errorf("the secret %q has no key %q; its keys are: %s", path, key, strings.Join(sortedKeys(data), ", "))
	}
	if s, ok := v.(string); ok {
		return s, nil
	}
	text, err := json.Marshal(v)
	return string(text), err
}

// consulFunc reads one key of Consul's key-value store, with the address and
// the token that CONSUL_HTTP_ADDR, CONSUL_HTTP_SSL and CONSUL_HTTP_TOKEN say.
func (e funcEnv) consulFunc() function.Function {
	return textFunc("key", func(key string) (string, error) {
		addr := e.getenv("CONSUL_HTTP_ADDR")
		if addr == "" {
			addr = "127.0.0.1:8500"
		}
		if !strings.Contains(addr, "://") {
			scheme := "http://"
			if s := e.getenv("CONSUL_HTTP_SSL"); s == "true" || s == "1" {
				scheme = "https://"
			}
			addr = scheme + addr
		}
		u, err := url.Parse(addr)
		if err != nil {
			return "", fmt.Errorf("CONSUL_HTTP_ADDR: %w", err)
		}
		u = u.JoinPath("v1", "kv", key)
		u.RawQuery = "raw"
		req, err := http.NewRequest(http.MethodGet, u.String(), nil) //nolint:noctx // bounded by the client's timeout
		if err != nil {
			return "", err
		}
		if token := e.getenv("CONSUL_HTTP_TOKEN"); token != "" {
			req.Header.Set("X-Consul-Token", token)
		}
		body, err := fetch(req)
		if err == nil && len(body) == 0 {
			err = fmt.Errorf("the value of %q is empty", key)
		}
		return string(body), err
	})
}
