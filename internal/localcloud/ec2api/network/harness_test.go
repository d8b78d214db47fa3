package network_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/middleware"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/network"
	"github.com/ingot-build/ingot/internal/localcloud/machine"
)

const east = "us-east-1"

// A site is a cloud of which only this package's actions are served, without
// a check of signatures.
type site struct {
	*localcloud.Cloud
	url string
	t   *testing.T
}

func newSite(t *testing.T) *site {
	t.Helper()
	c, err := localcloud.Open(t.Context(), localcloud.Config{
		Dir: t.TempDir(), Machines: &machine.Simulated{}, Warn: func(err error) { t.Error(err) },
	})
	if err != nil {
		t.Fatal(err)
	}
	ops := network.Operations(c)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, scope, _ := strings.Cut(r.Header.Get("Authorization"), "Credential=")
		region := strings.Split(scope, "/")[2]
		if err := r.ParseForm(); err != nil {
			t.Error(err)
		}
		call := &awswire.Call{Service: "ec2", Region: region, Action: r.Form.Get("Action"), RequestID: awswire.NewRequestID(), Params: r.Form, HTTP: r}
		op := ops[call.Action]
		if op == nil {
			t.Errorf("no action %s", call.Action)
			w.WriteHeader(http.StatusNotFound)
			return
		}
		out, err := op(r.Context(), call)
		if err == nil {
			err = awswire.WriteEC2(w, call, out)
		}
		if err != nil {
			awswire.WriteEC2Error(w, call.RequestID, localcloud.Refusal(err))
		}
	}))
	t.Cleanup(srv.Close)
	return &site{Cloud: c, url: srv.URL, t: t}
}

func (s *site) ec2(region string) *ec2.Client {
	return ec2.NewFromConfig(aws.Config{
		Region: region, BaseEndpoint: aws.String(s.url),
		Credentials: credentials.NewStaticCredentialsProvider("AKIATEST", "secret", ""),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
		HTTPClient:  cloudtest.Client(),
		APIOptions:  []func(*middleware.Stack) error{cloudtest.Model(s.t)},
	})
}

// put writes records as if they had been made by other actions.
func put[T localcloud.Record](t *testing.T, s *site, region string, rs ...T) {
	t.Helper()
	err := s.Update(t.Context(), region, func(tx *localcloud.Tx) error { return localcloud.Put(tx, rs...) })
	if err != nil {
		t.Fatal(err)
	}
}

// refused fails the test unless err is a refusal with the code.
func refused(t *testing.T, what string, err error, code string) {
	t.Helper()
	var e smithy.APIError
	if !errors.As(err, &e) || e.ErrorCode() != code {
		t.Errorf("%s: %v, want %s", what, err, code)
	}
}

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// instance runs a machine that is only a record.
func instance(t *testing.T, s *site, region string, change func(*localcloud.Instance)) localcloud.Instance {
	t.Helper()
	var i localcloud.Instance
	err := s.Update(context.WithoutCancel(t.Context()), region, func(tx *localcloud.Tx) error {
		sub, _, err := tx.DefaultSubnet("")
		if err != nil {
			return err
		}
		ip, err := tx.NextPrivateIP(sub)
		if err != nil {
			return err
		}
		public, err := tx.NextPublicIP()
		if err != nil {
			return err
		}
		g, err := tx.SecurityGroupNamed("", "default")
		if err != nil {
			return err
		}
		i = localcloud.Instance{
			ID: localcloud.NewID("i"), Type: "t3.micro", State: "running", Zone: sub.Zone, Subnet: sub.ID, VPC: sub.VPC,
			PrivateIP: ip, PublicIP: public, Public: true, SecurityGroups: []string{g.ID}, Launched: tx.Now, ImageID: localcloud.NewID("ami"),
			Interface: localcloud.NetworkInterface{ID: localcloud.NewID("eni"), MAC: "02:00:00:00:00:01", Attachment: localcloud.NewID("eni-attach")},
		}
		if change != nil {
			change(&i)
		}
		return localcloud.Put(tx, i)
	})
	if err != nil {
		t.Fatal(err)
	}
	return i
}
