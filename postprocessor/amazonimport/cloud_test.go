package amazonimport

import (
	"bytes"
	"context"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
	"github.com/ingot-build/ingot/internal/localcloud/faults"
	"github.com/ingot-build/ingot/internal/secret"
)

const region = "eu-west-1"

// locate points at the cloud.
func locate(c *cloudtest.Cloud) awsaccess.Locator {
	return func(context.Context) (*awsaccess.Endpoint, error) {
		return &awsaccess.Endpoint{URL: c.URL, Region: region, AccessKey: c.Key.AccessKey, SecretKey: secret.New(c.Key.Secret)}, nil
	}
}

// process runs the post-processor on a file.
func process(t *testing.T, c *cloudtest.Cloud, o Options, run string, in artifact.Set, out event.Sink) (types.Image, error) {
	t.Helper()
	b := build
	b.RunID = run
	p, err := Driver("1.2.3", locate(c)).Open(&Config{Options: o}, withRun(b))
	if err != nil {
		t.Fatal(err)
	}
	set, err := p.Process(cloudtest.Context(t), in, out)
	if err != nil {
		return types.Image{}, err
	}
	got, err := c.EC2(region).DescribeImages(cloudtest.Context(t), &ec2.DescribeImagesInput{ImageIds: []string{set.Images[0].ID}})
	if err != nil || len(got.Images) != 1 {
		t.Fatal(got, err)
	}
	return got.Images[0], nil
}

// snapshotContent reads the first bytes of a snapshot by the EBS direct APIs.
func snapshotContent(t *testing.T, c *cloudtest.Cloud, id string, size int) []byte {
	t.Helper()
	ctx := cloudtest.Context(t)
	client := ebs.NewFromConfig(c.Config(region))
	out := make([]byte, (size+block-1)/block*block)
	for p := ebs.NewListSnapshotBlocksPaginator(client, &ebs.ListSnapshotBlocksInput{SnapshotId: &id}); p.HasMorePages(); {
		page, err := p.NextPage(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for _, b := range page.Blocks {
			got, err := client.GetSnapshotBlock(ctx, &ebs.GetSnapshotBlockInput{SnapshotId: &id, BlockIndex: b.BlockIndex, BlockToken: b.BlockToken})
			if err != nil {
				t.Fatal(err)
			}
			data, err := io.ReadAll(got.BlockData)
			if err != nil {
				t.Fatal(err)
			}
			copy(out[int(*b.BlockIndex)*block:], data)
		}
	}
	return out[:size]
}

func rootSnapshot(i types.Image) string { return aws.ToString(i.BlockDeviceMappings[0].Ebs.SnapshotId) }

func TestCloudDirect(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	c := cloudtest.New(t)
	path := filepath.Join(t.TempDir(), "web")
	want := disk(t, path)
	o := Options{
		Name: "web {{build `Run`}}", Description: "d", IMDSSupport: "v2.0", Users: []string{"111122223333"},
		Tags: map[string]string{"Team": "a"}, Incremental: true,
	}
	img, err := process(t, c, o, "1", qemuImage(path, "raw"), event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if img.State != types.ImageStateAvailable || img.Architecture != types.ArchitectureValuesX8664 || img.BootMode != types.BootModeValuesUefi ||
		img.VirtualizationType != types.VirtualizationTypeHvm || img.ImdsSupport != types.ImdsSupportValuesV20 || aws.ToString(img.Description) != "d" || !aws.ToBool(img.EnaSupport) {
		t.Errorf("image %+v", img)
	}
	tags := imageOf(img).tags
	if tags["Team"] != "a" || tags["ingot:run"] != "1" || tags["BootMode"] != "uefi" {
		t.Errorf("tags %v", tags)
	}
	if !bytes.Equal(snapshotContent(t, c, rootSnapshot(img), len(want)), want) {
		t.Error("another content")
	}
	perms, err := c.EC2(region).DescribeImageAttribute(cloudtest.Context(t), &ec2.DescribeImageAttributeInput{ImageId: img.ImageId, Attribute: types.ImageAttributeNameLaunchPermission})
	if err != nil || len(perms.LaunchPermissions) != 1 || aws.ToString(perms.LaunchPermissions[0].UserId) != "111122223333" {
		t.Errorf("shared with %+v %v", perms, err)
	}
	// A difference: one block cleared, one new.
	clear(want[:block])
	copy(want[block:], "news")
	if err := os.WriteFile(path, want, 0o600); err != nil {
		t.Fatal(err)
	}
	before := puts(c)
	second, err := process(t, c, o, "2", qemuImage(path, "raw"), event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if n := puts(c) - before; n != 2 {
		t.Errorf("%d blocks sent", n)
	}
	if !bytes.Equal(snapshotContent(t, c, rootSnapshot(second), len(want)), want) {
		t.Error("another content of the difference")
	}
	// The image starts a machine.
	if _, err := c.EC2(region).RunInstances(cloudtest.Context(t), &ec2.RunInstancesInput{
		ImageId: second.ImageId, MinCount: aws.Int32(1), MaxCount: aws.Int32(1), InstanceType: types.InstanceTypeT3Micro,
		DryRun: aws.Bool(true),
	}); awsaccess.Code(err) != "DryRunOperation" {
		t.Error("start of the image:", err)
	}
}

func TestCloudEncrypted(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	c := cloudtest.New(t)
	path := filepath.Join(t.TempDir(), "web.raw")
	disk(t, path)
	img, err := process(t, c, Options{Name: "web", Encrypt: true}, "1", artifact.Set{Files: []string{path}}, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if !aws.ToBool(img.BlockDeviceMappings[0].Ebs.Encrypted) {
		t.Errorf("image %+v", img.BlockDeviceMappings[0].Ebs)
	}
	sess, err := awsaccess.Open(t.Context(), awsaccess.Config{}, "1", locate(c))
	if err != nil {
		t.Fatal(err)
	}
	account, err := sess.AccountID(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]string{
		"alias/x":                    "arn:aws:kms:eu-west-1:" + account + ":alias/x",
		"1234abcd":                   "arn:aws:kms:eu-west-1:" + account + ":key/1234abcd",
		"arn:aws:kms:eu-west-1:1:x/": "arn:aws:kms:eu-west-1:1:x/",
		"":                           "",
	} {
		j := &job{Options: Options{KMSKey: key, Encrypt: true}, sess: sess}
		if got, err := j.keyARN(t.Context()); err != nil || got != want {
			t.Errorf("%q: %q %v", key, got, err)
		}
	}
}

func puts(c *cloudtest.Cloud) (n int) {
	for _, call := range c.Calls() {
		if call == "ebs:PutSnapshotBlock" {
			n++
		}
	}
	return n
}

func TestCloudImport(t *testing.T) {
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	c := cloudtest.New(t)
	path := filepath.Join(t.TempDir(), "web.raw")
	disk(t, path)
	client := s3.NewFromConfig(c.Config(region), func(o *s3.Options) { o.UsePathStyle = true })
	if _, err := client.CreateBucket(cloudtest.Context(t), &s3.CreateBucketInput{Bucket: aws.String("images")}); err != nil {
		t.Fatal(err)
	}
	in := artifact.Set{Files: []string{path}}
	img, err := process(t, c, Options{ImportMethod: methodImport, S3Bucket: "images", Format: "raw", Name: "web", Description: "d"}, "1", in, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if aws.ToString(img.Name) != "web" || aws.ToString(img.Description) != "d" || imageOf(img).tags["ingot:run"] != "1" {
		t.Errorf("image %+v", img)
	}
	all, err := c.EC2(region).DescribeImages(cloudtest.Context(t), &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil || len(all.Images) != 1 {
		t.Errorf("%d images %v", len(all.Images), err)
	}
	left, err := client.ListObjectsV2(cloudtest.Context(t), &s3.ListObjectsV2Input{Bucket: aws.String("images")})
	if err != nil || len(left.Contents) != 0 {
		t.Errorf("objects left: %v %v", left, err)
	}
}

// TestCloudFaults lets every call of an import fail in turn, in each way that
// may pass: the import goes on, and makes nothing twice.
func TestCloudFaults(t *testing.T) {
	if testing.Short() {
		t.Skip("some pauses of the SDK")
	}
	dir := t.TempDir()
	path, ova := filepath.Join(dir, "web.raw"), filepath.Join(dir, "again.raw")
	disk(t, path)
	disk(t, ova)
	t.Setenv("XDG_STATE_HOME", t.TempDir())
	for method, in := range map[string]artifact.Set{methodDirect: {Files: []string{path}}, methodImport: {Files: []string{ova}}} {
		o := Options{ImportMethod: method, S3Bucket: "images", Format: "raw", Name: "web", Users: []string{"111122223333"}}
		run := func(t *testing.T, rules ...faults.Rule) *cloudtest.Cloud {
			t.Helper()
			c := cloudtest.New(t)
			client := s3.NewFromConfig(c.Config(region), func(o *s3.Options) { o.UsePathStyle = true })
			if _, err := client.CreateBucket(cloudtest.Context(t), &s3.CreateBucketInput{Bucket: aws.String("images")}); err != nil {
				t.Fatal(err)
			}
			if err := c.Faults.Set(rules...); err != nil {
				t.Fatal(err)
			}
			if _, err := process(t, c, o, "1", in, event.Discard); err != nil {
				t.Fatal(err)
			}
			return c
		}
		calls := run(t).Calls()
		calls = slices.Compact(slices.Sorted(slices.Values(calls)))
		for _, call := range calls {
			service, action, _ := strings.Cut(call, ":")
			for _, kind := range []faults.Kind{faults.Lost, faults.Broken, faults.Down, faults.Throttle} {
				if action == "CreateBucket" { // the test's own
					continue
				}
				t.Run(method+"/"+action+"/"+string(kind), func(t *testing.T) {
					c := run(t, faults.Rule{Service: service, Action: action, Kind: kind, Count: 1})
					own(t, c)
				})
			}
		}
	}
}

// own fails when there is more than one image with one snapshot.
func own(t *testing.T, c *cloudtest.Cloud) {
	t.Helper()
	ctx := cloudtest.Context(t)
	images, err := c.EC2(region).DescribeImages(ctx, &ec2.DescribeImagesInput{Owners: []string{"self"}})
	if err != nil {
		t.Fatal(err)
	}
	snaps, err := c.EC2(region).DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}})
	if err != nil {
		t.Fatal(err)
	}
	if len(images.Images) != 1 || len(snaps.Snapshots) != 1 {
		t.Errorf("%d images and %d snapshots", len(images.Images), len(snaps.Snapshots))
	}
}

// BenchmarkCloudDirect registers an image of 4 GiB with 1 GiB of data.
func BenchmarkCloudDirect(b *testing.B) {
	b.Setenv("XDG_STATE_HOME", b.TempDir())
	c := cloudtest.New(b)
	path := filepath.Join(b.TempDir(), "web.raw")
	f, err := os.Create(path)
	if err != nil {
		b.Fatal(err)
	}
	defer f.Close()
	const data = 1 << 30
	if _, err := io.CopyN(f, rand.NewChaCha8([32]byte{1}), data); err != nil {
		b.Fatal(err)
	}
	if err := f.Truncate(4 << 30); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(data)
	for i := 0; b.Loop(); i++ {
		bld := build
		bld.RunID = strconv.Itoa(i)
		p, err := Driver("1", locate(c)).Open(&Config{}, bld)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := p.Process(cloudtest.Context(b), artifact.Set{Files: []string{path}}, event.Discard); err != nil {
			b.Fatal(err)
		}
	}
}
