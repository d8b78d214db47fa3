package machine

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"
	"time"
)

// sum is the Internet checksum over parts, from scratch (RFC 1071).
func sum(parts ...[]byte) uint16 {
	var acc uint32
	for _, p := range parts {
		for i := 0; i+1 < len(p); i += 2 {
			acc += uint32(binary.BigEndian.Uint16(p[i:]))
		}
		if len(p)%2 == 1 { // only the last part
			acc += uint32(p[len(p)-1]) << 8
		}
	}
	for acc>>16 != 0 {
		acc = acc&0xffff + acc>>16
	}
	return ^uint16(acc)
}

// frame makes a frame with right checksums.
func frame(proto byte, src, dst string, flags byte, data string) []byte {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	sip, dip := s.Addr().As4(), d.Addr().As4()
	head := 20
	if proto == protoUDP {
		head = 8
	}
	transp := make([]byte, head, head+len(data))
	binary.BigEndian.PutUint16(transp, s.Port())
	binary.BigEndian.PutUint16(transp[2:], d.Port())
	transp = append(transp, data...)
	pseudo := append(append(sip[:], dip[:]...), 0, proto, byte(len(transp)>>8), byte(len(transp)))
	at := 6
	if proto == protoTCP {
		transp[12], transp[13], at = 5<<4, flags, 16
	} else {
		binary.BigEndian.PutUint16(transp[4:], uint16(len(transp)))
	}
	binary.BigEndian.PutUint16(transp[at:], sum(pseudo, transp))
	ip := make([]byte, 20)
	ip[0], ip[8], ip[9] = 0x45, 64, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(20+len(transp)))
	copy(ip[12:], sip[:])
	copy(ip[16:], dip[:])
	binary.BigEndian.PutUint16(ip[10:], sum(ip))
	eth := append(bytes.Repeat([]byte{0x52}, 6), 2, 1, 1, 1, 1, 1, etherIPv4>>8, etherIPv4&0xff)
	return append(append(eth, ip...), transp...)
}

func translatorTo(t *testing.T, target string) (*translator, *netip.AddrPort) {
	t.Helper()
	s := Spec{PrivateIP: "172.31.5.9"}
	n, err := s.network()
	if err != nil {
		t.Fatal(err)
	}
	var to netip.AddrPort
	if target != "" {
		to = netip.MustParseAddrPort(target)
	}
	return &translator{net: n, known: map[netip.AddrPort]bool{}, target: func() netip.AddrPort { return to }}, &to
}

func TestFramesFromTheGuest(t *testing.T) {
	tr, _ := translatorTo(t, "127.0.0.1:4000")
	for name, c := range map[string]struct {
		frame []byte
		want  outcome
	}{
		"Internet":               {frame(protoTCP, "172.31.5.9:999", "203.0.113.5:443", flagSYN, ""), pass},
		"DNS":                    {frame(protoUDP, "172.31.5.9:999", "172.31.0.2:53", 0, "q"), pass},
		"DHCP":                   {frame(protoUDP, "172.31.5.9:68", "172.31.0.1:67", 0, "q"), pass},
		"DHCP to all":            {frame(protoUDP, "0.0.0.0:68", "255.255.255.255:67", 0, "q"), pass},
		"an answer":              {frame(protoTCP, "172.31.5.9:22", "172.31.0.1:4711", flagSYN|flagACK, ""), pass},
		"the host":               {frame(protoTCP, "172.31.5.9:999", "172.31.0.1:4000", flagSYN, ""), drop},
		"the host by UDP":        {frame(protoUDP, "172.31.5.9:999", "172.31.0.1:53", 0, "q"), drop},
		"a neighbour":            {frame(protoTCP, "172.31.5.9:999", "172.31.7.7:80", flagSYN, ""), drop},
		"loopback":               {frame(protoTCP, "172.31.5.9:999", "127.0.0.1:4000", flagSYN, ""), drop},
		"another link-local":     {frame(protoTCP, "172.31.5.9:999", "169.254.170.2:80", flagSYN, ""), drop},
		"metadata, wrong port":   {frame(protoTCP, "172.31.5.9:999", "169.254.169.254:443", flagSYN, ""), drop},
		"metadata by UDP":        {frame(protoUDP, "172.31.5.9:123", "169.254.169.254:123", 0, "q"), drop},
		"IPv6 and what is not":   {append(bytes.Repeat([]byte{1}, 12), 0x86, 0xdd, 0), pass},
		"a header that is a lie": {append(append(bytes.Repeat([]byte{1}, 12), 8, 0), bytes.Repeat([]byte{0x4f}, 20)...), pass},
	} {
		before := bytes.Clone(c.frame)
		if got := tr.fromGuest(c.frame); got != c.want {
			t.Errorf("%s: %v, want %v", name, got, c.want)
		}
		if !bytes.Equal(before, c.frame) {
			t.Errorf("%s: changed", name)
		}
	}
}

func TestMetadataConnectionsAreTranslated(t *testing.T) {
	tr, to := translatorTo(t, "127.0.0.1:4000")
	for _, data := range []string{"", "odd", "even"} {
		out := frame(protoTCP, "172.31.5.9:999", "169.254.169.254:80", flagSYN, data)
		if tr.fromGuest(out) != pass || !bytes.Equal(out, frame(protoTCP, "172.31.5.9:999", "127.0.0.1:4000", flagSYN, data)) {
			t.Errorf("%q: % x", data, out)
		}
		in := frame(protoTCP, "127.0.0.1:4000", "172.31.5.9:999", flagACK, data)
		if tr.toGuest(in) != pass || !bytes.Equal(in, frame(protoTCP, "169.254.169.254:80", "172.31.5.9:999", flagACK, data)) {
			t.Errorf("%q: % x", data, in)
		}
	}
	// The server moved: new connections go there, answers of the old one
	// still come from the address the guest knows.
	*to = netip.MustParseAddrPort("127.0.0.1:4001")
	out := frame(protoTCP, "172.31.5.9:1000", "169.254.169.254:80", flagSYN, "")
	if tr.fromGuest(out) != pass || !bytes.Equal(out, frame(protoTCP, "172.31.5.9:1000", "127.0.0.1:4001", flagSYN, "")) {
		t.Errorf("% x", out)
	}
	for _, from := range []string{"127.0.0.1:4000", "127.0.0.1:4001"} {
		in := frame(protoTCP, from, "172.31.5.9:999", flagACK, "")
		if tr.toGuest(in); !bytes.Equal(in, frame(protoTCP, "169.254.169.254:80", "172.31.5.9:999", flagACK, "")) {
			t.Errorf("from %s: % x", from, in)
		}
	}
	other := frame(protoTCP, "203.0.113.5:443", "172.31.5.9:999", flagACK, "")
	if before := bytes.Clone(other); tr.toGuest(other) != pass || !bytes.Equal(before, other) {
		t.Error("somebody else's answer was changed")
	}
	*to = netip.AddrPort{}
	if got := tr.fromGuest(frame(protoTCP, "172.31.5.9:1001", "169.254.169.254:80", flagSYN, "")); got != drop {
		t.Errorf("nobody serves metadata: %v", got)
	}
}

func TestARPForMetadata(t *testing.T) {
	tr, _ := translatorTo(t, "")
	ask := func(ip ...byte) []byte {
		f := append(bytes.Repeat([]byte{0xff}, 6), 2, 1, 1, 1, 1, 1, 8, 6)
		f = append(f, 0, 1, 8, 0, 6, 4, 0, 1, 2, 1, 1, 1, 1, 1, 172, 31, 5, 9, 0, 0, 0, 0, 0, 0)
		return append(f, ip...)
	}
	if got := tr.fromGuest(ask(172, 31, 0, 1)); got != pass {
		t.Errorf("the router: %v", got)
	}
	f := ask(169, 254, 169, 254)
	want := []byte{
		2, 1, 1, 1, 1, 1, 0x52, 0x55, 172, 31, 0, 1, 8, 6, 0, 1, 8, 0, 6, 4, 0, 2,
		0x52, 0x55, 172, 31, 0, 1, 169, 254, 169, 254, 2, 1, 1, 1, 1, 1, 172, 31, 5, 9,
	}
	if got := tr.fromGuest(f); got != answer || !bytes.Equal(f, want) {
		t.Errorf("%v: % x", got, f)
	}
}

// stream returns the two ends of a wire.
func stream(t *testing.T) (a, b net.Conn) {
	t.Helper()
	files, err := wire()
	if err != nil {
		t.Fatal(err)
	}
	defer closeAll(files)
	var ends [2]net.Conn
	for i, f := range files {
		if ends[i], err = net.FileConn(f); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ends[i].Close() })
	}
	return ends[0], ends[1]
}

func TestWireCarriesBothWays(t *testing.T) {
	tr, _ := translatorTo(t, "127.0.0.1:4000")
	card, cardEnd := stream(t)
	up, upEnd := stream(t)
	ended := make(chan error, 1)
	go func() { ended <- tr.run(cardEnd, upEnd) }()
	deadline := time.Now().Add(patience)
	for _, c := range []net.Conn{card, up} {
		if err := c.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
	}
	put := func(c net.Conn, f []byte) {
		if _, err := c.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(f))), f...)); err != nil {
			t.Error(err)
		}
	}
	take := func(c net.Conn) []byte {
		var got []byte
		_ = frames(c, func(f []byte, _ bool) error { got = bytes.Clone(f); return net.ErrClosed })
		return got
	}
	put(card, frame(protoTCP, "172.31.5.9:999", "172.31.0.1:4000", flagSYN, "dropped"))
	go put(card, frame(protoTCP, "172.31.5.9:999", "169.254.169.254:80", flagSYN, ""))
	if got := take(up); !bytes.Equal(got, frame(protoTCP, "172.31.5.9:999", "127.0.0.1:4000", flagSYN, "")) {
		t.Errorf("% x", got)
	}
	go put(up, frame(protoTCP, "127.0.0.1:4000", "172.31.5.9:999", flagACK, "yes"))
	if got := take(card); !bytes.Equal(got, frame(protoTCP, "169.254.169.254:80", "172.31.5.9:999", flagACK, "yes")) {
		t.Errorf("% x", got)
	}
	_ = up.Close()
	select {
	case err := <-ended:
		if err != nil {
			t.Error(err)
		}
	case <-bounded(t).Done():
		t.Fatal("it goes on after an end was closed")
	}
}

func FuzzFrames(f *testing.F) {
	f.Add(frame(protoTCP, "172.31.5.9:999", "169.254.169.254:80", flagSYN, "x"))
	f.Add(frame(protoUDP, "172.31.5.9:999", "172.31.0.2:53", 0, "q"))
	f.Add(append(bytes.Repeat([]byte{1}, 12), 8, 6, 0, 1))
	f.Fuzz(func(t *testing.T, data []byte) {
		tr, _ := translatorTo(t, "127.0.0.1:4000")
		n := len(data)
		tr.fromGuest(data)
		tr.toGuest(data)
		if len(data) != n {
			t.Error("the length changed")
		}
	})
}
