package amazon

import (
	"context"
	"crypto/rand"
	"crypto/rsa"
	"encoding/base64"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/communicator/ssh"
)

func TestHostOf(t *testing.T) {
	i := types.Instance{
		PublicIpAddress: aws.String("192.0.2.1"), PrivateIpAddress: aws.String("10.0.0.1"), PublicDnsName: aws.String("pub"), PrivateDnsName: aws.String("priv"),
		NetworkInterfaces: []types.InstanceNetworkInterface{{Ipv6Addresses: []types.InstanceIpv6Address{{Ipv6Address: aws.String("2001:db8::1")}}}},
	}
	for kind, want := range map[string]string{
		"": "192.0.2.1", "public_ip": "192.0.2.1", "private_ip": "10.0.0.1", "public_dns": "pub", "private_dns": "priv", "ipv6": "2001:db8::1",
	} {
		if got := hostOf(i, kind); got != want {
			t.Errorf("%q: %q, want %q", kind, got, want)
		}
	}
	i.PublicIpAddress, i.PublicDnsName = nil, aws.String("")
	if got := hostOf(i, ""); got != "10.0.0.1" {
		t.Errorf("%q", got)
	}
}

func TestWindowsPassword(t *testing.T) {
	key, line, err := ssh.GenerateKey("rsa", 2048, "k")
	if err != nil {
		t.Fatal(err)
	}
	pub, _, _, _, err := gossh.ParseAuthorizedKey([]byte(line))
	if err != nil {
		t.Fatal(err)
	}
	//lint:ignore SA1019 it is how EC2 encrypts passwords
	box, err := rsa.EncryptPKCS1v15(rand.Reader, pub.(gossh.CryptoPublicKey).CryptoPublicKey().(*rsa.PublicKey), []byte("s3cret"))
	if err != nil {
		t.Fatal(err)
	}
	got, err := decryptPassword(key, base64.StdEncoding.EncodeToString(box))
	if err != nil || got.Reveal() != "s3cret" {
		t.Errorf("%q, %v", got.Reveal(), err)
	}
	other, _, err := ssh.GenerateKey("ed25519", 0, "k")
	if err != nil {
		t.Fatal(err)
	}
	_, err = decryptPassword(other, base64.StdEncoding.EncodeToString(box))
	wantText(t, "ed25519", err, "cannot be opened")
	_, err = decryptPassword(key, "!")
	wantText(t, "no base64", err, "password")
}

const consoleText = `[    5.1] cloud-init[512]: Cloud-init v. 24 running 'modules:final'
<14>Mar  4 05:06:07 cloud-init: -----BEGIN SSH HOST KEY KEYS-----
ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBEmKSENjQEezOmxkZMy7opKgwFB9nkt5YRrYMjNuG5N87uRgg6CLrbo5wAdT/y6v0mKV0U2w0WZ2YB/++Tpockg= root@ip-10-0-0-1
[    5.2] ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOMqqnkVzrm0SdG6UOoqKLsabgH5C9okWi0dh2l9GKJl root@ip-10-0-0-1
random: crng init done
ssh-rsa garbage
-----END SSH HOST KEY KEYS-----
Debian GNU/Linux 13 ip-10-0-0-1 ttyS0
`

func TestConsoleKeys(t *testing.T) {
	keys := consoleKeys(consoleText)
	if len(keys) != 2 || !strings.HasPrefix(keys[0], "ecdsa-sha2-nistp256 ") || !strings.HasPrefix(keys[1], "ssh-ed25519 ") {
		t.Errorf("%q", keys)
	}
	// A block that is not complete is not believed; the one before it is.
	if got := consoleKeys(consoleText + keysBegin + "\nssh-ed25519 AAAA"); !slices.Equal(got, keys) {
		t.Errorf("%q", got)
	}
	if got := consoleKeys(keysBegin + "\n" + keys[1]); got != nil {
		t.Errorf("%q", got)
	}
	if got := consoleKeys(""); got != nil {
		t.Errorf("%q", got)
	}
}

func FuzzConsoleKeys(f *testing.F) {
	f.Add(consoleText)
	f.Add(keysBegin + keysEnd + keysBegin)
	f.Fuzz(func(t *testing.T, text string) {
		for _, k := range consoleKeys(text) {
			if _, _, _, _, err := gossh.ParseAuthorizedKey([]byte(k)); err != nil {
				t.Errorf("%q: %v", k, err)
			}
		}
	})
}

func TestKeyFinder(t *testing.T) {
	keys := consoleKeys(consoleText)
	now := start
	finder := func(must bool, console func() (string, error)) *keyFinder {
		return &keyFinder{
			r: testRun(t), must: must, pause: lookFirst, now: func() time.Time { return now },
			console: func(context.Context) (string, error) { return console() },
			shown:   func(context.Context) ([]string, error) { return []string{"shown"}, nil },
		}
	}
	find := func(f *keyFinder) []string {
		t.Helper()
		got, err := f.find(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	looks := 0
	printed := finder(false, func() (string, error) { looks++; return consoleText, nil })
	if got := find(printed); !slices.Equal(got, keys) {
		t.Errorf("%q", got)
	}
	if find(printed); looks != 1 {
		t.Errorf("%d looks at the console", looks)
	}
	if got := find(finder(false, func() (string, error) { return "", nil })); !slices.Equal(got, []string{"shown"}) {
		t.Errorf("a guest that prints nothing: %q", got)
	}
	if got := find(finder(true, func() (string, error) { return "login:", nil })); got != nil {
		t.Errorf("a key that was not printed is taken although it must be: %q", got)
	}
	// With cloud-init it is waited for, and not asked for with every try.
	looks = 0
	soon := finder(false, func() (string, error) { looks++; return "cloud-init starts", nil })
	if got := find(soon); got != nil {
		t.Errorf("%q", got)
	}
	if find(soon); looks != 1 {
		t.Errorf("%d looks at once", looks)
	}
	now = now.Add(lookTime + time.Second)
	if got := find(soon); !slices.Equal(got, []string{"shown"}) {
		t.Errorf("after the wait: %q", got)
	}
	boom := errors.New("boom")
	if _, err := finder(true, func() (string, error) { return "", boom }).find(t.Context()); !errors.Is(err, boom) {
		t.Errorf("%v", err)
	}
	if got := find(finder(false, func() (string, error) { return "", boom })); !slices.Equal(got, []string{"shown"}) {
		t.Errorf("%q", got)
	}
}

func TestPublicAddress(t *testing.T) {
	answer := "192.0.2.7\n"
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte(answer)) }))
	defer srv.Close()
	if ip, err := publicAddress(t.Context(), srv.URL); err != nil || ip.String() != "192.0.2.7" {
		t.Errorf("%v, %v", ip, err)
	}
	answer = "<html>"
	if ip, err := publicAddress(t.Context(), srv.URL); err == nil {
		t.Errorf("%v", ip)
	}
}
