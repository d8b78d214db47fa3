package imagestore

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
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

// edit runs qemu-io commands on an image.
func edit(t testing.TB, path string, cmds ...string) {
	t.Helper()
	args := []string{"-f", "qcow2"}
	for _, c := range cmds {
		args = append(args, "-c", c)
	}
	out := qemu(t, "qemu-io", append(args, path)...)
	if strings.Contains(out, "failed") || strings.Contains(out, "error") {
		t.Fatal(out)
	}
}

func newStore(t testing.TB) *Store {
	t.Helper()
	s, err := Open(filepath.Join(t.TempDir(), "store"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func overlay(t testing.TB, s *Store, parent string, size int64) string {
	t.Helper()
	p := filepath.Join(t.TempDir(), "disk.qcow2")
	if err := s.NewOverlay(t.Context(), p, parent, size); err != nil {
		t.Fatal(err)
	}
	return p
}

func capture(t testing.TB, s *Store, path string) Layer {
	t.Helper()
	l, err := s.Capture(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func importRaw(t testing.TB, s *Store, content []byte) Layer {
	t.Helper()
	p := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(p, content, 0o600); err != nil {
		t.Fatal(err)
	}
	l, err := s.Import(t.Context(), p, "raw")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func content(t testing.TB, s *Store, digest string) []byte {
	t.Helper()
	d, err := s.Read(digest)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	b := make([]byte, d.Size())
	if _, err := d.ReadAt(b, 0); err != nil {
		t.Fatal(err)
	}
	return b
}

// checkLayerFile has QEMU look at the layer and compares what QEMU and the
// store read with want.
func checkLayerFile(t testing.TB, s *Store, l Layer, want []byte) {
	t.Helper()
	if out := qemu(t, "qemu-img", "check", s.Path(l.Digest)); !strings.Contains(out, "No errors") {
		t.Error(out)
	}
	if got := content(t, s, l.Digest); !bytes.Equal(got, want) {
		t.Errorf("layer %s reads differently than expected", l.Digest)
	}
	raw := filepath.Join(t.TempDir(), "want")
	if err := os.WriteFile(raw, want, 0o600); err != nil {
		t.Fatal(err)
	}
	qemu(t, "qemu-img", "compare", "-f", "qcow2", "-F", "raw", s.Path(l.Digest), raw)
	if err := s.Scrub(t.Context(), l.Digest); err != nil {
		t.Error(err)
	}
	st, err := s.Stat(l.Digest)
	if err != nil || st != l {
		t.Errorf("Stat says %+v (%v), not %+v", st, err, l)
	}
}

// TestChainAgainstAModel captures a chain of random changes, made by QEMU in
// overlays of different forms, and compares each layer with a plain copy.
func TestChainAgainstAModel(t *testing.T) {
	if testing.Short() {
		t.Skip("writes many layers")
	}
	for seed := range uint64(3) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			rng := rand.New(rand.NewPCG(seed, 7))
			s := newStore(t)
			model := make([]byte, 4<<20+int(rng.IntN(100))*512)
			var parent Layer
			for i := range 6 {
				if rng.IntN(3) == 0 {
					model = append(model, make([]byte, rng.IntN(300)*512)...)
				}
				size := int64(len(model))
				p := overlay(t, s, parent.Digest, size)
				if parent.Digest != "" && rng.IntN(2) == 0 { // as another program would make it
					p = filepath.Join(t.TempDir(), "o")
					o := []string{"cluster_size=4k", "cluster_size=2M", "lazy_refcounts=on", "compat=0.10", "compression_type=zstd"}[rng.IntN(5)]
					qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", o, "-b", s.Path(parent.Digest), "-F", "qcow2", p, fmt.Sprint(size))
				}
				var cmds []string
				for range rng.IntN(8) {
					off := rng.Int64N(size/512) * 512
					n := min(size-off, (1+rng.Int64N(400))*512)
					if rng.IntN(2) == 0 { // whole clusters
						off &^= 64<<10 - 1
						n = min(size-off, (1+rng.Int64N(5))*64<<10)
					}
					fill := byte(rng.IntN(4))
					switch rng.IntN(3) {
					case 0:
						fill = 0
						cmds = append(cmds, fmt.Sprintf("write -z %d %d", off, n))
					default:
						cmds = append(cmds, fmt.Sprintf("write -P %d %d %d", fill, off, n))
					}
					copy(model[off:off+n], bytes.Repeat([]byte{fill}, int(n)))
				}
				before := slices.Clone(model)
				if len(cmds) > 0 {
					edit(t, p, cmds...)
				}
				l := capture(t, s, p)
				checkLayerFile(t, s, l, before)
				checkDiff(t, s, l, parent, before)
				if again := capture(t, s, p); again != l {
					t.Errorf("step %d: captured again: %+v, was %+v", i, again, l)
				}
				parent = l
			}
			for _, format := range []string{"raw", "qcow2"} {
				out := filepath.Join(t.TempDir(), "out")
				if err := s.Export(t.Context(), parent.Digest, out, format); err != nil {
					t.Fatal(err)
				}
				qemu(t, "qemu-img", "compare", "-f", format, "-F", "qcow2", out, s.Path(parent.Digest))
				flat, err := s.Import(t.Context(), out, format)
				if err != nil {
					t.Fatal(err)
				}
				checkLayerFile(t, s, flat, model)
			}
		})
	}
}

// checkDiff compares Blocks and Changed with a plain comparison.
func checkDiff(t testing.TB, s *Store, l, parent Layer, now []byte) {
	t.Helper()
	var was []byte
	if parent.Digest != "" {
		was = content(t, s, parent.Digest)
	}
	was = append(was, make([]byte, len(now)-len(was))...)
	d, err := s.Read(l.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	for _, size := range []int64{BlockSize, 64 << 10, 4096} {
		var nonZero, changed []int64
		for i := int64(0); i*size < int64(len(now)); i++ {
			end := min((i+1)*size, int64(len(now)))
			if !bytes.Equal(now[i*size:end], make([]byte, end-i*size)) {
				nonZero = append(nonZero, i)
			}
			if !bytes.Equal(now[i*size:end], was[i*size:end]) {
				changed = append(changed, i)
			}
		}
		if got := collect(t, d.Blocks(size)); !slices.Equal(got, nonZero) {
			t.Errorf("blocks of %d: %v, want %v", size, got, nonZero)
		}
		if got := collect(t, d.Changed(parent.Digest, size)); !slices.Equal(got, changed) {
			t.Errorf("changed blocks of %d: %v, want %v", size, got, changed)
		}
	}
}

func collect(t testing.TB, seq func(func(int64, error) bool)) (out []int64) {
	t.Helper()
	for i, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, i)
	}
	return out
}

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func TestEqualContentIsOneLayer(t *testing.T) {
	s := newStore(t)
	data := append(noise(1, 3<<20), make([]byte, 1<<20)...)
	base := importRaw(t, s, data)
	if base.Depth != 1 || base.Parent != "" || base.Size != int64(len(data)) {
		t.Errorf("%+v", base)
	}
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, data, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, opts := range [][]string{{}, {"-c"}, {"-o", "cluster_size=2M"}, {"-o", "compat=0.10"}} {
		p := filepath.Join(t.TempDir(), "i")
		qemu(t, "qemu-img", append(append([]string{"convert", "-O", "qcow2"}, opts...), raw, p)...)
		l, err := s.Import(t.Context(), p, "qcow2")
		if err != nil || l != base {
			t.Errorf("%v: %+v %v", opts, l, err)
		}
	}
	// Over a layer: another writer, another order, detours.
	a, b := overlay(t, s, base.Digest, 0), filepath.Join(t.TempDir(), "b")
	edit(t, a, "write -P 1 0 64k", "write -P 2 1M 64k", "write -z 512k 64k")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "cluster_size=4k", "-b", s.Path(base.Digest), "-F", "qcow2", b)
	edit(t, b, "write -P 9 512k 64k", "write -P 2 1M 64k", "write -P 1 0 64k", "write -P 0 512k 64k", "write -z 3M 1M")
	la, lb := capture(t, s, a), capture(t, s, b)
	if la != lb {
		t.Errorf("%+v and %+v", la, lb)
	}
	if la.Parent != base.Digest || la.Depth != 2 {
		t.Errorf("%+v", la)
	}
	if most := int64(10 * clusterSize); la.Bytes > most {
		t.Errorf("three changed clusters take %d bytes", la.Bytes)
	}
	other := newStore(t) // and in another store
	if l := importRaw(t, other, data); l.Digest != base.Digest {
		t.Errorf("%s in one store, %s in the other", base.Digest, l.Digest)
	}
}

func TestRefusals(t *testing.T) {
	s, ctx := newStore(t), t.Context()
	base := importRaw(t, s, noise(3, 1<<20))
	dir := t.TempDir()
	over := filepath.Join(dir, "over")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", s.Path(base.Digest), "-F", "qcow2", over)
	sub := filepath.Join(dir, "sub")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "extended_l2=on", sub, "1M")
	shrunk := filepath.Join(dir, "shrunk")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", s.Path(base.Digest), "-F", "qcow2", shrunk, "512k")
	gone := strings.Repeat("ab", 32)
	var ue *UnsupportedError
	_, err := s.Import(ctx, over, "qcow2")
	if !errors.As(err, &ue) || !strings.Contains(err.Error(), "file below it") {
		t.Errorf("import over a layer: %v", err)
	}
	if _, err = s.Capture(ctx, sub); !errors.As(err, &ue) || !strings.Contains(err.Error(), "subclusters") {
		t.Errorf("subclusters: %v", err)
	}
	if _, err = s.Capture(ctx, shrunk); err == nil || !strings.Contains(err.Error(), "cannot shrink") {
		t.Errorf("shrunk: %v", err)
	}
	if _, err = s.Import(ctx, over, "vmdk"); err == nil || !strings.Contains(err.Error(), "raw or qcow2") {
		t.Errorf("vmdk: %v", err)
	}
	if _, err = s.Import(ctx, filepath.Join(dir, "none"), "raw"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no file: %v", err)
	}
	if err = s.NewOverlay(ctx, over, base.Digest, 0); !errors.Is(err, fs.ErrExist) {
		t.Errorf("overlay over a file that is there: %v", err)
	}
	if err = s.NewOverlay(ctx, filepath.Join(dir, "x"), base.Digest, 512); err == nil {
		t.Error("an overlay smaller than its layer")
	}
	var nf *NotFoundError
	if err = s.NewOverlay(ctx, filepath.Join(dir, "x"), gone, 0); !errors.As(err, &nf) {
		t.Errorf("overlay over no layer: %v", err)
	}
	for _, d := range []string{gone, "", "../../etc/passwd", base.Digest[:63] + "G"} {
		_, e1 := s.Stat(d)
		_, e2 := s.Read(d)
		if !errors.As(e1, &nf) || !errors.As(e2, &nf) {
			t.Errorf("%q: %v, %v", d, e1, e2)
		}
	}
	if es, _ := os.ReadDir(filepath.Join(s.dir, "tmp")); len(es) > 0 {
		t.Errorf("left in tmp: %v", es)
	}
}

func TestImportOfOddSizesAndHoles(t *testing.T) {
	s := newStore(t)
	odd := noise(5, 100_001)
	want := append(slices.Clone(odd), make([]byte, 511-100_000%512)...)
	checkLayerFile(t, s, importRaw(t, s, odd), want)

	p := filepath.Join(t.TempDir(), "sparse")
	f, err := os.Create(p)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(1 << 40); err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt([]byte("here"), 1<<39); err != nil {
		t.Fatal(err)
	}
	l, err := s.Import(t.Context(), p, "raw")
	if err != nil {
		t.Fatal(err)
	}
	if l.Size != 1<<40 || l.Bytes > 10*clusterSize {
		t.Errorf("%+v", l)
	}
	d, err := s.Read(l.Digest)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if got := collect(t, d.Blocks(BlockSize)); !slices.Equal(got, []int64{1 << 39 / BlockSize}) {
		t.Errorf("blocks %v", got)
	}
	b := make([]byte, 4)
	if _, err := d.ReadAt(b, 1<<39); err != nil || string(b) != "here" {
		t.Errorf("%q %v", b, err)
	}
	if n, err := d.ReadAt(b, 1<<40-2); n != 2 || !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %d %v", n, err)
	}
}

func TestManyAtOnce(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	data := noise(6, 4<<20)
	raw := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(raw, data, 0o600); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	got := make([]Layer, 6)
	for i := range got {
		wg.Go(func() {
			s, err := Open(dir) // as processes of their own
			if err != nil {
				t.Error(err)
				return
			}
			if got[i], err = s.Import(t.Context(), raw, "raw"); err != nil {
				t.Error(err)
			}
			if err := s.Verify(t.Context(), got[i].Digest); err != nil {
				t.Error(err)
			}
			if _, _, err := s.Sweep(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	for _, l := range got {
		if l != got[0] {
			t.Errorf("%+v and %+v", l, got[0])
		}
	}
	s, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	all, err := s.List(t.Context())
	if err != nil || len(all) != 1 || all[0] != got[0] {
		t.Errorf("%v %v", all, err)
	}
}

func TestCancelledImportLeavesNothing(t *testing.T) {
	s := newStore(t)
	boom := errors.New("boom")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(boom)
	p := filepath.Join(t.TempDir(), "raw")
	if err := os.WriteFile(p, noise(7, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Import(ctx, p, "raw"); !errors.Is(err, boom) {
		t.Errorf("%v", err)
	}
	if all, err := s.List(t.Context()); len(all) > 0 || err != nil {
		t.Error(all, err)
	}
}
