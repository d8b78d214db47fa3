package amazonimport

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"sync"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"golang.org/x/sync/errgroup"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/event"
)

// The shape of a multipart upload
// (https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html).
const (
	minPart  = 16 << 20
	maxParts = 10000
	partsAt  = 8 // at a time
)

// s3API is the calls of S3 that are made.
type s3API interface {
	AbortMultipartUpload(context.Context, *s3.AbortMultipartUploadInput, ...func(*s3.Options)) (*s3.AbortMultipartUploadOutput, error)
	CompleteMultipartUpload(context.Context, *s3.CompleteMultipartUploadInput, ...func(*s3.Options)) (*s3.CompleteMultipartUploadOutput, error)
	CreateMultipartUpload(context.Context, *s3.CreateMultipartUploadInput, ...func(*s3.Options)) (*s3.CreateMultipartUploadOutput, error)
	DeleteObject(context.Context, *s3.DeleteObjectInput, ...func(*s3.Options)) (*s3.DeleteObjectOutput, error)
	HeadObject(context.Context, *s3.HeadObjectInput, ...func(*s3.Options)) (*s3.HeadObjectOutput, error)
	UploadPart(context.Context, *s3.UploadPartInput, ...func(*s3.Options)) (*s3.UploadPartOutput, error)
}

// partSize returns the size of the parts of a file of size bytes.
func partSize(size int64) int64 {
	const unit = 1 << 20
	return max(minPart, (size/maxParts/unit+1)*unit)
}

// put uploads the file, several parts at a time. When it fails there is no
// object and no part is left.
func (j *job) put(ctx context.Context, client s3API, key string) error {
	f, err := os.Open(j.src.path)
	if err != nil {
		return err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return err
	}
	if fi.Size() == 0 {
		return fmt.Errorf("%s is empty", j.src.path)
	}
	in := &s3.CreateMultipartUploadInput{Bucket: &j.S3Bucket, Key: &key, ServerSideEncryption: types.ServerSideEncryption(j.S3Encryption)}
	if j.S3EncryptionKey != "" {
		in.SSEKMSKeyId = &j.S3EncryptionKey
	}
	j.say("Uploading %s to s3://%s/%s", j.src.path, j.S3Bucket, key)
	up, err := client.CreateMultipartUpload(ctx, in)
	if err != nil {
		return fmt.Errorf("upload to bucket %s: %w", j.S3Bucket, err)
	}
	parts, err := j.putParts(ctx, client, f, fi.Size(), key, up.UploadId)
	if err == nil {
		err = j.completeUpload(ctx, client, key, fi.Size(), up.UploadId, parts)
	}
	if err == nil {
		return nil
	}
	return cleanUp(ctx, fmt.Errorf("upload to s3://%s/%s: %w", j.S3Bucket, key, err), func(ctx context.Context) error {
		_, err := client.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: &j.S3Bucket, Key: &key, UploadId: up.UploadId})
		if awsaccess.Code(err) == "NoSuchUpload" {
			return j.deleteObject(ctx, client, key) // it was completed, and the reply got lost
		}
		return err
	})
}

// completeUpload makes one object of the parts. An upload that is gone was
// completed by a request whose reply got lost, when the object is there.
func (j *job) completeUpload(ctx context.Context, client s3API, key string, size int64, id *string, parts []types.CompletedPart) error {
	_, err := client.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: &j.S3Bucket, Key: &key, UploadId: id, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	})
	if awsaccess.Code(err) != "NoSuchUpload" {
		return err
	}
	out, herr := client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: &j.S3Bucket, Key: &key})
	if herr != nil || aws.ToInt64(out.ContentLength) != size {
		return err
	}
	return nil
}

func (j *job) putParts(ctx context.Context, client s3API, f io.ReaderAt, size int64, key string, id *string) ([]types.CompletedPart, error) {
	part := partSize(size)
	meter := event.NewMeter(j.out, "upload "+j.src.path, size)
	var (
		mu    sync.Mutex
		done  int64
		parts []types.CompletedPart
	)
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(partsAt)
	for n := int32(1); int64(n-1)*part < size; n++ {
		g.Go(func() error {
			off := int64(n-1) * part
			length := min(part, size-off)
			out, err := client.UploadPart(gctx, &s3.UploadPartInput{
				Bucket: &j.S3Bucket, Key: &key, UploadId: id, PartNumber: &n,
				Body: io.NewSectionReader(f, off, length), ContentLength: &length,
			})
			if err != nil {
				return fmt.Errorf("part %d: %w", n, err)
			}
			mu.Lock()
			defer mu.Unlock()
			done += length
			meter.Set(done)
			parts = append(parts, types.CompletedPart{
				PartNumber: aws.Int32(n), ETag: out.ETag, ChecksumCRC32: out.ChecksumCRC32, ChecksumCRC64NVME: out.ChecksumCRC64NVME,
			})
			return nil
		})
	}
	err := g.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	if err != nil {
		return nil, err
	}
	meter.End()
	slices.SortFunc(parts, func(a, b types.CompletedPart) int { return int(*a.PartNumber - *b.PartNumber) })
	return parts, nil
}

func (j *job) deleteObject(ctx context.Context, client s3API, key string) error {
	_, err := client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: &j.S3Bucket, Key: &key})
	var none *types.NoSuchKey
	if err != nil && !errors.As(err, &none) {
		return fmt.Errorf("delete s3://%s/%s: %w", j.S3Bucket, key, err)
	}
	return nil
}
