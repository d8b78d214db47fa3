package amazon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
)

func TestMain(m *testing.M) {
	if filepath.Base(os.Args[0]) == sessionPlugin {
		if err := plugin(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	// The settings of whoever runs the tests are not those of the tests.
	for _, e := range os.Environ() {
		if name, _, _ := strings.Cut(e, "="); strings.HasPrefix(name, "AWS_") {
			_ = os.Unsetenv(name)
		}
	}
	os.Exit(m.Run())
}

// say runs a command in a guest.
func say(ctx context.Context, g communicator.Guest, line string) (string, error) {
	var out bytes.Buffer
	err := g.Run(ctx, communicator.Cmd{Line: line, Stdout: &out, Stderr: &out})
	return strings.TrimSpace(out.String()), err
}

// The timer of dead_man is set while the build runs and gone before the image
// is made.
func TestDeadMan(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	b := g.must(t, baking{typ: typeEBS, more: "dead_man = \"1h\"", provision: func(ctx context.Context, guest communicator.Guest) error {
		text, err := say(ctx, guest, "cat timers/"+deadManUnit)
		if err != nil || text != "systemctl poweroff" {
			return fmt.Errorf("no timer: %q: %w", text, err)
		}
		return nil
	}})
	b.s.want(t, "The instance shuts itself down in 1h0m0s", "the timer of dead_man is gone")
}

// An instance that nobody comes back for ends itself.
func TestDeadManFires(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	before := g.census(t)
	var instance string
	b := g.bake(t, baking{
		typ: typeEBS, more: "dead_man = \"1h\"",
		tune: func(m *machine) { m.run.DeadMan = time.Second },
		provision: func(ctx context.Context, guest communicator.Guest) error {
			instance = guest.Data.ID
			return g.until(ctx, instance, "terminated")
		},
	})
	ok(t, b.discard)
	wantText(t, "the build", b.err, "Instance initiated shutdown: there is nothing to make an image of")
	g.nothingBut(t, before, b.set)
}

// until waits for a state of an instance.
func (g *rig) until(ctx context.Context, id, state string) error {
	return g.cloud.Await(ctx, home, func(tx *localcloud.Tx) (bool, error) {
		i, _, err := localcloud.Get[localcloud.Instance](tx, id)
		return i.State == state, err
	})
}

// With disable_stop_instance the last provisioner shuts the guest down.
func TestDisableStop(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	for _, typ := range []string{typeEBS, typeVolume} {
		more := "disable_stop_instance = true\n"
		if typ == typeVolume {
			more += ownVolume
		}
		before := len(g.cloud.Calls())
		g.must(t, baking{typ: typ, more: more, provision: func(ctx context.Context, guest communicator.Guest) error {
			_, err := say(ctx, guest, "sudo shutdown -h now")
			var exit *communicator.ExitError
			if errors.As(err, &exit) {
				return err
			}
			return nil // the guest may be gone before it answers
		}})
		for _, call := range g.cloud.Calls()[before:] {
			if call == "ec2:StopInstances" {
				t.Errorf("%s: the instance was stopped from outside", typ)
			}
		}
	}
}

// The password of Windows is waited for and opened with the temporary key,
// which is an RSA key then.
func TestGetPassword(t *testing.T) {
	t.Parallel()
	g := newRig(t)
	g.windows(t)
	info := builder.Info{Name: "a", Type: typeEBS, Build: typeEBS + ".a", RunID: "run-windows"}
	j, err := journal.Create(filepath.Join(t.TempDir(), "run"), time.Now, journal.Header{Run: info.RunID, Builds: []string{info.Build}})
	ok(t, err)
	defer j.Close()
	m := opener{version: "test", start: time.Now(), at: g.at}.any(t, typeEBS, g.options(typeEBS, "windows", ""), info)
	b := m.steps()
	connect := b.Connect
	b.Connect = func(ctx context.Context, r *builder.Run, s *state) (communicator.Guest, error) {
		c, err := m.in(ctx, "")
		if err != nil {
			return communicator.Guest{}, err
		}
		for range 2 { // once it is known it is not asked for again
			password, err := m.windowsPassword(ctx, c, r, s)
			if err != nil || !strings.HasPrefix(password.Reveal(), "aA1!") {
				t.Errorf("the password has %d characters, %v", len(password.Reveal()), err)
			}
		}
		return connect(ctx, r, s)
	}
	before := len(g.cloud.Calls())
	r := builder.NewRun(info, t.TempDir(), event.Discard, j, nil)
	ctx := cloudtest.Context(t)
	guest, err := b.Boot(ctx, r)
	if err == nil {
		_ = guest.Close()
	}
	ok(t, errors.Join(err, b.Discard(ctx, r)))
	if n := strings.Count(strings.Join(g.cloud.Calls()[before:], " "), "GetPasswordData"); n == 0 || n > 100 {
		t.Errorf("%d calls", n)
	}
}

// A sessionManager answers for the Session Manager in front of a local cloud,
// which has none.
type sessionManager struct {
	g     *rig
	t     *testing.T
	cloud http.Handler

	mu    sync.Mutex
	asked int
	open  map[string]bool // sessions
}

func (s *sessionManager) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	_, action, _ := strings.Cut(r.Header.Get("X-Amz-Target"), ".")
	switch action {
	case "StartSession", "TerminateSession":
	default:
		s.cloud.ServeHTTP(w, r)
		return
	}
	var in struct {
		Target, DocumentName, SessionId string
		Parameters                      map[string][]string
	}
	if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	s.mu.Lock()
	defer s.mu.Unlock()
	if action == "TerminateSession" {
		delete(s.open, in.SessionId)
		_, _ = fmt.Fprintf(w, `{"SessionId":%q}`, in.SessionId)
		return
	}
	if s.asked++; s.asked == 1 { // the agent has not reported yet
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, `{"__type":"TargetNotConnected","message":"not connected"}`)
		return
	}
	if in.DocumentName != sessionDocument || len(in.Parameters["portNumber"]) != 1 || in.Parameters["portNumber"][0] != "22" {
		s.t.Errorf("a session of another kind: %+v", in)
	}
	to, err := s.dig(r.Context(), in.Target)
	if err != nil {
		s.t.Error(err)
	}
	id := fmt.Sprint("session-", s.asked)
	s.open[id] = true
	_ = json.NewEncoder(w).Encode(map[string]string{"SessionId": id, "StreamUrl": to, "TokenValue": "s3cret-token"})
}

// dig finds a way to the guest where none is open: the agent's own.
func (s *sessionManager) dig(ctx context.Context, instance string) (string, error) {
	all, err := s.g.cloud.Instances(ctx, home, []string{instance})
	if err != nil {
		return "", err
	}
	i := all[0]
	to := net.JoinHostPort(i.PublicIP, fmt.Sprint(i.SSHPort))
	if conn, err := net.Dial("tcp", to); err == nil {
		return "", errors.Join(errors.New("port 22 is open although the session is the way"), conn.Close())
	}
	c := cloud{s.g.sess.EC2(home), s.g.sess}
	return to, (&machine{}).openPort(ctx, c, i.SecurityGroups[0], 22, []string{"127.0.0.1/32"})
}

// plugin is AWS's program: it leads a port here to the end of a session.
func plugin(args []string) error {
	var answer struct{ SessionId, StreamUrl, TokenValue string }
	if err := json.Unmarshal([]byte(os.Getenv(args[0])), &answer); err != nil {
		return err
	}
	var in struct{ Parameters map[string][]string }
	if err := json.Unmarshal([]byte(args[4]), &in); err != nil {
		return err
	}
	if args[2] != "StartSession" || answer.TokenValue != "s3cret-token" || strings.Contains(strings.Join(args, " "), answer.TokenValue) {
		return fmt.Errorf("not called as the plugin is: %q", args)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:"+in.Parameters["localPortNumber"][0])
	if err != nil {
		return err
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			far, err := net.Dial("tcp", answer.StreamUrl)
			if err != nil {
				return
			}
			defer far.Close()
			go func() { _, _ = io.Copy(far, conn); _ = far.Close() }()
			_, _ = io.Copy(conn, far)
		}()
	}
}

func TestSessionManager(t *testing.T) {
	g := newRig(t)
	to, err := url.Parse(g.cloud.URL)
	ok(t, err)
	s := &sessionManager{g: g, t: t, cloud: httputil.NewSingleHostReverseProxy(to), open: map[string]bool{}}
	srv := httptest.NewServer(s)
	t.Cleanup(srv.Close)
	g.at = locate(srv.URL, g.cloud.Key.AccessKey, g.cloud.Key.Secret)
	const more = "ssh_interface = \"session_manager\"\n" + ownProfile

	t.Setenv("PATH", t.TempDir())
	g.fails(t, baking{typ: typeEBS, more: more}, "needs the program session-manager-plugin")

	self, err := os.Executable()
	ok(t, err)
	bin := t.TempDir()
	ok(t, os.Symlink(self, filepath.Join(bin, sessionPlugin)))
	t.Setenv("PATH", bin+":/usr/bin:/bin:/usr/sbin:/sbin")
	b := g.must(t, baking{typ: typeEBS, more: more})
	b.s.want(t, "Starting a session to instance", "at 127.0.0.1:")
	if len(s.open) != 0 || s.asked != 2 {
		t.Errorf("asked %d times, open: %v", s.asked, s.open)
	}
	if strings.Contains(b.s.all(), "s3cret-token") {
		t.Error("the session's token was told")
	}

	// A plugin that ends says why, and the session is ended.
	ok(t, os.Remove(filepath.Join(bin, sessionPlugin)))
	ok(t, os.WriteFile(filepath.Join(bin, sessionPlugin), []byte("#!/bin/sh\necho it is too old >&2\nexit 3\n"), 0o700))
	g.fails(t, baking{typ: typeEBS, more: more}, "(exit status 3): it is too old")
	ok(t, os.WriteFile(filepath.Join(bin, sessionPlugin), []byte("#!/no/such/program\n"), 0o700))
	g.fails(t, baking{typ: typeEBS, more: more}, "session-manager-plugin: ")
	if len(s.open) != 0 {
		t.Errorf("open: %v", s.open)
	}
}

// Where a port of an instance of the local cloud cannot be itself, it is found
// where it is.
func TestLocalPort(t *testing.T) {
	t.Parallel()
	ctx := cloudtest.Context(t)
	const host = "127.83.12.7"
	ln, err := net.Listen("tcp", host+":0") // a port that the system chooses is far above localShift
	ok(t, err)
	defer ln.Close()
	there := ln.Addr().(*net.TCPAddr).Port
	port := there - localShift
	for host, want := range map[string]int{host: there, "127.0.0.1": port, "192.0.2.1": port, "localhost": port, "127.83.12.8": port} {
		if got := localPort(ctx, host, port); got != want {
			t.Errorf("%s: %d, want %d", host, got, want)
		}
	}
}
