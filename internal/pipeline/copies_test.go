package pipeline

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

func TestCopies(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.finished(t, l.run(t, t.Context(), f.build()).Builds[0])
	var kinds []string
	for _, r := range l.records(t) {
		k := string(r.Kind)
		if r.Kind == journal.KindCopy || r.Kind == journal.KindCopied {
			k = "copies" // several at a time
		}
		if len(kinds) == 0 || kinds[len(kinds)-1] != k {
			kinds = append(kinds, k)
		}
	}
	want := "run place begin state done guest provision begin state done sealed regions copies collected processed undo ended"
	if got := strings.Join(kinds, " "); got != want {
		t.Errorf("journal\n %s\nwant\n %s", got, want)
	}
	raw, err := os.ReadFile(filepath.Join(l.dir(), journal.FileName))
	if err != nil || strings.Contains(string(raw), "hunter2") || strings.Contains(string(raw), "PRIVATE") || strings.Contains(string(raw), "sensitive") {
		t.Errorf("the journal has secrets: %s %v", raw, err)
	}
	said := 0
	for _, r := range l.c.recs {
		if s, ok := r.Event.(event.Say); ok && strings.HasSuffix(s.Text, ": copied image") {
			said++
		}
	}
	if said != 3 {
		t.Errorf("%d copies said what they do, with their region", said)
	}
}

func TestRegionThatIsDownAndThenUp(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.down["ap"] = errors.New("no such luck")
	res := l.run(t, t.Context(), f.build()).Builds[0]
	var partial *PartialError
	if !errors.As(res.Err, &partial) || !res.Partial || !res.Sealed || res.Cancelled {
		t.Fatalf("%+v", res)
	}
	if partial.Done != 2 || len(partial.Regions) != 1 || partial.Regions[0].Region != "ap" {
		t.Errorf("%+v", partial)
	}
	if want := "the image is made, but 1 of 3 copies are missing\nap: no such luck"; res.Err.Error() != want {
		t.Errorf("%q, want %q", res.Err, want)
	}
	f.want(t, "eu", "image", "us") // no machine, and no note: post-processors wait
	if n := len(res.Artifacts[0].Images); n != 3 {
		t.Errorf("the artifact has %d images", n)
	}
	if n := f.calls()["ap"]; n != 1 {
		t.Errorf("an error that is not temporary was tried %d times", n)
	}
	st, err := ReadStatus(l.dir())
	if err != nil || st.Done() || st.Builds[0].String() != "image made, 2 of 3 copies made, missing: ap; the image is made, but 1 of 3 copies are missing" {
		t.Errorf("status %v %v", st.Builds, err)
	}

	// Still down: nothing is lost.
	if res := l.resume(t, f.build()).Builds[0]; !res.Partial {
		t.Fatalf("%+v", res)
	}
	f.want(t, "eu", "image", "us")

	delete(f.down, "ap")
	f.finished(t, l.resume(t, f.build()).Builds[0])
	if c := f.calls(); f.boots != 1 || c["eu"] != 1 || c["us"] != 1 || c["ap"] != 3 {
		t.Errorf("%d boots, copies %v", f.boots, c)
	}
	if st, err := ReadStatus(l.dir()); err != nil || !st.Done() || st.Builds[0].String() != "done" {
		t.Errorf("status %v %v", st, err)
	}

	// What is finished is left alone, and told again.
	before := len(l.records(t))
	f.finished(t, l.resume(t, f.build()).Builds[0])
	if n := len(l.records(t)); n != before || f.calls()["ap"] != 3 {
		t.Errorf("%d records, then %d", before, n)
	}
}

type hiccup struct{}

func (hiccup) Error() string   { return "hiccup" }
func (hiccup) Temporary() bool { return true }

func TestTemporaryErrorIsTriedAgain(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.down["us"] = hiccup{}
	l.c = &collect{}
	l.o.Copies.Tries = 3
	res := l.run(t, t.Context(), f.build()).Builds[0]
	if !res.Partial || f.calls()["us"] != 3 {
		t.Errorf("%+v, copies %v", res, f.calls())
	}
}

func TestAskAboutFailedCopies(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.down["us"] = errors.New("no")
	l.o.OnError = Ask
	up := answerer{collect: &collect{}, do: func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.down, "us")
	}}
	o := l.o
	o.RunID, o.StateDir, o.Now = "run-1", l.state, testNow
	o.Events = event.NewBus(testNow, nil, up)
	res, err := Run(t.Context(), &Plan{Builds: []Build{f.build()}}, o)
	o.Events.Close()
	if err != nil {
		t.Fatal(err)
	}
	f.finished(t, res.Builds[0])
	if c := f.calls(); c["us"] != 2 || c["eu"] != 1 {
		t.Errorf("copies %v", c)
	}
}

// An answerer mends the fault and says "retry".
type answerer struct {
	*collect
	do func()
}

func (a answerer) CanAnswer() bool { return true }
func (a answerer) Read(r event.Record) {
	if q, ok := r.Event.(*event.Question); ok {
		a.do()
		q.Answer("r", nil)
	}
}

func TestInterruptDuringCopies(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.hang["ap"] = make(chan struct{})
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("received interrupt")
	go func() { <-f.hang["ap"]; cancel(why) }()
	res := l.run(t, ctx, f.build()).Builds[0]
	var partial *PartialError
	if !res.Cancelled || res.Partial || !res.Sealed || !errors.As(res.Err, &partial) {
		t.Fatalf("%+v", res)
	}
	isVM := func(name string) bool { return strings.HasPrefix(name, "vm-") }
	if got := f.names(t); slices.ContainsFunc(got, isVM) || !slices.Contains(got, "image") || !slices.Contains(got, "ap") {
		t.Errorf("the fleet has %q", got)
	}
	f.hang = nil
	f.finished(t, l.resume(t, f.build()).Builds[0])
	if f.seen["ap"] != 1 || f.boots != 1 {
		t.Errorf("the copy was begun anew: %d, %d boots", f.seen["ap"], f.boots)
	}
}

// A dying log dies before or after it wrote a record, and takes the fleet's
// ear with it.
type dying struct {
	builder.Log
	f     *fleet
	mu    sync.Mutex
	at    int
	after bool
	n     int
	dead  bool
}

func (d *dying) Append(r journal.Record) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.dead {
		return errDead
	}
	if d.n++; d.n != d.at {
		return d.Log.Append(r)
	}
	d.dead = true
	d.f.mu.Lock()
	d.f.dead = true
	d.f.mu.Unlock()
	if d.after {
		if err := d.Log.Append(r); err != nil {
			return err
		}
	}
	return errDead
}

func TestCrashAtEveryRecord(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.finished(t, l.run(t, t.Context(), f.build()).Builds[0])
	total := len(l.records(t)) - 1 // but the header
	for n := 1; n <= total; n++ {
		for _, after := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d after=%v", n, after), func(t *testing.T) {
				f, l := newFleet(t), newLife(t)
				d := &dying{f: f, at: n, after: after}
				l.o.wrap = func(j builder.Log) builder.Log { d.Log = j; return d }
				l.run(t, t.Context(), f.build())
				if !d.dead {
					t.Fatalf("the run has fewer than %d records this time", n)
				}
				l.o.wrap, f.dead = nil, false
				before, calls := l.records(t), f.calls()
				f.finished(t, l.resume(t, f.build()).Builds[0])
				for _, r := range before {
					switch {
					case r.Kind == journal.KindSealed && f.boots != 1:
						t.Errorf("a sealed build booted again: %d boots", f.boots)
					case r.Kind == journal.KindCopied && f.calls()[r.Step] != calls[r.Step]:
						t.Errorf("the copy to %s was made again", r.Step)
					}
				}
				k := l.kinds(t)
				if k[journal.KindSealed] != 1 || k[journal.KindCollected] != 1 || k[journal.KindCopied] != 3 || k[journal.KindRestart] > 1 {
					t.Errorf("records %v", k)
				}
				if left, _ := filepath.Glob(filepath.Join(l.dir(), "0")); left != nil {
					t.Errorf("scratch folder left")
				}
			})
		}
	}
}

func TestConcludeThatFailsIsDoneAgain(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.failAt = "conclude"
	res := l.run(t, t.Context(), f.build()).Builds[0]
	if res.Err == nil || res.Partial || !res.Sealed || len(res.Artifacts[0].Images) != 4 {
		t.Fatalf("%+v", res)
	}
	f.failAt = ""
	f.finished(t, l.resume(t, f.build()).Builds[0])
	if c := f.calls(); c["eu"] != 1 || c["ap"] != 1 || c["us"] != 1 {
		t.Errorf("copies %v", c)
	}
}
