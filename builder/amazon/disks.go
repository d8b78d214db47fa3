package amazon

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
)

// learnVolumes finds the disks of an instance that ends before they were
// written down: those it does not take along are to be removed. A sealed build
// knows its own.
func (m *machine) learnVolumes(ctx context.Context, c cloud, r *builder.Run, s *state) error {
	if len(s.Instance.Volumes) > 0 || s.Instance.Gone {
		return nil
	}
	in := &ec2.DescribeVolumesInput{Filters: []types.Filter{
		{Name: aws.String("tag:" + tagRun), Values: []string{r.RunID}},
		{Name: aws.String("tag:" + tagBuild), Values: []string{r.Build}},
	}}
	for {
		out, err := c.DescribeVolumes(ctx, in)
		if err != nil {
			return err
		}
		for _, v := range out.Volumes {
			st := volumeState{ID: aws.ToString(v.VolumeId)}
			for _, a := range v.Attachments {
				st.Device, st.Delete = aws.ToString(a.Device), aws.ToBool(a.DeleteOnTermination)
			}
			s.Instance.Volumes = append(s.Instance.Volumes, st)
		}
		if in.NextToken = out.NextToken; aws.ToString(in.NextToken) == "" {
			break
		}
	}
	return r.Save()
}

// volumesOf are the disks of an instance.
func volumesOf(i types.Instance) (out []volumeState) {
	for _, b := range i.BlockDeviceMappings {
		if b.Ebs != nil {
			out = append(out, volumeState{aws.ToString(b.DeviceName), aws.ToString(b.Ebs.VolumeId), aws.ToBool(b.Ebs.DeleteOnTermination)})
		}
	}
	return out
}

// removeDisks removes the disks that outlive the instance and that nobody
// asked to keep, and marks those that stay.
func (m *machine) removeDisks(ctx context.Context, c cloud, r *builder.Run, s *state) error {
	drop := m.leftover(s)
	for _, v := range s.Instance.Volumes {
		if m.vol != nil && !v.Delete && !r.Sealed() && !slices.Contains(drop, v.ID) {
			drop = append(drop, v.ID) // would be of an artifact that is not made
		}
	}
	for _, id := range drop {
		if err := c.deleteVolume(ctx, id); err != nil {
			return err
		}
	}
	for _, v := range s.Instance.Volumes {
		if v.Delete || m.vol != nil || slices.Contains(drop, v.ID) {
			continue
		}
		r.Say("Volume %s (%s) stays: delete_on_termination is false", v.ID, v.Device)
		if m.marksVolumes() {
			if err := gone(c.seal(ctx, stateKept, v.ID), "InvalidVolume.NotFound"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *machine) inLaunch(device string) bool {
	return slices.ContainsFunc(m.launch, func(b BlockDevice) bool { return b.DeviceName == device })
}

// leftover are the disks that outlive the instance and that no option asks to
// keep.
func (m *machine) leftover(s *state) []string {
	var ids []string
	for _, v := range s.Instance.Volumes {
		if !v.Delete && !m.inLaunch(v.Device) {
			ids = append(ids, v.ID)
		}
	}
	for _, id := range append(slices.Clone(s.Swap.Detached), s.Swap.Root) {
		if id != "" && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// deleteVolume deletes a volume as soon as nothing uses it.
func (c cloud) deleteVolume(ctx context.Context, id string) error {
	var used error
	err := c.s.Wait(ctx, goneTime, func(ctx context.Context) (bool, error) {
		_, err := c.DeleteVolume(ctx, &ec2.DeleteVolumeInput{VolumeId: &id})
		if code := awsaccess.Code(err); code == "VolumeInUse" || code == "IncorrectState" {
			used = err
			return false, nil
		}
		err = gone(err, "InvalidVolume.NotFound")
		return err == nil, err
	})
	return stillUsed(err, used)
}
