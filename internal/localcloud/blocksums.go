package localcloud

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/ingot-build/ingot/internal/imagestore"
)

// A BlockUpload is the upload of a snapshot with the sums of its blocks. Its
// methods are safe for concurrent use.
type BlockUpload struct {
	upload *imagestore.Upload
	sums   *os.File // a record for each block written, appended
}

// sumSize is the size of a record: block index, SHA-256.
const sumSize = 8 + sha256.Size

func (c *Cloud) sumsPath(upload string) string {
	return filepath.Join(c.dir, "captures", upload+".sums")
}

// OpenUpload opens the upload of a pending snapshot, and begins it the first
// time. It fails with *[imagestore.BusyError] when another process has it. The
// caller closes it.
func (c *Cloud) OpenUpload(ctx context.Context, s Snapshot) (*BlockUpload, error) {
	u, err := c.images.NewUpload(ctx, s.Upload, s.UploadBase, s.SizeGiB*gib)
	if err != nil {
		return nil, err
	}
	path := c.sumsPath(s.Upload)
	err = os.MkdirAll(filepath.Dir(path), 0o700)
	var f *os.File
	if err == nil {
		f, err = os.OpenFile(path, os.O_RDWR|os.O_CREATE|os.O_APPEND, 0o600)
	}
	if err == nil {
		err = dropTorn(f)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("upload of %s: %w", s.ID, err), u.Close())
	}
	return &BlockUpload{u, f}, nil
}

// dropTorn cuts off a record that was not written whole: nobody was told of its
// block.
func dropTorn(f *os.File) error {
	st, err := f.Stat()
	if err == nil && st.Size()%sumSize != 0 {
		err = f.Truncate(st.Size() / sumSize * sumSize)
	}
	return err
}

// Write stores a block whose sum is known to be right.
func (b *BlockUpload) Write(index int64, data []byte, sum [sha256.Size]byte) error {
	if err := b.upload.WriteBlock(index, data); err != nil {
		return err
	}
	var r [sumSize]byte
	binary.BigEndian.PutUint64(r[:], uint64(index))
	copy(r[8:], sum[:])
	if _, err := b.sums.Write(r[:]); err != nil {
		return fmt.Errorf("upload %s: %w", b.upload.ID, err)
	}
	return nil
}

// Sum returns how many different blocks were written, and the LINEAR checksum
// of them: of their sums in the order of the blocks.
// https://docs.aws.amazon.com/ebs/latest/APIReference/API_CompleteSnapshot.html
func (b *BlockUpload) Sum() (blocks int, checksum string, err error) {
	st, err := b.sums.Stat()
	if err != nil {
		return 0, "", fmt.Errorf("upload %s: %w", b.upload.ID, err)
	}
	raw := make([]byte, st.Size()/sumSize*sumSize)
	if _, err := b.sums.ReadAt(raw, 0); err != nil && len(raw) > 0 {
		return 0, "", fmt.Errorf("upload %s: %w", b.upload.ID, err)
	}
	last := map[uint64][]byte{}
	for r := range slices.Chunk(raw, sumSize) {
		last[binary.BigEndian.Uint64(r)] = r[8:]
	}
	h := sha256.New()
	for _, i := range slices.Sorted(maps.Keys(last)) {
		h.Write(last[i])
	}
	return len(last), base64.StdEncoding.EncodeToString(h.Sum(nil)), nil
}

// Close lets another process open the upload.
func (b *BlockUpload) Close() error { return errors.Join(b.upload.Close(), b.sums.Close()) }
