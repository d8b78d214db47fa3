package debootstrap

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/poll"
)

// bootTime bounds one boot, where the processor is emulated and shared.
const bootTime = 10 * time.Minute

// TestImage makes an image twice, compares the bytes, and boots it with BIOS
// and with UEFI.
func TestImage(t *testing.T) {
	needTools(t)
	for _, tool := range []string{"qemu-system-x86_64", "xorriso"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: run `make setup-test`", err)
		}
	}
	parent := t.TempDir()
	seconds := epoch
	cfg := Config{
		Architecture: "amd64", DiskSize: "2G", SourceDate: &seconds, Hostname: "made-here", Packages: []string{"acl"},
		SetupCommands: []string{"echo 'it is' >/etc/made", "getent hosts localhost"}, OutputDir: filepath.Join(parent, "one"),
	}
	one := makeImage(t, cfg)
	cfg.OutputDir = filepath.Join(parent, "two")
	if err := os.Mkdir(cfg.OutputDir, 0o755); err != nil { // an empty folder is in nobody's way
		t.Fatal(err)
	}
	two := makeImage(t, cfg)
	img := one.Images[0]
	if img.Digest != two.Images[0].Digest {
		t.Errorf("two runs made %s and %s", img.Digest, two.Images[0].Digest)
	}
	if img.Arch != artifact.X8664 || img.Virtualization != artifact.HVM || img.Boot != artifact.UEFIPreferred || img.Disks[0].Size != 2<<30 {
		t.Errorf("the image is %+v", img)
	}
	sum, err := os.ReadFile(one.Files[1])
	if err != nil || string(sum) != strings.TrimPrefix(img.Digest, "sha256:")+"  debian-bookworm-amd64.qcow2\n" {
		t.Errorf("the checksum file holds %q, %v", sum, err)
	}
	t.Run("bios", func(t *testing.T) { bootsWithCredentials(t, one.Files[0]) })
	t.Run("uefi", func(t *testing.T) { bootsWithSeed(t, one.Files[0]) })
}

// bootsWithCredentials logs in with a key from SMBIOS, to a host that shows the
// key from SMBIOS, and finds neither on the disk.
func bootsWithCredentials(t *testing.T, image string) {
	login, host := newKey(t), newKey(t)
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(login.signer.PublicKey())))
	c := bootGuest(t, image, login, "-machine", "pc",
		"-smbios", credential("ssh.authorized_keys.root", []byte(public+"\n")),
		"-smbios", credential("ingot.ssh_host_ed25519_key", host.pem))
	if !bytes.Equal(c.hostKey.Marshal(), host.signer.PublicKey().Marshal()) {
		t.Error("the guest does not show the host key it was given")
	}
	c.want("cat /etc/made", "it is")
	c.want("hostname", "made-here")
	c.want("dpkg-query -W -f '${Status}' acl", "install ok installed")
	c.want("ls /etc/ssh/ssh_host_* /root/.ssh 2>/dev/null | wc -l", "0")
	c.want("systemctl --failed --no-legend | wc -l", "0")
	c.want("test $(df --output=size -m / | tail -1) -gt 3500 && echo grown", "grown")
	c.want("findmnt -no FSTYPE /run", "tmpfs")
	c.want("ls -A /var/lib/apt/lists | wc -l", "0")
	c.want("awk -F: '$1 == \"root\" { print substr($2, 1, 1) }' /etc/shadow", "*")
}

// bootsWithSeed logs in with a key from a NoCloud CD, and to a host that made
// its own keys.
func bootsWithSeed(t *testing.T, image string) {
	login := newKey(t)
	public := strings.TrimSpace(string(ssh.MarshalAuthorizedKey(login.signer.PublicKey())))
	dir := t.TempDir()
	seed := filepath.Join(dir, "seed")
	for name, text := range map[string]string{
		"meta-data": "instance-id: one\nlocal-hostname: from-seed\n",
		"user-data": "#cloud-config\r\nusers:\r\n  - default\r\n  - name: root\r\n    ssh_authorized_keys:\r\n      - \"" + public + "\"\r\n",
	} {
		if err := os.MkdirAll(seed, 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(seed, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	iso := filepath.Join(dir, "seed.iso")
	if out, err := exec.CommandContext(t.Context(), "xorriso", "-as", "mkisofs", "-quiet", "-V", "cidata", "-J", "-r", "-o", iso, seed).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	c := bootGuest(t, image, login, "-machine", "q35", "-bios", "/usr/share/ovmf/OVMF.fd",
		"-drive", "file="+iso+",if=virtio,format=raw,readonly=on")
	c.want("hostname", "from-seed")
	c.want("test -d /sys/firmware/efi && echo uefi", "uefi")
	c.want("ls /etc/ssh/ssh_host_*_key | wc -l", "2")
	c.want("ls /root/.ssh 2>/dev/null | wc -l", "0")
}

// key is an SSH key pair.
type key struct {
	signer ssh.Signer
	pem    []byte
}

func newKey(t *testing.T) key {
	t.Helper()
	_, private, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := ssh.NewSignerFromKey(private)
	if err != nil {
		t.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(private, "")
	if err != nil {
		t.Fatal(err)
	}
	return key{signer, pem.EncodeToMemory(block)}
}

// credential is a systemd credential as an SMBIOS string.
func credential(name string, value []byte) string {
	return "type=11,value=io.systemd.credential.binary:" + name + "=" + base64.StdEncoding.EncodeToString(value)
}

// guest is a machine one is logged in to.
type guest struct {
	t       *testing.T
	client  *ssh.Client
	hostKey ssh.PublicKey
}

// bootGuest boots a machine from the image with a disk of 4 GiB.
func bootGuest(t *testing.T, image string, login key, args ...string) *guest {
	t.Helper()
	dir := t.TempDir()
	disk, console := filepath.Join(dir, "disk.qcow2"), filepath.Join(dir, "console")
	if out, err := exec.CommandContext(t.Context(), "qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", disk, "4G").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	cmd := exec.Command("qemu-system-x86_64", append([]string{
		"-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024",
		"-drive", "file=" + disk + ",if=virtio,format=qcow2,cache=unsafe",
		"-netdev", "user,id=n0,hostfwd=tcp:" + addr + "-:22", "-device", "virtio-net-pci,netdev=n0", "-device", "virtio-rng-pci",
		"-display", "none", "-monitor", "none", "-serial", "file:" + console,
	}, args...)...)
	var log bytes.Buffer
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			text, _ := os.ReadFile(console)
			t.Logf("QEMU: %s\nconsole: %s", log.String(), text[max(0, len(text)-4000):])
		}
	})
	ctx, stop := context.WithTimeout(t.Context(), bootTime)
	defer stop()
	g := &guest{t: t}
	var last error
	err = poll.Until(ctx, poll.Backoff{First: time.Second, Max: 2 * time.Second}, func(context.Context) (bool, error) {
		g.client, last = ssh.Dial("tcp", addr, &ssh.ClientConfig{
			User: "root", Auth: []ssh.AuthMethod{ssh.PublicKeys(login.signer)}, Timeout: 30 * time.Second,
			HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { g.hostKey = k; return nil },
		})
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("no login: %v (last: %v)", err, last)
	}
	t.Cleanup(func() { _ = g.client.Close() })
	return g
}

// want runs a command and compares what it says.
func (g *guest) want(command, answer string) {
	g.t.Helper()
	s, err := g.client.NewSession()
	if err != nil {
		g.t.Fatal(err)
	}
	defer s.Close()
	out, err := s.CombinedOutput(command)
	if got := strings.TrimSpace(string(out)); err != nil || got != answer {
		g.t.Errorf("%s: %q, %v; want %q", command, got, fmt.Sprint(err), answer)
	}
}
