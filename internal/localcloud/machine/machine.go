// Package machine runs the instances of a local cloud: real virtual machines
// under QEMU ([QEMU]), and stand-ins without a machine for tests ([Simulated]).
//
// A QEMU machine outlives the process that started it. It is found again by
// its identity, which the caller journals. Every operation connects to the
// machine's control socket anew, so several processes may drive one machine;
// they take turns.
package machine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/diag"
)

// A Spec says what a machine is. Its disks and its folder belong to the
// caller.
type Spec struct {
	ID           string // instance id (i-0123abcd)
	Dir          string // existing folder for sockets, logs, firmware variables and TPM state; absolute
	Arch         string // x86_64 or arm64
	BootMode     string // legacy-bios, uefi or uefi-preferred; "" is legacy-bios (uefi for arm64)
	TPM          bool   // TPM 2.0, its state kept in Dir
	InstanceType string // shown as the product's name; may be ""
	VCPUs        int
	MemoryMiB    int
	Disks        []Disk // the first is the root disk
	Address      string // own IPv4 loopback address on the host, such as 127.83.0.5
	Ports        []int  // TCP ports of Address that lead to the same ports of the guest
	MAC          string // 02:…; "" is derived from ID
	PrivateIP    string // address the guest gets by DHCP
	Subnet       string // its network in CIDR notation, /28 to /16; "" is the /20 around PrivateIP
	Hostname     string // told by DHCP, for guests that ask no metadata service; "" tells none
	Metadata     string // ADDRESS:PORT on the host where this machine's 169.254.169.254:80 is answered; "" for nobody
	Console      string // file of the serial console; appended to

	// For [Simulated] only: a real guest asks the metadata service.
	AuthorizedKeys []string // public keys, in OpenSSH's format, that may log in as anybody
}

// A Disk is a disk of a machine.
type Disk struct {
	Path       string // image file; absolute
	Format     string // qcow2 or raw
	DeviceName string // /dev/xvda, /dev/sdf: a guest that knows how names it so
	ReadOnly   bool
	VolumeID   string // vol-…, unique in the machine; without its dash the disk's serial number
}

// ErrEnded says that the machine does not run any more.
var ErrEnded = errors.New("the machine does not run")

// A Driver starts machines.
type Driver interface {
	// Check reports what is missing to run a machine of the architecture.
	Check(ctx context.Context, arch string) error
	// Start starts a machine and returns when it runs and its ports are
	// open; the guest has just begun to boot. After an error nothing is left
	// running. ctx bounds the start only.
	Start(ctx context.Context, s Spec) (Process, error)
	// Find finds a machine that was started with s, perhaps by another
	// process, by what [Process.Identity] was. It reports false when it does
	// not run.
	Find(s Spec, identity json.RawMessage) (Process, bool)
}

// A Process is a running machine. Its methods are safe for concurrent use, and
// after its end they return an error that is [ErrEnded] (Kill does not).
type Process interface {
	// Identity is what [Driver.Find] needs; it holds no path and no secret.
	Identity() json.RawMessage
	// HostPort is the port of Spec.Address that leads to the guest's port.
	// It is the same number; but 10000 more when this user may not listen on
	// it (on Linux, the sysctl net.ipv4.ip_unprivileged_port_start=22 lets
	// every user), or a server of the host listens there on all addresses.
	HostPort(port int) int
	// PowerButton asks the guest to shut down.
	PowerButton(ctx context.Context) error
	// Reset presses the reset button: the guest boots again at once.
	Reset(ctx context.Context) error
	// Kill ends the machine, and with it its helpers, sockets and pid files.
	// It succeeds when the machine has ended before.
	Kill(ctx context.Context) error
	// Done is closed when the machine has ended.
	Done() <-chan struct{}
	// GuestHalted reports, after Done, whether the guest shut itself down:
	// false when it was killed or crashed.
	GuestHalted() bool
	// Screenshot returns the screen as a JPEG image.
	Screenshot(ctx context.Context) ([]byte, error)
	// SetPorts replaces the forwarded ports. Connections that are open stay.
	SetPorts(ctx context.Context, ports []int) error
	// SetMetadata changes Spec.Metadata. Connections that are open stay.
	SetMetadata(ctx context.Context, addr string) error
	// AttachDisk adds a disk. It succeeds when it is there already.
	AttachDisk(ctx context.Context, d Disk) error
	// DetachDisk asks the guest to give a disk up, and waits until it has and
	// the image file is closed; a guest that does not boot yet or hangs makes
	// it wait until ctx ends. It succeeds when the disk is not there.
	DetachDisk(ctx context.Context, volumeID string) error
	// SnapshotDisks writes what the disks hold now, all at one point in time
	// as if the power had failed then, to new qcow2 files, and returns when
	// they are complete; the guest goes on. A file has the same backing file
	// as its disk's image and holds what differs from it. After an error no
	// file is left.
	SnapshotDisks(ctx context.Context, volumeIDs, files []string) error
}

// A PortError says that a port of a machine's address cannot be had.
type PortError struct {
	Addr string // address:port on the host
	Err  error
}

func (e *PortError) Error() string { return fmt.Sprintf("cannot listen on %s: %v", e.Addr, e.Err) }
func (e *PortError) Unwrap() error { return e.Err }

var (
	idPattern   = regexp.MustCompile(`^[a-z][A-Za-z0-9-]{0,30}$`)
	macPattern  = regexp.MustCompile(`^[0-9a-f]{2}(:[0-9a-f]{2}){5}$`)
	hostPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9.-]{0,61}[A-Za-z0-9])?$`)
	typePattern = regexp.MustCompile(`^[A-Za-z0-9.-]{0,40}$`)
)

// check returns every fault of s.
func (s *Spec) check() error {
	var errs []error
	fault := func(path, format string, args ...any) { errs = append(errs, diag.Fieldf(path, format, args...)) }
	if !idPattern.MatchString(s.ID) {
		fault("ID", "%q is not an instance id", s.ID)
	}
	if !strings.HasPrefix(s.Dir, "/") {
		fault("Dir", "%q is not an absolute path", s.Dir)
	}
	if s.Arch != "x86_64" && s.Arch != "arm64" {
		fault("Arch", "%q is not x86_64 or arm64", s.Arch)
	}
	if !slices.Contains([]string{"", "legacy-bios", "uefi", "uefi-preferred"}, s.BootMode) {
		fault("BootMode", "%q is not legacy-bios, uefi or uefi-preferred", s.BootMode)
	} else if s.Arch == "arm64" && s.BootMode == "legacy-bios" {
		fault("BootMode", "arm64 machines boot with UEFI only")
	}
	if s.VCPUs < 1 || s.VCPUs > 255 {
		fault("VCPUs", "%d is not a number of processors", s.VCPUs)
	}
	if s.MemoryMiB < 16 {
		fault("MemoryMiB", "%d MiB are too little memory", s.MemoryMiB)
	}
	if ip, err := netip.ParseAddr(s.Address); err != nil || !ip.Is4() || !ip.IsLoopback() {
		fault("Address", "%q is not an IPv4 loopback address", s.Address)
	}
	if s.MAC != "" && !macPattern.MatchString(s.MAC) {
		fault("MAC", "%q is not a hardware address in small letters", s.MAC)
	}
	if s.Hostname != "" && !hostPattern.MatchString(s.Hostname) {
		fault("Hostname", "%q is not a host name", s.Hostname)
	}
	if !typePattern.MatchString(s.InstanceType) {
		fault("InstanceType", "%q is not an instance type", s.InstanceType)
	}
	if _, err := s.network(); err != nil {
		errs = append(errs, err)
	}
	if err := checkPorts(s.Ports); err != nil {
		fault("Ports", "%w", err)
	}
	if _, err := parseTarget(s.Metadata); err != nil {
		fault("Metadata", "%w", err)
	}
	if len(s.Disks) == 0 {
		fault("Disks", "a machine needs a root disk")
	}
	seen := map[string]bool{}
	for i, d := range s.Disks {
		if err := d.check(); err != nil {
			fault(fmt.Sprintf("Disks[%d]", i), "%w", err)
		}
		if seen[d.VolumeID] {
			fault(fmt.Sprintf("Disks[%d]", i), "the volume %s is there twice", d.VolumeID)
		}
		seen[d.VolumeID] = true
	}
	return errors.Join(errs...)
}

func (d *Disk) check() error {
	switch {
	case !idPattern.MatchString(d.VolumeID):
		return fmt.Errorf("%q is not a volume id", d.VolumeID)
	case !strings.HasPrefix(d.Path, "/"):
		return fmt.Errorf("%q is not an absolute path", d.Path)
	case d.Format != "qcow2" && d.Format != "raw":
		return fmt.Errorf("the format %q is not qcow2 or raw", d.Format)
	}
	return nil
}

func checkPorts(ports []int) error {
	for _, p := range ports {
		if p < 1 || p > 65535 {
			return fmt.Errorf("%d is not a TCP port", p)
		}
	}
	return nil
}

// network is where a guest finds itself, laid out as in EC2: the first address
// is the router, the second answers DNS.
type network struct {
	subnet                 netip.Prefix
	router, dns, privateIP netip.Addr
}

func (s *Spec) network() (network, error) {
	ip, err := netip.ParseAddr(s.PrivateIP)
	if err != nil || !ip.Is4() {
		return network{}, diag.Fieldf("PrivateIP", "%q is not an IPv4 address", s.PrivateIP)
	}
	subnet := netip.PrefixFrom(ip, 20).Masked()
	if s.Subnet != "" {
		subnet, err = netip.ParsePrefix(s.Subnet)
		if err != nil || !subnet.Addr().Is4() || subnet.Bits() < 16 || subnet.Bits() > 28 {
			return network{}, diag.Fieldf("Subnet", "%q is not an IPv4 network between /28 and /16", s.Subnet)
		}
		subnet = subnet.Masked()
	}
	n := network{subnet: subnet, privateIP: ip}
	n.router = subnet.Addr().Next()
	n.dns = n.router.Next()
	if !subnet.Contains(ip) || ip == subnet.Addr() || ip == n.router || ip == n.dns {
		return network{}, diag.Fieldf("PrivateIP", "%s is not an address for a machine in %s", ip, subnet)
	}
	return n, nil
}

// parseTarget reads ADDRESS:PORT; "" is the zero value.
func parseTarget(s string) (netip.AddrPort, error) {
	if s == "" {
		return netip.AddrPort{}, nil
	}
	t, err := netip.ParseAddrPort(s)
	if err != nil || !t.Addr().Is4() || t.Port() == 0 {
		return netip.AddrPort{}, fmt.Errorf("%q is not an IPv4 address and a port", s)
	}
	return t, nil
}
