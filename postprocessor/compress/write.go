package compress

import (
	"archive/tar"
	"archive/zip"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/flate"
	"github.com/klauspost/pgzip"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"
)

// newWriter returns a writer that compresses into w. Level -1 is the
// algorithm's own default.
func newWriter(w io.Writer, algorithm string, level int) (io.WriteCloser, error) {
	switch algorithm {
	case none:
		return nopCloser{w}, nil
	case "pgzip":
		return pgzip.NewWriterLevel(w, level)
	case "bgzf":
		return newBGZF(w, level)
	case "bzip2":
		if level < 0 {
			level = bzip2.DefaultCompression
		}
		return bzip2.NewWriter(w, &bzip2.WriterConfig{Level: level})
	case "lz4":
		z := lz4.NewWriter(w)
		opts := []lz4.Option{lz4.ConcurrencyOption(-1)}
		if level > 0 {
			opts = append(opts, lz4.CompressionLevelOption(lz4.CompressionLevel(1<<(8+level))))
		}
		return z, z.Apply(opts...)
	case "xz": // its format has no such levels
		return xz.NewWriter(w)
	}
	return nil, fmt.Errorf("no algorithm %q", algorithm)
}

type nopCloser struct{ io.Writer }

func (nopCloser) Close() error { return nil }

func writeTar(w io.Writer, files []string, src *input) error {
	t := tar.NewWriter(w)
	names := tarNames(files)
	for i, name := range files {
		if err := addTar(t, name, names[i], src); err != nil {
			return err
		}
	}
	return t.Close()
}

func addTar(t *tar.Writer, name, as string, src *input) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	h, err := tar.FileInfoHeader(fi, "")
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	h.Name = as
	h.Uname, h.Gname = "", "" // of this machine
	if err := t.WriteHeader(h); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	// A file that grows meanwhile is cut at the size in its header; one that
	// shrinks fails.
	_, err = io.CopyN(t, src.of(f), fi.Size())
	if errors.Is(err, io.EOF) {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}

// tarNames is the base name of each file, or its path where two files have the
// same.
func tarNames(files []string) []string {
	seen := map[string]int{}
	for _, f := range files {
		seen[filepath.Base(f)]++
	}
	names := make([]string, len(files))
	for i, f := range files {
		if names[i] = filepath.Base(f); seen[names[i]] > 1 {
			names[i] = inside(f)
		}
	}
	return names
}

// inside is a path as a name in an archive: relative, and leading nowhere else.
func inside(name string) string {
	name = path.Clean("/" + filepath.ToSlash(name))
	return strings.TrimPrefix(name, "/")
}

func writeZip(w io.Writer, files []string, level int, src *input) error {
	z := zip.NewWriter(w)
	z.RegisterCompressor(zip.Deflate, func(w io.Writer) (io.WriteCloser, error) { return flate.NewWriter(w, level) })
	for _, name := range files {
		if err := addZip(z, name, src); err != nil {
			return err
		}
	}
	return z.Close()
}

func addZip(z *zip.Writer, name string, src *input) error {
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	h, err := zip.FileInfoHeader(fi)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	h.Name, h.Method = inside(name), zip.Deflate
	e, err := z.CreateHeader(h)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if _, err := io.Copy(e, src.of(f)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
