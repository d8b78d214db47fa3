package qemu

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

// slirpHost is this computer as a guest behind QEMU's user network sees it.
const slirpHost = "10.0.2.2"

// httpServer hands files to the guest.
type httpServer struct {
	srv  *http.Server
	port int
}

// userNet reports whether the guest is behind QEMU's user network.
func (c *Config) userNet() bool {
	return c.NetBridge == "" && !c.overrides("-netdev", "-net", "-nic")
}

// bindAddress is where the HTTP server listens: behind the user network the
// guest reaches the loopback device, and nobody else need reach it.
func (c *Config) bindAddress() string {
	if c.HTTPAddress == "" && c.userNet() {
		return "127.0.0.1"
	}
	return c.HTTPAddress
}

// hostAddress is this computer as the guest sees it.
func (c *Config) hostAddress() (string, error) {
	name := c.HTTPInterface
	if name == "" {
		name = c.NetBridge
	}
	if name == "" || c.userNet() {
		return slirpHost, nil
	}
	dev, err := net.InterfaceByName(name)
	if err != nil {
		return "", diag.WithHint(fmt.Errorf("network device %s: %w", name, err), "correct net_bridge or http_interface")
	}
	addrs, err := dev.Addrs()
	if err != nil {
		return "", fmt.Errorf("network device %s: %w", name, err)
	}
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			return n.IP.String(), nil
		}
	}
	return "", diag.WithHint(fmt.Errorf("network device %s has no IPv4 address", name), "give it one, or name another with http_interface")
}

// startHTTP serves http_directory or http_content when one of them is set.
func (m *machine) startHTTP(ctx context.Context, r *builder.Run, s *state) error {
	c := &m.cfg
	var err error
	if m.httpIP, err = c.hostAddress(); err != nil {
		return err
	}
	if c.HTTPDir == "" && len(c.HTTPContent) == 0 {
		return nil
	}
	if err := m.stopHTTP(ctx, r, s); err != nil {
		return err
	}
	var files http.Handler = contentHandler(c.HTTPContent)
	if c.HTTPDir != "" {
		files = http.FileServer(http.Dir(c.HTTPDir))
	}
	var l net.Listener
	var lc net.ListenConfig
	for p := c.HTTPPortMin; p <= c.HTTPPortMax; p++ {
		if l, err = lc.Listen(ctx, c.HTTPNetworkProtocol, net.JoinHostPort(c.bindAddress(), strconv.Itoa(p))); err == nil {
			break
		}
	}
	if l == nil {
		return diag.WithHint(fmt.Errorf("HTTP server: no port from %d to %d can be listened on: %w", c.HTTPPortMin, c.HTTPPortMax, err),
			"widen http_port_min and http_port_max, or correct http_bind_address")
	}
	h := &httpServer{port: l.Addr().(*net.TCPAddr).Port}
	h.srv = &http.Server{ReadHeaderTimeout: time.Minute, Handler: http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		r.Events.Emit(event.Detail{Text: fmt.Sprintf("http: %s %s from %s", req.Method, req.URL.Path, req.RemoteAddr)})
		files.ServeHTTP(w, req)
	})}
	m.http = h
	go func() {
		if err := h.srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
			r.Events.Emit(event.Warn{Text: "The HTTP server has ended: " + err.Error()})
		}
	}()
	r.Say("HTTP server for the guest at http://%s:%d/", m.httpIP, h.port)
	return nil
}

func (m *machine) stopHTTP(context.Context, *builder.Run, *state) error {
	if m.http == nil {
		return nil
	}
	err := m.http.srv.Close()
	m.http = nil
	return err
}

func (m *machine) httpPort() int {
	if m.http == nil {
		return 0
	}
	return m.http.port
}

// contentHandler serves texts by path.
func contentHandler(content map[string]string) http.HandlerFunc {
	texts := map[string]string{}
	for name, text := range content {
		texts[path.Clean("/"+name)] = text
	}
	return func(w http.ResponseWriter, r *http.Request) {
		text, ok := texts[path.Clean(r.URL.Path)]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		http.ServeContent(w, r, "", time.Time{}, strings.NewReader(text))
	}
}
