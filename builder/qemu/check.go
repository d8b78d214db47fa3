package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/download"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/vm"
)

// leastRoom is what must be free for a build to begin.
const leastRoom = 64 << 20

// check finds what this computer lacks.
func (m *machine) check(ctx context.Context) error {
	c := &m.cfg
	var errs []error
	if out, err := exec.CommandContext(ctx, c.QemuBinary, "-version").CombinedOutput(); err != nil {
		errs = append(errs, diag.WithHint(fmt.Errorf("%s -version: %w%s", c.QemuBinary, err, after(out)),
			"install QEMU (Debian: qemu-system-x86 or the like) and have it in PATH, or name it with qemu_binary"))
	}
	program := func(name, hint string) {
		if _, err := exec.LookPath(name); err != nil {
			errs = append(errs, diag.WithHint(err, "%s", hint))
		}
	}
	program("qemu-img", "install QEMU's disk tool (Debian: qemu-utils) and have it in PATH")
	if c.VTPM {
		program("swtpm", "vtpm = true needs swtpm (Debian: swtpm) in PATH")
	}
	if c.EFIBoot {
		if _, _, err := c.findFirmware(); err != nil {
			errs = append(errs, err)
		}
	}
	if c.Firmware != "" {
		if _, err := os.Stat(c.Firmware); err != nil {
			errs = append(errs, fmt.Errorf("firmware: %w", err))
		}
	}
	errs = append(errs, m.checkOutput())
	return errors.Join(errs...)
}

func after(out []byte) string {
	if t := strings.TrimSpace(string(out)); t != "" {
		return ": " + t
	}
	return ""
}

func (m *machine) checkOutput() error {
	out := m.cfg.OutputDir
	if _, err := os.Lstat(out); err == nil && !m.info.Force {
		return diag.WithHint(fmt.Errorf("the output folder %s is there already", out),
			"remove it, name another with output_directory, or use -force to replace it once the new image is complete")
	}
	// The nearest folder that is there is the one everything is made in.
	dir := filepath.Dir(filepath.Clean(out))
	for {
		if _, err := os.Stat(dir); err == nil || dir == filepath.Dir(dir) {
			break
		}
		dir = filepath.Dir(dir)
	}
	return m.checkRoom(dir, leastRoom)
}

// checkRoom returns an error when less than need bytes are free at dir.
func (m *machine) checkRoom(dir string, need int64) error {
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		return fmt.Errorf("output folder: %s: %w", dir, err)
	}
	if free := int64(st.Bavail) * int64(st.Bsize); free < need {
		return diag.WithHint(fmt.Errorf("only %d MiB are free at %s, and %d MiB are needed at least", free>>20, dir, need>>20),
			"make room there, or put the image elsewhere with output_directory")
	}
	return nil
}

// resolve names the medium. What is on this computer already is verified; what
// is not is downloaded by the first step of the build, which can tell how far
// it is.
func (m *machine) resolve(ctx context.Context) (artifact.Base, error) {
	c := &m.cfg
	base := artifact.Base{
		Ref: artifact.Ref{Provider: "qemu", ID: c.ISOURLs[0]}, Name: path.Base(filepath.ToSlash(c.ISOURLs[0])),
		Arch: c.imageArch(), Virtualization: artifact.HVM, Boot: artifact.BIOS,
	}
	if c.EFIBoot {
		base.Boot = artifact.UEFI
	}
	if c.ISOSkipCache {
		return base, nil
	}
	req, err := m.request()
	if err != nil {
		return artifact.Base{}, err
	}
	if req.Checksum.Type == "sha256" {
		base.Digest = "sha256:" + req.Checksum.Hex
	}
	if _, err := os.Stat(req.CachePath(c.ISOURLs[0])); err != nil && strings.HasPrefix(strings.ToLower(c.ISOURLs[0]), "http") {
		return base, nil
	}
	if err := m.fetch(ctx, event.Discard); err != nil {
		return artifact.Base{}, err
	}
	base.Ref.ID, base.Digest = filepath.ToSlash(m.medium.Path), "sha256:"+m.medium.SHA256
	return base, nil
}

func (m *machine) request() (download.Request, error) {
	c := &m.cfg
	sum, err := download.ParseChecksum(c.ISOChecksum)
	return download.Request{
		URLs: c.ISOURLs, Checksum: sum, Cache: m.info.Cache, Target: c.ISOTargetPath, Extension: c.ISOTargetExtension,
	}, err
}

// fetch downloads and verifies the medium, once.
func (m *machine) fetch(ctx context.Context, out event.Sink) error {
	if m.medium.Path != "" || m.cfg.ISOSkipCache {
		return nil
	}
	req, err := m.request()
	if err != nil {
		return err
	}
	res, err := download.Fetch(ctx, req, out)
	if err != nil {
		return fmt.Errorf("get %s: %w", m.cfg.ISOURLs[0], err)
	}
	if m.cfg.DiskImage {
		if m.baseInfo, err = m.inspect(ctx, res); err != nil {
			return err
		}
	}
	m.medium = res
	return nil
}

// getMedium is the step that fetches the medium.
func (m *machine) getMedium(ctx context.Context, r *builder.Run, _ *state) error {
	if m.medium.Path == "" && !m.cfg.ISOSkipCache {
		r.Say("Getting %s", m.cfg.ISOURLs[0])
	}
	return m.fetch(ctx, r.Events)
}

// inspect makes sure that the disk image to start from is one.
func (m *machine) inspect(ctx context.Context, res download.Result) (vm.ImageInfo, error) {
	damaged := func(err error) error {
		return diag.WithHint(fmt.Errorf("disk image to start from: %w", err), "fetch %s again, or check that it is what iso_url should name", res.URL)
	}
	i, err := m.img.Info(ctx, res.Path)
	if err != nil {
		return i, damaged(err)
	}
	ext := strings.TrimPrefix(strings.ToLower(filepath.Ext(res.URL)), ".")
	if i.Format == "raw" && (ext == "qcow2" || ext == "vmdk" || ext == "vdi" || ext == "vhdx") {
		return i, damaged(&vm.DamageError{Path: res.Path, Detail: "it is called ." + ext + " and is none"})
	}
	if res.Size == 0 || i.VirtualSize == 0 {
		return i, damaged(&vm.DamageError{Path: res.Path, Detail: "it is empty"})
	}
	if err := m.img.Check(ctx, res.Path, i.Format); err != nil {
		return i, damaged(err)
	}
	if size, _ := parseSize(m.cfg.DiskSize); !m.cfg.SkipResizeDisk && size < i.VirtualSize {
		return i, diag.WithHint(fmt.Errorf("disk_size %s is smaller than the disk image, which has %d MiB", m.cfg.DiskSize, i.VirtualSize>>20),
			"give a disk_size of %dM at least, or set skip_resize_disk = true", (i.VirtualSize+1<<20-1)>>20)
	}
	return i, nil
}
