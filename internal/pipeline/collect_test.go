package pipeline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// fleetPlace is what the journal keeps of a fleet.
type fleetPlace struct{ Dir string }

func (f *fleet) where(context.Context) (any, error) { return fleetPlace{f.dir}, nil }

func (f *fleet) holds(r *builder.Run, s *fleetState) []builder.Thing {
	var out []builder.Thing
	if s.VM != "" {
		out = append(out, builder.Thing{Kind: "vm", ID: s.VM, Step: "start"})
	}
	return append(out, builder.Thing{Kind: "image", ID: "image", Step: "capture"})
}

// begun is the name of a copy, and whether it is there.
func (f *fleet) begun(c *builder.Copy) (string, bool) {
	name := c.Region + "-" + c.Token
	_, err := os.Stat(f.path(name))
	return name, err == nil
}

func (f *fleet) unfinished(_ context.Context, c *builder.Copy, _ *fleetState) ([]builder.Thing, error) {
	name, there := f.begun(c)
	if !there {
		return nil, nil
	}
	return []builder.Thing{{Kind: "image", ID: name, At: c.Region}}, nil
}

func (f *fleet) abandon(_ context.Context, c *builder.Copy, _ *fleetState) error {
	if f.failAt == "abandon "+c.Region {
		return errors.New("no luck")
	}
	name, _ := f.begun(c)
	return f.remove(name)
}

// driver reopens fleets by their folder alone.
func (f *fleet) driver(typ string) (builder.Driver, bool) {
	return builder.Driver{Name: "fleet", Reopen: func(place json.RawMessage, _ builder.Info) (builder.Builder, error) {
		var p fleetPlace
		if err := json.Unmarshal(place, &p); err != nil || p.Dir != f.dir {
			return nil, fmt.Errorf("place %s: %w", place, err)
		}
		return f.machine(), nil
	}}, typ == "fleet"
}

func (l *life) collectOptions(f *fleet) CollectOptions {
	return CollectOptions{StateDir: l.state, Now: time.Now, Events: event.Discard, Driver: f.driver}
}

func (l *life) collect(t *testing.T, o CollectOptions) *Collection {
	t.Helper()
	c, err := Collect(t.Context(), "run-1", o)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// stays is what may be left of a fleet, by the journal alone: the sealed image
// and the finished copies, and what a post-processor wrote.
func (l *life) stays(t *testing.T, f *fleet) (names []string) {
	t.Helper()
	for _, r := range l.records(t) {
		switch r.Kind {
		case journal.KindSealed:
			names = append(names, "image")
		case journal.KindCopied:
			names = append(names, r.Step)
		}
	}
	if _, err := os.Stat(f.path("note")); err == nil {
		names = append(names, "note")
	}
	slices.Sort(names)
	return names
}

func TestCollectAtEveryRecord(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.finished(t, l.run(t, t.Context(), f.build()).Builds[0])
	total := len(l.records(t)) - 1
	for n := 1; n <= total; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d after=%v", n, after), func(t *testing.T) { collectAt(t, n, after) })
		}
	}
}

func collectAt(t *testing.T, n int, after bool) {
	f, l := newFleet(t), newLife(t)
	d := &dying{f: f, at: n, after: after}
	l.o.wrap = func(j builder.Log) builder.Log { d.Log = j; return d }
	l.run(t, t.Context(), f.build())
	if !d.dead {
		t.Fatalf("the run has fewer than %d records this time", n)
	}
	f.dead = false
	st, err := ReadStatus(l.dir())
	if err != nil {
		t.Fatal(err)
	}
	if st.Done() {
		return // it died behind its last record
	}
	want := l.stays(t, f)
	before := f.names(t)
	if !st.Collectable(time.Now(), false) {
		if len(before) > 0 {
			t.Errorf("%q is there, and would never be collected", before)
		}
		return // nothing was begun
	}

	dry := l.collectOptions(f)
	dry.DryRun = true
	would := l.collect(t, dry)
	if got := f.names(t); !slices.Equal(got, before) {
		t.Fatalf("a dry run changed the fleet: %q, before %q", got, before)
	}

	// The one that collects dies as well, and another one goes on.
	o := l.collectOptions(f)
	c := &dying{f: f, at: 1, after: after}
	o.wrap = func(j builder.Log) builder.Log { c.Log = j; return c }
	if got, err := Collect(t.Context(), "run-1", o); err != nil || !got.Left() && c.dead {
		t.Fatalf("collect that dies: %+v, %v", got, err)
	}
	f.dead = false
	got := l.collect(t, l.collectOptions(f))
	if got.Left() {
		t.Fatalf("left: %+v", got)
	}
	f.want(t, want...)
	if len(would.Things) == 0 && len(before) > len(want) {
		t.Errorf("the dry run told nothing of %q", before)
	}
	if left, _ := filepath.Glob(filepath.Join(l.dir(), "0")); left != nil {
		t.Error("scratch folder left")
	}

	// It is over: nothing more is collected, and nothing resumes it.
	if again := l.collect(t, l.collectOptions(f)); len(again.Builds)+len(again.Things) > 0 {
		t.Errorf("collected again: %+v", again)
	}
	if _, err := l.process(t.Context(), Resume, f.build()); err == nil || !strings.Contains(err.Error(), "given up") {
		t.Errorf("resume: %v", err)
	}
	f.want(t, want...)
	if err := RemoveRun(l.state, "run-1", time.Now); err != nil {
		t.Error(err)
	}
}

// A run that ended by itself with a copy missing is for resume, until it is
// named.
func TestIncompleteRunIsKept(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.down["ap"] = errors.New("no such luck")
	l.run(t, t.Context(), f.build())
	if c := l.collect(t, l.collectOptions(f)); len(c.Builds) > 0 {
		t.Fatalf("%+v", c)
	}
	if err := RemoveRun(l.state, "run-1", time.Now); err == nil || !strings.Contains(err.Error(), "not over") {
		t.Errorf("removed: %v", err)
	}
	o := l.collectOptions(f)
	o.All = true
	c := l.collect(t, o)
	if c.Left() || len(c.Artifacts) != 1 || len(c.Artifacts[0].Images) != 3 {
		t.Errorf("%+v", c)
	}
	f.want(t, "eu", "image", "us")
	st, err := ReadStatus(l.dir())
	if err != nil || st.Builds[0].String() != "given up behind its image, which stays" || st.Refusal() == nil {
		t.Errorf("%v %v", st.Builds, err)
	}
}

// What cannot be removed is told, and tried again the next time.
func TestCollectThatFails(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.hang["ap"] = make(chan struct{})
	d := &dying{f: f, at: 1 << 30}
	l.o.wrap = func(j builder.Log) builder.Log { d.Log = j; return d }
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-f.hang["ap"]
		d.mu.Lock()
		d.at = d.n + 1 // the next record is not written any more
		d.mu.Unlock()
		cancel(errors.New("killed"))
	}()
	l.run(t, ctx, f.build())
	f.dead, f.failAt = false, "abandon ap"
	c := l.collect(t, l.collectOptions(f))
	var left []string
	for _, th := range c.Things {
		if th.Err != nil {
			left = append(left, th.At)
		}
	}
	if !c.Left() || !slices.Equal(left, []string{"ap"}) {
		t.Fatalf("%+v", c)
	}
	if st, err := ReadStatus(l.dir()); err != nil || st.Abandoned() || !st.Collectable(time.Now(), false) {
		t.Errorf("%+v %v", st, err)
	}
	f.failAt = ""
	if c := l.collect(t, l.collectOptions(f)); c.Left() {
		t.Fatalf("%+v", c)
	}
	f.want(t, l.stays(t, f)...)
}

// What was left on purpose is kept for a while.
func TestLeftOnPurposeIsKept(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.failAt, l.o.OnError = "capture", Abort
	l.run(t, t.Context(), f.build())
	f.failAt = ""
	o := l.collectOptions(f)
	if c := l.collect(t, o); len(c.Builds) > 0 {
		t.Fatalf("%+v", c)
	}
	o.Now = func() time.Time { return time.Now().Add(keepTime + time.Minute) }
	if c := l.collect(t, o); c.Left() || len(c.Builds) != 1 {
		t.Fatalf("%+v", c)
	}
	f.want(t)
}

func TestCollectOfARunThatIsOn(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.failAt, l.o.OnError = "capture", Abort
	l.run(t, t.Context(), f.build())
	j, _, err := journal.Open(l.dir(), time.Now)
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	for _, dry := range []bool{false, true} {
		o := l.collectOptions(f)
		o.All, o.DryRun = true, dry
		var held *journal.HeldError
		if _, err := Collect(t.Context(), "run-1", o); !errors.As(err, &held) {
			t.Errorf("dry=%v: %v", dry, err)
		}
	}
	var held *journal.HeldError
	if err := RemoveRun(l.state, "run-1", time.Now); !errors.As(err, &held) {
		t.Errorf("removed: %v", err)
	}
}

func TestHistory(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.down["ap"] = errors.New("no such luck")
	l.run(t, t.Context(), f.build())
	h, err := ReadHistory(l.dir(), f.driver)
	if err != nil {
		t.Fatal(err)
	}
	b := h.Builds[0]
	var steps []string
	for _, s := range b.Steps {
		steps = append(steps, s.Name+" "+s.State)
	}
	slices.Sort(steps) // copies end in any order, but are listed in that of the template
	want := []string{
		"capture done", "copy to ap begun", "copy to eu done", "copy to us done", "provisioner 1 (one) done", "start undone",
	}
	want[4] = "provisioner 1 (" + f.build().Provisioners[0].Type + ") done"
	if !slices.Equal(steps, want) {
		t.Errorf("%q, want %q", steps, want)
	}
	if len(b.Things) != 1 || b.Things[0].ID != "image" || !b.Things[0].Keep || b.Attempt != 1 || b.Spent <= 0 {
		t.Errorf("%+v", b)
	}
	if len(b.Artifacts) != 1 {
		t.Errorf("%+v", b.Artifacts)
	}
}

func TestSweep(t *testing.T) {
	l := newLife(t)
	l.run(t, t.Context(), newFleet(t).build())
	id := func(at time.Time) string {
		ms := at.UnixMilli()
		return fmt.Sprintf("%08x-%04x-7000-8000-000000000000", ms>>16, ms&0xffff)
	}
	now := time.Now()
	old, fresh := id(now.Add(-48*time.Hour)), id(now.Add(-time.Hour))
	j, err := journal.Create(filepath.Join(l.state, "run-on"), time.Now, journal.Header{Run: "run-on", Builds: []string{"b"}})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	live := builder.NewRun(builder.Info{Build: "b", RunID: "run-on"}, "", nil, nil, nil)
	var gone []string
	find := func(name, run string, since time.Time) builder.Find {
		return builder.Find{
			Thing: builder.Thing{Kind: "thing", ID: name}, Run: run, Since: since,
			Remove: func(context.Context) error { return nil },
		}
	}
	token := find("token of a live run", "", now.Add(-48*time.Hour))
	token.Token, token.TokenOf = live.Token("output"), "output"
	other := find("token of another thing", "", now.Add(-48*time.Hour))
	other.Token, other.TokenOf = live.Token("vm"), "output"
	finds := []builder.Find{
		find("of a live run", "run-on", now.Add(-48*time.Hour)),
		find("of a run that is over", "run-1", now),
		find("old", old, now.Add(-48*time.Hour)),
		find("young", fresh, now.Add(-time.Hour)),
		find("old without an age", old, time.Time{}),
		find("young without an age", fresh, time.Time{}),
		find("old beside a young one", "elsewhere", now.Add(-48*time.Hour)),
		find("the young one", "elsewhere", now),
		find("without any age", "no-id", time.Time{}),
		find("outside", "../run-1", time.Time{}),
		token, other,
	}
	rules := SweepOptions{StateDir: l.state, Now: func() time.Time { return now }, OlderThan: 24 * time.Hour}
	for _, s := range Sweep(t.Context(), finds, rules) {
		if s.Removed {
			gone = append(gone, s.ID)
		} else if s.Why == "" {
			t.Errorf("%s is kept without a reason", s.ID)
		}
	}
	want := []string{"of a run that is over", "old", "old without an age", "token of another thing"}
	if !slices.Equal(gone, want) {
		t.Errorf("removed %q, want %q", gone, want)
	}
	rules.Run, rules.DryRun = "elsewhere", true
	if got := Sweep(t.Context(), finds, rules); len(got) != 2 || !got[0].Remove || got[0].Removed {
		t.Errorf("of one run, dry: %+v", got)
	}
}

func TestDeadline(t *testing.T) {
	for _, whole := range []bool{false, true} {
		f, l := newFleet(t), newLife(t)
		b := f.build()
		b.Provisioners[0].PauseBefore = 24 * time.Hour
		if whole {
			l.o.Timeout = 50 * time.Millisecond
		} else {
			b.Timeout = 50 * time.Millisecond
		}
		res := l.run(t, t.Context(), b).Builds[0]
		var d *DeadlineError
		if !errors.As(res.Err, &d) || res.Cancelled || res.Sealed {
			t.Fatalf("%+v", res)
		}
		f.want(t) // cleaned up
		st, err := ReadStatus(l.dir())
		if err != nil || st.Collectable(time.Now(), false) {
			t.Errorf("%+v %v", st.Builds, err)
		}
		// On a busy machine the time may be over before the build begins.
		if why := st.Builds[0].Stopped; !strings.Contains(why, "did not end within 50ms") && !strings.Contains(why, "never started") {
			t.Error(why)
		}
		b.Provisioners[0].PauseBefore, b.Timeout, l.o.Timeout = 0, time.Hour, time.Hour
		f.finished(t, l.resume(t, b).Builds[0])
	}
}
