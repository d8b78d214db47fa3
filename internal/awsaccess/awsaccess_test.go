package awsaccess

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
	"github.com/aws/smithy-go"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

func TestPrepare(t *testing.T) {
	for name, c := range map[string]struct {
		cfg  Config
		want []string // options at fault
	}{
		"empty":    {Config{}, nil},
		"half":     {Config{AccessKey: "a"}, []string{"access_key"}},
		"half too": {Config{SecretKey: secret.New("a")}, []string{"secret_key"}},
		"token":    {Config{Token: secret.New("a")}, []string{"token"}},
		"numbers":  {Config{MaxRetries: -1, Polling: &Polling{-1, -1}}, []string{"max_retries", "aws_polling.delay_seconds", "aws_polling.max_attempts"}},
		"names":    {Config{Region: "Frankfurt", CustomEndpointEC2: "ftp://x"}, []string{"region", "custom_endpoint_ec2"}},
		"role":     {Config{AssumeRole: &AssumeRole{}}, []string{"assume_role.role_arn"}},
		"role details": {Config{AssumeRole: &AssumeRole{
			RoleARN: "me", DurationSeconds: 1, Policy: "{", PolicyARNs: []string{"x"}, SessionName: "a b", TransitiveTagKeys: []string{"k"},
		}}, []string{"assume_role.role_arn", "assume_role.duration_seconds", "assume_role.policy", "assume_role.policy_arns", "assume_role.session_name", "assume_role.transitive_tag_keys"}},
		"vault": {Config{Profile: "p", VaultAWSEngine: &VaultEngine{}}, []string{"vault_aws_engine.name", "vault_aws_engine"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, err := range diag.Flatten(c.cfg.Prepare()) {
				var f *diag.FieldError
				if !errors.As(err, &f) {
					t.Fatalf("not a field error: %v", err)
				}
				got = append(got, f.Paths[0])
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("at fault: %v, want %v", got, c.want)
			}
		})
	}
	c := Config{CustomEndpointEC2: "ec2.example.com", VaultAWSEngine: &VaultEngine{Name: "r"}}
	if err := errors.Join(c.Prepare(), c.Prepare()); err != nil {
		t.Fatal(err)
	}
	if c.CustomEndpointEC2 != "https://ec2.example.com" || c.MaxRetries != 10 || c.VaultAWSEngine.EngineName != "aws" {
		t.Errorf("defaults: %+v", c)
	}
}

func mustOpen(t *testing.T, c Config) *Session {
	t.Helper()
	if err := c.Prepare(); err != nil {
		t.Fatal(err)
	}
	s, err := Open(t.Context(), c, "1.2.3", nil)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestOpenStatic(t *testing.T) {
	st := newStand(t)
	s := mustOpen(t, user())
	if st.count("GetCallerIdentity by AKIAUSER") != 1 || !strings.Contains(st.agent, "ingot/1.2.3") {
		t.Errorf("calls %v, agent %q", st.calls, st.agent)
	}
	for range 2 {
		if id, err := s.AccountID(t.Context()); err != nil || id != "111122223333" {
			t.Fatal(id, err)
		}
	}
	if n := st.count("GetCallerIdentity"); n != 1 {
		t.Errorf("asked %d times who we are", n)
	}
	if s.Region() != "eu-west-1" || s.EC2("") != s.EC2("eu-west-1") || s.EC2("us-east-1") == s.EC2("") {
		t.Error("clients are one a region")
	}
	if _, err := s.EC2("us-east-1").DescribeRegions(t.Context(), &ec2.DescribeRegionsInput{}); err != nil {
		t.Fatal(err)
	}
	if st.regions[len(st.regions)-1] != "us-east-1" {
		t.Errorf("signed for %v", st.regions)
	}
}

func TestOpenRefused(t *testing.T) {
	st := newStand(t)
	c := user()
	c.AccessKey = "AKIAOTHER"
	_ = c.Prepare()
	_, err := Open(t.Context(), c, "1", nil)
	if Code(err) != "InvalidClientTokenId" || diag.Hint(err) == "" {
		t.Errorf("error %v, hint %q", err, diag.Hint(err))
	}
	if n := st.count("GetCallerIdentity"); n != 1 {
		t.Errorf("a refused key was tried %d times", n)
	}
	c.SkipCredentialValidation = true
	if _, err := Open(t.Context(), c, "1", nil); err != nil {
		t.Errorf("not to be asked: %v", err)
	}
	c = Config{}
	_ = c.Prepare()
	if _, err := Open(t.Context(), c, "1", nil); err == nil || !strings.Contains(err.Error(), "region") {
		t.Errorf("no region: %v", err)
	}
	c.Region = "eu-west-1"
	if _, err := Open(t.Context(), c, "1", nil); err == nil || !strings.Contains(diag.Hint(err), "no credentials") {
		t.Errorf("no credentials: %v (hint %q)", err, diag.Hint(err))
	}
	c.Profile = "nobody"
	if _, err := Open(t.Context(), c, "1", nil); err == nil || !strings.Contains(diag.Hint(err), "AWS_PROFILE") {
		t.Errorf("no profile: %v (hint %q)", err, diag.Hint(err))
	}
}

func TestOpenProfile(t *testing.T) {
	st := newStand(t)
	write := func(name, text string) {
		if err := os.WriteFile(os.Getenv(name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write("AWS_CONFIG_FILE", `
[profile plain]
region = ap-south-1
[profile role]
region = ap-south-1
source_profile = plain
role_arn = arn:aws:iam::111122223333:role/bake
mfa_serial = arn:aws:iam::111122223333:mfa/ann
`)
	write("AWS_SHARED_CREDENTIALS_FILE", "[plain]\naws_access_key_id = AKIAUSER\naws_secret_access_key = s\n")
	s := mustOpen(t, Config{Profile: "plain"})
	if s.Region() != "ap-south-1" {
		t.Errorf("region %q", s.Region())
	}
	// For a profile's role the SDK takes no AWS_ENDPOINT_URL.
	t.Setenv("AWS_ENDPOINT_URL_STS", st.URL)
	c := Config{Profile: "role"}
	_ = c.Prepare()
	if _, err := Open(t.Context(), c, "1", nil); err == nil || !strings.Contains(diag.Hint(err), "mfa_code") {
		t.Errorf("no code: %v (hint %q)", err, diag.Hint(err))
	}
	c.MFACode = secret.New("123456")
	mustOpen(t, c)
	if st.count("AssumeRole by AKIAUSER") != 1 || st.count("GetSessionToken") != 0 {
		t.Errorf("calls: %v", st.calls)
	}
}

func TestOpenRoleWithCode(t *testing.T) {
	st := newStand(t)
	c := user()
	c.MFACode = secret.New("123456")
	c.AssumeRole = &AssumeRole{RoleARN: "arn:aws:iam::111122223333:role/bake", ExternalID: "ext", Tags: map[string]string{"k": "v"}}
	s := mustOpen(t, c)
	// The code is spent on a session, which takes the role.
	want := []string{"ListMFADevices by AKIAUSER", "GetCallerIdentity by AKIAUSER", "GetSessionToken by AKIAUSER", "AssumeRole by ASIA1", "GetCallerIdentity by ASIA2"}
	if !slices.Equal(st.calls, want) {
		t.Errorf("calls %q, want %q", st.calls, want)
	}
	if arn := st.keys["ASIA2"]; !strings.Contains(arn, "role/bake/ingot-") || !strings.HasSuffix(arn, "/extk") {
		t.Errorf("role taken: %s", arn)
	}
	// A copy of the configuration can not spend it again.
	_, err := Open(t.Context(), s.opt, "1", nil)
	if err == nil || !strings.Contains(err.Error(), "one time pass code") {
		t.Errorf("the same code again: %v", err)
	}
}

func TestOpenVault(t *testing.T) {
	st := newStand(t)
	c := Config{Region: "eu-west-1", VaultAWSEngine: &VaultEngine{Name: "baker", EngineName: "cloud", TTL: "1h"}}
	_ = c.Prepare()
	if _, err := Open(t.Context(), c, "1", nil); err == nil || !strings.Contains(diag.Hint(err), "VAULT_ADDR") {
		t.Errorf("no address: %v", err)
	}
	t.Setenv("VAULT_ADDR", st.URL)
	t.Setenv("VAULT_TOKEN", "wrong")
	if _, err := Open(t.Context(), c, "1", nil); err == nil || !strings.Contains(err.Error(), "permission denied") || strings.Contains(err.Error(), "wrong") {
		t.Errorf("wrong token: %v", err)
	}
	t.Setenv("VAULT_TOKEN", "hvs.1")
	mustOpen(t, c)
	if st.count("GetCallerIdentity by AKIAVAULT") != 1 {
		t.Errorf("calls: %v", st.calls)
	}
}

func TestOpenLocal(t *testing.T) {
	st := newStand(t)
	st.keys = map[string]string{"LOCAL": "arn:aws:iam::000000000000:root"}
	t.Setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
	t.Setenv("AWS_ENDPOINT_URL_EC2", "http://127.0.0.1:1")
	t.Setenv("AWS_REGION", "us-west-2")
	at := func(context.Context) (*Endpoint, error) {
		return &Endpoint{URL: st.URL, Region: "eu-central-1", AccessKey: "LOCAL", SecretKey: secret.New("x")}, nil
	}
	c := user()
	c.CustomEndpointEC2 = "http://127.0.0.1:1"
	c.AssumeRole = &AssumeRole{RoleARN: "arn:aws:iam::111122223333:role/bake"}
	_ = c.Prepare()
	s, err := Open(t.Context(), c, "1", at)
	if err != nil || len(st.calls) != 0 {
		t.Fatal(err, st.calls)
	}
	for _, region := range []string{"", "us-east-1"} {
		if _, err := s.EC2(region).DescribeRegions(t.Context(), &ec2.DescribeRegionsInput{}); err != nil {
			t.Error(err)
		}
	}
	if id, err := s.AccountID(t.Context()); err != nil || id == "" {
		t.Error(err)
	}
	c.Region = ""
	if s, err = Open(t.Context(), c, "1", at); err != nil || s.Region() != "eu-central-1" {
		t.Error("the local cloud's own region:", err)
	}
	down := errors.New("no local cloud runs")
	if _, err := Open(t.Context(), c, "1", func(context.Context) (*Endpoint, error) { return nil, down }); !errors.Is(err, down) {
		t.Error(err)
	}
}

func TestRetries(t *testing.T) {
	st := newStand(t)
	s := mustOpen(t, user())
	s.local = true // no pause of its own
	// One fault each: more would wait for the SDK's pauses.
	st.refuse["CreateTags"], st.refusal = 1, "Unavailable"
	tags := func() error {
		_, err := s.EC2("").CreateTags(t.Context(), &ec2.CreateTagsInput{Resources: []string{"ami-1"}, Tags: []types.Tag{{Key: aws.String("k")}}})
		return err
	}
	if err := tags(); err != nil || st.count("CreateTags") != 2 {
		t.Errorf("refused once: %v, %d requests", err, st.count("CreateTags"))
	}
	st.lose["CreateTags"] = 1
	if err := tags(); err != nil || st.count("CreateTags") != 4 {
		t.Errorf("lost once: %v, %d requests", err, st.count("CreateTags"))
	}
	// A lost reply of a call that makes something is not sent again.
	st.lose["CreateImage"] = 1
	in := &ec2.CreateImageInput{InstanceId: aws.String("i-1"), Name: aws.String("img")}
	create := func(ctx context.Context) error {
		_, err := s.EC2("").CreateImage(ctx, in)
		return err
	}
	if err := create(t.Context()); !IsUncertain(err) || !IsTemporary(err) || st.count("CreateImage") != 1 {
		t.Errorf("lost: %v, %d requests", err, st.count("CreateImage"))
	}
	if err := create(t.Context()); IsUncertain(err) || IsTemporary(err) || Code(err) != "InvalidAMIName.Duplicate" {
		t.Errorf("again: %v", err)
	}
}

func TestOnce(t *testing.T) {
	st := newStand(t)
	s := mustOpen(t, user())
	s.local = true
	run := func(name string) (finds int, err error) {
		err = s.Once(t.Context(), func(context.Context) (bool, error) {
			finds++
			st.mu.Lock()
			defer st.mu.Unlock()
			return st.images[name], nil
		}, func(ctx context.Context) error {
			_, err := s.EC2("").CreateImage(ctx, &ec2.CreateImageInput{InstanceId: aws.String("i-1"), Name: &name})
			return err
		})
		return finds, err
	}
	if n, err := run("a"); err != nil || n != 0 {
		t.Error("nothing wrong:", n, err)
	}
	st.lose["CreateImage"] = 1
	if n, err := run("b"); err != nil || n != 1 || st.count("CreateImage") != 2 {
		t.Error("lost after the effect:", n, err)
	}
	st.refuse["CreateImage"], st.refusal = 1, "InternalError"
	if _, err := run("c"); err != nil || !st.images["c"] || st.count("CreateImage") != 4 {
		t.Error("lost before it:", err)
	}
	if _, err := run("c"); Code(err) != "InvalidAMIName.Duplicate" {
		t.Error("somebody else's:", err)
	}
}

func TestExplain(t *testing.T) {
	newStand(t)
	c := user()
	s := mustOpen(t, c)
	_, err := s.EC2("").TerminateInstances(t.Context(), &ec2.TerminateInstancesInput{InstanceIds: []string{"i-1"}})
	plain := Explain(t.Context(), s, err)
	if !strings.Contains(diag.Hint(plain), "decode_authorization_messages") || strings.Contains(plain.Error(), "abcdefgh") {
		t.Errorf("%v (hint %q)", plain, diag.Hint(plain))
	}
	s.opt.DecodeAuthorizationMessages = true
	got := Explain(t.Context(), s, fmt.Errorf("end the instance: %w", err))
	want := "TerminateInstances: UnauthorizedOperation: You are not authorized. (request id req-7)\nauthorization: ann may not ec2:RunInstances on *: a policy denies it"
	if got.Error() != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
	if Explain(t.Context(), s, got) != got || Code(got) != "UnauthorizedOperation" {
		t.Error("explained twice")
	}
	other := errors.New("x")
	if Explain(t.Context(), nil, other) != other || Explain(t.Context(), nil, nil) != nil {
		t.Error("not AWS's")
	}
}

func TestIsTemporary(t *testing.T) {
	api := func(code string) error { return &smithy.GenericAPIError{Code: code} }
	for _, c := range []struct {
		err  error
		want bool
	}{
		{nil, false},
		{context.Canceled, false},
		{api("RequestLimitExceeded"), true},
		{api("RequestThrottledException"), true},
		{api("ConcurrentLimitExceededException"), true},
		{api("InternalError"), true},
		{api("ResourceLimitExceeded"), false},
		{api("InvalidAMIID.NotFound"), false},
		{api("ExpiredToken"), false},
		{errors.New("x"), false},
	} {
		if got := IsTemporary(c.err); got != c.want {
			t.Errorf("%v: %v", c.err, got)
		}
	}
}

func TestPauses(t *testing.T) {
	// Asking at these moments, what takes 45 s is seen within 1.7 s, at a cost
	// of few requests.
	var at time.Duration
	n := 1
	for at < 45*time.Second {
		at += pause(at, false)
		n++
	}
	if late := at - 45*time.Second; late > 1700*time.Millisecond || n > 70 {
		t.Errorf("%s late after %d requests", late, n)
	}
	if p := pause(time.Hour, false); p != pauseMax {
		t.Errorf("after an hour: %s", p)
	}
	if p := pause(0, true); p > 50*time.Millisecond {
		t.Errorf("local: %s", p)
	}
}

func TestPolling(t *testing.T) {
	env := func(m map[string]string) func(string) string { return func(k string) string { return m[k] } }
	for _, c := range []struct {
		block *Polling
		env   map[string]string
		want  polling
	}{
		{nil, nil, polling{}},
		{&Polling{DelaySeconds: 3}, nil, polling{delay: 3 * time.Second}},
		{&Polling{DelaySeconds: 3, MaxAttempts: 7}, nil, polling{delay: 3 * time.Second, attempts: 7}},
		{&Polling{MaxAttempts: 200}, nil, polling{limit: 50 * time.Minute}},
		{nil, map[string]string{"AWS_POLL_DELAY_SECONDS": "2", "AWS_MAX_ATTEMPTS": "9"}, polling{delay: 2 * time.Second, attempts: 9}},
		{&Polling{DelaySeconds: 1}, map[string]string{"AWS_POLL_DELAY_SECONDS": "2"}, polling{delay: time.Second}},
		{nil, map[string]string{"AWS_TIMEOUT_SECONDS": "60", "AWS_MAX_ATTEMPTS": "x"}, polling{limit: time.Minute}},
	} {
		if got := pollingOf(c.block, env(c.env)); got != c.want {
			t.Errorf("%+v %v: %+v", c.block, c.env, got)
		}
	}
}

func TestWait(t *testing.T) {
	s := &Session{local: true}
	n := 0
	count := func(until int, err error) func(context.Context) (bool, error) {
		n = 0
		return func(context.Context) (bool, error) { n++; return n == until, err }
	}
	if err := s.Wait(t.Context(), 0, count(3, nil)); err != nil || n != 3 {
		t.Error(n, err)
	}
	var te *TimeoutError
	if err := s.Wait(t.Context(), time.Millisecond, count(0, nil)); !errors.As(err, &te) || n < 1 {
		t.Error(n, err)
	}
	lasting := errors.New("x")
	if err := s.Wait(t.Context(), 0, count(0, lasting)); !errors.Is(err, lasting) || n != 1 {
		t.Error(n, err)
	}
	passing := &smithy.GenericAPIError{Code: "InternalError"}
	if err := s.Wait(t.Context(), 0, count(0, passing)); !errors.Is(err, passing) || n != faultsInRow+1 {
		t.Error(n, err)
	}
	s.polling = polling{delay: time.Microsecond, attempts: 4}
	if err := s.Wait(t.Context(), 0, count(0, nil)); !errors.As(err, &te) || te.Attempts != 4 || n != 4 {
		t.Error(n, err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(lasting)
	if err := s.Wait(ctx, 0, count(0, nil)); !errors.Is(err, lasting) || n != 0 {
		t.Error(n, err)
	}
}

func TestBucket(t *testing.T) {
	now := time.Unix(1000, 0)
	b := newBucket(2, 10)
	for i, want := range []time.Duration{0, 0, 100 * time.Millisecond, 200 * time.Millisecond} {
		if d := b.take(now); d.Round(time.Millisecond) != want {
			t.Errorf("request %d waits %s, want %s", i, d, want)
		}
	}
	now = now.Add(time.Second)
	if d := b.take(now); d != 0 {
		t.Errorf("after a second: %s", d)
	}
	b.slow(now)
	b.slow(now)
	if b.rate != 5 || b.take(now).Round(time.Millisecond) != 200*time.Millisecond {
		t.Errorf("throttled: rate %v", b.rate)
	}
	now = now.Add(time.Minute)
	if b.take(now); b.rate != 10 {
		t.Errorf("a minute later: rate %v", b.rate)
	}
}

func TestPartition(t *testing.T) {
	for region, want := range map[string]string{"eu-west-1": "aws", "cn-north-1": "aws-cn", "us-gov-west-1": "aws-us-gov", "us-iso-east-1": "aws-iso", "us-isob-east-1": "aws-iso-b"} {
		s := &Session{cfg: aws.Config{Region: region}}
		if got := s.Partition(); got != want {
			t.Errorf("%s: %s", region, got)
		}
	}
}
