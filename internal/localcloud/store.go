package localcloud

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"
)

// stateFile is the database in a cloud's folder, lockFile what its users hold
// while they have it open.
const (
	stateFile = "state.db"
	lockFile  = "state.lock"
)

// A Record is a thing that is kept: JSON under its kind and id, in a region.
type Record interface {
	RecordKind() string // never given a new meaning
	RecordID() string   // unique in its kind and region
}

// A Tx is one transaction: all of it happens, or nothing. It is used on one
// goroutine and is invalid once the function it was handed to has returned.
type Tx struct {
	Region string
	Now    time.Time // the same all through the transaction
	bolt   *bbolt.Tx
	jobs   *int // written in this transaction
}

// In returns the same transaction, looking at another region. Region "" holds
// what is not of a region: IAM, S3.
func (t *Tx) In(region string) *Tx {
	o := *t
	o.Region = region
	return &o
}

// store opens the database for one transaction at a time. The lock file is
// taken first: bbolt's own waiting sleeps.
type store struct {
	dir string
	mu  sync.RWMutex // of this process
	now func() time.Time
}

func (s *store) lock(how int) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(s.dir, lockFile), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("local cloud: %w", err)
	}
	for {
		err = unix.Flock(int(f.Fd()), how)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("local cloud: lock: %w", err), f.Close())
	}
	return f, nil
}

func (s *store) open() (*bbolt.DB, error) {
	db, err := bbolt.Open(filepath.Join(s.dir, stateFile), 0o600, &bbolt.Options{
		Timeout: 10 * time.Second, FreelistType: bbolt.FreelistMapType, NoFreelistSync: false,
	})
	if err != nil {
		return nil, fmt.Errorf("local cloud: state in %s: %w", s.dir, err)
	}
	return db, nil
}

// update runs fn in a transaction that is durable when update returns nil. An
// error of fn leaves everything as it was.
func (s *store) update(ctx context.Context, region string, fn func(*Tx) error) (jobs int, err error) {
	if err := context.Cause(ctx); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.lock(unix.LOCK_EX)
	if err != nil {
		return 0, err
	}
	defer l.Close()
	db, err := s.open()
	if err != nil {
		return 0, err
	}
	err = db.Update(func(tx *bbolt.Tx) error {
		return fn(&Tx{Region: region, Now: s.now().UTC(), bolt: tx, jobs: &jobs})
	})
	return jobs, errors.Join(err, db.Close())
}

// view runs fn on a consistent state.
func (s *store) view(ctx context.Context, region string, fn func(*Tx) error) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l, err := s.lock(unix.LOCK_SH)
	if err != nil {
		return err
	}
	defer l.Close()
	db, err := bbolt.Open(filepath.Join(s.dir, stateFile), 0o600, &bbolt.Options{ReadOnly: true, Timeout: 10 * time.Second})
	if err != nil {
		return fmt.Errorf("local cloud: state in %s: %w", s.dir, err)
	}
	err = db.View(func(tx *bbolt.Tx) error {
		var none int
		return fn(&Tx{Region: region, Now: s.now().UTC(), bolt: tx, jobs: &none})
	})
	return errors.Join(err, db.Close())
}

func bucketName(region, kind string) []byte { return []byte(region + "/" + kind) }

// Get returns the record with an id; ok is false when there is none.
func Get[T Record](t *Tx, id string) (r T, ok bool, err error) {
	b := t.bolt.Bucket(bucketName(t.Region, r.RecordKind()))
	if b == nil || id == "" {
		return r, false, nil
	}
	js := b.Get([]byte(id))
	if js == nil {
		return r, false, nil
	}
	if err := json.Unmarshal(js, &r); err != nil {
		return r, false, fmt.Errorf("local cloud: %s %s: %w", r.RecordKind(), id, err)
	}
	return r, true, nil
}

// Put writes records, replacing those with the same id.
func Put[T Record](t *Tx, rs ...T) error {
	for _, r := range rs {
		js, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("local cloud: %s %s: %w", r.RecordKind(), r.RecordID(), err)
		}
		b, err := t.bolt.CreateBucketIfNotExists(bucketName(t.Region, r.RecordKind()))
		if err != nil {
			return fmt.Errorf("local cloud: %w", err)
		}
		if err := b.Put([]byte(r.RecordID()), js); err != nil {
			return fmt.Errorf("local cloud: %s %s: %w", r.RecordKind(), r.RecordID(), err)
		}
	}
	return nil
}

// Delete removes the record with an id; it succeeds when there is none.
func Delete[T Record](t *Tx, id string) error {
	var zero T
	b := t.bolt.Bucket(bucketName(t.Region, zero.RecordKind()))
	if b == nil {
		return nil
	}
	if err := b.Delete([]byte(id)); err != nil {
		return fmt.Errorf("local cloud: %s %s: %w", zero.RecordKind(), id, err)
	}
	return nil
}

// All returns every record of a kind in the transaction's region, by id.
func All[T Record](t *Tx) ([]T, error) {
	var zero T
	b := t.bolt.Bucket(bucketName(t.Region, zero.RecordKind()))
	if b == nil {
		return nil, nil
	}
	var out []T
	err := b.ForEach(func(k, js []byte) error {
		var r T
		if err := json.NewDecoder(bytes.NewReader(js)).Decode(&r); err != nil {
			return fmt.Errorf("local cloud: %s %s: %w", zero.RecordKind(), k, err)
		}
		out = append(out, r)
		return nil
	})
	return out, err
}
