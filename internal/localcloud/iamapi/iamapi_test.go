package iamapi_test

import (
	"errors"
	"net/url"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
)

const policy = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

func TestRolesAndProfiles(t *testing.T) {
	c := cloudtest.New(t)
	ctx := cloudtest.Context(t)
	s := iam.NewFromConfig(c.Config("us-east-1"))
	name, doc, rule := aws.String("baker"), aws.String(policy), aws.String("inline")
	tags := []types.Tag{{Key: aws.String("team"), Value: aws.String("images")}}
	if _, err := s.CreateRole(ctx, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: doc, Tags: tags}); err != nil {
		t.Fatal(err)
	}
	var exists *types.EntityAlreadyExistsException
	if _, err := s.CreateRole(ctx, &iam.CreateRoleInput{RoleName: name, AssumeRolePolicyDocument: doc}); !errors.As(err, &exists) {
		t.Error(err)
	}
	var malformed *types.MalformedPolicyDocumentException
	if _, err := s.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: name, PolicyName: rule, PolicyDocument: aws.String("{")}); !errors.As(err, &malformed) {
		t.Error(err)
	}
	if _, err := s.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: name, PolicyName: rule, PolicyDocument: doc}); err != nil {
		t.Fatal(err)
	}
	got, err := s.GetRole(ctx, &iam.GetRoleInput{RoleName: name})
	if err != nil || len(got.Role.Tags) != 1 {
		t.Fatal(got, err)
	}
	if text, err := url.QueryUnescape(*got.Role.AssumeRolePolicyDocument); err != nil || text != policy {
		t.Error(text, err)
	}
	if _, err := s.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: name, Tags: tags}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{InstanceProfileName: name, RoleName: name}); err != nil {
		t.Fatal(err)
	}
	p, err := s.GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: name})
	if err != nil || len(p.InstanceProfile.Roles) != 1 || *p.InstanceProfile.Roles[0].RoleName != "baker" {
		t.Fatal(p, err)
	}
	var conflict *types.DeleteConflictException
	if _, err := s.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: name}); !errors.As(err, &conflict) {
		t.Error(err)
	}
	if _, err := s.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: name}); !errors.As(err, &conflict) {
		t.Error(err)
	}
	for _, undo := range []func() error{
		func() error {
			_, err := s.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{InstanceProfileName: name, RoleName: name})
			return err
		},
		func() error {
			_, err := s.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: name, PolicyName: rule})
			return err
		},
		func() error { _, err := s.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: name}); return err },
		func() error {
			_, err := s.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: name})
			return err
		},
	} {
		if err := undo(); err != nil {
			t.Error(err)
		}
		var gone *types.NoSuchEntityException
		if err := undo(); !errors.As(err, &gone) {
			t.Error("a second time:", err)
		}
	}
}
