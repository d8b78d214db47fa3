package amazon

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
)

// systemImage describes an image that is available.
func (m *machine) systemImage(s *state, region string, i types.Image) artifact.SystemImage {
	arch, virt, boot := m.nature(s)
	if i.Architecture != "" {
		arch = string(i.Architecture)
	}
	if i.BootMode != "" {
		boot = string(i.BootMode)
	}
	out := artifact.SystemImage{
		Ref:  artifact.Ref{Provider: provider, Region: region, ID: aws.ToString(i.ImageId)},
		Name: aws.ToString(i.Name), Virtualization: artifact.Virt(virt), Boot: artifact.BootMode(boot), Tags: tagMap(i.Tags),
	}
	if out.Tags[tagState] == stateBuilding {
		out.Tags[tagState] = stateSealed // as it is by now
	}
	out.Arch = artifact.Arch(arch)
	if a, err := artifact.ParseArch(arch); err == nil {
		out.Arch = a
	}
	if t, err := time.Parse(time.RFC3339, aws.ToString(i.CreationDate)); err == nil {
		out.Created = t.UTC()
	}
	for _, d := range snapshotsOf(i) {
		out.Disks = append(out.Disks, artifact.Disk{Device: d.Device, Size: d.Size << 30})
	}
	return out
}

// result is the artifact of the build region.
func (m *machine) result(ctx context.Context, _ *builder.Run, s *state) (artifact.Set, error) {
	set := artifact.Set{BuilderID: builderIDs[m.typ], Data: s.generated()}
	switch {
	case m.vol != nil:
		m.volumeResult(s, &set)
		return set, nil
	case m.skipsImage():
		set.Text, set.Empty = "No image was made (skip_create_ami)", true
		return set, nil
	}
	m.mu.Lock()
	i := m.made
	m.mu.Unlock()
	if i == nil {
		c, err := m.in(ctx, "")
		if err != nil {
			return set, err
		}
		again, err := c.awaitImage(ctx, s.Image.ID)
		if err != nil {
			return set, m.explain(ctx, err)
		}
		i = &again
	}
	img := m.systemImage(s, s.Region, *i)
	if m.intermediary() {
		img.Tags[tagIntermediary], img.Tags[tagState] = "true", stateBuilding
	}
	set.Images = []artifact.SystemImage{img}
	describe(&set)
	return set, nil
}

// partial is the artifact with the copies that were made.
func (m *machine) partial(set artifact.Set, copies []artifact.SystemImage) artifact.Set {
	set = set.Clone()
	set.Images = slices.DeleteFunc(set.Images, func(i artifact.SystemImage) bool { return i.Tags[tagIntermediary] == "true" })
	for _, c := range copies {
		if c.ID != "" {
			set.Images = append(set.Images, c)
		}
	}
	describe(&set)
	return set
}

// describe gives a set of images its id and text, which are Packer's.
func describe(set *artifact.Set) {
	slices.SortFunc(set.Images, func(a, b artifact.SystemImage) int { return cmp.Compare(a.Region, b.Region) })
	var id, text []string
	for _, i := range set.Images {
		id = append(id, i.Region+":"+i.ID)
		text = append(text, i.Region+": "+i.ID)
	}
	set.ID = strings.Join(id, ",")
	if len(id) == 0 {
		set.Text = "No AMI is complete yet"
		return
	}
	set.Text = "AMIs were created:\n" + strings.Join(text, "\n") + "\n"
}
