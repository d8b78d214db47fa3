package localcloud

import (
	"context"
	"errors"
	"slices"
	"time"
)

// A ProfileAssociation says which IAM instance profile an instance has.
type ProfileAssociation struct {
	ID, Instance, Profile string
	State                 string // associated disassociating
	Since                 time.Time
}

// RecordKind implements [Record].
func (ProfileAssociation) RecordKind() string { return "profile-association" }

// RecordID implements [Record].
func (a ProfileAssociation) RecordID() string { return a.ID }

// Profile returns an instance profile of the account, which has all regions in
// common.
func (t *Tx) Profile(name string) (InstanceProfile, bool, error) {
	return Get[InstanceProfile](t.In(""), name)
}

// launchProfile returns the name of the profile that a request gives by ARN or
// by name, "" for none.
func (t *Tx) launchProfile(arn, name string) (string, error) {
	switch {
	case arn == "" && name == "":
		return "", nil
	case arn != "" && name != "":
		return "", Errorf("InvalidParameterCombination", "The parameter 'iamInstanceProfile.name' may not be used in combination with 'iamInstanceProfile.arn'")
	case name != "":
		_, ok, err := t.Profile(name)
		if err == nil && !ok {
			err = Errorf("InvalidParameterValue", "Value (%s) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name", name)
		}
		return name, err
	}
	all, err := All[InstanceProfile](t.In(""))
	if err != nil {
		return "", err
	}
	i := slices.IndexFunc(all, func(p InstanceProfile) bool { return p.ARN() == arn })
	if i < 0 {
		return "", Errorf("InvalidParameterValue", "Value (%s) for parameter iamInstanceProfile.arn is invalid. Invalid IAM Instance Profile ARN", arn)
	}
	return all[i].Name, nil
}

// associate writes that an instance has a profile.
func (t *Tx) associate(instance, profile string) (ProfileAssociation, error) {
	a := ProfileAssociation{ID: NewID("iip-assoc"), Instance: instance, Profile: profile, State: "associated", Since: t.Now}
	return a, Put(t, a)
}

// AssociateProfile gives an instance without a profile one.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_AssociateIamInstanceProfile.html
func (c *Cloud) AssociateProfile(ctx context.Context, region, instance, arn, name string) (a ProfileAssociation, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		i, err := t.FindInstance(instance)
		if err != nil {
			return err
		}
		if i.State != "running" && i.State != "stopped" && i.State != "pending" {
			return badState(&i, "given an instance profile")
		}
		if i.Profile != "" {
			return Errorf("IncorrectState", "There is an existing association for instance %s", instance)
		}
		if i.Profile, err = t.launchProfile(arn, name); err != nil {
			return err
		}
		if i.Profile == "" {
			return Errorf("MissingParameter", "The request must contain the parameter IamInstanceProfile")
		}
		if a, err = t.associate(i.ID, i.Profile); err != nil {
			return err
		}
		return Put(t, i)
	})
	return a, err
}

func (t *Tx) findAssociation(id string) (ProfileAssociation, error) {
	a, ok, err := Get[ProfileAssociation](t, id)
	if err == nil && !ok {
		err = Errorf("InvalidAssociationID.NotFound", "An invalid association-id of '%s' was given", id)
	}
	return a, err
}

// setProfile changes the profile of an instance's record.
func (t *Tx) setProfile(instance, profile string) error {
	i, ok, err := Get[Instance](t, instance)
	if err != nil || !ok {
		return err
	}
	i.Profile = profile
	return Put(t, i)
}

// DisassociateProfile takes a profile from its instance.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_DisassociateIamInstanceProfile.html
func (c *Cloud) DisassociateProfile(ctx context.Context, region, id string) (a ProfileAssociation, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		if a, err = t.findAssociation(id); err != nil {
			return err
		}
		a.State = "disassociating"
		return errors.Join(t.setProfile(a.Instance, ""), Delete[ProfileAssociation](t, id))
	})
	return a, err
}

// ReplaceProfile gives an instance another profile; the association is a new
// one.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_ReplaceIamInstanceProfileAssociation.html
func (c *Cloud) ReplaceProfile(ctx context.Context, region, id, arn, name string) (a ProfileAssociation, err error) {
	err = c.Update(ctx, region, func(t *Tx) error {
		old, err := t.findAssociation(id)
		if err != nil {
			return err
		}
		profile, err := t.launchProfile(arn, name)
		if err != nil {
			return err
		}
		if profile == "" {
			return Errorf("MissingParameter", "The request must contain the parameter IamInstanceProfile")
		}
		if a, err = t.associate(old.Instance, profile); err != nil {
			return err
		}
		return errors.Join(t.setProfile(old.Instance, profile), Delete[ProfileAssociation](t, id))
	})
	return a, err
}

// ProfileAssociations returns those of a region; those with the ids when any
// are given.
func (c *Cloud) ProfileAssociations(ctx context.Context, region string, ids []string) (out []ProfileAssociation, err error) {
	err = c.View(ctx, region, func(t *Tx) (err error) {
		if len(ids) == 0 {
			out, err = All[ProfileAssociation](t)
			return err
		}
		for _, id := range ids {
			a, err := t.findAssociation(id)
			if err != nil {
				return err
			}
			out = append(out, a)
		}
		return nil
	})
	return out, err
}

// dropAssociations removes those of an instance that is terminated.
func (t *Tx) dropAssociations(instance string) error {
	all, err := All[ProfileAssociation](t)
	if err != nil {
		return err
	}
	for _, a := range all {
		if a.Instance == instance {
			if err := Delete[ProfileAssociation](t, a.ID); err != nil {
				return err
			}
		}
	}
	return nil
}
