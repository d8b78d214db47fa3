package localcloud

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud/instancetype"
)

// InstanceChanges are what ModifyInstanceAttribute changes; nil stays as it
// is. EC2 takes one kind of change in a call.
type InstanceChanges struct {
	Type             *string
	UserData         *[]byte
	SriovNet         *string
	ENA              *bool
	APITermination   *bool // DisableApiTermination
	APIStop          *bool // DisableApiStop
	ShutdownBehavior *string
	SourceDestCheck  *bool
	EBSOptimized     *bool
	Groups           []string        // ids
	Devices          map[string]bool // DeleteOnTermination by device
}

// names are those of the changes that are asked for.
func (p *InstanceChanges) names() (out []string) {
	for _, f := range []struct {
		name string
		set  bool
	}{
		{"instanceType", p.Type != nil},
		{"userData", p.UserData != nil},
		{"sriovNetSupport", p.SriovNet != nil},
		{"enaSupport", p.ENA != nil},
		{"disableApiTermination", p.APITermination != nil},
		{"disableApiStop", p.APIStop != nil},
		{"instanceInitiatedShutdownBehavior", p.ShutdownBehavior != nil},
		{"sourceDestCheck", p.SourceDestCheck != nil},
		{"ebsOptimized", p.EBSOptimized != nil},
		{"groupSet", p.Groups != nil},
		{"blockDeviceMapping", p.Devices != nil},
	} {
		if f.set {
			out = append(out, f.name)
		}
	}
	return out
}

// ModifyInstance changes one attribute of an instance.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceAttribute.html
func (c *Cloud) ModifyInstance(ctx context.Context, region, id string, p InstanceChanges) error {
	names := p.names()
	switch len(names) {
	case 0:
		return Errorf("MissingParameter", "The request must contain an attribute to modify")
	case 1:
	default:
		return Errorf("InvalidParameterCombination", "Fields for multiple attribute types specified: %s", strings.Join(names, ", "))
	}
	return c.Update(ctx, region, func(t *Tx) error {
		i, err := t.FindInstance(id)
		if err != nil {
			return err
		}
		if i.State == "terminated" || i.State == "shutting-down" {
			return Errorf("IncorrectInstanceState", "The instance '%s' is %s: its attributes cannot be modified.", id, i.State)
		}
		needsStop := p.Type != nil || p.UserData != nil || p.SriovNet != nil || p.ENA != nil || p.EBSOptimized != nil
		if needsStop && i.State != "stopped" {
			return Errorf("IncorrectInstanceState", "The instance '%s' is not in the 'stopped' state.", id)
		}
		if err := p.apply(t, &i); err != nil {
			return err
		}
		return Put(t, i)
	})
}

func (p *InstanceChanges) apply(t *Tx, i *Instance) error {
	set := func(to *bool, from *bool) {
		if from != nil {
			*to = *from
		}
	}
	set(&i.ENA, p.ENA)
	set(&i.APITermination, p.APITermination)
	set(&i.APIStop, p.APIStop)
	set(&i.SourceDestCheck, p.SourceDestCheck)
	switch {
	case p.Type != nil:
		return t.changeType(i, *p.Type)
	case p.UserData != nil:
		if len(*p.UserData) > maxUserData {
			return Errorf("InvalidParameterValue", "User data is limited to %d bytes", maxUserData)
		}
		i.UserData = nil // empty is none
		if len(*p.UserData) > 0 {
			i.UserData = *p.UserData
		}
	case p.SriovNet != nil:
		if *p.SriovNet != "simple" {
			return badValue(*p.SriovNet, "sriovNetSupport", "simple")
		}
		i.SriovNet = *p.SriovNet
	case p.ENA != nil && !i.ENA:
		if kind, ok := instancetype.Get(i.Type); ok && kind.ENA == "required" {
			return Errorf("InvalidParameterCombination", "Enhanced networking with the Elastic Network Adapter (ENA) is required for the '%s' instance type.", i.Type)
		}
	case p.ShutdownBehavior != nil:
		if *p.ShutdownBehavior != "stop" && *p.ShutdownBehavior != "terminate" {
			return badValue(*p.ShutdownBehavior, "instanceInitiatedShutdownBehavior", "stop", "terminate")
		}
		i.ShutdownBehavior = *p.ShutdownBehavior
	case p.EBSOptimized != nil:
		if kind, ok := instancetype.Get(i.Type); ok && *p.EBSOptimized && kind.EBSOptimized == "unsupported" {
			return Errorf("Unsupported", "EBS-optimized instances are not supported for your requested configuration: %s", i.Type)
		}
		i.EBSOptimized = *p.EBSOptimized
	case p.Groups != nil:
		return t.changeGroups(i, p.Groups)
	case p.Devices != nil:
		return t.changeDevices(i, p.Devices)
	}
	return nil
}

// changeType gives a stopped instance another type that can run its image.
func (t *Tx) changeType(i *Instance, name string) error {
	image := Image{
		ID: i.ImageID, Arch: i.Arch, Virtualization: i.Virtualization, BootMode: i.BootMode,
		ENA: i.ENA, SriovNet: i.SriovNet,
	}
	if i.TPM {
		image.TPMSupport = "v2.0"
	}
	p := launchPlan{spec: LaunchSpec{Type: name}, image: image}
	if err := p.chooseType(); err != nil {
		return err
	}
	if !p.kind.OfferedIn(i.Zone) {
		return Errorf("Unsupported", "The instance type '%s' is not supported in the Availability Zone %s.", name, i.Zone)
	}
	i.Type = name
	i.Credits = p.credits()
	return nil
}

func (t *Tx) changeGroups(i *Instance, groups []string) error {
	sub, err := t.Subnet(i.Subnet)
	if err != nil {
		return err
	}
	if len(groups) == 0 {
		return Errorf("MissingParameter", "An instance has at least one security group")
	}
	if i.SecurityGroups, err = t.launchGroups(sub, groups, nil, true); err != nil {
		return err
	}
	if i.State != "running" {
		return nil
	}
	return t.Later("instance-ports", i.ID, time.Time{}, nil)
}

func (t *Tx) changeDevices(i *Instance, devices map[string]bool) error {
	for name, drop := range devices {
		n := slices.IndexFunc(i.Devices, func(d InstanceDevice) bool { return d.Device == name })
		if n < 0 {
			return Errorf("InvalidInstanceAttributeValue", "No device is currently mapped at %s", name)
		}
		i.Devices[n].DeleteOnTermination = drop
		v, err := t.FindVolume(i.Devices[n].Volume)
		if err != nil {
			return err
		}
		v.DeleteOnTermination = drop
		if err := Put(t, v); err != nil {
			return err
		}
	}
	return nil
}

// ModifyMetadataOptions changes how the metadata of an instance is served;
// what is zero stays as it is.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceMetadataOptions.html
func (c *Cloud) ModifyMetadataOptions(ctx context.Context, region, id string, m MetadataOptions) (out MetadataOptions, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		i, err := t.FindInstance(id)
		if err != nil {
			return err
		}
		if i.State == "terminated" || i.State == "shutting-down" {
			return badState(&i, "modified")
		}
		if m.Endpoint == "disabled" && (m.Tokens != "" || m.HopLimit != 0) {
			return Errorf("InvalidParameterCombination", "HttpTokens and HttpPutResponseHopLimit cannot be given when HttpEndpoint is disabled")
		}
		out = MetadataOptions{
			Endpoint: or(m.Endpoint, i.Metadata.Endpoint), Tokens: or(m.Tokens, i.Metadata.Tokens),
			HopLimit: or(m.HopLimit, i.Metadata.HopLimit), Tags: or(m.Tags, i.Metadata.Tags),
		}
		if out.Tags == "enabled" {
			if err := checkMetadataTags(i.Tags); err != nil {
				return err
			}
		}
		i.Metadata = out
		return Put(t, i)
	})
	return out, err
}

// A CreditChange gives an instance another way to spend CPU credits.
type CreditChange struct{ Instance, Credits string }

// A CreditRefusal is a change that was not made.
type CreditRefusal struct{ Instance, Code, Message string }

// ModifyCredits changes how instances spend CPU credits, each by itself.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifyInstanceCreditSpecification.html
func (c *Cloud) ModifyCredits(ctx context.Context, region string, changes []CreditChange) (done []string, refused []CreditRefusal, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		done, refused = nil, nil
		for _, ch := range changes {
			err := t.changeCredits(ch)
			var e *Error
			switch {
			case errors.As(err, &e):
				refused = append(refused, CreditRefusal{ch.Instance, e.Code, e.Message})
			case err != nil:
				return err
			default:
				done = append(done, ch.Instance)
			}
		}
		return nil
	})
	return done, refused, err
}

func (t *Tx) changeCredits(ch CreditChange) error {
	i, err := t.FindInstance(ch.Instance)
	if err != nil {
		return err
	}
	if i.State != "running" && i.State != "stopped" {
		return Errorf("IncorrectInstanceState", "The instance '%s' is %s", i.ID, i.State)
	}
	if i.Credits == "" {
		return Errorf("InstanceCreditSpecification.NotSupported", "The instance '%s' of the type %s has no CPU credits", i.ID, i.Type)
	}
	if ch.Credits != "standard" && ch.Credits != "unlimited" {
		return badValue(ch.Credits, "cpuCredits", "standard", "unlimited")
	}
	i.Credits = ch.Credits
	return Put(t, i)
}
