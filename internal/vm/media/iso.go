package media

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/diskfs/go-diskfs/backend/file"
	"github.com/diskfs/go-diskfs/filesystem/iso9660"
)

// isoSector is the block size of a compact disc.
const isoSector = 2048

// ISO writes an ISO 9660 image with Rock Ridge and Joliet names to dst, which
// must not exist. It needs the room twice, in dst's folder, while it works.
func ISO(dst, label string, s Source) (err error) {
	entries, err := s.entries()
	if err != nil {
		return fmt.Errorf("cd: %w", err)
	}
	if err := exists(dst); err != nil {
		return fmt.Errorf("cd: %w", err)
	}
	work, err := os.MkdirTemp(filepath.Dir(dst), ".cd-")
	if err != nil {
		return fmt.Errorf("cd: %w", err)
	}
	defer os.RemoveAll(work)
	size := int64(1 << 20)
	files, dirs := names(entries)
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(work, filepath.FromSlash(d)), 0o755); err != nil {
			return fmt.Errorf("cd: %w", err)
		}
	}
	for _, n := range files {
		done, err := copyOut(filepath.Join(work, filepath.FromSlash(n)), entries[n])
		if err != nil {
			return fmt.Errorf("cd: %s: %w", n, err)
		}
		size += done + isoSector
	}
	b, err := file.CreateFromPath(dst, size)
	if err != nil {
		return fmt.Errorf("cd: %w", err)
	}
	defer func() {
		if cerr := b.Close(); err == nil && cerr != nil {
			err = fmt.Errorf("cd: %w", cerr)
		}
		if err != nil {
			_ = os.Remove(dst)
		}
	}()
	img, err := iso9660.Create(b, size, 0, isoSector, work)
	if err != nil {
		return fmt.Errorf("cd: %w", err)
	}
	err = img.Finalize(iso9660.FinalizeOptions{RockRidge: true, Joliet: true, DeepDirectories: true, VolumeIdentifier: label})
	if err != nil {
		return fmt.Errorf("cd: %w", err)
	}
	return nil
}

func copyOut(dst string, e entry) (int64, error) {
	src, err := e.open()
	if err != nil {
		return 0, err
	}
	defer src.Close()
	f, err := os.OpenFile(dst, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err != nil {
		return 0, err
	}
	n, err := io.Copy(f, src)
	return n, errors.Join(err, f.Close())
}
