package iamapi

import (
	"context"
	"net/http"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

type profile struct {
	Path, InstanceProfileName, InstanceProfileId, Arn, CreateDate string
	Roles                                                         []role `xml:"Roles>member"`
	Tags                                                          []tag  `xml:"Tags>member"`
}

func showProfile(t *localcloud.Tx, p localcloud.InstanceProfile) (profile, error) {
	out := profile{p.Path, p.Name, p.ID, p.ARN(), awswire.Time(p.Created), nil, showTags(p.Tags)}
	for _, name := range p.Roles {
		r, ok, err := localcloud.Get[localcloud.Role](t, name)
		if err != nil {
			return out, err
		}
		if ok {
			out.Roles = append(out.Roles, showRole(r))
		}
	}
	return out, nil
}

type createProfileInput struct {
	Name string `q:"InstanceProfileName,required"`
	Path string `q:"Path"`
	Tags []tag  `q:"Tags,member"`
}

type profileOutput struct{ InstanceProfile profile }

func (a api) createProfile(ctx context.Context, _ *awswire.Call, in *createProfileInput) (*profileOutput, error) {
	if in.Path == "" {
		in.Path = "/"
	}
	if err := checkName(in.Name, in.Path); err != nil {
		return nil, err
	}
	out := &profileOutput{}
	return out, a.cloud.Update(ctx, "", func(t *localcloud.Tx) error {
		_, ok, err := localcloud.Get[localcloud.InstanceProfile](t, in.Name)
		if err != nil {
			return err
		}
		if ok {
			return awswire.Statusf(http.StatusConflict, "EntityAlreadyExists", "Instance Profile %s already exists.", in.Name)
		}
		p := localcloud.InstanceProfile{Name: in.Name, ID: id("AIPA"), Path: in.Path, Created: t.Now, Tags: tagsOf(in.Tags)}
		if out.InstanceProfile, err = showProfile(t, p); err != nil {
			return err
		}
		return localcloud.Put(t, p)
	})
}

type profileInput struct {
	Name string `q:"InstanceProfileName,required"`
}

func getProfile(t *localcloud.Tx, name string) (localcloud.InstanceProfile, error) {
	p, ok, err := localcloud.Get[localcloud.InstanceProfile](t, name)
	if err == nil && !ok {
		err = noSuch("Instance Profile", name)
	}
	return p, err
}

func (a api) getProfile(ctx context.Context, _ *awswire.Call, in *profileInput) (*profileOutput, error) {
	out := &profileOutput{}
	return out, a.cloud.View(ctx, "", func(t *localcloud.Tx) error {
		p, err := getProfile(t, in.Name)
		if err != nil {
			return err
		}
		out.InstanceProfile, err = showProfile(t, p)
		return err
	})
}

func (a api) deleteProfile(ctx context.Context, _ *awswire.Call, in *profileInput) (*struct{}, error) {
	return nil, a.cloud.Update(ctx, "", func(t *localcloud.Tx) error {
		p, err := getProfile(t, in.Name)
		if err != nil {
			return err
		}
		if len(p.Roles) > 0 {
			return awswire.Statusf(http.StatusConflict, "DeleteConflict", "Cannot delete entity, must remove roles from instance profile first.")
		}
		return localcloud.Delete[localcloud.InstanceProfile](t, p.Name)
	})
}

type profilesOutput struct {
	InstanceProfiles []profile `xml:"InstanceProfiles>member"`
	IsTruncated      bool
}

func (a api) profiles(ctx context.Context, want func(localcloud.InstanceProfile) bool) (*profilesOutput, error) {
	out := &profilesOutput{}
	return out, a.cloud.View(ctx, "", func(t *localcloud.Tx) error {
		all, err := localcloud.All[localcloud.InstanceProfile](t)
		if err != nil {
			return err
		}
		for _, p := range all {
			if !want(p) {
				continue
			}
			shown, err := showProfile(t, p)
			if err != nil {
				return err
			}
			out.InstanceProfiles = append(out.InstanceProfiles, shown)
		}
		return nil
	})
}

func (a api) listProfiles(ctx context.Context, _ *awswire.Call, in *page) (*profilesOutput, error) {
	return a.profiles(ctx, func(p localcloud.InstanceProfile) bool { return strings.HasPrefix(p.Path, in.Prefix) })
}

func (a api) listProfilesForRole(ctx context.Context, _ *awswire.Call, in *listPoliciesInput) (*profilesOutput, error) {
	if _, err := a.role(ctx, in.Role); err != nil {
		return nil, err
	}
	return a.profiles(ctx, func(p localcloud.InstanceProfile) bool { return slices.Contains(p.Roles, in.Role) })
}

type membershipInput struct {
	Profile string `q:"InstanceProfileName,required"`
	Role    string `q:"RoleName,required"`
}

func (a api) changeProfile(ctx context.Context, name string, fn func(*localcloud.Tx, *localcloud.InstanceProfile) error) (*struct{}, error) {
	return nil, a.cloud.Update(ctx, "", func(t *localcloud.Tx) error {
		p, err := getProfile(t, name)
		if err != nil {
			return err
		}
		if err := fn(t, &p); err != nil {
			return err
		}
		return localcloud.Put(t, p)
	})
}

func (a api) addRole(ctx context.Context, _ *awswire.Call, in *membershipInput) (*struct{}, error) {
	return a.changeProfile(ctx, in.Profile, func(t *localcloud.Tx, p *localcloud.InstanceProfile) error {
		if _, ok, err := localcloud.Get[localcloud.Role](t, in.Role); err != nil || !ok {
			if err == nil {
				err = noSuch("The role with name", in.Role)
			}
			return err
		}
		if len(p.Roles) > 0 {
			return awswire.Statusf(http.StatusConflict, "LimitExceeded", "Cannot exceed quota for InstanceSessionsPerInstanceProfile: 1")
		}
		p.Roles = []string{in.Role}
		return nil
	})
}

func (a api) removeRole(ctx context.Context, _ *awswire.Call, in *membershipInput) (*struct{}, error) {
	return a.changeProfile(ctx, in.Profile, func(_ *localcloud.Tx, p *localcloud.InstanceProfile) error {
		if !slices.Contains(p.Roles, in.Role) {
			return noSuch("The role with name", in.Role)
		}
		p.Roles = nil
		return nil
	})
}

type tagProfileInput struct {
	Name string `q:"InstanceProfileName,required"`
	Tags []tag  `q:"Tags,member"`
}

func (a api) tagProfile(ctx context.Context, _ *awswire.Call, in *tagProfileInput) (*struct{}, error) {
	return a.changeProfile(ctx, in.Name, func(_ *localcloud.Tx, p *localcloud.InstanceProfile) error {
		p.Tags = p.Tags.Clone()
		for _, t := range in.Tags {
			p.Tags[t.Key] = t.Value
		}
		return nil
	})
}
