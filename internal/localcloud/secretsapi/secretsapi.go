// Package secretsapi speaks the protocol of Secrets Manager.
// https://docs.aws.amazon.com/secretsmanager/latest/apireference/
package secretsapi

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

// Handler serves authenticated calls.
func Handler(c *localcloud.Cloud) func(http.ResponseWriter, *awswire.Call) {
	a := api{c}
	return awswire.JSONHandler(awswire.Operations{
		"GetSecretValue": awswire.JSONOp(a.get),
		"CreateSecret":   awswire.JSONOp(a.create),
		"PutSecretValue": awswire.JSONOp(a.put),
		"DescribeSecret": awswire.JSONOp(a.describe),
		"DeleteSecret":   awswire.JSONOp(a.delete),
	}, localcloud.Refusal)
}

const (
	current  = "AWSCURRENT"
	previous = "AWSPREVIOUS"
)

type api struct{ cloud *localcloud.Cloud }

type value struct {
	ARN           string
	Name          string
	VersionId     string
	VersionStages []string
	CreatedDate   float64
	SecretString  *string `json:",omitempty"`
	SecretBinary  []byte  `json:",omitempty"`
}

type getInput struct{ SecretId, VersionId, VersionStage string }

func (a api) get(ctx context.Context, c *awswire.Call, in *getInput) (*value, error) {
	if in.VersionStage == "" && in.VersionId == "" {
		in.VersionStage = current
	}
	var out *value
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) error {
		s, err := find(t, in.SecretId)
		if err != nil {
			return err
		}
		for _, v := range s.Versions {
			if (in.VersionId == "" || v.ID == in.VersionId) && (in.VersionStage == "" || slices.Contains(v.Stages, in.VersionStage)) {
				out = &value{s.ARN, s.Name, v.ID, v.Stages, seconds(v.Created), v.Text, v.Binary}
				return nil
			}
		}
		return awswire.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret value for staging label: %s", in.VersionStage)
	})
	return out, err
}

func seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// find takes a name, a whole ARN, or one without its last six letters.
func find(t *localcloud.Tx, id string) (localcloud.Secret, error) {
	if id == "" {
		return localcloud.Secret{}, awswire.Errorf("ValidationException", "SecretId is required")
	}
	all, err := localcloud.All[localcloud.Secret](t)
	if err != nil {
		return localcloud.Secret{}, err
	}
	for _, s := range all {
		if s.Name != id && s.ARN != id && (len(s.ARN) < 7 || s.ARN[:len(s.ARN)-7] != id) {
			continue
		}
		if !s.Deleted.IsZero() {
			return s, awswire.Errorf("InvalidRequestException", "You can't perform this operation on the secret because it was marked for deletion.")
		}
		return s, nil
	}
	return localcloud.Secret{}, awswire.Errorf("ResourceNotFoundException", "Secrets Manager can't find the specified secret.")
}

type createInput struct {
	Name, Description, KmsKeyId, ClientRequestToken string
	SecretString                                    *string
	SecretBinary                                    []byte
	Tags                                            []struct{ Key, Value string }
}

type written struct {
	ARN           string
	Name          string
	VersionId     string   `json:",omitempty"`
	VersionStages []string `json:",omitempty"`
}

func (a api) create(ctx context.Context, c *awswire.Call, in *createInput) (*written, error) {
	if in.Name == "" || strings.Trim(in.Name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/_+=.@-") != "" || len(in.Name) > 512 {
		return nil, awswire.Errorf("ValidationException", "Invalid name. Must be a valid name containing alphanumeric characters, or any of the following: -/_+=.@!")
	}
	var out *written
	err := a.cloud.Update(ctx, c.Region, func(t *localcloud.Tx) error {
		_, ok, err := localcloud.Get[localcloud.Secret](t, in.Name)
		if err != nil {
			return err
		}
		if ok {
			return awswire.Errorf("ResourceExistsException", "The operation failed because the secret %s already exists.", in.Name)
		}
		s := localcloud.Secret{
			Name: in.Name, Description: in.Description, KMSKeyID: in.KmsKeyId, Created: t.Now, Tags: localcloud.Tags{},
			ARN: "arn:aws:secretsmanager:" + c.Region + ":" + localcloud.AccountID + ":secret:" + in.Name + "-" + awswire.NewRequestID()[:6],
		}
		for _, tag := range in.Tags {
			s.Tags[tag.Key] = tag.Value
		}
		out = &written{ARN: s.ARN, Name: s.Name}
		if in.SecretString != nil || in.SecretBinary != nil {
			out.VersionId = add(&s, in.ClientRequestToken, in.SecretString, in.SecretBinary, t.Now)
		}
		return localcloud.Put(t, s)
	})
	return out, err
}

// add makes a value the current one and the current one the previous one.
func add(s *localcloud.Secret, id string, text *string, binary []byte, now time.Time) string {
	if id == "" {
		id = awswire.NewRequestID()
	}
	kept := s.Versions[:0]
	for _, v := range s.Versions {
		if slices.Contains(v.Stages, current) {
			v.Stages = []string{previous}
			kept = append(kept, v)
		}
	}
	s.Versions = append(kept, localcloud.SecretVersion{ID: id, Stages: []string{current}, Text: text, Binary: binary, Created: now})
	return id
}

type putInput struct {
	SecretId, ClientRequestToken string
	SecretString                 *string
	SecretBinary                 []byte
	VersionStages                []string
}

func (a api) put(ctx context.Context, c *awswire.Call, in *putInput) (*written, error) {
	if (in.SecretString == nil) == (in.SecretBinary == nil) {
		return nil, awswire.Errorf("InvalidParameterException", "You must provide either SecretString or SecretBinary.")
	}
	if len(in.VersionStages) > 0 && !slices.Equal(in.VersionStages, []string{current}) {
		return nil, awswire.Errorf("InvalidParameterException", "The local cloud labels new values %s only", current)
	}
	var out *written
	err := a.cloud.Update(ctx, c.Region, func(t *localcloud.Tx) error {
		s, err := find(t, in.SecretId)
		if err != nil {
			return err
		}
		id := add(&s, in.ClientRequestToken, in.SecretString, in.SecretBinary, t.Now)
		out = &written{s.ARN, s.Name, id, []string{current}}
		return localcloud.Put(t, s)
	})
	return out, err
}

type describeInput struct{ SecretId string }

type describeOutput struct {
	ARN, Name, Description string
	CreatedDate            float64
	VersionIdsToStages     map[string][]string
	Tags                   []tag
}

type tag struct{ Key, Value string }

func (a api) describe(ctx context.Context, c *awswire.Call, in *describeInput) (*describeOutput, error) {
	var out *describeOutput
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) error {
		s, err := find(t, in.SecretId)
		if err != nil {
			return err
		}
		out = &describeOutput{ARN: s.ARN, Name: s.Name, Description: s.Description, CreatedDate: seconds(s.Created), VersionIdsToStages: map[string][]string{}}
		for _, v := range s.Versions {
			out.VersionIdsToStages[v.ID] = v.Stages
		}
		for k, v := range s.Tags {
			out.Tags = append(out.Tags, tag{k, v})
		}
		slices.SortFunc(out.Tags, func(a, b tag) int { return strings.Compare(a.Key, b.Key) })
		return nil
	})
	return out, err
}

type deleteInput struct {
	SecretId                   string
	RecoveryWindowInDays       int
	ForceDeleteWithoutRecovery bool
}

type deleteOutput struct {
	ARN, Name    string
	DeletionDate float64
}

func (a api) delete(ctx context.Context, c *awswire.Call, in *deleteInput) (*deleteOutput, error) {
	if in.RecoveryWindowInDays == 0 {
		in.RecoveryWindowInDays = 30
	}
	if in.RecoveryWindowInDays < 7 || in.RecoveryWindowInDays > 30 {
		return nil, awswire.Errorf("InvalidParameterException", "The RecoveryWindowInDays value must be between 7 and 30 days (inclusive).")
	}
	var out *deleteOutput
	err := a.cloud.Update(ctx, c.Region, func(t *localcloud.Tx) error {
		s, err := find(t, in.SecretId)
		if err != nil {
			return err
		}
		out = &deleteOutput{s.ARN, s.Name, seconds(t.Now)}
		if in.ForceDeleteWithoutRecovery {
			return localcloud.Delete[localcloud.Secret](t, s.Name)
		}
		s.Deleted = t.Now.AddDate(0, 0, in.RecoveryWindowInDays)
		out.DeletionDate = seconds(s.Deleted)
		return localcloud.Put(t, s)
	})
	return out, err
}
