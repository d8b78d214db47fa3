package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/vm"
)

func TestSpecFaults(t *testing.T) {
	good := Spec{
		ID: "i-1", Dir: "/tmp", Arch: "x86_64", VCPUs: 1, MemoryMiB: 64, Address: "127.0.0.9", PrivateIP: "10.0.0.9",
		Disks: []Disk{{Path: "/a", Format: "raw", VolumeID: "vol-1"}},
	}
	if err := good.check(); err != nil {
		t.Fatal(err)
	}
	for field, change := range map[string]func(*Spec){
		"ID":           func(s *Spec) { s.ID = "i 1" },
		"Dir":          func(s *Spec) { s.Dir = "here" },
		"Arch":         func(s *Spec) { s.Arch = "mips" },
		"BootMode":     func(s *Spec) { s.Arch, s.BootMode = "arm64", "legacy-bios" },
		"VCPUs":        func(s *Spec) { s.VCPUs = 0 },
		"MemoryMiB":    func(s *Spec) { s.MemoryMiB = 1 },
		"Address":      func(s *Spec) { s.Address = "10.0.0.1" },
		"MAC":          func(s *Spec) { s.MAC = "02:00:00:00:00:01,x=y" },
		"Hostname":     func(s *Spec) { s.Hostname = "a,b" },
		"InstanceType": func(s *Spec) { s.InstanceType = "t3,uuid=1" },
		"Ports":        func(s *Spec) { s.Ports = []int{0} },
		"PrivateIP":    func(s *Spec) { s.PrivateIP = "10.0.0.2" },
		"Subnet":       func(s *Spec) { s.Subnet = "10.0.0.0/8" },
		"Metadata":     func(s *Spec) { s.Metadata = "localhost:80" },
		"Disks":        func(s *Spec) { s.Disks = nil },
		"Disks[0]":     func(s *Spec) { s.Disks = []Disk{{Path: "a", Format: "raw", VolumeID: "vol-1"}} },
		"Disks[1]":     func(s *Spec) { s.Disks = append(slices.Clone(s.Disks), s.Disks[0]) },
	} {
		s := good
		change(&s)
		errs := diag.Flatten(s.check())
		var fe *diag.FieldError
		if len(errs) != 1 || !errors.As(errs[0], &fe) || fe.Paths[0] != field {
			t.Errorf("%s: %v", field, errs)
		}
	}
}

func TestNetworkOfAGuest(t *testing.T) {
	s := Spec{PrivateIP: "172.31.37.4"}
	n, err := s.network()
	if err != nil || n.subnet.String() != "172.31.32.0/20" || n.router != netip.MustParseAddr("172.31.32.1") || n.dns != netip.MustParseAddr("172.31.32.2") {
		t.Errorf("%+v, %v", n, err)
	}
	s.Subnet = "172.31.37.0/28"
	if n, err = s.network(); err != nil || n.subnet.String() != s.Subnet {
		t.Errorf("%+v, %v", n, err)
	}
	s.PrivateIP = "172.31.37.99"
	if _, err = s.network(); err == nil {
		t.Error("outside of its subnet")
	}
}

func TestPlaceOfADisk(t *testing.T) {
	used := map[int]bool{}
	for _, c := range []struct {
		name string
		want int
	}{{"/dev/xvda", 5}, {"/dev/sda1", 30}, {"/dev/sdf", 10}, {"xvdz", 29}, {"/dev/xvdba", 28}, {"sdb", 6}} {
		got, err := freeSlot("x86_64", c.name, used)
		if err != nil || got != c.want {
			t.Errorf("%s: %d, %v; want %d", c.name, got, err, c.want)
		}
		used[got] = true
	}
	for range 26 - len(used) {
		slot, err := freeSlot("x86_64", "", used)
		if err != nil || used[slot] {
			t.Fatalf("%d, %v", slot, err)
		}
		used[slot] = true
	}
	if _, err := freeSlot("x86_64", "/dev/sdc", used); !errors.Is(err, errNoRoom) {
		t.Errorf("err = %v", err)
	}
	if got, err := freeSlot("arm64", "/dev/sdz", map[int]bool{}); err != nil || got != lastARMSlot {
		t.Errorf("%d, %v", got, err)
	}
}

func TestArguments(t *testing.T) {
	s := Spec{
		ID: "i-1", Arch: "arm64", VCPUs: 2, MemoryMiB: 512, PrivateIP: "10.0.0.9", Console: "/a,b/console", Hostname: "ip-10-0-0-9", TPM: true,
		Disks: []Disk{{Path: "/x,y/root", Format: "raw", DeviceName: "/dev/sda1", VolumeID: "vol-0123456789abcdef0", ReadOnly: true}},
	}
	n, err := s.network()
	if err != nil {
		t.Fatal(err)
	}
	args, err := s.args(launch{accel: "tcg", token: "mark", firmware: "/code", net: n})
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(args, " ")
	for _, want := range []string{
		"-machine virt,", "path=/a,,b/console", "filename=/x,,y/root", "serial=vol0123456789abcdef0", "bus=port5", "bootindex=0",
		"read-only=on", "net=10.0.0.0/20,host=10.0.0.1,dns=10.0.0.2,dhcpstart=10.0.0.9,hostname=ip-10-0-0-9", "tpm-tis-device", "id=mark,",
		"manufacturer=Amazon EC2", "uuid=ec2", "unit=0,format=raw,readonly=on,file=/code",
	} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is missing in %s", want, line)
		}
	}
	got := fmt.Sprint(nested(s.Disks[0].node())["file"], nested(s.Disks[0].node())["cache"])
	if got != "map[driver:file filename:/x,y/root] map[direct:false no-flush:true]" {
		t.Error(got)
	}
}

func TestPortsOnTheHost(t *testing.T) {
	for _, c := range []struct {
		shift portShift
		want  []int
	}{{portShift{}, []int{22, 8080}}, {portShift{Low: true}, []int{10022, 8080}}, {portShift{Taken: []int{8080}}, []int{22, 18080}}} {
		if got := []int{c.shift.host(22), c.shift.host(8080)}; !slices.Equal(got, c.want) {
			t.Errorf("%+v: %v, want %v", c.shift, got, c.want)
		}
	}
	address := ownAddress()
	listen := func(on string) int {
		ln, err := net.Listen("tcp4", hostAddr(on, 0))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = ln.Close() })
		return ln.Addr().(*net.TCPAddr).Port
	}
	mine := listen(address)
	var busy *PortError
	if taken, err := probe(address, mine); taken || !errors.As(err, &busy) {
		t.Errorf("a machine has the port: %v, %v", taken, err)
	}
	if taken, err := probe(address, listen("0.0.0.0")); !taken || err != nil {
		t.Errorf("a server has the port on every address: %v, %v", taken, err)
	}
	if taken, err := probe(ownAddress(), mine); taken || err != nil {
		t.Errorf("another address: %v, %v", taken, err)
	}
}

func TestParseForwards(t *testing.T) {
	table := "Hub 0 (net0):\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ SendQ\n" +
		"  TCP[HOST_FORWARD]  14      127.83.0.5 10022     172.31.0.9    22     0     0\n" +
		"  TCP[ESTABLISHED]   15      127.83.0.5 10022     172.31.0.9    22     0     0\n" +
		"  TCP[HOST_FORWARD]  16      127.83.0.5   x       172.31.0.9    80     0     0\n" +
		"  TCP[HOST_FORWARD]  16      127.83.0.5   443     172.31.0.9   443     0     0\n"
	got := parseForwards(table)
	if len(got) != 2 || got[10022] != 22 || got[443] != 443 {
		t.Errorf("%v", got)
	}
}

func FuzzParseForwards(f *testing.F) {
	f.Add("  TCP[HOST_FORWARD]  14      127.83.0.5 10022     172.31.0.9    22     0     0\n")
	f.Fuzz(func(t *testing.T, table string) { parseForwards(table) })
}

func FuzzDecodePPM(f *testing.F) {
	f.Add([]byte("P6\n2 1\n255\nabcdef"))
	f.Add([]byte("P6\n999999999 999999999\n255\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		img, err := decodePPM(data)
		if err == nil && img.Bounds().Empty() {
			t.Error("an empty image")
		}
	})
}

func TestMachineFromStartToKill(t *testing.T) {
	q, s := driver(t), blank(t)
	port := freePort(t, s.Address)
	s.Ports = []int{port}
	s.TPM = true
	p := start(t, q, s)
	open := func(port int) bool {
		c, err := net.Dial("tcp", hostAddr(s.Address, port))
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	}
	if !open(port) {
		t.Error("the port is closed")
	}
	other := port
	for other == port {
		other = freePort(t, s.Address)
	}
	found, ok := q.Find(s, p.Identity())
	if !ok {
		t.Fatal("not found")
	}
	for range 2 {
		if err := found.SetPorts(bounded(t), []int{other}); err != nil {
			t.Fatal(err)
		}
	}
	if open(port) || !open(other) {
		t.Error("the ports did not change")
	}
	ln, err := net.Listen("tcp4", hostAddr(s.Address, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var busy *PortError
	if err := p.SetPorts(bounded(t), []int{other, ln.Addr().(*net.TCPAddr).Port}); !errors.As(err, &busy) {
		t.Errorf("a port that is taken: %v", err)
	}
	if err := p.Reset(bounded(t)); err != nil {
		t.Error(err)
	}
	if shot, err := p.Screenshot(bounded(t)); err != nil || len(shot) < 100 {
		t.Errorf("%d bytes, %v", len(shot), err)
	}
	d := Disk{Path: filepath.Join(s.Dir, "more.qcow2"), Format: "qcow2", DeviceName: "/dev/sdf", VolumeID: "vol-2"}
	if err := p.AttachDisk(bounded(t), d); err == nil {
		t.Error("a disk without a file was attached")
	}
	qemuImg(t, "create", "-q", "-f", "qcow2", d.Path, "1M")
	for _, p := range []Process{p, found} {
		if err := p.AttachDisk(bounded(t), d); err != nil {
			t.Fatal(err)
		}
	}
	if err := found.Kill(bounded(t)); err != nil {
		t.Fatal(err)
	}
	for _, p := range []Process{p, found} {
		select {
		case <-p.Done():
		case <-bounded(t).Done():
			t.Fatal("it still runs")
		}
		if p.GuestHalted() {
			t.Error("it was killed, and says that it shut down")
		}
		if err := p.PowerButton(t.Context()); !errors.Is(err, ErrEnded) {
			t.Errorf("err = %v", err)
		}
		if err := p.Kill(t.Context()); err != nil {
			t.Error(err)
		}
	}
	if _, ok := q.Find(s, p.Identity()); ok {
		t.Error("found after its end")
	}
	for _, name := range []string{qmpSocket, pidFile, tpmSocket, targetFile} {
		if _, err := os.Stat(filepath.Join(s.Dir, name)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s was left: %v", name, err)
		}
	}
	token := p.(*process).id.Token
	eventually(t, "the helpers to end", func() bool {
		left, err := vm.FindToken(token)
		return err == nil && len(left) == 0
	})
}

// TestSnapshotOfALayer checks that a copy holds what its disk holds: data,
// zeros over data of the file below, and what only that file has.
func TestSnapshotOfALayer(t *testing.T) {
	q, s := driver(t), blank(t)
	below, top := filepath.Join(s.Dir, "below.qcow2"), filepath.Join(s.Dir, "top.qcow2")
	qemuImg(t, "create", "-q", "-f", "qcow2", below, "4M")
	qemuIO(t, below, "write -P 1 0 3M")
	qemuImg(t, "create", "-q", "-f", "qcow2", "-b", below, "-F", "qcow2", top, "6M")
	qemuIO(t, top, "write -P 2 512k 512k", "write -z -u 1M 512k", "discard 2M 64k", "write -P 3 5M 64k")
	s.Disks = append(s.Disks, Disk{Path: top, Format: "qcow2", DeviceName: "/dev/sdb", VolumeID: "vol-top"})
	p := start(t, q, s)
	files := []string{filepath.Join(s.Dir, "copy0"), filepath.Join(s.Dir, "copy1")}
	ids := []string{s.Disks[0].VolumeID, "vol-top"}
	if err := p.SnapshotDisks(bounded(t), ids, files); err != nil {
		t.Fatal(err)
	}
	if err := p.SnapshotDisks(bounded(t), ids, files); err == nil {
		t.Error("files were replaced")
	}
	if err := p.SnapshotDisks(bounded(t), []string{"vol-none"}, []string{filepath.Join(s.Dir, "none")}); err == nil {
		t.Error("a volume that is not there was copied")
	}
	if err := p.Kill(bounded(t)); err != nil {
		t.Fatal(err)
	}
	qemuImg(t, "compare", "-f", "qcow2", "-F", "qcow2", files[1], top)
	info, err := vm.Img{}.Info(t.Context(), files[1])
	if err != nil || info.Backing != below || info.VirtualSize != 6<<20 {
		t.Errorf("%+v, %v", info, err)
	}
}

func qemuIO(t *testing.T, file string, commands ...string) {
	t.Helper()
	args := []string{"-f", "qcow2"}
	for _, c := range commands {
		args = append(args, "-c", c)
	}
	runTool(t, "qemu-io", append(args, file)...)
}

func TestStartThatFailsLeavesNothing(t *testing.T) {
	q, s := driver(t), blank(t)
	s.Disks[0].Path = filepath.Join(s.Dir, "missing")
	_, err := q.Start(bounded(t), s)
	if err == nil || !strings.Contains(err.Error(), "missing") {
		t.Fatalf("err = %v", err)
	}
	eventually(t, "the helpers to end", func() bool {
		left, err := vm.FindToken("ingot-" + s.ID + "-")
		return err == nil && !slices.ContainsFunc(left, func(id vm.Identity) bool {
			line, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", id.PID))
			return strings.Contains(string(line), s.Dir)
		})
	})
	ctx, stop := context.WithCancelCause(t.Context())
	stop(errors.New("enough"))
	if _, err := q.Start(ctx, s); err == nil {
		t.Error("a start on a context that has ended")
	}
}

func TestMissingEmulator(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	for arch, want := range map[string]string{"arm64": "apt install qemu-system-arm", "x86_64": "apt install qemu-system-x86"} {
		if err := (&QEMU{}).Check(t.Context(), arch); diag.Hint(err) != want {
			t.Errorf("%s: %v, hint %q", arch, err, diag.Hint(err))
		}
	}
	if err := (&QEMU{}).Check(t.Context(), "mips"); err == nil {
		t.Error("mips can be run")
	}
}

func TestARM64Machine(t *testing.T) {
	q, s := driver(t), blank(t)
	if err := q.Check(t.Context(), "arm64"); err != nil {
		t.Skip(err)
	}
	s.Arch = "arm64"
	if _, err := s.firmware(); err != nil {
		t.Skip(err)
	}
	p := start(t, q, s)
	d := Disk{Path: filepath.Join(s.Dir, "more.qcow2"), Format: "qcow2", DeviceName: "/dev/sdf", VolumeID: "vol-2"}
	qemuImg(t, "create", "-q", "-f", "qcow2", d.Path, "1M")
	if err := p.AttachDisk(bounded(t), d); err != nil {
		t.Fatal(err)
	}
	if _, err := p.Screenshot(bounded(t)); err != nil {
		t.Error(err)
	}
	eventually(t, "the firmware", func() bool {
		console, _ := os.ReadFile(s.Console)
		return strings.Contains(string(console), "UEFI")
	})
}
