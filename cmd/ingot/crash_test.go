package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/builtin"
	"github.com/ingot-build/ingot/internal/cli"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/machine"
	"github.com/ingot-build/ingot/internal/localcloud/server"
)

const (
	// dieVar makes the command "ingot-mortal" kill itself before it writes the
	// so many-th record of a journal.
	dieVar = "INGOT_TEST_DIE_AT"
	// allVar asks for every point instead of some.
	allVar = "INGOT_TEST_ALL_CRASHES"
	// matrixTime bounds one process of the matrix.
	matrixTime = 5 * time.Minute
)

// mortal is ingot, until it dies: a journal asks for the time once for each
// record, before it writes it.
func mortal() {
	at, _ := strconv.Atoi(os.Getenv(dieVar))
	ctx, later, stop := cli.Signals(context.Background())
	defer stop()
	streams, err := cli.StreamsOf(os.Stdin, os.Stdout, os.Stderr, os.Environ(), "test")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	streams.Interrupts = later
	var mu sync.Mutex
	n := 0
	streams.Now = func() time.Time {
		if isAppend() {
			mu.Lock()
			defer mu.Unlock()
			if n++; n == at {
				_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
				select {} // until it is dead
			}
		}
		return time.Now()
	}
	os.Exit(cli.Main(ctx, streams, builtin.All, os.Args[1:]))
}

// isAppend reports whether a journal is writing a record.
func isAppend() bool {
	pcs := make([]uintptr, 8)
	frames := runtime.CallersFrames(pcs[:runtime.Callers(2, pcs)])
	for {
		f, more := frames.Next()
		if strings.HasSuffix(f.Function, "journal.(*Journal).Append") {
			return true
		}
		if !more {
			return false
		}
	}
}

// A matrix kills builds of a whole image with two copies, each at another
// point, and has what they left finished or removed.
type matrix struct {
	t     *testing.T
	cloud *localcloud.Cloud
	dir   string // of the cloud
	work  string // with the template
	base  map[string]string

	mu    sync.Mutex
	quiet sync.Cond // no call is being served
	open  int       // calls that are
	armed bool
	calls int           // of the child that is watched
	at    int           // it is killed at this one; 0: never
	after bool          // the call has its effect, and the answer is lost
	child *os.Process   // that is watched
	dead  chan struct{} // closed when it is
}

func (x *matrix) saw(string, string, string) {
	x.mu.Lock()
	x.open++
	if x.armed {
		x.calls++
	}
	hit := x.armed && x.calls == x.at
	child, dead, after := x.child, x.dead, x.after
	if hit {
		x.armed = false
	}
	x.mu.Unlock()
	if !hit {
		return
	}
	_ = child.Kill()
	<-dead
	if !after {
		panic(http.ErrAbortHandler) // the call never arrived
	}
}

func (x *matrix) served() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.open--; x.open == 0 {
		x.quiet.Broadcast()
	}
}

const matrixTemplate = `
variable "name" {}
source "TYPE" "web" {
  region        = "us-east-1"
  ami_regions   = ["eu-west-1", "us-west-2"]
  ami_name      = var.name
  instance_type = "t3.micro"
  ssh_username  = "admin"
  source_ami_filter {
    filters     = { name = "debian-12-amd64-*" }
    owners      = ["136693071363"]
    most_recent = true
  }
  MORE
}
build {
  sources = ["source.TYPE.web"]
  provisioner "shell" { inline = ["echo in the guest", "EXIT"] }
}
`

const matrixSurrogate = `
  ami_virtualization_type = "hvm"
  launch_block_device_mappings {
    device_name           = "/dev/sdf"
    volume_size           = 1
    delete_on_termination = true
  }
  ami_root_device {
    source_device_name    = "/dev/sdf"
    device_name           = "/dev/xvda"
    volume_size           = 1
    delete_on_termination = true
  }
`

func newMatrix(t *testing.T, c matrixCase) *matrix {
	t.Helper()
	x := &matrix{t: t, dir: t.TempDir(), work: t.TempDir()}
	x.quiet.L = &x.mu
	ctx := context.Background()
	var err error
	x.cloud, err = localcloud.Open(ctx, localcloud.Config{Dir: x.dir, Machines: &machine.Simulated{}, Warn: func(err error) { t.Log("cloud:", err) }})
	x.must(err)
	disk := filepath.Join(x.work, "disk.raw")
	x.must(os.WriteFile(disk, bytes.Repeat([]byte("disk"), 1<<12), 0o600))
	x.must(os.WriteFile(filepath.Join(x.work, "t.pkr.hcl"), []byte(strings.NewReplacer("TYPE", c.typ, "MORE", c.more, "EXIT", fmt.Sprint("exit ", c.exit)).Replace(matrixTemplate)), 0o600))
	_, err = x.cloud.RegisterBase(ctx, localcloud.BaseImage{
		Path: disk, Format: "raw", Name: "debian-12-amd64-20260101-1", Arch: "x86_64", Created: time.Now(), SizeGiB: 1,
	})
	x.must(err)
	srv, err := server.Start(ctx, x.cloud, "127.0.0.1:0", true, server.Options{Seen: x.saw, Served: x.served})
	x.must(err)
	t.Cleanup(func() {
		if err := errors.Join(srv.Close(ctx), x.cloud.Shutdown(ctx)); err != nil {
			t.Error(err)
		}
	})
	x.base = x.census()
	return x
}

func (x *matrix) must(err error) {
	x.t.Helper()
	if err != nil {
		x.t.Fatal(err)
	}
}

// A point is where a process dies.
type point struct {
	record int  // before it writes this record; 0: at a call
	call   int  //
	after  bool // the call has its effect
}

func (p point) String() string {
	switch {
	case p.record > 0:
		return fmt.Sprintf("before record %d", p.record)
	case p.after:
		return fmt.Sprintf("after call %d", p.call)
	}
	return fmt.Sprintf("before call %d", p.call)
}

// run runs ingot to its end, or to its death at p.
func (x *matrix) run(state string, p point, args ...string) (code int, out string) {
	x.t.Helper()
	name := "ingot"
	if p.record > 0 {
		name = "ingot-mortal"
	}
	ctx, stop := context.WithTimeout(context.Background(), matrixTime)
	defer stop()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Dir = x.work
	cmd.Env = []string{
		"PATH=" + os.Getenv("PATH"), "HOME=" + state, "XDG_STATE_HOME=" + state, "XDG_CACHE_HOME=" + x.work,
		"INGOT_LOCAL_DIR=" + x.dir, "INGOT_LOCAL_MACHINES=simulated", dieVar + "=" + strconv.Itoa(p.record),
	}
	var buf bytes.Buffer
	cmd.Stdout, cmd.Stderr = &buf, &buf
	x.mu.Lock()
	err := cmd.Start()
	dead := make(chan struct{})
	x.child, x.dead, x.armed, x.calls, x.at, x.after = cmd.Process, dead, true, 0, p.call, p.after
	x.mu.Unlock()
	x.must(err)
	err = cmd.Wait()
	close(dead)
	x.mu.Lock()
	x.armed = false
	for x.open > 0 { // the last calls of the dead
		x.quiet.Wait()
	}
	x.mu.Unlock()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		x.t.Fatal(err)
	}
	return cmd.ProcessState.ExitCode(), buf.String()
}

// How what a dead process left is dealt with.
const (
	byResume = "resume"
	byGC     = "gc"
	byTags   = "gc by tags" // the journal is gone as well
)

// TestCrashMatrix kills builds with two copies before records of the journal, before calls and after calls whose answer is lost. What is
// left of one is finished by resume, of others it is removed by gc, with the
// journal and without it. Without INGOT_TEST_ALL_CRASHES a few points are
// tried.
func TestCrashMatrix(t *testing.T) {
	if testing.Short() {
		t.Skip("takes minutes")
	}
	for _, c := range []matrixCase{
		{"amazon-ebs", "", 0, 13, []string{byResume, byGC, byTags}},
		{"amazon-ebssurrogate", matrixSurrogate, 0, 29, []string{byResume, byGC, byTags}},
		{"amazon-ebs", "", 1, 11, []string{byGC, byTags}}, // dies in its clean-up as well
	} {
		t.Run(fmt.Sprintf("%s exit %d", c.typ, c.exit), func(t *testing.T) { crashMatrix(t, c) })
	}
}

// A matrixCase is one build and how it is dealt with.
type matrixCase struct {
	typ, more string
	exit      int // of the provisioner; the build cleans up unless it is 0
	stride    int // how many points lie between two that are tried
	ends      []string
}

func crashMatrix(t *testing.T, c matrixCase) {
	x, stride := newMatrix(t, c), c.stride
	state := t.TempDir()
	code, out := x.run(state, point{}, "build", "-local", "-var", "name=first", "t.pkr.hcl")
	if code != c.exit {
		t.Fatalf("a build that nobody kills ends with %d:\n%s", code, out)
	}
	calls := x.calls
	x.base = x.census()
	h, recs := x.journal(state)
	if h == "" {
		t.Fatal("the build has no journal")
	}
	var points []point
	for n := 1; n <= len(recs); n++ {
		points = append(points, point{record: n})
	}
	for n := 1; n <= calls; n++ {
		points = append(points, point{call: n}, point{call: n, after: true})
	}
	tried, leaks, lost := 0, 0, 0
	if os.Getenv(allVar) != "" {
		stride = 1
	}
	for n := 0; n < len(points); n += stride {
		for _, end := range c.ends {
			tried++
			l, m := x.crash(points[n], end, fmt.Sprintf("web-%d-%d", n, tried))
			leaks, lost = leaks+l, lost+m
		}
	}
	t.Logf("%s: %d points of %d (%d records, %d calls) tried: %d leaks, %d lost artifacts", c.typ, tried, len(c.ends)*len(points), len(recs), calls, leaks, lost)
}

// crash kills one build and has it finished or removed.
func (x *matrix) crash(p point, end, name string) (leaks, lost int) {
	t := x.t
	t.Helper()
	state := t.TempDir()
	code, out := x.run(state, p, "build", "-local", "-var", "name="+name, "t.pkr.hcl")
	if code >= 0 {
		t.Logf("%s: the build was over before (code %d)", p, code) // copies make their calls in any order, and some wait more often
	}
	run, recs := x.journal(state)
	want := map[string]bool{}
	for _, r := range recs {
		switch r.Kind {
		case journal.KindSealed:
			want["us-east-1"] = true
		case journal.KindCopied:
			want[r.Step] = true
		}
	}
	args := []string{"gc"}
	switch {
	case end == byResume && run != "":
		args = []string{"resume", run}
		want = map[string]bool{"us-east-1": true, "eu-west-1": true, "us-west-2": true}
	case end == byTags:
		// What became whole in the last moment is marked as that, and stays.
		for id, region := range x.artifacts(name, true) {
			if x.base[id] == "" {
				want[region] = true
			}
		}
		x.must(os.RemoveAll(filepath.Join(state, "ingot")))
		args = []string{"gc", "-local", "-all-regions", "-older-than", "0s"}
	}
	if end == byGC {
		// The one that removes dies as well.
		_, more := x.run(state, point{call: 1 + len(recs)%7}, args...)
		out += "\n" + more
	}
	endCode, endOut := x.run(state, point{}, args...)
	now := x.census()
	parts := x.artifacts(name, false)
	for id, what := range now {
		if _, known := x.base[id]; !known && !want[parts[id]] {
			leaks++
			t.Errorf("%s, %s: left: %s", p, end, what)
		}
	}
	got := map[string]bool{}
	for _, region := range parts {
		got[region] = true
	}
	for region := range want {
		if !got[region] {
			lost++
			t.Errorf("%s, %s: there is no image in %s", p, end, region)
		}
	}
	if endCode != 0 || leaks+lost > 0 {
		t.Errorf("%s: build:\n%s\n%s: exit code %d:\n%s", p, out, end, endCode, endOut)
	}
	x.base = now
	return leaks, lost
}

// journal reads the one journal of a state folder; "" when there is none, or
// nothing in it.
func (x *matrix) journal(state string) (run string, recs []journal.Record) {
	x.t.Helper()
	list, err := os.ReadDir(filepath.Join(state, "ingot", "runs"))
	if errors.Is(err, os.ErrNotExist) || err == nil && len(list) == 0 {
		return "", nil
	}
	x.must(err)
	_, recs, err = journal.Read(filepath.Join(state, "ingot", "runs", list[0].Name()))
	if err != nil {
		return "", nil // not a whole record
	}
	return list[0].Name(), recs
}

// census is what is in the cloud and costs something, once no work is left.
func (x *matrix) census() map[string]string {
	x.t.Helper()
	ctx, stop := context.WithTimeout(context.Background(), matrixTime)
	defer stop()
	x.must(x.cloud.Drain(ctx))
	out := map[string]string{}
	x.must(x.cloud.View(ctx, "", func(tx *localcloud.Tx) error {
		var errs []error
		for _, region := range localcloud.Regions() {
			in := tx.In(region)
			errs = append(errs,
				countOf(in, out, func(i localcloud.Instance) bool { return i.State != "terminated" }),
				countOf(in, out, func(localcloud.Volume) bool { return true }),
				countOf(in, out, func(localcloud.Snapshot) bool { return true }),
				countOf(in, out, func(i localcloud.Image) bool { return i.State != "deregistered" }),
				countOf(in, out, func(localcloud.KeyPair) bool { return true }),
				countOf(in, out, func(localcloud.SecurityGroup) bool { return true }),
			)
		}
		return errors.Join(errs...)
	}))
	return out
}

func countOf[T localcloud.Record](tx *localcloud.Tx, out map[string]string, there func(T) bool) error {
	all, err := localcloud.All[T](tx)
	for _, r := range all {
		if there(r) {
			id := tx.Region + " " + r.RecordID()
			js, _ := json.Marshal(r)
			out[id] = r.RecordKind() + " " + id + " " + string(js)
		}
	}
	return err
}

// artifacts are the images of a name and their snapshots, with their regions;
// those that are marked as sealed, or all that can be used.
func (x *matrix) artifacts(name string, sealed bool) map[string]string {
	x.t.Helper()
	out := map[string]string{}
	x.must(x.cloud.View(context.Background(), "", func(tx *localcloud.Tx) error {
		for _, region := range localcloud.Regions() {
			all, err := localcloud.All[localcloud.Image](tx.In(region))
			if err != nil {
				return err
			}
			for _, i := range all {
				if i.Name != name || i.State != "available" || sealed && i.Tags["ingot:state"] != "sealed" {
					continue
				}
				out[region+" "+i.RecordID()] = region
				for _, d := range i.Devices {
					if d.Volume != nil && d.Volume.SnapshotID != "" {
						out[region+" "+d.Volume.SnapshotID] = region
					}
				}
			}
		}
		return nil
	}))
	return out
}
