package localcloud

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/internal/imagestore"
)

// An importedDisk is a disk with the layer it became.
type importedDisk struct {
	ImportDisk
	layer imagestore.Layer
}

// A badDiskError says that an object is not what it was said to be.
type badDiskError struct{ reason string }

func (e *badDiskError) Error() string { return "ClientError: " + e.reason }

// importDisks does an import.
func (c *Cloud) importDisks(ctx context.Context, j Job) error {
	var task ImportTask
	var ok bool
	err := c.View(ctx, j.Region, func(t *Tx) (err error) {
		task, ok, err = Get[ImportTask](t, j.Target)
		return err
	})
	if err != nil || !ok || task.Status != "active" {
		return err
	}
	release, err := c.images.Hold(ctx)
	if err != nil {
		return fmt.Errorf("import %s: %w", task.ID, err)
	}
	defer release()
	var disks []importedDisk
	for n, d := range task.Disks {
		more, ierr := c.importDisk(ctx, task.ID, n, d)
		if err = ierr; err != nil {
			break
		}
		disks = append(disks, more...)
	}
	var bad *badDiskError
	switch {
	case errors.As(err, &bad), hopeless(err):
		return c.Update(ctx, j.Region, func(t *Tx) error {
			task, ok, gerr := Get[ImportTask](t, j.Target)
			if gerr == nil && ok && task.Status == "active" {
				task.Status, task.Message = "deleted", err.Error()
				gerr = Put(t, task)
			}
			return errors.Join(gerr, t.Done(j))
		})
	case err != nil:
		return err
	}
	return c.Update(ctx, j.Region, func(t *Tx) error { return errors.Join(t.imported(j.Target, disks), t.Done(j)) })
}

// importDisk makes layers of one disk; of all of them when it is an appliance.
func (c *Cloud) importDisk(ctx context.Context, task string, n int, d ImportDisk) ([]importedDisk, error) {
	if d.SnapshotID != "" {
		return []importedDisk{{ImportDisk: d}}, nil
	}
	o, err := c.FindObject(ctx, d.Bucket, d.Key)
	if CodeOf(err) != "" {
		return nil, &badDiskError{fmt.Sprintf("the object s3://%s/%s is gone", d.Bucket, d.Key)}
	}
	if err != nil {
		return nil, err
	}
	work := filepath.Join(c.dir, "captures", fmt.Sprintf("%s-%d.work", task, n))
	if err := os.RemoveAll(work); err != nil { // of a process that died
		return nil, fmt.Errorf("import %s: %w", task, err)
	}
	if err := os.MkdirAll(work, 0o700); err != nil {
		return nil, fmt.Errorf("import %s: %w", task, err)
	}
	defer os.RemoveAll(work)
	if d.Format != "OVA" {
		l, err := c.importFile(ctx, c.objectPath(o.File), d.Format, work)
		if err != nil {
			return nil, err
		}
		return []importedDisk{{d, l}}, nil
	}
	files, err := unpackDisks(ctx, c.objectPath(o.File), work)
	if err != nil {
		return nil, err
	}
	var out []importedDisk
	for _, f := range files {
		l, err := c.importFile(ctx, f, "VMDK", work)
		if err != nil {
			return nil, err
		}
		d := d
		d.Format = "VMDK"
		out = append(out, importedDisk{d, l})
	}
	return out, nil
}

// importFile makes a layer of a file.
func (c *Cloud) importFile(ctx context.Context, file, format, work string) (imagestore.Layer, error) {
	if err := checkMagic(file, format); err != nil {
		return imagestore.Layer{}, err
	}
	if format == "RAW" {
		return c.images.Import(ctx, file, "raw")
	}
	raw := filepath.Join(work, "disk.raw")
	out, err := exec.CommandContext(ctx, "qemu-img", "convert", "-f", importFormats[format], "-O", "raw", "-S", "64k", file, raw).CombinedOutput()
	var exit *exec.ExitError
	switch {
	case ctx.Err() != nil:
		return imagestore.Layer{}, context.Cause(ctx)
	case errors.As(err, &exit):
		return imagestore.Layer{}, &badDiskError{fmt.Sprintf("the disk cannot be read as %s: %s", format, strings.TrimSpace(string(out)))}
	case err != nil:
		return imagestore.Layer{}, fmt.Errorf("convert a disk of format %s: %w", format, err)
	}
	return c.images.Import(ctx, raw, "raw")
}

// checkMagic refuses files that are not of the format. Of VMDK only those are
// taken that hold their data themselves: a descriptor may name any file of this
// machine.
func checkMagic(file, format string) error {
	f, err := os.Open(file)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	at := func(off int64, want string) bool {
		b := make([]byte, len(want))
		_, err := f.ReadAt(b, off)
		return err == nil && string(b) == want
	}
	ok := st.Size() > 0
	switch format {
	case "VHD":
		ok = at(st.Size()-512, "conectix") || at(0, "conectix")
	case "VHDX":
		ok = at(0, "vhdxfile")
	case "VMDK":
		ok = at(0, "KDMV")
	}
	if !ok {
		return &badDiskError{"the object is not a disk of the format " + format}
	}
	return nil
}

// unpackDisks writes the disks of an appliance, a tar archive, into a folder.
func unpackDisks(ctx context.Context, file, dir string) (out []string, err error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("import: %w", err)
	}
	defer f.Close()
	archive := tar.NewReader(f)
	for {
		h, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, &badDiskError{"the object is not an OVA archive: " + err.Error()}
		}
		if h.Typeflag != tar.TypeReg || !strings.EqualFold(path.Ext(h.Name), ".vmdk") {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		to := filepath.Join(dir, fmt.Sprintf("disk-%d.vmdk", len(out)))
		if err := writeAll(to, archive); err != nil {
			return nil, err
		}
		out = append(out, to)
	}
	if len(out) == 0 {
		return nil, &badDiskError{"the archive has no .vmdk disk"}
	}
	return out, nil
}

func writeAll(file string, r io.Reader) error {
	w, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	_, err = io.Copy(w, r)
	if err = errors.Join(err, w.Close()); errors.Is(err, io.ErrUnexpectedEOF) {
		return &badDiskError{"the archive is cut off"}
	} else if err != nil {
		return fmt.Errorf("import: %w", err)
	}
	return nil
}
