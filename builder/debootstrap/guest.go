package debootstrap

import (
	"archive/tar"
	"bytes"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// guestFiles is what Ingot adds to the packages: guest/root as it lies in the
// image, and guest/configure, which runs once while the image is made.
//
//go:embed guest
var guestFiles embed.FS

// scratch is the folder in the new system for what must not stay in it.
const scratch = ".ingot"

// guestLinks are symbolic links of the image: units switched on and off.
var guestLinks = map[string]string{
	"etc/systemd/system/ssh.service.requires/ingot-ssh-identity.service":                  "/etc/systemd/system/ingot-ssh-identity.service",
	"etc/systemd/system/multi-user.target.wants/ingot-cloud.service":                      "/etc/systemd/system/ingot-cloud.service",
	"etc/systemd/system/multi-user.target.wants/systemd-networkd.service":                 "/lib/systemd/system/systemd-networkd.service",
	"etc/systemd/system/sockets.target.wants/systemd-networkd.socket":                     "/lib/systemd/system/systemd-networkd.socket",
	"etc/systemd/system/network-online.target.wants/systemd-networkd-wait-online.service": "/lib/systemd/system/systemd-networkd-wait-online.service",
	// It would write the keys of one boot into root's home (systemd's
	// tmpfiles.d/provision.conf); ssh-identity keeps them in /run.
	"etc/tmpfiles.d/provision.conf": "/dev/null",
	// Only of use with LVM.
	"etc/systemd/system/e2scrub_reap.service": "/dev/null",
	"etc/systemd/system/e2scrub_all.timer":    "/dev/null",
}

// identity is what names this image's parts, decided by its inputs alone.
type identity struct {
	disk, bios, esp, root string // partition GUIDs
	fs, hash              string // of the root file system
	serial                string // of the EFI system partition, 8 hex digits
}

// kernelCmdline is the kernel's command line.
func (b *image) kernelCmdline(id identity) string {
	args := []string{
		"root=UUID=" + id.fs, "ro", "console=tty0", "console=" + b.arch.console, "consoleblank=0",
		// A busy host that emulates the processor cannot keep the timer
		// interrupt on time, and the kernel's test of it would panic.
		"no_timer_check", "quiet",
	}
	if b.cfg.KernelCmdline != "" {
		args = append(args, strings.Fields(b.cfg.KernelCmdline)...)
	}
	return strings.Join(args, " ")
}

// overlay returns a tar archive that is unpacked into the new system before
// its packages are installed.
func (b *image) overlay(id identity, epoch int64) ([]byte, error) {
	o := overlayWriter{when: time.Unix(epoch, 0), dirs: map[string]bool{}}
	o.w = tar.NewWriter(&o.buf)
	err := fs.WalkDir(guestFiles, "guest/root", func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := guestFiles.ReadFile(p)
		if err != nil {
			return err
		}
		name := strings.TrimPrefix(p, "guest/root/")
		mode := int64(0o644)
		if bytes.HasPrefix(data, []byte("#!")) {
			mode = 0o755
		}
		o.file(name, mode, string(data))
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(guestLinks) {
		o.link(name, guestLinks[name])
	}
	o.file("etc/fstab", 0o644, fmt.Sprintf("UUID=%s / ext4 errors=remount-ro,x-systemd.growfs 0 1\n", id.fs))

	configure, err := guestFiles.ReadFile("guest/configure")
	if err != nil {
		return nil, err
	}
	o.file(scratch+"/configure", 0o755, string(configure))
	o.file(scratch+"/settings", 0o644, b.settings())
	cmdline := b.kernelCmdline(id)
	o.file(scratch+"/grub-early.cfg", 0o644, fmt.Sprintf("search.fs_uuid %s root\nset prefix=($root)/boot/grub\n", id.fs))
	o.file(scratch+"/grub.cfg", 0o644, grubConfig(cmdline))
	o.file(scratch+"/grub-default.cfg", 0o644, grubDefaults(cmdline))
	if len(b.cfg.SetupCommands) > 0 {
		o.file(scratch+"/setup", 0o700, "set -e\n"+strings.Join(b.cfg.SetupCommands, "\n")+"\n")
	}
	if o.err == nil {
		o.err = o.w.Close()
	}
	return o.buf.Bytes(), o.err
}

// settings is the shell file that guest/configure reads. Every value was
// checked to hold no quote.
func (b *image) settings() string {
	bios, efi := "", ""
	if b.cfg.boots("bios") {
		bios = b.arch.grubBIOS
	}
	if b.cfg.boots("uefi") {
		efi = b.arch.grubEFI
	}
	return fmt.Sprintf("HOSTNAME='%s'\nLOCALE='%s'\nTIMEZONE='%s'\nGRUB_BIOS='%s'\nGRUB_EFI='%s'\n",
		b.cfg.Hostname, b.cfg.Locale, b.cfg.Timezone, bios, efi)
}

// grubConfig is the boot menu until something in the guest runs update-grub.
// It names the links the kernel packages keep, not a version.
func grubConfig(cmdline string) string {
	return fmt.Sprintf(`set default=0
set timeout=0
menuentry 'Debian GNU/Linux' {
	linux /vmlinuz %[1]s
	initrd /initrd.img
}
menuentry 'Debian GNU/Linux, the kernel before' {
	linux /vmlinuz.old %[1]s
	initrd /initrd.img.old
}
`, cmdline)
}

// grubDefaults makes update-grub write a menu that boots the same way.
func grubDefaults(cmdline string) string {
	var args []string
	for _, a := range strings.Fields(cmdline) {
		if !strings.HasPrefix(a, "root=") && a != "ro" { // update-grub adds them
			args = append(args, a)
		}
	}
	return fmt.Sprintf(`GRUB_TIMEOUT=0
GRUB_CMDLINE_LINUX="%s"
GRUB_CMDLINE_LINUX_DEFAULT=""
GRUB_TERMINAL=console
GRUB_DISABLE_OS_PROBER=true
`, strings.Join(args, " "))
}

// overlayWriter writes a tar archive, parents first.
type overlayWriter struct {
	buf  bytes.Buffer
	w    *tar.Writer
	when time.Time
	dirs map[string]bool
	err  error
}

func (o *overlayWriter) parents(name string) {
	dir := path.Dir(name)
	if dir == "." || o.dirs[dir] {
		return
	}
	o.parents(dir)
	o.dirs[dir] = true
	o.header(tar.Header{Typeflag: tar.TypeDir, Name: dir + "/", Mode: 0o755})
}

func (o *overlayWriter) header(h tar.Header) {
	if o.err == nil {
		h.ModTime, h.Format = o.when, tar.FormatUSTAR
		o.err = o.w.WriteHeader(&h)
	}
}

func (o *overlayWriter) file(name string, mode int64, data string) {
	o.parents(name)
	o.header(tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(data))})
	if o.err == nil {
		_, o.err = o.w.Write([]byte(data))
	}
}

func (o *overlayWriter) link(name, target string) {
	o.parents(name)
	o.header(tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777})
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
