package amazon

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
)

const (
	imageTime = 2 * time.Hour // large disks take long
	// unusedTime is how long an image that is gone may still hold its
	// snapshots.
	unusedTime = 2 * time.Minute
)

// intermediary reports whether the image made of the instance only serves to
// be copied.
func (m *machine) intermediary() bool {
	return m.img != nil && !m.skipsImage() && (m.img.encrypts() || m.img.SkipBuildRegion)
}

// makeImage makes the image in the build region and waits until it is there.
// An image of that name is found again by the run's tag.
func (m *machine) makeImage(ctx context.Context, r *builder.Run, s *state) error {
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	if s.Image.Name == "" {
		if s.Image.Name = s.Name; m.intermediary() {
			s.Image.Name = s.token(r, "intermediary image")
		}
	}
	if s.Image.ID == "" {
		make, err := m.imageMaker(c, r, s)
		if err != nil {
			return err
		}
		r.Say("Making image %s", s.Image.Name)
		err = c.once(ctx, making{
			begun: s.Image.Begun,
			mark:  func() error { s.Image.Begun = true; return r.Save() },
			find: func(ctx context.Context) (bool, error) {
				i, found, err := c.imageNamed(ctx, s.Image.Name)
				if err != nil || !found || !ours(r.RunID, i.Tags) {
					return false, err
				}
				s.Image.ID = aws.ToString(i.ImageId)
				return true, nil
			},
			make:  make,
			taken: "InvalidAMIName.Duplicate",
		})
		if err != nil {
			return err
		}
		if err := r.Save(); err != nil {
			return err
		}
	}
	r.Say("Waiting for image %s in %s", s.Image.ID, s.Region)
	i, err := c.awaitImage(ctx, s.Image.ID)
	if err != nil {
		return err
	}
	m.mu.Lock()
	m.made = &i
	m.mu.Unlock()
	s.Image.Available, s.Image.Snapshots = true, snapshotsOf(i)
	return r.Save()
}

// imageMaker returns the call that makes the image.
func (m *machine) imageMaker(c cloud, r *builder.Run, s *state) (func(ctx context.Context) error, error) {
	imageTags, snapshotTags, err := m.imageTags(r, s)
	if err != nil {
		return nil, err
	}
	if m.intermediary() {
		imageTags = tagged(nil, append(m.facts(r, s), tag{tagIntermediary, "true"})...)
		snapshotTags = imageTags
	}
	description, err := m.description(s)
	if err != nil {
		return nil, err
	}
	if m.sur != nil && !m.sur.UseCreateImage {
		in, err := m.registerInput(s, imageTags, description)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context) error {
			out, err := c.RegisterImage(ctx, in)
			if err == nil {
				s.Image.ID = aws.ToString(out.ImageId)
			}
			return err
		}, nil
	}
	in := &ec2.CreateImageInput{
		InstanceId: &s.Instance.ID, Name: &s.Image.Name, Description: optional(description),
		TagSpecifications: []types.TagSpecification{spec(types.ResourceTypeImage, imageTags), spec(types.ResourceTypeSnapshot, snapshotTags)},
	}
	for _, b := range m.imageDisks() {
		in.BlockDeviceMappings = append(in.BlockDeviceMappings, b.imageMapping())
	}
	return func(ctx context.Context) error {
		// An instance that has just stopped may not be known as stopped
		// everywhere.
		var cerr error
		err := c.s.Wait(ctx, settleTime, func(ctx context.Context) (bool, error) {
			var out *ec2.CreateImageOutput
			if out, cerr = c.CreateImage(ctx, in); cerr == nil {
				s.Image.ID = aws.ToString(out.ImageId)
			}
			if broken(cerr) && !s.Image.TagLater {
				// Not AWS, but something that cannot tag snapshots as they are
				// made: they are tagged afterwards. A name is there once, so
				// that asking again makes no second image.
				in.TagSpecifications, s.Image.TagLater = in.TagSpecifications[:1], true
				return false, nil
			}
			return awsaccess.Code(cerr) != "IncorrectInstanceState", nil
		})
		if cerr != nil {
			return cerr
		}
		return err
	}, nil
}

// broken reports whether the answer was a failure that is not in the form of
// the API.
func broken(err error) bool {
	var re *smithyhttp.ResponseError
	return errors.As(err, &re) && re.HTTPStatusCode() >= http.StatusInternalServerError && awsaccess.Code(err) == ""
}

// imageDisks are the disks that the options give the image.
func (m *machine) imageDisks() []BlockDevice {
	if m.ebs != nil {
		return m.ebs.AMIMappings
	}
	return m.sur.AMIMappings
}

func (m *machine) description(s *state) (string, error) {
	text, err := m.render.render(m.img.Description, s.Source.data(s.Region))
	if err != nil {
		return "", fmt.Errorf("ami_description: %w", err)
	}
	return text, nil
}

// awaitImage waits until the image can be used.
func (c cloud) awaitImage(ctx context.Context, id string) (types.Image, error) {
	var i types.Image
	start := time.Now()
	err := c.s.Wait(ctx, imageTime, func(ctx context.Context) (bool, error) {
		out, err := c.DescribeImages(ctx, &ec2.DescribeImagesInput{ImageIds: []string{id}})
		if awsaccess.Code(err) == "InvalidAMIID.NotFound" || awsaccess.Code(err) == "InvalidAMIID.Unavailable" {
			err = nil
			out = &ec2.DescribeImagesOutput{}
		}
		if err != nil {
			return false, err
		}
		if len(out.Images) == 0 {
			if time.Since(start) > 4*settleTime {
				return false, fmt.Errorf("image %s is gone", id)
			}
			return false, nil // not shown yet
		}
		i = out.Images[0]
		switch i.State {
		case types.ImageStateAvailable:
			return true, nil
		case types.ImageStatePending, types.ImageStateTransient, "":
			return false, nil
		}
		return false, &failedImageError{ID: id, State: string(i.State), Reason: reason(i.StateReason)}
	})
	var late *awsaccess.TimeoutError
	if errors.As(err, &late) {
		err = fmt.Errorf("image %s is not available: %w", id, err)
	}
	return i, err
}

// failedImageError says that AWS gave an image up.
type failedImageError struct{ ID, State, Reason string }

func (e *failedImageError) Error() string {
	return fmt.Sprintf("image %s is %s%s", e.ID, e.State, e.Reason)
}

// snapshotsOf are the snapshots an image is made of.
func snapshotsOf(i types.Image) []snapshotState {
	var out []snapshotState
	for _, b := range i.BlockDeviceMappings {
		if b.Ebs != nil && aws.ToString(b.Ebs.SnapshotId) != "" {
			out = append(out, snapshotState{
				Device: aws.ToString(b.DeviceName), ID: aws.ToString(b.Ebs.SnapshotId), Size: int64(aws.ToInt32(b.Ebs.VolumeSize)), Done: true,
			})
		}
	}
	return out
}

func ids(list []snapshotState) []string {
	var out []string
	for _, s := range list {
		if s.ID != "" {
			out = append(out, s.ID)
		}
	}
	return out
}

// finishImage gives the image of the build region what cannot be said as it
// is made.
func (m *machine) finishImage(ctx context.Context, r *builder.Run, s *state) error {
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	m.mu.Lock()
	i := m.made
	m.mu.Unlock()
	if i == nil {
		again, err := c.awaitImage(ctx, s.Image.ID)
		if err != nil {
			return err
		}
		i = &again
	}
	return m.finish(ctx, c, r, s, s.Region, *i)
}

// removeImage removes the image of a build that is not sealed, and its
// snapshots.
func (m *machine) removeImage(ctx context.Context, r *builder.Run, s *state) error {
	if !s.Image.Begun {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	var i types.Image
	found, err := c.appears(ctx, s.Image.ID == "", func(ctx context.Context) (found bool, err error) {
		i, found, err = c.imageNamed(ctx, s.Image.Name)
		return found, err
	})
	if err != nil {
		return err
	}
	found = found && (ours(r.RunID, i.Tags) || aws.ToString(i.ImageId) == s.Image.ID)
	snaps := ids(s.Image.Snapshots)
	if found {
		s.Image.ID = aws.ToString(i.ImageId)
		snaps = ids(snapshotsOf(i))
	}
	if s.Image.ID != "" {
		r.Say("Deregistering image %s", s.Image.ID)
	}
	if err := c.deregister(ctx, s.Image.ID, snaps); err != nil {
		return err
	}
	// Snapshots that the image did not list yet.
	more, err := m.ourSnapshots(ctx, c, r)
	if err != nil {
		return err
	}
	for _, id := range more {
		if err := c.deleteSnapshot(ctx, id); err != nil {
			return err
		}
	}
	s.Image = imageState{}
	return nil
}

// ourSnapshots are those of this run and build.
func (m *machine) ourSnapshots(ctx context.Context, c cloud, r *builder.Run) ([]string, error) {
	var list []string
	in := &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: []types.Filter{
		{Name: aws.String("tag:" + tagRun), Values: []string{r.RunID}},
		{Name: aws.String("tag:" + tagBuild), Values: []string{r.Build}},
	}}
	for {
		out, err := c.DescribeSnapshots(ctx, in)
		if err != nil {
			return nil, err
		}
		for _, s := range out.Snapshots {
			list = append(list, aws.ToString(s.SnapshotId))
		}
		if aws.ToString(out.NextToken) == "" {
			return list, nil
		}
		in.NextToken = out.NextToken
	}
}

// deregister removes an image, when there is one, and then its snapshots.
func (c cloud) deregister(ctx context.Context, image string, snapshots []string) error {
	if image != "" {
		_, err := c.DeregisterImage(ctx, &ec2.DeregisterImageInput{ImageId: &image})
		if err := gone(err, "InvalidAMIID.NotFound", "InvalidAMIID.Unavailable"); err != nil {
			return err
		}
	}
	for _, id := range snapshots {
		if err := c.deleteSnapshot(ctx, id); err != nil {
			return err
		}
	}
	return nil
}

// deleteSnapshot deletes a snapshot as soon as no image uses it.
func (c cloud) deleteSnapshot(ctx context.Context, id string) error {
	var used error
	err := c.s.Wait(ctx, unusedTime, func(ctx context.Context) (bool, error) {
		_, err := c.DeleteSnapshot(ctx, &ec2.DeleteSnapshotInput{SnapshotId: &id})
		if awsaccess.Code(err) == "InvalidSnapshot.InUse" {
			used = err
			return false, nil
		}
		err = gone(err, "InvalidSnapshot.NotFound")
		return err == nil, err
	})
	return stillUsed(err, used)
}

// stillUsed is err, which ended the wait for a thing to be free, or what AWS
// said last of who uses the thing.
func stillUsed(err, used error) error {
	var late *awsaccess.TimeoutError
	if used != nil && errors.As(err, &late) {
		return fmt.Errorf("after %s: %w", late.Waited.Round(time.Second), used)
	}
	return err
}

// deregisterOld removes the image that has the name in the build region.
func (m *machine) deregisterOld(ctx context.Context, r *builder.Run, s *state) error {
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	return m.replaceOld(ctx, c, r.RunID, s.Name, s.Region, r.Say)
}

// replaceOld removes the image that has the name, unless this run made it.
func (m *machine) replaceOld(ctx context.Context, c cloud, run, name, region string, say func(string, ...any)) error {
	if !m.replaces() {
		return nil
	}
	i, found, err := c.imageNamed(ctx, name)
	if err != nil || !found || ours(run, i.Tags) {
		return err
	}
	var snaps []string
	if m.img.ForceDelete {
		snaps = ids(snapshotsOf(i))
	}
	say("Deregistering the image that had the name in %s: %s", region, aws.ToString(i.ImageId))
	return c.deregister(ctx, aws.ToString(i.ImageId), snaps)
}
