package awsaccess

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

const (
	vaultTime = 30 * time.Second
	vaultMax  = 1 << 20 // bytes of an answer
)

// A vaultProvider asks Vault's AWS engine for credentials.
type vaultProvider struct {
	engine    VaultEngine
	addr      *url.URL
	token     secret.String
	namespace string
	client    *http.Client
}

// newVaultProvider reads what Vault's own command line reads: VAULT_ADDR,
// VAULT_TOKEN (or the file ~/.vault-token), VAULT_NAMESPACE, VAULT_CACERT,
// VAULT_SKIP_VERIFY.
func newVaultProvider(e VaultEngine, getenv func(string) string) (aws.CredentialsProvider, error) {
	p := &vaultProvider{engine: e, namespace: getenv("VAULT_NAMESPACE")}
	addr := getenv("VAULT_ADDR")
	if addr == "" {
		return nil, diag.WithHint(diag.Fieldf("vault_aws_engine", "Vault's address is not known"), "set VAULT_ADDR in the environment")
	}
	u, err := url.Parse(addr)
	if err != nil || u.Host == "" {
		return nil, diag.Fieldf("vault_aws_engine", "VAULT_ADDR is not a URL")
	}
	p.addr = u
	token := getenv("VAULT_TOKEN")
	if home, err := os.UserHomeDir(); token == "" && err == nil {
		if b, err := os.ReadFile(filepath.Join(home, ".vault-token")); err == nil {
			token = strings.TrimSpace(string(b))
		}
	}
	if token == "" {
		return nil, diag.WithHint(diag.Fieldf("vault_aws_engine", "there is no token for Vault"), "set VAULT_TOKEN in the environment, or run vault login")
	}
	p.token = secret.New(token)
	tr := &tls.Config{MinVersion: tls.VersionTLS12}
	if name := getenv("VAULT_CACERT"); name != "" {
		pem, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("VAULT_CACERT: %w", err)
		}
		tr.RootCAs = x509.NewCertPool()
		if !tr.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("VAULT_CACERT: %s holds no certificate", name)
		}
	}
	switch strings.ToLower(getenv("VAULT_SKIP_VERIFY")) {
	case "1", "t", "true":
		tr.InsecureSkipVerify = true
	}
	p.client = &http.Client{
		Timeout: vaultTime,
		// One request an hour: no connection is kept.
		Transport: &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: tr, DisableKeepAlives: true},
	}
	return cache(p), nil
}

// Retrieve implements [aws.CredentialsProvider].
func (p *vaultProvider) Retrieve(ctx context.Context) (aws.Credentials, error) {
	c, err := p.retrieve(ctx)
	if err != nil {
		return aws.Credentials{}, fmt.Errorf("credentials from Vault: %w", err)
	}
	return c, nil
}

func (p *vaultProvider) retrieve(ctx context.Context) (c aws.Credentials, err error) {
	u := p.addr.JoinPath("v1", p.engine.EngineName, "creds", p.engine.Name)
	q := url.Values{}
	if p.engine.RoleARN != "" {
		q.Set("role_arn", p.engine.RoleARN)
	}
	if p.engine.TTL != "" {
		q.Set("ttl", p.engine.TTL)
	}
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return c, err
	}
	req.Header.Set("X-Vault-Token", p.token.Reveal())
	req.Header.Set("X-Vault-Request", "true")
	if p.namespace != "" {
		req.Header.Set("X-Vault-Namespace", p.namespace)
	}
	res, err := p.client.Do(req)
	if err != nil {
		return c, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, vaultMax))
	if err != nil {
		return c, err
	}
	var out struct {
		Errors        []string `json:"errors"`
		LeaseDuration int64    `json:"lease_duration"` // seconds
		Data          struct {
			AccessKey     string `json:"access_key"`
			SecretKey     string `json:"secret_key"`
			SecurityToken string `json:"security_token"`
			SessionToken  string `json:"session_token"`
		} `json:"data"`
	}
	decodeErr := json.Unmarshal(body, &out)
	switch {
	case res.StatusCode != http.StatusOK:
		return c, fmt.Errorf("%s: HTTP %d: %s", u.Redacted(), res.StatusCode, strings.Join(out.Errors, "; "))
	case decodeErr != nil:
		return c, fmt.Errorf("%s: the answer is not JSON", u.Redacted())
	case out.Data.AccessKey == "" || out.Data.SecretKey == "":
		return c, errors.New("the answer holds no keys")
	}
	c = aws.Credentials{AccessKeyID: out.Data.AccessKey, SecretAccessKey: out.Data.SecretKey, Source: "Vault"}
	if c.SessionToken = out.Data.SecurityToken; c.SessionToken == "" {
		c.SessionToken = out.Data.SessionToken
	}
	if out.LeaseDuration > 0 {
		c.CanExpire, c.Expires = true, time.Now().Add(time.Duration(out.LeaseDuration)*time.Second)
	}
	return c, nil
}
