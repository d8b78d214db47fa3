package secretsapi_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager/types"

	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
)

func TestSecrets(t *testing.T) {
	c := cloudtest.New(t)
	ctx := cloudtest.Context(t)
	s := secretsmanager.NewFromConfig(c.Config("eu-west-1"))
	made, err := s.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String("db/password"), SecretString: aws.String("one")})
	if err != nil {
		t.Fatal(err)
	}
	var exists *types.ResourceExistsException
	if _, err := s.CreateSecret(ctx, &secretsmanager.CreateSecretInput{Name: aws.String("db/password")}); !errors.As(err, &exists) {
		t.Error(err)
	}
	if _, err := s.PutSecretValue(ctx, &secretsmanager.PutSecretValueInput{SecretId: made.ARN, SecretString: aws.String("two")}); err != nil {
		t.Fatal(err)
	}
	for _, q := range []struct {
		in   secretsmanager.GetSecretValueInput
		want string
	}{
		{secretsmanager.GetSecretValueInput{SecretId: aws.String("db/password")}, "two"},
		{secretsmanager.GetSecretValueInput{SecretId: made.ARN, VersionStage: aws.String("AWSPREVIOUS")}, "one"},
		{secretsmanager.GetSecretValueInput{SecretId: made.ARN, VersionId: made.VersionId}, "one"},
	} {
		got, err := s.GetSecretValue(ctx, &q.in)
		if err != nil || aws.ToString(got.SecretString) != q.want || got.CreatedDate == nil {
			t.Error(got, err)
		}
	}
	var none *types.ResourceNotFoundException
	if _, err := s.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: aws.String("other")}); !errors.As(err, &none) {
		t.Error(err)
	}
	if _, err := s.DeleteSecret(ctx, &secretsmanager.DeleteSecretInput{SecretId: made.ARN}); err != nil {
		t.Error(err)
	}
	var marked *types.InvalidRequestException
	if _, err := s.GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{SecretId: made.ARN}); !errors.As(err, &marked) {
		t.Error(err)
	}
}
