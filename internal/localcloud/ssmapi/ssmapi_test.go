package ssmapi_test

import (
	"errors"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ssm"
	"github.com/aws/aws-sdk-go-v2/service/ssm/types"

	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
)

func TestParameters(t *testing.T) {
	c := cloudtest.New(t)
	ctx := cloudtest.Context(t)
	s := ssm.NewFromConfig(c.Config("eu-west-1"))
	put := func(name, value string, kind types.ParameterType, over bool) error {
		_, err := s.PutParameter(ctx, &ssm.PutParameterInput{Name: &name, Value: &value, Type: kind, Overwrite: &over})
		return err
	}
	if err := errors.Join(put("/app/a", "1", types.ParameterTypeString, false), put("/app/b/c", "2", types.ParameterTypeSecureString, false)); err != nil {
		t.Fatal(err)
	}
	var exists *types.ParameterAlreadyExists
	if err := put("/app/a", "1", types.ParameterTypeString, false); !errors.As(err, &exists) {
		t.Error(err)
	}
	if err := put("/app/a", "3", types.ParameterTypeString, true); err != nil {
		t.Error(err)
	}
	got, err := s.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/app/a")})
	if err != nil || *got.Parameter.Value != "3" || got.Parameter.Version != 2 || got.Parameter.LastModifiedDate == nil {
		t.Fatal(got, err)
	}
	if by, err := s.GetParameter(ctx, &ssm.GetParameterInput{Name: got.Parameter.ARN}); err != nil || *by.Parameter.Value != "3" {
		t.Error(by, err)
	}
	sealed, err := s.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/app/b/c")})
	if err != nil || *sealed.Parameter.Value == "2" {
		t.Error("a secure string is shown without decryption", err)
	}
	opened, err := s.GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/app/b/c"), WithDecryption: aws.Bool(true)})
	if err != nil || *opened.Parameter.Value != "2" {
		t.Error(opened, err)
	}
	var none *types.ParameterNotFound
	if _, err := ssm.NewFromConfig(c.Config("eu-west-2")).GetParameter(ctx, &ssm.GetParameterInput{Name: aws.String("/app/a")}); !errors.As(err, &none) {
		t.Error("another region has the parameter", err)
	}
	for recursive, want := range map[bool]int{false: 1, true: 2} {
		p, err := s.GetParametersByPath(ctx, &ssm.GetParametersByPathInput{Path: aws.String("/app"), Recursive: &recursive})
		if err != nil || len(p.Parameters) != want {
			t.Error(recursive, p, err)
		}
	}
	several, err := s.GetParameters(ctx, &ssm.GetParametersInput{Names: []string{"/app/a", "/app/none"}})
	if err != nil || len(several.Parameters) != 1 || len(several.InvalidParameters) != 1 {
		t.Error(several, err)
	}
	if d, err := s.DescribeParameters(ctx, &ssm.DescribeParametersInput{MaxResults: aws.Int32(1)}); err != nil || len(d.Parameters) != 1 || d.NextToken == nil {
		t.Error(d, err)
	}
	if _, err := s.DeleteParameter(ctx, &ssm.DeleteParameterInput{Name: aws.String("/app/a")}); err != nil {
		t.Error(err)
	}
	if _, err := s.DeleteParameter(ctx, &ssm.DeleteParameterInput{Name: aws.String("/app/a")}); !errors.As(err, &none) {
		t.Error(err)
	}
}
