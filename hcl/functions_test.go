package hcl

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/zclconf/go-cty/cty"
)

// A sample is one good call of a function.
type sample struct {
	args string // expressions, separated by " | "
	// null are the arguments that null is good for, "1 3"; lazy those that the
	// result does not need here, though they are not known; and plain those
	// that the result is not sensitive by.
	null, lazy, plain string
}

// samples has every function.
var samples = map[string]sample{
	"abs": {args: "-1"}, "ceil": {args: "1.5"}, "floor": {args: "1.5"}, "log": {args: "8 | 2"}, "max": {args: "1 | 2"}, "min": {args: "1 | 2"},
	"parseint": {args: `"ff" | 16`}, "pow": {args: "2 | 3"}, "signum": {args: "-4"}, "sum": {args: "[1, 2]"},
	"chomp": {args: `"a\n"`}, "format": {args: `"%s" | "a"`}, "formatlist": {args: `"%s" | ["a"]`}, "indent": {args: `2 | "a\nb"`},
	"join": {args: `"," | ["a"]`}, "lower": {args: `"A"`}, "upper": {args: `"a"`}, "title": {args: `"a"`}, "trim": {args: `"-a-" | "-"`},
	"trimprefix": {args: `"ab" | "a"`}, "trimspace": {args: `" a"`}, "trimsuffix": {args: `"ab" | "b"`}, "replace": {args: `"a" | "a" | "b"`},
	"regex": {args: `"a" | "a"`}, "regexall": {args: `"a" | "a"`}, "regex_replace": {args: `"a" | "a" | "b"`}, "split": {args: `"," | "a,b"`},
	"startswith": {args: `"ab" | "a"`}, "endswith": {args: `"ab" | "b"`}, "strcontains": {args: `"ab" | "b"`}, "strrev": {args: `"ab"`}, "substr": {args: `"abc" | 0 | 1`},
	"alltrue": {args: "[true]"}, "anytrue": {args: "[true]"}, "chunklist": {args: `["a", "b"] | 1`}, "coalesce": {args: `"a" | "b"`, null: "1 2", lazy: "2"},
	"coalescelist": {args: `["a"] | ["b"]`, lazy: "2"}, "compact": {args: `["a", ""]`}, "concat": {args: `["a"] | ["b"]`}, "contains": {args: `["a"] | "a"`, null: "2"},
	"distinct": {args: `["a", "a"]`}, "element": {args: `["a"] | 0`}, "flatten": {args: `[["a"]]`}, "index": {args: `["a"] | "a"`}, "keys": {args: `{a = 1}`},
	"length": {args: `["a"]`}, "lookup": {args: `{a = "x"} | "a" | "d"`, plain: "3"}, "merge": {args: `{a = 1} | {b = 2}`, null: "1 2"}, "range": {args: "3"},
	"reverse": {args: `["a"]`}, "setintersection": {args: `["a"] | ["a"]`}, "setproduct": {args: `["a"] | ["b"]`}, "setunion": {args: `["a"] | ["b"]`},
	"slice": {args: `["a", "b"] | 0 | 1`}, "sort": {args: `["b", "a"]`}, "values": {args: `{a = 1}`}, "zipmap": {args: `["a"] | ["b"]`},
	"base64decode": {args: `"aGk="`}, "base64encode": {args: `"hi"`}, "base64gzip": {args: `"hi"`}, "csvdecode": {args: `"a\n1\n"`}, "jsondecode": {args: `"[1]"`},
	"jsonencode": {args: `{a = 1}`, null: "1"}, "textdecodebase64": {args: `"aGk=" | "UTF-8"`}, "textencodebase64": {args: `"hi" | "UTF-8"`}, "urlencode": {args: `"a b"`},
	"yamldecode": {args: `"a: 1"`}, "yamlencode": {args: `{a = 1}`, null: "1"},
	"abspath": {args: `"a"`}, "basename": {args: `"a/b"`}, "dirname": {args: `"a/b"`}, "file": {args: `"a.txt"`}, "filebase64": {args: `"a.txt"`},
	"fileexists": {args: `"a.txt"`}, "fileset": {args: `"." | "*.txt"`}, "pathexpand": {args: `"~/a"`}, "templatefile": {args: `"t.tpl" | {x = "a"}`},
	"formatdate": {args: `"YYYY" | "2024-02-29T13:04:05Z"`}, "timeadd": {args: `"2024-02-29T13:04:05Z" | "1h"`}, "timestamp": {}, "legacy_isotime": {args: `"2006"`},
	"legacy_strftime": {args: `"%Y"`}, "rfc3339_parse": {args: `"2024-02-29T13:04:05Z"`}, "unix_timestamp_parse": {args: "0"},
	"bcrypt": {args: `"x" | 4`}, "md5": {args: `"x"`}, "sha1": {args: `"x"`}, "sha256": {args: `"x"`}, "sha512": {args: `"x"`},
	"rsadecrypt": {args: `"aGk=" | "k"`}, "uuidv4": {}, "uuidv5": {args: `"dns" | "a"`},
	"cidrhost": {args: `"10.0.0.0/8" | 1`}, "cidrnetmask": {args: `"10.0.0.0/8"`}, "cidrsubnet": {args: `"10.0.0.0/8" | 8 | 1`}, "cidrsubnets": {args: `"10.0.0.0/8" | 8`},
	"can": {args: `"x"`, null: "1", plain: "1"}, "convert": {args: `"x" | string`, null: "1"}, "try": {args: `"x" | "y"`, null: "1 2", lazy: "2", plain: "2"},
	"aws_secretsmanager": {args: `"db" | "pw"`, null: "2"}, "aws_secretsmanager_raw": {args: `"db"`},
	"vault": {args: `"a" | "b"`}, "consul_key": {args: `"a"`},
}

// failing are those that nothing here makes succeed: no store answers, and
// the key is none.
var failing = map[string]string{"vault": "VAULT_TOKEN", "consul_key": "no consul here", "rsadecrypt": "decrypt"}

func functionScope(t *testing.T) Scope {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"a.txt": "hello", "t.tpl": "${x}"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	tmpl := &Template{names: &names{}, Root: ".", in: Inputs{
		Cwd: dir, Version: "1.16.0", Now: startTime, Env: []string{"HOME=/home/x", "CONSUL_HTTP_ADDR=unix:///no consul here"},
		SecretsManager: func(_ context.Context, name string) (string, error) {
			if name == "db" {
				return `{"user": "root", "pw": "x"}`, nil
			}
			return "", errors.New("there is no secret " + name)
		},
	}}
	s := tmpl.rootScope(context.Background())
	return s.With("unk", cty.DynamicVal)
}

// TestEveryFunction calls each with a good argument, and with each argument
// in turn null, unknown and sensitive.
func TestEveryFunction(t *testing.T) {
	s := functionScope(t)
	have := s.ctxFunctions()
	for name := range have {
		if _, ok := samples[name]; !ok {
			t.Errorf("%s has no sample", name)
		}
	}
	if len(have) != 103 {
		t.Errorf("there are %d functions", len(have))
	}
	for name, c := range samples {
		if _, ok := have[name]; !ok {
			t.Errorf("%s does not exist", name)
			continue
		}
		var args []string
		if c.args != "" {
			args = strings.Split(c.args, " | ")
		}
		call := func(i int, arg string) string {
			list := append([]string(nil), args...)
			if i >= 0 {
				list[i] = arg
			}
			return name + "(" + strings.Join(list, ", ") + ")"
		}
		v, l := s.Eval(call(-1, ""))
		if want, bad := failing[name]; bad {
			if !l.HasErrors() || !strings.Contains(l.Err().Error(), want) {
				t.Errorf("%s: %v, want %q", call(-1, ""), l.Err(), want)
			}
		} else if l.HasErrors() || !v.IsWhollyKnown() || v.IsNull() {
			t.Errorf("%s: %#v %v", call(-1, ""), v, l.Err())
		}
		for i, arg := range args {
			n := string(rune('1' + i))
			if name == "convert" && i == 1 {
				continue // a type, no value
			}
			if _, l := s.Eval(call(i, "null")); l.HasErrors() == strings.Contains(c.null, n) {
				t.Errorf("%s: null accepted: %v (%v)", call(i, "null"), !l.HasErrors(), l.Err())
			}
			lazy := strings.Contains(c.lazy, n)
			v, l := s.Eval(call(i, "unk"))
			if l.HasErrors() && failing[name] == "" || !l.HasErrors() && v.IsWhollyKnown() != lazy {
				t.Errorf("%s: %#v %v", call(i, "unk"), v, l.Err())
			}
			plain := strings.Contains(c.plain, n)
			v, l = s.With("sec", MarkSensitive(mustEval(t, s, arg))).Eval(call(i, "sec"))
			if failing[name] == "" && (l.HasErrors() || v.ContainsMarked() == plain) {
				t.Errorf("%s: sensitive %v, %v", call(i, "sec"), v.ContainsMarked(), l.Err())
			}
		}
	}
}

func mustEval(t *testing.T, s Scope, expr string) cty.Value {
	t.Helper()
	v, l := s.Eval(expr)
	if l.HasErrors() {
		t.Fatalf("%s: %v", expr, l.Err())
	}
	return v
}

// ctxFunctions are the names of the functions in scope.
func (s Scope) ctxFunctions() map[string]bool {
	out := map[string]bool{}
	for c := s.ctx; c != nil; c = c.Parent() {
		for name := range c.Functions {
			out[name] = true
		}
	}
	return out
}

func TestSecretsManagerFunctions(t *testing.T) {
	s := functionScope(t)
	for expr, want := range map[string]string{
		`aws_secretsmanager("db", "pw")`: `{"sensitive":"x"}`,
		`aws_secretsmanager("db", null)`: `{"sensitive":"root"}`,
		`aws_secretsmanager("db", "")`:   `{"sensitive":"root"}`,
		`aws_secretsmanager_raw("db")`:   `{"sensitive":"{\"user\": \"root\", \"pw\": \"x\"}"}`,
	} {
		v, l := s.Eval(expr)
		if got := string(show(v)); l.HasErrors() || got != want {
			t.Errorf("%s is %s, want %s (%v)", expr, got, want, l.Err())
		}
	}
	for expr, want := range map[string]string{
		`aws_secretsmanager("none", null)`: "there is no secret none",
		`aws_secretsmanager("db", "zz")`:   `has no key "zz"`,
		`aws_secretsmanager("db")`:         `Missing value for "key"`,
		`aws_secretsmanager_raw(null)`:     "must not be null",
	} {
		if _, l := s.Eval(expr); !l.HasErrors() || !strings.Contains(l.Err().Error(), want) {
			t.Errorf("%s: %v, want %q", expr, l.Err(), want)
		}
	}
	none := evalScope(t, t.TempDir())
	if _, l := none.Eval(`aws_secretsmanager_raw("db")`); !l.HasErrors() || !strings.Contains(l.Err().Error(), "cannot be asked here") {
		t.Errorf("%v", l.Err())
	}
}
