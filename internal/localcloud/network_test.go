package localcloud

import (
	"context"
	"net"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/localcloud/machine"
)

func openAt(t testing.TB, dir string, now func() time.Time) *Cloud {
	t.Helper()
	c, err := Open(context.Background(), Config{Dir: dir, Machines: &machine.Simulated{}, Now: now, Warn: func(err error) { t.Error(err) }})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestNewID(t *testing.T) {
	seen := map[string]bool{}
	for range 1000 {
		id := NewID("i-")
		if !ValidID("i", id) || seen[id] || len(id) != 19 {
			t.Fatal(id)
		}
		seen[id] = true
	}
	for id, want := range map[string]bool{
		"ami-0123456789abcdef0": true, "ami-01234567": true, "ami-0123456789ABCDEF0": false, "ami-": false,
		"ami-012345678": false, "i-0123456789abcdef0": false, "ami0123456789abcdef0": false, "": false,
	} {
		if ValidID("ami", id) != want {
			t.Errorf("%q: %v", id, !want)
		}
	}
}

// A cloud that is opened again, by another process too, is as it was.
func TestFoundedOnce(t *testing.T) {
	dir := t.TempDir()
	vpcs := func(c *Cloud) (out []string) {
		for _, r := range Regions() {
			err := c.View(t.Context(), r, func(tx *Tx) error {
				v, ok, err := tx.DefaultVPC()
				if !ok {
					t.Errorf("%s has no default VPC", r)
				}
				out = append(out, v.ID)
				return err
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		return out
	}
	first := vpcs(openAt(t, dir, nil))
	info, err := os.Stat(dir + "/" + stateFile)
	if err != nil {
		t.Fatal(err)
	}
	if again := vpcs(openAt(t, dir, nil)); !slices.Equal(first, again) {
		t.Errorf("%v, then %v", first, again)
	}
	if now, err := os.Stat(dir + "/" + stateFile); err != nil || !now.ModTime().Equal(info.ModTime()) {
		t.Errorf("opening wrote the state again: %v", err)
	}
}

func TestRegionsAreSorted(t *testing.T) {
	if !slices.IsSorted(Regions()) || !KnownRegion("eu-central-1") || KnownRegion("eu-central-9") {
		t.Error(Regions())
	}
	for _, r := range Regions() {
		zones := Zones(r)
		if len(zones) != 3 {
			t.Errorf("%s: %v", r, zones)
		}
		for _, z := range zones {
			byID, ok := ZoneOf(r, z.ID)
			if !ok || byID != z || ZoneID(z.Name) != z.ID {
				t.Errorf("%v, %v", z, byID)
			}
		}
	}
	if ZoneID("mars-1a") != "" {
		t.Error("mars has a zone")
	}
}

func TestTokens(t *testing.T) {
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	c := openAt(t, t.TempDir(), func() time.Time { return now })
	use := func(region, token string, params any) (results []string, used bool, err error) {
		err = c.Update(t.Context(), region, func(tx *Tx) error {
			if results, used, err = tx.Token("Run", token, params); err != nil || used {
				return err
			}
			return tx.SaveToken("Run", token, params, "i-1", "i-2")
		})
		return results, used, err
	}
	check := func(what, region, token string, params any, want bool) {
		t.Helper()
		results, used, err := use(region, token, params)
		if err != nil || used != want || used && !slices.Equal(results, []string{"i-1", "i-2"}) {
			t.Errorf("%s: %v, %v, %v", what, results, used, err)
		}
	}
	check("first", "us-east-1", "a", "p", false)
	check("again", "us-east-1", "a", "p", true)
	check("another region", "us-east-2", "a", "p", false)
	check("no token", "us-east-1", "", "p", false)
	check("no token again", "us-east-1", "", "p", false)
	if _, _, err := use("us-east-1", "a", "q"); CodeOf(err) != "IdempotentParameterMismatch" {
		t.Error(err)
	}
	if _, _, err := use("us-east-1", strings.Repeat("x", 65), "q"); CodeOf(err) != "InvalidParameterValue" {
		t.Error(err)
	}
	now = now.Add(25 * time.Hour)
	check("a day later", "us-east-1", "a", "q", false)
}

func TestListening(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if got := listening(); !got["127.0.0.1"] {
		t.Errorf("127.0.0.1 is not among %v", got)
	}
}

func FuzzParsePublicKey(f *testing.F) {
	f.Add([]byte("ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIARgKfYr2hI/qJCVC++YztPKKkyCmzu3pQ6JDZMWbnGQ a comment"))
	f.Add([]byte("AAAAC3NzaC1lZDI1NTE5AAAAIARgKfYr2hI/qJCVC++YztPKKkyCmzu3pQ6JDZMWbnGQ"))
	f.Add([]byte("---- BEGIN SSH2 PUBLIC KEY ----\nComment: x\nAAAA\n---- END SSH2 PUBLIC KEY ----"))
	f.Add([]byte("-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=\n-----END PUBLIC KEY-----\n"))
	f.Fuzz(func(t *testing.T, material []byte) {
		k, err := parsePublicKey(material)
		if err != nil {
			if !strings.HasPrefix(CodeOf(err), "InvalidKey") {
				t.Errorf("%v", err)
			}
			return
		}
		again, _, _, _, err := ssh.ParseAuthorizedKey([]byte(authorizedLine(k, "name")))
		if err != nil || !slices.Equal(again.Marshal(), k.Marshal()) {
			t.Errorf("%q: %v", material, err)
		}
		if fp, err := importedFingerprint(k); err != nil || fp == "" {
			t.Errorf("%q: %v", material, err)
		}
	})
}

func FuzzPortsOf(f *testing.F) {
	f.Add("tcp", 22, 22, "10.0.0.0/8")
	f.Add("-1", 0, 0, "0.0.0.0/0")
	f.Add("icmp", -1, -1, "::/0")
	f.Add("58", 1, 2, "300.0.0.0/8")
	f.Fuzz(func(t *testing.T, protocol string, from, to int, cidr string) {
		r, err := portsOf(Permission{Protocol: protocol, From: &from, To: &to})
		if err == nil && hasTCPPorts(r) && (r.From < 0 || r.To > 65535 || r.From > r.To) {
			t.Errorf("%+v", r)
		}
		if s, err := peerRange(cidr, true); err == nil {
			if again, err := peerRange(s, true); err != nil || again != s {
				t.Errorf("%q, %q: %v", s, again, err)
			}
		}
	})
}

func hasTCPPorts(r SecurityRule) bool { return r.Protocol == "tcp" || r.Protocol == "udp" }
