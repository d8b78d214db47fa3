package amazonimport

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/ebsdirect"
	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
	"github.com/ingot-build/ingot/internal/vm"
)

// A source is the file to import.
type source struct {
	path   string
	format string // "ova", "raw", "qcow2", "vmdk", "vhd", "vhdx"
	digest string // "sha256:…" where the builder told it
	more   int    // further disks of the same image
}

// suffixes say what a file is, in the order in which one is taken.
var suffixes = []struct{ suffix, format string }{
	{".ova", "ova"},
	{".raw", "raw"},
	{".img", "raw"},
	{".qcow2", "qcow2"},
	{".vmdk", "vmdk"},
	{".vhdx", "vhdx"},
	{".vhd", "vhd"},
}

// findSource picks the file: of the wanted format, else the system disk the
// builder names, else the first whose suffix is known.
func findSource(in artifact.Set, want string) (source, error) {
	disks := []artifact.Disk{}
	if len(in.Images) > 0 {
		for _, d := range in.Images[0].Disks {
			if d.Path != "" {
				disks = append(disks, d)
			}
		}
	}
	if len(disks) > 0 {
		s := source{path: filepath.FromSlash(disks[0].Path), format: disks[0].Format, digest: disks[0].Digest, more: len(disks) - 1}
		if want == "" || want == s.format {
			return s.sniff()
		}
	}
	for _, k := range suffixes {
		if want != "" && k.format != want {
			continue
		}
		for _, f := range in.Files {
			if strings.HasSuffix(strings.ToLower(f), k.suffix) {
				return source{path: f, format: k.format}.sniff()
			}
		}
	}
	// A lone file without a telling name is looked into.
	if want == "" && len(in.Files) == 1 {
		return source{path: in.Files[0], format: "raw"}.sniff()
	}
	if want == "" {
		want = "ova, raw, qcow2, vmdk, vhd or vhdx"
	}
	return source{}, diag.WithHint(fmt.Errorf("no %s file found in artifact from builder", want),
		"set format to that of one of its files: %s", strings.Join(in.Files, ", "))
}

// sniff corrects a format that the file's first bytes contradict: a disk taken
// for raw would be published as nonsense that does not boot.
func (s source) sniff() (source, error) {
	f, err := os.Open(s.path)
	if err != nil {
		return s, fmt.Errorf("input artifact: %w", err)
	}
	defer f.Close()
	head := make([]byte, 8)
	n, err := io.ReadFull(f, head)
	if err != nil && !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, io.EOF) {
		return s, fmt.Errorf("input artifact: %w", err)
	}
	head = head[:n]
	switch {
	case s.format == "ova":
	case bytes.HasPrefix(head, []byte("QFI\xfb")):
		s.format = "qcow2"
	case bytes.HasPrefix(head, []byte("KDMV")):
		s.format = "vmdk"
	case bytes.HasPrefix(head, []byte("vhdxfile")):
		s.format = "vhdx"
	}
	return s, nil
}

// identity tells one input from another.
func (s source) identity() (string, error) {
	if s.digest != "" {
		return s.digest, nil
	}
	fi, err := os.Stat(s.path)
	if err != nil {
		return "", fmt.Errorf("input artifact: %w", err)
	}
	abs, err := filepath.Abs(s.path)
	if err != nil {
		return "", err
	}
	return fmt.Sprint(abs, fi.Size(), fi.ModTime().UnixNano()), nil
}

// open returns the content of the disk. What cannot be read directly is
// converted to a file that goes away with close.
func (s source) open(ctx context.Context) (d ebsdirect.Disk, closed func() error, err error) {
	switch s.format {
	case "raw":
		r, err := ebsdirect.OpenRaw(s.path)
		if err != nil {
			return nil, nil, err
		}
		return r, r.Close, nil
	case "qcow2":
		q, err := openQcow2(s.path)
		var odd *qcow2.UnsupportedError
		if err == nil {
			return q, q.f.Close, nil
		}
		if !errors.As(err, &odd) {
			return nil, nil, fmt.Errorf("%s: %w", s.path, err)
		}
	}
	return s.convert(ctx)
}

func (s source) convert(ctx context.Context) (ebsdirect.Disk, func() error, error) {
	format := s.format
	if q, ok := formats[format]; ok {
		format = q
	}
	dir, err := os.MkdirTemp("", "ingot-import-*")
	if err != nil {
		return nil, nil, err
	}
	raw := filepath.Join(dir, "disk.raw")
	err = vm.Img{}.Convert(ctx, s.path, raw, vm.Conversion{From: format, Format: "raw"})
	var r *ebsdirect.Raw
	if err == nil {
		r, err = ebsdirect.OpenRaw(raw)
	}
	if err != nil {
		return nil, nil, errors.Join(fmt.Errorf("read %s: %w", s.path, err), os.RemoveAll(dir))
	}
	return r, func() error { return errors.Join(r.Close(), os.RemoveAll(dir)) }, nil
}

// A qcow2Disk reads an image that stands alone.
type qcow2Disk struct {
	f *os.File
	m *qcow2.Image
}

func openQcow2(path string) (*qcow2Disk, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	fi, err := f.Stat()
	var m *qcow2.Image
	if err == nil {
		m, err = qcow2.Open(f, fi.Size())
	}
	if err == nil && m.Backing != "" {
		err = &qcow2.UnsupportedError{Feature: "an image below it"}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return &qcow2Disk{f, m}, nil
}

func (d *qcow2Disk) ReadAt(p []byte, off int64) (int, error) { return d.m.ReadAt(p, off) }
func (d *qcow2Disk) Size() int64                             { return d.m.Size }

func (d *qcow2Disk) Extents(ctx context.Context) ([]ebsdirect.Extent, error) {
	var out []ebsdirect.Extent
	for off := int64(0); off < d.m.Size; {
		if err := context.Cause(ctx); err != nil {
			return nil, err
		}
		kind, n, err := d.m.Extent(off)
		if err != nil {
			return nil, err
		}
		if kind == qcow2.Data {
			if l := len(out); l > 0 && out[l-1].Offset+out[l-1].Length == off {
				out[l-1].Length += n
			} else {
				out = append(out, ebsdirect.Extent{Offset: off, Length: n})
			}
		}
		off += n
	}
	return out, nil
}
