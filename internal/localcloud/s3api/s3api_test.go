package s3api_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
)

func TestObjects(t *testing.T) {
	c := cloudtest.New(t)
	ctx := cloudtest.Context(t)
	s := s3.NewFromConfig(c.Config("eu-west-1"), func(o *s3.Options) { o.UsePathStyle = true })
	b := aws.String("disks")
	if _, err := s.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: b, CreateBucketConfiguration: &types.CreateBucketConfiguration{LocationConstraint: "eu-west-1"}}); err != nil {
		t.Fatal(err)
	}
	for _, key := range []string{"a", "dir/b c+~", "dir/d"} {
		if _, err := s.PutObject(ctx, &s3.PutObjectInput{Bucket: b, Key: &key, Body: strings.NewReader("text of " + key), Metadata: map[string]string{"m": "1"}}); err != nil {
			t.Fatal(key, err)
		}
		got, err := s.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: &key})
		if err != nil {
			t.Fatal(key, err)
		}
		text, err := io.ReadAll(got.Body)
		if err != nil || string(text) != "text of "+key || got.Metadata["m"] != "1" {
			t.Errorf("%q %v %v", text, got.Metadata, err)
		}
	}
	part, err := s.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: aws.String("a"), Range: aws.String("bytes=5-6")})
	if err != nil {
		t.Fatal(err)
	}
	if text, _ := io.ReadAll(part.Body); string(text) != "of" {
		t.Errorf("%q", text)
	}
	list, err := s.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: b, Delimiter: aws.String("/")})
	if err != nil || len(list.Contents) != 1 || len(list.CommonPrefixes) != 1 || *list.CommonPrefixes[0].Prefix != "dir/" {
		t.Fatal(list, err)
	}
	keys := 0
	for p := s3.NewListObjectsV2Paginator(s, &s3.ListObjectsV2Input{Bucket: b, MaxKeys: aws.Int32(2)}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		keys += len(page.Contents)
	}
	if keys != 3 {
		t.Errorf("%d keys in pages", keys)
	}
	var none *types.NoSuchKey
	if _, err := s.GetObject(ctx, &s3.GetObjectInput{Bucket: b, Key: aws.String("none")}); !errors.As(err, &none) {
		t.Error(err)
	}
	if _, err := s.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: b}); err == nil {
		t.Error("a bucket with objects was deleted")
	}
	var ids []types.ObjectIdentifier
	for _, key := range []string{"a", "dir/b c+~", "dir/d"} {
		ids = append(ids, types.ObjectIdentifier{Key: &key})
	}
	if _, err := s.DeleteObjects(ctx, &s3.DeleteObjectsInput{Bucket: b, Delete: &types.Delete{Objects: ids}}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.DeleteBucket(ctx, &s3.DeleteBucketInput{Bucket: b}); err != nil {
		t.Error(err)
	}
}

func TestMultipart(t *testing.T) {
	c := cloudtest.New(t)
	ctx := cloudtest.Context(t)
	s := s3.NewFromConfig(c.Config("us-east-1"), func(o *s3.Options) { o.UsePathStyle = true })
	b, key := aws.String("disks"), aws.String("big")
	if _, err := s.CreateBucket(ctx, &s3.CreateBucketInput{Bucket: b}); err != nil {
		t.Fatal(err)
	}
	u, err := s.CreateMultipartUpload(ctx, &s3.CreateMultipartUploadInput{Bucket: b, Key: key})
	if err != nil {
		t.Fatal(err)
	}
	var parts []types.CompletedPart
	for i, content := range [][]byte{bytes.Repeat([]byte("x"), 5<<20), []byte("end")} {
		n := aws.Int32(int32(i + 1))
		p, err := s.UploadPart(ctx, &s3.UploadPartInput{Bucket: b, Key: key, UploadId: u.UploadId, PartNumber: n, Body: bytes.NewReader(content)})
		if err != nil {
			t.Fatal(err)
		}
		parts = append(parts, types.CompletedPart{ETag: p.ETag, PartNumber: n})
	}
	if _, err := s.CompleteMultipartUpload(ctx, &s3.CompleteMultipartUploadInput{
		Bucket: b, Key: key, UploadId: u.UploadId, MultipartUpload: &types.CompletedMultipartUpload{Parts: parts},
	}); err != nil {
		t.Fatal(err)
	}
	head, err := s.HeadObject(ctx, &s3.HeadObjectInput{Bucket: b, Key: key})
	if err != nil || *head.ContentLength != 5<<20+3 {
		t.Fatal(head, err)
	}
	var gone *types.NoSuchUpload
	if _, err := s.AbortMultipartUpload(ctx, &s3.AbortMultipartUploadInput{Bucket: b, Key: key, UploadId: u.UploadId}); !errors.As(err, &gone) {
		t.Error(err)
	}
}
