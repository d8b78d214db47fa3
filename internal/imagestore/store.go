package imagestore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
)

// MaxDepth is the largest number of layers from a base layer to the one on
// top, both counted.
const MaxDepth = 30

// clusterSize is the unit in which layers differ.
const clusterSize = qcow2.ClusterSize

const suffix = ".qcow2"

// A Store is a folder of layers. Its methods are safe for concurrent use, in
// one process and among several.
type Store struct {
	dir string // absolute, no symbolic link in it

	mu       sync.Mutex
	verified map[string]fileID // by digest

	upMu    sync.Mutex         // taken after an upload's own lock, if both
	uploads map[string]*Upload // open ones, by id
}

// A Layer is a disk image in the store.
type Layer struct {
	Digest string // 64 hex digits
	Parent string // digest of the layer below, "" for a base layer
	Size   int64  // bytes the guest sees
	Bytes  int64  // of its own file
	Depth  int    // layers in its chain: 1 for a base layer
}

// Open opens the store in dir, making it when it is not there.
func Open(dir string) (*Store, error) {
	for _, d := range []string{"layers", "tmp", "uploads", "verified"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o700); err != nil {
			return nil, fmt.Errorf("image store: %w", err)
		}
	}
	dir, err := filepath.Abs(dir)
	if err == nil {
		dir, err = filepath.EvalSymlinks(dir)
	}
	if err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	return &Store{dir: dir, verified: map[string]fileID{}, uploads: map[string]*Upload{}}, nil
}

// Path returns the absolute path of a layer's file. QEMU may use it as a
// backing file, and must never write to it.
func (s *Store) Path(digest string) string {
	return filepath.Join(s.dir, "layers", digest+suffix)
}

// validDigest keeps names that come from outside in their folder.
func validDigest(d string) bool {
	if len(d) != 64 {
		return false
	}
	return strings.Trim(d, "0123456789abcdef") == ""
}

// Stat describes a layer, or fails with *[NotFoundError] when it or a layer
// below it is missing.
func (s *Store) Stat(digest string) (Layer, error) {
	chain, err := s.chain(digest)
	if err != nil {
		return Layer{}, err
	}
	return chain[0], nil
}

// chain describes digest and the layers below it.
func (s *Store) chain(digest string) ([]Layer, error) {
	var out []Layer
	for d := digest; d != "" || len(out) == 0; {
		l, err := s.head(d)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
		if len(out) > MaxDepth {
			return nil, &DamageError{s.Path(digest), digest, fmt.Sprintf("more than %d layers below each other", MaxDepth)}
		}
		d = l.Parent
	}
	for i := range out {
		out[i].Depth = len(out) - i
	}
	return out, nil
}

// head describes one layer without its depth.
func (s *Store) head(digest string) (Layer, error) {
	f, size, err := s.openLayer(digest)
	if err != nil {
		return Layer{}, err
	}
	defer f.Close()
	h, err := qcow2.ReadHeader(f, size)
	if err != nil {
		return Layer{}, imageError(f.Name(), digest, err)
	}
	return layerOf(f.Name(), digest, size, h)
}

// layerOf checks that h is the header of a layer.
func layerOf(path, digest string, size int64, h qcow2.Header) (Layer, error) {
	l := Layer{Digest: digest, Size: h.Size, Bytes: size}
	if h.Backing != "" {
		parent, ok := strings.CutSuffix(h.Backing, suffix)
		if !ok || !validDigest(parent) || h.BackingFormat != "qcow2" {
			return l, &DamageError{path, digest, fmt.Sprintf("it is over %q, which is no layer", h.Backing)}
		}
		l.Parent = parent
	}
	if h.ClusterBits != qcow2.ClusterBits || h.Version != 3 {
		return l, &DamageError{path, digest, "it does not have a layer's form"}
	}
	return l, nil
}

func (s *Store) openLayer(digest string) (*os.File, int64, error) {
	if !validDigest(digest) {
		return nil, 0, &NotFoundError{"layer", digest}
	}
	f, err := os.Open(s.Path(digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, &NotFoundError{"layer", digest}
	}
	if err != nil {
		return nil, 0, fmt.Errorf("image layer: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		_ = f.Close()
		return nil, 0, fmt.Errorf("image layer: %w", err)
	}
	return f, st.Size(), nil
}

// List returns the layers in the store in the order of their digests. Layers
// that cannot be described (damaged, or over a missing one) are left out and
// reported in err beside the others.
func (s *Store) List(ctx context.Context) ([]Layer, error) {
	names, err := s.digests()
	if err != nil {
		return nil, err
	}
	var out []Layer
	var errs []error
	for _, d := range names {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		l, err := s.Stat(d)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, l)
	}
	return out, errors.Join(errs...)
}

func (s *Store) digests() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(s.dir, "layers"))
	if err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	var out []string
	for _, e := range entries {
		if d, ok := strings.CutSuffix(e.Name(), suffix); ok && validDigest(d) {
			out = append(out, d)
		}
	}
	return out, nil
}
