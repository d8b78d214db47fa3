package faults

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"
)

const id = "i-0123456789abcdef0"

// A counter is a service that counts its effects and answers with an id.
type counter struct{ effects atomic.Int64 }

func serve(t *testing.T, i *Injector) (call func(action string) (status int, err error), c *counter) {
	t.Helper()
	c = &counter{}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		action := r.URL.Query().Get("Action")
		i.Serve(w, r, Call{Service: "ec2", Action: action, Region: "eu-west-1"}, r.URL.Query().Get("Id"),
			func(w http.ResponseWriter, status int, code, _ string) { http.Error(w, code, status) },
			func(w http.ResponseWriter) {
				c.effects.Add(1)
				fmt.Fprint(w, id)
			})
	}))
	t.Cleanup(srv.Close)
	client := srv.Client()
	client.Transport = &http.Transport{DisableKeepAlives: true}
	return func(query string) (int, error) {
		resp, err := client.Post(srv.URL+"/?Action="+query, "text/plain", nil) // a POST is not sent again
		if err != nil {
			return 0, err
		}
		defer resp.Body.Close()
		_, err = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode, err
	}, c
}

func TestRules(t *testing.T) {
	for _, c := range []struct {
		rule    Rule
		status  int // 0: no answer
		effects int64
	}{
		{Rule{Kind: Throttle}, 503, 0},
		{Rule{Kind: Fail, Code: "Unsupported", Status: 400}, 400, 0},
		{Rule{Kind: Lost}, 0, 1},
		{Rule{Kind: Broken}, 500, 1},
		{Rule{Kind: Down}, 0, 0},
		{Rule{Kind: Slow, Delay: time.Nanosecond}, 200, 1},
		{Rule{Kind: Down, Region: "us-*"}, 200, 1},
		{Rule{Kind: Down, Action: "Describe*"}, 200, 1},
		{Rule{Kind: Down, Action: "Run*", Service: "ec2"}, 0, 0},
	} {
		i := New("")
		if err := i.Set(c.rule); err != nil {
			t.Fatal(err)
		}
		call, n := serve(t, i)
		status, err := call("RunInstances")
		if status != c.status || n.effects.Load() != c.effects || (err != nil) != (c.status == 0) {
			t.Errorf("%+v: %d, %v, %d effects", c.rule, status, err, n.effects.Load())
		}
	}
}

func TestCounts(t *testing.T) {
	i := New("")
	if err := i.Set(Rule{Kind: Throttle, Skip: 1, Count: 2}); err != nil {
		t.Fatal(err)
	}
	call, _ := serve(t, i)
	for n, want := range []int{200, 503, 503, 200, 200} {
		if got, err := call("RunInstances"); got != want || err != nil {
			t.Errorf("call %d: %d, %v, want %d", n, got, err, want)
		}
	}
}

func TestStale(t *testing.T) {
	i := New("")
	if err := i.Set(Rule{Kind: Stale, Action: "RunInstances", Delay: time.Hour}); err != nil {
		t.Fatal(err)
	}
	call, n := serve(t, i)
	if got, _ := call("RunInstances"); got != 200 {
		t.Fatal(got)
	}
	if got, _ := call("DescribeInstances&Id=" + id); got != 400 || n.effects.Load() != 1 {
		t.Errorf("a new id is known at once: %d", got)
	}
	if got, _ := call("DescribeInstances"); got != 200 {
		t.Error(got)
	}
}

func TestFolder(t *testing.T) {
	dir := t.TempDir()
	i := New(dir)
	call, _ := serve(t, i)
	if got, _ := call("X"); got != 200 {
		t.Error(got)
	}
	if err := Save(dir, []Rule{{ID: "a", Kind: Throttle}}); err != nil {
		t.Fatal(err)
	}
	if got, _ := call("X"); got != 503 {
		t.Errorf("%d: the folder's rules are not followed", got)
	}
	if err := Save(dir, []Rule{{Kind: "odd"}}); err == nil {
		t.Error("an unknown kind was saved")
	}
	if rules, err := Load(dir); err != nil || len(rules) != 1 {
		t.Error(rules, err)
	}
}
