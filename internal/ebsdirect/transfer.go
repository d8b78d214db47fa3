package ebsdirect

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/poll"
)

// The limits of sending a request again.
const (
	attempts    = 12 // of one request
	pauseFirst  = 100 * time.Millisecond
	pauseMax    = 10 * time.Second
	visibleTime = 60 * time.Second // a snapshot just begun may not be known everywhere
	spareFaults = 200              // of an upload, besides a share of its blocks
)

// budget is how many requests of an upload may fail before it is given up: one
// that fails everywhere must not fail for hours. Throttling does not count.
type budget struct{ left atomic.Int64 }

func newBudget(blocks int) *budget {
	b := &budget{}
	b.left.Store(int64(spareFaults + blocks/4))
	return b
}

// again calls send until it is done, with growing pauses, when it fails for a
// reason that may pass. begun is when the snapshot was started; zero when that
// does not matter.
func (x *Uploader) again(ctx context.Context, b *budget, begun time.Time, send func(context.Context) error) error {
	limit := x.Request
	if limit == 0 {
		limit = defaultRequest
	}
	for n := 1; ; n++ {
		if err := x.Pace.wait(ctx); err != nil {
			return err
		}
		rctx, cancel := context.WithTimeout(ctx, limit)
		err := send(rctx)
		late := rctx.Err() != nil
		cancel()
		if err == nil {
			return nil
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		throttled := awsaccess.IsThrottled(err)
		unseen := !begun.IsZero() && time.Since(begun) < visibleTime && awsaccess.Code(err) == "ResourceNotFoundException"
		if !late && !unseen && !awsaccess.IsTemporary(err) {
			return err
		}
		if n >= attempts || !throttled && b != nil && b.left.Add(-1) < 0 {
			return fmt.Errorf("%w (%d attempts)", err, n)
		}
		p := min(pauseFirst<<(n-1), pauseMax)
		p = p/2 + rand.N(p/2)
		if throttled {
			x.Pace.hold(p / 4)
		}
		if err := poll.Sleep(ctx, p); err != nil {
			return err
		}
	}
}

// zeros is what a block that holds nothing is compared to. It is only read.
var zeros [BlockSize]byte

// errChanged says that a snapshot that was begun is of another content: it may
// hold blocks that the record does not tell of.
var errChanged = errors.New("the disk has changed since the upload began")

// A transfer sends the blocks of one snapshot.
type transfer struct {
	*Uploader
	u      Upload
	id     string
	sealed bool // nothing may be sent any more
	begun  time.Time
	budget *budget
	zero   Digest // of zeros
	total  int64

	mu      sync.Mutex
	sent    Manifest // what the snapshot was given, zeros included
	content Manifest // what the disk holds
	done    int64
}

func newTransfer(x *Uploader, u Upload, id string, sent Manifest) *transfer {
	t := &transfer{
		Uploader: x, u: u, id: id, begun: time.Now(), zero: sha256.Sum256(zeros[:]),
		sent: Manifest{}, content: Manifest{},
	}
	for i, d := range sent {
		t.sent[i] = d
	}
	return t
}

// run sends the blocks, several at a time: each goroutine reads, compares,
// digests and sends with a buffer of its own.
func (t *transfer) run(ctx context.Context, blocks []int32) error {
	t.budget = newBudget(len(blocks))
	t.total = int64(len(blocks)) * BlockSize
	workers := t.Workers
	if workers <= 0 {
		workers = DefaultWorkers
	}
	var next atomic.Int64
	g, gctx := errgroup.WithContext(ctx)
	for range min(workers, len(blocks)) {
		g.Go(func() error {
			buf := make([]byte, BlockSize)
			for {
				n := next.Add(1) - 1
				if n >= int64(len(blocks)) {
					return nil
				}
				clean, err := t.block(gctx, blocks[n], buf)
				if err != nil {
					return err
				}
				if !clean {
					buf = make([]byte, BlockSize)
				}
			}
		})
	}
	err := g.Wait()
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// block brings block i of the snapshot to what the disk holds. clean is false
// when a request that failed may still read buf.
func (t *transfer) block(ctx context.Context, i int32, buf []byte) (clean bool, err error) {
	if err := context.Cause(ctx); err != nil {
		return true, err
	}
	if err := readBlock(t.u.Disk, i, buf); err != nil {
		return true, err
	}
	isZero := bytes.Equal(buf, zeros[:])
	d := t.zero
	if !isZero {
		d = sha256.Sum256(buf)
	}
	clean = true
	if needed, recorded := t.needs(i, d, isZero); needed {
		if t.sealed || recorded {
			return true, errChanged
		}
		sum := d.base64()
		tries := 0
		err = t.again(ctx, t.budget, t.begun, func(ctx context.Context) error {
			tries++
			return t.put(ctx, i, buf, sum)
		})
		clean = tries == 1 && err == nil
		if err != nil {
			return clean, fmt.Errorf("block %d: %w", i, err)
		}
		if t.u.Record != nil {
			if err := t.u.Record.Sent(i, d); err != nil {
				return clean, err
			}
		}
	}
	t.finish(i, d, isZero)
	return clean, nil
}

// needs reports whether the snapshot holds something else than d at block i,
// and whether that was sent before. What was not is the parent's, or zero.
func (t *transfer) needs(i int32, d Digest, isZero bool) (needed, recorded bool) {
	t.mu.Lock()
	has, recorded := t.sent[i]
	t.mu.Unlock()
	if recorded {
		return has != d, true
	}
	if has, ok := t.u.ParentManifest[i]; ok {
		return has != d, false
	}
	return !isZero, false
}

func (t *transfer) put(ctx context.Context, i int32, buf []byte, sum string) error {
	out, err := t.Blocks.PutSnapshotBlock(ctx, &ebs.PutSnapshotBlockInput{
		SnapshotId: &t.id, BlockIndex: &i, BlockData: bytes.NewReader(buf), DataLength: aws.Int32(BlockSize),
		Checksum: &sum, ChecksumAlgorithm: ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
	})
	if err != nil {
		return err
	}
	if out.Checksum != nil && *out.Checksum != sum {
		return errors.New("the checksum that came back is another one")
	}
	return nil
}

func (t *transfer) finish(i int32, d Digest, isZero bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	_, before := t.sent[i]
	_, inherited := t.u.ParentManifest[i]
	switch {
	case before, !inherited && !isZero, inherited && t.u.ParentManifest[i] != d:
		t.sent[i] = d
	}
	if !isZero {
		t.content[i] = d
	}
	t.done += BlockSize
	if t.u.Progress != nil {
		t.u.Progress(t.done, t.total)
	}
}
