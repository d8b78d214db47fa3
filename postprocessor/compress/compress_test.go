package compress

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/dsnet/compress/bzip2"
	"github.com/pierrec/lz4/v4"
	"github.com/ulikunitz/xz"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/postprocessor"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

var build = postprocessor.Build{Name: "web", BuilderType: "file", Data: map[string]string{"ID": "File"}}

// content is compressible in part, and longer than a block of any format.
func content() []byte {
	r := rand.New(rand.NewPCG(1, 2))
	b := make([]byte, 300<<10)
	for i := range b[:150<<10] {
		b[i] = byte(r.Uint32())
	}
	return b
}

func input3(t *testing.T) (files []string, want map[string][]byte) {
	t.Helper()
	want = map[string][]byte{"a": content(), "b": []byte("bee"), "c": nil}
	if err := os.Mkdir("in", 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range slices.Sorted(maps.Keys(want)) {
		path := "in/" + name
		if err := os.WriteFile(path, want[name], 0o640); err != nil {
			t.Fatal(err)
		}
		files = append(files, path)
	}
	return files, want
}

func process(t *testing.T, c Config, files ...string) (artifact.Set, error) {
	t.Helper()
	p, err := open(c, build)
	if err != nil {
		t.Fatal(err)
	}
	return p.Process(t.Context(), artifact.Set{Files: files}, event.Discard)
}

func decompress(t *testing.T, r io.Reader, algorithm string) io.Reader {
	t.Helper()
	var err error
	switch algorithm {
	case "gz", "bgzf":
		r, err = gzip.NewReader(r)
	case "lz4":
		r = lz4.NewReader(r)
	case "xz":
		r, err = xz.NewReader(r)
	case "bzip2":
		r, err = bzip2.NewReader(r, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func untar(t *testing.T, r io.Reader) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for tr := tar.NewReader(r); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err == nil {
			out[h.Name], err = io.ReadAll(tr)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func same(t *testing.T, got, want map[string][]byte) {
	t.Helper()
	if !maps.EqualFunc(got, want, bytes.Equal) {
		t.Errorf("holds %q, want %q", slices.Sorted(maps.Keys(got)), slices.Sorted(maps.Keys(want)))
	}
}

func openFile(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func TestForms(t *testing.T) {
	t.Chdir(t.TempDir())
	files, want := input3(t)
	level := 9
	for _, l := range []*int{nil, &level} {
		for _, algorithm := range []string{"", "gz", "lz4", "bgzf", "xz", "bzip2"} {
			name := "out/x.tar"
			if algorithm != "" {
				name += "." + algorithm
				one := "out/x." + algorithm
				if _, err := process(t, Config{Output: one, CompressionLevel: l}, files[0]); err != nil {
					t.Fatal(err)
				}
				got, err := io.ReadAll(decompress(t, openFile(t, one), algorithm))
				if err != nil || !bytes.Equal(got, want["a"]) {
					t.Errorf("%s: %d bytes, %v", one, len(got), err)
				}
			}
			set, err := process(t, Config{Output: name, CompressionLevel: l}, files...)
			if err != nil {
				t.Fatal(err)
			}
			if set.BuilderID != BuilderID || !slices.Equal(set.Files, []string{name}) || set.Text != "compressed artifacts in: "+name {
				t.Errorf("%+v", set)
			}
			same(t, untar(t, decompress(t, openFile(t, name), algorithm)), want)
		}
	}
}

func TestZip(t *testing.T) {
	t.Chdir(t.TempDir())
	files, want := input3(t)
	abs, err := filepath.Abs(files[1])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := process(t, Config{Output: "x.zip"}, files[0], abs); err != nil {
		t.Fatal(err)
	}
	z, err := zip.OpenReader("x.zip")
	if err != nil {
		t.Fatal(err)
	}
	defer z.Close()
	got := map[string][]byte{}
	for _, f := range z.File {
		r, err := f.Open()
		if err == nil {
			got[f.Name], err = io.ReadAll(r)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	same(t, got, map[string][]byte{"in/a": want["a"], abs[1:]: want["b"]})
}

func TestDetection(t *testing.T) {
	for _, c := range []struct {
		output, format string
		want           form
	}{
		{"", "", form{"tar", "pgzip"}},
		{"x.tar.gz", "", form{"tar", "pgzip"}},
		{"x.v1.2.gz", "", form{"", "pgzip"}},
		{"x.tar", "", form{"tar", ""}},
		{"{{.BuildName}}.zip", "tar.xz", form{"zip", ""}},
		{"x", "tar.xz", form{"tar", "xz"}},
		{"x.img", ".lz4", form{"", "lz4"}},
		{"x.img", "", form{"tar", "pgzip"}},
	} {
		p, err := open(Config{Output: c.output, Format: c.format}, build)
		if err != nil {
			t.Fatal(err)
		}
		if got := p.(*compress).form; got != c.want {
			t.Errorf("%q, %q: %v, want %v", c.output, c.format, got, c.want)
		}
	}
	p, err := open(Config{Output: "x.gz", Archive: "tar", Algorithm: "xz"}, build)
	if err != nil || p.(*compress).form != (form{"tar", "xz"}) {
		t.Errorf("%+v %v", p, err)
	}
	bad := 10
	_, err = open(Config{Output: "{{", Format: "rar", Archive: "cpio", Algorithm: "lzo", CompressionLevel: &bad}, build)
	if n := len(diag.Flatten(err)); n != 5 {
		t.Errorf("%d faults: %v", n, err)
	}
	if _, err := open(Config{Output: "x.zip", Algorithm: "xz"}, build); err == nil {
		t.Error("a zip compressed with xz was accepted")
	}
}

func TestLevels(t *testing.T) {
	for _, algorithm := range slices.Collect(maps.Values(algorithms)) {
		for level := 1; level <= 9; level++ {
			w, err := newWriter(io.Discard, algorithm, level)
			if err == nil {
				_, err = w.Write([]byte("x"))
			}
			if err == nil {
				err = w.Close()
			}
			if err != nil {
				t.Errorf("%s, level %d: %v", algorithm, level, err)
			}
		}
	}
}

// TestBlocks walks a bgzf file by the sizes that its blocks carry.
func TestBlocks(t *testing.T) {
	var b bytes.Buffer
	w, err := newBGZF(&b, -1)
	if err == nil {
		_, err = w.Write(content())
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, total, blocks := b.Bytes(), 0, 0
	for at := 0; at < len(raw); blocks++ {
		if string(raw[at+12:at+14]) != "BC" {
			t.Fatalf("no block at %d", at)
		}
		size := int(binary.LittleEndian.Uint16(raw[at+16:])) + 1
		z, err := gzip.NewReader(bytes.NewReader(raw[at : at+size]))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(z)
		if err != nil || len(got) > 1<<16 {
			t.Fatalf("block of %d: %v", len(got), err)
		}
		total += len(got)
		at += size
	}
	if total != len(content()) || blocks != 6 || !bytes.HasSuffix(raw, eof) {
		t.Errorf("%d bytes in %d blocks", total, blocks)
	}
}

func TestNothingHalfWritten(t *testing.T) {
	t.Chdir(t.TempDir())
	files, _ := input3(t)
	if err := os.WriteFile("x.tar.gz", []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := open(Config{Output: "x.tar.gz"}, build)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	stop()
	if _, err := p.Process(ctx, artifact.Set{Files: files}, event.Discard); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	for name, c := range map[string]struct {
		cfg   Config
		files []string
	}{
		"missing input":         {Config{Output: "x.tar.gz"}, []string{"gone"}},
		"two files, no archive": {Config{Output: "x.gz"}, files},
		"itself":                {Config{Output: files[0]}, files},
		"unknown name":          {Config{Output: "{{.NoSuch}}"}, files},
		"a folder":              {Config{Output: "in"}, files},
	} {
		if _, err := process(t, c.cfg, c.files...); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	left, err := os.ReadDir(".")
	if err != nil || len(left) != 2 {
		t.Errorf("left: %v %v", left, err)
	}
	if got, err := os.ReadFile("x.tar.gz"); string(got) != "old" {
		t.Errorf("the old file is %q %v", got, err)
	}
}

func TestNamesAndProgress(t *testing.T) {
	got := tarNames([]string{"a/x", "b/x", "/c/y", "../z/../x"})
	if want := []string{"a/x", "b/x", "y", "x"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	t.Chdir(t.TempDir())
	files, want := input3(t)
	p, err := open(Config{}, build)
	if err != nil {
		t.Fatal(err)
	}
	var out provisionertest.Events
	set, err := p.Process(t.Context(), artifact.Set{Files: files}, &out)
	if err != nil || !slices.Equal(set.Files, []string{"packer_web_file"}) {
		t.Fatalf("%+v %v", set, err)
	}
	same(t, untar(t, decompress(t, openFile(t, "packer_web_file"), "gz")), want)
	var last event.Progress
	for _, e := range out.All() {
		if p, ok := e.(event.Progress); ok {
			last = p
		}
	}
	if last.Done != last.Total || last.Total != int64(len(want["a"])+3) {
		t.Errorf("progress ends at %+v", last)
	}
}
