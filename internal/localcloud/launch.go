package localcloud

import (
	"context"
	"errors"
	"slices"
)

// RunParams are those of RunInstances.
type RunParams struct {
	Launch      LaunchSpec
	Min, Max    int
	ClientToken string
}

// RunInstances launches at least Min and at most Max instances that are alike,
// all of one reservation; they are pending when this returns.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_RunInstances.html
func (c *Cloud) RunInstances(ctx context.Context, region string, p RunParams) (out []Instance, err error) {
	if p.Min < 1 || p.Max < p.Min {
		return nil, Errorf("InvalidParameterValue", "Minimum count of %d and maximum count of %d are invalid: the minimum is at least 1, the maximum not less than it", p.Min, p.Max)
	}
	if p.Max > maxLaunch {
		return nil, Errorf("InstanceLimitExceeded", "You have requested more instances (%d) than the %d that one request may launch", p.Max, maxLaunch)
	}
	err = c.Update(ctx, region, func(t *Tx) error {
		made, used, err := t.Token("RunInstances", p.ClientToken, p)
		if err != nil {
			return err
		}
		if used {
			out, err = t.Instances(made)
			return err
		}
		spec, template, err := t.resolveTemplate(p.Launch)
		if err != nil {
			return err
		}
		plan, err := t.planLaunch(spec, p.Max)
		if err != nil {
			return err
		}
		l := launching{token: p.ClientToken, template: template, market: spec.Market}
		n, err := t.capacity(&plan, p.Min, p.Max, l.spot())
		if err != nil {
			return err
		}
		if out, err = t.launch(&plan, n, l); err != nil {
			return err
		}
		ids := make([]string, len(out))
		for i := range out {
			ids[i] = out[i].ID
		}
		return t.SaveToken("RunInstances", p.ClientToken, p, ids...)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// maxLaunch bounds one request.
const maxLaunch = 100

// resolveTemplate returns what a launch says over what its launch template
// says, and the template's id.
func (t *Tx) resolveTemplate(s LaunchSpec) (LaunchSpec, string, error) {
	if s.Template == nil {
		return s, "", nil
	}
	l, v, err := t.LaunchTemplateOf(*s.Template)
	if err != nil {
		return s, "", err
	}
	return s.Over(v.Spec), l.ID, nil
}

// capacity is how many instances of a plan there can be now.
func (t *Tx) capacity(p *launchPlan, least, most int, spot bool) (int, error) {
	set, err := t.Settings()
	if err != nil {
		return 0, err
	}
	name := p.kind.Name
	lacking := []string{name, p.subnet.Zone + "/" + name}
	if spot {
		lacking = append(lacking, name+"/spot", p.subnet.Zone+"/"+name+"/spot")
	}
	for _, l := range lacking {
		if slices.Contains(set.NoCapacity, l) {
			return 0, &Error{
				Code: "InsufficientInstanceCapacity", Status: 500,
				Message: "We currently do not have sufficient " + name + " capacity in the Availability Zone you requested (" + p.subnet.Zone + ").",
			}
		}
	}
	if set.InstanceLimit == 0 {
		return most, nil
	}
	all, err := All[Instance](t)
	if err != nil {
		return 0, err
	}
	have := 0
	for _, i := range all {
		if i.State != "terminated" {
			have++
		}
	}
	if n := min(most, set.InstanceLimit-have); n >= least {
		return n, nil
	}
	return 0, Errorf("InstanceLimitExceeded", "You have requested more instances (%d) than your current instance limit of %d allows for the specified instance type.", have+least, set.InstanceLimit)
}

// launching is what a launch is part of.
type launching struct {
	token    string
	template string
	fleet    string
	market   *LaunchMarket
	request  *SpotRequest // that the instance answers; nil: a new one for spot instances
}

func (l *launching) spot() bool {
	return l.request != nil || l.market != nil && l.market.Type == "spot"
}

// launch writes n instances of a plan, with their volumes and the jobs that
// start them.
func (t *Tx) launch(p *launchPlan, n int, l launching) ([]Instance, error) {
	set, err := t.Settings()
	if err != nil {
		return nil, err
	}
	p.image.LastLaunched = t.Now
	if err := Put(t, p.image); err != nil {
		return nil, err
	}
	reservation := NewID("r")
	var out []Instance
	for index := range n {
		i := p.instance(t, l)
		i.Reservation, i.Index = reservation, index
		if i.PrivateIP, err = p.privateAddress(t); err != nil {
			return nil, err
		}
		if i.Public {
			if i.PublicIP, err = t.NextPublicIP(); err != nil {
				return nil, err
			}
		}
		for _, d := range p.devices {
			if err := t.addVolume(&i, d, p.spec.Tags["volume"]); err != nil {
				return nil, err
			}
		}
		if i.Profile != "" {
			if _, err := t.associate(i.ID, i.Profile); err != nil {
				return nil, err
			}
		}
		if l.spot() {
			if err := t.fulfil(&i, p, l); err != nil {
				return nil, err
			}
		}
		if err := errors.Join(Put(t, i), t.Later("instance-start", i.ID, t.Now.Add(set.StartTime), nil)); err != nil {
			return nil, err
		}
		out = append(out, i)
	}
	return out, nil
}

// instance is one instance of a plan, without what differs among them.
func (p *launchPlan) instance(t *Tx, l launching) Instance {
	s := &p.spec
	i := Instance{
		ID: NewID("i"), ImageID: p.image.ID, Type: p.kind.Name, Arch: p.image.Arch,
		Virtualization: p.image.Virtualization, BootMode: p.boot, TPM: p.image.TPMSupport != "",
		KeyName: p.key.Name, PublicKey: p.key.PublicKey, UserData: s.UserData,
		Zone: p.subnet.Zone, Subnet: p.subnet.ID, VPC: p.subnet.VPC, SecurityGroups: p.groups,
		Public: p.public, Profile: p.profile, RootDevice: p.image.RootDevice,
		ShutdownBehavior: or(s.ShutdownBehavior, "stop"),
		APITermination:   deref(s.NoAPITermination), APIStop: deref(s.NoAPIStop),
		EBSOptimized: deref(s.EBSOptimized), ENA: p.image.ENA, SriovNet: p.image.SriovNet, SourceDestCheck: true,
		Monitoring: deref(s.Monitoring), Tenancy: "default", Credits: p.credits(), Metadata: p.meta,
		Enclave: deref(s.Enclave), LaunchTemplate: l.template, Fleet: l.fleet, Launched: t.Now, Token: l.token,
		Platform: p.image.Platform, Licenses: s.Licenses, AutoRecovery: or(s.AutoRecovery, "default"),
		HostnameType: or(s.HostnameType, "ip-name"), ResourceNameDNS: s.ResourceNameDNS,
		ResourceNameDNSv6: s.ResourceNameDNSv6, Tags: s.Tags["instance"].Clone(),
	}
	i.Interface = NetworkInterface{
		ID: NewID("eni"), Attachment: NewID("eni-attach"), Description: p.iface.Description,
		Tags: s.Tags["network-interface"].Clone(),
	}
	i.Interface.MAC = newMAC(i.Interface.ID)
	if pl := s.Placement; pl != nil {
		i.Tenancy = or(pl.Tenancy, "default")
		i.Host = Placement{Group: pl.Group, Affinity: pl.Affinity, Partition: pl.Partition}
	}
	i.Capacity.Preference = "open"
	if s.Capacity != nil {
		i.Capacity.Preference = or(s.Capacity.Preference, "open")
	}
	if s.CPU != nil {
		i.CPU = *s.CPU
	}
	if p.key.Name != "" && i.Platform == "windows" {
		i.Password = windowsPassword(p.key.PublicKey)
	}
	i.move(t, "pending", "pending", "pending")
	return i
}

// credits is how CPU credits are spent: T2 and older are standard when nothing
// says, newer ones unlimited. "" for types without credits.
func (p *launchPlan) credits() string {
	switch {
	case !p.kind.Burstable:
		return ""
	case p.spec.Credits != "":
		return p.spec.Credits
	case p.kind.Name[:3] == "t2." || p.kind.Name[:3] == "t1.":
		return "standard"
	}
	return "unlimited"
}

// addVolume writes a planned volume as one of an instance. Its disk is made
// before the instance starts.
func (t *Tx) addVolume(i *Instance, d plannedDevice, tags Tags) error {
	v, err := t.NewVolume(i.Zone, d.spec, d.snap, tags)
	if err != nil {
		return err
	}
	v.Instance, v.Device, v.AttachState, v.AttachedAt = i.ID, d.device, "attaching", t.Now
	v.DeleteOnTermination = d.spec.DeleteOnTermination
	i.Devices = append(i.Devices, InstanceDevice{
		Device: d.device, Volume: v.ID, Attached: t.Now, DeleteOnTermination: d.spec.DeleteOnTermination,
	})
	return Put(t, v)
}

func deref(b *bool) bool { return b != nil && *b }

// instanceStart gives a pending instance its disks and its machine.
func (c *Cloud) instanceStart(ctx context.Context, j Job) error {
	unlock, err := c.lockInstance(ctx, j.Target)
	if err != nil {
		return err
	}
	defer unlock()
	i, ok, err := c.getInstance(ctx, j.Region, j.Target)
	if err != nil || !ok || i.State != "pending" {
		return err
	}
	err = c.startMachine(ctx, j.Region, i, func(t *Tx, i *Instance) error {
		i.move(t, "running", "", "")
		return errors.Join(t.attachedAll(i), t.Done(j))
	})
	if err == nil || ctx.Err() != nil {
		return err
	}
	c.warn(err)
	return c.startFailed(ctx, j, err)
}

// startFailed ends an instance that cannot start: a new one for good, another
// one is stopped as before.
func (c *Cloud) startFailed(ctx context.Context, j Job, why error) error {
	return c.Update(ctx, j.Region, func(t *Tx) error {
		i, ok, err := Get[Instance](t, j.Target)
		if err != nil || !ok || i.State != "pending" {
			return errors.Join(err, t.Done(j))
		}
		reason := "Internal error on launch: " + why.Error()
		if i.Started {
			i.move(t, "stopped", reasonInternal, reason)
			err = t.unplug(&i)
		} else {
			err = t.terminate(&i, reasonInternal, reason)
		}
		return errors.Join(err, Put(t, i), t.Done(j))
	})
}

// attachedAll marks the volumes of an instance as made and attached.
func (t *Tx) attachedAll(i *Instance) error {
	for _, d := range i.Devices {
		if err := t.VolumeCreated(d.Volume); err != nil {
			return err
		}
		v, ok, err := Get[Volume](t, d.Volume)
		if err != nil {
			return err
		}
		if ok && v.AttachState == "attaching" {
			v.AttachState = "attached"
			if err := Put(t, v); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *Cloud) getInstance(ctx context.Context, region, id string) (i Instance, ok bool, err error) {
	err = c.View(ctx, region, func(t *Tx) (err error) {
		i, ok, err = Get[Instance](t, id)
		return err
	})
	return i, ok, err
}
