package amazon

import (
	"context"
	"errors"
	"fmt"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/event"
)

// warnSpot tells that the disks are captured while they are in use.
func warnSpot(r *builder.Run, s *state) {
	if s.Instance.Spot {
		r.Events.Emit(event.Warn{Text: "A spot instance cannot be stopped: the snapshots hold what was on the disks at that moment. Unmount the file systems in the last provisioner."})
	}
}

// A shot is one snapshot to be made.
type shot struct {
	volume, device, description string
	tags                        []types.Tag
}

// takeSnapshots makes the snapshots at the same time and waits until all are
// complete. A snapshot has no client token and no name: one whose answer was
// lost is found by its tags.
func (m *machine) takeSnapshots(ctx context.Context, c cloud, r *builder.Run, s *state, shots []shot) error {
	if len(shots) == 0 {
		return nil
	}
	again := len(s.Snapshots) > 0
	if !again {
		for _, h := range shots {
			s.Snapshots = append(s.Snapshots, snapshotState{Device: h.device, Volume: h.volume, Begun: true})
		}
		if err := r.Save(); err != nil {
			return err
		}
	}
	var asks []func() error
	for n, h := range shots {
		st := &s.Snapshots[n]
		if st.ID != "" {
			continue
		}
		asks = append(asks, func() error { return m.takeSnapshot(ctx, c, r, h, st, again) })
	}
	if err := errors.Join(together(asks...), r.Save()); err != nil {
		return err
	}
	r.Say("Waiting for snapshots of %d volumes", len(shots))
	return m.awaitSnapshots(ctx, c, r, s)
}

func (m *machine) takeSnapshot(ctx context.Context, c cloud, r *builder.Run, h shot, st *snapshotState, again bool) error {
	return c.once(ctx, making{
		begun: again,
		mark:  func() error { return nil }, // done for all together
		find: func(ctx context.Context) (bool, error) {
			out, err := c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{OwnerIds: []string{"self"}, Filters: []types.Filter{
				{Name: aws.String("tag:" + tagRun), Values: []string{r.RunID}},
				{Name: aws.String("tag:" + tagDevice), Values: []string{h.device}},
				{Name: aws.String("volume-id"), Values: []string{h.volume}},
			}})
			if err != nil || len(out.Snapshots) == 0 {
				return false, err
			}
			st.ID = aws.ToString(out.Snapshots[0].SnapshotId)
			return true, nil
		},
		make: func(ctx context.Context) error {
			out, err := c.CreateSnapshot(ctx, &ec2.CreateSnapshotInput{
				VolumeId: aws.String(h.volume), Description: optional(h.description),
				TagSpecifications: []types.TagSpecification{spec(types.ResourceTypeSnapshot, h.tags)},
			})
			if err == nil {
				st.ID = aws.ToString(out.SnapshotId)
			}
			return err
		},
	})
}

func (m *machine) awaitSnapshots(ctx context.Context, c cloud, r *builder.Run, s *state) error {
	err := c.s.Wait(ctx, imageTime, func(ctx context.Context) (bool, error) {
		out, err := c.DescribeSnapshots(ctx, &ec2.DescribeSnapshotsInput{SnapshotIds: ids(s.Snapshots)})
		if awsaccess.Code(err) == "InvalidSnapshot.NotFound" {
			return false, nil // not shown yet
		}
		if err != nil {
			return false, err
		}
		done := 0
		for _, sn := range out.Snapshots {
			id := aws.ToString(sn.SnapshotId)
			switch sn.State {
			case types.SnapshotStateCompleted:
				done++
			case types.SnapshotStateError:
				return false, fmt.Errorf("snapshot %s failed: %s", id, aws.ToString(sn.StateMessage))
			}
			for n := range s.Snapshots {
				if s.Snapshots[n].ID == id {
					s.Snapshots[n].Size = int64(aws.ToInt32(sn.VolumeSize))
					s.Snapshots[n].Done = sn.State == types.SnapshotStateCompleted
				}
			}
		}
		return done == len(ids(s.Snapshots)), nil
	})
	var late *awsaccess.TimeoutError
	if errors.As(err, &late) {
		err = fmt.Errorf("snapshots are not complete: %w", err)
	}
	if err != nil {
		return err
	}
	return r.Save()
}

// removeSnapshots deletes the snapshots of a build that is not sealed, those
// found by their tags included.
func (m *machine) removeSnapshots(ctx context.Context, r *builder.Run, s *state) error {
	if len(s.Snapshots) == 0 {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	list := ids(s.Snapshots)
	more, err := m.ourSnapshots(ctx, c, r)
	if err != nil {
		return err
	}
	r.Say("Deleting snapshots of this build")
	for _, id := range append(list, more...) {
		if err := c.deleteSnapshot(ctx, id); err != nil {
			return err
		}
	}
	s.Snapshots = nil
	return nil
}
