// Package secretstore asks the secret stores that templates can name in both
// of their languages: HashiCorp Vault, Consul and AWS Secrets Manager.
//
// Vault and Consul are asked over HTTP, with the settings that their own
// clients take from the environment
// (https://developer.hashicorp.com/vault/docs/commands#environment-variables,
// https://developer.hashicorp.com/consul/commands#environment-variables).
// Secrets Manager is asked by a function that the program hands in.
package secretstore

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// limit bounds one question.
const limit = 30 * time.Second

// largest bounds an answer, in bytes.
const largest = 4 << 20

// Stores is how the stores are reached. The zero value reaches those of
// Vault and Consul that need no settings.
type Stores struct {
	Getenv func(name string) string // nil: no variable is set
	// SecretsManager returns the text of a secret of AWS Secrets Manager by
	// name or ARN; nil when the program has no way to it.
	SecretsManager func(ctx context.Context, name string) (string, error)
}

func (s Stores) env(name string) string {
	if s.Getenv == nil {
		return ""
	}
	return s.Getenv(name)
}

// truth reads a setting that is on or off. What is neither is an error: a
// check of certificates must not depend on a slip of the pen.
func (s Stores) truth(name string, otherwise bool) (bool, error) {
	text := s.env(name)
	if text == "" {
		return otherwise, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("the environment variable %s is true or false, and %q is neither", name, text)
	}
	return b, nil
}

// trust is the TLS settings of one store.
type trust struct {
	caFile, caFolder, certFile, keyFile, serverName string
	skipVerify                                      bool
}

func (t trust) config() (*tls.Config, error) {
	c := &tls.Config{ServerName: t.serverName, InsecureSkipVerify: t.skipVerify, MinVersion: tls.VersionTLS12} //nolint:gosec // the user's own setting
	if t.caFile != "" || t.caFolder != "" {
		c.RootCAs = x509.NewCertPool()
	}
	files := []string{}
	if t.caFile != "" {
		files = append(files, t.caFile)
	}
	if t.caFolder != "" {
		entries, err := os.ReadDir(t.caFolder)
		if err != nil {
			return nil, err
		}
		for _, e := range entries {
			if !e.IsDir() {
				files = append(files, t.caFolder+string(os.PathSeparator)+e.Name())
			}
		}
	}
	for _, f := range files {
		pem, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		if !c.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%s holds no certificate", f)
		}
	}
	if (t.certFile == "") != (t.keyFile == "") {
		return nil, errors.New("a client certificate needs both its file and its key")
	}
	if t.certFile != "" {
		pair, err := tls.LoadX509KeyPair(t.certFile, t.keyFile)
		if err != nil {
			return nil, err
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// get is one GET. addr may be unix:// and the path of a socket. The answer of
// a server that says no is an error that never contains what was asked with.
func get(ctx context.Context, addr, path, query string, header http.Header, t trust) ([]byte, error) {
	conf, err := t.config()
	if err != nil {
		return nil, err
	}
	tr := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: conf, DisableKeepAlives: true}
	if socket, ok := strings.CutPrefix(addr, "unix://"); ok {
		addr, tr.Proxy = "http://localhost", nil
		tr.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", socket)
		}
	}
	u, err := url.Parse(addr)
	if err != nil {
		return nil, fmt.Errorf("%q is not an address", addr)
	}
	u = u.JoinPath(path)
	u.RawQuery = query
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	resp, err := (&http.Client{Transport: tr}).Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, largest))
	if err != nil {
		return nil, err
	}
	switch resp.StatusCode {
	case http.StatusOK:
		return body, nil
	case http.StatusNotFound:
		return nil, fmt.Errorf("%s has nothing at %s", u.Host, u.Path)
	case http.StatusForbidden, http.StatusUnauthorized:
		return nil, fmt.Errorf("%s does not allow to read %s with the token given", u.Host, u.Path)
	}
	return nil, fmt.Errorf("%s answered %s", u.Host, resp.Status)
}
