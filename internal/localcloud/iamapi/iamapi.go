// Package iamapi speaks the protocol of IAM, as far as roles and instance
// profiles go.
// https://docs.aws.amazon.com/IAM/latest/APIReference/
package iamapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

const namespace = "https://iam.amazonaws.com/doc/2010-05-08/"

// Handler serves authenticated calls.
func Handler(c *localcloud.Cloud) func(http.ResponseWriter, *awswire.Call) {
	a := api{c}
	return awswire.QueryHandler(awswire.Operations{
		"CreateRole":                    awswire.Op(a.createRole),
		"GetRole":                       awswire.Op(a.getRole),
		"DeleteRole":                    awswire.Op(a.deleteRole),
		"ListRoles":                     awswire.Op(a.listRoles),
		"TagRole":                       awswire.Op(a.tagRole),
		"PutRolePolicy":                 awswire.Op(a.putPolicy),
		"GetRolePolicy":                 awswire.Op(a.getPolicy),
		"DeleteRolePolicy":              awswire.Op(a.deletePolicy),
		"ListRolePolicies":              awswire.Op(a.listPolicies),
		"AttachRolePolicy":              awswire.Op(a.attach),
		"DetachRolePolicy":              awswire.Op(a.detach),
		"ListAttachedRolePolicies":      awswire.Op(a.listAttached),
		"CreateInstanceProfile":         awswire.Op(a.createProfile),
		"GetInstanceProfile":            awswire.Op(a.getProfile),
		"DeleteInstanceProfile":         awswire.Op(a.deleteProfile),
		"ListInstanceProfiles":          awswire.Op(a.listProfiles),
		"ListInstanceProfilesForRole":   awswire.Op(a.listProfilesForRole),
		"AddRoleToInstanceProfile":      awswire.Op(a.addRole),
		"RemoveRoleFromInstanceProfile": awswire.Op(a.removeRole),
		"TagInstanceProfile":            awswire.Op(a.tagProfile),
	}, namespace, localcloud.Refusal)
}

type api struct{ cloud *localcloud.Cloud }

type tag struct {
	Key   string `q:"Key,required"`
	Value string `q:"Value"`
}

func tagsOf(in []tag) localcloud.Tags {
	out := localcloud.Tags{}
	for _, t := range in {
		out[t.Key] = t.Value
	}
	return out
}

func showTags(t localcloud.Tags) []tag {
	var out []tag
	for k, v := range t {
		out = append(out, tag{k, v})
	}
	slices.SortFunc(out, func(a, b tag) int { return strings.Compare(a.Key, b.Key) })
	return out
}

type role struct {
	Path, RoleName, RoleId, Arn, CreateDate string
	AssumeRolePolicyDocument                string
	Description                             string `xml:",omitempty"`
	MaxSessionDuration                      int
	Tags                                    []tag `xml:"Tags>member"`
}

func showRole(r localcloud.Role) role {
	return role{
		r.Path, r.Name, r.ID, r.ARN(), awswire.Time(r.Created), url.QueryEscape(r.TrustPolicy), r.Description, r.MaxSession, showTags(r.Tags),
	}
}

var iamName = regexp.MustCompile(`^[\w+=,.@-]{1,128}$`)

func checkName(name, path string) error {
	if !iamName.MatchString(name) {
		return awswire.Errorf("ValidationError", "The specified value for a name is invalid. It must contain only alphanumeric characters and/or the following: +=,.@_-: %q", name)
	}
	if !strings.HasPrefix(path, "/") || !strings.HasSuffix(path, "/") {
		return awswire.Errorf("ValidationError", "The specified value for path is invalid. It must begin and end with / : %q", path)
	}
	return nil
}

// checkPolicy refuses what is no policy document.
func checkPolicy(doc string) error {
	var p struct {
		Version   string
		Statement json.RawMessage
	}
	if err := json.Unmarshal([]byte(doc), &p); err != nil || len(p.Statement) == 0 {
		return awswire.Errorf("MalformedPolicyDocument", "Syntax errors in policy: it must be JSON with a Statement.")
	}
	return nil
}

func id(prefix string) string {
	return prefix + strings.ToUpper(strings.ReplaceAll(awswire.NewRequestID(), "-", ""))[:17]
}

func noSuch(kind, name string) error {
	return awswire.Statusf(http.StatusNotFound, "NoSuchEntity", "%s %s cannot be found.", kind, name)
}

// changeRole runs fn on a role and writes what it left.
func (a api) changeRole(ctx context.Context, name string, fn func(*localcloud.Role) error) (*struct{}, error) {
	return nil, a.cloud.Update(ctx, "", func(t *localcloud.Tx) error {
		r, ok, err := localcloud.Get[localcloud.Role](t, name)
		if err != nil {
			return err
		}
		if !ok {
			return noSuch("The role with name", name)
		}
		if err := fn(&r); err != nil {
			return err
		}
		return localcloud.Put(t, r)
	})
}

func (a api) role(ctx context.Context, name string) (r localcloud.Role, err error) {
	err = a.cloud.View(ctx, "", func(t *localcloud.Tx) error {
		var ok bool
		if r, ok, err = localcloud.Get[localcloud.Role](t, name); err == nil && !ok {
			err = noSuch("The role with name", name)
		}
		return err
	})
	return r, err
}

type createRoleInput struct {
	Name        string `q:"RoleName,required"`
	Path        string `q:"Path"`
	Trust       string `q:"AssumeRolePolicyDocument,required"`
	Description string `q:"Description"`
	MaxSession  int    `q:"MaxSessionDuration"`
	Boundary    string `q:"PermissionsBoundary"`
	Tags        []tag  `q:"Tags,member"`
}

type roleOutput struct{ Role role }

func (a api) createRole(ctx context.Context, _ *awswire.Call, in *createRoleInput) (*roleOutput, error) {
	if in.Path == "" {
		in.Path = "/"
	}
	if in.MaxSession == 0 {
		in.MaxSession = 3600
	}
	if err := checkName(in.Name, in.Path); err != nil {
		return nil, err
	}
	if err := checkPolicy(in.Trust); err != nil {
		return nil, err
	}
	out := &roleOutput{}
	return out, a.cloud.Update(ctx, "", func(t *localcloud.Tx) error {
		_, ok, err := localcloud.Get[localcloud.Role](t, in.Name)
		if err != nil {
			return err
		}
		if ok {
			return awswire.Statusf(http.StatusConflict, "EntityAlreadyExists", "Role with name %s already exists.", in.Name)
		}
		r := localcloud.Role{
			Name: in.Name, ID: id("AROA"), Path: in.Path, Description: in.Description, TrustPolicy: in.Trust,
			MaxSession: in.MaxSession, Created: t.Now, Tags: tagsOf(in.Tags), Policies: map[string]string{},
		}
		out.Role = showRole(r)
		return localcloud.Put(t, r)
	})
}

type roleInput struct {
	Name string `q:"RoleName,required"`
}

func (a api) getRole(ctx context.Context, _ *awswire.Call, in *roleInput) (*roleOutput, error) {
	r, err := a.role(ctx, in.Name)
	return &roleOutput{showRole(r)}, err
}

func (a api) deleteRole(ctx context.Context, _ *awswire.Call, in *roleInput) (*struct{}, error) {
	return nil, a.cloud.Update(ctx, "", func(t *localcloud.Tx) error {
		r, ok, err := localcloud.Get[localcloud.Role](t, in.Name)
		if err != nil {
			return err
		}
		if !ok {
			return noSuch("The role with name", in.Name)
		}
		profiles, err := profilesOf(t, in.Name)
		if err != nil {
			return err
		}
		switch {
		case len(r.Policies) > 0:
			return awswire.Statusf(http.StatusConflict, "DeleteConflict", "Cannot delete entity, must delete policies first.")
		case len(r.Attached) > 0:
			return awswire.Statusf(http.StatusConflict, "DeleteConflict", "Cannot delete entity, must detach all policies first.")
		case len(profiles) > 0:
			return awswire.Statusf(http.StatusConflict, "DeleteConflict", "Cannot delete entity, must remove roles from instance profile first.")
		}
		return localcloud.Delete[localcloud.Role](t, in.Name)
	})
}

func profilesOf(t *localcloud.Tx, role string) ([]localcloud.InstanceProfile, error) {
	all, err := localcloud.All[localcloud.InstanceProfile](t)
	return slices.DeleteFunc(all, func(p localcloud.InstanceProfile) bool { return !slices.Contains(p.Roles, role) }), err
}

// A page is what lists take and give: everything is one page here.
type page struct {
	Marker   string `q:"Marker"`
	MaxItems int    `q:"MaxItems"`
	Prefix   string `q:"PathPrefix"`
}

type rolesOutput struct {
	Roles       []role `xml:"Roles>member"`
	IsTruncated bool
}

func (a api) listRoles(ctx context.Context, _ *awswire.Call, in *page) (*rolesOutput, error) {
	out := &rolesOutput{}
	return out, a.cloud.View(ctx, "", func(t *localcloud.Tx) error {
		all, err := localcloud.All[localcloud.Role](t)
		for _, r := range all {
			if strings.HasPrefix(r.Path, in.Prefix) {
				out.Roles = append(out.Roles, showRole(r))
			}
		}
		return err
	})
}

type tagRoleInput struct {
	Name string `q:"RoleName,required"`
	Tags []tag  `q:"Tags,member"`
}

func (a api) tagRole(ctx context.Context, _ *awswire.Call, in *tagRoleInput) (*struct{}, error) {
	return a.changeRole(ctx, in.Name, func(r *localcloud.Role) error {
		r.Tags = r.Tags.Clone()
		for _, t := range in.Tags {
			r.Tags[t.Key] = t.Value
		}
		return nil
	})
}

type policyInput struct {
	Role     string `q:"RoleName,required"`
	Name     string `q:"PolicyName,required"`
	Document string `q:"PolicyDocument"`
}

func (a api) putPolicy(ctx context.Context, _ *awswire.Call, in *policyInput) (*struct{}, error) {
	if err := checkPolicy(in.Document); err != nil {
		return nil, err
	}
	return a.changeRole(ctx, in.Role, func(r *localcloud.Role) error {
		if r.Policies == nil {
			r.Policies = map[string]string{}
		}
		r.Policies[in.Name] = in.Document
		return nil
	})
}

type policyOutput struct{ RoleName, PolicyName, PolicyDocument string }

func (a api) getPolicy(ctx context.Context, _ *awswire.Call, in *policyInput) (*policyOutput, error) {
	r, err := a.role(ctx, in.Role)
	if err != nil {
		return nil, err
	}
	doc, ok := r.Policies[in.Name]
	if !ok {
		return nil, noSuch("The role policy with name", in.Name)
	}
	return &policyOutput{in.Role, in.Name, url.QueryEscape(doc)}, nil
}

func (a api) deletePolicy(ctx context.Context, _ *awswire.Call, in *policyInput) (*struct{}, error) {
	return a.changeRole(ctx, in.Role, func(r *localcloud.Role) error {
		if _, ok := r.Policies[in.Name]; !ok {
			return noSuch("The role policy with name", in.Name)
		}
		delete(r.Policies, in.Name)
		return nil
	})
}

type listPoliciesInput struct {
	Role string `q:"RoleName,required"`
	page
}

type policiesOutput struct {
	PolicyNames []string `xml:"PolicyNames>member"`
	IsTruncated bool
}

func (a api) listPolicies(ctx context.Context, _ *awswire.Call, in *listPoliciesInput) (*policiesOutput, error) {
	r, err := a.role(ctx, in.Role)
	out := &policiesOutput{}
	for name := range r.Policies {
		out.PolicyNames = append(out.PolicyNames, name)
	}
	slices.Sort(out.PolicyNames)
	return out, err
}

type attachInput struct {
	Role string `q:"RoleName,required"`
	ARN  string `q:"PolicyArn,required"`
}

func (a api) attach(ctx context.Context, _ *awswire.Call, in *attachInput) (*struct{}, error) {
	if !strings.HasPrefix(in.ARN, "arn:") {
		return nil, awswire.Errorf("ValidationError", "ARN %s is not valid.", in.ARN)
	}
	return a.changeRole(ctx, in.Role, func(r *localcloud.Role) error {
		if !slices.Contains(r.Attached, in.ARN) {
			r.Attached = append(r.Attached, in.ARN)
		}
		return nil
	})
}

func (a api) detach(ctx context.Context, _ *awswire.Call, in *attachInput) (*struct{}, error) {
	return a.changeRole(ctx, in.Role, func(r *localcloud.Role) error {
		i := slices.Index(r.Attached, in.ARN)
		if i < 0 {
			return noSuch("Policy", in.ARN)
		}
		r.Attached = slices.Delete(r.Attached, i, i+1)
		return nil
	})
}

type attachedOutput struct {
	Attached    []attached `xml:"AttachedPolicies>member"`
	IsTruncated bool
}

type attached struct{ PolicyName, PolicyArn string }

func (a api) listAttached(ctx context.Context, _ *awswire.Call, in *listPoliciesInput) (*attachedOutput, error) {
	r, err := a.role(ctx, in.Role)
	out := &attachedOutput{}
	for _, arn := range r.Attached {
		out.Attached = append(out.Attached, attached{arn[strings.LastIndex(arn, "/")+1:], arn})
	}
	return out, err
}
