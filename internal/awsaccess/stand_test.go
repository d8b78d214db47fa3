package awsaccess

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/secret"
)

// A stand answers for STS, IAM, EC2 and Vault and keeps which keys exist: a
// key that it has not given out is refused.
type stand struct {
	*httptest.Server
	mu     sync.Mutex
	keys   map[string]string // access key -> ARN
	tokens map[string]string // access key -> session token
	code   string            // one-time code, valid once
	next   int
	calls  []string // "Action by access key"
	images map[string]bool

	// faults, by action: how many requests to answer with the status after
	// the effect (lose) or without it (refuse).
	lose, refuse map[string]int
	refusal      string // code of a refusal
	agent        string
	regions      []string // of the signatures
}

var credential = regexp.MustCompile(`Credential=([^/]+)/\d+/([^/]+)/(\w+)/`)

func newStand(t *testing.T) *stand {
	t.Helper()
	s := &stand{
		keys:   map[string]string{"AKIAUSER": "arn:aws:iam::111122223333:user/dev/ann"},
		tokens: map[string]string{},
		code:   "123456", images: map[string]bool{},
		lose: map[string]int{}, refuse: map[string]int{}, refusal: "RequestLimitExceeded",
	}
	s.Server = httptest.NewServer(s)
	t.Cleanup(s.Close)
	dir := t.TempDir()
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "AWS_") || strings.HasPrefix(name, "VAULT_") {
			t.Setenv(name, "")
		}
	}
	t.Setenv("HOME", dir)
	t.Setenv("AWS_CONFIG_FILE", filepath.Join(dir, "config"))
	t.Setenv("AWS_SHARED_CREDENTIALS_FILE", filepath.Join(dir, "credentials"))
	t.Setenv("AWS_EC2_METADATA_DISABLED", "true")
	t.Setenv("AWS_ENDPOINT_URL", s.URL)
	return s
}

func (s *stand) issue(w http.ResponseWriter, action, arn string) {
	s.next++
	key, token := "ASIA"+strconv.Itoa(s.next), "token-"+strconv.Itoa(s.next)
	s.keys[key], s.tokens[key] = arn, token
	fmt.Fprintf(w, `<%[1]sResponse><%[1]sResult><Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>s</SecretAccessKey>`+
		`<SessionToken>%s</SessionToken><Expiration>%s</Expiration></Credentials></%[1]sResult></%[1]sResponse>`,
		action, key, token, time.Now().Add(time.Hour).UTC().Format(time.RFC3339))
}

func (s *stand) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if strings.HasPrefix(r.URL.Path, "/v1/") {
		s.vault(w, r)
		return
	}
	m := credential.FindStringSubmatch(r.Header.Get("Authorization"))
	_ = r.ParseForm()
	action := r.Form.Get("Action")
	if m == nil {
		fail(w, 403, "MissingAuthenticationToken", "not signed")
		return
	}
	s.calls = append(s.calls, action+" by "+m[1])
	s.regions = append(s.regions, m[2])
	s.agent = r.Header.Get("User-Agent")
	arn, ok := s.keys[m[1]]
	if !ok || s.tokens[m[1]] != r.Header.Get("X-Amz-Security-Token") {
		fail(w, 403, "InvalidClientTokenId", "no such key")
		return
	}
	if s.refuse[action] > 0 {
		s.refuse[action]--
		fail(w, 503, s.refusal, "slow down")
		return
	}
	if s.lose[action] > 0 {
		s.lose[action]--
		s.act(httptest.NewRecorder(), action, arn, r.Form)
		fail(w, 500, "InternalError", "lost")
		return
	}
	s.act(w, action, arn, r.Form)
}

func (s *stand) act(w http.ResponseWriter, action, arn string, f url.Values) {
	switch action {
	case "GetCallerIdentity":
		fmt.Fprintf(w, `<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>%s</Arn><UserId>U</UserId><Account>111122223333</Account></GetCallerIdentityResult></GetCallerIdentityResponse>`, arn)
	case "ListMFADevices":
		fail(w, 403, "AccessDenied", "no IAM for you")
	case "GetSessionToken":
		if f.Get("SerialNumber") != "arn:aws:iam::111122223333:mfa/ann" || f.Get("TokenCode") != s.code {
			fail(w, 403, "AccessDenied", "MultiFactorAuthentication failed with invalid MFA one time pass code")
			return
		}
		s.code = "used"
		s.issue(w, action, arn)
	case "AssumeRole":
		if f.Get("RoleSessionName") == "" {
			fail(w, 400, "ValidationError", "no name")
			return
		}
		s.issue(w, action, f.Get("RoleArn")+"/"+f.Get("RoleSessionName")+"/"+f.Get("ExternalId")+f.Get("Tags.member.1.Key"))
	case "DecodeAuthorizationMessage":
		fmt.Fprintf(w, `<DecodeAuthorizationMessageResponse><DecodeAuthorizationMessageResult><DecodedMessage>%s</DecodedMessage></DecodeAuthorizationMessageResult></DecodeAuthorizationMessageResponse>`,
			`{"allowed":false,"explicitDeny":true,"context":{"principal":{"arn":"ann"},"action":"ec2:RunInstances","resource":"*"}}`)
	case "CreateImage":
		if s.images[f.Get("Name")] {
			fail(w, 400, "InvalidAMIName.Duplicate", "in use")
			return
		}
		s.images[f.Get("Name")] = true
		fmt.Fprint(w, `<CreateImageResponse><imageId>ami-1</imageId></CreateImageResponse>`)
	case "CreateTags":
		fmt.Fprint(w, `<CreateTagsResponse><return>true</return></CreateTagsResponse>`)
	case "DescribeRegions":
		fmt.Fprint(w, `<DescribeRegionsResponse><regionInfo/></DescribeRegionsResponse>`)
	case "TerminateInstances":
		fail(w, 403, "UnauthorizedOperation", "You are not authorized. Encoded authorization failure message: abcdefghijklmnopqrstuvwxyz")
	default:
		fail(w, 400, "InvalidAction", action)
	}
}

func (s *stand) vault(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("X-Vault-Token") != "hvs.1" {
		w.WriteHeader(403)
		fmt.Fprint(w, `{"errors":["permission denied"]}`)
		return
	}
	if r.URL.Path != "/v1/cloud/creds/baker" || r.URL.Query().Get("ttl") != "1h" {
		w.WriteHeader(404)
		fmt.Fprint(w, `{"errors":["no such role"]}`)
		return
	}
	s.keys["AKIAVAULT"] = "arn:aws:iam::111122223333:user/vault"
	_ = json.NewEncoder(w).Encode(map[string]any{
		"lease_duration": 3600, "data": map[string]any{"access_key": "AKIAVAULT", "secret_key": "s", "security_token": nil},
	})
}

func fail(w http.ResponseWriter, status int, code, msg string) {
	w.WriteHeader(status)
	// STS and EC2 wrap their errors differently; a reader takes what it knows.
	fmt.Fprintf(w, `<Response><Errors><Error><Code>%[1]s</Code><Message>%[2]s</Message></Error></Errors>`+
		`<Error><Code>%[1]s</Code><Message>%[2]s</Message></Error><RequestId>req-7</RequestId><RequestID>req-7</RequestID></Response>`, code, msg)
}

func (s *stand) count(call string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.calls {
		if strings.HasPrefix(c, call) {
			n++
		}
	}
	return n
}

func user() Config {
	return Config{AccessKey: "AKIAUSER", SecretKey: secret.New("s"), Region: "eu-west-1"}
}
