package amazon

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

// source is the image the build starts from, as far as anything depends on it.
type source struct {
	ID, Name, Owner, OwnerAlias, Created string
	Arch, Virtualization, BootMode       string // EC2's spellings; BootMode may be empty
	Platform                             string // "windows" or empty
	RootDevice                           string
	ENA, ENAStated                       bool // an image may leave it open
	SRIOV                                string
	TPM, IMDS                            string
	Tags                                 map[string]string
	Mappings                             []sourceDisk
}

// sourceDisk is a disk the image brings along.
type sourceDisk struct {
	Device string
	Delete bool
	Size   int32 // GiB
}

func newSource(i types.Image) source {
	s := source{
		ID: aws.ToString(i.ImageId), Name: aws.ToString(i.Name), Owner: aws.ToString(i.OwnerId),
		OwnerAlias: aws.ToString(i.ImageOwnerAlias), Created: aws.ToString(i.CreationDate),
		Arch: string(i.Architecture), Virtualization: string(i.VirtualizationType), BootMode: string(i.BootMode),
		Platform: strings.ToLower(string(i.Platform)), RootDevice: aws.ToString(i.RootDeviceName),
		ENA: aws.ToBool(i.EnaSupport), ENAStated: i.EnaSupport != nil, SRIOV: aws.ToString(i.SriovNetSupport), TPM: string(i.TpmSupport), IMDS: string(i.ImdsSupport),
		Tags: tagMap(i.Tags),
	}
	for _, b := range i.BlockDeviceMappings {
		if b.Ebs != nil {
			s.Mappings = append(s.Mappings, sourceDisk{aws.ToString(b.DeviceName), aws.ToBool(b.Ebs.DeleteOnTermination), aws.ToInt32(b.Ebs.VolumeSize)})
		}
	}
	return s
}

// bootMode is the firmware it boots with: an image that says none takes its
// architecture's.
func (s source) bootMode() string {
	switch {
	case s.BootMode != "":
		return s.BootMode
	case strings.HasPrefix(s.Arch, "arm64"):
		return string(artifact.UEFI)
	}
	return string(artifact.BIOS)
}

// resolve finds the source image.
func (m *machine) resolve(ctx context.Context) (artifact.Base, error) {
	s, err := m.source(ctx)
	if err != nil {
		return artifact.Base{}, err
	}
	arch, err := artifact.ParseArch(s.Arch)
	if err != nil {
		return artifact.Base{}, err
	}
	sess, err := m.session(ctx)
	if err != nil {
		return artifact.Base{}, err
	}
	return artifact.Base{
		Ref:  artifact.Ref{Provider: provider, Region: sess.Region(), ID: s.ID},
		Name: s.Name, Arch: arch, Virtualization: artifact.Virt(s.Virtualization), Boot: artifact.BootMode(s.bootMode()),
	}, nil
}

// source finds the source image, once.
func (m *machine) source(ctx context.Context) (source, error) {
	m.mu.Lock()
	known := m.base
	m.mu.Unlock()
	if known != nil {
		return *known, nil
	}
	c, err := m.in(ctx, "")
	if err != nil {
		return source{}, err
	}
	images, err := allImages(ctx, c, m.run.lookup())
	if err != nil {
		return source{}, err
	}
	i, err := m.run.choose(images)
	if err != nil && len(images) == 0 && c.s.Local() {
		err = diag.WithHint(err, "the local cloud has the images that were brought in with ingot local import; ingot build examples/base makes one that an ordinary filter for Debian finds")
	}
	if err != nil {
		return source{}, err
	}
	if err := bootable(i); err != nil {
		return source{}, err
	}
	s := newSource(i)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.base = &s
	return s, nil
}

// lookup is the question for the source image.
func (c *RunOptions) lookup() *ec2.DescribeImagesInput {
	in := &ec2.DescribeImagesInput{}
	if c.SourceAMI != "" {
		in.ImageIds = []string{c.SourceAMI}
	}
	if f := c.SourceAMIFilter; f != nil {
		in.Owners, in.Filters = f.Owners, filters(f.Filters, nil)
		if f.IncludeDeprecated {
			in.IncludeDeprecated = aws.Bool(true)
		}
	}
	return in
}

// filters are EC2's. A value with commas means any of its parts.
func filters(m map[string]string, entries []NameValue) []types.Filter {
	all := mergeTags(m, entries)
	var out []types.Filter
	for _, k := range slices.Sorted(maps.Keys(all)) {
		out = append(out, types.Filter{Name: aws.String(k), Values: strings.Split(all[k], ",")})
	}
	return out
}

func allImages(ctx context.Context, c cloud, in *ec2.DescribeImagesInput) ([]types.Image, error) {
	var all []types.Image
	for {
		out, err := c.DescribeImages(ctx, in)
		if err != nil {
			return nil, err
		}
		all = append(all, out.Images...)
		if aws.ToString(out.NextToken) == "" {
			return all, nil
		}
		in.NextToken = out.NextToken
	}
}

func (c *RunOptions) choose(images []types.Image) (types.Image, error) {
	switch f := c.SourceAMIFilter; {
	case len(images) == 0 && c.SourceAMI != "":
		return types.Image{}, diag.WithHint(fmt.Errorf("there is no source image %s in this region", c.SourceAMI),
			"check source_ami and region: an image has another id in each region")
	case len(images) == 0:
		return types.Image{}, diag.WithHint(errors.New("no image fits source_ami_filter"), "check the filters, the owners and the region; include_deprecated = true looks at deprecated images too")
	case len(images) == 1:
		return images[0], nil
	case f == nil || !f.MostRecent:
		var names []string
		for _, i := range images[:min(3, len(images))] {
			names = append(names, aws.ToString(i.ImageId)+" ("+aws.ToString(i.Name)+")")
		}
		return types.Image{}, diag.WithHint(fmt.Errorf("%d images fit source_ami_filter, among them %s", len(images), strings.Join(names, ", ")),
			"set most_recent = true, or narrow the filters")
	}
	return slices.MaxFunc(images, func(a, b types.Image) int {
		return strings.Compare(aws.ToString(a.CreationDate), aws.ToString(b.CreationDate))
	}), nil
}

// begin takes the source image and the names of this attempt into the state.
func (m *machine) begin(ctx context.Context, r *builder.Run, s *state) error {
	src, err := m.source(ctx)
	if err != nil {
		return err
	}
	sess, err := m.session(ctx)
	if err != nil {
		return err
	}
	if err := m.unseal(ctx, r, s); err != nil {
		return err
	}
	s.Source, s.Region = src, sess.Region()
	if s.Attempt == "" {
		s.Attempt = randomHex(4)
	}
	if m.img != nil && s.Name == "" {
		if s.Name, err = m.imageName(sess.Region(), src); err != nil {
			return err
		}
	}
	r.Say("Source image: %s (%s)", src.ID, src.Name)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.doubt != nil {
		r.Events.Emit(event.Warn{Text: fmt.Sprintf("%v; AWS says that it would start", m.doubt)})
		m.doubt = nil
	}
	return nil
}

// unseal removes what an earlier process had begun to capture: a build that
// boots again makes another image.
func (m *machine) unseal(ctx context.Context, r *builder.Run, s *state) error {
	if !s.Stopped && !s.Image.Begun && len(s.Snapshots) == 0 && len(s.Swap.Detached) == 0 {
		return nil
	}
	err := errors.Join(m.removeImage(ctx, r, s), m.removeSnapshots(ctx, r, s))
	if err == nil && m.vol != nil {
		err = m.removeVolumes(ctx, r, s)
	}
	if err == nil {
		err = m.removeInstance(ctx, r, s)
	}
	if err != nil {
		return err
	}
	s.Stopped, s.Attempt = false, randomHex(4)
	return r.Save()
}

// imageName renders the name of the image.
func (m *machine) imageName(region string, src source) (string, error) {
	name, err := m.render.render(m.img.AMIName, src.data(region))
	if err != nil {
		return "", diag.Fieldf("ami_name", "%w", err)
	}
	if err := checkImageName(name); err != nil {
		return "", diag.Fieldf("ami_name", "%w", err)
	}
	return name, nil
}

// data is what options can name of the source image.
func (s source) data(region string) sourceData {
	return sourceData{
		BuildRegion: region, SourceAMI: s.ID, SourceAMIName: s.Name, SourceAMICreationDate: s.Created,
		SourceAMIOwner: s.Owner, SourceAMIOwnerName: s.OwnerAlias, SourceAMITags: s.Tags,
	}
}

// generated is the same for build.* and the artifact.
func (s *state) generated() map[string]string {
	d := s.Source.data(s.Region)
	return map[string]string{
		"SourceAMI": d.SourceAMI, "SourceAMIName": d.SourceAMIName, "SourceAMICreationDate": d.SourceAMICreationDate,
		"SourceAMIOwner": d.SourceAMIOwner, "SourceAMIOwnerName": d.SourceAMIOwnerName, "BuildRegion": d.BuildRegion,
	}
}
