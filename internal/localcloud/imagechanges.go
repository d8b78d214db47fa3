package localcloud

import (
	"context"
	"slices"
	"time"
)

// ChangeImage changes an image of the account's own and returns it.
func (c *Cloud) ChangeImage(ctx context.Context, region, id string, change func(*Tx, *Image) error) (i Image, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if i, err = t.ownImage(id); err != nil {
			return err
		}
		if err := change(t, &i); err != nil {
			return err
		}
		return Put(t, i)
	})
	return i, err
}

// maxDeprecation is how far ahead an image may be deprecated.
const maxDeprecation = 10 * 366 * 24 * time.Hour

// DeprecateImage sets when an image is deprecated: seconds are cut off, as EC2
// does. The zero time: never.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EnableImageDeprecation.html
func (c *Cloud) DeprecateImage(ctx context.Context, region, id string, at time.Time) error {
	_, err := c.ChangeImage(ctx, region, id, func(t *Tx, i *Image) error {
		switch {
		case at.IsZero():
		case at.Before(t.Now.Truncate(time.Minute)):
			return Errorf("InvalidParameterValue", "The deprecation time %s has passed", at.Format(time.RFC3339))
		case at.After(t.Now.Add(maxDeprecation)):
			return Errorf("InvalidParameterValue", "The deprecation time %s is more than 10 years ahead", at.Format(time.RFC3339))
		}
		i.Deprecated = at.UTC().Truncate(time.Minute)
		return nil
	})
	return err
}

// DisableImage keeps an image from being launched or seen by others, and ends
// its sharing; EnableImage makes it available again.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DisableImage.html
func (c *Cloud) DisableImage(ctx context.Context, region, id string) error {
	_, err := c.ChangeImage(ctx, region, id, func(_ *Tx, i *Image) error {
		if i.State != "available" && i.State != "disabled" {
			return Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is '%s'; only an available one can be disabled", id, i.State)
		}
		i.State = "disabled"
		i.Public, i.LaunchUsers, i.LaunchGroups, i.LaunchOrgs, i.LaunchOUs = false, nil, nil, nil, nil
		return nil
	})
	return err
}

// EnableImage makes a disabled image available.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EnableImage.html
func (c *Cloud) EnableImage(ctx context.Context, region, id string) error {
	_, err := c.ChangeImage(ctx, region, id, func(_ *Tx, i *Image) error {
		if i.State != "available" && i.State != "disabled" {
			return Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is '%s'; only a disabled one can be enabled", id, i.State)
		}
		i.State = "available"
		return nil
	})
	return err
}

// cooldown is how long the protection of an image lasts after it was disabled.
const cooldown = 24 * time.Hour

// ProtectImage turns the protection of an image from deregistration on or off
// and returns what it is now.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EnableImageDeregistrationProtection.html
func (c *Cloud) ProtectImage(ctx context.Context, region, id string, on, withCooldown bool) (string, error) {
	i, err := c.ChangeImage(ctx, region, id, func(t *Tx, i *Image) error {
		switch {
		case on && withCooldown:
			i.Protected, i.ProtectedUntil = "enabled-with-cooldown", time.Time{}
		case on:
			i.Protected, i.ProtectedUntil = "enabled-without-cooldown", time.Time{}
		default:
			if i.Protected == "enabled-with-cooldown" {
				i.ProtectedUntil = t.Now.Add(cooldown)
			}
			i.Protected = "disabled"
		}
		return nil
	})
	return i.Protected, err
}

// Sharing is a change of who may use an image or a snapshot.
type Sharing struct {
	AddUsers, RemoveUsers   []string
	AddGroups, RemoveGroups []string
	AddOrgs, RemoveOrgs     []string
	AddOUs, RemoveOUs       []string
}

// Empty reports whether nothing is changed.
func (s Sharing) Empty() bool {
	return len(s.AddUsers)+len(s.RemoveUsers)+len(s.AddGroups)+len(s.RemoveGroups)+
		len(s.AddOrgs)+len(s.RemoveOrgs)+len(s.AddOUs)+len(s.RemoveOUs) == 0
}

func (s Sharing) check() error {
	for _, u := range slices.Concat(s.AddUsers, s.RemoveUsers) {
		if !validAccount(u) {
			return Errorf("InvalidAMIAttributeItemValue", "Invalid attribute item value \"%s\" for userId item type.", u)
		}
	}
	for _, g := range slices.Concat(s.AddGroups, s.RemoveGroups) {
		if g != "all" {
			return Errorf("InvalidAMIAttributeItemValue", "Invalid attribute item value \"%s\" for userGroup item type.", g)
		}
	}
	for _, a := range slices.Concat(s.AddOrgs, s.RemoveOrgs) {
		if !validARN(a, "organization/") {
			return Errorf("InvalidAMIAttributeItemValue", "Invalid attribute item value \"%s\" for organizationArn item type.", a)
		}
	}
	for _, a := range slices.Concat(s.AddOUs, s.RemoveOUs) {
		if !validARN(a, "ou/") {
			return Errorf("InvalidAMIAttributeItemValue", "Invalid attribute item value \"%s\" for organizationalUnitArn item type.", a)
		}
	}
	return nil
}

// ShareImage changes who may launch an image. One with disks under AWS's own key
// cannot be shared, an encrypted one cannot be public.
func (t *Tx) ShareImage(i *Image, s Sharing) error {
	if err := s.check(); err != nil {
		return err
	}
	d, err := t.EBSDefaults()
	if err != nil {
		return err
	}
	if d.BlockImages != "" && slices.Contains(s.AddGroups, "all") {
		return Errorf("OperationNotPermitted", "You can't publicly share this image because block public access for AMIs is enabled in %s", t.Region)
	}
	for _, id := range snapshotsOf(i.Devices) {
		snap, ok, err := Get[Snapshot](t, id)
		if err != nil {
			return err
		}
		if ok && s.adds() {
			if err := t.shareable(snap, s); err != nil {
				return err
			}
		}
	}
	i.LaunchUsers = changed(i.LaunchUsers, s.AddUsers, s.RemoveUsers)
	i.LaunchGroups = changed(i.LaunchGroups, s.AddGroups, s.RemoveGroups)
	i.LaunchOrgs = changed(i.LaunchOrgs, s.AddOrgs, s.RemoveOrgs)
	i.LaunchOUs = changed(i.LaunchOUs, s.AddOUs, s.RemoveOUs)
	i.Public = slices.Contains(i.LaunchGroups, "all")
	return nil
}

func (s Sharing) adds() bool {
	return len(s.AddUsers)+len(s.AddGroups)+len(s.AddOrgs)+len(s.AddOUs) > 0
}

// shareable refuses to share what others could not decrypt.
func (t *Tx) shareable(s Snapshot, sh Sharing) error {
	if !s.Encrypted {
		return nil
	}
	own, err := KeyARN(t.Region, "alias/aws/ebs")
	switch {
	case err != nil:
		return err
	case s.KMSKeyID == own:
		return Errorf("InvalidParameter", "Snapshots encrypted with the AWS Managed CMK can't be shared: %s. Encrypt a copy with a key of your own", s.ID)
	case slices.Contains(sh.AddGroups, "all"):
		return Errorf("InvalidParameter", "Encrypted snapshots can't be shared publicly: %s", s.ID)
	}
	return nil
}

// ShareSnapshot changes who may make volumes of a snapshot.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ModifySnapshotAttribute.html
func (c *Cloud) ShareSnapshot(ctx context.Context, region, id string, sh Sharing) error {
	return c.Update(ctx, region, func(t *Tx) error {
		s, err := t.ownSnapshot(id)
		if err != nil {
			return err
		}
		if err := sh.check(); err != nil {
			return err
		}
		d, err := t.EBSDefaults()
		if err != nil {
			return err
		}
		if d.BlockSnapshots != "" && slices.Contains(sh.AddGroups, "all") {
			return Errorf("OperationNotPermitted", "You can't publicly share this snapshot because block public access for snapshots is enabled in %s", t.Region)
		}
		if sh.adds() {
			if err := t.shareable(s, sh); err != nil {
				return err
			}
		}
		s.Users = changed(s.Users, sh.AddUsers, sh.RemoveUsers)
		s.Groups = changed(s.Groups, sh.AddGroups, sh.RemoveGroups)
		return Put(t, s)
	})
}

// changed returns a sorted list with items added and then others removed.
func changed(list, add, remove []string) []string {
	out := slices.Concat(list, add)
	slices.Sort(out)
	out = slices.Compact(out)
	return slices.DeleteFunc(out, func(s string) bool { return slices.Contains(remove, s) })
}

// A FastLaunch is the configuration of faster launching of a Windows image.
type FastLaunch struct {
	Image                      string
	State                      string // enabling enabled disabling
	MaxParallel                int
	Target                     int // snapshots kept ready
	TemplateID, TemplateName   string
	TemplateVersion            string
	Since                      time.Time // in this state
	TransitionReason, Resource string
}

// RecordKind implements [Record].
func (FastLaunch) RecordKind() string { return "fast-launch" }

// RecordID implements [Record].
func (f FastLaunch) RecordID() string { return f.Image }

// EnableFastLaunch keeps the configuration of a Windows image. Nothing is
// prepared: launches of the local cloud are not slow.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_EnableFastLaunch.html
func (c *Cloud) EnableFastLaunch(ctx context.Context, region string, f FastLaunch) (FastLaunch, error) {
	err := c.Update(ctx, region, func(t *Tx) error {
		i, err := t.ownImage(f.Image)
		if err != nil {
			return err
		}
		switch {
		case i.Platform != "windows":
			return Errorf("InvalidParameterValue", "The image %s is not of Windows: fast launch is for Windows images only", i.ID)
		case i.State != "available":
			return Errorf("InvalidAMIID.Unavailable", "The image ID '%s' is '%s'", i.ID, i.State)
		case f.MaxParallel != 0 && f.MaxParallel < 6:
			return Errorf("InvalidParameterValue", "Value (%d) for parameter MaxParallelLaunches is invalid. It is at least 6", f.MaxParallel)
		case f.Target < 0:
			return Errorf("InvalidParameterValue", "Value (%d) for parameter TargetResourceCount is invalid. It is at least 1", f.Target)
		case f.Resource != "" && f.Resource != "snapshot":
			return Errorf("InvalidParameterValue", "Value (%s) for parameter ResourceType is invalid. It must be snapshot", f.Resource)
		}
		if f.MaxParallel == 0 {
			f.MaxParallel = 6
		}
		if f.Target == 0 {
			f.Target = 5
		}
		f.Resource, f.State, f.Since, f.TransitionReason = "snapshot", "enabled", t.Now, "Client.UserInitiated"
		return Put(t, f)
	})
	f.State = "enabling" // what the caller has asked for; the next description says what is
	return f, err
}

// DisableFastLaunch drops the configuration of an image.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DisableFastLaunch.html
func (c *Cloud) DisableFastLaunch(ctx context.Context, region, id string) (f FastLaunch, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if _, err := t.ownImage(id); err != nil {
			return err
		}
		var ok bool
		if f, ok, err = Get[FastLaunch](t, id); err != nil {
			return err
		}
		if !ok {
			return Errorf("InvalidRequest", "Fast launch is not enabled for %s", id)
		}
		f.State, f.Since = "disabling", t.Now
		return Delete[FastLaunch](t, id)
	})
	return f, err
}

// FastLaunches returns the configurations of a region; of the images when any
// are given.
func (c *Cloud) FastLaunches(ctx context.Context, region string, images []string) (out []FastLaunch, err error) {
	err = c.View(ctx, region, func(t *Tx) error {
		for _, id := range images {
			if _, err := t.FindImage(id); err != nil {
				return err
			}
		}
		out, err = All[FastLaunch](t)
		return err
	})
	return slices.DeleteFunc(out, func(f FastLaunch) bool { return len(images) > 0 && !slices.Contains(images, f.Image) }), err
}

// Describe changes the description of an image.
func (i *Image) Describe(s string) error {
	i.Description = s
	return checkDescription(s)
}
