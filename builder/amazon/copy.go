package amazon

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/awsaccess"
)

// copyState is what the journal knows of one region's copy.
type copyState struct {
	ID    string
	Begun bool
	// Failures are the copies that AWS gave up and that were removed: the next
	// one needs another client token.
	Failures int
}

// copyRegions are the regions that need a copy. When the image of the build
// region only serves to be copied, that one is among them.
func (m *machine) copyRegions(s *state) []string {
	if m.skipsImage() {
		return nil
	}
	out := m.img.copyRegions(s.Region)
	if m.intermediary() && !m.img.SkipBuildRegion {
		out = append([]string{s.Region}, out...)
	}
	return out
}

// key is the key that the copy in a region is encrypted with, "" for the
// default one.
func (o *ImageOptions) key(region, buildRegion string) string {
	if k := o.RegionKMSKeys[region]; k != "" || region != buildRegion {
		return k
	}
	return o.KMSKey
}

// copyInput is the copy to a region.
func (m *machine) copyInput(c *builder.Copy, s *state, st copyState) (*ec2.CopyImageInput, error) {
	imageTags, snapshotTags, err := m.imageTags(c.Run, s)
	if err != nil {
		return nil, err
	}
	description, err := m.description(s)
	if err != nil {
		return nil, err
	}
	token := c.Token
	if st.Failures > 0 {
		token += "-" + strconv.Itoa(st.Failures)
	}
	in := &ec2.CopyImageInput{
		Name: &s.Name, SourceImageId: &s.Image.ID, SourceRegion: &s.Region, Description: optional(description), ClientToken: &token,
		TagSpecifications: []types.TagSpecification{spec(types.ResourceTypeImage, imageTags), spec(types.ResourceTypeSnapshot, snapshotTags)},
	}
	if m.img.encrypts() {
		in.Encrypted, in.KmsKeyId = aws.Bool(true), optional(m.img.key(c.Region, s.Region))
	}
	if m.img.CopyMinutes > 0 {
		in.SnapshotCopyCompletionDurationMinutes = aws.Int64(int64(m.img.CopyMinutes))
	}
	return in, nil
}

// copyImage brings the image to one region.
func (m *machine) copyImage(ctx context.Context, cp *builder.Copy, s *state, _ artifact.Set) (artifact.SystemImage, error) {
	img, err := m.copyOnce(ctx, cp, s)
	return img, m.explain(ctx, err)
}

func (m *machine) copyOnce(ctx context.Context, cp *builder.Copy, s *state) (artifact.SystemImage, error) {
	none := artifact.SystemImage{}
	c, err := m.in(ctx, cp.Region)
	if err != nil {
		return none, err
	}
	var st copyState
	if err := cp.Load(&st); err != nil {
		return none, err
	}
	if st.ID == "" {
		if err := m.replaceOld(ctx, c, cp.Run.RunID, s.Name, cp.Region, cp.Say); err != nil {
			return none, err
		}
		if st.ID, err = m.requestCopy(ctx, c, cp, s, st); err != nil {
			return none, err
		}
		st.Begun = true
		if err := cp.Save(st); err != nil {
			return none, err
		}
		cp.Say("Copying image %s: %s", s.Image.ID, st.ID)
	}
	i, err := c.awaitImage(ctx, st.ID)
	var failed *failedImageError
	if errors.As(err, &failed) {
		// What is left of it has the name: away with it, for the next try.
		cctx, stop := context.WithTimeout(context.WithoutCancel(ctx), settleTime)
		defer stop()
		rerr := c.deregister(cctx, st.ID, ids(snapshotsOf(i)))
		if rerr == nil {
			rerr = cp.Save(copyState{Failures: st.Failures + 1})
		}
		return none, errors.Join(&temporaryError{err}, rerr)
	}
	if err != nil {
		return none, err
	}
	if err := m.finish(ctx, c, cp.Run, s, cp.Region, i); err != nil {
		return none, err
	}
	return m.systemImage(s, cp.Region, i), nil
}

// temporaryError says that the copy is worth another try.
type temporaryError struct{ error }

func (e *temporaryError) Unwrap() error   { return e.error }
func (e *temporaryError) Temporary() bool { return true }

// requestCopy asks for the copy. The token makes a second request the same as
// the first.
func (m *machine) requestCopy(ctx context.Context, c cloud, cp *builder.Copy, s *state, st copyState) (string, error) {
	in, err := m.copyInput(cp, s, st)
	if err != nil {
		return "", err
	}
	var id string
	start := time.Now()
	err = c.s.Wait(ctx, settleTime, func(ctx context.Context) (bool, error) {
		out, err := c.CopyImage(ctx, in)
		switch awsaccess.Code(err) {
		case "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable":
			return false, nil // the image is new
		case "InvalidAMIName.Duplicate", "IdempotentParameterMismatch":
			// Of a request of ours whose answer was lost, or somebody else's.
			i, found, ferr := c.imageNamed(ctx, s.Name)
			if ferr != nil || !found || !ours(cp.Run.RunID, i.Tags) {
				return false, errors.Join(err, ferr)
			}
			id = aws.ToString(i.ImageId)
			return true, nil
		}
		if err != nil {
			return false, err
		}
		id = aws.ToString(out.ImageId)
		if resent(out.ResultMetadata) {
			return true, c.deregisterStrays(ctx, s.Name, id, start)
		}
		return true, nil
	})
	var late *awsaccess.TimeoutError
	if errors.As(err, &late) {
		err = fmt.Errorf("image %s cannot be copied to %s: %w", s.Image.ID, cp.Region, err)
	}
	if awsaccess.IsTemporary(err) {
		err = &temporaryError{err}
	}
	return id, err
}

// deregisterStrays removes images of that name other than id that are younger
// than since: those of requests whose answers were lost, where neither the
// client token is heeded nor names are unique.
func (c cloud) deregisterStrays(ctx context.Context, name, id string, since time.Time) error {
	list, err := allImages(ctx, c, &ec2.DescribeImagesInput{
		Owners: []string{"self"}, Filters: []types.Filter{{Name: aws.String("name"), Values: []string{name}}},
	})
	if err != nil {
		return err
	}
	for _, i := range list {
		made, perr := time.Parse(time.RFC3339, aws.ToString(i.CreationDate))
		if aws.ToString(i.ImageId) == id || perr != nil || made.Before(since.Add(-time.Minute)) {
			continue
		}
		if err := c.deregister(ctx, aws.ToString(i.ImageId), ids(snapshotsOf(i))); err != nil {
			return err
		}
	}
	return nil
}

// conclude removes the image that only served the copying.
func (m *machine) conclude(ctx context.Context, r *builder.Run, s *state, set artifact.Set, copies []artifact.SystemImage) (artifact.Set, error) {
	if m.intermediary() {
		c, err := m.in(ctx, "")
		if err != nil {
			return set, err
		}
		r.Say("Deregistering intermediary image %s", s.Image.ID)
		snaps := append(ids(s.Image.Snapshots), ids(s.Snapshots)...)
		if err := c.deregister(ctx, s.Image.ID, snaps); err != nil {
			return set, m.explain(ctx, err)
		}
	}
	return m.partial(set, copies), nil
}
