package examples

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
	"golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/poll"
)

const version = "7.8.9"

// deadline bounds each of the bake and the first boot, where the processor is
// emulated and shared.
const deadline = 20 * time.Minute

// TestWebProd bakes examples/web-prod, looks into the image, and asks a machine
// made from it over the network.
func TestWebProd(t *testing.T) {
	if testing.Short() {
		t.Skip("needs virtual machines")
	}
	for _, tool := range []string{"qemu-system-x86_64", "qemu-img", "debugfs"} {
		if _, err := exec.LookPath(tool); err != nil {
			t.Fatalf("%v: run `make setup-test`", err)
		}
	}
	out := filepath.Join(t.TempDir(), "out")
	image := filepath.Join(out, "web-prod-"+version+".qcow2")
	base := baseImage(t)
	bake(t, base, out)

	t.Run("records", func(t *testing.T) { checkRecords(t, out, image) })
	t.Run("leftovers", func(t *testing.T) { checkLeftovers(t, base, image) })
	t.Run("machine", func(t *testing.T) { checkMachine(t, image) })
}

func baseImage(t *testing.T) string {
	base := os.Getenv("INGOT_TEST_BASE")
	if base == "" {
		base = filepath.Join("..", ".ingot", "base", "debian-12-amd64.qcow2")
	}
	base, err := filepath.Abs(base)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(base); err != nil {
		t.Fatalf("no base image: run `make base` first, or name one in INGOT_TEST_BASE: %v", err)
	}
	return base
}

// bake runs the program as a user does.
func bake(t *testing.T, base, out string) {
	ingot := filepath.Join(t.TempDir(), "ingot")
	run(t, time.Minute*5, "go", "build", "-o", ingot, "../cmd/ingot")
	stateDir, err := os.MkdirTemp("", "ingot-ex-") // sockets have short paths only
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(stateDir) })
	t.Setenv("XDG_STATE_HOME", stateDir)
	run(t, deadline, ingot, "build", "-color=false", "-only=web-prod.qemu.web", "-var", "base_image="+base, "-var", "image_version="+version,
		"-var", "site_name=Test Site", "-var", "cpus=1", "-var", "output_directory="+out, "web-prod")
}

func checkRecords(t *testing.T, out, image string) {
	f, err := os.Open(image)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile(filepath.Join(out, "web-prod-"+version+".sha256"))
	if err != nil {
		t.Fatal(err)
	}
	if sum := hex.EncodeToString(h.Sum(nil)); !strings.Contains(string(sums), sum) {
		t.Errorf("the checksum file says %q, the image has %s", sums, sum)
	}
	var m struct {
		Builds []struct {
			CustomData map[string]string `json:"custom_data"`
		} `json:"builds"`
	}
	js, err := os.ReadFile(filepath.Join(out, "manifest.json"))
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(js, &m); err != nil {
		t.Fatal(err)
	}
	if len(m.Builds) != 1 {
		t.Fatalf("the manifest lists %d builds", len(m.Builds))
	}
	for k, want := range map[string]string{"architecture": "x86_64", "virtualization_type": "hvm", "version": version} {
		if got := m.Builds[0].CustomData[k]; got != want {
			t.Errorf("manifest: %s is %q, not %q", k, got, want)
		}
	}
}

// privateKey matches a key in PEM, and not the mere marker in a program.
var privateKey = regexp.MustCompile(`-----BEGIN ([A-Z]+ )?PRIVATE KEY-----\r?\n[A-Za-z0-9+/=]{32}`)

// checkLeftovers reads the image's file system without booting it.
func checkLeftovers(t *testing.T, base, image string) {
	raw := filepath.Join(t.TempDir(), "disk.raw")
	run(t, deadline, "qemu-img", "convert", "-O", "raw", image, raw)
	fs := rootFS{t: t, device: fmt.Sprintf("%s?offset=%d", raw, rootOffset(t, raw))}

	if r := fs.read("/etc/ingot-release"); !strings.Contains(r, `VERSION="`+version+`"`) ||
		!strings.Contains(r, `ARCHITECTURE="x86_64"`) || !strings.Contains(r, `VIRTUALIZATION_TYPE="hvm"`) {
		t.Errorf("/etc/ingot-release is %q", r)
	}
	if id := fs.read("/etc/machine-id"); id != "" {
		t.Errorf("/etc/machine-id is %q", id)
	}
	for _, name := range fs.list("/etc/ssh") {
		if strings.HasPrefix(name, "ssh_host_") {
			t.Errorf("host key %s is in the image", name)
		}
	}
	for _, dir := range []string{"/root/.ssh", "/etc/nginx/tls", "/var/log/journal", "/var/log/apt", "/var/log/nginx", "/var/lib/apt/lists", "/tmp", "/var/tmp", "/var/lib/cloud"} {
		if names := fs.list(dir); len(names) > 0 {
			t.Errorf("%s holds %q", dir, names)
		}
	}
	for dir, name := range map[string]string{"/var/lib/systemd": "random-seed", "/root": ".bash_history", "/var/log": "dpkg.log", "/usr/sbin": "policy-rc.d"} {
		for _, n := range fs.list(dir) {
			if n == name {
				t.Errorf("%s/%s is in the image", dir, name)
			}
		}
	}
	// In unused blocks, too. Libraries hold keys to test themselves with: those
	// are in the base as well.
	baseRaw := filepath.Join(t.TempDir(), "base.raw")
	run(t, deadline, "qemu-img", "convert", "-O", "raw", base, baseRaw)
	known := privateKeys(t, baseRaw)
	for text, at := range privateKeys(t, raw) {
		if _, ok := known[text]; !ok {
			t.Errorf("a private key is in the image at byte %d: %.40q", at, text)
		}
	}
}

// rootFS is an ext4 file system, read with debugfs.
type rootFS struct {
	t      *testing.T
	device string
}

// list returns the names in dir; none when it does not exist.
func (r rootFS) list(dir string) []string {
	r.t.Helper()
	var names []string
	for line := range strings.Lines(r.run("ls -p " + dir)) {
		// /inode/mode/uid/gid/name/size/
		if f := strings.Split(line, "/"); len(f) > 5 && f[5] != "." && f[5] != ".." {
			names = append(names, f[5])
		}
	}
	return names
}

func (r rootFS) read(name string) string {
	r.t.Helper()
	return r.run("cat " + name)
}

func (r rootFS) run(command string) string {
	r.t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(r.t.Context(), "debugfs", "-R", command, r.device)
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		r.t.Fatalf("debugfs %s: %v: %s", command, err, errs.String())
	}
	for line := range strings.Lines(errs.String()) {
		if !strings.HasPrefix(line, "debugfs ") && !strings.Contains(line, "File not found by ext2_lookup") {
			r.t.Fatalf("debugfs %s: %s", command, line)
		}
	}
	return out.String()
}

func rootOffset(t *testing.T, raw string) int64 {
	b, err := file.OpenFromPath(raw, true)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	table, err := gpt.Read(b, 512, 512)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range table.Partitions {
		if p.Type == gpt.LinuxRootX86_64 {
			return int64(p.Start) * 512
		}
	}
	t.Fatal("the image has no root partition")
	return 0
}

// privateKeys returns where the private keys in a file begin, by their text.
func privateKeys(t *testing.T, name string) map[string]int64 {
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	const overlap = 256
	found := map[string]int64{}
	buf := make([]byte, 4<<20)
	kept := 0
	for at := int64(0); ; {
		n, err := io.ReadFull(f, buf[kept:])
		data := buf[:kept+n]
		if bytes.Contains(data, []byte("PRIVATE KEY-----")) {
			for _, loc := range privateKey.FindAllIndex(data, -1) {
				found[string(data[loc[0]:loc[1]])] = at + int64(loc[0])
			}
		}
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return found
		}
		if err != nil {
			t.Fatal(err)
		}
		kept = copy(buf, data[len(data)-overlap:])
		at += int64(len(data) - overlap)
	}
}

// checkMachine boots a machine from the image and talks to it over the network.
func checkMachine(t *testing.T, image string) {
	ctx, stop := context.WithTimeout(t.Context(), deadline)
	defer stop()
	port := startMachine(t, image)
	client := &http.Client{
		Timeout: 20 * time.Second,
		// The certificate is the host's own; what it says is checked below.
		Transport:     &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}

	page, resp := get(ctx, t, client, fmt.Sprintf("https://127.0.0.1:%d/", port[443]))
	if resp.StatusCode != http.StatusOK || !strings.Contains(page, "<h1>Test Site</h1>") || !strings.Contains(page, version) {
		t.Errorf("the page is %s: %q", resp.Status, page)
	}
	cert := resp.TLS.PeerCertificates[0]
	if err := cert.CheckSignature(cert.SignatureAlgorithm, cert.RawTBSCertificate, cert.Signature); err != nil {
		t.Errorf("the certificate is not the host's own: %v", err)
	}
	if err := cert.VerifyHostname("localhost"); err != nil {
		t.Error(err)
	}
	if age := time.Since(cert.NotBefore); age > 2*deadline {
		t.Errorf("the certificate is %v old: older than the machine", age)
	}

	_, resp = get(ctx, t, client, fmt.Sprintf("http://127.0.0.1:%d/", port[80]))
	if resp.StatusCode != http.StatusMovedPermanently || !strings.HasPrefix(resp.Header.Get("Location"), "https://") {
		t.Errorf("plain HTTP answers %s to %q", resp.Status, resp.Header.Get("Location"))
	}

	metrics, resp := get(ctx, t, client, fmt.Sprintf("http://127.0.0.1:%d/metrics", port[9100]))
	if resp.StatusCode != http.StatusOK || !strings.Contains(metrics, "node_uname_info{") || !strings.Contains(metrics, "node_cpu_seconds_total{") {
		t.Errorf("the metrics are %s: %.200q", resp.Status, metrics)
	}

	key := hostKey(ctx, t, port[22])
	t.Logf("the machine made itself the host key %s", ssh.FingerprintSHA256(key))
}

// startMachine returns the host's ports by the guest's.
func startMachine(t *testing.T, image string) map[int]int {
	dir := t.TempDir()
	disk := filepath.Join(dir, "disk.qcow2")
	run(t, time.Minute, "qemu-img", "create", "-q", "-f", "qcow2", "-b", image, "-F", "qcow2", disk, "6G")
	console := filepath.Join(dir, "console")
	ports, forward := map[int]int{}, ""
	var held []net.Listener
	for _, guest := range []int{22, 80, 443, 9100} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ports[guest] = l.Addr().(*net.TCPAddr).Port
		held = append(held, l) // until all are known, so that they differ
		forward += fmt.Sprintf(",hostfwd=tcp:127.0.0.1:%d-:%d", ports[guest], guest)
	}
	for _, l := range held {
		_ = l.Close()
	}
	cmd := exec.Command("qemu-system-x86_64", "-accel", "tcg,thread=multi", "-smp", "2", "-m", "1024",
		"-drive", "file="+disk+",if=virtio,format=qcow2,cache=unsafe",
		"-netdev", "user,id=n0"+forward, "-device", "virtio-net-pci,netdev=n0", "-device", "virtio-rng-pci",
		"-display", "none", "-monitor", "none", "-serial", "file:"+console)
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
	return ports
}

// get asks until there is an answer.
func get(ctx context.Context, t *testing.T, c *http.Client, url string) (string, *http.Response) {
	t.Helper()
	var last error
	var body []byte
	var resp *http.Response
	err := poll.Until(ctx, poll.Backoff{First: time.Second, Max: 3 * time.Second}, func(ctx context.Context) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return false, err
		}
		if resp, last = c.Do(req); last != nil {
			return false, nil
		}
		defer resp.Body.Close()
		body, last = io.ReadAll(resp.Body)
		return last == nil, nil
	})
	if err != nil {
		t.Fatalf("%s: %v (last: %v)", url, err, last)
	}
	return string(body), resp
}

// errSeen ends a handshake as soon as the host key is known.
var errSeen = errors.New("host key seen")

func hostKey(ctx context.Context, t *testing.T, port int) ssh.PublicKey {
	t.Helper()
	var key ssh.PublicKey
	var last error
	err := poll.Until(ctx, poll.Backoff{First: time.Second, Max: 3 * time.Second}, func(context.Context) (bool, error) {
		_, last = ssh.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port), &ssh.ClientConfig{
			User: "nobody", Timeout: 20 * time.Second,
			HostKeyCallback: func(_ string, _ net.Addr, k ssh.PublicKey) error { key = k; return errSeen },
		})
		return key != nil, nil
	})
	if err != nil {
		t.Fatalf("SSH: %v (last: %v)", err, last)
	}
	return key
}

// run runs a program and shows what it says.
func run(t *testing.T, limit time.Duration, name string, args ...string) {
	t.Helper()
	ctx, stop := context.WithTimeout(t.Context(), limit)
	defer stop()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = time.Minute
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = cmd.Stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var tail []string
	for sc := bufio.NewScanner(out); sc.Scan(); {
		t.Log(sc.Text())
		if tail = append(tail, sc.Text()); len(tail) > 20 {
			tail = tail[1:]
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, strings.Join(tail, "\n"))
	}
}
