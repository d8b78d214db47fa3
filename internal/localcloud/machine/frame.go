package machine

import (
	"encoding/binary"
	"net/netip"
)

// Facts of Ethernet, ARP, IPv4, TCP and UDP (RFC 826, 791, 9293, 768).
const (
	etherARP   = 0x0806
	etherIPv4  = 0x0800
	protoTCP   = 6
	protoUDP   = 17
	etherLen   = 14
	arpLen     = 28
	flagSYN    = 0x02
	flagACK    = 0x10
	maxFrame   = 68 << 10 // QEMU's own limit
	dhcpServer = 67
	domain     = 53
)

// metadataAddr is where every guest asks for its metadata.
var metadataAddr = netip.AddrPortFrom(netip.AddrFrom4([4]byte{169, 254, 169, 254}), 80)

// linkLocal is the network of metadataAddr. Nothing of it leaves the machine:
// the host may itself be an instance with a metadata service, and secrets in
// it.
var linkLocal = netip.PrefixFrom(netip.AddrFrom4([4]byte{169, 254, 0, 0}), 16)

// translator decides what happens to the frames between a guest and its
// user-mode network. It is not safe for concurrent use.
type translator struct {
	net    network
	target func() netip.AddrPort // asked when a connection begins; zero: nobody answers
	now    netip.AddrPort        // target of the last connection
	known  map[netip.AddrPort]bool
}

// outcome says where a frame goes.
type outcome int

const (
	drop outcome = iota
	pass
	answer // back to where it came from
)

// packet is the IPv4 packet of a frame.
type packet struct {
	ip       []byte // from its header on
	head     int    // length of the header
	proto    byte
	src, dst netip.Addr
	transp   []byte // from the transport header on; nil for a later fragment
}

func parsePacket(frame []byte) (packet, bool) {
	if len(frame) < etherLen+20 || binary.BigEndian.Uint16(frame[12:]) != etherIPv4 {
		return packet{}, false
	}
	ip := frame[etherLen:]
	head := int(ip[0]&0x0f) * 4
	if ip[0]>>4 != 4 || head < 20 || len(ip) < head {
		return packet{}, false
	}
	p := packet{ip: ip, head: head, proto: ip[9], src: netip.AddrFrom4([4]byte(ip[12:16])), dst: netip.AddrFrom4([4]byte(ip[16:20]))}
	if binary.BigEndian.Uint16(ip[6:])&0x1fff == 0 {
		p.transp = ip[head:]
	}
	return p, true
}

// ports are zero where the packet holds none.
func (p *packet) ports() (src, dst uint16) {
	if (p.proto != protoTCP && p.proto != protoUDP) || len(p.transp) < 8 || p.proto == protoTCP && len(p.transp) < 20 {
		return 0, 0
	}
	return binary.BigEndian.Uint16(p.transp), binary.BigEndian.Uint16(p.transp[2:])
}

// begins reports whether it opens a TCP connection.
func (p *packet) begins() bool {
	return p.proto == protoTCP && len(p.transp) >= 20 && p.transp[13]&(flagSYN|flagACK) == flagSYN
}

// rewrite replaces an address and a TCP port, at which are the offsets of the
// address in the IP header and of the port in the TCP header.
func (p *packet) rewrite(addrAt, portAt int, to netip.AddrPort) {
	ip := to.Addr().As4()
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], to.Port())
	adjust(p.ip[10:12], p.ip[addrAt:addrAt+4], ip[:])
	adjust(p.transp[16:18], p.ip[addrAt:addrAt+4], ip[:])
	adjust(p.transp[16:18], p.transp[portAt:portAt+2], port[:])
	copy(p.ip[addrAt:], ip[:])
	copy(p.transp[portAt:], port[:])
}

// adjust updates an Internet checksum for the change of before to after, both
// of even length (RFC 1624, equation 3).
func adjust(sum, before, after []byte) {
	acc := uint32(^binary.BigEndian.Uint16(sum))
	for i := 0; i < len(before); i += 2 {
		acc += uint32(^binary.BigEndian.Uint16(before[i:])) + uint32(binary.BigEndian.Uint16(after[i:]))
	}
	for acc>>16 != 0 {
		acc = acc&0xffff + acc>>16
	}
	binary.BigEndian.PutUint16(sum, ^uint16(acc))
}

// fromGuest looks at a frame the guest sends and may change it.
func (t *translator) fromGuest(frame []byte) outcome {
	if len(frame) >= etherLen && binary.BigEndian.Uint16(frame[12:]) == etherARP {
		return t.arp(frame)
	}
	p, ok := parsePacket(frame)
	if !ok {
		return pass // the user-mode network knows nothing else
	}
	_, port := p.ports()
	switch {
	case p.dst == metadataAddr.Addr():
		return t.toMetadata(p)
	case linkLocal.Contains(p.dst) || p.dst.IsLoopback():
		return drop
	case t.net.subnet.Contains(p.dst):
		// The user-mode network leads its own addresses to the host's
		// loopback, where a guest has no business: only DHCP, DNS, and
		// answers to connections from outside.
		switch {
		case p.dst == t.net.dns && port == domain, p.proto == protoUDP && port == dhcpServer:
			return pass
		case p.proto == protoTCP && !p.begins():
			return pass
		}
		return drop
	}
	return pass
}

func (t *translator) toMetadata(p packet) outcome {
	if _, port := p.ports(); p.proto != protoTCP || port != metadataAddr.Port() || binary.BigEndian.Uint16(p.ip[6:])&0x3fff != 0 {
		return drop
	}
	if p.begins() {
		t.now = t.target()
		if t.now.IsValid() {
			t.known[t.now] = true
		}
	}
	if !t.now.IsValid() {
		return drop
	}
	p.rewrite(16, 2, t.now)
	return pass
}

// toGuest looks at a frame on its way to the guest and may change it.
func (t *translator) toGuest(frame []byte) outcome {
	p, ok := parsePacket(frame)
	if !ok || p.proto != protoTCP {
		return pass
	}
	if port, _ := p.ports(); port != 0 && t.known[netip.AddrPortFrom(p.src, port)] {
		p.rewrite(12, 0, metadataAddr)
	}
	return pass
}

// arp answers for the metadata address, which some systems look for on the
// local network: with the router's hardware address, which is as good as any.
func (t *translator) arp(frame []byte) outcome {
	if len(frame) < etherLen+arpLen {
		return drop
	}
	a := frame[etherLen:]
	if binary.BigEndian.Uint16(a[6:]) != 1 || netip.AddrFrom4([4]byte(a[24:28])) != metadataAddr.Addr() {
		return pass
	}
	router := t.net.router.As4()
	mac := append([]byte{0x52, 0x55}, router[:]...) // how the user-mode network makes its own
	wanted := metadataAddr.Addr().As4()
	binary.BigEndian.PutUint16(a[6:], 2)
	copy(a[18:28], a[8:18]) // to the one who asks
	copy(a[8:14], mac)
	copy(a[14:18], wanted[:])
	copy(frame[0:6], frame[6:12])
	copy(frame[6:12], mac)
	return answer
}
