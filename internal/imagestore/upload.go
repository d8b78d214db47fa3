package imagestore

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/internal/atomicfile"
)

// BlockSize is the unit of uploads in bytes, that of EBS snapshots.
const BlockSize = 512 << 10

// An Upload is a disk that arrives in blocks, in any order, over a layer or
// over nothing; blocks that do not arrive are the parent's. One process at a
// time has it open. Its methods are safe for concurrent use.
//
// What WriteBlock has returned from survives the death of the process; of a
// power cut only what was there at the last Sync or Close, and damage is found
// by Commit.
type Upload struct {
	ID     string
	Parent string // "" for none
	Size   int64  // bytes

	store *Store
	dir   string
	refs  int // guarded by store.upMu

	busy sync.RWMutex // writers share it, Commit, Abort and Close have it alone
	log  *uploadLog   // nil once closed
	held *os.File     // the lock
	made string       // digest once committed
}

type uploadMeta struct {
	Format int    `json:"format"`
	Parent string `json:"parent,omitempty"`
	Size   int64  `json:"size"`
}

const (
	uploadFormat = 1

	metaName      = "meta"
	uploadLock    = "lock"
	committedName = "committed" // holds the digest
)

var errUploadClosed = errors.New("the upload is closed")

var errCommitted = errors.New("the upload is complete: it takes no more blocks")

// NewUpload starts an upload under an id of the caller's choice (letters,
// digits, ".", "_", "-"), over the layer parent, of size bytes: a multiple of
// BlockSize, not less than the parent's size. An upload of the same id, parent
// and size that is there is opened. The parent stays as long as the upload.
func (s *Store) NewUpload(ctx context.Context, id, parent string, size int64) (*Upload, error) {
	release, err := s.Hold(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	if !validID(id) {
		return nil, fmt.Errorf("upload id %q: it must be 1 to 128 letters, digits, dots, underscores and dashes and not begin with a dot", id)
	}
	if size <= 0 || size%BlockSize != 0 {
		return nil, fmt.Errorf("upload %s: the size of %d bytes must be a positive multiple of %d", id, size, BlockSize)
	}
	if parent != "" {
		l, err := s.Stat(parent)
		if err != nil {
			return nil, fmt.Errorf("upload %s: %w", id, err)
		}
		if size < l.Size {
			return nil, fmt.Errorf("upload %s: the size of %d bytes is less than the %d of the layer it is over", id, size, l.Size)
		}
	}
	want := uploadMeta{uploadFormat, parent, size}
	u, err := s.OpenUpload(id)
	var nf *NotFoundError
	if errors.As(err, &nf) {
		if err = s.makeUpload(id, want); err == nil {
			u, err = s.OpenUpload(id)
		}
	}
	if err != nil {
		return nil, err
	}
	if u.Parent != parent || u.Size != size {
		return nil, errors.Join(fmt.Errorf("upload %s exists already with %d bytes over layer %q", id, u.Size, u.Parent), u.Close())
	}
	return u, nil
}

func (s *Store) makeUpload(id string, m uploadMeta) (err error) {
	s.upMu.Lock()
	defer s.upMu.Unlock()
	defer func() {
		if err != nil {
			err = writeError("upload "+id, err)
		}
	}()
	dir := s.uploadDir(id)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	held, err := os.OpenFile(filepath.Join(dir, uploadLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer held.Close()
	if ok, err := flock(held, unix.LOCK_EX); err != nil || !ok {
		return cmp.Or(err, error(&BusyError{id}))
	}
	if _, err := readMeta(dir); !errors.Is(err, fs.ErrNotExist) {
		return err // somebody was faster
	}
	js, err := json.Marshal(m)
	if err != nil {
		return err
	}
	if err := atomicfile.Write(filepath.Join(dir, metaName), js, 0o600); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(dir))
}

func (s *Store) uploadDir(id string) string { return filepath.Join(s.dir, "uploads", id) }

func validID(id string) bool {
	const ok = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"
	return id != "" && len(id) <= 128 && id[0] != '.' && strings.Trim(id, ok) == ""
}

// OpenUpload opens an upload that was begun, also by a process that died. It
// fails with *[NotFoundError], or with *[BusyError] when another process has
// it open. Within a process it may be open several times; each is closed.
func (s *Store) OpenUpload(id string) (*Upload, error) {
	if !validID(id) {
		return nil, &NotFoundError{"upload", id}
	}
	s.upMu.Lock()
	defer s.upMu.Unlock()
	if u := s.uploads[id]; u != nil {
		u.refs++
		return u, nil
	}
	u := &Upload{ID: id, store: s, dir: s.uploadDir(id), refs: 1}
	if err := u.open(); err != nil {
		if u.held != nil {
			_ = u.held.Close()
		}
		return nil, err
	}
	s.uploads[id] = u
	return u, nil
}

func (u *Upload) open() error {
	m, err := readMeta(u.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return &NotFoundError{"upload", u.ID}
	}
	if err != nil {
		return err
	}
	u.Parent, u.Size = m.Parent, m.Size
	if u.held, err = os.OpenFile(filepath.Join(u.dir, uploadLock), os.O_RDWR|os.O_CREATE, 0o600); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return &NotFoundError{"upload", u.ID}
		}
		return fmt.Errorf("upload %s: %w", u.ID, err)
	}
	ok, err := flock(u.held, unix.LOCK_EX)
	if err != nil {
		return err
	}
	if !ok {
		return &BusyError{u.ID}
	}
	if _, err := readMeta(u.dir); err != nil || !samePath(u.held) {
		return &NotFoundError{"upload", u.ID} // aborted between the two
	}
	switch made, err := os.ReadFile(filepath.Join(u.dir, committedName)); {
	case err == nil:
		u.made = string(made)
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("upload %s: %w", u.ID, err)
	}
	u.log, err = openLog(u.dir, u.Size)
	return err
}

func readMeta(dir string) (m uploadMeta, err error) {
	path := filepath.Join(dir, metaName)
	js, err := os.ReadFile(path)
	if err != nil {
		return m, err
	}
	if err := json.Unmarshal(js, &m); err != nil {
		return m, &DamageError{Path: path, Reason: err.Error()}
	}
	if m.Format != uploadFormat {
		return m, fmt.Errorf("%s has format %d, this version reads format %d", path, m.Format, uploadFormat)
	}
	if m.Size <= 0 || m.Size%BlockSize != 0 || m.Parent != "" && !validDigest(m.Parent) {
		return m, &DamageError{Path: path, Reason: "it does not describe an upload"}
	}
	return m, nil
}

var zeroBlock [BlockSize]byte

// WriteBlock stores the block of this index, BlockSize bytes. It may be
// repeated: the write that returns last wins.
func (u *Upload) WriteBlock(index int64, data []byte) error {
	u.busy.RLock()
	defer u.busy.RUnlock()
	switch {
	case u.log == nil:
		return fmt.Errorf("upload %s: %w", u.ID, errUploadClosed)
	case u.made != "":
		return fmt.Errorf("upload %s: %w", u.ID, errCommitted)
	case index < 0 || index >= u.Size/BlockSize:
		return fmt.Errorf("upload %s: block %d is outside the disk, which has %d", u.ID, index, u.Size/BlockSize)
	case len(data) != BlockSize:
		return fmt.Errorf("upload %s: block %d has %d bytes, it must have %d", u.ID, index, len(data), BlockSize)
	}
	if err := u.log.put(index, data, bytes.Equal(data, zeroBlock[:]), crc32.Checksum(data, castagnoli)); err != nil {
		return writeError(fmt.Sprintf("upload %s: block %d", u.ID, index), err)
	}
	return nil
}

// Count is how many different blocks have been written.
func (u *Upload) Count() int {
	u.busy.RLock()
	defer u.busy.RUnlock()
	if u.log == nil {
		return 0
	}
	return u.log.count()
}

// Sync makes the blocks written so far survive a power cut.
func (u *Upload) Sync() error {
	u.busy.RLock()
	defer u.busy.RUnlock()
	if u.log == nil {
		return fmt.Errorf("upload %s: %w", u.ID, errUploadClosed)
	}
	if err := u.log.sync(); err != nil {
		return writeError("upload "+u.ID, err)
	}
	return nil
}

// Commit makes the layer. The blocks are gone then, the upload itself stays
// until Abort, or until a [Store.GC] that keeps the layer: a caller that died
// before it wrote the digest down calls Commit again and gets the same layer.
// Until it is written down the caller has a [Store.Hold].
func (u *Upload) Commit(ctx context.Context) (Layer, error) {
	u.busy.Lock()
	defer u.busy.Unlock()
	if u.log == nil {
		return Layer{}, fmt.Errorf("upload %s: %w", u.ID, errUploadClosed)
	}
	release, err := u.store.Hold(ctx)
	if err != nil {
		return Layer{}, err
	}
	defer release()
	if u.made != "" {
		return u.store.Stat(u.made)
	}
	below, _, done, err := u.store.openStack(u.Parent)
	defer done()
	var l Layer
	if err == nil {
		l, err = u.store.commit(ctx, append(stack{u.log}, below...), u.Parent, u.Size)
	}
	if err == nil {
		err = atomicfile.Write(filepath.Join(u.dir, committedName), []byte(l.Digest), 0o600)
	}
	if err != nil {
		return Layer{}, writeError("upload "+u.ID, err)
	}
	u.made = l.Digest
	u.log.drop()
	return l, nil
}

// Close lets another process open the upload; it can be opened again.
func (u *Upload) Close() error {
	if !u.release() {
		return nil
	}
	u.busy.Lock()
	defer u.busy.Unlock()
	u.store.upMu.Lock()
	defer u.store.upMu.Unlock()
	if u.log == nil || u.refs > 0 { // opened again meanwhile
		return nil
	}
	err := u.log.sync()
	u.shut()
	if err != nil {
		return writeError("upload "+u.ID, err)
	}
	return nil
}

// release gives a reference back and reports whether none is left.
func (u *Upload) release() bool {
	u.store.upMu.Lock()
	defer u.store.upMu.Unlock()
	u.refs--
	return u.refs <= 0
}

// shut is called with busy and store.upMu held.
func (u *Upload) shut() {
	u.log.close()
	u.log = nil
	_ = u.held.Close()
	if u.store.uploads[u.ID] == u {
		delete(u.store.uploads, u.ID)
	}
}

// Abort removes the upload; a layer that was made of it stays. It closes the
// upload for everybody in this process and may be repeated.
func (u *Upload) Abort() error {
	u.busy.Lock()
	defer u.busy.Unlock()
	u.store.upMu.Lock()
	defer u.store.upMu.Unlock()
	if u.log == nil {
		return nil
	}
	err := removeUpload(u.dir)
	u.shut()
	return err
}

// RemoveUpload is [Upload.Abort] for an upload that nobody has open, damaged
// ones too. It succeeds when there is none.
func (s *Store) RemoveUpload(id string) error {
	if !validID(id) {
		return nil
	}
	s.upMu.Lock()
	u := s.uploads[id]
	s.upMu.Unlock()
	if u != nil {
		return u.Abort()
	}
	dir := s.uploadDir(id)
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	gone, err := sweepUpload(dir)
	if err == nil && !gone {
		err = &BusyError{id}
	}
	return err
}

// removeUpload removes the folder of an upload whose lock the caller has. The
// description goes first: without it there is no upload.
func removeUpload(dir string) error {
	err := os.Remove(filepath.Join(dir, metaName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove upload: %w", err)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove upload: %w", err)
	}
	return nil
}

// uploadRoots returns the layers that uploads need, and removes uploads that
// nobody needs. The caller has the store alone.
func (s *Store) uploadRoots(keep func(string) bool) (roots []string, err error) {
	dirs, err := os.ReadDir(filepath.Join(s.dir, "uploads"))
	if err != nil {
		return nil, fmt.Errorf("image store: %w", err)
	}
	for _, d := range dirs {
		dir := s.uploadDir(d.Name())
		m, err := readMeta(dir)
		unborn := errors.Is(err, fs.ErrNotExist)
		if err != nil && !unborn {
			return nil, err
		}
		made, err := os.ReadFile(filepath.Join(dir, committedName))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("image store: %w", err)
		}
		if unborn || len(made) > 0 && keep(string(made)) {
			gone, err := sweepUpload(dir)
			if err != nil {
				return nil, err
			}
			if gone {
				continue
			}
		}
		for _, digest := range []string{m.Parent, string(made)} {
			if digest != "" {
				roots = append(roots, digest)
			}
		}
	}
	return roots, nil
}

// sweepUpload removes the folder unless a process has the upload open.
func sweepUpload(dir string) (bool, error) {
	f, err := os.OpenFile(filepath.Join(dir, uploadLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return false, fmt.Errorf("image store: %w", err)
	}
	defer f.Close()
	ok, err := flock(f, unix.LOCK_EX)
	if err != nil || !ok {
		return false, err
	}
	return true, removeUpload(dir)
}
