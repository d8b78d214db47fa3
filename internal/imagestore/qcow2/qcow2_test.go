package qcow2

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

func qemu(t testing.TB, name string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(name); err != nil {
		t.Skip(err)
	}
	out, err := exec.CommandContext(t.Context(), name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

func open(t testing.TB, path string) (*Image, error) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	st, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	return Open(f, st.Size())
}

// walk returns the content as the image has it and checks the extents.
func walk(t testing.TB, m *Image) []byte {
	t.Helper()
	all := make([]byte, m.Size)
	for off := int64(0); off < m.Size; {
		k, n, err := m.Extent(off)
		if err != nil {
			t.Fatal(err)
		}
		if n <= 0 || off+n > m.Size {
			t.Fatalf("extent of %d bytes at %d of %d", n, off, m.Size)
		}
		if k == Data {
			if _, err := m.ReadAt(all[off:off+n], off); err != nil {
				t.Fatal(err)
			}
		}
		off += n
	}
	whole := make([]byte, m.Size)
	if _, err := m.ReadAt(whole, 0); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(all, whole) {
		t.Error("reading by extents and reading at once differ")
	}
	return all
}

// TestReadsWhatQEMUWrites covers what images of QEMU come with.
func TestReadsWhatQEMUWrites(t *testing.T) {
	dir := t.TempDir()
	// 3 MiB and a sector: text that compresses, noise that does not, and holes.
	want := make([]byte, 3<<20+512)
	copy(want[100_000:], bytes.Repeat([]byte("compressible "), 30_000))
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(want[1<<20 : 1<<20+300_000])
	want[len(want)-1] = 7
	raw := filepath.Join(dir, "raw")
	if err := os.WriteFile(raw, want, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, args := range map[string][]string{
		"plain":       {},
		"version 2":   {"-o", "compat=0.10"},
		"small":       {"-o", "cluster_size=512"},
		"large":       {"-o", "cluster_size=2M"},
		"refcount 64": {"-o", "refcount_bits=64"},
		"prealloc":    {"-o", "preallocation=metadata"},
		"deflate":     {"-c"},
		"deflate 4k":  {"-c", "-o", "cluster_size=4k"},
		"deflate 2M":  {"-c", "-o", "cluster_size=2M"},
		"zstd":        {"-c", "-o", "compression_type=zstd"},
		"zstd 512":    {"-c", "-o", "compression_type=zstd,cluster_size=512"},
		"zstd 2M":     {"-c", "-o", "compression_type=zstd,cluster_size=2M"},
	} {
		t.Run(name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "i")
			qemu(t, "qemu-img", append(append([]string{"convert", "-O", "qcow2"}, args...), raw, p)...)
			m, err := open(t, p)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(walk(t, m), want) {
				t.Error("the content differs")
			}
			part := make([]byte, 1000)
			if _, err := m.ReadAt(part, 1<<20-500); err != nil || !bytes.Equal(part, want[1<<20-500:][:1000]) {
				t.Error("a part differs", err)
			}
			if n, err := m.ReadAt(part, m.Size-10); n != 10 || !errors.Is(err, io.EOF) {
				t.Errorf("at the end: %d, %v", n, err)
			}
		})
	}
}

func TestKindsOfAnOverlay(t *testing.T) {
	dir := t.TempDir()
	base, top := filepath.Join(dir, "base"), filepath.Join(dir, "top")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", base, "1M")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", top)
	qemu(t, "qemu-io", "-c", "write -P 5 64k 64k", "-c", "write -z 128k 128k", "-c", "write -P 6 256k 4k", top)
	m, err := open(t, top)
	if err != nil {
		t.Fatal(err)
	}
	if m.Backing != "base" || m.BackingFormat != "qcow2" {
		t.Errorf("over %q, %q", m.Backing, m.BackingFormat)
	}
	var got []Kind
	for off := int64(0); off < m.Size; {
		k, n, err := m.Extent(off)
		if err != nil {
			t.Fatal(err)
		}
		for range n >> 16 {
			got = append(got, k)
		}
		off += n
	}
	want := make([]Kind, 16)
	copy(want, []Kind{Absent, Data, Zero, Zero, Data})
	if !bytes.Equal(kinds(got), kinds(want)) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func kinds(k []Kind) (b []byte) {
	for _, k := range k {
		b = append(b, byte(k))
	}
	return b
}

func TestRefusals(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"subclusters": {[]string{"-o", "extended_l2=on"}, "subclusters"},
		"external":    {[]string{"-o", "data_file=" + filepath.Join(dir, "ext")}, "external data file"},
	} {
		t.Run(name, func(t *testing.T) {
			p := filepath.Join(dir, name)
			qemu(t, "qemu-img", append(append([]string{"create", "-q", "-f", "qcow2"}, c.args...), p, "1M")...)
			_, err := open(t, p)
			var ue *UnsupportedError
			if !errors.As(err, &ue) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %s", err, c.want)
			}
		})
	}
	t.Run("raw", func(t *testing.T) {
		p := filepath.Join(dir, "raw")
		if err := os.WriteFile(p, make([]byte, 4096), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := open(t, p); !errors.Is(err, ErrFormat) {
			t.Error(err)
		}
	})
}

// TestHostileHeaders changes single fields of a sound image.
func TestHostileHeaders(t *testing.T) {
	be := binary.BigEndian
	sound := func() []byte {
		l, err := NewLayout(2<<30, "below.qcow2")
		if err != nil {
			t.Fatal(err)
		}
		w := &memory{}
		_, _ = w.WriteAt(make([]byte, ClusterSize), l.AddData(1))
		_, _ = w.WriteAt(make([]byte, ClusterSize), l.AddData(9000))
		if _, err := l.Finish(w); err != nil {
			t.Fatal(err)
		}
		return w.b
	}
	read := func(b []byte) error {
		m, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return err
		}
		for off := int64(0); off < m.Size; {
			_, n, err := m.Extent(off)
			if err != nil {
				return err
			}
			off += n
		}
		return nil
	}
	if err := read(sound()); err != nil {
		t.Fatal(err)
	}
	const l1, l2 = 5 * ClusterSize, 3 * ClusterSize // header, two of data, two tables
	for name, c := range map[string]struct {
		change func([]byte) []byte
		want   string
	}{
		"empty":             {func(b []byte) []byte { return nil }, "not a qcow2"},
		"cut in the header": {func(b []byte) []byte { return b[:100] }, "inside the header"},
		"cut in the tables": {func(b []byte) []byte { return b[:l2+100] }, "not in the file"},
		"version":           {func(b []byte) []byte { be.PutUint32(b[4:], 4); return b }, "version 4"},
		"encryption":        {func(b []byte) []byte { be.PutUint32(b[32:], 2); return b }, "encryption"},
		"corrupt bit":       {func(b []byte) []byte { be.PutUint64(b[72:], 2); return b }, "marked it as corrupt"},
		"unknown feature":   {func(b []byte) []byte { be.PutUint64(b[72:], 1<<40); return b }, "unknown features"},
		"cluster bits":      {func(b []byte) []byte { be.PutUint32(b[20:], 60); return b }, "clusters of 2^60"},
		"header length":     {func(b []byte) []byte { be.PutUint32(b[100:], 1<<31); return b }, "a header of"},
		"size":              {func(b []byte) []byte { be.PutUint64(b[24:], 1<<63); return b }, "virtual size"},
		"size beyond table": {func(b []byte) []byte { be.PutUint64(b[24:], 1<<60); return b }, "first-level table of 4 entries"},
		"table size":        {func(b []byte) []byte { be.PutUint32(b[36:], 1<<31); return b }, "first-level table of"},
		"table place":       {func(b []byte) []byte { be.PutUint64(b[40:], 1<<50); return b }, "not in the file"},
		"table overflow":    {func(b []byte) []byte { be.PutUint64(b[40:], 1<<63); return b }, "not in the file"},
		"backing name":      {func(b []byte) []byte { be.PutUint64(b[8:], 1<<63); return b }, "name of its backing file"},
		"long name":         {func(b []byte) []byte { be.PutUint32(b[16:], 2000); return b }, "name of its backing file"},
		"extension":         {func(b []byte) []byte { be.PutUint32(b[108:], 1<<31); return b }, "header extension"},
		"shared table":      {func(b []byte) []byte { copy(b[l1+8:l1+16], b[l1:]); return b }, "share the table"},
		"far table":         {func(b []byte) []byte { be.PutUint64(b[l1:], 1<<55); return b }, "not in the file"},
		"odd table":         {func(b []byte) []byte { be.PutUint64(b[l1:], l2+512); return b }, "not in the file"},
		"far cluster":       {func(b []byte) []byte { be.PutUint64(b[l2+8:], 1<<55); return b }, "not in the file"},
		"odd cluster":       {func(b []byte) []byte { be.PutUint64(b[l2+8:], 512); return b }, "not aligned"},
		"compressed":        {func(b []byte) []byte { be.PutUint64(b[l2+8:], 1<<62|1<<53); return b }, "not in the file"},
	} {
		t.Run(name, func(t *testing.T) {
			err := read(c.change(sound()))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want one about %q", err, c.want)
			}
		})
	}
}

// TestLayoutIsSoundToQEMU writes images of many shapes; the counts of the
// reference table are at their edges in some.
func TestLayoutIsSoundToQEMU(t *testing.T) {
	for name, c := range map[string]struct {
		size  int64
		data  []int64
		zeros []int64
	}{
		"empty":      {512, nil, nil},
		"one":        {1 << 20, []int64{0}, nil},
		"odd end":    {3*ClusterSize + 512, []int64{3, 1}, []int64{2}},
		"two tables": {2 << 30, []int64{5, 8192, 8191, 20000}, []int64{16384}},
		"many":       {40 << 40, []int64{0, 40<<24 - 1}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			p := filepath.Join(t.TempDir(), "i")
			f, err := os.Create(p)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			l, err := NewLayout(c.size, "")
			if err != nil {
				t.Fatal(err)
			}
			for _, i := range c.data {
				if _, err := f.WriteAt(bytes.Repeat([]byte{byte(i) | 1}, ClusterSize), l.AddData(i)); err != nil {
					t.Fatal(err)
				}
			}
			for _, i := range c.zeros {
				l.AddZero(i)
			}
			n, err := l.Finish(f)
			if err != nil {
				t.Fatal(err)
			}
			if st, _ := f.Stat(); st.Size() != n {
				t.Errorf("Finish says %d bytes, there are %d", n, st.Size())
			}
			if ok, err := l.Matches(f, n); !ok || err != nil {
				t.Errorf("Matches: %v %v", ok, err)
			}
			if out := qemu(t, "qemu-img", "check", p); !strings.Contains(out, "No errors") {
				t.Error(out)
			}
			m, err := Open(f, n)
			if err != nil {
				t.Fatal(err)
			}
			if m.Size != c.size {
				t.Errorf("size %d", m.Size)
			}
			b := make([]byte, 1)
			for _, i := range c.data {
				if _, err := m.ReadAt(b, i*ClusterSize); err != nil || b[0] != byte(i)|1 {
					t.Errorf("cluster %d: %v %v", i, b, err)
				}
			}
			if _, err := f.WriteAt([]byte{0xff}, n-3*ClusterSize+20); err != nil {
				t.Fatal(err)
			}
			if ok, err := l.Matches(f, n); ok || err != nil {
				t.Errorf("after a change, Matches: %v %v", ok, err)
			}
		})
	}
}

// TestRefcountEdges finds sizes at which the reference blocks need another one
// for themselves, without writing the data.
func TestRefcountEdges(t *testing.T) {
	for _, n := range []int64{refsPerBlock - 7, refsPerBlock - 6, refsPerBlock - 5, refsPerBlock - 4, refsPerBlock - 3, 2*refsPerBlock - 10} {
		l, err := NewLayout(4<<30, "")
		if err != nil {
			t.Fatal(err)
		}
		for i := range n {
			l.AddData(i)
		}
		p := filepath.Join(t.TempDir(), "i")
		f, err := os.Create(p)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if _, err := l.Finish(f); err != nil {
			t.Fatal(err)
		}
		if out := qemu(t, "qemu-img", "check", p); !strings.Contains(out, "No errors") {
			t.Errorf("%d clusters: %s", n, out)
		}
	}
}

func TestLayoutRefusals(t *testing.T) {
	for _, c := range []struct {
		size    int64
		backing string
	}{{0, ""}, {-512, ""}, {513, ""}, {1 << 62, ""}, {512, strings.Repeat("x", 1024)}} {
		if _, err := NewLayout(c.size, c.backing); err == nil {
			t.Errorf("%d %q was taken", c.size, c.backing)
		}
	}
}

// FuzzOpen feeds changed images to the parser: no panic, no endless walk, no
// memory out of proportion.
func FuzzOpen(f *testing.F) {
	img := func(opts string, cmds ...string) []byte {
		if _, err := exec.LookPath("qemu-img"); err != nil {
			return nil
		}
		p := filepath.Join(f.TempDir(), "i")
		qemu(f, "qemu-img", "create", "-q", "-f", "qcow2", "-o", opts, p, "1M")
		args := []string{}
		for _, c := range cmds {
			args = append(args, "-c", c)
		}
		qemu(f, "qemu-io", append(args, p)...)
		b, err := os.ReadFile(p)
		if err != nil {
			f.Fatal(err)
		}
		return b
	}
	f.Add(img("cluster_size=512", "write -P 1 0 2k", "write -z 4k 8k"))
	f.Add(img("cluster_size=512,compat=0.10", "write -P 1 700k 2k"))
	f.Add(img("cluster_size=4k", "write -c -P 1 0 4k", "write -c -P 2 8k 4k"))
	f.Add(img("cluster_size=4k,compression_type=zstd", "write -c -P 1 0 4k"))
	l, _ := NewLayout(1<<20, "below.qcow2")
	w := &memory{}
	l.AddZero(3)
	_, _ = w.WriteAt(make([]byte, ClusterSize), l.AddData(1))
	_, _ = l.Finish(w)
	f.Add(w.b)
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Open(bytes.NewReader(b), int64(len(b)))
		if err != nil {
			return
		}
		steps, most := 0, 2*len(b)+64
		buf := make([]byte, 4096)
		for off := int64(0); off < m.Size; steps++ {
			if steps > most {
				t.Fatalf("%d steps through a file of %d bytes", steps, len(b))
			}
			k, n, err := m.Extent(off)
			if err != nil {
				return
			}
			if n <= 0 || n > m.Size-off {
				t.Fatalf("extent of %d bytes at %d of %d", n, off, m.Size)
			}
			if k == Data && steps < 1000 {
				_, _ = m.ReadAt(buf[:min(n, 4096)], off)
			}
			off += n
		}
	})
}

type memory struct{ b []byte }

func (m *memory) WriteAt(p []byte, off int64) (int, error) {
	if need := int(off) + len(p); need > len(m.b) {
		m.b = append(m.b, make([]byte, need-len(m.b))...)
	}
	return copy(m.b[off:], p), nil
}
