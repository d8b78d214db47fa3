package media

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/fat12"

	"github.com/ingot-build/ingot/internal/diag"
)

// floppySize is that of a 3.5" high-density disk.
const floppySize = 1440 << 10

// Floppy writes a 1.44 MB disk image with a FAT12 file system to dst, which
// must not exist.
func Floppy(dst, label string, s Source) (err error) {
	entries, err := s.entries()
	if err != nil {
		return fmt.Errorf("floppy: %w", err)
	}
	if err := exists(dst); err != nil {
		return fmt.Errorf("floppy: %w", err)
	}
	b, err := file.CreateFromPath(dst, floppySize)
	if err != nil {
		return fmt.Errorf("floppy: %w", err)
	}
	defer func() {
		if cerr := b.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("floppy: %w", cerr)
		}
		if err != nil {
			_ = os.Remove(dst)
		}
	}()
	if len(label) > 11 {
		label = label[:11]
	}
	img, err := fat12.Create(b, floppySize, 0, 512, strings.ToUpper(label), false)
	if err != nil {
		return fmt.Errorf("floppy: %w", err)
	}
	files, dirs := names(entries)
	for _, d := range dirs {
		if err := img.Mkdir("/" + d); err != nil {
			return fmt.Errorf("floppy: folder %s: %w", d, err)
		}
	}
	for _, n := range files {
		if err := copyTo(img, n, entries[n]); err != nil {
			return diag.WithHint(fmt.Errorf("floppy: %s: %w", n, err), "a floppy disk holds 1.4 MB; put larger files on a CD with cd_files")
		}
	}
	return nil
}

func copyTo(img *fat12.FileSystem, name string, e entry) error {
	src, err := e.open()
	if err != nil {
		return err
	}
	defer src.Close()
	f, err := img.OpenFile("/"+name, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, src)
	return errors.Join(err, f.Close())
}
