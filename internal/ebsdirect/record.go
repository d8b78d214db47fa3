package ebsdirect

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/internal/atomicfile"
)

// A Header is what an upload that was begun is known by.
type Header struct {
	Format     int    `json:"format"`
	Token      string `json:"token"` // the upload's, see [Upload.Token]
	Attempt    int    `json:"attempt"`
	SnapshotID string `json:"snapshot"`
	Size       int64  `json:"size"` // bytes of the disk
	Parent     string `json:"parent,omitempty"`
	// Entries is how many blocks a record that is finished tells of; whoever
	// relies on its being whole compares.
	Entries int `json:"entries,omitempty"`
}

// recordFormat is the version of the file.
const recordFormat = 1

// A Record remembers how far an upload came. Its methods may be called from
// any goroutine.
type Record interface {
	// Load returns what was recorded, a zero Header for nothing.
	Load() (Header, Manifest, error)
	// Start forgets everything and records that the snapshot h.SnapshotID was
	// begun. It is durable when it returns.
	Start(h Header) error
	// Sent records that a block was taken. It need not be durable: a block
	// that is sent twice costs only its time.
	Sent(index int32, d Digest) error
}

// A FileRecord is a [Record] in a file: a line of JSON, then one entry a block
// of index, digest and checksum. A torn entry at the end is dropped. One
// process at a time has it open.
type FileRecord struct {
	path string
	mu   sync.Mutex
	lock *os.File
	f    *os.File
	w    *bufio.Writer
}

var _ Record = (*FileRecord)(nil)

const entrySize = 4 + sha256.Size + 4

// A BusyError says that another process works with the record.
type BusyError struct{ Path string }

func (e *BusyError) Error() string {
	return "another process is publishing the same disk (" + e.Path + " is locked)"
}

// OpenRecord opens the record at path, which need not exist. The folder is
// made. A record in use is a [*BusyError].
func OpenRecord(path string) (*FileRecord, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, err
	}
	if lock == nil {
		return nil, &BusyError{path}
	}
	return &FileRecord{path: path, lock: lock}, nil
}

// lockFile locks the file at path, which it makes; nil when another process
// has. The lock is a file of its own because the record is replaced by
// renaming.
func lockFile(path string) (*os.File, error) {
	for {
		f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return nil, err
		}
		err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if err == nil {
			mine, merr := f.Stat()
			now, nerr := os.Stat(path)
			if merr == nil && nerr == nil && os.SameFile(mine, now) {
				return f, nil
			}
			_ = f.Close() // removed by its last holder between the two calls
			continue
		}
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, nil
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
}

// Load implements [Record].
func (r *FileRecord) Load() (Header, Manifest, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	data, err := os.ReadFile(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return Header{}, nil, nil
	}
	if err != nil {
		return Header{}, nil, err
	}
	h, m, length, err := decodeRecord(data)
	if err != nil {
		return Header{}, nil, fmt.Errorf("%s: %w", r.path, err)
	}
	if h.Format == 0 {
		return Header{}, nil, nil
	}
	if err := r.open(int64(length)); err != nil {
		return Header{}, nil, err
	}
	return h, m, nil
}

// decodeRecord returns what data says and how much of it is whole.
func decodeRecord(data []byte) (h Header, m Manifest, length int, err error) {
	end := bytes.IndexByte(data, '\n')
	if end < 0 {
		return Header{}, nil, 0, nil // torn before it held anything
	}
	if err := json.Unmarshal(data[:end], &h); err != nil {
		return Header{}, nil, 0, fmt.Errorf("not a record of an upload: %w", err)
	}
	if h.Format != recordFormat {
		return Header{}, nil, 0, fmt.Errorf("record format %d is not known to this version", h.Format)
	}
	m, length = Manifest{}, end+1
	for rest := data[length:]; len(rest) >= entrySize; rest = rest[entrySize:] {
		e := rest[:entrySize]
		if crc32.ChecksumIEEE(e[:entrySize-4]) != binary.BigEndian.Uint32(e[entrySize-4:]) {
			break // after a crash: what follows is sent again
		}
		m[int32(binary.BigEndian.Uint32(e))] = Digest(e[4 : 4+sha256.Size])
		length += entrySize
	}
	return h, m, length, nil
}

// open continues the file after its whole part.
func (r *FileRecord) open(length int64) error {
	if r.f != nil {
		_ = r.f.Close()
	}
	f, err := os.OpenFile(r.path, os.O_RDWR, 0o600)
	if err != nil {
		return err
	}
	if err = f.Truncate(length); err == nil {
		_, err = f.Seek(length, io.SeekStart)
	}
	if err != nil {
		_ = f.Close()
		return err
	}
	r.f, r.w = f, bufio.NewWriterSize(f, 64*entrySize)
	return nil
}

// Start implements [Record].
func (r *FileRecord) Start(h Header) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	h.Format = recordFormat
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	line = append(line, '\n')
	if err := atomicfile.Write(r.path, line, 0o600); err != nil {
		return err
	}
	return r.open(int64(len(line)))
}

// Sent implements [Record].
func (r *FileRecord) Sent(index int32, d Digest) error {
	var e [entrySize]byte
	binary.BigEndian.PutUint32(e[:], uint32(index))
	copy(e[4:], d[:])
	binary.BigEndian.PutUint32(e[entrySize-4:], crc32.ChecksumIEEE(e[:entrySize-4]))
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.w == nil {
		return errors.New("record: not started")
	}
	_, err := r.w.Write(e[:])
	return err
}

// Close writes what is pending and lets others have the record.
func (r *FileRecord) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	if r.f != nil {
		errs = append(errs, r.w.Flush(), r.f.Close())
		r.f, r.w = nil, nil
	}
	errs = append(errs, r.lock.Close())
	return errors.Join(errs...)
}

// Remove closes the record and removes it.
func (r *FileRecord) Remove() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	var errs []error
	if r.f != nil {
		errs = append(errs, r.f.Close())
		r.f, r.w = nil, nil
	}
	// The lock's file is removed while it is held: who opens it afterwards
	// makes a new one.
	for _, p := range []string{r.path, r.path + ".lock"} {
		if err := os.Remove(p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, r.lock.Close())...)
}
