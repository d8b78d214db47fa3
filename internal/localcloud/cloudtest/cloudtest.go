// Package cloudtest gives a test a local cloud of its own, served over HTTP to
// the vendor's SDK, with machines that are stand-ins.
package cloudtest

import (
	"context"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/smithy-go/middleware"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/faults"
	"github.com/ingot-build/ingot/internal/localcloud/machine"
	"github.com/ingot-build/ingot/internal/localcloud/server"
)

// Limit is how long a test waits for what must come.
const Limit = 5 * time.Minute

// A Cloud is served until the test ends.
type Cloud struct {
	*localcloud.Cloud
	Faults *faults.Injector
	URL    string
	t      testing.TB
	Key    localcloud.Credential

	mu    sync.Mutex
	calls map[string]int
	order []string
}

// New serves a new cloud. Its jobs are done until the test ends.
func New(t testing.TB) *Cloud {
	t.Helper()
	return At(t, t.TempDir(), &machine.Simulated{})
}

// At serves the cloud in a folder, with machines of a driver.
func At(t testing.TB, dir string, machines machine.Driver) *Cloud {
	t.Helper()
	ctx := context.Background()
	c := &Cloud{t: t, Faults: faults.New(dir), calls: map[string]int{}}
	var err error
	c.Cloud, err = localcloud.Open(ctx, localcloud.Config{Dir: dir, Machines: machines, Warn: func(err error) { t.Log("cloud:", err) }})
	if err != nil {
		t.Fatal(err)
	}
	h, err := server.New(ctx, c.Cloud, server.Options{Faults: c.Faults, Seen: c.saw})
	if err != nil {
		t.Fatal(err)
	}
	c.Key = h.Credential()
	srv := httptest.NewServer(h)
	c.URL = srv.URL
	work, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- c.Work(work) }()
	t.Cleanup(func() {
		srv.Close()
		stop()
		if err := <-done; err != nil {
			t.Error("cloud:", err)
		}
		if err := c.Cloud.Shutdown(ctx); err != nil {
			t.Error("cloud:", err)
		}
	})
	return c
}

func (c *Cloud) saw(service, action, _ string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.calls[service+":"+action]++
	c.order = append(c.order, service+":"+action)
}

// Calls returns the calls so far, as "service:Action", in order.
func (c *Cloud) Calls() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]string(nil), c.order...)
}

// Config is an SDK configuration for a region: static credentials, the cloud
// as endpoint, no retries. Every reply is checked against the SDK's model.
func (c *Cloud) Config(region string) aws.Config {
	return aws.Config{
		Region: region, BaseEndpoint: aws.String(c.URL),
		Credentials: credentials.NewStaticCredentialsProvider(c.Key.AccessKey, c.Key.Secret, ""),
		Retryer:     func() aws.Retryer { return aws.NopRetryer{} },
		HTTPClient:  Client(),
		APIOptions:  []func(*middleware.Stack) error{Model(c.t)},
	}
}

// EC2 is a client for a region.
func (c *Cloud) EC2(region string) *ec2.Client { return ec2.NewFromConfig(c.Config(region)) }

// Context ends after [Limit], and with the test.
func Context(t testing.TB) context.Context {
	t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), Limit)
	t.Cleanup(stop)
	return ctx
}

// Eventually waits until ok, and fails the test with what when it does not
// come.
func Eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	end := time.Now().Add(Limit)
	for !ok() {
		if time.Now().After(end) {
			t.Fatalf("waited %s in vain until %s", Limit, what)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
