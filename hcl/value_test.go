package hcl

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/internal/secret"
)

type output struct {
	ID     string            `hcl:"id"`
	Size   int64             `hcl:"size"`
	Ready  *bool             `hcl:"ready"`
	Token  secret.String     `hcl:"token"`
	Wait   time.Duration     `hcl:"wait"`
	Names  []string          `hcl:"names"`
	Tags   map[string]string `hcl:"tags"`
	Disks  []outputDisk      `hcl:"disk,block"`
	When   time.Time         `hcl:"when"`
	hidden int
}

type outputDisk struct {
	Device string `hcl:"device"`
}

func TestValueOf(t *testing.T) {
	yes := true
	out := &output{
		ID: "i", Size: 5, Ready: &yes, Token: secret.New("tok"), Wait: time.Minute, Names: []string{"a"},
		Disks: []outputDisk{{"sda"}}, When: startTime, hidden: 1,
	}
	v := ValueOf(out)
	if !v.Type().Equals(TypeOf(output{})) {
		t.Errorf("type %#v, want %#v", v.Type(), TypeOf(output{}))
	}
	if got := string(show(v)); got != `{"sensitive":{"disk":[{"device":"sda"}],"id":"i","names":["a"],"ready":true,"size":5,"tags":{},"token":"tok","wait":"1m0s","when":"2024-02-29T13:04:05Z"}}` {
		t.Error(got)
	}
	if IsSensitive(v.GetAttr("id")) || !IsSensitive(v.GetAttr("token")) {
		t.Error("not the secret alone is sensitive")
	}
	if empty := ValueOf(output{}); !empty.Type().Equals(v.Type()) || !empty.GetAttr("ready").IsNull() {
		t.Errorf("empty: %#v", empty)
	}
	if ValueOf(nil).Type() != cty.DynamicPseudoType || TypeOf(nil) != cty.DynamicPseudoType {
		t.Error("nil")
	}
}

func TestFormatFile(t *testing.T) {
	got, l := FormatFile([]byte("a=1\nlonger   = [ 1,2 ]\nb {\nc=\"x\"\n}\n"), "x.pkr.hcl")
	if want := "a      = 1\nlonger = [1, 2]\nb {\n  c = \"x\"\n}\n"; len(l) != 0 || string(got) != want {
		t.Errorf("%v %q", l, got)
	}
	again, _ := FormatFile(got, "x.pkr.hcl")
	if string(again) != string(got) {
		t.Error("not stable")
	}
	got, l = FormatFile([]byte("a = {\n"), "x.pkr.hcl")
	if !l.HasErrors() || string(got) != "a = {\n" || l[0].Subject.Filename != "x.pkr.hcl" {
		t.Errorf("%v %q", l, got)
	}
}

func TestSuggest(t *testing.T) {
	known := []string{"amazon-ebs", "amazon-ebssurrogate", "qemu", "null", "tags"}
	for given, want := range map[string]string{
		"amazon-eb": "amazon-ebs", "amazn-ebs": "amazon-ebs", "quemu": "qemu", "Null": "null", "virtualbox": "", "x": "", "tag": "tags",
	} {
		if got := Suggest(given, known); got != want {
			t.Errorf("Suggest(%q) is %q, want %q", given, got, want)
		}
	}
}

// TestFunctionList holds the functions to the list of the language.
func TestFunctionList(t *testing.T) {
	const list = `abs ceil floor log max min parseint pow signum sum
chomp format formatlist indent join lower upper title trim trimprefix trimspace trimsuffix replace regex regexall
regex_replace split startswith endswith strcontains strrev substr
alltrue anytrue chunklist coalesce coalescelist compact concat contains distinct element flatten index keys length
lookup merge range reverse setintersection setproduct setunion slice sort values zipmap
base64decode base64encode base64gzip csvdecode jsondecode jsonencode textdecodebase64 textencodebase64 urlencode
yamldecode yamlencode
abspath basename dirname file filebase64 fileexists fileset pathexpand templatefile
formatdate timeadd timestamp legacy_isotime legacy_strftime rfc3339_parse unix_timestamp_parse
bcrypt md5 sha1 sha256 sha512 rsadecrypt uuidv4 uuidv5
cidrhost cidrnetmask cidrsubnet cidrsubnets
can convert try
aws_secretsmanager aws_secretsmanager_raw consul_key vault`
	want := strings.Fields(list)
	sort.Strings(want)
	got := sortedKeys(functions(funcEnv{}))
	if strings.Join(got, " ") != strings.Join(want, " ") {
		t.Errorf("functions are\n%s\nwant\n%s", got, want)
	}
}

func TestRSADecrypt(t *testing.T) {
	s := evalScope(t, t.TempDir())
	if _, l := s.Eval(`rsadecrypt("x", "y")`); !l.HasErrors() {
		t.Error("nonsense was decrypted")
	}
}

func TestTimestampIsNow(t *testing.T) {
	s := evalScope(t, t.TempDir())
	before := time.Now().Add(-time.Second)
	v, l := s.Eval("timestamp()")
	if l.HasErrors() {
		t.Fatal(l.Err())
	}
	got, err := time.Parse(time.RFC3339, v.AsString())
	if err != nil || got.Before(before.Truncate(time.Second)) || got.After(time.Now()) {
		t.Errorf("%v %v", v, err)
	}
}

func TestVaultAndConsul(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := map[string]string{
			"/v1/secret/data/app": `{"data": {"data": {"pw": "v2-secret", "n": 5}, "metadata": {}}}`,
			"/v1/kv/app":          `{"data": {"pw": "v1-secret"}}`,
			"/v1/kv/some/key":     "from consul",
			"/v1/kv/empty":        "",
			"/v1/kv/garbage":      "garbage",
		}
		vault := r.Header.Get("X-Vault-Token") == "tok"
		consul := r.Header.Get("X-Consul-Token") == "ctok" && r.URL.RawQuery == "raw"
		text, ok := answer[r.URL.Path]
		switch {
		case !vault && !consul:
			w.WriteHeader(http.StatusForbidden)
		case !ok:
			w.WriteHeader(http.StatusNotFound)
		default:
			_, _ = w.Write([]byte(text))
		}
	}))
	defer srv.Close()
	s := evalScope(t, t.TempDir(), "VAULT_TOKEN=tok", "VAULT_ADDR="+srv.URL, "CONSUL_HTTP_ADDR="+strings.TrimPrefix(srv.URL, "http://"), "CONSUL_HTTP_TOKEN=ctok")
	for expr, want := range map[string]string{
		`vault("secret/data/app", "pw")`: `{"sensitive":"v2-secret"}`,
		`vault("/secret/data/app", "n")`: `{"sensitive":"5"}`,
		`vault("kv/app", "pw")`:          `{"sensitive":"v1-secret"}`,
		`consul_key("some/key")`:         `"from consul"`,
	} {
		v, l := s.Eval(expr)
		if got := string(show(v)); l.HasErrors() || got != want {
			t.Errorf("%s is %s, want %s (%v)", expr, got, want, l.Err())
		}
	}
	for expr, want := range map[string]string{
		`vault("secret/data/app", "nope")`: "its keys are: n, pw",
		`vault("nothing", "x")`:            "has nothing at",
		`vault("kv/garbage", "x")`:         "not understood",
		`consul_key("empty")`:              "is empty",
	} {
		if _, l := s.Eval(expr); !l.HasErrors() || !strings.Contains(l.Err().Error(), want) {
			t.Errorf("%s: %v, want %q", expr, l.Err(), want)
		}
	}
	denied := evalScope(t, t.TempDir(), "VAULT_TOKEN=wrong", "VAULT_ADDR="+srv.URL)
	if _, l := denied.Eval(`vault("kv/app", "pw")`); !l.HasErrors() || strings.Contains(l.Err().Error(), "wrong") {
		t.Errorf("denied: %v", l.Err())
	}
}

func TestExtraFunctions(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "t.tpl"), []byte("${shout(x)}"), 0o644); err != nil {
		t.Fatal(err)
	}
	tmpl, l := load(t, Inputs{Path: "a.pkr.hcl", Functions: functionsOf("shout")}, map[string]string{
		"a.pkr.hcl": `locals { x = "${shout("a")}-${templatefile("` + dir + `/t.tpl", { x = "b" })}" }`,
	})
	if l.HasErrors() || tmpl.Locals[0].Value.AsString() != "A!-B!" {
		t.Errorf("%v %#v", l, tmpl.Locals[0].Value)
	}
}

func TestConsoleWithoutATemplate(t *testing.T) {
	tmpl, l := Load(t.Context(), Inputs{Cwd: t.TempDir(), Version: "1.16.0"})
	if len(l) != 0 {
		t.Fatal(l.Err())
	}
	v, l := tmpl.Scope().Eval(`"${packer.version}-${upper("x")}"`)
	if len(l) != 0 || v.AsString() != "1.16.0-X" {
		t.Errorf("%#v %v", v, l)
	}
	if _, l := (Scope{}).Eval("1 + nope"); !l.HasErrors() {
		t.Error("the empty scope knows a name")
	}
}
