package amazon

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
)

// ownVolumes are the disks of amazon-ebsvolume that there are.
func (m *machine) ownVolumes() []Volume {
	if m.vol == nil {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(m.vol.Volumes), func(v Volume) bool { return v.NoDevice || v.VirtualName != "" })
}

// prepareVolumes gives the volumes that stay their own tags in place of those
// of the instance's disks: RunInstances takes one set of tags for all disks.
func (m *machine) prepareVolumes(ctx context.Context, _ *builder.Run, s *state) error {
	vols := m.ownVolumes()
	if len(vols) == 0 {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	var all []string
	for _, v := range vols {
		id, err := s.volume(v.DeviceName)
		if err != nil {
			return err
		}
		all = append(all, id)
	}
	running, err := m.renderTags(s, m.volumeTags)
	if err != nil {
		return err
	}
	if len(running) > 0 {
		var drop []types.Tag
		for _, k := range slices.Sorted(maps.Keys(running)) {
			drop = append(drop, types.Tag{Key: aws.String(k)})
		}
		if _, err := c.DeleteTags(ctx, &ec2.DeleteTagsInput{Resources: all, Tags: drop}); err != nil {
			return err
		}
	}
	for n, v := range vols {
		tags, err := m.renderTags(s, mergeTags(v.Tags, v.TagEntries))
		if err != nil {
			return err
		}
		if len(tags) == 0 {
			continue
		}
		if _, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: []string{all[n]}, Tags: tagged(tags)}); err != nil {
			return err
		}
	}
	return nil
}

// removeVolumes deletes the volumes of a build that is not sealed. They are
// free only when the instance is gone.
func (m *machine) removeVolumes(ctx context.Context, r *builder.Run, s *state) error {
	var list []string
	for _, v := range s.Instance.Volumes {
		if !v.Delete {
			list = append(list, v.ID)
		}
	}
	if len(list) == 0 {
		return nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	if err := m.terminate(ctx, c, s); err != nil {
		return err
	}
	for _, id := range list {
		r.Say("Deleting volume %s", id)
		if err := c.deleteVolume(ctx, id); err != nil {
			return err
		}
	}
	s.Instance.Volumes = nil
	return nil
}

// snapshotVolumes makes the snapshots that the options ask for.
func (m *machine) snapshotVolumes(ctx context.Context, r *builder.Run, s *state) error {
	c, err := m.in(ctx, "")
	if err != nil {
		return err
	}
	if err := m.setInstanceAttributes(ctx, r, s); err != nil {
		return err
	}
	var shots []shot
	var opts []Volume
	for _, v := range m.ownVolumes() {
		if !v.Snapshot {
			continue
		}
		id, err := s.volume(v.DeviceName)
		if err != nil {
			return err
		}
		user, err := m.renderTags(s, mergeTags(v.SnapshotTags, v.SnapshotTagEntries))
		if err != nil {
			return err
		}
		description, err := m.render.render(v.SnapshotDescription, s.Source.data(s.Region))
		if err != nil {
			return err
		}
		ours := append(unfinished(r), tag{tagDevice, v.DeviceName}, tag{tagSource, s.Source.ID}, tag{tagVersion, m.version}, tag{tagTemplate, r.Template})
		shots = append(shots, shot{id, v.DeviceName, description, tagged(user, ours...)})
		opts = append(opts, v)
	}
	if len(shots) > 0 {
		warnSpot(r, s)
	}
	if err := m.takeSnapshots(ctx, c, r, s, shots); err != nil {
		return err
	}
	var marked []string
	for n, v := range opts {
		if err := c.share(ctx, []string{s.Snapshots[n].ID}, v.SnapshotUsers, v.SnapshotGroups); err != nil {
			return err
		}
		if isBuilding(shots[n].tags) {
			marked = append(marked, s.Snapshots[n].ID)
		}
	}
	for _, v := range s.Instance.Volumes {
		if !v.Delete && m.marksVolumes() {
			marked = append(marked, v.ID)
		}
	}
	return c.seal(ctx, stateSealed, marked...)
}

// volumeResult is the artifact of amazon-ebsvolume: the volumes that stay and
// the snapshots.
func (m *machine) volumeResult(s *state, set *artifact.Set) {
	var id, volumes, snaps []string
	for _, v := range m.ownVolumes() {
		if v.DeleteOnTermination {
			continue
		}
		if vol, err := s.volume(v.DeviceName); err == nil {
			id = append(id, s.Region+":"+vol)
			volumes = append(volumes, s.Region+": "+vol)
		}
	}
	how := artifact.CleanShutdown
	if s.Instance.Spot {
		how = artifact.CrashConsistent // a spot instance cannot be stopped
	}
	for _, sn := range s.Snapshots {
		id = append(id, s.Region+":"+sn.ID)
		snaps = append(snaps, s.Region+": "+sn.ID)
		set.Snapshots = append(set.Snapshots, artifact.DataSnapshot{
			Ref: artifact.Ref{Provider: provider, Region: s.Region, ID: sn.ID}, Device: sn.Device, SizeGiB: sn.Size, Consistency: how,
		})
	}
	set.ID = strings.Join(id, ",")
	if len(volumes) > 0 {
		set.Text = fmt.Sprintf("EBS Volumes were created:\n%s\n", strings.Join(volumes, "\n"))
	}
	if len(snaps) > 0 {
		set.Text += fmt.Sprintf("EBS Snapshots were created:\n%s\n", strings.Join(snaps, "\n"))
	}
	if set.ID == "" {
		set.Text = "No volume stays, and no snapshot was asked for"
	}
}
