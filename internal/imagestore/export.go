package imagestore

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-build/ingot/internal/atomicfile"
)

// Export writes the whole disk of a layer to path, replacing a file that is
// there, as one image that needs no other: "raw", with holes where the disk is
// zero, or "qcow2".
func (s *Store) Export(ctx context.Context, digest, path, format string) error {
	d, err := s.Read(digest)
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer d.Close()
	var fill func(context.Context, *os.File) error
	switch format {
	case "raw":
		fill = d.writeRaw
	case "qcow2":
		fill = d.writeQcow2
	default:
		return fmt.Errorf("export: format %q: it must be raw or qcow2", format)
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".tmp-*")
	if err != nil {
		return fmt.Errorf("export: %w", err)
	}
	defer f.Close()
	if err = fill(ctx, f); err == nil {
		err = f.Chmod(0o644)
	}
	if err == nil {
		err = f.Sync()
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return writeError("export "+path, err)
	}
	return atomicfile.SyncDir(filepath.Dir(path))
}

func (d *Disk) writeRaw(ctx context.Context, f *os.File) error {
	err := inOrder(ctx, newBuild(d.stack, nil, "", d.layer.Size).spans(), newScratch,
		func(sp span, w *scratch) error { return w.load(sp, d.stack, nil, d.layer.Size) },
		func(span, *scratch) error { return nil },
		func(sp span, w *scratch) error {
			for i := range sp.n {
				w.host[i] = sp.off() + i*clusterSize
			}
			return w.store(sp, f)
		})
	if err != nil {
		return err
	}
	return f.Truncate(d.layer.Size) // the last cluster may have been longer, or nothing written
}

func (d *Disk) writeQcow2(ctx context.Context, f *os.File) error {
	_, _, _, err := newBuild(d.stack, nil, "", d.layer.Size).write(ctx, f, "")
	return err
}
