package localcloud

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"slices"
	"strings"
)

// publicRange is where public addresses are from: the machine's own loopback
// network, away from the addresses that other programs use. It is large, and
// addresses are taken at random, so that several clouds on one machine do not
// meet.
var publicRange = netip.MustParsePrefix("127.64.0.0/10")

// An Address is an elastic IP address.
type Address struct {
	ID, IP      string // eipalloc-…
	Association string // eipassoc-…, "" while free
	Instance    string
	Tags        Tags
}

// RecordKind implements [Record].
func (Address) RecordKind() string { return "address" }

// RecordID implements [Record].
func (a Address) RecordID() string { return a.ID }

// holdsAddress reports whether an instance has its private address: until it
// is terminated.
func holdsAddress(i Instance) bool { return i.State != "terminated" }

// privateAddresses returns those in use in a subnet.
func (t *Tx) privateAddresses(subnet string) (map[string]bool, error) {
	all, err := All[Instance](t)
	if err != nil {
		return nil, err
	}
	used := map[string]bool{}
	for _, i := range all {
		if i.Subnet == subnet && holdsAddress(i) {
			used[i.PrivateIP] = true
		}
	}
	return used, nil
}

// NextPrivateIP returns a free address of a subnet. It is in use once an
// instance that has it is written.
func (t *Tx) NextPrivateIP(s Subnet) (string, error) {
	ips, err := t.NextPrivateIPs(s, 1)
	if err != nil {
		return "", err
	}
	return ips[0], nil
}

// NextPrivateIPs returns n free addresses of a subnet, or
// InsufficientFreeAddressesInSubnet.
func (t *Tx) NextPrivateIPs(s Subnet, n int) ([]string, error) {
	p, err := netip.ParsePrefix(s.CIDR)
	if err != nil {
		return nil, fmt.Errorf("local cloud: %s: %w", s.ID, err)
	}
	used, err := t.privateAddresses(s.ID)
	if err != nil {
		return nil, err
	}
	var out []string
	size := uint32(1) << (32 - p.Bits())
	for i := uint32(reservedAddresses - 1); i < size-1 && len(out) < n; i++ {
		if ip := addressAt(p.Addr(), i).String(); !used[ip] {
			out = append(out, ip)
		}
	}
	if len(out) < n {
		return nil, Errorf("InsufficientFreeAddressesInSubnet", "There are not enough free addresses in subnet '%s' to satisfy the requested number of instances.", s.ID)
	}
	return out, nil
}

// CheckPrivateIP refuses an address that an instance cannot have in a subnet.
func (t *Tx) CheckPrivateIP(s Subnet, ip string) error {
	p, err := netip.ParsePrefix(s.CIDR)
	if err != nil {
		return fmt.Errorf("local cloud: %s: %w", s.ID, err)
	}
	a, err := netip.ParseAddr(ip)
	if err != nil || !a.Is4() {
		return Errorf("InvalidParameterValue", "Value (%s) for parameter privateIpAddress is invalid. It must be an IPv4 address", ip)
	}
	last := addressAt(p.Addr(), uint32(1)<<(32-p.Bits())-1)
	switch {
	case !p.Contains(a):
		return Errorf("InvalidParameterValue", "Address %s does not fall within the subnet's address range %s", ip, s.CIDR)
	case a.Less(addressAt(p.Addr(), reservedAddresses-1)) || a == last:
		return Errorf("InvalidParameterValue", "Address %s is in subnet's reserved address range", ip)
	}
	used, err := t.privateAddresses(s.ID)
	if err != nil {
		return err
	}
	if used[a.String()] {
		return Errorf("InvalidIPAddress.InUse", "Address %s is in use.", ip)
	}
	return nil
}

// NextPublicIP returns a loopback address that no instance and no elastic
// address of any region has, and on which nothing listens. It is in use once a
// record that has it is written.
func (t *Tx) NextPublicIP() (string, error) {
	used := listening()
	for _, r := range Regions() {
		in := t.In(r)
		instances, err := All[Instance](in)
		if err != nil {
			return "", err
		}
		for _, i := range instances {
			if holdsAddress(i) {
				used[i.PublicIP], used[i.Address] = true, true
			}
		}
		addresses, err := All[Address](in)
		if err != nil {
			return "", err
		}
		for _, a := range addresses {
			used[a.IP] = true
		}
	}
	size := uint32(1) << (32 - publicRange.Bits())
	for range 1000 {
		a := addressAt(publicRange.Addr(), rand.Uint32N(size))
		if last := a.As4()[3]; last == 0 || last == 255 || used[a.String()] {
			continue
		}
		return a.String(), nil
	}
	return "", Errorf("AddressLimitExceeded", "No public address is free in %s", publicRange)
}

// listening returns the IPv4 addresses on which something of this machine
// listens, as far as the kernel tells.
func listening() map[string]bool {
	out := map[string]bool{}
	f, err := os.Open("/proc/net/tcp")
	if err != nil {
		return out
	}
	defer f.Close()
	const listen = "0A"
	for lines := bufio.NewScanner(f); lines.Scan(); {
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[3] != listen {
			continue
		}
		digits, _, _ := strings.Cut(fields[1], ":")
		raw, err := hex.DecodeString(digits)
		if err != nil || len(raw) != 4 {
			continue
		}
		// The kernel writes the address's four bytes as one of its numbers.
		var b [4]byte
		binary.NativeEndian.PutUint32(b[:], binary.BigEndian.Uint32(raw))
		out[netip.AddrFrom4(b).String()] = true
	}
	return out
}

// AllocateAddress takes an elastic IP address.
func (c *Cloud) AllocateAddress(ctx context.Context, region string, tags Tags) (a Address, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		ip, err := t.NextPublicIP()
		if err != nil {
			return err
		}
		a = Address{ID: NewID("eipalloc"), IP: ip, Tags: tags.Clone()}
		return Put(t, a)
	})
	return a, err
}

// address returns the one with an allocation id, or with an IP address.
func (t *Tx) address(id, ip string) (Address, error) {
	all, err := All[Address](t)
	if err != nil {
		return Address{}, err
	}
	i := slices.IndexFunc(all, func(a Address) bool { return id != "" && a.ID == id || id == "" && a.IP == ip })
	switch {
	case i >= 0:
		return all[i], nil
	case id != "":
		return Address{}, Errorf("InvalidAllocationID.NotFound", "The allocation ID '%s' does not exist", id)
	}
	return Address{}, Errorf("InvalidAddress.NotFound", "Address '%s' not found.", ip)
}

// ReleaseAddress gives back an elastic address that is not associated, named
// by its allocation id or, with an empty id, by itself.
func (c *Cloud) ReleaseAddress(ctx context.Context, region, id, ip string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		a, err := t.address(id, ip)
		if err != nil {
			return err
		}
		if a.Association != "" {
			return Errorf("InvalidIPAddress.InUse", "Address %s is in use.", a.IP)
		}
		return Delete[Address](t, a.ID)
	})
}

// AddressOf returns the elastic address associated with an instance.
func (t *Tx) AddressOf(instance string) (a Address, ok bool, err error) {
	all, err := All[Address](t)
	if err != nil {
		return a, false, err
	}
	i := slices.IndexFunc(all, func(a Address) bool { return a.Association != "" && a.Instance == instance })
	if i < 0 {
		return a, false, nil
	}
	return all[i], true, nil
}

// AssociateParams are those of AssociateAddress.
type AssociateParams struct {
	Allocation, IP      string // one of them
	Instance, Interface string // one of them
	Reassociate         bool   // take it from another instance
}

// AssociateAddress gives an instance an elastic address and returns the id of
// the association. What the instance had is lost to it. The machine follows by
// a job.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AssociateAddress.html
func (c *Cloud) AssociateAddress(ctx context.Context, region string, p AssociateParams) (id string, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		a, err := t.address(p.Allocation, p.IP)
		if err != nil {
			return err
		}
		i, err := t.instanceBy(p.Instance, p.Interface)
		if err != nil {
			return err
		}
		if i.State != "running" && i.State != "stopped" && i.State != "pending" {
			return Errorf("IncorrectInstanceState", "The instance '%s' is %s: it takes no address", i.ID, i.State)
		}
		if a.Association != "" && a.Instance == i.ID {
			id = a.Association // done before
			return nil
		}
		if a.Association != "" {
			if !p.Reassociate {
				return Errorf("Resource.AlreadyAssociated", "resource %s is already associated with associate-id %s", a.ID, a.Association)
			}
			if err := t.release(&a); err != nil {
				return err
			}
		}
		if had, ok, err := t.AddressOf(i.ID); err != nil {
			return err
		} else if ok {
			had.Association, had.Instance = "", ""
			if err := Put(t, had); err != nil {
				return err
			}
		}
		id = NewID("eipassoc")
		a.Association, a.Instance = id, i.ID
		i.PublicIP = a.IP
		if err := Put(t, i); err != nil {
			return err
		}
		return firstError(Put(t, a), t.readdress(i))
	})
	return id, err
}

// DisassociateAddress takes an elastic address from its instance, named by the
// association or, with an empty id, by itself.
func (c *Cloud) DisassociateAddress(ctx context.Context, region, association, ip string) error {
	return c.Update(ctx, region, func(t *Tx) error {
		all, err := All[Address](t)
		if err != nil {
			return err
		}
		for _, a := range all {
			if a.Association == "" || association != "" && a.Association != association || association == "" && a.IP != ip {
				continue
			}
			if err := t.release(&a); err != nil {
				return err
			}
			return Put(t, a)
		}
		if association != "" {
			return Errorf("InvalidAssociationID.NotFound", "The association ID '%s' does not exist", association)
		}
		return Errorf("InvalidAddress.NotFound", "Address '%s' not found.", ip)
	})
}

// release takes an address from its instance, which gets one of its own again
// if it was launched with one and runs.
func (t *Tx) release(a *Address) error {
	i, ok, err := Get[Instance](t, a.Instance)
	if err != nil {
		return err
	}
	a.Association, a.Instance = "", ""
	if !ok || i.PublicIP != a.IP {
		return nil
	}
	i.PublicIP = ""
	if i.Public && i.State == "running" {
		if i.PublicIP, err = t.NextPublicIP(); err != nil {
			return err
		}
	}
	if err := Put(t, i); err != nil {
		return err
	}
	return t.readdress(i)
}

// FreeAddressesOf gives back the elastic addresses of an instance that is
// terminated; they stay allocated.
func (t *Tx) FreeAddressesOf(instance string) error {
	a, ok, err := t.AddressOf(instance)
	if err != nil || !ok {
		return err
	}
	a.Association, a.Instance = "", ""
	return Put(t, a)
}

// instanceBy returns the instance with an id, or with an interface.
func (t *Tx) instanceBy(id, iface string) (Instance, error) {
	if id != "" {
		i, ok, err := Get[Instance](t, id)
		if err == nil && !ok {
			err = Errorf("InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", id)
		}
		return i, err
	}
	all, err := All[Instance](t)
	if err != nil {
		return Instance{}, err
	}
	n := slices.IndexFunc(all, func(i Instance) bool { return iface != "" && i.Interface.ID == iface && holdsAddress(i) })
	if n < 0 {
		return Instance{}, Errorf("InvalidNetworkInterfaceID.NotFound", "The networkInterface ID '%s' does not exist", iface)
	}
	return all[n], nil
}
