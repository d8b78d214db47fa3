package awswire

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	v4 "github.com/aws/aws-sdk-go-v2/aws/signer/v4"
)

const (
	accessKey = "AKIAEXAMPLE"
	secretKey = "a/secret+key"
)

var when = time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)

func secretOf(k string) (string, string, bool) { return secretKey, "", k == accessKey }

// signed returns a request as the vendor's own signer makes it and a server
// sees it.
func signed(t *testing.T, method, target, body, service string, change func(*http.Request)) (*http.Request, string) {
	t.Helper()
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded; charset=utf-8")
	sum := sha256.Sum256([]byte(body))
	digest := hex.EncodeToString(sum[:])
	if change != nil {
		change(r)
	}
	s := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = service == "s3" })
	if err := s.SignHTTP(context.Background(), aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}, r, digest, service, "eu-west-1", when); err != nil {
		t.Fatal(err)
	}
	return r, digest
}

func TestVerify(t *testing.T) {
	for _, target := range []string{
		"http://127.0.0.1:1234/", "http://127.0.0.1/a%20b/c%2Fd~e?x=1&y=%2F+z&x=0", "http://127.0.0.1/snapshots/snap-1/blocks/0?a",
	} {
		for _, service := range []string{"ec2", "s3"} {
			r, digest := signed(t, "POST", target, "Action=X", service, nil)
			c, err := Verify(r, digest, when.Add(time.Minute), secretOf)
			if err != nil || c.Service != service || c.Region != "eu-west-1" || c.AccessKey != accessKey {
				t.Errorf("%s %s: %+v, %v", service, target, c, err)
			}
		}
	}
}

func TestVerifyRefuses(t *testing.T) {
	good := func() (*http.Request, string) { return signed(t, "POST", "http://127.0.0.1/", "Action=X", "ec2", nil) }
	for name, c := range map[string]struct {
		change func(r *http.Request)
		body   string
		at     time.Time
		want   string
	}{
		"another body": {body: hex.EncodeToString(make([]byte, 32)), want: "SignatureDoesNotMatch"},
		"late":         {at: when.Add(16 * time.Minute), want: "RequestExpired"},
		"early":        {at: when.Add(-16 * time.Minute), want: "RequestExpired"},
		"unsigned":     {change: func(r *http.Request) { r.Header.Del("Authorization") }, want: "MissingAuthenticationToken"},
		"other header": {change: func(r *http.Request) { r.Header.Set("Content-Type", "text/plain") }, want: "SignatureDoesNotMatch"},
		"other host":   {change: func(r *http.Request) { r.Host = "elsewhere" }, want: "SignatureDoesNotMatch"},
		"other key": {change: func(r *http.Request) {
			r.Header.Set("Authorization", strings.Replace(r.Header.Get("Authorization"), accessKey, "AKIAOTHER", 1))
		}, want: "AuthFailure"},
		"a token": {change: func(r *http.Request) { r.Header.Set("X-Amz-Security-Token", "t") }, want: "InvalidClientTokenId"},
		"basic":   {change: func(r *http.Request) { r.Header.Set("Authorization", "Basic eA==") }, want: "IncompleteSignature"},
		"no headers": {change: func(r *http.Request) {
			r.Header.Set("Authorization", "AWS4-HMAC-SHA256 Credential=a/b/c/d/aws4_request, Signature=00")
		}, want: "IncompleteSignature"},
	} {
		r, digest := good()
		if c.change != nil {
			c.change(r)
		}
		if c.body != "" {
			digest = c.body
		}
		if c.at.IsZero() {
			c.at = when
		}
		_, err := Verify(r, digest, c.at, secretOf)
		var e *Error
		if !errors.As(err, &e) || e.Code != c.want {
			t.Errorf("%s: %v, want %s", name, err, c.want)
		}
	}
}

func TestVerifyPresigned(t *testing.T) {
	r := httptest.NewRequest("GET", "http://127.0.0.1/bucket/a%20key?X-Amz-Expires=60", nil)
	s := v4.NewSigner(func(o *v4.SignerOptions) { o.DisableURIPathEscaping = true })
	uri, _, err := s.PresignHTTP(context.Background(), aws.Credentials{AccessKeyID: accessKey, SecretAccessKey: secretKey}, r, unsigned, "s3", "eu-west-1", when)
	if err != nil {
		t.Fatal(err)
	}
	r = httptest.NewRequest("GET", uri, nil)
	if _, err := Verify(r, "", when.Add(time.Minute), secretOf); err != nil {
		t.Error(err)
	}
	if _, err := Verify(r, "", when.Add(2*time.Minute), secretOf); AsError(err).Code != "RequestExpired" {
		t.Error(err)
	}
}

type nested struct {
	Device string `q:"DeviceName,required"`
	Ebs    *struct {
		Size int64 `q:"VolumeSize"`
		Keep *bool `q:"DeleteOnTermination"`
	} `q:"Ebs"`
}

type input struct {
	IDs     []string   `q:"InstanceId"`
	Count   int        `q:"MinCount,required"`
	Devices []nested   `q:"BlockDeviceMapping"`
	Data    []byte     `q:"UserData"`
	At      *time.Time `q:"DeprecateAt"`
	Tags    []string   `q:"Tags,member"`
	Ratio   float64    `q:"Ratio"`
	embedded
}

type embedded struct {
	Dry bool `q:"DryRun"`
}

func TestDecode(t *testing.T) {
	v, _ := url.ParseQuery("Action=A&Version=1&InstanceId.2=b&InstanceId.1=a&InstanceId.10=c&MinCount=3&BlockDeviceMapping.1.DeviceName=/dev/sda1" +
		"&BlockDeviceMapping.1.Ebs.VolumeSize=8&BlockDeviceMapping.1.Ebs.DeleteOnTermination=false&BlockDeviceMapping.2.DeviceName=x" +
		"&UserData=aGk%3D&DeprecateAt=2026-01-02T03:04:05Z&Tags.member.1=t&DryRun=true&Ratio=0.5")
	var in input
	if err := Decode(v, &in); err != nil {
		t.Fatal(err)
	}
	if strings.Join(in.IDs, "") != "abc" || in.Count != 3 || len(in.Devices) != 2 || in.Devices[0].Ebs.Size != 8 || *in.Devices[0].Ebs.Keep ||
		in.Devices[1].Ebs != nil || string(in.Data) != "hi" || in.At.Year() != 2026 || in.Tags[0] != "t" || !in.Dry || in.Ratio != 0.5 {
		t.Errorf("%+v", in)
	}
	for query, want := range map[string]string{
		"":                                    "MissingParameter",
		"MinCount=x":                          "InvalidParameterValue",
		"MinCount=1&Other=1":                  "UnknownParameter",
		"MinCount=1&MinCount.1=2":             "UnknownParameter",
		"MinCount=1&InstanceId.x=2":           "InvalidParameterValue",
		"MinCount=1&InstanceId.1.Y=2":         "UnknownParameter",
		"MinCount=1&InstanceId.99999999999=2": "InvalidParameterValue",
		"MinCount=1&BlockDeviceMapping.1.X=2": "MissingParameter",
		"MinCount=1&UserData=!!!":             "InvalidParameterValue",
		"MinCount=1&DryRun=yes":               "InvalidParameterValue",
		"MinCount=1&DeprecateAt=yesterday":    "InvalidParameterValue",
		"MinCount=99999999999999999999999999": "InvalidParameterValue",
	} {
		v, _ := url.ParseQuery(query)
		var e *Error
		if err := Decode(v, new(input)); !errors.As(err, &e) || e.Code != want {
			t.Errorf("%s: %v, want %s", query, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	f.Add("MinCount=1&InstanceId.1=a")
	f.Add("BlockDeviceMapping.1.Ebs.VolumeSize=1&MinCount=..&BlockDeviceMapping.=")
	f.Fuzz(func(t *testing.T, query string) {
		v, err := url.ParseQuery(query)
		if err != nil {
			return
		}
		var e *Error
		if err := Decode(v, new(input)); err != nil && !errors.As(err, &e) {
			t.Fatal(err)
		}
	})
}

func FuzzVerify(f *testing.F) {
	f.Add("AWS4-HMAC-SHA256 Credential=AKIAEXAMPLE/20260304/eu-west-1/ec2/aws4_request, SignedHeaders=host, Signature=00", "/")
	f.Fuzz(func(t *testing.T, auth, path string) {
		u, err := url.Parse(path)
		if err != nil {
			return
		}
		r := &http.Request{Method: "POST", URL: u, Host: "h", Header: http.Header{"Authorization": {auth}}}
		if _, err := Verify(r, "00", when, secretOf); err == nil {
			t.Fatal("a signature was guessed")
		}
	})
}

func TestReplies(t *testing.T) {
	c := &Call{Action: "DescribeThings", RequestID: "r-1"}
	w := httptest.NewRecorder()
	out := struct {
		Items []string `xml:"thingSet>item"`
		Token string   `xml:"nextToken,omitempty"`
	}{Items: []string{"a", "b<"}}
	if err := WriteEC2(w, c, &out); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.TrimPrefix(w.Body.String(), xml.Header), `<DescribeThingsResponse xmlns="http://ec2.amazonaws.com/doc/2016-11-15/"><requestId>r-1</requestId><thingSet><item>a</item><item>b&lt;</item></thingSet></DescribeThingsResponse>`; got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	w = httptest.NewRecorder()
	WriteEC2Error(w, "r-2", errors.New("a fault"))
	if w.Code != 500 || !bytes.Contains(w.Body.Bytes(), []byte("<Code>InternalError</Code><Message>a fault</Message>")) {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}
