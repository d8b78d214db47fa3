package ebsapi_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
)

const (
	here      = "us-west-2"
	blockSize = 512 << 10
)

type fixture struct {
	*cloudtest.Cloud
	t   testing.TB
	ctx context.Context
	ebs *ebs.Client
}

func setUp(t testing.TB) *fixture {
	t.Helper()
	c := cloudtest.New(t)
	return &fixture{Cloud: c, t: t, ctx: cloudtest.Context(t), ebs: ebs.NewFromConfig(c.Config(here))}
}

func (f *fixture) ok(err error) {
	f.t.Helper()
	if err != nil {
		f.t.Fatal(err)
	}
}

func block(b byte) []byte { return bytes.Repeat([]byte{b}, blockSize) }

func checksum(data []byte) string {
	sum := sha256.Sum256(data)
	return base64.StdEncoding.EncodeToString(sum[:])
}

func (f *fixture) start(parent string) string {
	f.t.Helper()
	in := &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), Description: aws.String("d"), Tags: []types.Tag{{Key: aws.String("a"), Value: aws.String("b")}}}
	if parent != "" {
		in.ParentSnapshotId = &parent
	}
	s, err := f.ebs.StartSnapshot(f.ctx, in)
	f.ok(err)
	if s.Status != types.StatusPending || *s.BlockSize != blockSize || *s.VolumeSize != 1 || s.StartTime.IsZero() || *s.Tags[0].Key != "a" || *s.OwnerId != localcloud.AccountID {
		f.t.Errorf("%+v", s)
	}
	return *s.SnapshotId
}

func (f *fixture) put(id string, index int32, data []byte) error {
	_, err := f.ebs.PutSnapshotBlock(f.ctx, &ebs.PutSnapshotBlockInput{
		SnapshotId: &id, BlockIndex: &index, BlockData: bytes.NewReader(data), DataLength: aws.Int32(int32(len(data))),
		Checksum: aws.String(checksum(data)), ChecksumAlgorithm: types.ChecksumAlgorithmChecksumAlgorithmSha256, Progress: aws.Int32(7),
	})
	return err
}

// linear is the aggregated checksum of blocks in their order.
func linear(blocks ...[]byte) *string {
	h := sha256.New()
	for _, b := range blocks {
		sum := sha256.Sum256(b)
		h.Write(sum[:])
	}
	return aws.String(base64.StdEncoding.EncodeToString(h.Sum(nil)))
}

func (f *fixture) complete(id string, count int32, sum *string) error {
	in := &ebs.CompleteSnapshotInput{SnapshotId: &id, ChangedBlocksCount: &count}
	if sum != nil {
		in.Checksum, in.ChecksumAlgorithm, in.ChecksumAggregationMethod = sum, types.ChecksumAlgorithmChecksumAlgorithmSha256, types.ChecksumAggregationMethodChecksumAggregationLinear
	}
	_, err := f.ebs.CompleteSnapshot(f.ctx, in)
	return err
}

func (f *fixture) completed(id string) {
	f.t.Helper()
	cloudtest.Eventually(f.t, id+" is completed", func() bool {
		all, err := f.Snapshots(f.ctx, here, []string{id})
		f.ok(err)
		return all[0].State == "completed"
	})
}

func TestWriteAndReadBack(t *testing.T) {
	f := setUp(t)
	id := f.start("")
	g, _ := errgroup.WithContext(f.ctx)
	for i := range int32(16) {
		g.Go(func() error { return f.put(id, i*3, block(byte(i+1))) })
	}
	f.ok(g.Wait())
	f.ok(f.put(id, 3, block(0x99))) // again: the last one wins
	want := make([][]byte, 16)
	for i := range want {
		want[i] = block(byte(i + 1))
	}
	want[1] = block(0x99)
	var invalid *types.ValidationException
	if err := f.complete(id, 15, nil); !errors.As(err, &invalid) {
		t.Errorf("a wrong number of blocks: %v", err)
	}
	if err := f.complete(id, 16, linear(want[0])); !errors.As(err, &invalid) {
		t.Errorf("a wrong checksum: %v", err)
	}
	f.ok(f.complete(id, 16, linear(want...)))
	f.ok(f.complete(id, 16, linear(want...))) // the reply may have been lost
	f.completed(id)
	f.ok(f.complete(id, 16, linear(want...)))
	if err := f.put(id, 1, block(1)); !errors.As(err, &invalid) {
		t.Errorf("a block of a completed snapshot: %v", err)
	}

	list, err := f.ebs.ListSnapshotBlocks(f.ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: &id})
	f.ok(err)
	if len(list.Blocks) != 16 || list.NextToken != nil || *list.VolumeSize != 1 || *list.BlockSize != blockSize || list.ExpiryTime.IsZero() {
		t.Fatalf("%+v", list)
	}
	for n, b := range list.Blocks {
		got := f.read(id, *b.BlockIndex, *b.BlockToken)
		if *b.BlockIndex != int32(n*3) || !bytes.Equal(got, want[n]) {
			t.Errorf("the block %d is %#x…, want %#x…", *b.BlockIndex, got[0], want[n][0])
		}
	}
	_, err = f.ebs.GetSnapshotBlock(f.ctx, &ebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: aws.Int32(1), BlockToken: list.Blocks[0].BlockToken})
	if !errors.As(err, &invalid) || invalid.Reason != types.ValidationExceptionReasonInvalidBlockToken {
		t.Errorf("the token of another block: %v", err)
	}
}

func (f *fixture) read(id string, index int32, token string) []byte {
	f.t.Helper()
	out, err := f.ebs.GetSnapshotBlock(f.ctx, &ebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: &index, BlockToken: &token})
	f.ok(err)
	defer out.BlockData.Close()
	data, err := io.ReadAll(out.BlockData)
	f.ok(err)
	if *out.DataLength != int32(len(data)) || *out.Checksum != checksum(data) || out.ChecksumAlgorithm != types.ChecksumAlgorithmChecksumAlgorithmSha256 {
		f.t.Errorf("%+v of %d bytes", out, len(data))
	}
	return data
}

func TestWhatChangedOverAParent(t *testing.T) {
	f := setUp(t)
	first := f.start("")
	for i := range int32(5) {
		f.ok(f.put(first, i, block(byte(i+1))))
	}
	f.ok(f.complete(first, 5, nil))
	f.completed(first)
	second := f.start(first)
	f.ok(f.put(second, 1, block(0x77)))
	f.ok(f.put(second, 2, block(3))) // as it is
	f.ok(f.put(second, 3, block(0))) // not there any more
	f.ok(f.put(second, 9, block(0x79)))
	f.ok(f.complete(second, 4, nil))
	f.completed(second)
	out, err := f.ebs.ListChangedBlocks(f.ctx, &ebs.ListChangedBlocksInput{FirstSnapshotId: &first, SecondSnapshotId: &second})
	f.ok(err)
	var got []string
	for _, b := range out.ChangedBlocks {
		got = append(got, fmt.Sprintf("%d %t %t", *b.BlockIndex, b.FirstBlockToken != nil, b.SecondBlockToken != nil))
	}
	if want := []string{"1 true true", "3 true false", "9 false true"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
	if b := f.read(first, 1, *out.ChangedBlocks[0].FirstBlockToken); b[0] != 2 {
		t.Errorf("%#x", b[0])
	}
	if b := f.read(second, 1, *out.ChangedBlocks[0].SecondBlockToken); b[0] != 0x77 {
		t.Errorf("%#x", b[0])
	}
	all, err := f.ebs.ListChangedBlocks(f.ctx, &ebs.ListChangedBlocksInput{SecondSnapshotId: &second})
	f.ok(err)
	if len(all.ChangedBlocks) != 5 {
		t.Errorf("%d blocks without a first snapshot, want 5", len(all.ChangedBlocks))
	}
	other := f.start("")
	f.ok(f.put(other, 0, block(0xee)))
	f.ok(f.complete(other, 1, nil))
	f.completed(other)
	var invalid *types.ValidationException
	_, err = f.ebs.ListChangedBlocks(f.ctx, &ebs.ListChangedBlocksInput{FirstSnapshotId: &other, SecondSnapshotId: &second})
	if !errors.As(err, &invalid) || invalid.Reason != types.ValidationExceptionReasonUnrelatedSnapshots {
		t.Errorf("snapshots that have nothing to do with each other: %v", err)
	}
}

func TestPagesOfBlocks(t *testing.T) {
	if testing.Short() {
		t.Skip("writes a large disk")
	}
	f := setUp(t)
	id := f.start("")
	g, _ := errgroup.WithContext(f.ctx)
	g.SetLimit(4)
	for i := range int32(250) {
		g.Go(func() error { return f.put(id, i, block(byte(i+1))) })
	}
	f.ok(g.Wait())
	f.ok(f.complete(id, 250, nil))
	f.completed(id)
	n := 0
	for p := ebs.NewListSnapshotBlocksPaginator(f.ebs, &ebs.ListSnapshotBlocksInput{SnapshotId: &id, MaxResults: aws.Int32(100), StartingBlockIndex: aws.Int32(20)}); p.HasMorePages(); {
		page, err := p.NextPage(f.ctx)
		f.ok(err)
		if len(page.Blocks) > 100 {
			t.Errorf("a page of %d", len(page.Blocks))
		}
		n += len(page.Blocks)
	}
	if n != 230 {
		t.Errorf("%d blocks, want 230", n)
	}
	var invalid *types.ValidationException
	_, err := f.ebs.ListSnapshotBlocks(f.ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: &id, NextToken: aws.String("bm9uc2Vuc2U")})
	if !errors.As(err, &invalid) || invalid.Reason != types.ValidationExceptionReasonInvalidPageToken {
		t.Errorf("%v", err)
	}
}

func TestRefusals(t *testing.T) {
	f := setUp(t)
	id := f.start("")
	var invalid *types.ValidationException
	data := block(1)
	for name, in := range map[string]*ebs.PutSnapshotBlockInput{
		"checksum": {BlockIndex: aws.Int32(0), BlockData: bytes.NewReader(data), DataLength: aws.Int32(blockSize), Checksum: aws.String(checksum(block(2)))},
		"short":    {BlockIndex: aws.Int32(0), BlockData: bytes.NewReader(data[:512]), DataLength: aws.Int32(512), Checksum: aws.String(checksum(data[:512]))},
		"outside":  {BlockIndex: aws.Int32(2048), BlockData: bytes.NewReader(data), DataLength: aws.Int32(blockSize), Checksum: aws.String(checksum(data))},
	} {
		in.SnapshotId, in.ChecksumAlgorithm = &id, types.ChecksumAlgorithmChecksumAlgorithmSha256
		if _, err := f.ebs.PutSnapshotBlock(f.ctx, in); !errors.As(err, &invalid) || invalid.Reason != types.ValidationExceptionReasonInvalidBlock {
			t.Errorf("%s: %v", name, err)
		}
	}
	var missing *types.ResourceNotFoundException
	if err := f.put("snap-0123456789abcdef0", 0, data); !errors.As(err, &missing) || missing.Reason != types.ResourceNotFoundExceptionReasonSnapshotNotFound {
		t.Errorf("%v", err)
	}
	if _, err := f.ebs.ListSnapshotBlocks(f.ctx, &ebs.ListSnapshotBlocksInput{SnapshotId: &id}); !errors.As(err, &invalid) {
		t.Errorf("the blocks of a pending snapshot: %v", err)
	}
	in := &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ClientToken: aws.String("token-1")}
	one, err := f.ebs.StartSnapshot(f.ctx, in)
	f.ok(err)
	two, err := f.ebs.StartSnapshot(f.ctx, in)
	f.ok(err)
	if *one.SnapshotId != *two.SnapshotId {
		t.Errorf("one token made %s and %s", *one.SnapshotId, *two.SnapshotId)
	}
	in.VolumeSize = aws.Int64(2)
	var conflict *types.ConflictException
	if _, err := f.ebs.StartSnapshot(f.ctx, in); !errors.As(err, &conflict) {
		t.Errorf("%v", err)
	}
	if _, err := f.ebs.StartSnapshot(f.ctx, &ebs.StartSnapshotInput{VolumeSize: aws.Int64(1), ParentSnapshotId: &id}); !errors.As(err, &invalid) {
		t.Errorf("a parent that is pending: %v", err)
	}
	f.ok(f.put(id, 0, data))
	f.ok(f.DeleteSnapshot(f.ctx, here, id))
	cloudtest.Eventually(t, "blocks of a deleted snapshot are refused", func() bool { return errors.As(f.put(id, 0, data), &missing) })
}

func BenchmarkPut(b *testing.B) {
	f := setUp(b)
	id := f.start("")
	data := make([][]byte, 64)
	for i := range data {
		data[i] = block(byte(i + 1))
	}
	b.SetBytes(blockSize)
	b.ResetTimer()
	g, _ := errgroup.WithContext(f.ctx)
	g.SetLimit(16)
	for i := range b.N {
		g.Go(func() error { return f.put(id, int32(i%2048), data[i%64]) })
	}
	f.ok(g.Wait())
}
