package winrm

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/winrm/ntlm"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

const (
	soapType   = "application/soap+xml;charset=UTF-8"
	boundary   = "Encrypted Boundary"
	sealedType = `multipart/encrypted;protocol="application/HTTP-SPNEGO-session-encrypted";boundary="` + boundary + `"`
	// answerTime bounds one request. The guest answers at the latest when the
	// operation's own time is over.
	answerTime = 3 * pollSeconds * time.Second
	dialTime   = 15 * time.Second
	// maxAnswer is the most that is read of an answer, in bytes: a guest
	// that does not keep to maxEnvelope cannot fill our memory.
	maxAnswer = 16 << 20
)

// A transport posts requests to one guest. Its methods may be called from
// several goroutines: NTLM is about one TCP connection, so each request in
// flight has one of its own there.
type transport struct {
	url      string
	user     string
	password secret.String
	seal     bool  // plain HTTP: NTLM seals what it authenticates
	ntlm     *bool // nil: whichever the guest offers, Basic first
	make     func() *http.Transport

	mu    sync.Mutex
	idle  []*channel
	busy  map[*channel]struct{}
	basic *http.Transport
	mode  mode
}

type mode int

const (
	unknown mode = iota
	modeBasic
	modeNTLM
)

// A channel is one connection that NTLM has authenticated.
type channel struct {
	rt      *http.Transport
	session *ntlm.Session // nil: not logged in
}

func newTransport(cfg communicator.Config, t Target) *transport {
	u := url.URL{Scheme: "http", Host: net.JoinHostPort(t.Host, strconv.Itoa(t.Port)), Path: "/wsman"}
	if cfg.WinRMUseSSL {
		u.Scheme = "https"
	}
	proxy := proxyFunc(cfg.WinRMNoProxy)
	tr := &transport{
		url: u.String(), user: t.User, password: t.Password, seal: !cfg.WinRMUseSSL, ntlm: cfg.WinRMUseNTLM,
		busy: map[*channel]struct{}{},
		make: func() *http.Transport {
			return &http.Transport{
				Proxy:               proxy,
				DialContext:         (&net.Dialer{Timeout: dialTime}).DialContext,
				TLSClientConfig:     &tls.Config{InsecureSkipVerify: cfg.WinRMInsecure, MinVersion: tls.VersionTLS12},
				TLSHandshakeTimeout: dialTime,
				IdleConnTimeout:     time.Minute,
				MaxIdleConnsPerHost: 8,
				DisableCompression:  true,
				// HTTP/1.1 only: NTLM authenticates a connection.
				TLSNextProto: map[string]func(string, *tls.Conn) http.RoundTripper{},
			}
		},
	}
	tr.basic = tr.make()
	switch {
	case cfg.WinRMUseNTLM == nil:
	case *cfg.WinRMUseNTLM:
		tr.mode = modeNTLM
	default:
		tr.mode = modeBasic
	}
	return tr
}

// proxyFunc returns what chooses a proxy for a request: the one the
// environment names, or none.
func proxyFunc(none bool) func(*http.Request) (*url.URL, error) {
	if none {
		return nil
	}
	choose := httpproxy.FromEnvironment().ProxyFunc()
	return func(r *http.Request) (*url.URL, error) { return choose(r.URL) }
}

// A statusError is an answer of HTTP that is not one of WinRM.
type statusError struct {
	status string
	code   int
}

func (e *statusError) Error() string { return "the guest answered with HTTP status " + e.status }

// post sends a request and returns the answer's SOAP, which may be a fault.
func (t *transport) post(ctx context.Context, body []byte) ([]byte, error) {
	ctx, stop := context.WithTimeoutCause(ctx, answerTime, errSilent)
	defer stop()
	if t.current() != modeNTLM {
		p, offered, err := t.postBasic(ctx, body)
		var auth *communicator.AuthError
		if t.ntlm != nil || !errors.As(err, &auth) || offered.basic || !offered.ntlm {
			if err == nil {
				t.settle(modeBasic)
			}
			return p, err
		}
	}
	p, err := t.postNTLM(ctx, body)
	if err == nil {
		t.settle(modeNTLM)
	}
	return p, err
}

var errSilent = errors.New("the guest did not answer in time")

func (t *transport) current() mode {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.mode
}

func (t *transport) settle(m mode) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.mode = m
}

func (t *transport) request(ctx context.Context, body []byte, kind string) (*http.Request, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, t.url, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", kind)
	r.Header.Set("User-Agent", "Ingot")
	return r, nil
}

// An offer is which ways to log in a guest accepts.
type offer struct{ basic, ntlm bool }

func offers(h http.Header) (o offer) {
	for _, v := range h.Values("WWW-Authenticate") {
		for _, part := range strings.Split(v, ",") {
			switch name, _, _ := strings.Cut(strings.TrimSpace(part), " "); strings.ToLower(name) {
			case "basic":
				o.basic = true
			case "negotiate", "ntlm":
				o.ntlm = true
			}
		}
	}
	return o
}

func (t *transport) postBasic(ctx context.Context, body []byte) ([]byte, offer, error) {
	r, err := t.request(ctx, body, soapType)
	if err != nil {
		return nil, offer{}, err
	}
	r.SetBasicAuth(t.user, t.password.Reveal())
	resp, err := t.basic.RoundTrip(r)
	if err != nil {
		return nil, offer{}, wireFault(ctx, err)
	}
	p, err := read(resp)
	if err != nil {
		return nil, offer{}, wireFault(ctx, err)
	}
	if resp.StatusCode == http.StatusUnauthorized {
		o := offers(resp.Header)
		err := t.refused(errors.New("wrong user or password"))
		if !o.basic {
			err = diag.WithHint(t.refused(errors.New("it does not accept a plain password")),
				"leave winrm_use_ntlm out or set it to true; or allow Basic authentication in the guest's WinRM service, and unencrypted messages or winrm_use_ssl = true")
		}
		return nil, o, err
	}
	p, err = content(resp, p)
	return p, offer{}, err
}

func (t *transport) refused(err error) error {
	return &communicator.AuthError{User: t.user, Err: err}
}

// content checks that an answer is one of the WinRM service.
func content(resp *http.Response, p []byte) ([]byte, error) {
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))
	if kind == "application/soap+xml" && (resp.StatusCode == http.StatusOK || resp.StatusCode >= 400) {
		return p, nil
	}
	return nil, &statusError{resp.Status, resp.StatusCode}
}

func read(resp *http.Response) ([]byte, error) {
	defer resp.Body.Close()
	p, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer+1))
	if len(p) > maxAnswer {
		return nil, fmt.Errorf("the guest's answer is longer than %d MiB", maxAnswer>>20)
	}
	return p, err
}

// postNTLM logs a connection in where it is not, and posts over it.
func (t *transport) postNTLM(ctx context.Context, body []byte) ([]byte, error) {
	for try := 0; ; try++ {
		c, fresh := t.take()
		p, err := t.overNTLM(ctx, c, body)
		var gone *goneError
		if errors.As(err, &gone) && !fresh && try < 4 {
			t.drop(c) // the guest had closed it; what is not logged in is not carried out
			continue
		}
		if err != nil {
			t.drop(c)
			return nil, err
		}
		t.put(c)
		return p, nil
	}
}

// A goneError says that a connection was no longer logged in.
type goneError struct{ err error }

func (e *goneError) Error() string { return e.err.Error() }
func (e *goneError) Unwrap() error { return e.err }

func (t *transport) take() (c *channel, fresh bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.idle); n > 0 {
		c = t.idle[n-1]
		t.idle = t.idle[:n-1]
	} else {
		c, fresh = &channel{rt: t.make()}, true
		c.rt.MaxConnsPerHost = 1
	}
	t.busy[c] = struct{}{}
	return c, fresh
}

func (t *transport) put(c *channel) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.busy, c)
	t.idle = append(t.idle, c)
}

func (t *transport) drop(c *channel) {
	t.mu.Lock()
	delete(t.busy, c)
	t.mu.Unlock()
	c.rt.CloseIdleConnections()
}

func (t *transport) overNTLM(ctx context.Context, c *channel, body []byte) ([]byte, error) {
	if c.session == nil {
		if err := t.login(ctx, c); err != nil {
			return nil, err
		}
	}
	kind, sent := soapType, body
	if t.seal {
		kind, sent = sealedType, wrap(c.session, body)
	}
	r, err := t.request(ctx, sent, kind)
	if err != nil {
		return nil, err
	}
	// Not sent again by net/http over another connection, where it would be
	// sealed with the wrong keys.
	r.GetBody = nil
	resp, err := c.rt.RoundTrip(r)
	if err != nil {
		return nil, wireFault(ctx, err) // it may have been carried out: not sent again
	}
	p, err := read(resp)
	if err != nil {
		return nil, wireFault(ctx, err)
	}
	if resp.StatusCode == http.StatusUnauthorized {
		return nil, &goneError{t.refused(errors.New("the login of the connection was lost"))}
	}
	if kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); t.seal && kind == "multipart/encrypted" {
		return unwrap(c.session, p)
	}
	return content(resp, p)
}

// login is the exchange of three messages of NTLM, with requests that ask
// nothing.
func (t *transport) login(ctx context.Context, c *channel) error {
	first := ntlm.Negotiate()
	resp, err := t.token(ctx, c, first)
	if err != nil {
		return err
	}
	challenge := challengeOf(resp.Header)
	if resp.StatusCode != http.StatusUnauthorized {
		return &statusError{resp.Status, resp.StatusCode}
	}
	if challenge == nil {
		return diag.WithHint(t.refused(errors.New("it does not accept NTLM")),
			"set winrm_use_ntlm = false, or allow Negotiate authentication in the guest's WinRM service")
	}
	auth, session, err := ntlm.Authenticate(ntlm.Credentials{User: t.user, Password: t.password.Reveal()}, first, challenge)
	if err != nil {
		return err
	}
	if resp, err = t.token(ctx, c, auth); err != nil {
		return err
	}
	switch {
	case resp.StatusCode == http.StatusUnauthorized:
		return t.refused(errors.New("wrong user or password"))
	case resp.StatusCode == http.StatusNotFound:
		return &statusError{resp.Status, resp.StatusCode}
	}
	c.session = session
	return nil
}

func (t *transport) token(ctx context.Context, c *channel, token []byte) (*http.Response, error) {
	r, err := t.request(ctx, nil, soapType)
	if err != nil {
		return nil, err
	}
	r.Header.Set("Authorization", "Negotiate "+base64.StdEncoding.EncodeToString(token))
	resp, err := c.rt.RoundTrip(r)
	if err != nil {
		return nil, wireFault(ctx, err)
	}
	_, err = read(resp)
	return resp, wireFault(ctx, err)
}

func challengeOf(h http.Header) []byte {
	for _, v := range h.Values("WWW-Authenticate") {
		scheme, data, ok := strings.Cut(v, " ")
		if !ok || !strings.EqualFold(scheme, "Negotiate") && !strings.EqualFold(scheme, "NTLM") {
			continue
		}
		if token, err := base64.StdEncoding.DecodeString(strings.TrimSpace(data)); err == nil {
			return token
		}
	}
	return nil
}

// close ends every connection.
func (t *transport) close() {
	t.mu.Lock()
	all := t.idle
	t.idle = nil
	for c := range t.busy {
		all = append(all, c)
	}
	t.mu.Unlock()
	for _, c := range all {
		c.rt.CloseIdleConnections()
	}
	t.basic.CloseIdleConnections()
}
