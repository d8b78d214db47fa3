package debootstrap

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/partition/gpt"
)

const (
	sector  = 512
	mib     = int64(1) << 20
	biosLen = 1 * mib
	espLen  = 64 * mib // the least in which FAT32 is well formed, and room for a second loader
	// the end of the disk, kept for the backup partition table: 32 sectors of
	// entries and the header
	gptTail = 33 * sector
)

// layout is where the partitions lie, in bytes; a length of 0 means none. The
// numbers are those of Debian's cloud images: the root file system is 1, so
// that it may be last on the disk and grow.
type layout struct {
	size                        int64
	biosStart, espStart         int64
	biosLen, espLen             int64
	rootStart, rootLen          int64
	rootNum, biosNum, espNumber int
}

func (b *image) layout() layout {
	l := layout{size: b.size, rootNum: 1, biosNum: 14, espNumber: 15}
	next := mib
	if b.cfg.boots("bios") {
		l.biosStart, l.biosLen = next, biosLen
		next += biosLen
	}
	if b.cfg.boots("uefi") {
		l.espStart, l.espLen = next, espLen
		next += espLen
	}
	// To the last whole block, so that the first boot finds nothing to grow.
	l.rootStart, l.rootLen = next, (b.size-next-gptTail)/4096*4096
	return l
}

// partition makes an empty disk file with a partition table.
func (b *image) partition(path string, l layout, id identity) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	defer f.Close()
	if err := f.Truncate(l.size); err != nil {
		return err
	}
	part := func(num int, start, length int64, kind gpt.Type, name, guid string) *gpt.Partition {
		return &gpt.Partition{
			Index: num, Start: uint64(start / sector), End: uint64((start+length)/sector - 1),
			Size: uint64(length), Type: kind, Name: name, GUID: guid,
		}
	}
	table := &gpt.Table{
		LogicalSectorSize: sector, PhysicalSectorSize: sector, ProtectiveMBR: true, GUID: id.disk,
		Partitions: []*gpt.Partition{part(l.rootNum, l.rootStart, l.rootLen, b.arch.root, "root", id.root)},
	}
	if l.biosLen > 0 {
		table.Partitions = append(table.Partitions, part(l.biosNum, l.biosStart, l.biosLen, gpt.BIOSBoot, "bios", id.bios))
	}
	if l.espLen > 0 {
		table.Partitions = append(table.Partitions, part(l.espNumber, l.espStart, l.espLen, gpt.EFISystemPartition, "esp", id.esp))
	}
	w, err := file.New(f, false).Writable()
	if err != nil {
		return err
	}
	if err := table.Write(w, l.size); err != nil {
		return fmt.Errorf("write partition table: %w", err)
	}
	return f.Close()
}

// GRUB's own numbers, from grub-core/boot/i386/pc/{boot,diskboot}.S and
// include/grub/{,offsets.h,i386/pc/boot.h} of GRUB 2.06.
const (
	grubBootCode     = 440  // of boot.img; the disk signature and the partitions follow
	grubKernelSector = 0x5c // in boot.img: first sector of core.img, 64 bits
	grubDriveCheck   = 0x66 // in boot.img: a jump, replaced by two NOPs for hard disks
	grubBlockList    = sector - 12
)

// embedBIOS writes GRUB for BIOS machines: the first stage into the boot
// sector, the rest into the BIOS boot partition.
func embedBIOS(path string, l layout, boot, core []byte) error {
	if len(boot) != sector || boot[510] != 0x55 || boot[511] != 0xaa {
		return errors.New("GRUB's boot.img is not a boot sector")
	}
	if len(core) <= sector || int64(len(core)) > l.biosLen {
		return fmt.Errorf("GRUB's core image has %d bytes; the BIOS boot partition holds %d", len(core), l.biosLen)
	}
	first := uint64(l.biosStart / sector)
	boot, core = bytes.Clone(boot), bytes.Clone(core)
	binary.LittleEndian.PutUint64(boot[grubKernelSector:], first)
	boot[grubDriveCheck], boot[grubDriveCheck+1] = 0x90, 0x90
	binary.LittleEndian.PutUint64(core[grubBlockList:], first+1)

	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err1 := f.WriteAt(boot[:grubBootCode], 0)
	_, err2 := f.WriteAt(core, l.biosStart)
	return errors.Join(err1, err2, f.Close())
}

// embedESP writes an EFI system partition with GRUB under the name firmware
// looks for. mtools takes the time of the files from SOURCE_DATE_EPOCH.
func (b *image) embedESP(ctx context.Context, work, disk string, l layout, id identity, loader []byte, env []string) error {
	esp := filepath.Join(work, "esp.img")
	efi := filepath.Join(work, b.arch.efiFile)
	if err := os.WriteFile(efi, loader, 0o644); err != nil {
		return err
	}
	for _, args := range [][]string{
		{"mformat", "-i", esp, "-C", "-F", "-v", "EFI", "-N", id.serial, "-T", fmt.Sprint(l.espLen / sector), "-h", "64", "-s", "32", "::"},
		{"mmd", "-i", esp, "::/EFI", "::/EFI/BOOT"},
		{"mcopy", "-i", esp, efi, "::/EFI/BOOT/" + b.arch.efiFile},
	} {
		cmd := exec.CommandContext(ctx, args[0], args[1:]...)
		cmd.Env = env
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%s: %w: %s", args[0], err, bytes.TrimSpace(out))
		}
	}
	return copyInto(disk, l.espStart, l.espLen, esp)
}

// copyInto writes the file src into dst at an offset. Runs of zeros stay holes.
func copyInto(dst string, offset, length int64, src string) error {
	in, err := os.Open(src)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(dst, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	buf, zero := make([]byte, mib), make([]byte, mib)
	var at int64
	for {
		n, rerr := io.ReadFull(in, buf)
		if at+int64(n) > length {
			return errors.Join(fmt.Errorf("%s does not fit into %d bytes", src, length), out.Close())
		}
		if !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := out.WriteAt(buf[:n], offset+at); err != nil {
				return errors.Join(err, out.Close())
			}
		}
		at += int64(n)
		if errors.Is(rerr, io.EOF) || errors.Is(rerr, io.ErrUnexpectedEOF) {
			return out.Close()
		}
		if rerr != nil {
			return errors.Join(rerr, out.Close())
		}
	}
}
