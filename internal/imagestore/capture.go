package imagestore

import (
	"context"
	"errors"
	"fmt"
	"os"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
)

// Capture makes a layer of what the qcow2 overlay at path shows now, over the
// layer its backing files end in (or over nothing). Only clusters whose bytes
// differ from that layer are kept. An overlay that changes nothing gives the
// layer it is over. The overlay is only read; of a running guest the caller
// has seen to it that the file is complete and stays as it is meanwhile.
// Capture may be repeated: the same content gives the same layer.
func (s *Store) Capture(ctx context.Context, path string) (Layer, error) {
	return s.capture(ctx, path, func(base string) string { return base })
}

// CaptureOn is [Store.Capture] with the result over parent ("" for nothing)
// instead of the layer the overlay is over: a second snapshot of a disk is made
// over the first and holds only what changed since. Where the two share layers
// those are not read.
func (s *Store) CaptureOn(ctx context.Context, path, parent string) (Layer, error) {
	return s.capture(ctx, path, func(string) string { return parent })
}

func (s *Store) capture(ctx context.Context, path string, parentOf func(base string) string) (Layer, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return Layer{}, err
	}
	defer release()
	var top stack
	base, isLayer := s.isLayer(path)
	if isLayer {
		if l, err := s.Stat(base); err != nil || parentOf(base) == base {
			return l, err
		}
	} else {
		var done func()
		top, base, done, err = s.openOverlays(path)
		defer done()
		if err != nil {
			return Layer{}, fmt.Errorf("capture %s: %w", path, err)
		}
	}
	below, _, done, err := s.openStack(base)
	defer done()
	if err != nil {
		return Layer{}, fmt.Errorf("capture %s: %w", path, err)
	}
	full := append(top, below...)
	l, err := s.commit(ctx, full, parentOf(base), full[0].diskSize())
	if err != nil {
		return Layer{}, writeError("capture "+path, err)
	}
	return l, nil
}

// Import makes a base layer of a disk image in the format "raw" (a file, whose
// holes are not read, or a block device) or "qcow2". It refuses a qcow2 image
// with a backing file: an image from elsewhere must not name files to read.
func (s *Store) Import(ctx context.Context, path, format string) (Layer, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return Layer{}, err
	}
	defer release()
	f, err := os.Open(path)
	if err != nil {
		return Layer{}, fmt.Errorf("import: %w", err)
	}
	defer f.Close()
	var p piece
	switch format {
	case "raw":
		p, err = newRaw(f)
	case "qcow2":
		var m layerImage
		if m, err = openImage(f, ""); err == nil && m.Backing != "" {
			err = diag.WithHint(&UnsupportedError{path, fmt.Sprintf("it is not complete: it needs the file below it, %q", m.Backing)},
				"make a complete one: qemu-img convert -O qcow2 %s NEW", path)
		}
		p = m
	default:
		err = fmt.Errorf("format %q: it must be raw or qcow2", format)
	}
	if err == nil && p.diskSize() == 0 {
		err = &UnsupportedError{path, "the disk has no bytes"}
	}
	if err != nil {
		return Layer{}, fmt.Errorf("import: %w", err)
	}
	l, err := s.commit(ctx, stack{p}, "", p.diskSize())
	if err != nil {
		return Layer{}, writeError("import "+path, err)
	}
	return l, nil
}

// openImage reads f as qcow2; digest is that of a layer, or "".
func openImage(f *os.File, digest string) (layerImage, error) {
	st, err := f.Stat()
	if err != nil {
		return layerImage{}, err
	}
	m, err := qcow2.Open(f, st.Size())
	if err != nil {
		return layerImage{}, imageError(f.Name(), digest, err)
	}
	return layerImage{m, f.Name(), digest}, nil
}

// openStack opens the chain of digest ("" for none) and keeps its layers from
// being removed until done is called, which must be in any case.
func (s *Store) openStack(digest string) (st stack, chain []Layer, done func(), err error) {
	var files []*os.File
	done = func() {
		for _, f := range files {
			_ = f.Close()
		}
	}
	if digest == "" {
		return nil, nil, done, nil
	}
	if chain, err = s.chain(digest); err != nil {
		return nil, nil, done, err
	}
	for _, l := range chain {
		f, _, err := s.openLayer(l.Digest)
		if err != nil {
			return nil, nil, done, err
		}
		files = append(files, f)
		if err := share(f); err != nil {
			return nil, nil, done, err
		}
		m, err := openImage(f, l.Digest)
		if err != nil {
			return nil, nil, done, err
		}
		st = append(st, m)
	}
	return st, chain, done, nil
}

// commit makes a layer of size bytes that shows full, over parent. The caller
// holds the store.
func (s *Store) commit(ctx context.Context, full stack, parent string, size int64) (Layer, error) {
	below, chain, done, err := s.openStack(parent)
	defer done()
	if err != nil {
		return Layer{}, err
	}
	if parent != "" && size < chain[0].Size {
		return Layer{}, fmt.Errorf("the disk has %d bytes, less than the %d of the layer it is over: a disk cannot shrink", size, chain[0].Size)
	}
	b := newBuild(full, below, parent, size)
	if len(chain) >= MaxDepth {
		changed, err := b.changes(ctx)
		if err != nil {
			return Layer{}, err
		}
		if !changed && size == chain[0].Size {
			return chain[0], nil
		}
		// Over the ancestor half way down: the cost comes once in MaxDepth/2
		// captures, and the ancestor's bytes are still shared.
		cut := MaxDepth / 2
		chain = chain[cut:]
		b = newBuild(full, below[cut:], chain[0].Digest, size)
	}
	t, err := s.temp()
	if err != nil {
		return Layer{}, err
	}
	defer t.discard()
	backing := ""
	if b.parent != "" {
		backing = b.parent + suffix
	}
	digest, kept, bytes, err := b.write(ctx, t, backing)
	if err != nil {
		return Layer{}, err
	}
	if kept == 0 && b.parent != "" && size == chain[0].Size {
		return chain[0], nil
	}
	l := Layer{Digest: digest, Parent: b.parent, Size: size, Bytes: bytes, Depth: len(chain) + 1}
	return l, s.publish(ctx, t, l)
}

// publish gives the finished file its name. A layer that is there stays, so
// that who has it open shares it with who opens it next, unless it is damaged:
// then it is healed.
func (s *Store) publish(ctx context.Context, t *tempFile, l Layer) error {
	err := s.verifyLayer(ctx, l.Digest, true)
	var nf *NotFoundError
	var de *DamageError
	switch {
	case err == nil:
		return nil
	case !errors.As(err, &nf) && !errors.As(err, &de):
		return err
	}
	if err := t.Chmod(0o444); err != nil {
		return err
	}
	if err := t.publish(s.Path(l.Digest)); err != nil {
		return err
	}
	s.markVerified(l.Digest)
	return nil
}
