package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/vm/qmp"
)

// portShift says which ports of a machine have another number on the host:
// shiftBy more.
type portShift struct {
	Low   bool  `json:"low,omitempty"`   // all below 1024
	Taken []int `json:"taken,omitempty"` // and these
}

const shiftBy = 10000

func (s portShift) host(port int) int {
	if s.Low && port < 1024 || slices.Contains(s.Taken, port) {
		return port + shiftBy
	}
	return port
}

// shiftPorts finds out on which ports of the address this user can listen.
// Below net.ipv4.ip_unprivileged_port_start (ip(7)) it needs a privilege; and
// none is free where a server of the host, its sshd perhaps, listens on every
// address. Those are shifted. A port that another machine of ours has is a
// *[PortError].
func shiftPorts(address string, ports []int) (s portShift, err error) {
	for _, port := range append([]int{22}, ports...) {
		switch taken, err := probe(address, port); {
		case errors.Is(err, fs.ErrPermission):
			s.Low = true
		case err != nil:
			return s, err
		case taken && port+shiftBy <= 65535 && !slices.Contains(s.Taken, port):
			s.Taken = append(s.Taken, port)
		}
	}
	return s, nil
}

// nobody is an address that no machine has.
const nobody = "127.255.255.254"

// probe tries to listen. everywhere says that some server listens on all
// addresses.
func probe(address string, port int) (everywhere bool, err error) {
	addr := hostAddr(address, port)
	ln, err := net.Listen("tcp4", addr)
	if err == nil {
		return false, hangUp(ln)
	}
	if errors.Is(err, syscall.EADDRINUSE) {
		other, oerr := net.Listen("tcp4", hostAddr(nobody, port))
		if errors.Is(oerr, syscall.EADDRINUSE) {
			return true, nil
		}
		if oerr == nil {
			_ = hangUp(other)
		}
	}
	return false, portError(addr, err)
}

// hangUp closes ln so that its port is free at once: a child that was forked
// has ln open, too, until it runs its program.
func hangUp(ln net.Listener) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	return ln.Close()
}

func portError(addr string, err error) error {
	return diag.WithHint(&PortError{addr, err}, "end what listens there, or use other addresses for this cloud")
}

// SetPorts implements [Process].
func (p *process) SetPorts(ctx context.Context, ports []int) error {
	if err := checkPorts(ports); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.with(ctx, func(c *qmp.Client) error {
		table, err := monitor(ctx, c, "info usernet")
		if err != nil {
			return err
		}
		have := parseForwards(table)
		want := map[int]int{}
		for _, port := range ports {
			want[p.HostPort(port)] = port
		}
		var errs []error
		for host := range have {
			if have[host] == want[host] {
				continue
			}
			if _, err := monitor(ctx, c, fmt.Sprintf("hostfwd_remove %s tcp:%s:%d", slirp, p.spec.Address, host)); err != nil {
				errs = append(errs, err)
			}
		}
		for host, guest := range want {
			if have[host] == guest {
				continue
			}
			said, err := monitor(ctx, c, fmt.Sprintf("hostfwd_add %s tcp:%s:%d-:%d", slirp, p.spec.Address, host, guest))
			if err == nil && strings.TrimSpace(said) != "" { // it says something only when it fails
				err = portError(hostAddr(p.spec.Address, host), errors.New(strings.TrimSpace(said)))
			}
			errs = append(errs, err)
		}
		return errors.Join(errs...)
	})
}

// monitor runs a command of the human monitor, which alone can change
// forwarded ports.
func monitor(ctx context.Context, c *qmp.Client, line string) (string, error) {
	var said string
	err := c.Do(ctx, "human-monitor-command", map[string]any{"command-line": line}, &said)
	return said, err
}

// parseForwards reads the table of "info usernet": host ports and the guest's
// ports they lead to.
func parseForwards(table string) map[int]int {
	out := map[int]int{}
	for line := range strings.Lines(table) {
		// TCP[HOST_FORWARD] FD ADDRESS PORT ADDRESS PORT …
		f := strings.Fields(line)
		if len(f) < 6 || f[0] != "TCP[HOST_FORWARD]" {
			continue
		}
		host, err1 := strconv.Atoi(f[3])
		guest, err2 := strconv.Atoi(f[5])
		if err1 == nil && err2 == nil {
			out[host] = guest
		}
	}
	return out
}
