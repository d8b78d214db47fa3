package imagestore

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
)

func TestUnchangedOverlayIsItsParent(t *testing.T) {
	s := newStore(t)
	base := importRaw(t, s, append(bytes.Repeat([]byte{5}, 1<<20), make([]byte, 1<<20)...))
	p := overlay(t, s, base.Digest, 0)
	if l := capture(t, s, p); l != base {
		t.Errorf("untouched: %+v", l)
	}
	edit(t, p, "write -P 5 0 128k", "write -P 0 1M 64k", "write -z 1536k 64k")
	if l := capture(t, s, p); l != base {
		t.Errorf("same bytes written: %+v", l)
	}
	if l := capture(t, s, s.Path(base.Digest)); l != base {
		t.Errorf("a layer itself: %+v", l)
	}
	grown := overlay(t, s, base.Digest, 3<<20)
	l := capture(t, s, grown)
	if l == base || l.Size != 3<<20 || l.Parent != base.Digest {
		t.Errorf("grown: %+v", l)
	}
}

// TestSnapshotsOfOneDisk: the disk stays over its base, each snapshot is over
// the one before and holds what changed since.
func TestSnapshotsOfOneDisk(t *testing.T) {
	s := newStore(t)
	want := noise(13, 4<<20)
	base := importRaw(t, s, want)
	p := overlay(t, s, base.Digest, 5<<20)
	want = append(want, make([]byte, 1<<20)...)
	edit(t, p, "write -P 1 0 1M", "write -P 2 4M 64k")
	copy(want, bytes.Repeat([]byte{1}, 1<<20))
	copy(want[4<<20:], bytes.Repeat([]byte{2}, 64<<10))
	first := capture(t, s, p)
	original := content(t, s, base.Digest)[512<<10:][:64<<10]

	back := filepath.Join(t.TempDir(), "back") // one cluster as in the base again
	if err := os.WriteFile(back, original, 0o600); err != nil {
		t.Fatal(err)
	}
	edit(t, p, "write -P 3 2M 64k", "write -z 4M 64k", "write -s "+back+" 512k 64k")
	copy(want[2<<20:], bytes.Repeat([]byte{3}, 64<<10))
	clear(want[4<<20:])
	copy(want[512<<10:], original)
	second, err := s.CaptureOn(t.Context(), p, first.Digest)
	if err != nil {
		t.Fatal(err)
	}
	if second.Parent != first.Digest || second.Bytes > 7*clusterSize {
		t.Errorf("%+v", second)
	}
	checkLayerFile(t, s, second, want)
	checkDiff(t, s, second, first, want)
	if same, err := s.CaptureOn(t.Context(), p, second.Digest); err != nil || same != second {
		t.Errorf("%+v %v", same, err)
	}
	// Back to the first one's state, over the second: from an overlay that
	// knows nothing of it.
	undone, err := s.CaptureOn(t.Context(), overlay(t, s, base.Digest, 5<<20), second.Digest)
	if err != nil || undone.Parent != second.Digest {
		t.Fatal(undone, err)
	}
	checkLayerFile(t, s, undone, append(content(t, s, base.Digest), make([]byte, 1<<20)...))
	// A layer over another parent, and over nothing.
	flat, err := s.CaptureOn(t.Context(), s.Path(second.Digest), "")
	if err != nil || flat.Parent != "" {
		t.Fatal(flat, err)
	}
	checkLayerFile(t, s, flat, want)
}

// TestQEMULikesItsOverlay: what NewOverlay makes is written to, grown and
// snapshotted by QEMU.
func TestQEMULikesItsOverlay(t *testing.T) {
	s := newStore(t)
	base := importRaw(t, s, noise(14, 1<<20))
	for _, parent := range []string{base.Digest, ""} {
		p := overlay(t, s, parent, 600<<20)
		edit(t, p, "write -P 1 100k 300k", "write -P 2 550M 2M", "discard 551M 64k")
		qemu(t, "qemu-img", "snapshot", "-c", "inner", p)
		edit(t, p, "write -P 3 0 1M", "write -c -P 4 300M 64k")
		qemu(t, "qemu-img", "resize", "-q", p, "3G")
		edit(t, p, "write -P 5 2G 64k")
		if out := qemu(t, "qemu-img", "check", p); !strings.Contains(out, "No errors") {
			t.Error(out)
		}
		l := capture(t, s, p)
		if l.Parent != parent || l.Size != 3<<30 {
			t.Errorf("%+v", l)
		}
		qemu(t, "qemu-img", "compare", "-f", "qcow2", "-F", "qcow2", p, s.Path(l.Digest))
	}
}

// TestOverlaysOverOverlays: the chain of a disk may have more files above the
// layer, as external snapshots make them, and a dirty one.
func TestOverlaysOverOverlays(t *testing.T) {
	s := newStore(t)
	base := importRaw(t, s, noise(2, 1<<20))
	want := content(t, s, base.Digest)
	low := overlay(t, s, base.Digest, 0)
	edit(t, low, "write -P 1 0 100k")
	copy(want, bytes.Repeat([]byte{1}, 100<<10))
	dir := filepath.Dir(low)
	mid, top := filepath.Join(dir, "mid"), filepath.Join(dir, "top")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", "-b", "disk.qcow2", "-F", "qcow2", mid)
	// The abort leaves the dirty bit, and the tables as they were flushed.
	crash := exec.CommandContext(t.Context(), "qemu-io", "-f", "qcow2", "-c", "write -P 2 200k 64k", "-c", "flush", "-c", "abort", mid)
	crash.Dir = dir // a core file goes there
	_ = crash.Run()
	copy(want[200<<10:], bytes.Repeat([]byte{2}, 64<<10))
	if f, err := os.Open(mid); err != nil {
		t.Fatal(err)
	} else if st, _ := f.Stat(); true {
		h, err := qcow2.ReadHeader(f, st.Size())
		if err != nil || !h.Dirty {
			t.Fatalf("the test's image is not dirty: %+v %v", h, err)
		}
		f.Close()
	}
	qemu(t, "qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", mid, "-F", "qcow2", top, "1M")
	l := capture(t, s, top)
	if l.Parent != base.Digest {
		t.Errorf("%+v", l)
	}
	checkLayerFile(t, s, l, want)

	// A shorter file between: what is past its end is zero, not the layer's.
	short, long := filepath.Join(dir, "short"), filepath.Join(dir, "long")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", s.Path(base.Digest), "-F", "qcow2", short, "512k")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", short, "-F", "qcow2", long, "1M")
	cut := content(t, s, base.Digest)
	clear(cut[512<<10:])
	l = capture(t, s, long)
	if l.Parent != base.Digest {
		t.Errorf("%+v", l)
	}
	checkLayerFile(t, s, l, cut)

	// Over nothing of the store.
	raw := filepath.Join(dir, "raw")
	if err := os.WriteFile(raw, want, 0o600); err != nil {
		t.Fatal(err)
	}
	alone := filepath.Join(dir, "alone")
	qemu(t, "qemu-img", "create", "-q", "-f", "qcow2", "-b", raw, "-F", "raw", alone)
	l = capture(t, s, alone)
	if l.Parent != "" {
		t.Errorf("%+v", l)
	}
	checkLayerFile(t, s, l, want)
}

func TestDepthIsBounded(t *testing.T) {
	if testing.Short() {
		t.Skip("writes some thirty layers")
	}
	s := newStore(t)
	want := noise(4, 3<<20)
	l := importRaw(t, s, want)
	seen := map[int]bool{}
	for i := range MaxDepth + 10 {
		p := overlay(t, s, l.Digest, 0)
		off := (i * 7 % 48) * clusterSize
		edit(t, p, fmt.Sprintf("write -P %d %d 64k", i+1, off))
		copy(want[off:], bytes.Repeat([]byte{byte(i + 1)}, clusterSize))
		before := l
		l = capture(t, s, p)
		if l.Depth > MaxDepth {
			t.Fatalf("depth %d", l.Depth)
		}
		seen[l.Depth] = true
		if before.Depth == MaxDepth {
			checkDiff(t, s, l, before, want)
			if same := capture(t, s, overlay(t, s, before.Digest, 0)); same != before {
				t.Errorf("unchanged at the bound: %+v", same)
			}
		}
	}
	if !seen[MaxDepth] || l.Depth >= MaxDepth {
		t.Errorf("the bound was not met: %v, now %d", seen, l.Depth)
	}
	checkLayerFile(t, s, l, want)
}
