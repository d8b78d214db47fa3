package qemu

import (
	"fmt"
	"net"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/vm/media"
)

// A launch is everything the arguments of one start are made from besides the
// options.
type launch struct {
	accel     string // "" for none
	cpuModel  string
	work      string   // folder with the disks
	disks     []string // file names in work
	formats   []string // of the disks
	iso       string   // installation medium, "" for none
	cd        string   // medium of cd_files, "" for none
	floppy    string   // "" for none
	efiCode   string   // "" for no EFI
	tpmSocket string   // "" for none
	hostPort  int      // forwarded to the guest, 0 for none
	vncPort   int
	display   string // "" leaves it out
	mac       string // "" for QEMU's own

	token    string   // marks the process
	qmp      string   // our socket
	console  string   // file for the serial console
	firmware []string // files with SMBIOS strings
}

// arg is one switch, with a value or without.
type arg struct {
	key, val string
	bare     bool
}

// esc doubles commas, which separate QEMU's options.
func esc(s string) string { return strings.ReplaceAll(s, ",", ",,") }

func (c *Config) arch() string {
	_, a, ok := strings.Cut(filepath.Base(c.QemuBinary), "qemu-system-")
	if !ok {
		return "x86_64"
	}
	return strings.TrimSuffix(a, ".exe")
}

// imageArch is the architecture of the image; QEMU's own name where it is not
// one we know.
func (c *Config) imageArch() artifact.Arch {
	if a, err := artifact.ParseArch(c.arch()); err == nil {
		return a
	}
	return artifact.Arch(c.arch())
}

func (c *Config) floppy() media.Source {
	return media.Source{Files: c.FloppyFiles, Dirs: c.FloppyDirs, Content: c.FloppyContent, Flat: true}
}

func (c *Config) cd() media.Source { return media.Source{Files: c.CDFiles, Content: c.CDContent} }

// guestPort is the one the communicator connects to, 0 without one.
func (c *Config) guestPort() int {
	switch c.Communicator {
	case "ssh":
		return c.SSHPort
	case "winrm":
		return c.WinRMPort
	}
	return 0
}

// overrides reports whether qemuargs names one of the switches.
func (c *Config) overrides(keys ...string) bool {
	return slices.ContainsFunc(c.QemuArgs, func(a []string) bool { return len(a) > 0 && slices.Contains(keys, a[0]) })
}

// args returns QEMU's arguments: the defaults, each switch that user names
// replaced, what only user names, and what Ingot needs for itself.
func (c *Config) args(l launch, user []arg) []string {
	var out []string
	put := func(a arg) {
		out = append(out, a.key)
		if !a.bare {
			out = append(out, a.val)
		}
	}
	used := map[string]bool{}
	taken := func(key string) bool {
		if used[key] {
			return true
		}
		used[key] = true
		found := false
		for _, u := range user {
			if u.key == key {
				put(u)
				found = true
			}
		}
		return found
	}
	byUser := map[string]bool{}
	for _, a := range c.defaults(l) {
		if !used[a.key] {
			byUser[a.key] = taken(a.key)
		}
		if !byUser[a.key] {
			put(a)
		}
	}
	for _, u := range user {
		taken(u.key)
	}
	if byUser["-device"] && !slices.ContainsFunc(user, func(u arg) bool { return u.key == "-device" && strings.Contains(u.val, c.NetDevice) }) {
		put(arg{key: "-device", val: c.netDevice(l)})
	}
	for _, a := range c.own(l) {
		put(a)
	}
	return out
}

func (c *Config) netDevice(l launch) string {
	d := c.NetDevice + ",netdev=user.0"
	if l.mac != "" {
		d += ",mac=" + l.mac
	}
	return d
}

// defaults are the arguments that qemuargs can replace.
func (c *Config) defaults(l launch) []arg {
	var a []arg
	add := func(key, format string, args ...any) { a = append(a, arg{key: key, val: fmt.Sprintf(format, args...)}) }
	add("-name", "%s", esc(c.VMName))
	machine := "type=" + c.MachineType
	if l.accel != "" {
		machine += ",accel=" + l.accel
	}
	add("-machine", "%s", machine)
	smp := strconv.Itoa(c.CPUs)
	for _, t := range []struct {
		name string
		n    int
	}{{"sockets", c.Sockets}, {"cores", c.Cores}, {"threads", c.Threads}} {
		if t.n > 0 {
			smp += fmt.Sprintf(",%s=%d", t.name, t.n)
		}
	}
	add("-smp", "%s", smp)
	add("-m", "%dM", c.MemorySize)
	if l.cpuModel != "" {
		add("-cpu", "%s", l.cpuModel)
	}
	if c.Firmware != "" && !c.PFlash {
		add("-bios", "%s", c.Firmware)
	}
	switch {
	case l.efiCode != "": // the firmware's variables decide
	case c.DiskImage:
		add("-boot", "c")
	default:
		add("-boot", "once=d")
	}
	if l.display != "" {
		add("-display", "%s", l.display)
	}
	if c.VGA != "" {
		add("-vga", "%s", c.VGA)
	}
	vnc := net.JoinHostPort(c.VNCBindAddress, strconv.Itoa(l.vncPort-5900))
	if c.VNCUsePassword {
		vnc += ",password=on"
	}
	add("-vnc", "%s", vnc)
	if c.QMPEnable {
		add("-qmp", "unix:%s,server,nowait", esc(c.qmpSocket(l)))
	}
	switch {
	case c.NetBridge != "":
		add("-netdev", "bridge,id=user.0,br=%s", c.NetBridge)
	case l.hostPort != 0:
		add("-netdev", "user,id=user.0,hostfwd=tcp::%d-:%d", l.hostPort, c.guestPort())
	default:
		add("-netdev", "user,id=user.0")
	}
	add("-device", "%s", c.netDevice(l))
	c.drives(l, add)
	if l.floppy != "" {
		add("-fda", "%s", esc(l.floppy))
	}
	if l.tpmSocket != "" {
		add("-chardev", "socket,id=vtpm,path=%s", esc(l.tpmSocket))
		add("-tpmdev", "emulator,id=tpm0,chardev=vtpm")
		add("-device", "%s,tpmdev=tpm0", c.TPMDeviceType)
	}
	return a
}

// drives adds the disks, the CDs and the firmware.
func (c *Config) drives(l launch, add func(key, format string, args ...any)) {
	if l.efiCode != "" {
		add("-drive", "file=%s,if=pflash,unit=0,format=raw,readonly=on", esc(l.efiCode))
		add("-drive", "file=%s,if=pflash,unit=1,format=raw", esc(filepath.Join(l.work, efiVarsName)))
	} else if c.Firmware != "" && c.PFlash {
		add("-drive", "file=%s,if=pflash,format=raw,readonly=on", esc(c.Firmware))
	}
	scsi := false
	controller := func() {
		if !scsi {
			add("-device", "virtio-scsi-pci,id=scsi0")
		}
		scsi = true
	}
	for i, d := range l.disks {
		opts := fmt.Sprintf("cache=%s,discard=%s,format=%s", c.DiskCache, c.DiskDiscard, l.formats[i])
		if c.DetectZeroes != "off" {
			opts += ",detect-zeroes=" + c.DetectZeroes
		}
		path := esc(filepath.Join(l.work, d))
		switch c.DiskInterface {
		case "virtio-scsi":
			controller()
			add("-drive", "if=none,file=%s,id=drive%d,%s", path, i, opts)
			add("-device", "scsi-hd,bus=scsi0.0,drive=drive%d", i)
		case "sata": // QEMU has no if= for it: a controller and a disk on it
			if i == 0 {
				add("-device", "ich9-ahci,id=ahci0")
			}
			add("-drive", "if=none,file=%s,id=drive%d,%s", path, i, opts)
			add("-device", "ide-hd,bus=ahci0.%d,drive=drive%d", i, i)
		default:
			add("-drive", "file=%s,if=%s,%s", path, c.DiskInterface, opts)
		}
	}
	cds := slices.DeleteFunc([]string{l.iso, l.cd}, func(s string) bool { return s == "" })
	for i, cd := range cds {
		switch c.CDROMInterface {
		case "":
			add("-drive", "file=%s,media=cdrom", esc(cd))
		case "virtio-scsi":
			controller()
			add("-drive", "file=%s,if=none,index=%d,id=cdrom%d,media=cdrom", esc(cd), i, i)
			add("-device", "scsi-cd,bus=scsi0.0,drive=cdrom%d", i)
		default:
			add("-drive", "file=%s,if=%s,index=%d,id=cdrom%d,media=cdrom", esc(cd), c.CDROMInterface, i, i)
		}
	}
}

// own are the arguments Ingot drives the machine with; they cannot be
// replaced.
func (c *Config) own(l launch) []arg {
	a := []arg{
		{key: "-chardev", val: fmt.Sprintf("socket,%s,path=%s,server=on,wait=off", mark(l.token), esc(l.qmp))},
		{key: "-mon", val: "chardev=" + l.token + ",mode=control"},
	}
	if !c.overrides("-serial", "-nographic") {
		a = append(
			a, arg{key: "-chardev", val: "file,id=ingot-console,path=" + esc(l.console)},
			arg{key: "-serial", val: "chardev:ingot-console"},
		)
	}
	for _, f := range l.firmware {
		a = append(a, arg{key: "-smbios", val: "type=11,path=" + esc(f)})
	}
	return a
}

// mark is what a QEMU of ours carries in its arguments and nothing else does.
func mark(token string) string { return "id=" + token }

func (c *Config) qmpSocket(l launch) string {
	if c.QMPSocketPath != "" {
		return c.QMPSocketPath
	}
	p := filepath.Join(l.work, c.VMName+".monitor")
	if len(p) > maxSocketPath {
		p = filepath.Join(filepath.Dir(l.qmp), "monitor.sock")
	}
	return p
}

// argData is what qemuargs can refer to.
type argData struct {
	HTTPIP      string
	HTTPPort    int
	HTTPDir     string
	HTTPContent map[string]string
	OutputDir   string
	Name        string
	SSHHostPort int
}

// userArgs renders qemuargs. A path in the output folder is one in the folder
// where the machine's files lie while it runs.
func (c *Config) userArgs(d argData) ([]arg, error) {
	var out []arg
	for i, list := range c.QemuArgs {
		var rendered []string
		for _, text := range list {
			t, err := parseTemplate(text)
			if err != nil {
				return nil, fmt.Errorf("qemuargs[%d]: %w", i, err)
			}
			var b strings.Builder
			if err := t.Execute(&b, d); err != nil {
				return nil, fmt.Errorf("qemuargs[%d]: %w", i, err)
			}
			rendered = append(rendered, b.String())
		}
		val := moved(strings.Join(rendered[1:], ""), c.OutputDir, d.OutputDir)
		out = append(out, arg{key: rendered[0], val: val, bare: val == ""})
	}
	return out, nil
}

// moved replaces paths in the folder from by ones in the folder to, where they
// begin an option's value.
func moved(val, from, to string) string {
	from = strings.TrimSuffix(from, "/") + "/"
	var b strings.Builder
	for {
		i := strings.Index(val, from)
		if i < 0 {
			b.WriteString(val)
			return b.String()
		}
		begins := i == 0 || strings.ContainsRune("=,:", rune(val[i-1])) || i >= 2 && val[i-2:i] == "./"
		b.WriteString(val[:i])
		if begins {
			b.WriteString(to + "/")
		} else {
			b.WriteString(from)
		}
		val = val[i+len(from):]
	}
}
