package amazon

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
)

// The tags that Ingot adds. A tag of the same name that the user gives wins.
const (
	tagRun          = "ingot:run"
	tagBuild        = "ingot:build"
	tagDevice       = "ingot:device"       // of a snapshot
	tagVersion      = "ingot:version"      // of Ingot
	tagTemplate     = "ingot:template"     // digest
	tagIntermediary = "ingot:intermediary" // an image that is only copied
	tagArch         = "Architecture"
	tagVirt         = "VirtualizationType"
	tagBoot         = "BootMode"
	tagSource       = "SourceAMI"
)

type tag struct{ key, value string }

// tagged is the user's tags and ours, the more important of ours first: what
// does not fit in EC2's limit is left out.
func tagged(user Tags, ours ...tag) []types.Tag {
	all := maps.Clone(user)
	if all == nil {
		all = Tags{}
	}
	for _, t := range ours {
		if _, given := all[t.key]; given || t.value == "" || len(all) >= maxTags {
			continue
		}
		all[t.key] = t.value
	}
	var out []types.Tag
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, types.Tag{Key: aws.String(k), Value: aws.String(all[k])})
	}
	return out
}

func tagMap(list []types.Tag) map[string]string {
	out := map[string]string{}
	for _, t := range list {
		out[aws.ToString(t.Key)] = aws.ToString(t.Value)
	}
	return out
}

// spec puts tags on a thing as it is made.
func spec(what types.ResourceType, tags []types.Tag) types.TagSpecification {
	return types.TagSpecification{ResourceType: what, Tags: tags}
}

// renderTags fills the values in.
func (m *machine) renderTags(s *state, tags Tags) (Tags, error) {
	out := Tags{}
	for k, v := range tags {
		text, err := m.render.render(v, s.Source.data(s.Region))
		if err != nil {
			return nil, fmt.Errorf("tag %q: %w", k, err)
		}
		key, err := m.render.render(k, s.Source.data(s.Region))
		if err != nil {
			return nil, fmt.Errorf("tag %q: %w", k, err)
		}
		out[key] = text
	}
	return out, nil
}

// ofRun are the tags that say whose a thing is.
func ofRun(r *builder.Run) []tag { return []tag{{tagRun, r.RunID}, {tagBuild, r.Build}} }

// unfinished are those of what may become an artifact.
func unfinished(r *builder.Run) []tag { return append(ofRun(r), tag{tagState, stateBuilding}) }

// runTags are for what serves the build.
func (m *machine) runTags(r *builder.Run, s *state, more ...tag) ([]types.Tag, error) {
	user, err := m.renderTags(s, mergeTags(m.run.RunTags, m.run.RunTagEntries))
	if err != nil {
		return nil, err
	}
	return tagged(user, append(ofRun(r), more...)...), nil
}

// launchTags are for the instance, its disks and its network card.
func (m *machine) launchTags(r *builder.Run, s *state) ([]types.TagSpecification, error) {
	name := tag{"Name", "Packer Builder"} // what account-wide clean-up rules look for
	instance, err := m.runTags(r, s, name)
	if err != nil {
		return nil, err
	}
	nic, err := m.runTags(r, s)
	if err != nil {
		return nil, err
	}
	disk, err := m.renderTags(s, m.volumeTags)
	if err != nil {
		return nil, err
	}
	return []types.TagSpecification{
		spec(types.ResourceTypeInstance, instance),
		spec(types.ResourceTypeVolume, tagged(disk, unfinished(r)...)),
		spec(types.ResourceTypeNetworkInterface, nic),
	}, nil
}

// imageTags are for the image and for its snapshots, in every region.
func (m *machine) imageTags(r *builder.Run, s *state) (image, snapshot []types.Tag, err error) {
	all := Tags{}
	if !m.img.SkipRunTags {
		maps.Copy(all, mergeTags(m.run.RunTags, m.run.RunTagEntries))
	}
	maps.Copy(all, mergeTags(m.img.ImageTags, m.img.ImageTagEntries))
	user, err := m.renderTags(s, all)
	if err != nil {
		return nil, nil, err
	}
	onSnapshots, err := m.renderTags(s, mergeTags(m.img.SnapshotTags, m.img.SnapshotTagEntries))
	if err != nil {
		return nil, nil, err
	}
	if len(user) > maxTags {
		return nil, nil, fmt.Errorf("run_tags and tags are %d tags together; an image has %d at most: skip_ami_run_tags = true leaves run_tags out", len(user), maxTags)
	}
	ours := m.facts(r, s)
	image = tagged(user, ours...)
	maps.Copy(user, onSnapshots)
	if len(user) > maxTags {
		return nil, nil, fmt.Errorf("tags and snapshot_tags are %d tags together; a snapshot has %d at most", len(user), maxTags)
	}
	return image, tagged(user, ours...), nil
}

// facts are what every image and snapshot says of itself.
func (m *machine) facts(r *builder.Run, s *state) []tag {
	arch, virt, boot := m.nature(s)
	return append(unfinished(r),
		tag{tagArch, arch}, tag{tagVirt, virt}, tag{tagBoot, boot}, tag{tagSource, s.Source.ID},
		tag{tagVersion, m.version}, tag{tagTemplate, r.Template})
}

// nature is what the image that is made is: an image made of an instance is
// what its source was.
func (m *machine) nature(s *state) (arch, virt, boot string) {
	arch, virt, boot = s.Source.Arch, s.Source.Virtualization, s.Source.bootMode()
	if m.sur != nil && !m.sur.UseCreateImage {
		arch, virt = m.sur.arch(s.Source), m.sur.Virtualization
		if boot = m.sur.BootMode; boot == "" {
			boot = source{Arch: arch}.bootMode()
		}
	}
	return arch, virt, boot
}

// ensureTags adds the tags that an image lacks. It costs nothing where the
// tags were taken as the image was made, which force says they were not.
func (c cloud) ensureTags(ctx context.Context, i types.Image, snapshots []string, image, snapshot []types.Tag, force bool) error {
	has := tagMap(i.Tags)
	missing := slices.ContainsFunc(image, func(t types.Tag) bool {
		v, ok := has[aws.ToString(t.Key)]
		if aws.ToString(t.Key) == tagState {
			return !ok // what it says changes
		}
		return !ok || v != aws.ToString(t.Value)
	})
	if !missing && !force {
		return nil
	}
	resources := []string{aws.ToString(i.ImageId)}
	if maps.Equal(tagMap(image), tagMap(snapshot)) {
		resources, snapshots = append(resources, snapshots...), nil
	}
	if _, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: resources, Tags: image}); err != nil {
		return err
	}
	if len(snapshots) == 0 || len(snapshot) == 0 {
		return nil
	}
	_, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: snapshots, Tags: snapshot})
	return err
}

// randomHex returns n random bytes as text.
func randomHex(n int) string {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails, see crypto/rand
	return hex.EncodeToString(b)
}
