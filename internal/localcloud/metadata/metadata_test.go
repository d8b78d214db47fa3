package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/secret"
)

// source is an instance that a test changes.
type source struct {
	i   Instance
	err error
}

func (s *source) Instance(context.Context) (Instance, error) { return s.i, s.err }

func web() *source {
	return &source{i: Instance{
		ID: "i-0aa", Type: "t3.micro", Architecture: "x86_64", LaunchTime: time.Date(2026, 3, 4, 5, 6, 7, 8, time.UTC), LaunchIndex: 2,
		ReservationID: "r-0bb", OwnerID: "123456789012", ImageID: "ami-0cc", Region: "eu-west-1", AvailabilityZone: "eu-west-1b", ZoneID: "euw1-az2",
		LocalHostname: "ip-172-31-5-9.eu-west-1.compute.internal", LocalIPv4: "172.31.5.9", PublicIPv4: "127.83.0.5",
		MAC: "02:11:22:33:44:55", InterfaceID: "eni-0dd", SubnetID: "subnet-0ee", SubnetCIDR: "172.31.0.0/20", VPCID: "vpc-0ff",
		VPCCIDRs: []string{"172.31.0.0/16", "10.0.0.0/16"}, SecurityGroups: []Group{{"sg-1", "default"}, {"sg-2", "web"}},
		Keys:    []Key{{"mine", "ssh-ed25519 AAAA mine"}, {"yours", "ssh-rsa BBBB yours\n"}},
		Devices: []Device{{Name: "/dev/xvda"}, {Name: "/dev/sdf"}, {Name: "xvdb", Ephemeral: true}, {Name: "/dev/sdg"}},
		Profile: &Profile{
			ARN: "arn:aws:iam::123456789012:instance-profile/web", ID: "AIPA1", Role: "web", AccessKeyID: "ASIA1",
			SecretKey: secret.New("hush"), SessionToken: secret.New("session"),
			LastUpdated: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Expiration: time.Date(2026, 3, 4, 11, 6, 7, 0, time.UTC),
		},
		Tags:     map[string]string{"Name": "web-1", "team": "blue"},
		UserData: []byte("#!/bin/sh\x00\xff"),
	}}
}

// server serves a source on a clock that stands still.
type server struct {
	t   *testing.T
	src *source
	now time.Time
	url string
}

func serve1(t *testing.T, src *source) *server {
	t.Helper()
	s := &server{t: t, src: src, now: time.Date(2026, 3, 4, 6, 0, 0, 0, time.UTC)}
	h := httptest.NewServer(New(src, Options{Now: func() time.Time { return s.now }}))
	t.Cleanup(h.Close)
	s.url = h.URL
	return s
}

func (s *server) ask(method, path string, headers ...string) (int, string, http.Header) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), method, s.url+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	if resp.ContentLength < 0 {
		s.t.Errorf("%s %s: an answer without its length", method, path)
	}
	return resp.StatusCode, string(body), resp.Header
}

func TestValues(t *testing.T) {
	s := serve1(t, web())
	mac := "/latest/meta-data/network/interfaces/macs/02:11:22:33:44:55/"
	for path, want := range map[string]string{
		"/latest/":                                          "dynamic\nmeta-data\nuser-data",
		"/2021-03-23/meta-data/instance-id":                 "i-0aa",
		"/1.0/meta-data/ami-id":                             "ami-0cc",
		"/latest/meta-data/hostname":                        "ip-172-31-5-9.eu-west-1.compute.internal",
		"/latest/meta-data/local-ipv4":                      "172.31.5.9",
		"/latest/meta-data/public-ipv4":                     "127.83.0.5",
		"/latest/meta-data/instance-type":                   "t3.micro",
		"/latest/meta-data/ami-launch-index":                "2",
		"/latest/meta-data/mac":                             "02:11:22:33:44:55",
		"/latest/meta-data/security-groups":                 "default\nweb",
		"/latest/meta-data/placement":                       "availability-zone\navailability-zone-id\nregion",
		"/latest/meta-data/placement/":                      "availability-zone\navailability-zone-id\nregion",
		"/latest/meta-data/placement/region":                "eu-west-1",
		"/latest/meta-data/public-keys/":                    "0=mine\n1=yours",
		"/latest/meta-data/public-keys/0":                   "openssh-key",
		"/latest/meta-data/public-keys/1/":                  "openssh-key",
		"/latest/meta-data/iam/":                            "info\nsecurity-credentials/",
		"/latest/meta-data/services/partition":              "aws",
		"/latest/meta-data/public-keys/1/openssh-key":       "ssh-rsa BBBB yours\n",
		"/latest/meta-data/block-device-mapping/":           "ami\nebs1\nebs2\nephemeral0\nroot",
		"/latest/meta-data/block-device-mapping/ami":        "/dev/xvda",
		"/latest/meta-data/block-device-mapping/ebs1":       "sdf",
		"/latest/meta-data/block-device-mapping/ebs2":       "sdg",
		"/latest/meta-data/block-device-mapping/ephemeral0": "xvdb",
		"/latest/meta-data/iam/security-credentials/":       "web",
		"/latest/meta-data/network/interfaces/macs/":        "02:11:22:33:44:55/",
		mac + "security-group-ids":                          "sg-1\nsg-2",
		mac + "vpc-ipv4-cidr-blocks":                        "172.31.0.0/16\n10.0.0.0/16",
		mac + "ipv4-associations/127.83.0.5":                "172.31.5.9",
		"/latest/dynamic/":                                  "instance-identity/",
		"/latest/user-data":                                 "#!/bin/sh\x00\xff",
	} {
		if code, got, _ := s.ask("GET", path); code != 200 || got != want {
			t.Errorf("%s: %d %q, want %q", path, code, got, want)
		}
	}
	if _, got, _ := s.ask("GET", "/"); !strings.HasPrefix(got, "1.0\n") || !strings.HasSuffix(got, "\nlatest") {
		t.Errorf("versions: %q", got)
	}
	for _, path := range []string{
		"/latest/nothing", "/latest/meta-data/nothing", "/latest/meta-data/placement/nothing", "/2007-01-20/meta-data/", "/latest/meta-data/tags/instance/Name",
		"/latest/user-data/more", "/latest/dynamic/fws", "/latest/api/token", "/latest/meta-data/ami", "/latest/meta-data/public-ipv4/x",
	} {
		if code, _, h := s.ask("GET", path); code != 404 || h.Get("Content-Type") != "text/html" {
			t.Errorf("%s: %d %s", path, code, h.Get("Content-Type"))
		}
	}
	if code, _, _ := s.ask("POST", "/latest/meta-data/"); code != 405 {
		t.Errorf("POST: %d", code)
	}
	s.src.i.TagsEnabled, s.src.i.UserData, s.src.i.Profile, s.src.i.Keys, s.src.i.PublicIPv4 = true, nil, nil, nil, ""
	if _, got, _ := s.ask("GET", "/latest/meta-data/tags/instance/"); got != "Name\nteam" {
		t.Errorf("tags: %q", got)
	}
	for _, path := range []string{"/latest/user-data", "/latest/meta-data/iam/info", "/latest/meta-data/public-keys/", "/latest/meta-data/public-ipv4"} {
		if code, _, _ := s.ask("GET", path); code != 404 {
			t.Errorf("%s: %d, and there is none", path, code)
		}
	}
	s.src.err = errors.New("gone")
	if code, _, _ := s.ask("GET", "/latest/meta-data/ami-id"); code != 500 {
		t.Errorf("%d", code)
	}
}

func TestDocuments(t *testing.T) {
	s := serve1(t, web())
	read := func(path string) map[string]any {
		t.Helper()
		_, text, _ := s.ask("GET", path)
		out := map[string]any{}
		if err := json.Unmarshal([]byte(text), &out); err != nil {
			t.Fatalf("%s: %v: %s", path, err, text)
		}
		return out
	}
	d := read("/latest/dynamic/instance-identity/document")
	if d["accountId"] != "123456789012" || d["pendingTime"] != "2026-03-04T05:06:07Z" || d["imageId"] != "ami-0cc" || d["kernelId"] != nil || len(d) != 15 {
		t.Errorf("%v", d)
	}
	c := read("/latest/meta-data/iam/security-credentials/web")
	if c["Code"] != "Success" || c["SecretAccessKey"] != "hush" || c["Token"] != "session" || c["Expiration"] != "2026-03-04T11:06:07Z" || c["Type"] != "AWS-HMAC" {
		t.Errorf("%v", c)
	}
	if i := read("/latest/meta-data/iam/info"); i["InstanceProfileId"] != "AIPA1" {
		t.Errorf("%v", i)
	}
}

func TestTokens(t *testing.T) {
	s := serve1(t, web())
	s.src.i.TokensRequired = true
	const path = "/latest/meta-data/instance-id"
	ttl := func(v string) []string { return []string{ttlHeader, v} }
	for _, v := range []string{"", "0", "21601", "-1", "60s"} {
		h := ttl(v)
		if v == "" {
			h = nil
		}
		if code, _, _ := s.ask("PUT", "/latest/api/token", h...); code != 400 {
			t.Errorf("a lifetime of %q: %d", v, code)
		}
	}
	if code, _, _ := s.ask("PUT", "/latest/api/token", append(ttl("60"), "X-Forwarded-For", "10.0.0.1")...); code != 403 {
		t.Errorf("through a proxy: %d", code)
	}
	if code, _, _ := s.ask("PUT", "/latest/meta-data/", ttl("60")...); code != 404 {
		t.Errorf("PUT elsewhere: %d", code)
	}
	code, token, h := s.ask("PUT", "/latest/api/token", ttl("60")...)
	if code != 200 || len(token) != 56 || h.Get(ttlHeader) != "60" {
		t.Fatalf("%d %q %v", code, token, h)
	}
	if code, _, _ := s.ask("GET", path); code != 401 {
		t.Errorf("without a token: %d", code)
	}
	s.now = s.now.Add(59500 * time.Millisecond)
	if code, got, h := s.ask("GET", path, tokenHeader, token); code != 200 || got != "i-0aa" || h.Get(ttlHeader) != "1" {
		t.Errorf("%d %q %v", code, got, h)
	}
	if code, got, _ := s.ask("HEAD", path, tokenHeader, token); code != 200 || got != "" {
		t.Errorf("HEAD: %d %q", code, got)
	}
	s.now = s.now.Add(500 * time.Millisecond)
	if code, _, _ := s.ask("GET", path, tokenHeader, token); code != 401 {
		t.Errorf("a token that is too old: %d", code)
	}
	s.now = s.now.Add(-time.Second)
	s.src.i.TokensRequired = false
	if code, _, _ := s.ask("GET", path); code != 200 {
		t.Errorf("version 1: %d", code)
	}
	for _, bad := range []string{"", "x", strings.Repeat("A", 56), token[:55] + "x", "B" + token[1:]} {
		if code, _, _ := s.ask("GET", path, tokenHeader, bad); code != 401 {
			t.Errorf("the token %q: %d", bad, code)
		}
	}
	s.src.i.ID = "i-0zz"
	if code, _, _ := s.ask("GET", path, tokenHeader, token); code != 401 {
		t.Errorf("another instance's token: %d", code)
	}
	s.src.i.Disabled = true
	for _, method := range []string{"GET", "PUT"} {
		if code, _, _ := s.ask(method, "/latest/api/token", ttl("60")...); code != 403 {
			t.Errorf("%s while disabled: %d", method, code)
		}
	}
}

func TestTokensOutliveTheProcessByTheirKey(t *testing.T) {
	src := web()
	now := func() time.Time { return time.Date(2026, 3, 4, 6, 0, 0, 0, time.UTC) }
	key := []byte("0123456789abcdef")
	token := New(src, Options{Key: key, Now: now}).token("i-0aa", now().Add(time.Minute))
	r := httptest.NewRequest("GET", "/latest/meta-data/ami-id", nil)
	r.Header.Set(tokenHeader, token)
	for _, c := range []struct {
		key  []byte
		want int
	}{{key, 200}, {nil, 401}} {
		w := httptest.NewRecorder()
		New(src, Options{Key: c.key, Now: now}).ServeHTTP(w, r)
		if w.Code != c.want {
			t.Errorf("%d, want %d", w.Code, c.want)
		}
	}
}

func FuzzRequests(f *testing.F) {
	f.Add("GET", "/latest/meta-data/public-keys/0/openssh-key", "x", "60")
	f.Add("PUT", "/latest/api/token", "", "99999999999999999999")
	f.Add("GET", "//latest//meta-data//", "AAAA", "")
	src := web()
	src.i.TokensRequired = true
	h := New(src, Options{})
	f.Fuzz(func(t *testing.T, method, path, token, ttl string) {
		r := httptest.NewRequest("GET", "/", nil)
		r.Method, r.URL.Path = method, path
		r.Header.Set(tokenHeader, token)
		r.Header.Set(ttlHeader, ttl)
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		if w.Code == 200 && method != "PUT" {
			t.Errorf("%s %q was let in with the token %q", method, path, token)
		}
		if w.Code >= 500 {
			t.Errorf("%d", w.Code)
		}
	})
}
