package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

// packages is what the image needs besides mmdebstrap's variant.
func (b *image) packages() []string {
	list := []string{
		b.cfg.KernelPackage, "initramfs-tools", "zstd", "kmod", "udev", "e2fsprogs",
		"systemd", "systemd-sysv", "systemd-resolved", "systemd-timesyncd", "dbus",
		"openssh-server", "ca-certificates", "iproute2", "netbase", "procps", "sudo", "less",
		"passwd", "mount", "hostname", "tzdata", "mawk", "grub2-common",
	}
	if b.cfg.Suite != "bookworm" { // split off from the package systemd after it
		list = append(list, "systemd-repart")
	}
	if b.cfg.boots("bios") {
		list = append(list, b.arch.packages[b.arch.grubBIOS])
	}
	if b.cfg.boots("uefi") {
		list = append(list, b.arch.packages[b.arch.grubEFI])
	}
	for _, p := range b.cfg.Packages {
		if !slices.Contains(list, p) {
			list = append(list, p)
		}
	}
	return list
}

// makeTree runs mmdebstrap and reads the root file system it makes.
func (b *image) makeTree(ctx context.Context, r *builder.Run, work string, id identity, epoch int64) (*tree, error) {
	overlay, err := b.overlay(id, epoch)
	if err != nil {
		return nil, fmt.Errorf("files of the guest: %w", err)
	}
	overlayPath := filepath.Join(work, "overlay.tar")
	if err := os.WriteFile(overlayPath, overlay, 0o600); err != nil {
		return nil, err
	}
	args := b.mmdebstrapArgs(overlayPath)
	cmd := exec.CommandContext(ctx, "mmdebstrap", args...)
	cmd.Env = append(os.Environ(), fmt.Sprintf("SOURCE_DATE_EPOCH=%d", epoch), "LC_ALL=C.UTF-8", aptVariable+"="+hostAptOptions(ctx))
	if os.Geteuid() == 0 {
		cmd.Env = append(cmd.Env, "TMPDIR="+work) // else it must be where other users of the name space may go
	}
	// It removes what it made on a signal, provided that the programs it waits
	// for get the signal too: one group, of which a terminal knows nothing.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = time.Minute
	log := &tail{w: event.Lines(r.Events, true)}
	defer log.Close()
	cmd.Stderr = log
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	r.Events.Emit(event.Detail{Text: "mmdebstrap " + strings.Join(args, " ")})
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start mmdebstrap: %w", err)
	}
	t, rerr := readTree(out, filepath.Join(work, "files"), epoch, b.size)
	if rerr != nil {
		_ = cmd.Cancel()
		_, _ = io.Copy(io.Discard, out)
	}
	err = cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // whatever of the group is left
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if rerr == nil || errors.Is(rerr, io.ErrUnexpectedEOF) || errors.Is(rerr, errNoSystem) {
			return nil, diag.WithHint(fmt.Errorf("mmdebstrap: %w: %s", err, log.last()), "%s", mmdebstrapHint(log.last()))
		}
	}
	return t, rerr
}

// The host's apt settings may name a proxy with a password: they are not on
// the command line but in an environment variable, from which a hook, which
// may have no access to this user's files, writes a file while the image is
// made.
const (
	aptVariable = "INGOT_APT_CONF"
	aptFile     = "etc/apt/apt.conf.d/00ingot-host"
)

// hostAptOptions returns the host's settings; none where the host has no apt
// configuration.
func hostAptOptions(ctx context.Context) string {
	dump, err := exec.CommandContext(ctx, "apt-config", "dump").Output()
	if err != nil {
		return ""
	}
	return aptOptions(string(dump))
}

// mmdebstrapArgs is the command line.
func (b *image) mmdebstrapArgs(overlay string) []string {
	args := []string{
		"--format=tar", "--mode=" + b.cfg.Mode, "--variant=" + b.cfg.Variant,
		"--architectures=" + b.cfg.Architecture,
		"--components=" + strings.Join(b.cfg.Components, ","),
		"--include=" + strings.Join(b.packages(), ","),
		"--skip=output/dev",
		`--setup-hook=printf '%s' "$` + aptVariable + `" >"$1/` + aptFile + `"`,
		"--essential-hook=tar-in " + overlay + " /",
	}
	if b.cfg.Keyring != "" {
		args = append(args, "--keyring="+b.cfg.Keyring)
	}
	if len(b.cfg.SetupCommands) > 0 {
		// The image's resolv.conf points to a service that does not run now.
		args = append(args,
			`--customize-hook=mkdir -p "$1/run/systemd/resolve" && cat /etc/resolv.conf >"$1/run/systemd/resolve/stub-resolv.conf"`,
			`--customize-hook=chroot "$1" /bin/sh /`+scratch+`/setup`)
	}
	args = append(args, `--customize-hook=chroot "$1" /bin/sh /`+scratch+`/configure`, b.cfg.Suite, "-")
	return append(args, b.cfg.sourceLines("/etc/apt")...)
}

// mmdebstrapHint says what to do about the commonest failures.
func mmdebstrapHint(log string) string {
	switch {
	case strings.Contains(log, "newuidmap") || strings.Contains(log, "subuid") || strings.Contains(log, "unprivileged_userns_clone"):
		return "without root, mmdebstrap needs user name spaces: apt-get install uidmap, and a range for this user in /etc/subuid and /etc/subgid"
	case strings.Contains(log, "NO_PUBKEY") || strings.Contains(log, "not signed") || strings.Contains(log, "signatures couldn't be verified"):
		return "this host has no key of the archive: apt-get install debian-archive-keyring, or set keyring"
	case strings.Contains(log, "Unable to locate package"):
		return "check packages and kernel_package against the suite and its components"
	case strings.Contains(log, "Temporary failure resolving") || strings.Contains(log, "Could not connect") || strings.Contains(log, "Failed to fetch"):
		return "the archive could not be reached: check mirrors, and the proxy in http_proxy or in apt's configuration"
	case strings.Contains(log, "binfmt") || strings.Contains(log, "arch-test"):
		return "for another architecture than the host's: apt-get install qemu-user-static binfmt-support arch-test"
	}
	return "the lines above say what mmdebstrap did last"
}

// tail passes on what is written and keeps the end of it.
type tail struct {
	w   io.WriteCloser
	buf []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.buf = append(t.buf, p...)
	if n := len(t.buf) - 16<<10; n > 0 {
		t.buf = slices.Delete(t.buf, 0, n)
	}
	return t.w.Write(p)
}

func (t *tail) Close() error { return t.w.Close() }

// last returns the lines that tell of errors, or the last line.
func (t *tail) last() string {
	var errs []string
	lines := strings.Split(strings.TrimSpace(string(t.buf)), "\n")
	for _, l := range lines {
		if strings.HasPrefix(l, "E:") || strings.HasPrefix(l, "Err:") {
			errs = append(errs, strings.TrimSpace(l))
		}
	}
	if len(errs) == 0 {
		return lines[len(lines)-1]
	}
	return strings.Join(errs[max(0, len(errs)-5):], "; ")
}
