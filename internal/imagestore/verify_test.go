package imagestore

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// threeLayers returns the digests of a chain, the top one first.
func threeLayers(t *testing.T, s *Store) [3]Layer {
	t.Helper()
	// The end within a cluster has its own rule.
	base := importRaw(t, s, noise(8, 1<<20+4096))
	p := overlay(t, s, base.Digest, 0)
	edit(t, p, "write -P 3 64k 64k", "write -z 256k 64k", "write -P 4 1M 4k")
	mid := capture(t, s, p)
	p = overlay(t, s, mid.Digest, 0)
	edit(t, p, "write -P 5 128k 64k")
	return [3]Layer{capture(t, s, p), mid, base}
}

// change writes to a layer's file, which is read-only to keep others from it.
func change(t *testing.T, path string, do func(f *os.File) error) {
	t.Helper()
	if err := os.Chmod(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(do(f), f.Close()); err != nil {
		t.Fatal(err)
	}
}

func flip(off int64) func(*os.File) error {
	return func(f *os.File) error {
		b := make([]byte, 1)
		if _, err := f.ReadAt(b, off); err != nil {
			return err
		}
		b[0] ^= 0x10
		_, err := f.WriteAt(b, off)
		return err
	}
}

func TestVerifyFindsEveryChangedByte(t *testing.T) {
	s := newStore(t)
	mid := threeLayers(t, s)[1]
	path := s.Path(mid.Digest)
	if err := s.Verify(t.Context(), mid.Digest); err != nil {
		t.Fatal(err)
	}
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cases := map[string]func(*os.File) error{
		"cut by a byte":    func(f *os.File) error { return f.Truncate(mid.Bytes - 1) },
		"cut by a cluster": func(f *os.File) error { return f.Truncate(mid.Bytes - clusterSize) },
		"emptied":          func(f *os.File) error { return f.Truncate(0) },
		"longer":           func(f *os.File) error { _, err := f.WriteAt([]byte{1}, mid.Bytes+5); return err },
	}
	// Header, names, unused header; both data clusters, the second one past the
	// disk's end too; second- and first-level table, reference block and table.
	for name, off := range map[string]int64{
		"magic": 0, "size": 30, "backing name": 130, "unused header": 60000,
		"data": clusterSize + 77, "last data": 2*clusterSize + 4000, "past the end": 2*clusterSize + 4097,
		"mapping": 3*clusterSize + 15, "unused mapping": 4*clusterSize - 1, "first level": 4*clusterSize + 7,
		"reference count": 5*clusterSize + 1, "reference table": 6*clusterSize + 7, "last byte": mid.Bytes - 1,
	} {
		cases[name] = flip(off)
	}
	for name, do := range cases {
		t.Run(name, func(t *testing.T) {
			change(t, path, do)
			defer change(t, path, func(f *os.File) error {
				if err := f.Truncate(int64(len(whole))); err != nil {
					return err
				}
				_, err := f.WriteAt(whole, 0)
				return err
			})
			var de *DamageError
			if err := s.Verify(t.Context(), mid.Digest); !errors.As(err, &de) || de.Digest != mid.Digest {
				t.Errorf("error %v", err)
			}
		})
	}
	if err := s.Verify(t.Context(), mid.Digest); err != nil {
		t.Errorf("restored: %v", err)
	}
}

func TestVerifyLooksAtTheWholeChain(t *testing.T) {
	s := newStore(t)
	l := threeLayers(t, s)
	change(t, s.Path(l[2].Digest), flip(5*clusterSize))
	var de *DamageError
	for _, x := range l {
		if err := s.Verify(t.Context(), x.Digest); !errors.As(err, &de) || de.Digest != l[2].Digest {
			t.Errorf("error %v", err)
		}
	}
	// To import what was lost heals it.
	healed := importRaw(t, s, noise(8, 1<<20+4096))
	if healed != l[2] {
		t.Errorf("%+v, was %+v", healed, l[2])
	}
	if err := s.Verify(t.Context(), l[0].Digest); err != nil {
		t.Errorf("healed: %v", err)
	}
	if err := os.Remove(s.Path(l[1].Digest)); err != nil {
		t.Fatal(err)
	}
	var nf *NotFoundError
	if err := s.Verify(t.Context(), l[0].Digest); !errors.As(err, &nf) || nf.Name != l[1].Digest {
		t.Errorf("error %v", err)
	}
	if err := s.Verify(t.Context(), l[2].Digest); err != nil {
		t.Error(err)
	}
}

// TestVerifiedIsRemembered: what a faulty disk changes below the file system
// cannot be made here; instead a file is changed and the memory is made to say
// that it is the verified one.
func TestVerifiedIsRemembered(t *testing.T) {
	s := newStore(t)
	l := importRaw(t, s, noise(9, 1<<20))
	change(t, s.Path(l.Digest), flip(2*clusterSize))
	s.markVerified(l.Digest)
	again, err := Open(s.dir) // as another process
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Verify(t.Context(), l.Digest); err != nil {
		t.Errorf("a remembered layer was read: %v", err)
	}
	var de *DamageError
	if err := again.Scrub(t.Context(), l.Digest); !errors.As(err, &de) {
		t.Errorf("scrub: %v", err)
	}
	if err := again.Verify(t.Context(), l.Digest); !errors.As(err, &de) {
		t.Errorf("after the scrub: %v", err)
	}
	// A torn memory is no memory.
	if err := os.WriteFile(again.verifiedPath(l.Digest), []byte("1 2"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := again.Verify(t.Context(), l.Digest); !errors.As(err, &de) {
		t.Errorf("torn: %v", err)
	}
}

// TestADigestCannotBeClaimed gives a sound layer another's name.
func TestADigestCannotBeClaimed(t *testing.T) {
	s := newStore(t)
	a, b := importRaw(t, s, noise(10, 1<<20)), importRaw(t, s, noise(11, 1<<20))
	if err := os.Rename(s.Path(a.Digest), s.Path(b.Digest)); err != nil {
		t.Fatal(err)
	}
	var de *DamageError
	if err := s.Verify(t.Context(), b.Digest); !errors.As(err, &de) {
		t.Errorf("error %v", err)
	}
	if _, err := s.Stat(a.Digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("error %v", err)
	}
}

func TestStoreMayMove(t *testing.T) {
	dir := t.TempDir()
	s, err := Open(filepath.Join(dir, "a", "store"))
	if err != nil {
		t.Fatal(err)
	}
	base := importRaw(t, s, noise(12, 1<<20))
	if err := os.MkdirAll(filepath.Join(dir, "a", "disks", "i-1"), 0o700); err != nil {
		t.Fatal(err)
	}
	p := filepath.Join(dir, "a", "disks", "i-1", "root.qcow2")
	if err := s.NewOverlay(t.Context(), p, base.Digest, 0); err != nil {
		t.Fatal(err)
	}
	edit(t, p, "write -P 1 0 64k")
	if err := os.Rename(filepath.Join(dir, "a"), filepath.Join(dir, "b:c")); err != nil {
		t.Fatal(err)
	}
	if s, err = Open(filepath.Join(dir, "b:c", "store")); err != nil {
		t.Fatal(err)
	}
	l := capture(t, s, filepath.Join(dir, "b:c", "disks", "i-1", "root.qcow2"))
	if l.Parent != base.Digest {
		t.Errorf("%+v", l)
	}
	qemu(t, "qemu-img", "check", "-q", filepath.Join(dir, "b:c", "disks", "i-1", "root.qcow2"))
}
