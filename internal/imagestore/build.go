package imagestore

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"hash"
	"io"
	"iter"
	"strings"

	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
)

// spanClusters is how many clusters are read at once: 2 MiB, the largest
// cluster of any qcow2 image, so that a compressed one is inflated once.
const (
	spanClusters = 32
	spanBytes    = spanClusters * clusterSize
)

// A span is a run of clusters within one aligned piece of spanBytes.
type span struct{ first, n int64 }

func (sp span) off() int64 { return sp.first * clusterSize }
func (sp span) len() int64 { return sp.n * clusterSize }

// spans lists, in order, the clusters in which full may differ from below.
// top and own are the parts of the two above what they share.
func (b build) spans() iter.Seq2[span, error] {
	return func(yield func(span, error) bool) {
		var cur span
		// add extends the current run, or yields it and begins another.
		add := func(first, end int64) bool {
			first = max(first, cur.first+cur.n)
			for first < end {
				if cur.n == 0 || first != cur.first+cur.n || first%spanClusters == 0 {
					if cur.n > 0 && !yield(cur, nil) {
						return false
					}
					cur = span{first: first}
				}
				stop := min(end, (first/spanClusters+1)*spanClusters)
				cur.n += stop - first
				first = stop
			}
			return true
		}
		for off := int64(0); off < b.size; {
			n, skip, err := b.same(off)
			if err != nil {
				yield(span{}, err)
				return
			}
			if !skip && !add(off/clusterSize, (off+n-1)/clusterSize+1) {
				return
			}
			off += n
		}
		if cur.n > 0 {
			yield(cur, nil)
		}
	}
}

// same reports whether full and below have the same n bytes at off, as far as
// the mapping tells.
func (b build) same(off int64) (n int64, same bool, err error) {
	_, kind, n, err := b.top.extent(off, b.size)
	if err != nil {
		return 0, false, err
	}
	_, own, m, err := b.own.extent(off, b.size)
	if err != nil {
		return 0, false, err
	}
	n = min(n, m)
	if kind == qcow2.Absent && own == qcow2.Absent {
		return n, true, nil
	}
	if kind == qcow2.Data || own == qcow2.Data {
		return n, false, nil
	}
	if same, err = b.below.blank(off, n); err == nil && same {
		same, err = b.full.blank(off, n)
	}
	return n, same, err
}

// A describer computes a layer's digest.
type describer struct{ h hash.Hash }

func newDescriber(parent string, size int64) describer {
	if parent == "" {
		parent = strings.Repeat("-", 64)
	}
	h := sha256.New()
	_, _ = io.WriteString(h, "ingot layer 1\n"+parent) // a hash never fails
	_, _ = h.Write(binary.BigEndian.AppendUint64(nil, uint64(size)))
	return describer{h}
}

func (d describer) zero(index int64) {
	var b [9]byte
	binary.BigEndian.PutUint64(b[:], uint64(index))
	_, _ = d.h.Write(b[:])
}

func (d describer) data(index int64, sum *[sha256.Size]byte) {
	var b [9 + sha256.Size]byte
	binary.BigEndian.PutUint64(b[:], uint64(index))
	b[8] = 1
	copy(b[9:], sum[:])
	_, _ = d.h.Write(b[:])
}

func (d describer) digest() string { return hex.EncodeToString(d.h.Sum(nil)) }

// keep says what becomes of one cluster.
type keep uint8

const (
	drop keep = iota
	keepZero
	keepData
)

var zeroCluster [clusterSize]byte

// scratch is one worker's memory.
type scratch struct {
	now, was []byte
	keep     [spanClusters]keep
	sum      [spanClusters][sha256.Size]byte
	host     [spanClusters]int64
}

func newScratch() *scratch {
	return &scratch{now: make([]byte, spanBytes), was: make([]byte, spanBytes)}
}

// load reads sp of full and of below and decides about each cluster.
func (w *scratch) load(sp span, full, below stack, size int64) error {
	now, was := w.now[:sp.len()], w.was[:sp.len()]
	// The last cluster is zero past the disk's end, whatever its image has.
	inside := min(sp.len(), size-sp.off())
	clear(now[inside:])
	if err := full.read(now[:inside], sp.off()); err != nil {
		return err
	}
	blank, err := below.blank(sp.off(), sp.len())
	if err != nil {
		return err
	}
	if !blank {
		if err := below.read(was, sp.off()); err != nil {
			return err
		}
	}
	for i := range sp.n {
		c := now[i*clusterSize : (i+1)*clusterSize]
		isZero := bytes.Equal(c, zeroCluster[:])
		switch {
		case isZero && blank, !blank && bytes.Equal(c, was[i*clusterSize:(i+1)*clusterSize]):
			w.keep[i] = drop
		case isZero:
			w.keep[i] = keepZero
		default:
			w.keep[i] = keepData
		}
	}
	return nil
}

func (w *scratch) hash(sp span) {
	for i := range sp.n {
		if w.keep[i] == keepData {
			w.sum[i] = sha256.Sum256(w.now[i*clusterSize : (i+1)*clusterSize])
		}
	}
}

// describe adds the kept clusters to d and gives them a place in l.
func (w *scratch) describe(sp span, d describer, l *qcow2.Layout) (kept int) {
	for i := range sp.n {
		switch w.keep[i] {
		case keepZero:
			l.AddZero(sp.first + i)
			d.zero(sp.first + i)
			kept++
		case keepData:
			w.host[i] = l.AddData(sp.first + i)
			d.data(sp.first+i, &w.sum[i])
			kept++
		}
	}
	return kept
}

// store writes the kept clusters; neighbours on the disk are neighbours in the
// file, so each run is one write.
func (w *scratch) store(sp span, f io.WriterAt) error {
	for i := int64(0); i < sp.n; {
		if w.keep[i] != keepData {
			i++
			continue
		}
		end := i + 1
		for end < sp.n && w.keep[end] == keepData {
			end++
		}
		if _, err := f.WriteAt(w.now[i*clusterSize:end*clusterSize], w.host[i]); err != nil {
			return err
		}
		i = end
	}
	return nil
}

// A build is a layer to be made: what full shows over below.
type build struct {
	full, below stack
	top, own    stack  // the parts of full, of below that are not in both
	parent      string // digest of below's uppermost layer, "" when there is none
	size        int64
}

func newBuild(full, below stack, parent string, size int64) build {
	top, own := apart(full, below)
	return build{full, below, top, own, parent, size}
}

// write puts the image into f, over the file named backing. kept counts the
// clusters that differ from below.
func (b build) write(ctx context.Context, f io.WriterAt, backing string) (digest string, kept int, bytes int64, err error) {
	layout, err := qcow2.NewLayout(b.size, backing)
	if err != nil {
		return "", 0, 0, err
	}
	d := newDescriber(b.parent, b.size)
	err = inOrder(ctx, b.spans(), newScratch,
		func(sp span, w *scratch) error {
			err := w.load(sp, b.full, b.below, b.size)
			w.hash(sp)
			return err
		},
		func(sp span, w *scratch) error {
			kept += w.describe(sp, d, layout)
			return nil
		},
		func(sp span, w *scratch) error { return w.store(sp, f) })
	if err != nil {
		return "", 0, 0, err
	}
	bytes, err = layout.Finish(f)
	return d.digest(), kept, bytes, err
}

// changes reports whether full differs from below.
func (b build) changes(ctx context.Context) (bool, error) {
	w := newScratch()
	for sp, err := range b.spans() {
		if err == nil {
			err = context.Cause(ctx)
		}
		if err == nil {
			err = w.load(sp, b.full, b.below, b.size)
		}
		if err != nil {
			return false, err
		}
		for i := range sp.n {
			if w.keep[i] != drop {
				return true, nil
			}
		}
	}
	return false, nil
}
