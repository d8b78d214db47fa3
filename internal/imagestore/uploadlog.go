package imagestore

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"sync"

	"github.com/ingot-build/ingot/internal/imagestore/qcow2"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// An uploadLog keeps the blocks of an upload in two files. Each block goes to a
// free slot of "blocks"; only then a record in "index" says so: a crash between
// leaves the block as it was before. The last record about a block counts.
//
// A record is the block's index, the slot or -1 for a zero block, the CRC-32C
// of the data, and that of the record; big endian.
type uploadLog struct {
	size  int64
	data  *os.File
	index *os.File

	mu   sync.Mutex
	at   map[int64]slot // by block
	free []int64        // slots below next that hold nothing
	next int64          // slots in use or free
	end  int64          // of the whole records
}

type slot struct {
	n   int64 // -1: zero
	crc uint32
}

const recordSize = 24

func openLog(dir string, size int64) (*uploadLog, error) {
	l := &uploadLog{size: size, at: map[int64]slot{}}
	var err error
	if l.data, err = os.OpenFile(filepath.Join(dir, "blocks"), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		return nil, fmt.Errorf("upload: %w", err)
	}
	if l.index, err = os.OpenFile(filepath.Join(dir, "index"), os.O_RDWR|os.O_CREATE, 0o600); err == nil {
		err = l.load()
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

// load reads the index; a torn last record is of a write that did not return.
func (l *uploadLog) load() error {
	raw, err := os.ReadFile(l.index.Name())
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	st, err := l.data.Stat()
	if err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	used := map[int64]bool{}
	for ; len(raw) >= recordSize; raw = raw[recordSize:] {
		block, s, ok := parseRecord(raw[:recordSize])
		if !ok || block < 0 || block >= l.size/BlockSize || s.n < -1 || s.n >= st.Size()/BlockSize {
			return &DamageError{Path: l.index.Name(), Reason: "a record is not what was written: start the upload again"}
		}
		if old, ok := l.at[block]; ok {
			delete(used, old.n)
		}
		l.at[block] = s
		used[s.n] = true
		l.next = max(l.next, s.n+1)
		l.end += recordSize
	}
	for n := range l.next {
		if !used[n] {
			l.free = append(l.free, n)
		}
	}
	return nil
}

func record(block int64, s slot) (r [recordSize]byte) {
	be := binary.BigEndian
	be.PutUint64(r[0:], uint64(block))
	be.PutUint64(r[8:], uint64(s.n))
	be.PutUint32(r[16:], s.crc)
	be.PutUint32(r[20:], crc32.Checksum(r[:20], castagnoli))
	return r
}

func parseRecord(r []byte) (block int64, s slot, ok bool) {
	be := binary.BigEndian
	s = slot{int64(be.Uint64(r[8:])), be.Uint32(r[16:])}
	return int64(be.Uint64(r)), s, crc32.Checksum(r[:20], castagnoli) == be.Uint32(r[20:])
}

func (l *uploadLog) put(block int64, data []byte, zero bool, crc uint32) error {
	s := slot{-1, crc}
	if !zero {
		s.n = l.take()
		if _, err := l.data.WriteAt(data, s.n*BlockSize); err != nil {
			l.give(s.n)
			return err
		}
	}
	r := record(block, s)
	l.mu.Lock()
	defer l.mu.Unlock()
	// A record that failed half way is overwritten by the next.
	if _, err := l.index.WriteAt(r[:], l.end); err != nil {
		l.freed(s.n)
		return err
	}
	l.end += recordSize
	if old, ok := l.at[block]; ok {
		l.freed(old.n)
	}
	l.at[block] = s
	return nil
}

func (l *uploadLog) take() int64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	if n := len(l.free); n > 0 {
		s := l.free[n-1]
		l.free = l.free[:n-1]
		return s
	}
	l.next++
	return l.next - 1
}

func (l *uploadLog) give(n int64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.freed(n)
}

func (l *uploadLog) freed(n int64) {
	if n >= 0 {
		l.free = append(l.free, n)
	}
}

func (l *uploadLog) count() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.at)
}

func (l *uploadLog) sync() error {
	if err := l.data.Sync(); err != nil {
		return err
	}
	return l.index.Sync()
}

// drop frees the room of blocks that are no longer needed, as far as it can.
func (l *uploadLog) drop() {
	if l.index.Truncate(0) == nil { // first, or it would name blocks that are gone
		_ = l.data.Truncate(0)
	}
}

func (l *uploadLog) close() {
	_ = l.data.Close()
	if l.index != nil {
		_ = l.index.Close()
	}
}

func (l *uploadLog) diskSize() int64 { return l.size }

func (l *uploadLog) kind(block int64) qcow2.Kind {
	s, ok := l.at[block]
	switch {
	case !ok:
		return qcow2.Absent
	case s.n < 0:
		return qcow2.Zero
	}
	return qcow2.Data
}

// Extent is for Commit, which has the log alone.
func (l *uploadLog) Extent(off int64) (qcow2.Kind, int64, error) {
	block := off / BlockSize
	k := l.kind(block)
	end := block + 1
	for end < l.size/BlockSize && l.kind(end) == k {
		end++
	}
	return k, end*BlockSize - off, nil
}

// ReadAt checks each whole block it reads.
func (l *uploadLog) ReadAt(p []byte, off int64) (int, error) {
	n := 0
	for n < len(p) {
		block, skip := off/BlockSize, off%BlockSize
		part := p[n:min(len(p), n+int(BlockSize-skip))]
		s, ok := l.at[block]
		if !ok || s.n < 0 {
			clear(part)
		} else if _, err := l.data.ReadAt(part, s.n*BlockSize+skip); err != nil {
			return n, fmt.Errorf("block %d: %w", block, err)
		} else if len(part) == BlockSize && crc32.Checksum(part, castagnoli) != s.crc {
			return n, &DamageError{Path: l.data.Name(), Reason: fmt.Sprintf("block %d is not what was written: upload it again", block)}
		}
		n += len(part)
		off += int64(len(part))
	}
	return n, nil
}
