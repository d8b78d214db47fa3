package qemu

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/download"
	"github.com/ingot-build/ingot/internal/vm"
)

// makeDisks makes the machine's disks and firmware variables in the work
// folder, replacing what is there.
func (m *machine) makeDisks(ctx context.Context, _ *builder.Run, s *state) error {
	c := &m.cfg
	dir := m.workDir(s)
	s.Disks, s.Compacted = nil, false
	system, err := m.makeSystemDisk(ctx, filepath.Join(dir, c.VMName))
	if err != nil {
		return err
	}
	s.Disks = append(s.Disks, system)
	for i, text := range c.AdditionalDiskSize {
		size, err := parseSize(text)
		if err != nil {
			return err
		}
		d := diskState{Name: fmt.Sprintf("%s-%d", c.VMName, i+1), Format: c.Format, Size: size}
		err = m.img.Create(ctx, vm.NewImage{Path: filepath.Join(dir, d.Name), Format: d.Format, Size: size, Extra: c.QemuImgArgs.Create})
		if err != nil {
			return err
		}
		s.Disks = append(s.Disks, d)
	}
	return m.copyFirmwareVars(dir)
}

// makeSystemDisk makes the disk the machine boots from, or installs to.
func (m *machine) makeSystemDisk(ctx context.Context, path string) (diskState, error) {
	c := &m.cfg
	size, err := parseSize(c.DiskSize)
	if err != nil {
		return diskState{}, err
	}
	d := diskState{Name: c.VMName, Format: c.Format, Size: size}
	if !c.DiskImage {
		return d, m.img.Create(ctx, vm.NewImage{Path: path, Format: c.Format, Size: size, Extra: c.QemuImgArgs.Create})
	}
	base, err := filepath.Abs(m.medium.Path)
	if err != nil {
		return diskState{}, err
	}
	if c.SkipResizeDisk {
		d.Size = m.baseInfo.VirtualSize
	}
	if m.copied() {
		if err := m.img.Convert(ctx, base, path, vm.Conversion{From: m.baseInfo.Format, Format: c.Format, Extra: c.QemuImgArgs.Convert}); err != nil {
			return diskState{}, err
		}
	} else {
		n := vm.NewImage{Path: path, Format: "qcow2", Backing: base, BackingFormat: m.baseInfo.Format}
		if c.UseBackingFile {
			n.Extra = c.QemuImgArgs.Create
		}
		d.Format = "qcow2"
		if err := m.img.Create(ctx, n); err != nil {
			return diskState{}, err
		}
	}
	if !c.SkipResizeDisk && d.Size != m.baseInfo.VirtualSize {
		return d, m.img.Resize(ctx, path, d.Format, d.Size, c.QemuImgArgs.Resize)
	}
	return d, nil
}

// copied reports whether the machine runs on a full copy of the disk image. An
// overlay is at hand at once, but it is qcow2: qemuargs that bring their own
// drives say that the disk has the format that was asked for.
func (m *machine) copied() bool {
	return m.cfg.Format != "qcow2" && m.cfg.overrides("-drive", "-blockdev", "-hda")
}

// compact makes the disks final: standing alone (but for use_backing_file),
// without what is zero, checked, on the disk, and with their digests.
func (m *machine) compact(ctx context.Context, r *builder.Run, s *state) error {
	dir := m.workDir(s)
	// A socket of the user's that QEMU may have left is no part of an image.
	if err := os.Remove(filepath.Join(dir, m.cfg.VMName+".monitor")); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	for i := range s.Disks {
		if err := m.finish(ctx, r, dir, &s.Disks[i], i == 0); err != nil {
			return err
		}
	}
	s.Compacted = true
	return nil
}

func (m *machine) finish(ctx context.Context, r *builder.Run, dir string, d *diskState, system bool) error {
	c := &m.cfg
	path := filepath.Join(dir, d.Name)
	info, err := m.img.Info(ctx, path)
	if err != nil {
		return err
	}
	overlay := info.Backing != "" && !c.UseBackingFile
	if overlay || !c.SkipCompaction && !(system && c.UseBackingFile) {
		r.Say("Writing the disk %s", d.Name)
		if err := m.rewrite(ctx, path, info.Format, c.Format); err != nil {
			return err
		}
		if info, err = m.img.Info(ctx, path); err != nil {
			return err
		}
	}
	d.Format, d.Size = info.Format, info.VirtualSize
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		err := m.img.Check(gctx, path, d.Format)
		return diag.WithHint(err, "the disk under it may be faulty or full: nothing of this build is kept")
	})
	g.Go(func() error { return syncFile(path) })
	g.Go(func() error {
		sum, err := download.Digest(gctx, path, "")
		d.Digest = "sha256:" + sum
		return err
	})
	return g.Wait()
}

// rewrite replaces the image at path by a copy that stands alone.
func (m *machine) rewrite(ctx context.Context, path, from, to string) error {
	tmp := path + ".convert"
	err := m.img.Convert(ctx, path, tmp, vm.Conversion{
		From: from, Format: to, Compress: m.cfg.DiskCompression && to == "qcow2", Extra: m.cfg.QemuImgArgs.Convert,
	})
	if err == nil {
		err = os.Rename(tmp, path)
	}
	if err != nil {
		_ = os.Remove(tmp)
	}
	return err
}

func syncFile(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
