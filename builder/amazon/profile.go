package amazon

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	iamtypes "github.com/aws/aws-sdk-go-v2/service/iam/types"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/diag"
)

const (
	profileTime = 2 * time.Minute // until IAM shows everywhere what it was told
	policyName  = "ingot"
)

func (m *machine) checkProfile(ctx context.Context, name string) error {
	s, err := m.session(ctx)
	if err != nil {
		return err
	}
	_, err = iamAPI(s.IAM()).GetInstanceProfile(ctx, &iam.GetInstanceProfileInput{InstanceProfileName: &name})
	return diag.WithHint(err, "check iam_instance_profile; skip_profile_validation = true does not ask, where the credentials may not")
}

// document is the policy as IAM reads it.
func (p *Policy) document() (string, error) {
	type statement struct {
		Effect   string
		Action   []string
		Resource []string
	}
	d := struct {
		Version   string
		Statement []statement
	}{Version: p.Version}
	for _, s := range p.Statements {
		d.Statement = append(d.Statement, statement{Effect: s.Effect, Action: s.Action, Resource: s.Resource})
	}
	js, err := json.Marshal(d)
	return string(js), err
}

// trust lets instances take the role.
func trust(partition string) string {
	service := "ec2.amazonaws.com"
	if partition == "aws-cn" {
		service = "ec2.amazonaws.com.cn"
	}
	return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"` + service + `"},"Action":"sts:AssumeRole"}]}`
}

func iamTags(list []types.Tag) []iamtypes.Tag {
	var out []iamtypes.Tag
	for _, t := range list {
		out = append(out, iamtypes.Tag{Key: t.Key, Value: t.Value})
	}
	return out
}

// makeProfile makes the temporary role and instance profile. What is there
// already, by its name of this attempt, was made by a call whose reply was
// lost.
func (m *machine) makeProfile(ctx context.Context, r *builder.Run, s *state) error {
	if m.run.ProfilePolicy == nil {
		return nil
	}
	sess, err := m.session(ctx)
	if err != nil {
		return err
	}
	tags, err := m.runTags(r, s)
	if err != nil {
		return err
	}
	policy, err := m.run.ProfilePolicy.document()
	if err != nil {
		return err
	}
	p := &s.Profile
	if !p.Begun {
		p.Name, p.Begun = s.token(r, "instance-profile"), true
		if err := r.Save(); err != nil {
			return err
		}
		r.Say("Making temporary instance profile %s", p.Name)
	}
	c := iamAPI(sess.IAM())
	steps := []func(ctx context.Context) error{
		func(ctx context.Context) error {
			_, err := c.CreateInstanceProfile(ctx, &iam.CreateInstanceProfileInput{InstanceProfileName: &p.Name, Tags: iamTags(tags)})
			return gone(err, "EntityAlreadyExists")
		},
		func(ctx context.Context) error {
			_, err := c.CreateRole(ctx, &iam.CreateRoleInput{
				RoleName: &p.Name, Description: aws.String("Temporary role of an Ingot build"),
				AssumeRolePolicyDocument: aws.String(trust(sess.Partition())), Tags: iamTags(tags),
			})
			return gone(err, "EntityAlreadyExists")
		},
		func(ctx context.Context) error {
			_, err := c.PutRolePolicy(ctx, &iam.PutRolePolicyInput{RoleName: &p.Name, PolicyName: aws.String(policyName), PolicyDocument: &policy})
			return err
		},
		func(ctx context.Context) error {
			_, err := c.AddRoleToInstanceProfile(ctx, &iam.AddRoleToInstanceProfileInput{RoleName: &p.Name, InstanceProfileName: &p.Name})
			return gone(err, "LimitExceeded") // a profile has one role at most, and only we know this one
		},
	}
	for _, do := range steps {
		// What IAM has just made it may not find for a moment.
		err := sess.Wait(ctx, profileTime, func(ctx context.Context) (bool, error) {
			err := do(ctx)
			if awsaccess.Code(err) == "NoSuchEntity" {
				return false, nil
			}
			return err == nil, err
		})
		if err != nil {
			return fmt.Errorf("temporary instance profile %s: %w", p.Name, err)
		}
	}
	p.ID = p.Name
	return nil
}

func (m *machine) removeProfile(ctx context.Context, r *builder.Run, s *state) error {
	p := &s.Profile
	if !p.Begun {
		return nil
	}
	sess, err := m.session(ctx)
	if err != nil {
		return err
	}
	r.Say("Deleting temporary instance profile %s", p.Name)
	if err := dropProfile(ctx, sess, p.Name); err != nil {
		return err
	}
	s.Profile = profileState{}
	return nil
}

// dropProfile deletes a temporary instance profile and its role, which have the
// same name, when there are.
func dropProfile(ctx context.Context, sess *awsaccess.Session, name string) error {
	c := iamAPI(sess.IAM())
	steps := []func() error{
		func() error {
			_, err := c.RemoveRoleFromInstanceProfile(ctx, &iam.RemoveRoleFromInstanceProfileInput{RoleName: &name, InstanceProfileName: &name})
			return err
		},
		func() error {
			_, err := c.DeleteRolePolicy(ctx, &iam.DeleteRolePolicyInput{RoleName: &name, PolicyName: aws.String(policyName)})
			return err
		},
		func() error {
			_, err := c.DeleteRole(ctx, &iam.DeleteRoleInput{RoleName: &name})
			return err
		},
		func() error {
			_, err := c.DeleteInstanceProfile(ctx, &iam.DeleteInstanceProfileInput{InstanceProfileName: &name})
			return err
		},
	}
	for _, do := range steps {
		err := sess.Wait(ctx, profileTime, func(context.Context) (bool, error) {
			err := do()
			if awsaccess.Code(err) == "DeleteConflict" {
				return false, nil
			}
			return err == nil || gone(err, "NoSuchEntity") == nil, gone(err, "NoSuchEntity")
		})
		if err != nil {
			return fmt.Errorf("temporary instance profile %s: %w", name, err)
		}
	}
	return nil
}
