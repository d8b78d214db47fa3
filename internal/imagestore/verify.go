package imagestore

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
)

// A fileID changes when a file is replaced or written to. The change time is
// in it because, unlike the modification time, nobody can set it.
type fileID struct {
	dev, ino     uint64
	size         int64
	mtime, ctime unix.Timespec
}

func identify(path string) (fileID, error) {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fileID{}, &os.PathError{Op: "stat", Path: path, Err: err}
	}
	return fileID{uint64(st.Dev), st.Ino, st.Size, st.Mtim, st.Ctim}, nil
}

func (id fileID) String() string {
	return fmt.Sprintf("1 %d %d %d %d.%09d %d.%09d\n", id.dev, id.ino, id.size,
		id.mtime.Sec, id.mtime.Nsec, id.ctime.Sec, id.ctime.Nsec)
}

// Verify checks the files of digest and of every layer below it against their
// digests. It fails with *[DamageError] or *[NotFoundError]. A file that was
// verified before, by any process, and was not touched since is not read
// again.
func (s *Store) Verify(ctx context.Context, digest string) error {
	return s.verify(ctx, digest, true)
}

// Scrub is [Store.Verify] that reads every file: it finds what a faulty disk
// has changed without the file system's knowledge.
func (s *Store) Scrub(ctx context.Context, digest string) error {
	return s.verify(ctx, digest, false)
}

func (s *Store) verify(ctx context.Context, digest string, cached bool) error {
	chain, err := s.chain(digest)
	if err != nil {
		return err
	}
	for _, l := range chain {
		if err := s.verifyLayer(ctx, l.Digest, cached); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) verifyLayer(ctx context.Context, digest string, cached bool) error {
	f, size, err := s.openLayer(digest)
	if err != nil {
		return err
	}
	defer f.Close()
	id, err := identify(f.Name())
	if err != nil {
		return fmt.Errorf("verify layer: %w", err)
	}
	if cached && s.wasVerified(digest, id) {
		return nil
	}
	err = checkLayer(ctx, f, size, digest)
	if err != nil {
		s.forgetVerified(digest)
		return err
	}
	// What was read is what is there now, or nothing is remembered.
	if again, err := identify(f.Name()); err == nil && again == id {
		s.remember(digest, id)
	}
	return nil
}

// checkLayer reads a layer's file, computes the digest of what it says, and
// compares its tables with what they must be.
func checkLayer(ctx context.Context, f *os.File, size int64, digest string) error {
	damaged := func(format string, args ...any) error {
		return &DamageError{f.Name(), digest, fmt.Sprintf(format, args...)}
	}
	m, err := qcow2.Open(f, size)
	if err != nil {
		return imageError(f.Name(), digest, err)
	}
	l, err := layerOf(f.Name(), digest, size, m.Header)
	if err != nil {
		return err
	}
	layout, err := qcow2.NewLayout(m.Size, m.Backing)
	if err != nil {
		return damaged("%v", err)
	}
	image := layerImage{m, f.Name(), digest}
	d := newDescriber(l.Parent, l.Size)
	err = inOrder(ctx, build{full: stack{image}, top: stack{image}, below: stack{anything{}}, size: l.Size}.spans(), newScratch,
		func(sp span, w *scratch) error {
			err := w.loadOwn(sp, image)
			w.hash(sp)
			return err
		},
		func(sp span, w *scratch) error {
			w.describe(sp, d, layout)
			return nil
		},
		func(sp span, w *scratch) error { return w.checkTail(sp, f, l) })
	if err != nil {
		return err
	}
	// The layout says where each cluster has to be, and the tables that it is
	// there; a file of the right clusters in other places does not match.
	if got := d.digest(); got != digest {
		return damaged("its content has the digest %s", got)
	}
	ok, err := layout.Matches(f, size)
	if err != nil {
		return fmt.Errorf("verify layer: %w", err)
	}
	if !ok {
		return damaged("its tables are not those of its content")
	}
	return nil
}

// anything is an image below of which nothing is known: no zero cluster over
// it is left out.
type anything struct{}

func (anything) diskSize() int64                         { return 1 << 62 }
func (anything) ReadAt(p []byte, _ int64) (int, error)   { return len(p), nil }
func (anything) Extent(int64) (qcow2.Kind, int64, error) { return qcow2.Data, 1 << 62, nil }

// loadOwn takes what image itself says of sp.
func (w *scratch) loadOwn(sp span, image layerImage) error {
	clear(w.now[:sp.len()])
	inside := min(sp.len(), image.Size-sp.off())
	if _, err := image.ReadAt(w.now[:inside], sp.off()); err != nil {
		return err
	}
	for i := range sp.n {
		kind, _, err := image.Extent((sp.first + i) * clusterSize)
		if err != nil {
			return err
		}
		w.keep[i] = keep(kind)
	}
	return nil
}

// checkTail checks that what the last cluster has past the disk's end, which
// nobody reads, is zero as it was written.
func (w *scratch) checkTail(sp span, f *os.File, l Layer) error {
	tail, last := l.Size%clusterSize, sp.n-1
	if tail == 0 || sp.off()+sp.len() < l.Size || w.keep[last] != keepData {
		return nil
	}
	rest := w.was[:clusterSize-tail]
	if _, err := f.ReadAt(rest, w.host[last]+tail); err != nil {
		return fmt.Errorf("verify layer: %w", err)
	}
	if !bytes.Equal(rest, zeroCluster[tail:]) {
		return &DamageError{f.Name(), l.Digest, "there is something past the disk's end"}
	}
	return nil
}

// wasVerified looks in this process's memory, then in the store.
func (s *Store) wasVerified(digest string, id fileID) bool {
	s.mu.Lock()
	known := s.verified[digest]
	s.mu.Unlock()
	if known == id {
		return true
	}
	b, err := os.ReadFile(s.verifiedPath(digest))
	if err != nil || string(b) != id.String() {
		return false
	}
	s.mu.Lock()
	s.verified[digest] = id
	s.mu.Unlock()
	return true
}

func (s *Store) verifiedPath(digest string) string { return filepath.Join(s.dir, "verified", digest) }

// remember is best effort: what is forgotten, or torn by a crash, is verified
// again.
func (s *Store) remember(digest string, id fileID) {
	s.mu.Lock()
	s.verified[digest] = id
	s.mu.Unlock()
	_ = os.WriteFile(s.verifiedPath(digest), []byte(id.String()), 0o600)
}

func (s *Store) forgetVerified(digest string) {
	s.mu.Lock()
	delete(s.verified, digest)
	s.mu.Unlock()
	_ = os.Remove(s.verifiedPath(digest))
}

// markVerified remembers a file that was just written from the bytes its
// digest was computed of.
func (s *Store) markVerified(digest string) {
	if id, err := identify(s.Path(digest)); err == nil {
		s.remember(digest, id)
	}
}
