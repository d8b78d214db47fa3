package amazon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/connect"
	"github.com/ingot-build/ingot/internal/communicator/ssh"
	"github.com/ingot-build/ingot/internal/diag"
)

var (
	errSeen      = errors.New("seen")
	errNoHostKey = diag.WithHint(errors.New("the guest did not print its SSH host key on its console, and behind a bastion or proxy it cannot be seen beforehand"),
		"set ssh_host_key_check = false to connect without a check")
)

// connect waits for the guest's communicator.
func (m *machine) connect(ctx context.Context, r *builder.Run, s *state) (communicator.Guest, error) {
	g := communicator.Guest{Communicator: communicator.None{}, Data: communicator.Data{
		ID: s.Instance.ID, ConnType: m.comm.Communicator, Generated: s.generated(),
		SSHPublicKey: m.keyLine, SSHPrivateKey: m.key, KeyFile: m.comm.SSHPrivateKeyFile,
	}}
	if m.comm.Communicator == "none" {
		return g, nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return g, err
	}
	d := &g.Data
	if !m.key.IsEmpty() {
		d.KeyFile = filepath.Join(r.Dir, keyFileName)
	}
	d.User, d.Password = m.comm.SSHUsername, m.comm.SSHPassword
	if d.Host, d.Port, err = m.address(ctx, c, s); err != nil {
		return g, err
	}
	if c.s.Local() {
		d.Port = localPort(ctx, d.Host, d.Port)
	}
	if m.comm.Communicator == "winrm" {
		d.User, d.WinRMPassword = m.comm.WinRMUsername, m.comm.WinRMPassword
		if d.WinRMPassword.IsEmpty() {
			if d.WinRMPassword, err = m.windowsPassword(ctx, c, r, s); err != nil {
				return g, err
			}
		}
		d.Password = d.WinRMPassword
	}
	t := ssh.Target{Host: d.Host, Port: d.Port, User: d.User, Password: d.Password, PrivateKey: m.key}
	overSSH := m.comm.Communicator != "winrm"
	if overSSH {
		m.hostKeys(c, r, s, &t)
	}
	r.Say("Connecting to instance %s at %s", s.Instance.ID, net.JoinHostPort(d.Host, strconv.Itoa(d.Port)))
	conn, err := connect.Dial(ctx, *m.comm, t, r.Events)
	if err != nil {
		return g, m.explainConnect(ctx, c, s, err)
	}
	m.conn, g.Communicator = conn, conn
	if overSSH {
		m.arm(ctx, r)
	}
	return g, nil
}

// explainConnect adds what may keep the guest from answering.
func (m *machine) explainConnect(ctx context.Context, c cloud, s *state, err error) error {
	var he *communicator.HostKeyError
	if errors.As(err, &he) {
		return diag.WithHint(err, "the host key is not one that the guest printed on its console; ssh_host_key_check = false connects without a check")
	}
	hints := []string{}
	if h := diag.Hint(err); h != "" {
		hints = append(hints, h)
	}
	f := keyFinder{c: c, instance: s.Instance.ID, nitro: s.Instance.Nitro}
	if text, cerr := f.read(context.WithoutCancel(ctx)); cerr == nil && strings.TrimSpace(text) != "" {
		hints = append(hints, "the end of the guest's console, which may tell why:\n"+tail(text, 15))
	} else {
		hints = append(hints, "the instance must be reachable from here: a public address, or ssh_interface, ssh_bastion_host; and its security group must let us in")
	}
	return diag.WithHint(err, "%s", strings.Join(hints, "; "))
}

// addressTime is how long an instance that runs may be without its addresses.
const addressTime = 2 * time.Minute

// tail returns the last n lines.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

// address is where the communicator is reached from here.
func (m *machine) address(ctx context.Context, c cloud, s *state) (host string, port int, err error) {
	port = m.port()
	if m.tunnel != nil {
		return "127.0.0.1", m.tunnel.port, nil
	}
	if host = m.comm.SSHHost; m.comm.Communicator == "winrm" {
		host = m.comm.WinRMHost
	}
	if host != "" {
		return host, port, nil
	}
	m.mu.Lock()
	i := m.running
	m.mu.Unlock()
	err = c.s.Wait(ctx, addressTime, func(ctx context.Context) (bool, error) {
		if i == nil {
			now, there, err := c.instance(ctx, s.Instance.ID)
			if err != nil || !there {
				return false, err
			}
			i = &now
		}
		host = hostOf(*i, m.run.Interface)
		i = nil
		return host != "", nil
	})
	var late *awsaccess.TimeoutError
	if errors.As(err, &late) {
		err = diag.WithHint(fmt.Errorf("instance %s has no address of the kind %s: %w", s.Instance.ID, m.run.Interface, err),
			"choose another ssh_interface, or a subnet that gives such addresses (associate_public_ip_address = true)")
	}
	return host, port, err
}

// localShift is how much higher a port of an instance of the local cloud is
// where it cannot be the port itself: below 1024 that takes a privilege, and a
// server of this computer may listen on every address.
const localShift = 10000

// localPort is where the port of an instance of the local cloud is. Nothing
// but the instance listens on its own loopback address.
func localPort(ctx context.Context, host string, port int) int {
	ip, err := netip.ParseAddr(host)
	if err != nil || !ip.IsLoopback() || ip.String() == "127.0.0.1" || port+localShift > 65535 {
		return port
	}
	var d net.Dialer
	conn, err := d.DialContext(ctx, "tcp", net.JoinHostPort(host, strconv.Itoa(port+localShift)))
	if err != nil {
		return port
	}
	_ = conn.Close() // it was only to see
	return port + localShift
}

// hostOf is the address of an instance that ssh_interface asks for, "" when it
// has none (yet).
func hostOf(i types.Instance, kind string) string {
	switch kind {
	case "public_ip":
		return aws.ToString(i.PublicIpAddress)
	case "private_ip":
		return aws.ToString(i.PrivateIpAddress)
	case "public_dns":
		return aws.ToString(i.PublicDnsName)
	case "private_dns":
		return aws.ToString(i.PrivateDnsName)
	case "ipv6":
		if a := aws.ToString(i.Ipv6Address); a != "" {
			return a
		}
		for _, n := range i.NetworkInterfaces {
			for _, a := range n.Ipv6Addresses {
				return aws.ToString(a.Ipv6Address)
			}
		}
		return ""
	}
	for _, h := range []*string{i.PublicIpAddress, i.PublicDnsName, i.PrivateIpAddress} {
		if aws.ToString(h) != "" {
			return *h
		}
	}
	return ""
}
