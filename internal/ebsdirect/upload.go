package ebsdirect

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ebs"
	ebstypes "github.com/aws/aws-sdk-go-v2/service/ebs/types"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/awsaccess"
)

// The calls that are made.
type (
	// Blocks is the EBS direct API. Its client sends no request twice.
	Blocks interface {
		StartSnapshot(context.Context, *ebs.StartSnapshotInput, ...func(*ebs.Options)) (*ebs.StartSnapshotOutput, error)
		PutSnapshotBlock(context.Context, *ebs.PutSnapshotBlockInput, ...func(*ebs.Options)) (*ebs.PutSnapshotBlockOutput, error)
		CompleteSnapshot(context.Context, *ebs.CompleteSnapshotInput, ...func(*ebs.Options)) (*ebs.CompleteSnapshotOutput, error)
	}
	// Snapshots is what EC2 is asked.
	Snapshots interface {
		DescribeSnapshots(context.Context, *ec2.DescribeSnapshotsInput, ...func(*ec2.Options)) (*ec2.DescribeSnapshotsOutput, error)
		DeleteSnapshot(context.Context, *ec2.DeleteSnapshotInput, ...func(*ec2.Options)) (*ec2.DeleteSnapshotOutput, error)
	}
	// Wait polls, as [awsaccess.Session.Wait] does.
	Wait func(ctx context.Context, limit time.Duration, probe func(context.Context) (bool, error)) error
)

// Defaults of an [Uploader].
const (
	DefaultWorkers = 64
	// DefaultRate is below the quota of 1000 blocks a second that a snapshot
	// and an account have
	// (https://docs.aws.amazon.com/ebs/latest/userguide/ebs-resource-quotas.html).
	DefaultRate    = 900
	defaultRequest = 15 * time.Second
	completeTime   = time.Hour
	cleanUpTime    = time.Minute
	idleMinutes    = 60 // EBS drops a snapshot that gets no blocks for so long
	maxTags        = 50
	maxAttempts    = 20
	sealTime       = 2 * time.Minute
)

// An Uploader publishes disks to one region of one account. Its methods may be
// called from any goroutine.
type Uploader struct {
	Blocks    Blocks
	Snapshots Snapshots
	Wait      Wait

	Workers int           // blocks under way at a time; 0: 64
	Pace    *Pace         // nil: not limited
	Request time.Duration // limit of one request; 0: 15 s
}

// An Upload is one disk to publish.
type Upload struct {
	Disk        Disk
	Token       string // the same for the same content and purpose, at most 60 characters
	Description string
	Tags        map[string]string

	Encrypted bool   // with KMSKey, or the account's default key
	KMSKey    string // ARN

	// Parent is a snapshot of the account whose content ParentManifest tells:
	// only the blocks that differ are sent. It excludes Encrypted: what a
	// parent is encrypted with is inherited.
	Parent         string
	ParentManifest Manifest

	Record   Record                  // nil: a killed upload starts again
	Progress func(done, total int64) // bytes; may be nil; from any goroutine, one call at a time
}

// A Result is a snapshot that is completed.
type Result struct {
	SnapshotID string
	VolumeSize int64 // GiB
	Sent       int   // blocks sent, by this process or one before it
	Manifest   Manifest
}

// A SnapshotError is a snapshot that was begun and is not good.
type SnapshotError struct {
	SnapshotID string
	Err        error
}

func (e *SnapshotError) Error() string { return "snapshot " + e.SnapshotID + ": " + e.Err.Error() }
func (e *SnapshotError) Unwrap() error { return e.Err }

// Publish returns the completed snapshot of u.Disk. Called again with the same
// token and record, by another process too, it goes on with the snapshot that
// was begun, sending what is missing and what changed. On error and at the end
// of ctx the snapshot is kept for that when there is a record, and deleted when
// there is none; see [Uploader.Discard]. A failure after the snapshot was begun
// is a [*SnapshotError].
func (x *Uploader) Publish(ctx context.Context, u Upload) (Result, error) {
	if err := u.check(); err != nil {
		return Result{}, err
	}
	extents, err := u.Disk.Extents(ctx)
	if err != nil {
		return Result{}, err
	}
	h, sent, state, err := x.resume(ctx, u)
	if err != nil {
		return Result{}, err
	}
	r, err := x.publish(ctx, u, h, extents, sent, state)
	if errors.Is(err, errChanged) {
		_ = x.Discard(ctx, h.SnapshotID)
		r, err = x.publish(ctx, u, Header{Token: u.Token, Attempt: h.Attempt + 1, Size: h.Size, Parent: h.Parent}, extents, nil, "")
	}
	return r, err
}

// publish goes on with the snapshot of h, or starts one where h names none.
func (x *Uploader) publish(ctx context.Context, u Upload, h Header, extents []Extent, sent Manifest, state ec2types.SnapshotState) (_ Result, err error) {
	size := u.Disk.Size()
	gib := (size + 1<<30 - 1) >> 30
	resumed := h.SnapshotID != ""
	if !resumed {
		if h, err = x.start(ctx, u, h, gib); err != nil {
			return Result{}, err
		}
	}
	t := newTransfer(x, u, h.SnapshotID, sent)
	t.sealed = state == ec2types.SnapshotStateCompleted
	err = t.run(ctx, merge(blocksOf(extents, size), merge(u.ParentManifest.indices(), sent.indices())))
	if err == nil && !t.sealed {
		err = x.complete(ctx, h.SnapshotID, t.sent, resumed)
	}
	if err == nil {
		return Result{SnapshotID: h.SnapshotID, VolumeSize: gib, Sent: len(t.sent), Manifest: t.content}, nil
	}
	if u.Record == nil {
		err = errors.Join(err, x.Discard(ctx, h.SnapshotID))
	}
	return Result{}, &SnapshotError{h.SnapshotID, err}
}

func (u *Upload) check() error {
	switch {
	case u.Disk.Size() <= 0:
		return errors.New("the disk is empty")
	case u.Disk.Size() > 64<<40:
		return errors.New("the disk is larger than 64 TiB, the most a volume can have")
	case u.Parent != "" && u.Encrypted:
		return errors.New("a snapshot with a parent has its parent's encryption: encrypt and parent exclude each other")
	case u.Token == "" || len(u.Token) > 60:
		return errors.New("the token has 1 to 60 characters")
	case len(u.Tags) > maxTags:
		return fmt.Errorf("%d tags; a snapshot has at most %d", len(u.Tags), maxTags)
	}
	return nil
}

// resume returns the snapshot that was begun and is still good, or a header
// whose next attempt is to be started.
func (x *Uploader) resume(ctx context.Context, u Upload) (Header, Manifest, ec2types.SnapshotState, error) {
	fresh := Header{Token: u.Token, Size: u.Disk.Size(), Parent: u.Parent}
	if u.Record == nil {
		return fresh, nil, "", nil
	}
	h, sent, err := u.Record.Load()
	if err != nil {
		return h, nil, "", err
	}
	if h.SnapshotID == "" || h.Token != u.Token {
		return fresh, nil, "", nil
	}
	if h.Size == u.Disk.Size() && h.Parent == u.Parent {
		state, err := x.state(ctx, h.SnapshotID)
		var failed *stateError
		if err != nil && !errors.As(err, &failed) {
			return h, nil, "", err
		}
		if state == ec2types.SnapshotStatePending || state == ec2types.SnapshotStateCompleted {
			return h, sent, state, nil
		}
	}
	// What is there is of no use. It goes if it can: an image may have it.
	_ = x.Discard(ctx, h.SnapshotID)
	// The token of an attempt is bound to what it asked for.
	fresh.Attempt = h.Attempt + 1
	return fresh, nil, "", nil
}

// state returns the state of a snapshot, "" when there is none.
func (x *Uploader) state(ctx context.Context, id string) (ec2types.SnapshotState, error) {
	out, err := x.Snapshots.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: []string{id}})
	switch {
	case awsaccess.Code(err) == "InvalidSnapshot.NotFound":
		return "", nil
	case err != nil:
		return "", fmt.Errorf("state of snapshot %s: %w", id, err)
	case len(out.Snapshots) == 0:
		return "", nil
	}
	s := out.Snapshots[0]
	if s.State == ec2types.SnapshotStateError {
		return s.State, &stateError{aws.ToString(s.StateMessage)}
	}
	return s.State, nil
}

type stateError struct{ message string }

func (e *stateError) Error() string {
	if e.message == "" {
		return "AWS reports that the snapshot failed"
	}
	return "AWS reports that the snapshot failed: " + e.message
}

func (x *Uploader) start(ctx context.Context, u Upload, h Header, gib int64) (Header, error) {
	in := &ebs.StartSnapshotInput{VolumeSize: &gib, Timeout: aws.Int32(idleMinutes)}
	if u.Description != "" {
		in.Description = &u.Description
	}
	if u.Parent != "" {
		in.ParentSnapshotId = &u.Parent
	}
	if u.Encrypted {
		in.Encrypted = aws.Bool(true)
		if u.KMSKey != "" {
			in.KmsKeyArn = &u.KMSKey
		}
	}
	for k, v := range u.Tags {
		in.Tags = append(in.Tags, ebstypes.Tag{Key: &k, Value: &v})
	}
	var out *ebs.StartSnapshotOutput
	for ; ; h.Attempt++ {
		in.ClientToken = aws.String(u.Token)
		if h.Attempt > 0 {
			in.ClientToken = aws.String(u.Token + "-" + strconv.Itoa(h.Attempt))
		}
		err := x.again(ctx, nil, time.Time{}, func(ctx context.Context) (err error) {
			out, err = x.Blocks.StartSnapshot(ctx, in)
			return err
		})
		// A token that was used for something else, or for a snapshot that is
		// over, is of a record that was lost.
		spent := awsaccess.Code(err) == "ConflictException" || err == nil && out.Status != "" && out.Status != ebstypes.StatusPending
		if spent && h.Attempt < maxAttempts {
			continue
		}
		if err != nil {
			return h, fmt.Errorf("start a snapshot: %w", err)
		}
		break
	}
	if out.BlockSize != nil && *out.BlockSize != BlockSize {
		return h, fmt.Errorf("start a snapshot: blocks of %d bytes instead of %d", *out.BlockSize, BlockSize)
	}
	h.SnapshotID = aws.ToString(out.SnapshotId)
	if u.Record != nil {
		if err := u.Record.Start(h); err != nil {
			return h, errors.Join(err, x.Discard(ctx, h.SnapshotID))
		}
	}
	return h, nil
}

// complete seals the snapshot and waits until it can be used. One that was
// sealed before, by a request whose reply was lost or by a process that was
// killed, refuses to be sealed again and is completed a little later.
func (x *Uploader) complete(ctx context.Context, id string, sent Manifest, resumed bool) error {
	count, sum, sealed := int32(len(sent)), linear(sent), resumed
	refused := x.again(ctx, nil, time.Time{}, func(ctx context.Context) error {
		_, err := x.Blocks.CompleteSnapshot(ctx, &ebs.CompleteSnapshotInput{
			SnapshotId: &id, ChangedBlocksCount: &count, Checksum: &sum,
			ChecksumAlgorithm:         ebstypes.ChecksumAlgorithmChecksumAlgorithmSha256,
			ChecksumAggregationMethod: ebstypes.ChecksumAggregationMethodChecksumAggregationLinear,
		})
		sealed = sealed || awsaccess.IsTemporary(err) && !awsaccess.IsThrottled(err) || ctx.Err() != nil
		return err
	})
	limit := completeTime
	if refused != nil {
		if !sealed || ctx.Err() != nil {
			return fmt.Errorf("complete: %w", refused)
		}
		limit = sealTime
	}
	err := x.Wait(ctx, limit, func(ctx context.Context) (bool, error) {
		st, err := x.state(ctx, id)
		if err == nil && st == "" {
			err = errors.New("it is gone")
		}
		return st == ec2types.SnapshotStateCompleted, err
	})
	switch {
	case err == nil:
		return nil
	case refused != nil:
		return fmt.Errorf("complete: %w", refused)
	}
	return fmt.Errorf("wait until it is completed: %w", err)
}

// Discard deletes a snapshot, also when ctx has ended. One that does not exist
// is no error.
func (x *Uploader) Discard(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTime)
	defer cancel()
	_, err := x.Snapshots.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
	if err != nil && awsaccess.Code(err) != "InvalidSnapshot.NotFound" {
		return fmt.Errorf("delete snapshot %s: %w", id, err)
	}
	return nil
}
