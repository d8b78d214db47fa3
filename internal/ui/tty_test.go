package ui

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/event"
)

type rig struct {
	*TTY
	t    *testing.T
	scr  *screen
	tick chan time.Time
	now  time.Time
	cols int
	rows int
}

func newRig(t *testing.T, cols, rows int, in io.Reader) *rig {
	r := &rig{t: t, scr: newScreen(t, cols, rows), tick: make(chan time.Time), now: epoch, cols: cols, rows: rows}
	r.TTY = NewTTY(r.scr, TTYOptions{
		Color: true, In: in, Tick: r.tick,
		Now:  func() time.Time { return r.now },
		Size: func() (int, int) { return r.cols, r.rows },
	})
	t.Cleanup(r.Close)
	return r
}

// frame draws one frame and returns what is on the screen then.
func (r *rig) frame() string {
	r.mu.Lock()
	r.draw()
	r.mu.Unlock()
	return r.scr.text()
}

func (r *rig) emit(build string, e event.Event) {
	r.Read(event.Record{Time: r.now, Build: build, Event: e})
}

func want(t *testing.T, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("screen:\n%s\nwant:\n%s", got, want)
	}
}

func TestTTYView(t *testing.T) {
	r := newRig(t, 66, 20, nil)
	r.emit("", event.RunStarted{Builds: []string{"a", "b"}, Dir: "/runs/1"})
	r.emit("a", event.BuildStarted{})
	r.emit("b", event.BuildStarted{})
	r.now = r.now.Add(5 * time.Second)
	r.emit("a", event.StepStarted{Name: "provisioner 2 (shell)", Index: 2, Total: 5})
	r.emit("b", event.StepStarted{Name: "download"})
	r.emit("a", event.Say{Text: "Provisioning with shell script: x.sh"})
	for i := range 5 {
		r.emit("a", event.Output{Line: fmt.Sprintf("\x1b[31mline %d", i)})
	}
	r.emit("b", event.Progress{Task: "download x.iso", Done: 0, Total: 100 << 20, Unit: "B"})
	r.now = r.now.Add(2 * time.Second)
	r.emit("b", event.Progress{Task: "download x.iso", Done: 20 << 20, Total: 100 << 20, Unit: "B"})
	want(t, r.frame(), `==> a: Provisioning with shell script: x.sh
a  provisioner 2 (shell) 2/5  0:02 (0:07)
    line 2
    line 3
    line 4
b  download  0:02 (0:07)
  download x.iso  20%  20 MiB of 100 MiB  10 MiB/s  0:08 left`)
	writes, hidden := r.scr.state()
	if !hidden || writes != 1 {
		t.Errorf("cursor hidden %v, %d writes for one frame", hidden, writes)
	}
	r.frame()
	if w, _ := r.scr.state(); w != writes {
		t.Error("a frame without a change was written")
	}

	r.emit("b", event.Progress{Task: "download x.iso", Done: 100 << 20, Total: 100 << 20, Unit: "B"})
	r.emit("a", event.StepEnded{Name: "provisioner 2 (shell)", Failed: true})
	r.emit("a", event.BuildEnded{Elapsed: 7 * time.Second, Error: "exit status 3", Hint: "read the script"})
	want(t, r.frame(), `==> a: Provisioning with shell script: x.sh
==> a: line 0
==> a: line 1
==> a: line 2
==> a: line 3
==> a: line 4
Build 'a' errored after 7 seconds.
b  download  0:02 (0:07)`)
	r.emit("b", event.BuildEnded{Elapsed: 7 * time.Second})
	r.emit("", event.RunEnded{Elapsed: 8 * time.Second})
	r.Close()
	want(t, r.scr.text(), `==> a: Provisioning with shell script: x.sh
==> a: line 0
==> a: line 1
==> a: line 2
==> a: line 3
==> a: line 4
Build 'a' errored after 7 seconds.
Build 'b' finished after 7 seconds.

==> Wait completed after 8 seconds

==> Builds finished but no artifacts were created.

==> Some builds didn't complete successfully and had errors:
--> a: exit status 3
    read the script

The full log is /runs/1/log`)
	if _, hidden := r.scr.state(); hidden {
		t.Error("the cursor is still hidden")
	}
}

func TestTTYSmallAndResized(t *testing.T) {
	r := newRig(t, 40, 5, nil)
	r.emit("", event.RunStarted{})
	for i := range 6 {
		n := fmt.Sprintf("build.with-a-long-name.%d", i)
		r.emit(n, event.BuildStarted{})
		r.emit(n, event.StepStarted{Name: "a step with a very long name indeed"})
		r.emit(n, event.Output{Line: strings.Repeat("x", 200)})
	}
	got := r.frame()
	if n := strings.Count(got, "\n") + 1; n != 4 || !strings.HasSuffix(got, "… and 3 more") {
		t.Errorf("%d lines:\n%s", n, got)
	}
	for l := range strings.Lines(got) {
		if textWidth(strings.TrimSuffix(l, "\n")) > 39 {
			t.Errorf("too wide: %q", l)
		}
	}
	r.rows, r.scr.rows = 30, 30
	r.frame()
	r.emit("build.with-a-long-name.0", event.Say{Text: strings.Repeat("said ", 30)})
	r.frame()
	r.scr.resize(25)
	r.cols = 25
	got = r.frame()
	if n := strings.Count(got, "build."); n != 7 { // six live lines and the one that was said
		t.Errorf("after the resize %d lines with a build:\n%s", n, got)
	}
	r.Close()
	if got := r.scr.text(); strings.Count(got, "build.") != 1 {
		t.Errorf("left on the screen:\n%s", got)
	}
	r.rows, r.cols = 1, 1
	r.over = false
	r.frame() // nothing fits: nothing is drawn, nothing breaks
}

func TestTTYWideCharacters(t *testing.T) {
	r := newRig(t, 30, 10, nil)
	r.emit("", event.RunStarted{})
	r.emit("構築", event.BuildStarted{})
	r.emit("構築", event.Output{Line: strings.Repeat("漢", 40)})
	r.frame()
	r.emit("構築", event.Output{Line: "end"})
	want(t, r.frame(), "構築  0:00\n    "+strings.Repeat("漢", 12)+"…\n    end")
}

func TestAskOnTerminal(t *testing.T) {
	for _, kind := range []string{"tty", "plain"} {
		t.Run(kind, func(t *testing.T) {
			in, typed := io.Pipe()
			scr := newScreen(t, 80, 24)
			var view event.Answerer = NewPlain(scr, PlainOptions{Terminal: true, In: in})
			if kind == "tty" {
				r := NewTTY(scr, TTYOptions{In: in, Now: time.Now})
				defer r.Close()
				view = r
			}
			bus := event.NewBus(time.Now, nil, view)
			defer bus.Close()
			bus.Emit(event.RunStarted{Builds: []string{"a"}})
			sink := bus.ForBuild("a")
			sink.Emit(event.BuildStarted{})
			choices := []event.Choice{{Key: "c", Text: "clean up"}, {Key: "r", Text: "retry"}}

			go fmt.Fprint(typed, "maybe\nR\n")
			if key, err := event.Ask(t.Context(), sink, "Step failed", "c", choices...); key != "r" || err != nil {
				t.Errorf("%q %v", key, err)
			}
			if got := scr.text(); strings.Count(got, "==> a: [c] clean up, [r] retry? [c]") != 2 {
				t.Errorf("screen:\n%s", got)
			}
			go func() { // what is typed before the question is dropped
				scr.waitFor("Again")
				fmt.Fprint(typed, "\n")
			}()
			if key, err := event.Ask(t.Context(), sink, "Again", "c", choices...); key != "c" || err != nil {
				t.Errorf("%q %v", key, err)
			}
			_ = typed.Close()
			if _, err := event.Ask(t.Context(), sink, "Who is there?", ""); !errors.Is(err, event.ErrNoTerminal) {
				t.Errorf("after the end of the input: %v", err)
			}
		})
	}
}

func TestQuestionOfAnEndedBuildIsDropped(t *testing.T) {
	in, typed := io.Pipe()
	r := newRig(t, 80, 24, in)
	r.emit("", event.RunStarted{})
	for _, b := range []string{"a", "b"} {
		r.emit(b, event.BuildStarted{})
		r.emit(b, &event.Question{Text: "Go on, " + b + "?"})
	}
	r.emit("b", event.Say{Text: "held back"})
	if got := r.frame(); !strings.HasSuffix(got, "==> a: Go on, a?") {
		t.Errorf("screen:\n%s", got)
	}
	r.emit("a", event.BuildEnded{Error: "interrupted", Cancelled: true})
	if got := r.frame(); !strings.HasSuffix(got, "Go on, b?") {
		t.Errorf("screen:\n%s", got)
	}
	fmt.Fprint(typed, "\n")
	_ = typed.Close()
	r.Close()
	if got := r.scr.text(); !strings.Contains(got, "held back") || !strings.Contains(got, "Build 'a' was cancelled") {
		t.Errorf("screen:\n%s", got)
	}
}

func TestPlainPromptIsALineOfItsOwn(t *testing.T) {
	in, typed := io.Pipe()
	defer typed.Close()
	var b strings.Builder
	p := NewPlain(&b, PlainOptions{In: in})
	p.Read(event.Record{Build: "a", Event: &event.Question{Text: "Go on?"}})
	p.Read(event.Record{Build: "b", Event: event.Say{Text: "meanwhile"}})
	p.Read(event.Record{Build: "a", Event: event.BuildEnded{Error: "interrupted", Cancelled: true}})
	want(t, b.String(), "==> a: Go on? \n==> b: meanwhile\nBuild 'a' was cancelled after 0 seconds.\n")
}

func TestNobodyToAsk(t *testing.T) {
	p := NewPlain(io.Discard, PlainOptions{})
	bus := event.NewBus(time.Now, nil, p, NewJSON(io.Discard, ""), NewMachine(io.Discard, time.Now))
	defer bus.Close()
	if _, err := event.Ask(t.Context(), bus, "?", ""); !errors.Is(err, event.ErrNoTerminal) {
		t.Errorf("%v", err)
	}
}

func TestRealFrames(t *testing.T) {
	scr := newScreen(t, 80, 24)
	tick := make(chan time.Time)
	v := NewTTY(scr, TTYOptions{Now: time.Now, Tick: tick})
	v.Read(event.Record{Build: "a", Event: event.BuildStarted{}})
	tick <- time.Time{}
	tick <- time.Time{} // received: the frame before it was drawn
	if _, hidden := scr.state(); !hidden {
		t.Error("no frame was drawn")
	}
	v.Close()
	v.Close()
	if _, hidden := scr.state(); hidden || scr.text() != "" {
		t.Errorf("left behind: %q", scr.text())
	}
}
