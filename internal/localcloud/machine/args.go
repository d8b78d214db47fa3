package machine

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// Names in Spec.Dir. The emulator works in that folder, so that a long path
// does not meet the limit of socket names.
const (
	qmpSocket   = "qmp.sock"
	pidFile     = "qemu.pid"
	logFile     = "qemu.log"
	varsFile    = "efivars.fd"
	tpmState    = "tpm"
	tpmSocket   = "tpm.sock"
	targetFile  = "metadata-address"
	killedFile  = "killed"
	screenFile  = "screen.ppm"
	slirp       = "net0" // the user-mode network
	firstSlot   = 5      // on the bus, of the disk of letter a; guests rely on it
	lastSlot    = 30     // of letter z
	lastARMSlot = 20     // fewer: each costs a bridge
)

// launch is what the arguments are made from besides the spec.
type launch struct {
	accel    string // kvm or tcg
	token    string
	firmware string // EFI code, "" for BIOS
	net      network
}

// esc doubles commas, which separate QEMU's options.
func esc(s string) string { return strings.ReplaceAll(s, ",", ",,") }

// args returns the emulator's arguments. Its files 3 and 4 lead to the link:
// 3 carries what the guest's network card sends and receives, 4 what the
// user-mode network does.
func (s *Spec) args(l launch) ([]string, error) {
	sum := sha256.Sum256([]byte(s.ID))
	uuid := hex.EncodeToString(sum[:16])
	uuid = "ec2" + uuid[3:8] + "-" + uuid[8:12] + "-" + uuid[12:16] + "-" + uuid[16:20] + "-" + uuid[20:]
	mac := s.MAC
	if mac == "" {
		mac = fmt.Sprintf("02:%02x:%02x:%02x:%02x:%02x", sum[16], sum[17], sum[18], sum[19], sum[20])
	}
	accel, cpu := "kvm", "host"
	if l.accel != "kvm" {
		accel, cpu = "tcg,thread=multi", "max"
	}
	board := "pc"
	if s.Arch == "arm64" {
		board = "virt,gic-version=max"
	}
	user := fmt.Sprintf("user,id=%s,ipv6=off,net=%s,host=%s,dns=%s,dhcpstart=%s", slirp, l.net.subnet, l.net.router, l.net.dns, l.net.privateIP)
	if s.Hostname != "" {
		user += ",hostname=" + s.Hostname
	}
	a := []string{
		"-name", s.ID, "-nodefaults", "-no-user-config", "-display", "none", "-pidfile", pidFile,
		"-machine", board, "-accel", accel, "-cpu", cpu, "-smp", strconv.Itoa(s.VCPUs), "-m", strconv.Itoa(s.MemoryMiB) + "M",
		"-chardev", "socket,id=" + l.token + ",path=" + qmpSocket + ",server=on,wait=off", "-mon", "chardev=" + l.token + ",mode=control",
		"-chardev", "file,id=console,append=on,path=" + esc(s.Console), "-serial", "chardev:console",
		"-smbios", "type=0,vendor=Amazon EC2,version=1.0", "-smbios", "type=1,manufacturer=Amazon EC2,product=" + s.InstanceType + ",uuid=" + uuid + ",serial=" + uuid,
		"-smbios", "type=3,manufacturer=Amazon EC2,asset=Amazon EC2",
		"-netdev", user, "-netdev", "hubport,id=hub0,hubid=0,netdev=" + slirp,
		"-netdev", "socket,id=up0,fd=4", "-netdev", "hubport,id=hub1,hubid=0,netdev=up0",
		"-netdev", "socket,id=card0,fd=3", "-device", "virtio-net-pci,netdev=card0,romfile=,addr=0x3,mac=" + mac,
		"-device", "virtio-rng-pci,addr=0x4",
	}
	if s.Arch == "arm64" {
		a = append(a, "-device", "bochs-display,romfile=,addr=0x2")
		for slot := firstSlot; slot <= lastARMSlot; slot++ {
			a = append(a, "-device", fmt.Sprintf("pcie-root-port,id=%s,chassis=%d,addr=%#x", bridge(slot), slot, slot))
		}
	} else {
		a = append(a, "-device", "VGA,addr=0x2")
	}
	if l.firmware != "" {
		a = append(
			a, "-drive", "if=pflash,unit=0,format=raw,readonly=on,file="+esc(l.firmware),
			"-drive", "if=pflash,unit=1,format=raw,file="+varsFile,
		)
	}
	if s.TPM {
		dev := "tpm-crb"
		if s.Arch == "arm64" {
			dev = "tpm-tis-device"
		}
		a = append(a, "-chardev", "socket,id=tpm,path="+tpmSocket, "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", dev+",tpmdev=tpm0")
	}
	used := map[int]bool{}
	for i, d := range s.Disks {
		slot, err := freeSlot(s.Arch, d.DeviceName, used)
		if err != nil {
			return nil, err
		}
		used[slot] = true
		a = append(a, "-blockdev", flat(d.node()))
		dev := flat(d.device(s.Arch, slot))
		if i == 0 {
			dev += ",bootindex=0"
		}
		a = append(a, "-device", dev)
	}
	return a, nil
}

func bridge(slot int) string { return fmt.Sprintf("port%d", slot) }

// pair is one option of a device or a block node.
type pair struct {
	key string
	val any
}

// flat writes options as the command line has them.
func flat(opts []pair) string {
	var b strings.Builder
	for i, o := range opts {
		if i > 0 {
			b.WriteByte(',')
		}
		val := fmt.Sprint(o.val)
		if v, ok := o.val.(bool); ok {
			val = map[bool]string{true: "on", false: "off"}[v]
		}
		b.WriteString(o.key + "=" + esc(val))
	}
	return b.String()
}

// nested writes options as QMP has them.
func nested(opts []pair) map[string]any {
	out := map[string]any{}
	for _, o := range opts {
		m, key := out, o.key
		for {
			head, rest, ok := strings.Cut(key, ".")
			if !ok {
				break
			}
			sub, _ := m[head].(map[string]any)
			if sub == nil {
				sub = map[string]any{}
				m[head] = sub
			}
			m, key = sub, rest
		}
		m[key] = o.val
	}
	return out
}

// node is the disk's image. What the guest has flushed survives the end of any
// process here; only a failure of the host itself may lose it, as the price of
// not waiting for the host's disk.
func (d *Disk) node() []pair {
	return []pair{
		{"driver", d.Format},
		{"node-name", d.VolumeID},
		{"read-only", d.ReadOnly},
		{"discard", "unmap"},
		{"detect-zeroes", map[bool]string{true: "off", false: "unmap"}[d.ReadOnly]},
		{"cache.direct", false},
		{"cache.no-flush", true},
		{"file.driver", "file"},
		{"file.filename", d.Path},
	}
}

// device is the disk as the guest sees it.
func (d *Disk) device(arch string, slot int) []pair {
	opts := []pair{
		{"driver", "virtio-blk-pci"},
		{"id", fmt.Sprintf("disk%d.%s", slot, d.VolumeID)},
		{"drive", d.VolumeID},
		{"serial", serial(d.VolumeID)},
	}
	if arch == "arm64" {
		return append(opts, pair{"bus", bridge(slot)})
	}
	return append(opts, pair{"bus", "pci.0"}, pair{"addr", fmt.Sprintf("%#x", slot)})
}

// serial is the volume id without its dash, as EC2 shows it; 20 characters are
// what the device has room for.
func serial(volumeID string) string {
	s := strings.ReplaceAll(volumeID, "-", "")
	return s[:min(len(s), 20)]
}

var errNoRoom = errors.New("there is no room for another disk")

// freeSlot returns the place on the bus that belongs to a device name, or
// another one when it is taken or the name has none.
func freeSlot(arch, name string, used map[int]bool) (int, error) {
	last := lastSlot
	if arch == "arm64" {
		last = lastARMSlot
	}
	if slot := namedSlot(name); slot <= last && slot != 0 && !used[slot] {
		return slot, nil
	}
	for slot := last; slot >= firstSlot; slot-- {
		if !used[slot] {
			return slot, nil
		}
	}
	return 0, errNoRoom
}

// namedSlot returns 0 for a name that is not of one letter.
func namedSlot(name string) int {
	short := strings.TrimPrefix(name, "/dev/")
	for _, prefix := range []string{"xvd", "sd", "hd"} {
		if rest, ok := strings.CutPrefix(short, prefix); ok {
			rest = strings.TrimRight(rest, "0123456789")
			if len(rest) == 1 && rest[0] >= 'a' && rest[0] <= 'z' {
				return firstSlot + int(rest[0]-'a')
			}
		}
	}
	return 0
}
