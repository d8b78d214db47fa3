package machine

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/localcloud/metadata"
	"github.com/ingot-build/ingot/internal/poll"
)

// debian returns the image that examples/base makes.
func debian(t *testing.T) string {
	t.Helper()
	p := os.Getenv("INGOT_TEST_BASE")
	if p == "" {
		p = "../../../.ingot/base/debian-12-amd64.qcow2"
	}
	if testing.Short() {
		t.Skip("needs a Debian image and minutes")
	}
	abs, err := filepath.Abs(p)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(abs); err != nil {
		t.Fatalf("no base image: run `make base` first, or name one in INGOT_TEST_BASE: %v", err)
	}
	return abs
}

type facts metadata.Instance

func (f *facts) Instance(context.Context) (metadata.Instance, error) {
	return metadata.Instance(*f), nil
}

// serveFacts serves the metadata of one instance.
func serveFacts(t *testing.T, f facts) string {
	t.Helper()
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: metadata.New(&f, metadata.Options{}), ReadHeaderTimeout: time.Minute}
	go srv.Serve(ln) //nolint:errcheck // ends with the test
	t.Cleanup(func() { _ = srv.Close() })
	return ln.Addr().String()
}

// login connects as admin to the instance and checks the host key that its
// console shows.
func login(t *testing.T, s Spec, p Process, key ssh.Signer) *ssh.Client {
	t.Helper()
	var client *ssh.Client
	var host ssh.PublicKey
	var last error
	err := poll.Until(bounded(t), poll.Backoff{First: 200 * time.Millisecond, Max: time.Second}, func(context.Context) (bool, error) {
		select {
		case <-p.Done():
			return false, fmt.Errorf("the machine ended")
		default:
		}
		client, last = ssh.Dial("tcp", hostAddr(s.Address, p.HostPort(22)), &ssh.ClientConfig{
			User: "admin", Auth: []ssh.AuthMethod{ssh.PublicKeys(key)}, Timeout: 20 * time.Second,
			HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { host = k; return nil },
		})
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("no login: %v (last: %v)", err, last)
	}
	t.Cleanup(func() { _ = client.Close() })
	shown := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(host)))
	eventually(t, "the host key on the console", func() bool {
		console, _ := os.ReadFile(s.Console)
		text := string(console)
		begin, end := strings.LastIndex(text, "-----BEGIN SSH HOST KEY KEYS-----"), strings.LastIndex(text, "-----END SSH HOST KEY KEYS-----")
		return begin >= 0 && begin < end && strings.Contains(text[begin:end], shown)
	})
	return client
}

func command(t *testing.T, c *ssh.Client, line string) string {
	t.Helper()
	s, err := c.NewSession()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(line)
	if err != nil {
		t.Errorf("%s: %v: %s", line, err, out)
	}
	return strings.TrimSpace(string(out))
}

func want(t *testing.T, c *ssh.Client, line, answer string) {
	t.Helper()
	if got := command(t, c, line); got != answer {
		t.Errorf("%s: %q, want %q", line, got, answer)
	}
}

func signer(t *testing.T) (ssh.Signer, string) {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return s, strings.TrimSpace(string(ssh.MarshalAuthorizedKey(s.PublicKey())))
}

// TestDebianInstance takes an instance of the Debian image through its life.
func TestDebianInstance(t *testing.T) {
	q, base := driver(t), debian(t)
	dir := t.TempDir()
	root, data := filepath.Join(dir, "root.qcow2"), filepath.Join(dir, "data.qcow2")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", root, "6G")
	qemuImg(t, "create", "-q", "-f", "qcow2", data, "1G")
	key, public := signer(t)
	f := facts{
		ID: "i-0aaaaaaaaaaaaaaa1", ImageID: "ami-01", Type: "t3.micro", Region: "us-east-1", AvailabilityZone: "us-east-1a",
		LocalIPv4: "172.31.5.9", LocalHostname: "ip-172-31-5-9.ec2.internal", TokensRequired: true,
		Keys:     []metadata.Key{{Name: "mine", OpenSSH: public}},
		UserData: []byte("#!/bin/sh\necho \"$(id -un) was here\" >/root/user-data-ran\n"),
	}
	s := Spec{
		ID: f.ID, Dir: dir, Arch: "x86_64", BootMode: "legacy-bios", InstanceType: f.Type, VCPUs: 2, MemoryMiB: 1024,
		Disks:   []Disk{{Path: root, Format: "qcow2", DeviceName: "/dev/xvda", VolumeID: "vol-0aaaaaaaaaaaaaaa1"}},
		Address: ownAddress(), Ports: []int{22}, PrivateIP: f.LocalIPv4,
		Metadata: serveFacts(t, f), Console: filepath.Join(dir, "console.log"),
	}
	p := start(t, q, s)
	c := login(t, s, p, key)
	want(t, c, "hostname", "ip-172-31-5-9")
	want(t, c, "sudo id -un", "root")
	want(t, c, "ip -4 -o addr show scope global | awk '{print $4}'", "172.31.5.9/20")
	want(t, c, "cat /sys/class/dmi/id/sys_vendor /sys/class/dmi/id/product_name", "Amazon EC2\nt3.micro")
	want(t, c, "sudo ls ~/.ssh /root/.ssh 2>/dev/null | wc -l", "0")
	want(t, c, "test $(df --output=size -m / | tail -1) -gt 5500 && echo grown", "grown")
	want(t, c, "readlink -f /dev/xvda /dev/sda1", "/dev/vda\n"+command(t, c, "findmnt -no SOURCE /"))
	want(t, c, "cat /sys/block/vda/serial", "vol0aaaaaaaaaaaaaaa1")
	want(t, c, "systemctl --failed --no-legend | wc -l", "0")
	eventually(t, "the user data", func() bool { return command(t, c, "sudo cat /root/user-data-ran 2>/dev/null || :") == "root was here" })
	// Many connections side by side, and one that the host alone may make.
	want(t, c, `bash -c 'for i in $(seq 20); do (exec 3<>/dev/tcp/169.254.169.254/80; printf "GET /latest/meta-data/ami-id HTTP/1.0\r\n\r\n" >&3; head -1 <&3 | tr -d "\r") & done; wait' | sort | uniq -c | awk '{print $1, $3}'`, "20 401")
	_, port, _ := net.SplitHostPort(s.Metadata)
	want(t, c, `timeout 3 bash -c '</dev/tcp/172.31.0.1/`+port+`' 2>/dev/null && echo open || echo closed`, "closed")

	disk := Disk{Path: data, Format: "qcow2", DeviceName: "/dev/sdf", VolumeID: "vol-0bbbbbbbbbbbbbbb2"}
	for range 2 {
		if err := p.AttachDisk(bounded(t), disk); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the second disk", func() bool { return command(t, c, "readlink -f /dev/xvdf /dev/sdf | sort -u") == "/dev/vdb" })
	command(t, c, "sudo mkfs.ext4 -q /dev/xvdf && sudo mount /dev/xvdf /mnt && echo first | sudo tee /mnt/proof /proof && sync")
	copies := []string{filepath.Join(dir, "root-copy.qcow2"), filepath.Join(dir, "data-copy.qcow2")}
	if err := p.SnapshotDisks(bounded(t), []string{s.Disks[0].VolumeID, disk.VolumeID}, copies); err != nil {
		t.Fatal(err)
	}
	command(t, c, "echo second | sudo tee /mnt/proof /proof && sync && sudo umount /mnt")

	// Another process of ours takes over.
	found, ok := q.Find(s, p.Identity())
	if !ok {
		t.Fatal("not found")
	}
	for range 2 {
		if err := found.DetachDisk(bounded(t), disk.VolumeID); err != nil {
			t.Fatal(err)
		}
	}
	eventually(t, "the disk to go", func() bool { return command(t, c, "ls /dev/vdb 2>/dev/null || echo gone") == "gone" })
	if shot, err := found.Screenshot(bounded(t)); err != nil || !strings.HasPrefix(string(shot), "\xff\xd8\xff") {
		t.Errorf("a screenshot of %d bytes, %v", len(shot), err)
	}
	if err := found.PowerButton(bounded(t)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []Process{p, found} {
		select {
		case <-p.Done():
		case <-bounded(t).Done():
			t.Fatal("the power button did nothing")
		}
		if !p.GuestHalted() {
			t.Error("the guest shut down, and it was not told")
		}
	}

	// What was copied is what was there at that moment: another instance,
	// from the copies, has it, and another host key.
	oldKey, _ := os.ReadFile(s.Console)
	f.ID, f.UserData, f.TokensRequired = "i-0ccccccccccccccc3", nil, false
	s2 := s
	s2.ID, s2.Dir, s2.BootMode = f.ID, t.TempDir(), "uefi"
	s2.Console, s2.Metadata = filepath.Join(s2.Dir, "console.log"), serveFacts(t, f)
	s2.Address, s2.Disks = ownAddress(), []Disk{
		{Path: copies[0], Format: "qcow2", DeviceName: "/dev/xvda", VolumeID: "vol-0ddddddddddddddd4"},
		{Path: copies[1], Format: "qcow2", DeviceName: "/dev/xvdg", VolumeID: "vol-0eeeeeeeeeeeeeee5"},
	}
	p2 := start(t, q, s2)
	c2 := login(t, s2, p2, key)
	want(t, c2, "sudo mount -o ro /dev/sdg /mnt && cat /mnt/proof /proof", "first\nfirst")
	want(t, c2, "test -d /sys/firmware/efi && echo uefi", "uefi")
	want(t, c2, "sudo cat /var/lib/ingot/instance-id", f.ID)
	console, _ := os.ReadFile(s2.Console)
	for line := range strings.Lines(string(console)) {
		if strings.HasPrefix(line, "ssh-ed25519 ") && strings.Contains(string(oldKey), strings.TrimSpace(line)) {
			t.Error("the copy has the host key of the first instance")
		}
	}
	if err := p2.Kill(bounded(t)); err != nil {
		t.Fatal(err)
	}
	if p2.GuestHalted() {
		t.Error("a machine that was killed says that it shut down")
	}
}
