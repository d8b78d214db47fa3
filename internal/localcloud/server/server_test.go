package server_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
	"github.com/ingot-build/ingot/internal/localcloud/faults"
	"github.com/ingot-build/ingot/internal/localcloud/machine"
	"github.com/ingot-build/ingot/internal/localcloud/server"
)

func code(err error) string {
	var api smithy.APIError
	if errors.As(err, &api) {
		return api.ErrorCode()
	}
	return ""
}

func TestWhoMayCall(t *testing.T) {
	c := cloudtest.New(t)
	ctx := cloudtest.Context(t)
	call := func(region, key, secret string) string {
		conf := c.Config(region)
		conf.Credentials = credentials.NewStaticCredentialsProvider(key, secret, "")
		_, err := ec2.NewFromConfig(conf).DescribeRegions(ctx, nil)
		return code(err)
	}
	if got := call("eu-west-1", c.Key.AccessKey, c.Key.Secret); got != "" {
		t.Error(got)
	}
	if got := call("eu-west-1", c.Key.AccessKey, "guess"); got != "SignatureDoesNotMatch" {
		t.Error(got)
	}
	if got := call("eu-west-1", "AKIAUNKNOWN", c.Key.Secret); got != "AuthFailure" {
		t.Error(got)
	}
	if got := call("mars-1", c.Key.AccessKey, c.Key.Secret); got != "InvalidRegion" {
		t.Error(got)
	}
	resp, err := http.Get(c.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusUnauthorized || !strings.Contains(string(text), "MissingAuthenticationToken") {
		t.Error(resp.StatusCode, string(text), err)
	}
}

func TestFaultsReachTheClient(t *testing.T) {
	c := cloudtest.New(t)
	ctx := cloudtest.Context(t)
	if err := c.Faults.Set(faults.Rule{Kind: faults.Throttle, Service: "ec2", Region: "eu-*", Count: 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.EC2("eu-west-1").DescribeRegions(ctx, nil); code(err) != "RequestLimitExceeded" {
		t.Error(err)
	}
	if _, err := c.EC2("eu-west-1").DescribeRegions(ctx, nil); err != nil {
		t.Error(err)
	}
}

func TestService(t *testing.T) {
	dir := t.TempDir()
	ctx := cloudtest.Context(t)
	open := func() *localcloud.Cloud {
		c, err := localcloud.Open(ctx, localcloud.Config{Dir: dir, Machines: &machine.Simulated{}})
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	if _, ok := server.Find(dir); ok {
		t.Fatal("a service is found that was never started")
	}
	s, err := server.Start(ctx, open(), "127.0.0.1:0", true, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	info, ok := server.Find(dir)
	if !ok || info.URL != s.URL {
		t.Errorf("%+v %v", info, ok)
	}
	var running *server.RunningError
	if _, err := server.Start(ctx, open(), "127.0.0.1:0", true, server.Options{}); !errors.As(err, &running) || running.Info.URL != s.URL {
		t.Error(err)
	}
	// One that is not announced may run beside it.
	own, err := server.Start(ctx, open(), "127.0.0.1:0", false, server.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := own.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := s.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if _, ok := server.Find(dir); ok {
		t.Error("a closed service is found")
	}
}
