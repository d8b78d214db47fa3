package qemu

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
	"github.com/ingot-build/ingot/internal/communicator/winrm"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/vm"
)

// connect waits for the guest's communicator.
func (m *machine) connect(ctx context.Context, r *builder.Run, _ *state) (communicator.Guest, error) {
	c := &m.cfg
	g := communicator.Guest{Communicator: communicator.None{}, Data: communicator.Data{
		ID: c.VMName, ConnType: c.Communicator, HTTPIP: m.httpIP, HTTPPort: m.httpPort(),
		SSHPublicKey: strings.TrimSpace(string(c.SSHPublicKey)),
	}}
	if c.Communicator == "none" {
		return g, nil
	}
	d := &g.Data
	if c.Communicator == "winrm" {
		return m.connectWinRM(ctx, r, g)
	}
	d.User, d.Password = c.SSHUsername, c.SSHPassword
	d.SSHPrivateKey, d.KeyFile = m.key.private, m.keyFile
	if d.KeyFile == "" {
		d.KeyFile = c.SSHPrivateKeyFile
	}
	var err error
	if d.Host, d.Port, err = m.address(ctx); err != nil {
		return g, m.explainConnect(r, err)
	}
	conn, err := m.dial(ctx, r, ssh.Target{
		Host: d.Host, Port: d.Port, User: d.User, Password: d.Password, PrivateKey: m.key.private, Alive: m.dead,
	})
	if err != nil {
		return g, m.explainConnect(r, err)
	}
	m.conn, g.Communicator = conn, conn
	return g, nil
}

// connectWinRM waits for a Windows guest.
func (m *machine) connectWinRM(ctx context.Context, r *builder.Run, g communicator.Guest) (communicator.Guest, error) {
	c, d := &m.cfg, &g.Data
	d.User, d.Password, d.WinRMPassword = c.WinRMUsername, c.WinRMPassword, c.WinRMPassword
	var err error
	if d.Host, d.Port, err = m.address(ctx); err != nil {
		return g, m.explainConnect(r, err)
	}
	conn, err := winrm.Dial(ctx, c.Config, winrm.Target{Host: d.Host, Port: d.Port, User: d.User, Password: d.Password, Alive: m.dead}, r.Events)
	if err != nil {
		return g, m.explainConnect(r, err)
	}
	m.conn, g.Communicator = conn, conn
	return g, nil
}

// explainConnect adds what the guest last said.
func (m *machine) explainConnect(r *builder.Run, err error) error {
	if derr := m.dead(); derr != nil {
		err = errors.Join(derr, err)
	}
	var hint []string
	if h := diag.Hint(err); h != "" {
		hint = append(hint, h)
	}
	if tail := vm.Tail(r.Dir+"/"+consoleName, 15); tail != "" {
		hint = append(hint, "the end of the guest's console, which may tell why:\n"+tail)
	} else {
		hint = append(hint, "the guest wrote nothing on its serial console; VNC shows its screen")
	}
	return diag.WithHint(err, "%s", strings.Join(hint, "; "))
}

// address is where the communicator is reached from here.
func (m *machine) address(ctx context.Context) (host string, port int, err error) {
	c := &m.cfg
	host, port = c.SSHHost, c.guestPort()
	if c.Communicator == "winrm" {
		host = c.WinRMHost
	}
	if host != "" && (c.NetBridge != "" || c.SkipNATMapping) {
		return host, port, nil
	}
	if c.NetBridge == "" {
		if host == "" {
			host = "127.0.0.1"
		}
		return host, m.hostPort, nil
	}
	host, err = m.bridgeAddress(ctx)
	return host, port, err
}

// bridgeAddress waits until the guest's network card shows up with an address
// among this computer's neighbours.
func (m *machine) bridgeAddress(ctx context.Context) (string, error) {
	var text string
	err := m.proc.QMP().Do(ctx, "human-monitor-command", map[string]string{"command-line": "info network"}, &text)
	if err != nil {
		return "", fmt.Errorf("the guest's network card: %w", err)
	}
	mac := findMAC(text)
	if mac == "" {
		return "", errors.New("the guest has no network card")
	}
	ctx, stop := context.WithTimeoutCause(ctx, m.cfg.connectTimeout(), diag.WithHint(
		fmt.Errorf("no address of the guest (network card %s) on bridge %s was seen", mac, m.cfg.NetBridge),
		"the guest must get an address by itself there; or give it with ssh_host or winrm_host"))
	defer stop()
	host := ""
	err = poll.Until(ctx, poll.Backoff{}, func(context.Context) (bool, error) {
		if err := m.dead(); err != nil {
			return false, err
		}
		arp, err := os.ReadFile("/proc/net/arp")
		if err != nil {
			return false, fmt.Errorf("find the guest's address: %w", err)
		}
		host = findNeighbour(string(arp), mac)
		return host != "", nil
	})
	return host, err
}

func (c *Config) connectTimeout() time.Duration {
	if c.Communicator == "winrm" && c.WinRMTimeout > 0 {
		return c.WinRMTimeout
	}
	if c.SSHTimeout > 0 {
		return c.SSHTimeout
	}
	return 5 * time.Minute
}

var macPattern = regexp.MustCompile(`macaddr=([0-9a-fA-F:]{17})`)

// findMAC returns the first address in the answer to "info network".
func findMAC(text string) string {
	if f := macPattern.FindStringSubmatch(text); f != nil {
		return strings.ToLower(f[1])
	}
	return ""
}

// findNeighbour looks a hardware address up in a table like /proc/net/arp
// (proc_net(5)), and skips entries that are not complete.
func findNeighbour(table, mac string) string {
	sc := bufio.NewScanner(strings.NewReader(table))
	for sc.Scan() {
		f := strings.Fields(sc.Text())
		if len(f) >= 4 && strings.EqualFold(f[3], mac) && f[2] != "0x0" {
			return f[0]
		}
	}
	return ""
}

// errOtherKey says that a guest that need not shows another host key than the
// one it was given.
var errOtherKey = errors.New("the guest did not take the host key")

// dial connects over SSH. A guest that has shown to take the host key it is
// given, or is said to, must show it; of any other it is found out, and its key
// is not checked, which ssh warns of.
func (m *machine) dial(ctx context.Context, r *builder.Run, t ssh.Target) (*ssh.Conn, error) {
	given := m.hostKey.public != "" && (m.cfg.SSHHostKeyCheck == nil || *m.cfg.SSHHostKeyCheck)
	direct := m.cfg.SSHBastionHost == "" && m.cfg.SSHProxyHost == ""
	switch {
	case !given:
	case m.mustShowHostKey():
		t.HostKeys = []string{m.hostKey.public}
	case direct:
		t.HostKeyFunc = func(ctx context.Context) ([]string, error) {
			key, err := shownKey(ctx, net.JoinHostPort(t.Host, strconv.Itoa(t.Port)))
			if err != nil {
				return nil, nil // not known yet: ask again with the next try
			}
			ours, _, _, _, err := gossh.ParseAuthorizedKey([]byte(m.hostKey.public))
			if err != nil {
				return nil, err
			}
			if string(key.Marshal()) != string(ours.Marshal()) {
				return nil, errOtherKey
			}
			m.rememberHostKey()
			return []string{m.hostKey.public}, nil
		}
	}
	conn, err := ssh.Dial(ctx, m.cfg.Config, t, r.Events)
	if errors.Is(err, errOtherKey) {
		t.HostKeyFunc = nil
		conn, err = ssh.Dial(ctx, m.cfg.Config, t, r.Events)
	}
	var he *communicator.HostKeyError
	if errors.As(err, &he) {
		err = diag.WithHint(err, "if the image does not take the systemd credential %s, set ssh_host_key_check = false", credentialHost)
	}
	return conn, err
}

// shownKey returns the host key that the server at addr shows.
func shownKey(ctx context.Context, addr string) (gossh.PublicKey, error) {
	ctx, stop := context.WithTimeout(ctx, 30*time.Second)
	defer stop()
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	var shown gossh.PublicKey
	seen := errors.New("seen")
	_, _, _, err = gossh.NewClientConn(conn, addr, &gossh.ClientConfig{
		HostKeyCallback: func(_ string, _ net.Addr, key gossh.PublicKey) error {
			shown = key
			return seen
		},
	})
	if shown == nil {
		return nil, err
	}
	return shown, nil
}
