package pipeline

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/distribute"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/postprocessor"
)

// A fleet is a platform with regions, in a folder that outlives processes:
// files "vm-…", "image", and "REGION-…" for copies. What was once made under
// a name and removed is never made under it again, as clouds do with tokens.
type fleet struct {
	dir     string
	regions []string

	mu     sync.Mutex
	down   map[string]error // regions that fail
	hang   map[string]chan struct{}
	boots  int
	copies map[string]int // calls, by region
	seen   map[string]int // copies that were found with a saved state
	gone   map[string]bool
	dead   bool // the process that asks is dead
	failAt string
}

func newFleet(t *testing.T) *fleet {
	return &fleet{
		dir: t.TempDir(), regions: []string{"eu", "ap", "us"},
		down: map[string]error{}, hang: map[string]chan struct{}{}, copies: map[string]int{}, seen: map[string]int{}, gone: map[string]bool{},
	}
}

type fleetState struct {
	VM string `json:"vm,omitempty"`
}

var errDead = errors.New("the process is dead")

// alive locks the fleet for a process that is alive.
func (f *fleet) alive() (func(), error) {
	f.mu.Lock()
	if f.dead {
		f.mu.Unlock()
		return nil, errDead
	}
	return f.mu.Unlock, nil
}

func (f *fleet) path(name string) string { return filepath.Join(f.dir, name) }

func (f *fleet) remove(name string) error {
	unlock, err := f.alive()
	if err != nil {
		return err
	}
	defer unlock()
	f.gone[name] = true
	if err := os.Remove(f.path(name)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func (f *fleet) start(_ context.Context, r *builder.Run, s *fleetState) error {
	unlock, err := f.alive()
	if err != nil {
		return err
	}
	defer unlock()
	name := "vm-" + r.Token("vm")
	if f.gone[name] {
		return fmt.Errorf("%s was made before and is gone", name)
	}
	f.boots++
	s.VM = name
	return os.WriteFile(f.path(name), nil, 0o600)
}

func (f *fleet) capture(_ context.Context, _ *builder.Run, s *fleetState) error {
	unlock, err := f.alive()
	if err != nil {
		return err
	}
	defer unlock()
	if f.failAt == "capture" {
		return errors.New("no luck")
	}
	b, err := os.ReadFile(f.path(s.VM))
	if err != nil {
		return err
	}
	return os.WriteFile(f.path("image"), b, 0o600)
}

// copyState is what is saved of a copy.
type copyState struct{ ID string }

func (f *fleet) copy(ctx context.Context, c *builder.Copy, _ *fleetState, set artifact.Set) (artifact.SystemImage, error) {
	unlock, err := f.alive()
	if err != nil {
		return artifact.SystemImage{}, err
	}
	var s copyState
	if err := c.Load(&s); err != nil {
		unlock()
		return artifact.SystemImage{}, err
	}
	f.copies[c.Region]++
	if s.ID != "" {
		f.seen[c.Region]++
	}
	s.ID = c.Region + "-" + c.Token
	fails, hang := f.down[c.Region], f.hang[c.Region]
	unlock()
	if fails != nil {
		return artifact.SystemImage{}, fails
	}
	b, err := os.ReadFile(f.path("image"))
	if err != nil {
		return artifact.SystemImage{}, err
	}
	if err := errors.Join(os.WriteFile(f.path(s.ID), b, 0o600), c.Save(s)); err != nil {
		return artifact.SystemImage{}, err
	}
	if hang != nil {
		close(hang)
		<-ctx.Done()
		return artifact.SystemImage{}, context.Cause(ctx)
	}
	c.Say("copied %s", set.ID)
	return artifact.SystemImage{Ref: artifact.Ref{Provider: "fleet", Region: c.Region, ID: s.ID}}, nil
}

func (f *fleet) conclude(_ context.Context, _ *builder.Run, _ *fleetState, set artifact.Set, copies []artifact.SystemImage) (artifact.Set, error) {
	unlock, err := f.alive()
	if err != nil {
		return artifact.Set{}, err
	}
	defer unlock()
	if f.failAt == "conclude" {
		return artifact.Set{}, errors.New("no luck")
	}
	return partial(set, copies), nil
}

func partial(set artifact.Set, copies []artifact.SystemImage) artifact.Set {
	set.Images = append(set.Images, copies...)
	return set
}

func (f *fleet) open(builder.Info) (builder.Builder, error) { return f.machine(), nil }

func (f *fleet) machine() *builder.Machine[fleetState] {
	return &builder.Machine[fleetState]{
		Boots: []builder.Step[fleetState]{{
			Name: "start", Do: f.start,
			Undo: func(_ context.Context, r *builder.Run, _ *fleetState) error { return f.remove("vm-" + r.Token("vm")) },
		}},
		Connect: func(_ context.Context, _ *builder.Run, s *fleetState) (communicator.Guest, error) {
			return communicator.Guest{
				Communicator: &disk{path: f.path(s.VM)},
				Data: communicator.Data{
					ID: "vm-1", Password: secret.New("hunter2"), SSHPrivateKey: secret.New("PRIVATE KEY"),
					Generated: map[string]string{"SourceAMI": "ami-1"},
				},
			}, nil
		},
		Seals: []builder.Step[fleetState]{{
			Name: "capture", Product: true, Do: f.capture,
			Undo: func(context.Context, *builder.Run, *fleetState) error { return f.remove("image") },
		}},
		Result: func(context.Context, *builder.Run, *fleetState) (artifact.Set, error) {
			return artifact.Set{BuilderID: "fleet", ID: "image", Images: []artifact.SystemImage{{Ref: artifact.Ref{Provider: "fleet", Region: "home", ID: "image"}}}}, nil
		},
		Copies: &builder.Copies[fleetState]{
			Regions: func(*fleetState) []string { return f.regions },
			Copy:    f.copy, Conclude: f.conclude, Partial: partial,
			Unfinished: f.unfinished, Abandon: f.abandon,
		},
		Where: f.where, Holds: f.holds,
	}
}

// build is the plan of a build in the fleet: a provisioner, and a
// post-processor that notes what it knows of the guest.
func (f *fleet) build() Build {
	note := func(_ postprocessor.Build, d communicator.Data) (postprocessor.PostProcessor, error) {
		return noted{f, fmt.Sprint(d.ID, " ", d.Generated["SourceAMI"], " ", d.BuildName)}, nil
	}
	return Build{
		Info: builder.Info{Name: "x", Type: "fleet", Build: "fleet.x"}, Open: f.open,
		Provisioners:   []Provisioner{(&step{text: "one"}).plan()},
		PostProcessors: [][]PostProcessor{{{Type: "note", Keep: postprocessor.KeepInput, Open: note}}},
	}
}

type noted struct {
	f    *fleet
	text string
}

func (n noted) Process(_ context.Context, in artifact.Set, _ event.Sink) (artifact.Set, error) {
	unlock, err := n.f.alive()
	if err != nil {
		return artifact.Set{}, err
	}
	defer unlock()
	if n.f.failAt == "note" {
		return artifact.Set{}, errors.New("no luck")
	}
	out := fmt.Sprint(n.text, " ", len(in.Images), "\n")
	return artifact.Set{ID: "note", Files: []string{n.f.path("note")}}, os.WriteFile(n.f.path("note"), []byte(out), 0o600)
}

// names are the files of the fleet; copies by their region.
func (f *fleet) names(t *testing.T) (out []string) {
	t.Helper()
	list, err := os.ReadDir(f.dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range list {
		name := e.Name()
		for _, r := range f.regions {
			if len(name) > len(r) && name[:len(r)+1] == r+"-" {
				name = r
			}
		}
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func (f *fleet) want(t *testing.T, names ...string) {
	t.Helper()
	if got := f.names(t); !slices.Equal(got, names) {
		t.Errorf("the fleet has %q, want %q", got, names)
	}
}

// A life is a run and its processes.
type life struct {
	state string
	c     *collect
	o     Options
}

func newLife(t *testing.T) *life {
	return &life{state: t.TempDir(), o: Options{Copies: distribute.Options{First: 1, Max: 1}}}
}

func (l *life) dir() string { return filepath.Join(l.state, "run-1") }

func (l *life) process(ctx context.Context, do func(context.Context, *Plan, Options) (Result, error), builds ...Build) (Result, error) {
	if l.c == nil {
		l.c = &collect{}
	}
	o := l.o
	o.RunID, o.StateDir, o.Now, o.Mask = "run-1", l.state, time.Now, func(s string) string { return s }
	o.Events = event.NewBus(time.Now, nil, l.c)
	res, err := do(ctx, &Plan{Builds: builds}, o)
	o.Events.Close()
	return res, err
}

func (l *life) run(t *testing.T, ctx context.Context, builds ...Build) Result {
	t.Helper()
	res, err := l.process(ctx, Run, builds...)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (l *life) resume(t *testing.T, builds ...Build) Result {
	t.Helper()
	res, err := l.process(t.Context(), Resume, builds...)
	if err != nil {
		t.Fatal(err)
	}
	return res
}

func (l *life) records(t *testing.T) []journal.Record {
	t.Helper()
	_, recs, err := journal.Read(l.dir())
	if err != nil {
		t.Fatal(err)
	}
	return recs
}

// kinds counts the records of each kind.
func (l *life) kinds(t *testing.T) map[journal.Kind]int {
	t.Helper()
	out := map[journal.Kind]int{}
	for _, r := range l.records(t) {
		out[r.Kind]++
	}
	return out
}

// finished checks that everything is made, once, and nothing is left.
func (f *fleet) finished(t *testing.T, res BuildResult) {
	t.Helper()
	if res.Err != nil || res.Cancelled || res.Partial || !res.Sealed {
		t.Fatalf("%+v", res)
	}
	f.want(t, slices.Sorted(slices.Values(append([]string{"image", "note"}, f.regions...)))...)
	var where []string
	for _, img := range res.Artifacts[0].Images {
		where = append(where, img.Region)
	}
	if want := append([]string{"home"}, f.regions...); !slices.Equal(where, want) {
		t.Errorf("images in %q, want %q", where, want)
	}
	if note, err := os.ReadFile(f.path("note")); err != nil || string(note) != "vm-1 ami-1 x 4\n" {
		t.Errorf("note %q, %v", note, err)
	}
	if img, err := os.ReadFile(f.path("image")); err != nil || string(img) != "one\n" {
		t.Errorf("image %q, %v", img, err)
	}
}

func (f *fleet) calls() map[string]int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return maps.Clone(f.copies)
}
