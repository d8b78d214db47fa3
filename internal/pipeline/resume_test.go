package pipeline

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/postprocessor"
)

func testNow() time.Time { return time.Now() }

func TestUnsealedBuildBeginsAnew(t *testing.T) {
	for _, onError := range []OnError{Cleanup, Abort} {
		f, l := newFleet(t), newLife(t)
		f.failAt, l.o.OnError = "capture", onError
		res := l.run(t, t.Context(), f.build()).Builds[0]
		if res.Err == nil || res.Sealed || res.Partial {
			t.Fatalf("%s: %+v", onError, res)
		}
		st, err := ReadStatus(l.dir())
		if err != nil || st.Done() || st.Builds[0].String() != "no image yet, last begun: capture; capture: no luck" {
			t.Errorf("%s: status %v %v", onError, st.Builds, err)
		}
		f.failAt = ""
		// A token that is used again would be refused by the fleet.
		f.finished(t, l.resume(t, f.build()).Builds[0])
		if f.boots != 2 {
			t.Errorf("%s: %d boots", onError, f.boots)
		}
	}
}

func TestCrashWhileBeginningAnew(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	f.failAt, l.o.OnError = "capture", Abort
	l.run(t, t.Context(), f.build())
	f.failAt, l.o.OnError = "", Cleanup
	// Every second process gets one record further: undo capture, undo start,
	// restart, begin start; then undo start, restart, …
	for n := 1; n <= 14; n++ {
		d := &dying{f: f, at: 1, after: n%2 == 0}
		l.o.wrap = func(j builder.Log) builder.Log { d.Log = j; return d }
		if res := l.resume(t, f.build()).Builds[0]; res.Err == nil {
			t.Fatal("the dead made an image")
		}
		f.dead = false
	}
	l.o.wrap = nil
	f.finished(t, l.resume(t, f.build()).Builds[0])
}

func TestOnlyPostProcessorsThatWereNotRun(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	b := f.build()
	first := post{out: f.path("note2")}.plan(postprocessor.KeepInput)
	runs := 0
	open := first.Open
	first.Open = func(b postprocessor.Build, d communicator.Data) (postprocessor.PostProcessor, error) {
		runs++
		return open(b, d)
	}
	b.PostProcessors = append([][]PostProcessor{{first}}, b.PostProcessors...)
	f.failAt = "note"
	res := l.run(t, t.Context(), b).Builds[0]
	if res.Err == nil || !res.Sealed || res.Partial || len(res.Artifacts) != 2 {
		t.Fatalf("%+v", res)
	}
	if st, err := ReadStatus(l.dir()); err != nil || !strings.HasPrefix(st.Builds[0].String(), "image made, post-processors left; ") {
		t.Errorf("status %v %v", st.Builds, err)
	}
	f.failAt = ""
	res = l.resume(t, b).Builds[0]
	if res.Err != nil || runs != 1 || len(res.Artifacts) != 3 {
		t.Errorf("%+v, the first ran %d times", res, runs)
	}
	f.want(t, "ap", "eu", "image", "note", "note2", "us")
}

func TestResumeAmongSeveralBuilds(t *testing.T) {
	good, bad, late := newFleet(t), newFleet(t), newFleet(t)
	l := newLife(t)
	ctx, cancel := context.WithCancelCause(t.Context())
	b1, b2, b3 := good.build(), bad.build(), late.build()
	b1.Info.Build, b2.Info.Build, b3.Info.Build = "b1", "b2", "b3"
	b2.Provisioners[0].PauseBefore = 24 * time.Hour
	l.o.Parallel = 1
	l.c = &collect{saw: make(chan string, 1000)}
	go func() {
		n := 0
		for name := range l.c.saw {
			if strings.HasPrefix(name, "provisioner") {
				if n++; n == 2 {
					cancel(errors.New("received interrupt"))
				}
			}
		}
	}()
	res := l.run(t, ctx, b1, b2, b3)
	if res.Builds[0].Err != nil || !res.Builds[1].Cancelled || !res.Builds[2].Cancelled {
		t.Fatalf("%+v", res)
	}
	st, err := ReadStatus(l.dir())
	if err != nil || st.Builds[0].String() != "done" || st.Builds[2].String() != "no image yet; it was never started" {
		t.Errorf("status %v %v", st.Builds, err)
	}
	b2.Provisioners[0].PauseBefore = 0
	b4 := newFleet(t).build()
	b4.Info.Build = "b4"
	res = l.resume(t, b4, b3, b2, b1) // in another order, with one more
	for i, f := range []*fleet{good, bad, late} {
		f.finished(t, res.Builds[i])
	}
	if len(res.Builds) != 3 || good.boots != 1 || late.boots != 1 {
		t.Errorf("%d results, boots %d, %d", len(res.Builds), good.boots, late.boots)
	}
	warned := false
	for _, r := range l.c.recs {
		w, ok := r.Event.(event.Warn)
		warned = warned || ok && strings.Contains(w.Text, "b4")
	}
	if !warned {
		t.Error("no warning of the build that is left out")
	}
}

func TestResumeThatCannotBe(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	b := f.build()
	if _, err := l.process(t.Context(), Resume, b); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a run that is not there: %v", err)
	}
	l.run(t, t.Context(), b)
	other := b
	other.Info.Build = "other"
	if _, err := l.process(t.Context(), Resume, other); err == nil || !strings.Contains(err.Error(), "fleet.x") {
		t.Errorf("a build that is gone: %v", err)
	}
	j, _, err := journal.Open(l.dir(), testNow)
	if err != nil {
		t.Fatal(err)
	}
	var held *journal.HeldError
	if _, err := l.process(t.Context(), Resume, b); !errors.As(err, &held) || held.Holder.PID != os.Getpid() {
		t.Errorf("a run that is held: %v", err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := l.process(t.Context(), Resume, b); err != nil {
		t.Errorf("the lock was not given back: %v", err)
	}
}

func TestTwoBuildsOfOneNameAreNotResumed(t *testing.T) {
	l := newLife(t)
	f, g := newFleet(t), newFleet(t)
	l.run(t, t.Context(), f.build(), g.build())
	if _, err := l.process(t.Context(), Resume, f.build()); err == nil || !strings.Contains(err.Error(), "two builds") {
		t.Errorf("%v", err)
	}
}

func TestUnreadableRecordStopsItsBuild(t *testing.T) {
	f, l := newFleet(t), newLife(t)
	l.run(t, t.Context(), f.build())
	j, _, err := journal.Open(l.dir(), testNow)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j.Append(journal.Record{Kind: journal.KindCopied, Build: "fleet.x", Step: "eu", Data: []byte(`[]`)}), j.Close()); err != nil {
		t.Fatal(err)
	}
	if res := l.resume(t, f.build()).Builds[0]; res.Err == nil || !strings.Contains(res.Err.Error(), "copied") {
		t.Errorf("%+v", res)
	}
	if _, err := ReadStatus(l.dir()); err == nil {
		t.Error("the status is read from it")
	}
	if _, err := os.Stat(filepath.Join(l.dir(), "0")); err == nil {
		t.Error("the build was begun")
	}
}
