package amazon

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"

	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
)

// hardware is what is known of an instance type.
type hardware struct {
	Type            string
	Archs, Virts    []string
	BootModes       []string
	ENARequired     bool
	TPM, Nitro      bool
	EBSRootPossible bool
}

func newHardware(i types.InstanceTypeInfo) hardware {
	h := hardware{Type: string(i.InstanceType), Nitro: i.Hypervisor == types.InstanceTypeHypervisorNitro, TPM: i.NitroTpmSupport == types.NitroTpmSupportSupported}
	if p := i.ProcessorInfo; p != nil {
		for _, a := range p.SupportedArchitectures {
			h.Archs = append(h.Archs, string(a))
		}
	}
	for _, v := range i.SupportedVirtualizationTypes {
		h.Virts = append(h.Virts, string(v))
	}
	for _, b := range i.SupportedBootModes {
		h.BootModes = append(h.BootModes, string(b))
	}
	if n := i.NetworkInfo; n != nil {
		h.ENARequired = n.EnaSupport == types.EnaSupportRequired
	}
	h.EBSRootPossible = len(i.SupportedRootDeviceTypes) == 0 || slices.Contains(i.SupportedRootDeviceTypes, types.RootDeviceTypeEbs)
	return h
}

// bootable refuses what an instance with EBS disks cannot be started from.
func bootable(i types.Image) error {
	id := aws.ToString(i.ImageId)
	switch {
	case i.State != "" && i.State != types.ImageStateAvailable:
		return fmt.Errorf("source image %s is %s, not available", id, i.State)
	case i.RootDeviceType != "" && i.RootDeviceType != types.DeviceTypeEbs:
		return diag.WithHint(fmt.Errorf("the root disk of source image %s is of the type %s", id, i.RootDeviceType), "take an image that is backed by EBS: filter by root-device-type = \"ebs\"")
	case i.ImageType != "" && i.ImageType != types.ImageTypeValuesMachine:
		return fmt.Errorf("source image %s is a %s, which does not boot", id, i.ImageType)
	}
	return nil
}

// guardType says why an instance of that type cannot boot the image; nil when
// it can. What is not known of a type is not held against it. A doubt comes
// from an image that is described badly: one that leaves open whether it has
// the driver ENA may have it, and one that boots by UEFI only must have it.
func guardType(s source, h hardware) (refusal, doubt error) {
	var errs, doubts []error
	lacks := func(has []string, want string) bool { return want != "" && len(has) > 0 && !slices.Contains(has, want) }
	refuse := func(what, is string, has []string) {
		errs = append(errs, fmt.Errorf("instance type %s does not start image %s: the image's %s is %s, and the type has %s", h.Type, s.ID, what, is, strings.Join(has, ", ")))
	}
	if lacks(h.Archs, s.Arch) {
		refuse("architecture", s.Arch, h.Archs)
	}
	if lacks(h.Virts, s.Virtualization) {
		refuse("virtualization type", s.Virtualization, h.Virts)
	}
	// uefi-preferred boots with either. Without a boot mode the type's own
	// default is taken.
	if s.BootMode != "uefi-preferred" && lacks(h.BootModes, s.BootMode) {
		if refuse("boot mode", s.BootMode, h.BootModes); s.BootMode == "uefi" && !s.ENAStated {
			doubts, errs = errs[len(errs)-1:], errs[:len(errs)-1:len(errs)-1]
		}
	}
	if s.TPM != "" && !h.TPM && len(h.BootModes) > 0 {
		errs = append(errs, fmt.Errorf("instance type %s does not start image %s: the image needs a TPM (%s), which the type has not", h.Type, s.ID, s.TPM))
	}
	if h.ENARequired && !s.ENA {
		err := diag.WithHint(fmt.Errorf("instance type %s does not start image %s: the type's network card needs ENA, and the image is not marked as having its driver", h.Type, s.ID),
			"take an older instance type such as t2.micro, build an image with ena_support = true on it, and start from that one")
		if s.ENAStated {
			errs = append(errs, err)
		} else {
			doubts = append(doubts, err)
		}
	}
	if !h.EBSRootPossible {
		errs = append(errs, fmt.Errorf("instance type %s cannot boot from an EBS disk", h.Type))
	}
	return errors.Join(errs...), errors.Join(doubts...)
}

// guardImage says what in the options contradicts the source image.
func (m *machine) guardImage(s source) error {
	var f faults
	if m.img == nil {
		if (m.vol.SRIOVSupport || m.vol.ENASupport != nil && *m.vol.ENASupport) && s.Virtualization != "hvm" {
			f.fields([]string{"sriov_support", "ena_support"}, "needs a source image of the virtualization type hvm; %s is %s", s.ID, s.Virtualization)
		}
		return f.err()
	}
	if v := m.img.Virtualization; v != "" && v != s.Virtualization && s.Virtualization != "" && (m.sur == nil || m.sur.UseCreateImage) {
		f.field("ami_virtualization_type", "is %s, and source image %s is %s: an image made of its instance is, too", v, s.ID, s.Virtualization)
	}
	if (m.img.SRIOVSupport || m.img.ENASupport != nil && *m.img.ENASupport) && s.Virtualization != "hvm" && m.img.Virtualization != "hvm" {
		f.fields([]string{"sriov_support", "ena_support"}, "needs a source image of the virtualization type hvm; %s is %s", s.ID, s.Virtualization)
	}
	if m.sur != nil && !m.sur.UseCreateImage {
		m.guardSurrogate(&f, s)
	}
	return f.err()
}

func (m *machine) guardSurrogate(f *faults, s source) {
	c := m.sur
	arch := c.arch(s)
	if c.Architecture != "" && c.Architecture != s.Arch && (c.Architecture != "i386" || s.Arch != "x86_64") {
		f.field("ami_architecture", "is %s, and source image %s is %s: its instance does not make a system for another architecture", c.Architecture, s.ID, s.Arch)
	}
	boot := c.BootMode
	if boot == "" {
		boot = source{Arch: arch}.bootMode()
	}
	if strings.HasPrefix(arch, "arm64") && boot != "uefi" {
		f.fields([]string{"boot_mode", "ami_architecture"}, "is %s, and the architecture %s boots with uefi only", boot, arch)
	}
	if c.TPMSupport != "" && boot != "uefi" {
		f.fields([]string{"tpm_support", "boot_mode"}, `needs boot_mode = "uefi"`)
	}
	if c.Virtualization == "paravirtual" && boot != "legacy-bios" {
		f.fields([]string{"boot_mode", "ami_virtualization_type"}, "is %s, and a paravirtual image has no firmware", boot)
	}
}

// checkGuards refuses a build whose parts do not fit together.
func (m *machine) checkGuards(ctx context.Context) error {
	var src source
	var known []hardware
	err := together(
		func() (err error) { src, err = m.source(ctx); return err },
		func() (err error) { known, err = m.hardware(ctx); return err },
	)
	if err != nil {
		return err
	}
	// Of several types one that fits is enough: the others are left out when
	// the instance is started.
	var refusals []error
	doubtful, fits := map[string]error{}, len(known) == 0
	for _, h := range known {
		refusal, doubt := guardType(src, h)
		switch {
		case refusal != nil:
			refusals = append(refusals, refusal)
		case doubt != nil:
			doubtful[h.Type] = doubt
		default:
			fits = true
		}
	}
	for typ, doubt := range doubtful {
		if fits {
			break
		}
		starts, err := m.wouldStart(ctx, src, typ)
		if err != nil {
			return err
		}
		if !starts {
			refusals = append(refusals, doubt)
			continue
		}
		fits = true
		m.mu.Lock()
		m.doubt = doubt
		m.mu.Unlock()
	}
	if fits {
		refusals = nil
	}
	return errors.Join(m.guardImage(src), errors.Join(refusals...))
}

// wouldStart asks AWS whether it would start the image on the type.
func (m *machine) wouldStart(ctx context.Context, s source, typ string) (bool, error) {
	c, err := m.in(ctx, "")
	if err != nil {
		return false, err
	}
	_, err = c.RunInstances(ctx, &ec2.RunInstancesInput{
		ImageId: &s.ID, InstanceType: types.InstanceType(typ), MinCount: aws.Int32(1), MaxCount: aws.Int32(1), DryRun: aws.Bool(true),
		SubnetId: optional(m.run.SubnetID),
	})
	if awsaccess.IsTemporary(err) || ctx.Err() != nil {
		return false, err
	}
	return awsaccess.Code(err) == "DryRunOperation", nil
}

// hardware asks what the instance types are. Where the credentials may not
// ask, or the API has no such call, nothing is known and nothing refused.
func (m *machine) hardware(ctx context.Context) ([]hardware, error) {
	c, err := m.in(ctx, "")
	if err != nil {
		return nil, err
	}
	in := &ec2.DescribeInstanceTypesInput{}
	for _, t := range m.run.types() {
		in.InstanceTypes = append(in.InstanceTypes, types.InstanceType(t))
	}
	out, err := c.DescribeInstanceTypes(ctx, in)
	switch code := awsaccess.Code(err); {
	case code == "InvalidInstanceType":
		return nil, diag.WithHint(err, "check instance_type: not every region has every type")
	case code == "UnauthorizedOperation" || code == "InvalidAction" || code == "UnknownOperation" || code == "NotImplemented":
		return nil, nil
	case err != nil:
		return nil, err
	}
	var list []hardware
	for _, i := range out.InstanceTypes {
		list = append(list, newHardware(i))
	}
	m.mu.Lock()
	m.types = list
	m.mu.Unlock()
	return list, nil
}

// fits reports whether the type is not known to be unable to start the image.
func (m *machine) fits(s source, typ string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.types, func(h hardware) bool { return h.Type == typ })
	if i < 0 {
		return true
	}
	refusal, _ := guardType(s, m.types[i])
	return refusal == nil
}

// nitro reports whether instances of the type have a console that is read at
// once.
func (m *machine) nitro(typ string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	i := slices.IndexFunc(m.types, func(h hardware) bool { return h.Type == typ })
	return i >= 0 && m.types[i].Nitro
}
