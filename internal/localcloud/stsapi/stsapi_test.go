package stsapi_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
)

func TestIdentityAndRoles(t *testing.T) {
	c := cloudtest.New(t)
	ctx := cloudtest.Context(t)
	root := sts.NewFromConfig(c.Config("eu-west-1"))
	who, err := root.GetCallerIdentity(ctx, nil)
	if err != nil || aws.ToString(who.Account) != localcloud.AccountID || !strings.HasSuffix(aws.ToString(who.Arn), ":root") {
		t.Fatal(who, err)
	}
	role := "arn:aws:iam::" + localcloud.AccountID + ":role/team/baker"
	got, err := root.AssumeRole(ctx, &sts.AssumeRoleInput{RoleArn: &role, RoleSessionName: aws.String("ci"), DurationSeconds: aws.Int32(900)})
	if err != nil {
		t.Fatal(err)
	}
	conf := c.Config("eu-west-1")
	conf.Credentials = credentials.NewStaticCredentialsProvider(*got.Credentials.AccessKeyId, *got.Credentials.SecretAccessKey, *got.Credentials.SessionToken)
	who, err = sts.NewFromConfig(conf).GetCallerIdentity(ctx, nil)
	if err != nil || aws.ToString(who.Arn) != "arn:aws:sts::"+localcloud.AccountID+":assumed-role/baker/ci" {
		t.Fatal(who, err)
	}
	conf.Credentials = credentials.NewStaticCredentialsProvider(*got.Credentials.AccessKeyId, *got.Credentials.SecretAccessKey, "")
	refused(t, "InvalidClientTokenId", func() error { _, err := sts.NewFromConfig(conf).GetCallerIdentity(ctx, nil); return err })
	conf.Credentials = credentials.NewStaticCredentialsProvider(*got.Credentials.AccessKeyId, "x", *got.Credentials.SessionToken)
	refused(t, "SignatureDoesNotMatch", func() error { _, err := sts.NewFromConfig(conf).GetCallerIdentity(ctx, nil); return err })

	for code, in := range map[string]sts.AssumeRoleInput{
		"ValidationError": {RoleArn: aws.String("arn:aws:iam::x:role/baker-of-images"), RoleSessionName: aws.String("ci")},
		"AccessDenied":    {RoleArn: aws.String("arn:aws:iam::999999999999:role/baker"), RoleSessionName: aws.String("ci")},
	} {
		refused(t, code, func() error { _, err := root.AssumeRole(ctx, &in); return err })
	}
}

func refused(t *testing.T, code string, call func() error) {
	t.Helper()
	err := call()
	var api smithy.APIError
	if !errors.As(err, &api) || api.ErrorCode() != code {
		t.Errorf("%v, want %s", err, code)
	}
}
