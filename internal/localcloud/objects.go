package localcloud

import (
	"context"
	"crypto/md5" //nolint:gosec // ETags are MD5 sums (S3's API)
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A Bucket holds objects. Buckets and objects are in region "".
type Bucket struct {
	Name, Region string
	Created      time.Time
	Tags         Tags
}

// RecordKind implements [Record].
func (Bucket) RecordKind() string { return "bucket" }

// RecordID implements [Record].
func (b Bucket) RecordID() string { return b.Name }

// An Object is one of a bucket. Its bytes are the file objects/File in the
// cloud's folder.
type Object struct {
	Bucket, Key, File string
	Size              int64
	ETag              string // without quotes
	Type              string
	Meta              map[string]string
	Encryption, KeyID string
	Modified          time.Time
}

// RecordKind implements [Record].
func (Object) RecordKind() string { return "object" }

// RecordID implements [Record].
func (o Object) RecordID() string { return o.Bucket + "/" + o.Key }

// A MultipartUpload is an object that is written in parts.
type MultipartUpload struct {
	ID     string
	Object Object         // what it becomes
	Parts  map[int]Object // File, Size and ETag of each
}

// RecordKind implements [Record].
func (MultipartUpload) RecordKind() string { return "multipart-upload" }

// RecordID implements [Record].
func (u MultipartUpload) RecordID() string { return u.ID }

// NoSuchBucket is S3's refusal.
func NoSuchBucket(name string) error {
	return &Error{Code: "NoSuchBucket", Message: "The specified bucket does not exist: " + name, Status: 404}
}

// objectPath is where a file of an object is.
func (c *Cloud) objectPath(file string) string { return filepath.Join(c.dir, "objects", file) }

// StoreObject writes the bytes of an object to a file of its own, durably, and
// returns its name, size and MD5 sum. It is nobody's until a record names it.
func (c *Cloud) StoreObject(ctx context.Context, r io.Reader) (o Object, err error) {
	dir := filepath.Join(c.dir, "objects")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return o, fmt.Errorf("local cloud: %w", err)
	}
	o.File = randomHex(16)
	f, err := os.OpenFile(c.objectPath(o.File), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return o, fmt.Errorf("local cloud: object: %w", err)
	}
	sum := md5.New() //nolint:gosec // see above
	o.Size, err = io.Copy(io.MultiWriter(f, sum), r)
	if err == nil {
		err = context.Cause(ctx)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return o, errors.Join(fmt.Errorf("local cloud: object: %w", err), c.DropObject(o))
	}
	o.ETag = hex.EncodeToString(sum.Sum(nil))
	return o, nil
}

// DropObject removes the file of an object that no record names.
func (c *Cloud) DropObject(o Object) error {
	if err := os.Remove(c.objectPath(o.File)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("local cloud: object: %w", err)
	}
	return nil
}

// PutObject makes an object of a bucket of what StoreObject wrote, in the
// place of the one with its key.
func (c *Cloud) PutObject(ctx context.Context, o Object) error {
	var old Object
	err := c.Update(ctx, "", func(t *Tx) error {
		_, ok, err := Get[Bucket](t, o.Bucket)
		if err != nil {
			return err
		}
		if !ok {
			return NoSuchBucket(o.Bucket)
		}
		if old, _, err = Get[Object](t, o.RecordID()); err != nil {
			return err
		}
		o.Modified = t.Now
		return Put(t, o)
	})
	if err != nil {
		return errors.Join(err, c.DropObject(o))
	}
	if old.File != "" {
		return c.DropObject(old)
	}
	return nil
}

// FindObject returns an object, or S3's refusal.
func (c *Cloud) FindObject(ctx context.Context, bucket, key string) (o Object, err error) {
	err = c.View(ctx, "", func(t *Tx) error {
		if _, ok, err := Get[Bucket](t, bucket); err != nil || !ok {
			if err == nil {
				err = NoSuchBucket(bucket)
			}
			return err
		}
		var ok bool
		if o, ok, err = Get[Object](t, Object{Bucket: bucket, Key: key}.RecordID()); err == nil && !ok {
			err = &Error{Code: "NoSuchKey", Message: "The specified key does not exist: " + key, Status: 404}
		}
		return err
	})
	return o, err
}

// OpenObject opens the bytes of an object. The caller closes them.
func (c *Cloud) OpenObject(o Object) (*os.File, error) {
	f, err := os.Open(c.objectPath(o.File))
	if err != nil {
		return nil, fmt.Errorf("local cloud: object %s/%s: %w", o.Bucket, o.Key, err)
	}
	return f, nil
}

// DeleteObject removes an object; it succeeds when there is none.
func (c *Cloud) DeleteObject(ctx context.Context, bucket, key string) error {
	o, err := c.FindObject(ctx, bucket, key)
	if CodeOf(err) == "NoSuchKey" {
		return nil
	}
	if err != nil {
		return err
	}
	if err := c.Update(ctx, "", func(t *Tx) error { return Delete[Object](t, o.RecordID()) }); err != nil {
		return err
	}
	return c.DropObject(o)
}

// Objects returns the objects of a bucket whose keys begin with prefix, by key.
func Objects(t *Tx, bucket, prefix string) ([]Object, error) {
	if _, ok, err := Get[Bucket](t, bucket); err != nil || !ok {
		if err == nil {
			err = NoSuchBucket(bucket)
		}
		return nil, err
	}
	all, err := All[Object](t)
	var out []Object
	for _, o := range all {
		if o.Bucket == bucket && strings.HasPrefix(o.Key, prefix) {
			out = append(out, o)
		}
	}
	return out, err
}
