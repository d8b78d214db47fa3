package storage

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) snapshotAttributes() awswire.Operations {
	return awswire.Operations{
		"ModifySnapshotAttribute":   awswire.Op(a.modifySnapshotAttribute),
		"DescribeSnapshotAttribute": awswire.Op(a.describeSnapshotAttribute),
		"ResetSnapshotAttribute":    awswire.Op(a.resetSnapshotAttribute),
	}
}

// A permission names one who may use an image or a snapshot.
type permission struct {
	Group string `q:"Group" xml:"group,omitempty"`
	Org   string `q:"OrganizationArn" xml:"organizationArn,omitempty"`
	OU    string `q:"OrganizationalUnitArn" xml:"organizationalUnitArn,omitempty"`
	User  string `q:"UserId" xml:"userId,omitempty"`
}

type permissions struct {
	Add    []permission `q:"Add"`
	Remove []permission `q:"Remove"`
}

// sharing joins the two ways of saying who is added and removed.
func (p permissions) sharing(operation string, users, groups, orgs, ous []string) (localcloud.Sharing, error) {
	for _, u := range users {
		p.flat(operation, permission{User: u})
	}
	for _, g := range groups {
		p.flat(operation, permission{Group: g})
	}
	for _, o := range orgs {
		p.flat(operation, permission{Org: o})
	}
	for _, o := range ous {
		p.flat(operation, permission{OU: o})
	}
	if operation != "" && operation != "add" && operation != "remove" || operation == "" && len(users)+len(groups)+len(orgs)+len(ous) > 0 {
		return localcloud.Sharing{}, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter operationType is invalid. It must be add or remove", operation)
	}
	var s localcloud.Sharing
	for _, a := range p.Add {
		a.into(&s.AddUsers, &s.AddGroups, &s.AddOrgs, &s.AddOUs)
	}
	for _, r := range p.Remove {
		r.into(&s.RemoveUsers, &s.RemoveGroups, &s.RemoveOrgs, &s.RemoveOUs)
	}
	return s, nil
}

func (p *permissions) flat(operation string, one permission) {
	if operation == "remove" {
		p.Remove = append(p.Remove, one)
	} else {
		p.Add = append(p.Add, one)
	}
}

func (p permission) into(users, groups, orgs, ous *[]string) {
	for _, f := range []struct {
		value string
		to    *[]string
	}{{p.User, users}, {p.Group, groups}, {p.Org, orgs}, {p.OU, ous}} {
		if f.value != "" {
			*f.to = append(*f.to, f.value)
		}
	}
}

// permissionsOf lists who may use something.
func permissionsOf(users, groups, orgs, ous []string) []permission {
	out := ec2wire.Mapped(groups, func(s string) permission { return permission{Group: s} })
	out = append(out, ec2wire.Mapped(users, func(s string) permission { return permission{User: s} })...)
	out = append(out, ec2wire.Mapped(orgs, func(s string) permission { return permission{Org: s} })...)
	return append(out, ec2wire.Mapped(ous, func(s string) permission { return permission{OU: s} })...)
}

type modifySnapshotAttributeIn struct {
	snapshotIn
	Attribute  string      `q:"Attribute"`
	Permission permissions `q:"CreateVolumePermission"`
	Operation  string      `q:"OperationType"`
	Groups     []string    `q:"UserGroup"`
	Users      []string    `q:"UserId"`
}

func (a *api) modifySnapshotAttribute(ctx context.Context, c *awswire.Call, in *modifySnapshotAttributeIn) (*ec2wire.Return, error) {
	if in.Attribute != "" && in.Attribute != "createVolumePermission" {
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Only createVolumePermission can be changed", in.Attribute)
	}
	sh, err := in.Permission.sharing(in.Operation, in.Users, in.Groups, nil, nil)
	if err == nil && sh.Empty() {
		err = awswire.Errorf("MissingParameter", "The request must contain the parameter createVolumePermission, userId or userGroup")
	}
	if err != nil {
		return nil, err
	}
	return ec2wire.OK(), a.cloud.ShareSnapshot(dry(ctx, in.DryRun), c.Region, in.ID, sh)
}

type snapshotAttributeIn struct {
	snapshotIn
	Attribute string `q:"Attribute,required"`
}

type snapshotAttributeOut struct {
	ID          string       `xml:"snapshotId"`
	Permissions []permission `xml:"createVolumePermission>item"`
	Products    *emptyItems  `xml:"productCodes"`
}

func (a *api) describeSnapshotAttribute(ctx context.Context, c *awswire.Call, in *snapshotAttributeIn) (*snapshotAttributeOut, error) {
	all, err := a.cloud.Snapshots(ctx, c.Region, []string{in.ID})
	if err != nil {
		return nil, err
	}
	s := all[0]
	out := &snapshotAttributeOut{ID: s.ID}
	switch in.Attribute {
	case "createVolumePermission":
		out.Permissions = permissionsOf(s.Users, s.Groups, nil, nil)
	case "productCodes":
		out.Products = &emptyItems{}
	default:
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. It must be createVolumePermission or productCodes", in.Attribute)
	}
	return out, in.DryRun.Check()
}

func (a *api) resetSnapshotAttribute(ctx context.Context, c *awswire.Call, in *snapshotAttributeIn) (*ec2wire.Return, error) {
	if in.Attribute != "createVolumePermission" {
		return nil, awswire.Errorf("InvalidParameterValue", "Value (%s) for parameter attribute is invalid. Only createVolumePermission can be reset", in.Attribute)
	}
	return ec2wire.OK(), a.cloud.ChangeSnapshot(dry(ctx, in.DryRun), c.Region, in.ID, func(s *localcloud.Snapshot) error {
		s.Users, s.Groups = nil, nil
		return nil
	})
}
