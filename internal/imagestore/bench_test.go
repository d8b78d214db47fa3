package imagestore

import (
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
)

// benchStore puts the store into $IMAGESTORE_BENCH, so that the disk can be
// left out of the figures: IMAGESTORE_BENCH=/dev/shm go test -bench .
func benchStore(b *testing.B) (*Store, string) {
	b.Helper()
	dir, err := os.MkdirTemp(os.Getenv("IMAGESTORE_BENCH"), "imagestore-*")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { os.RemoveAll(dir) })
	s, err := Open(filepath.Join(dir, "store"))
	if err != nil {
		b.Fatal(err)
	}
	return s, dir
}

// bigImage is a raw file of n MiB that is not zero anywhere.
func bigImage(b *testing.B, dir string, n int) string {
	b.Helper()
	p := filepath.Join(dir, "raw"+strconv.Itoa(n))
	f, err := os.Create(p)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	for i := range n {
		if _, err := f.Write(noise(byte(i), 1<<20)); err != nil {
			b.Fatal(err)
		}
	}
	return p
}

func BenchmarkCaptureGiB(b *testing.B) {
	s, dir := benchStore(b)
	over := filepath.Join(dir, "over")
	qemu(b, "qemu-img", "convert", "-O", "qcow2", bigImage(b, dir, 1024), over)
	b.SetBytes(1 << 30)
	var l Layer
	for b.Loop() {
		b.StopTimer()
		if l.Digest != "" {
			if _, err := s.remove(l.Digest); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		var err error
		if l, err = s.Capture(b.Context(), over); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkCaptureUnchangedGiB is the cost of finding that nothing changed.
func BenchmarkCaptureUnchangedGiB(b *testing.B) {
	s, dir := benchStore(b)
	base, err := s.Import(b.Context(), bigImage(b, dir, 1024), "raw")
	if err != nil {
		b.Fatal(err)
	}
	over := filepath.Join(dir, "over")
	qemu(b, "qemu-img", "convert", "-O", "qcow2", filepath.Join(dir, "raw1024"), over)
	qemu(b, "qemu-img", "rebase", "-u", "-b", s.Path(base.Digest), "-F", "qcow2", over)
	b.SetBytes(1 << 30)
	for b.Loop() {
		if l, err := s.Capture(b.Context(), over); err != nil || l != base {
			b.Fatal(l, err)
		}
	}
}

// BenchmarkCapture100MBOf1GiB is the usual case: 100 MB over a base of 1 GiB.
func BenchmarkCapture100MBOf1GiB(b *testing.B) {
	s, dir := benchStore(b)
	base, err := s.Import(b.Context(), bigImage(b, dir, 1024), "raw")
	if err != nil {
		b.Fatal(err)
	}
	over := filepath.Join(dir, "over")
	if err := s.NewOverlay(b.Context(), over, base.Digest, 0); err != nil {
		b.Fatal(err)
	}
	edit(b, over, "write -P 7 100M 100M")
	var l Layer
	for b.Loop() {
		b.StopTimer()
		if l.Digest != "" {
			if _, err := s.remove(l.Digest); err != nil {
				b.Fatal(err)
			}
		}
		b.StartTimer()
		if l, err = s.Capture(b.Context(), over); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(l.Bytes), "layer-B")
}

func BenchmarkScrubGiB(b *testing.B) {
	s, dir := benchStore(b)
	l, err := s.Import(b.Context(), bigImage(b, dir, 1024), "raw")
	if err != nil {
		b.Fatal(err)
	}
	b.SetBytes(1 << 30)
	for b.Loop() {
		if err := s.Scrub(b.Context(), l.Digest); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyRemembered(b *testing.B) {
	s, dir := benchStore(b)
	l, err := s.Import(b.Context(), bigImage(b, dir, 64), "raw")
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := s.Verify(b.Context(), l.Digest); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkReadGiB(b *testing.B) {
	s, dir := benchStore(b)
	l, err := s.Import(b.Context(), bigImage(b, dir, 1024), "raw")
	if err != nil {
		b.Fatal(err)
	}
	d, err := s.Read(l.Digest)
	if err != nil {
		b.Fatal(err)
	}
	defer d.Close()
	buf := make([]byte, BlockSize)
	b.SetBytes(1 << 30)
	for b.Loop() {
		for i := range int64(2048) {
			if _, err := d.ReadAt(buf, i*BlockSize); err != nil {
				b.Fatal(err)
			}
		}
	}
}

// BenchmarkUpload has 16 writers send 1 GiB.
func BenchmarkUpload(b *testing.B) {
	s, _ := benchStore(b)
	block := noise(1, BlockSize)
	b.SetBytes(1 << 30)
	for b.Loop() {
		u := upload(b, s, "u", "", 1<<30)
		var wg sync.WaitGroup
		var next atomic.Int64
		for range 16 {
			wg.Go(func() {
				for i := next.Add(1) - 1; i < 2048; i = next.Add(1) - 1 {
					if err := u.WriteBlock(i, block); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		b.StopTimer()
		if err := u.Abort(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}

// BenchmarkUploadAndCommit is the whole way of 1 GiB into a layer.
func BenchmarkUploadAndCommit(b *testing.B) {
	s, _ := benchStore(b)
	blocks := noise(2, 64*BlockSize)
	b.SetBytes(1 << 30)
	var l Layer
	for b.Loop() {
		u := upload(b, s, "u", "", 1<<30)
		var wg sync.WaitGroup
		var next atomic.Int64
		for range 16 {
			wg.Go(func() {
				for i := next.Add(1) - 1; i < 2048; i = next.Add(1) - 1 {
					at := i % 64 * BlockSize
					if err := u.WriteBlock(i, blocks[at:at+BlockSize]); err != nil {
						b.Error(err)
					}
				}
			})
		}
		wg.Wait()
		var err error
		if l, err = u.Commit(b.Context()); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := u.Abort(); err != nil {
			b.Fatal(err)
		}
		if _, err := s.remove(l.Digest); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
