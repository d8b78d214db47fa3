package amazon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/cloudtest"
	"github.com/ingot-build/ingot/internal/secret"
)

const (
	home = "us-east-1" // the build region
	away = "eu-west-1"
	far  = "us-west-2"
)

// patience is how long anything may take: the machine may be busy.
const patience = 5 * time.Minute

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// A rig is the builders in front of an API: a local cloud of its own, or an
// API elsewhere.
type rig struct {
	cloud *cloudtest.Cloud // nil elsewhere
	at    awsaccess.Locator
	sess  *awsaccess.Session
	base  string // a source image
}

func locate(url, key, password string) awsaccess.Locator {
	return func(context.Context) (*awsaccess.Endpoint, error) {
		return &awsaccess.Endpoint{URL: url, Region: home, AccessKey: key, SecretKey: secret.New(password)}, nil
	}
}

func session(t testing.TB, at awsaccess.Locator) *awsaccess.Session {
	t.Helper()
	c := awsaccess.Config{Region: home}
	ok(t, c.Prepare())
	s, err := awsaccess.Open(t.Context(), c, "test", at)
	ok(t, err)
	return s
}

// newRig serves a local cloud with one base image.
func newRig(t testing.TB) *rig {
	t.Helper()
	cloud := cloudtest.New(t)
	disk := filepath.Join(t.TempDir(), "disk.raw")
	ok(t, os.WriteFile(disk, bytes.Repeat([]byte("disk"), 1<<18), 0o600))
	bases, err := cloud.RegisterBase(t.Context(), localcloud.BaseImage{
		Path: disk, Format: "raw", Name: "debian-13-amd64-20260101-1", Arch: "x86_64", Created: start, SizeGiB: 1,
	})
	ok(t, err)
	g := &rig{cloud: cloud, base: bases[home], at: locate(cloud.URL, cloud.Key.AccessKey, cloud.Key.Secret)}
	g.sess = session(t, g.at)
	return g
}

// windows makes the base image one of Windows.
func (g *rig) windows(t testing.TB) {
	t.Helper()
	ok(t, g.cloud.Update(t.Context(), home, func(tx *localcloud.Tx) error {
		i, _, err := localcloud.Get[localcloud.Image](tx, g.base)
		i.Platform = "windows"
		return errors.Join(err, localcloud.Put(tx, i))
	}))
}

// settings makes the cloud unlucky.
func (g *rig) settings(t testing.TB, s localcloud.Settings) {
	t.Helper()
	ok(t, g.cloud.SetSettings(t.Context(), s))
}

// options are the least that a build needs.
func (g *rig) options(typ, name, more string) string {
	body := fmt.Sprintf("region = %q\nsource_ami = %q\nssh_username = \"admin\"\nssh_timeout = \"5m\"\n", home, g.base)
	if !strings.Contains(more, "instance_type") {
		body += "instance_type = \"t3.micro\"\n"
	}
	if typ != typeVolume {
		body += fmt.Sprintf("ami_name = %q\n", name)
	}
	return body + more
}

// A baking is one build.
type baking struct {
	typ, more string
	name      string         // of the image; "": the run's
	force     bool           // -force
	tune      func(*machine) // changes what was opened

	// provision is called with the guest. nil: a command is run in it.
	provision func(context.Context, communicator.Guest) error
}

// A baked is what came of a build, whose clean-up is done.
type baked struct {
	run string
	set artifact.Set
	m   *machine
	s   *sayings
	// err is of the build, discard of the clean-up.
	err, discard error
}

// bake runs a build as the pipeline does.
func (g *rig) bake(t testing.TB, b baking) baked {
	t.Helper()
	out := baked{run: "run-" + randomHex(6), s: &sayings{}}
	info := builder.Info{Name: "a", Type: b.typ, Build: b.typ + ".a", RunID: out.run, Template: "sha256:abc", Force: b.force}
	j, err := journal.Create(filepath.Join(t.TempDir(), "run"), time.Now, journal.Header{Run: out.run, Builds: []string{info.Build}})
	ok(t, err)
	defer j.Close()
	if b.name == "" {
		b.name = out.run
	}
	out.m = opener{version: "test", start: time.Now(), at: g.at}.any(t, b.typ, g.options(b.typ, b.name, b.more), info)
	if b.tune != nil {
		b.tune(out.m)
	}
	bld := out.m.steps()
	r := builder.NewRun(info, t.TempDir(), out.s, j, nil)
	ctx, stop := context.WithTimeout(t.Context(), patience)
	defer stop()
	out.set, out.err = b.run(ctx, bld, r)
	out.discard = bld.Discard(ctx, r)
	return out
}

// must is bake for a build that passes, and leaves nothing but its artifact.
func (g *rig) must(t testing.TB, b baking) baked {
	t.Helper()
	before := g.census(t)
	out := g.bake(t, b)
	ok(t, errors.Join(out.err, out.discard))
	g.nothingBut(t, before, out.set)
	return out
}

// fails is bake for a build that fails with the text and leaves nothing.
func (g *rig) fails(t testing.TB, b baking, text string) baked {
	t.Helper()
	before := g.census(t)
	out := g.bake(t, b)
	ok(t, out.discard)
	if out.err == nil || !strings.Contains(out.err.Error(), text) {
		t.Fatalf("no error with %q: %v", text, out.err)
	}
	g.nothingBut(t, before, artifact.Set{})
	return out
}

func (b baking) run(ctx context.Context, bld *builder.Machine[state], r *builder.Run) (artifact.Set, error) {
	none := artifact.Set{}
	if err := bld.Check(ctx); err != nil {
		return none, fmt.Errorf("check: %w", err)
	}
	if _, err := bld.Base(ctx); err != nil {
		return none, fmt.Errorf("base: %w", err)
	}
	guest, err := bld.Boot(ctx, r)
	if err != nil {
		return none, fmt.Errorf("boot: %w", err)
	}
	defer guest.Close()
	if b.provision == nil {
		b.provision = hello
	}
	if err := b.provision(ctx, guest); err != nil {
		return none, fmt.Errorf("provision: %w", err)
	}
	set, err := bld.Seal(ctx, r)
	if err != nil {
		return set, fmt.Errorf("seal: %w", err)
	}
	return distribute(ctx, bld, r, set)
}

// hello runs a command in a guest that has a connection.
func hello(ctx context.Context, g communicator.Guest) error {
	if g.Data.ConnType == "none" {
		return nil
	}
	var out bytes.Buffer
	if err := g.Run(ctx, communicator.Cmd{Line: "echo hello", Stdout: &out}); err != nil || strings.TrimSpace(out.String()) != "hello" {
		return fmt.Errorf("%w: %q", err, out.String())
	}
	return nil
}

// distribute makes all copies at once. A copy that AWS gave up is made again.
func distribute(ctx context.Context, bld *builder.Machine[state], r *builder.Run, set artifact.Set) (artifact.Set, error) {
	regions, err := bld.Regions(ctx, r)
	if err != nil || len(regions) == 0 {
		return set, err
	}
	copies := make([]artifact.SystemImage, len(regions))
	var asks []func() error
	for n, region := range regions {
		asks = append(asks, func() (err error) {
			c := builder.NewCopy(r, region, nil, r.Events, func(json.RawMessage) error { return nil })
			for try := 0; ; try++ {
				copies[n], err = bld.Copy(ctx, c, set)
				var temporary *temporaryError
				if !errors.As(err, &temporary) || try == 3 {
					return err
				}
			}
		})
	}
	if err := together(asks...); err != nil {
		return bld.Partial(set, copies), fmt.Errorf("copies: %w", err)
	}
	return bld.Conclude(ctx, r, set, copies)
}

// any opens the machine of that type.
func (o opener) any(t testing.TB, typ, body string, info builder.Info) (m *machine) {
	t.Helper()
	var err error
	switch typ {
	case typeEBS:
		var c EBSConfig
		decode(t, typ, body, &c)
		m, err = o.newEBS(c, info)
	case typeSurrogate:
		var c SurrogateConfig
		decode(t, typ, body, &c)
		m, err = o.newSurrogate(c, info)
	default:
		var c VolumeConfig
		decode(t, typ, body, &c)
		m, err = o.newVolume(c, info)
	}
	if err != nil && !onlyWarnings(err) {
		t.Fatal(err)
	}
	return m
}

// sayings keeps what is told.
type sayings struct {
	mu   sync.Mutex
	list []string
}

// Emit implements [event.Sink].
func (s *sayings) Emit(e event.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch e := e.(type) {
	case event.Say:
		s.list = append(s.list, e.Text)
	case event.Warn:
		s.list = append(s.list, "warning: "+e.Text)
	case event.Detail:
		s.list = append(s.list, "detail: "+e.Text)
	}
}

func (s *sayings) all() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.list, "\n")
}

// want fails unless each text was told.
func (s *sayings) want(t testing.TB, texts ...string) {
	t.Helper()
	for _, text := range texts {
		if !strings.Contains(s.all(), text) {
			t.Errorf("it was not told: %q. What was:\n%s", text, s.all())
		}
	}
}

// census is what is in the cloud, by id, once no work is left.
func (g *rig) census(t testing.TB) map[string]string {
	t.Helper()
	ctx, stop := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	defer stop()
	ok(t, g.cloud.Drain(ctx))
	out := map[string]string{}
	err := g.cloud.View(ctx, "", func(tx *localcloud.Tx) error {
		errs := []error{
			count(tx, out, func(r localcloud.Role) (string, bool) { return r.Name, true }),
			count(tx, out, func(p localcloud.InstanceProfile) (string, bool) { return p.Name, true }),
		}
		for _, region := range localcloud.Regions() {
			in := tx.In(region)
			errs = append(errs,
				count(in, out, func(i localcloud.Instance) (string, bool) { return i.ID, i.State != "terminated" }),
				count(in, out, func(v localcloud.Volume) (string, bool) { return v.ID, true }),
				count(in, out, func(s localcloud.Snapshot) (string, bool) { return s.ID, true }),
				count(in, out, func(i localcloud.Image) (string, bool) { return i.ID, i.State != "deregistered" }),
				count(in, out, func(k localcloud.KeyPair) (string, bool) { return k.RecordID(), true }),
				count(in, out, func(s localcloud.SecurityGroup) (string, bool) { return s.ID, true }),
				count(in, out, func(l localcloud.LaunchTemplate) (string, bool) { return l.ID, true }),
				count(in, out, func(a localcloud.Address) (string, bool) { return a.ID, true }),
				count(in, out, func(s localcloud.SpotRequest) (string, bool) { return s.ID, s.State == "open" || s.State == "active" }),
			)
		}
		return errors.Join(errs...)
	})
	ok(t, err)
	return out
}

func count[T localcloud.Record](tx *localcloud.Tx, out map[string]string, is func(T) (id string, there bool)) error {
	all, err := localcloud.All[T](tx)
	for _, r := range all {
		if id, there := is(r); there {
			out[id] = strings.TrimSpace(tx.Region + " " + r.RecordKind() + " " + id)
		}
	}
	return err
}

// parts are the ids of what an artifact is of.
func (g *rig) parts(t testing.TB, set artifact.Set) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	for part := range strings.SplitSeq(set.ID, ",") {
		_, id, _ := strings.Cut(part, ":")
		out[id] = true
	}
	for _, i := range set.Images {
		for _, s := range g.snapshots(t, i.Region, i.ID) {
			out[s.ID] = true
		}
	}
	return out
}

// nothingBut fails when there is more in the cloud than before and than the
// artifact, or less.
func (g *rig) nothingBut(t testing.TB, before map[string]string, set artifact.Set) {
	t.Helper()
	now, parts := g.census(t), g.parts(t, set)
	var left, lost []string
	for _, id := range slices.Sorted(maps.Keys(now)) {
		if before[id] == "" && !parts[id] {
			left = append(left, now[id])
		}
	}
	for _, id := range slices.Sorted(maps.Keys(before)) {
		if now[id] == "" {
			lost = append(lost, before[id])
		}
	}
	for id := range parts {
		if id != "" && now[id] == "" {
			lost = append(lost, id+" of the artifact")
		}
	}
	if len(left)+len(lost) > 0 {
		t.Errorf("artifact %q\nleft: %q\nlost: %q", set.ID, left, lost)
	}
}

// image is an image's record.
func (g *rig) image(t testing.TB, region, id string) (i localcloud.Image) {
	t.Helper()
	ok(t, g.cloud.View(t.Context(), region, func(tx *localcloud.Tx) (err error) {
		var there bool
		if i, there, err = localcloud.Get[localcloud.Image](tx, id); err == nil && !there {
			err = fmt.Errorf("there is no image %s in %s", id, region)
		}
		return err
	}))
	return i
}

// snapshots are the records of an image's snapshots.
func (g *rig) snapshots(t testing.TB, region, image string) (out []localcloud.Snapshot) {
	t.Helper()
	var ids []string
	for _, d := range g.image(t, region, image).Devices {
		if d.Volume != nil && d.Volume.SnapshotID != "" {
			ids = append(ids, d.Volume.SnapshotID)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	out, err := g.cloud.Snapshots(t.Context(), region, ids)
	ok(t, err)
	return out
}

// in returns the id of the artifact's image in a region.
func (b baked) in(t testing.TB, region string) string {
	t.Helper()
	for _, i := range b.set.Images {
		if i.Region == region {
			return i.ID
		}
	}
	t.Fatalf("%s has no image in %s", b.set.ID, region)
	return ""
}
