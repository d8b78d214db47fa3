package ebsdirect

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/awsaccess"
)

// A patch is n bytes of noise at an offset.
type patch struct{ off, n int64 }

// rawFile writes a sparse file of size bytes.
func rawFile(t testing.TB, path string, size int64, seed uint64, patches ...patch) []byte {
	t.Helper()
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	src := rand.NewChaCha8([32]byte{byte(seed)})
	all := make([]byte, size)
	for _, p := range patches {
		b := all[p.off : p.off+p.n]
		_, _ = src.Read(b)
		if _, err := f.WriteAt(b, p.off); err != nil {
			t.Fatal(err)
		}
	}
	return all
}

func mustRaw(t testing.TB, path string) *Raw {
	t.Helper()
	d, err := OpenRaw(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

const blk = int64(BlockSize)

func TestPublish(t *testing.T) {
	s, x := newStand(t)
	path := filepath.Join(t.TempDir(), "d.raw")
	// An end within a block, blocks touched at their edges, written zeros.
	size := 40*blk + 1000
	want := rawFile(t, path, size, 1, patch{0, 10}, patch{3*blk - 5, 10}, patch{20 * blk, 4 * blk}, patch{size - 7, 7})
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteAt(make([]byte, blk), 30*blk); err != nil {
		t.Fatal(err)
	}
	f.Close()
	var done, total int64
	r, err := x.Publish(t.Context(), Upload{
		Disk: mustRaw(t, path), Token: "t", Tags: map[string]string{"Name": "n"},
		Progress: func(d, t int64) { done, total = max(done, d), t },
	})
	if err != nil {
		t.Fatal(err)
	}
	sn := s.snaps[r.SnapshotID]
	_, puts := s.counts()
	if !bytes.Equal(s.content(r.SnapshotID, size), want) || sn.state != "completed" || sn.size != 1 || sn.tags["Name"] != "n" {
		t.Errorf("snapshot: %v %d GiB %v", sn.state, sn.size, sn.tags)
	}
	// 0, 2, 3, 20..23, 40: nothing else is sent, though block 30 is allocated.
	if r.Sent != 8 || puts != 8 || len(r.Manifest) != 8 || done != total {
		t.Errorf("%d blocks sent, %d requests, %d of %d bytes told", r.Sent, puts, done, total)
	}
}

func TestPublishParent(t *testing.T) {
	s, x := newStand(t)
	dir := t.TempDir()
	old, changed := filepath.Join(dir, "old.raw"), filepath.Join(dir, "new.raw")
	size := 32 * blk
	rawFile(t, old, size, 1, patch{0, 2 * blk}, patch{10 * blk, 3 * blk})
	base, err := x.Publish(t.Context(), Upload{Disk: mustRaw(t, old), Token: "old"})
	if err != nil {
		t.Fatal(err)
	}
	// The same noise at the start; block 10..12 gone; 20 new.
	want := rawFile(t, changed, size, 1, patch{0, 2 * blk}, patch{20 * blk, blk})
	s.counts()
	u := Upload{Disk: mustRaw(t, changed), Token: "new", Parent: base.SnapshotID, ParentManifest: base.Manifest}
	r, err := x.Publish(t.Context(), u)
	if err != nil {
		t.Fatal(err)
	}
	_, puts := s.counts()
	if puts != 4 || !bytes.Equal(s.content(r.SnapshotID, size), want) || len(r.Manifest) != 3 {
		t.Errorf("%d requests (three blocks became zero, one is new), manifest of %d", puts, len(r.Manifest))
	}
	u.Encrypted = true
	if _, err := x.Publish(t.Context(), u); err == nil || !strings.Contains(err.Error(), "exclude") {
		t.Error(err)
	}
}

func TestPublishFaults(t *testing.T) {
	path := filepath.Join(t.TempDir(), "d.raw")
	size := 12 * blk
	want := rawFile(t, path, size, 1, patch{0, size})
	for name, fault := range map[string]func(what string, n int) int{
		"refused once": func(what string, n int) int {
			if n == 0 && (what == "PUT 3" || what == "POST snapshots" || what == "complete") {
				return 503
			}
			return 0
		},
		"reply lost": func(what string, n int) int {
			if n == 0 && (what == "PUT 3" || what == "POST snapshots" || what == "complete") {
				return -500
			}
			return 0
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, x := newStand(t)
			s.misbehave(fault)
			r, err := x.Publish(t.Context(), Upload{Disk: mustRaw(t, path), Token: "t"})
			if err != nil {
				t.Fatal(err)
			}
			if snaps, _ := s.counts(); snaps != 1 || !bytes.Equal(s.content(r.SnapshotID, size), want) {
				t.Errorf("%d snapshots", snaps)
			}
		})
	}
	t.Run("for good", func(t *testing.T) {
		s, x := newStand(t)
		s.misbehave(func(what string, _ int) int {
			if what == "PUT 3" {
				return 403
			}
			return 0
		})
		_, err := x.Publish(t.Context(), Upload{Disk: mustRaw(t, path), Token: "t"})
		var se *SnapshotError
		if !errors.As(err, &se) || !strings.Contains(err.Error(), "block 3") {
			t.Errorf("error %v", err)
		}
		if snaps, _ := s.counts(); snaps != 0 {
			t.Error("the snapshot is left behind")
		}
	})
}

// TestPublishResumes ends an upload at every request in turn and goes on with
// a new record of the same file, as another process would.
func TestPublishResumes(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "d.raw")
	size := 6 * blk
	want := rawFile(t, path, size, 1, patch{0, size})
	for stop := range 12 {
		t.Run(fmt.Sprint(stop), func(t *testing.T) {
			s, x := newStand(t)
			x.Workers = 2
			ctx, cancel := context.WithCancelCause(t.Context())
			killed := errors.New("killed")
			n := 0
			s.misbehave(func(string, int) int {
				if n++; n == stop+1 {
					cancel(killed)
				}
				return 0
			})
			file := filepath.Join(t.TempDir(), "record")
			publish := func(ctx context.Context) (Result, error) {
				rec, err := OpenRecord(file)
				if err != nil {
					t.Fatal(err)
				}
				defer rec.Close()
				return x.Publish(ctx, Upload{Disk: mustRaw(t, path), Token: "t", Record: rec})
			}
			if _, err := publish(ctx); err != nil && !errors.Is(err, killed) {
				t.Fatalf("%v, want the cause", err)
			}
			r, err := publish(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			snaps, puts := s.counts()
			if snaps != 1 || !bytes.Equal(s.content(r.SnapshotID, size), want) {
				t.Errorf("%d snapshots", snaps)
			}
			// Nothing is sent twice but what was under way.
			if puts > 6+2 {
				t.Errorf("%d blocks sent", puts)
			}
		})
	}
}

func TestPublishChanged(t *testing.T) {
	s, x := newStand(t)
	dir := t.TempDir()
	path, size := filepath.Join(dir, "d.raw"), 4*blk
	rawFile(t, path, size, 1, patch{0, 3 * blk})
	publish := func() Result {
		t.Helper()
		rec, err := OpenRecord(filepath.Join(dir, "record"))
		if err != nil {
			t.Fatal(err)
		}
		defer rec.Close()
		r, err := x.Publish(t.Context(), Upload{Disk: mustRaw(t, path), Token: "t", Record: rec})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := publish()
	s.counts()
	again := publish()
	if _, puts := s.counts(); again.SnapshotID != first.SnapshotID || puts != 0 || again.Sent != 3 {
		t.Errorf("published again: %+v", again)
	}
	want := rawFile(t, path, size, 2, patch{blk, 2 * blk})
	second := publish()
	if second.SnapshotID == first.SnapshotID || !bytes.Equal(s.content(second.SnapshotID, size), want) {
		t.Error("a changed disk got the old snapshot")
	}
	// The record is lost: its token gives a snapshot that is over.
	if err := os.Remove(filepath.Join(dir, "record")); err != nil {
		t.Fatal(err)
	}
	if third := publish(); !bytes.Equal(s.content(third.SnapshotID, size), want) || third.SnapshotID == second.SnapshotID {
		t.Error("without the record")
	}
}

func TestCheck(t *testing.T) {
	_, x := newStand(t)
	path := filepath.Join(t.TempDir(), "d.raw")
	rawFile(t, path, 0, 1)
	if _, err := x.Publish(t.Context(), Upload{Disk: mustRaw(t, path), Token: "t"}); err == nil {
		t.Error("an empty disk")
	}
	if _, err := OpenRaw(t.TempDir()); err == nil {
		t.Error("a folder")
	}
}

func TestRecord(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "record")
	r, err := OpenRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	if h, m, err := r.Load(); err != nil || h.SnapshotID != "" || len(m) != 0 {
		t.Fatal(h, m, err)
	}
	if err := r.Sent(1, Digest{}); err == nil {
		t.Error("a block before the start")
	}
	var busy *BusyError
	if _, err := OpenRecord(path); !errors.As(err, &busy) {
		t.Errorf("opened twice: %v", err)
	}
	head := Header{Token: "t", SnapshotID: "snap-1", Size: 5}
	if err := errors.Join(r.Start(head), r.Sent(7, Digest{1}), r.Sent(9, Digest{2}), r.Close()); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head.Format = recordFormat
	for cut := 0; cut <= len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		r, err := OpenRecord(path)
		if err != nil {
			t.Fatal(err)
		}
		h, m, err := r.Load()
		if err != nil {
			t.Fatalf("cut at %d: %v", cut, err)
		}
		left := (len(whole) - cut + entrySize - 1) / entrySize
		if left <= 2 && (h != head || len(m) != 2-left) || left > 3 && h != (Header{}) {
			t.Fatalf("cut at %d: %+v %v", cut, h, m)
		}
		if h.SnapshotID != "" {
			// It goes on after what is whole.
			if err := r.Sent(11, Digest{3}); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		if data, _ := os.ReadFile(path); h.SnapshotID != "" {
			if _, n, _, err := decodeRecord(data); err != nil || n[11] != (Digest{3}) || len(n) != len(m)+1 {
				t.Fatalf("cut at %d, then written: %v %v", cut, n, err)
			}
		}
	}
	r, err = OpenRecord(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.Remove(); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func FuzzDecodeRecord(f *testing.F) {
	f.Add([]byte("{\"format\":1,\"snapshot\":\"s\"}\n" + strings.Repeat("x", 90)))
	f.Add([]byte("{}\n"))
	f.Add([]byte("{"))
	f.Fuzz(func(t *testing.T, data []byte) {
		_, m, n, err := decodeRecord(data)
		if err == nil && (n > len(data) || len(m)*entrySize > len(data)) {
			t.Errorf("%d entries in %d of %d bytes", len(m), n, len(data))
		}
	})
}

func TestBlocksOf(t *testing.T) {
	got := blocksOf([]Extent{{0, 1}, {1, 2}, {blk - 1, 2}, {5 * blk, 0}, {7 * blk, 9 * blk}}, 9*blk+1)
	if want := []int32{0, 1, 7, 8, 9}; fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%v, want %v", got, want)
	}
}

func TestPace(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, p := range []*Pace{nil, NewPace(0), NewPace(1)} {
		if err := p.wait(ctx); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if p := NewPace(1e6); p.wait(t.Context()) != nil {
		t.Error("waits for ever")
	}
}

func BenchmarkPublish(b *testing.B) {
	s, x := newStand(b)
	s.keep = false
	path := filepath.Join(b.TempDir(), "d.raw")
	const data = 512 << 20
	rawFile(b, path, data, 1, patch{0, data})
	if err := os.Truncate(path, 4<<30); err != nil {
		b.Fatal(err)
	}
	d := mustRaw(b, path)
	b.SetBytes(data)
	for i := 0; b.Loop(); i++ {
		if _, err := x.Publish(b.Context(), Upload{Disk: d, Token: fmt.Sprint(i)}); err != nil {
			b.Fatal(err)
		}
	}
}

var _ Wait = (*awsaccess.Session)(nil).Wait
