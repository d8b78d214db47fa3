package rfb

import (
	"bytes"
	"io"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/secret"
)

// peer is a server that says what was prepared and hears everything.
type peer struct {
	io.Reader
	heard bytes.Buffer
}

func (p *peer) Write(b []byte) (int, error) { return p.heard.Write(b) }

const (
	version  = "RFB 003.008\n"
	accepted = "\x00\x00\x00\x00"
	screen   = "\x02\x80\x01\xe0\x20\x18\x00\x01\x00\xff\x00\xff\x00\xff\x10\x08\x00\x00\x00\x00\x00\x00\x00\x04QEMU"
)

func TestHandshake(t *testing.T) {
	for name, tc := range map[string]struct {
		says, password, hears, fault string
	}{
		"open": {says: version + "\x01\x01" + accepted + screen, hears: version + "\x01\x01"},
		// The answer is DES of sixteen zero bytes under the bit-reversed password,
		// as OpenSSL computes it.
		"password": {
			says: version + "\x01\x02" + strings.Repeat("\x00", 16) + accepted + screen, password: "COW",
			hears: version + "\x02" + "\xce\xea\x96\xbc\xc9\xfd\xa7\x8b\xce\xea\x96\xbc\xc9\xfd\xa7\x8b" + "\x01",
		},
		"password missing": {says: version + "\x01\x02" + strings.Repeat("\x00", 16), fault: "wants a password"},
		"refused":          {says: version + "\x01\x01\x00\x00\x00\x01\x00\x00\x00\x04busy", fault: "busy"},
		"no types":         {says: version + "\x00\x00\x00\x00\x03bad", fault: "bad"},
		"not VNC":          {says: "SSH-2.0-Open\r\n", fault: "does not speak RFB"},
		"old":              {says: "RFB 003.003\n", fault: "too old"},
		"long text":        {says: version + "\x00\xff\xff\xff\xff", fault: "too long"},
	} {
		t.Run(name, func(t *testing.T) {
			p := &peer{Reader: strings.NewReader(tc.says)}
			err := handshake(p, secret.New(tc.password))
			if tc.fault == "" && err != nil || tc.fault != "" && (err == nil || !strings.Contains(err.Error(), tc.fault)) {
				t.Errorf("err = %v, want %q", err, tc.fault)
			}
			if tc.hears != "" && p.heard.String() != tc.hears {
				t.Errorf("heard %x, want %x", p.heard.String(), tc.hears)
			}
		})
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add([]byte(version + "\x01\x01" + accepted + screen))
	f.Fuzz(func(t *testing.T, says []byte) {
		_ = handshake(&peer{Reader: bytes.NewReader(says)}, secret.New("x"))
	})
}
