package bench

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
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
)

const template = `
source "qemu" "debian" {
  iso_url          = %q
  iso_checksum     = "none"
  disk_image       = true
  skip_resize_disk = true
  memory           = 1024
  headless         = true
  output_directory = "out"
  ssh_username     = "root"
  ssh_timeout      = "8m"
}
build {
  sources = ["source.qemu.debian"]
  provisioner "shell" { inline = [%q] }
  provisioner "shell" { inline = [%q] }
  provisioner "shell" { inline = [%q] }
}
`

// steps are the three shell steps, the same for both sides.
var steps = [3]string{
	"dd if=/dev/urandom of=/root/blob bs=1M count=16 status=none",
	"sha256sum /root/blob > /root/blob.sum",
	"sync",
}

// BenchmarkColdBake bakes with three shell steps on an existing base, and does
// the same by hand with qemu-system, ssh and qemu-img. Figures: the whole time
// against the plain run's, and what Ingot spends outside the guest's own work
// (boot to SSH, provisioning, shutdown), the final image included.
func BenchmarkColdBake(b *testing.B) {
	base := os.Getenv("INGOT_TEST_BASE")
	if base == "" {
		base, _ = filepath.Abs("../../.ingot/base/debian-12-amd64.qcow2")
	}
	if _, err := os.Stat(base); err != nil {
		b.Fatalf("no base image: run `make base` first: %v", err)
	}
	bin := ingot(b)
	for b.Loop() {
		dir := b.TempDir()
		total, guest := bake(b, bin, base, dir)
		plain := byHand(b, base, dir)
		b.ReportMetric(total.Seconds()/plain.Seconds(), "x-by-hand")
		b.ReportMetric((total - guest).Seconds(), "s-outside-guest")
		b.ReportMetric(guest.Seconds(), "s-guest")
		b.ReportMetric(plain.Seconds(), "s-by-hand")
		b.ReportMetric(0, "ns/op")
	}
}

func bake(b *testing.B, bin, base, dir string) (total, guest time.Duration) {
	b.Helper()
	src := fmt.Sprintf(template, base, steps[0], steps[1], steps[2])
	if err := os.WriteFile(filepath.Join(dir, "t.pkr.hcl"), []byte(src), 0o600); err != nil {
		b.Fatal(err)
	}
	cmd := exec.Command(bin, "build", "-progress=json", ".")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "XDG_STATE_HOME="+dir+"/state")
	start := time.Now()
	out, err := cmd.CombinedOutput()
	total = time.Since(start)
	if err != nil {
		b.Fatalf("bake: %v\n%s", err, out)
	}
	lines := bufio.NewScanner(bytes.NewReader(out))
	for lines.Scan() {
		var ev struct {
			Type    string        `json:"type"`
			Name    string        `json:"name"`
			Elapsed time.Duration `json:"elapsed_ns"`
		}
		if err := json.Unmarshal(lines.Bytes(), &ev); err != nil {
			b.Fatalf("%v in %q", err, lines.Text())
		}
		if ev.Type != "step-ended" {
			continue
		}
		if ev.Name == "connect" || ev.Name == "shutdown" || strings.HasPrefix(ev.Name, "provisioner") {
			guest += ev.Elapsed
		}
		b.Logf("%-24s %s", ev.Name, ev.Elapsed.Round(time.Millisecond))
	}
	return total, guest
}

// byHand does with the plain tools what the template says.
func byHand(b *testing.B, base, dir string) time.Duration {
	b.Helper()
	key := filepath.Join(dir, "key")
	smbios := filepath.Join(dir, "smbios")
	if err := os.WriteFile(smbios, []byte("io.systemd.credential.binary:ssh.authorized_keys.root="+newKey(b, key)), 0o600); err != nil {
		b.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	port := l.Addr().(*net.TCPAddr).Port
	_ = l.Close()

	start := time.Now()
	sh(b, dir, "qemu-img", "create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", "overlay.qcow2")
	vm := exec.Command("qemu-system-x86_64", "-machine", "type=pc,accel=tcg", "-m", "1024M", "-display", "none",
		"-drive", "file=overlay.qcow2,if=virtio,format=qcow2", "-smbios", "type=11,path="+smbios,
		"-netdev", fmt.Sprintf("user,id=n,hostfwd=tcp:127.0.0.1:%d-:22", port), "-device", "virtio-net,netdev=n")
	vm.Dir = dir
	if err := vm.Start(); err != nil {
		b.Fatal(err)
	}
	defer vm.Process.Kill()
	login := []string{
		"-p", fmt.Sprint(port), "-i", key, "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null",
		"-o", "ConnectTimeout=2", "-o", "BatchMode=yes", "-o", "LogLevel=ERROR", "root@127.0.0.1",
	}
	for exec.Command("ssh", append(login, "true")...).Run() != nil {
		if time.Since(start) > 10*time.Minute {
			b.Fatal("the machine does not answer")
		}
	}
	for _, s := range steps {
		sh(b, dir, "ssh", append(login, s)...)
	}
	_ = exec.Command("ssh", append(login, "systemctl poweroff")...).Run() // the session may end without a status
	if err := vm.Wait(); err != nil {
		b.Fatal(err)
	}
	sh(b, dir, "qemu-img", "convert", "-O", "qcow2", "overlay.qcow2", "by-hand.qcow2")
	return time.Since(start)
}

func sh(b *testing.B, dir, name string, args ...string) {
	b.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// newKey writes a private key and returns the public one in base64.
func newKey(b *testing.B, path string) string {
	b.Helper()
	pub, priv, err := ed25519.GenerateKey(nil)
	if err != nil {
		b.Fatal(err)
	}
	block, err := ssh.MarshalPrivateKey(priv, "")
	if err != nil {
		b.Fatal(err)
	}
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		b.Fatal(err)
	}
	line, err := ssh.NewPublicKey(pub)
	if err != nil {
		b.Fatal(err)
	}
	return base64.StdEncoding.EncodeToString(ssh.MarshalAuthorizedKey(line))
}
