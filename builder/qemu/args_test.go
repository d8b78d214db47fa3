package qemu

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
)

// minimal are the options a build cannot do without.
func minimal() Config {
	c := Config{ISOURL: "http://example.invalid/a.iso", ISOChecksum: strings.Repeat("a", 64)}
	c.Communicator = "none"
	return c
}

// ready is a prepared configuration.
func ready(t *testing.T, change func(*Config)) Config {
	t.Helper()
	c := minimal()
	if change != nil {
		change(&c)
	}
	if err := c.prepare("x"); err != nil {
		t.Fatal(err)
	}
	return c
}

func somewhere() launch {
	return launch{
		accel: "kvm", work: "work", disks: []string{"packer-x"}, formats: []string{"qcow2"}, iso: "a.iso",
		vncPort: 5914, token: "ingot-token", qmp: "run/qmp.sock", console: "run/console.log",
	}
}

const own = " -chardev socket,id=ingot-token,path=run/qmp.sock,server=on,wait=off -mon chardev=ingot-token,mode=control" +
	" -chardev file,id=ingot-console,path=run/console.log -serial chardev:ingot-console"

func TestArgs(t *testing.T) {
	const head = "-name packer-x -machine type=pc,accel=kvm -smp 1 -m 512M "
	const disk = "-drive file=work/packer-x,if=virtio,cache=writeback,discard=ignore,format=qcow2"
	const vnc = "-vnc 127.0.0.1:14 "
	const nat = "-netdev user,id=user.0 -device virtio-net,netdev=user.0 "
	for name, tc := range map[string]struct {
		change func(*Config)
		launch func(*launch)
		data   argData
		want   string
	}{
		"defaults": {want: head + "-boot once=d " + vnc + nat + disk + " -drive file=a.iso,media=cdrom" + own},
		"ssh": {
			change: func(c *Config) { c.Communicator, c.SSHUsername = "ssh", "root" },
			launch: func(l *launch) { l.hostPort = 2222 },
			want: head + "-boot once=d " + vnc + "-netdev user,id=user.0,hostfwd=tcp::2222-:22 -device virtio-net,netdev=user.0 " + disk +
				" -drive file=a.iso,media=cdrom" + own,
		},
		"bridge": {
			change: func(c *Config) { c.NetBridge = "br0" },
			launch: func(l *launch) { l.mac = "52:54:00:01:02:03" },
			want: head + "-boot once=d " + vnc + "-netdev bridge,id=user.0,br=br0 " +
				"-device virtio-net,netdev=user.0,mac=52:54:00:01:02:03 " + disk + " -drive file=a.iso,media=cdrom" + own,
		},
		"display": {
			launch: func(l *launch) { l.display = "gtk" },
			want:   head + "-boot once=d -display gtk " + vnc + nat + disk + " -drive file=a.iso,media=cdrom" + own,
		},
		"disk image": {
			change: func(c *Config) { c.DiskImage = true },
			launch: func(l *launch) { l.iso = "" },
			want:   head + "-boot c " + vnc + nat + disk + own,
		},
		"efi": {
			change: func(c *Config) { c.EFIBoot = true },
			launch: func(l *launch) { l.efiCode = "CODE.fd" },
			want: head + vnc + nat + "-drive file=CODE.fd,if=pflash,unit=0,format=raw,readonly=on " +
				"-drive file=work/efivars.fd,if=pflash,unit=1,format=raw " + disk + " -drive file=a.iso,media=cdrom" + own,
		},
		"virtio-scsi": {
			change: func(c *Config) {
				c.DiskInterface, c.DetectZeroes, c.CDROMInterface = "virtio-scsi", "unmap", "virtio-scsi"
			},
			launch: func(l *launch) { l.disks, l.formats = []string{"a", "b"}, []string{"qcow2", "raw"} },
			want: head + "-boot once=d " + vnc + nat + "-device virtio-scsi-pci,id=scsi0 " +
				"-drive if=none,file=work/a,id=drive0,cache=writeback,discard=ignore,format=qcow2,detect-zeroes=unmap -device scsi-hd,bus=scsi0.0,drive=drive0 " +
				"-drive if=none,file=work/b,id=drive1,cache=writeback,discard=ignore,format=raw,detect-zeroes=unmap -device scsi-hd,bus=scsi0.0,drive=drive1 " +
				"-drive file=a.iso,if=none,index=0,id=cdrom0,media=cdrom -device scsi-cd,bus=scsi0.0,drive=cdrom0" + own,
		},
		"cdrom interface": {
			change: func(c *Config) { c.CDROMInterface = "ide" },
			launch: func(l *launch) { l.cd = "b,c.iso" },
			want: head + "-boot once=d " + vnc + nat + disk + " -drive file=a.iso,if=ide,index=0,id=cdrom0,media=cdrom" +
				" -drive file=b,,c.iso,if=ide,index=1,id=cdrom1,media=cdrom" + own,
		},
		"cpu, floppy, tpm, vga, firmware, credentials": {
			change: func(c *Config) {
				c.CPUs, c.Cores, c.Threads, c.VGA, c.Firmware, c.VTPM, c.VNCUsePassword, c.QMPEnable = 4, 2, 2, "std", "b.bin", true, true, true
			},
			launch: func(l *launch) {
				l.cpuModel, l.floppy, l.tpmSocket, l.firmware = "max", "f.img", "tpm.sock", []string{"run/cred"}
			},
			want: "-name packer-x -machine type=pc,accel=kvm -smp 4,cores=2,threads=2 -m 512M -cpu max -bios b.bin -boot once=d -vga std " +
				"-vnc 127.0.0.1:14,password=on -qmp unix:work/packer-x.monitor,server,nowait " + nat + disk +
				" -drive file=a.iso,media=cdrom -fda f.img -chardev socket,id=vtpm,path=tpm.sock -tpmdev emulator,id=tpm0,chardev=vtpm -device tpm-tis,tpmdev=tpm0" +
				own + " -smbios type=11,path=run/cred",
		},
		"pflash firmware, tcg": {
			change: func(c *Config) { c.Firmware, c.PFlash = "b.bin", true },
			launch: func(l *launch) { l.accel = "" },
			want: "-name packer-x -machine type=pc -smp 1 -m 512M -boot once=d " + vnc + nat +
				"-drive file=b.bin,if=pflash,format=raw,readonly=on " + disk + " -drive file=a.iso,media=cdrom" + own,
		},
		"qemuargs replace a switch, may repeat it, keep the network device": {
			change: func(c *Config) {
				c.QemuArgs = [][]string{
					{"-m", "1024M"},
					{"-device", "virtio-rng-pci"},
					{"-drive", "file={{ .OutputDir }}/{{ .Name }},if=ide"},
					{"-drive", "file=output-x/packer-x-1,if=ide"},
					{"-no-reboot", ""},
					{"-fw_cfg", "name=opt/x,string=http://{{ .HTTPIP }}:{{ .HTTPPort }}/"},
					{"-serial", "none"},
				}
			},
			data: argData{HTTPIP: "10.0.2.2", HTTPPort: 8001, OutputDir: "work", Name: "packer-x"},
			want: "-name packer-x -machine type=pc,accel=kvm -smp 1 -m 1024M -boot once=d " + vnc + "-netdev user,id=user.0 -device virtio-rng-pci " +
				"-drive file=work/packer-x,if=ide -drive file=work/packer-x-1,if=ide -no-reboot -fw_cfg name=opt/x,string=http://10.0.2.2:8001/ -serial none " +
				"-device virtio-net,netdev=user.0" +
				" -chardev socket,id=ingot-token,path=run/qmp.sock,server=on,wait=off -mon chardev=ingot-token,mode=control",
		},
		"qemuargs with a network device of their own": {
			change: func(c *Config) {
				c.QemuArgs = [][]string{{"-device", "virtio-net,netdev=n0"}, {"-netdev", "user,id=n0"}}
			},
			want: head + "-boot once=d " + vnc + "-netdev user,id=n0 -device virtio-net,netdev=n0 " + disk +
				" -drive file=a.iso,media=cdrom" + own,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := ready(t, tc.change)
			l := somewhere()
			if tc.launch != nil {
				tc.launch(&l)
			}
			user, err := c.userArgs(tc.data)
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(c.args(l, user), " "); got != tc.want {
				t.Errorf("got\n%s\nwant\n%s", got, tc.want)
			}
		})
	}
}

func TestMovedPaths(t *testing.T) {
	for in, want := range map[string]string{
		"file=out/disk,if=virtio": "file=work/disk,if=virtio",
		"out/disk":                "work/disk",
		"file=./out/disk":         "file=./work/disk",
		"file=about/disk":         "file=about/disk",
		"a=out/1,b=out/2":         "a=work/1,b=work/2",
		"file=/x/out/disk":        "file=/x/out/disk",
		"":                        "",
	} {
		if got := moved(in, "out", "work"); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}

func TestDefaults(t *testing.T) {
	c := ready(t, func(c *Config) { c.MemorySize = 9; c.Sockets, c.Cores, c.CPUs = 2, 2, 9 })
	if c.MemorySize != 512 || c.CPUs != 4 || c.VMName != "packer-x" || c.OutputDir != "output-x" || c.DiskSize != "40960M" ||
		c.MachineType != "pc" || c.Format != "qcow2" || c.CDLabel != "packer" || c.BootWait.String() != "10s" || c.ShutdownTimeout.String() != "5m0s" {
		t.Errorf("%+v", c)
	}
	c = ready(t, func(c *Config) { c.QemuBinary, c.BootWait = "/usr/bin/qemu-system-aarch64", -1 })
	if c.MachineType != "virt" || c.imageArch() != artifact.ARM64 || c.BootWait != 0 {
		t.Errorf("%q %q %v", c.MachineType, c.imageArch(), c.BootWait)
	}
	t.Setenv("PACKER_KEY_INTERVAL", "5ms")
	if c = ready(t, nil); c.BootKeyInterval.String() != "5ms" {
		t.Error(c.BootKeyInterval)
	}
}

func TestFaultsAreAllReportedAtOnce(t *testing.T) {
	c := Config{
		DiskSize: "12x", AdditionalDiskSize: []string{"1G", "-1"}, Format: "vdi", DiskInterface: "tape", DiskCache: "x", DiskDiscard: "x",
		DetectZeroes: "x", UseBackingFile: true, SkipResizeDisk: true, Accelerator: "magic", CPUs: -1, EFIFirmwareCode: "a",
		QemuArgs: [][]string{{""}, {"-m", "{{"}}, HostPortMin: 5, HostPortMax: 4, VNCPortMin: 80, VNCPassword: "123456789",
		HTTPDir: "/no/such/folder", HTTPContent: map[string]string{"a": ""}, HTTPNetworkProtocol: "udp",
		BootCommand: []string{"<wait-5s>"}, DisableVNC: true, CDFiles: []string{"/no/such/file"}, FloppyFiles: []string{"/no/such/file"},
		VMName: "a/b", OutputDir: ".", CDLabel: strings.Repeat("l", 33), ISOChecksum: "sha1:xx",
	}
	err := c.prepare("x")
	var got []string
	for _, e := range diag.Flatten(err) {
		var f *diag.FieldError
		if !errors.As(e, &f) {
			t.Errorf("%v is not about an option", e)
			continue
		}
		got = append(got, f.Paths[0])
	}
	for _, want := range []string{
		"ssh_username", "vm_name", "output_directory", "iso_url", "iso_checksum", "disk_size", "disk_additional_size[1]", "format", "disk_interface",
		"disk_cache", "disk_discard", "disk_detect_zeroes", "use_backing_file", "skip_resize_disk", "accelerator", "cpus", "efi_firmware_code",
		"qemuargs[0]", "qemuargs[1]", "host_port_min", "vnc_port_min", "vnc_password", "http_directory", "http_network_protocol",
		"disable_vnc", "boot_command", "floppy_files", "cd_files", "cd_label",
	} {
		if !slices.Contains(got, want) {
			t.Errorf("nothing was said of %s", want)
		}
	}
}

func TestParseSize(t *testing.T) {
	for in, want := range map[string]int64{"40960M": 40960 << 20, "40960": 40960 << 20, "1g": 1 << 30, "512b": 512, "3K": 3072, "2T": 2 << 40} {
		if got, err := parseSize(in); err != nil || got != want {
			t.Errorf("%q: %d %v", in, got, err)
		}
	}
	for _, in := range []string{"", "M", "-1", "1.5G", "9999999999999T", "10 M", "1MB"} {
		if got, err := parseSize(in); err == nil {
			t.Errorf("%q: %d, want an error", in, got)
		}
	}
}

func TestNeighbours(t *testing.T) {
	const table = `IP address       HW type     Flags       HW address            Mask     Device
192.168.1.7      0x1         0x0         52:54:00:aa:bb:cc     *        br0
192.168.1.9      0x1         0x2         52:54:00:AA:BB:CC     *        br0
`
	mac := findMAC("hub 0\n \\ user.0: index=0,type=bridge\nvirtio-net-pci.0: index=0,type=nic,model=virtio-net-pci,macaddr=52:54:00:AA:bb:cc\n")
	if got := findNeighbour(table, mac); got != "192.168.1.9" {
		t.Errorf("%q for %q", got, mac)
	}
	if findMAC("no network") != "" || findNeighbour(table, "52:54:00:00:00:00") != "" {
		t.Error("found what is not there")
	}
}
