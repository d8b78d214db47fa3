package builder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// made is the state of a machine whose steps make files in dir.
type made struct {
	Files []string `json:"files"`
}

// A bench is a journal, and a platform that is a folder.
type bench struct {
	t    *testing.T
	dir  string // the platform
	runs string // the run directory
	j    *journal.Journal
}

var info = Info{Name: "web", Type: "test", Build: "b.test.web", RunID: "run-1"}

func newBench(t *testing.T) *bench {
	t.Helper()
	b := &bench{t: t, dir: t.TempDir(), runs: filepath.Join(t.TempDir(), "run")}
	j, err := journal.Create(b.runs, time.Now, journal.Header{Run: "run-1", Builds: []string{info.Build}})
	if err != nil {
		t.Fatal(err)
	}
	b.j = j
	t.Cleanup(func() { _ = b.j.Close() })
	return b
}

// restart is what a new process sees.
func (b *bench) restart() *Run {
	b.t.Helper()
	if err := b.j.Close(); err != nil {
		b.t.Fatal(err)
	}
	j, recs, err := journal.Open(b.runs, time.Now)
	if err != nil {
		b.t.Fatal(err)
	}
	b.j = j
	return NewRun(info, b.dir, event.Discard, j, recs)
}

func (b *bench) run() *Run { return NewRun(info, b.dir, event.Discard, b.j, nil) }

// journal lists what was journaled of the build.
func (b *bench) journal() (out []string) {
	b.t.Helper()
	_, recs, err := journal.Read(b.runs)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, r := range recs[1:] {
		if r.Build != info.Build {
			b.t.Errorf("record of build %q", r.Build)
		}
		s := string(r.Kind)
		if r.Step != "" {
			s += " " + r.Step
		}
		if r.Kind == journal.KindState {
			var m made
			if err := json.Unmarshal(r.Data, &m); err != nil {
				b.t.Fatal(err)
			}
			s += fmt.Sprint(" ", len(m.Files))
		}
		out = append(out, s)
	}
	return out
}

func (b *bench) there() (names []string) {
	b.t.Helper()
	list, err := os.ReadDir(b.dir)
	if err != nil {
		b.t.Fatal(err)
	}
	for _, e := range list {
		names = append(names, e.Name())
	}
	return names
}

// step makes a file. Its Do fails when fail is set, after the file was made.
func (b *bench) step(name string, fail error, product bool) Step[made] {
	return Step[made]{
		Name: name,
		Do: func(_ context.Context, _ *Run, s *made) error {
			if got := b.journal(); got[len(got)-1] != "begin "+name {
				b.t.Errorf("%s is done before it is journaled: %q", name, got)
			}
			if err := os.WriteFile(filepath.Join(b.dir, name), nil, 0o600); err != nil {
				return err
			}
			if !slices.Contains(s.Files, name) {
				s.Files = append(s.Files, name)
			}
			return fail
		},
		Undo: func(_ context.Context, _ *Run, s *made) error {
			if !slices.Contains(s.Files, name) {
				b.t.Errorf("undo of %s does not know what was made: %q", name, s.Files)
			}
			s.Files = slices.DeleteFunc(s.Files, func(f string) bool { return f == name })
			return os.Remove(filepath.Join(b.dir, name))
		},
		Product: product,
	}
}

func (b *bench) machine(boots, seals []Step[made]) *Machine[made] {
	return &Machine[made]{Boots: boots, Seals: seals, Result: func(_ context.Context, _ *Run, s *made) (artifact.Set, error) {
		return artifact.Set{ID: fmt.Sprint(s.Files)}, nil
	}}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantList(t *testing.T, what string, got, want []string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s:\n%q, want\n%q", what, got, want)
	}
}

func TestJournalOfABuild(t *testing.T) {
	b := newBench(t)
	m := b.machine([]Step[made]{b.step("disk", nil, false), b.step("vm", nil, false)}, []Step[made]{b.step("image", nil, true)})
	r := b.run()
	g, err := m.Boot(t.Context(), r)
	must(t, err)
	if g.Communicator == nil || g.Data.ConnType != "none" {
		t.Errorf("guest %+v", g)
	}
	set, err := m.Seal(t.Context(), r)
	must(t, err)
	if set.ID != "[disk vm image]" {
		t.Errorf("%+v", set)
	}
	must(t, m.Discard(t.Context(), r))
	wantList(t, "journal", b.journal(), []string{
		"begin disk", "state 1", "done disk", "begin vm", "state 2", "done vm",
		"begin image", "state 3", "done image", "sealed",
		"undo vm", "undo disk", // in reverse, the product excepted
	})
	wantList(t, "left", b.there(), []string{"image"})
	// Nothing is undone twice, in the same process or in another.
	must(t, m.Discard(t.Context(), r))
	must(t, b.machine(m.Boots, m.Seals).Discard(t.Context(), b.restart()))
	if got := b.journal(); len(got) != 12 {
		t.Errorf("undone again: %q", got)
	}
}

func TestFailedStepSavesItsState(t *testing.T) {
	b := newBench(t)
	boom := errors.New("boom")
	m := b.machine([]Step[made]{b.step("disk", nil, false), b.step("vm", boom, false), b.step("never", nil, false)}, nil)
	r := b.run()
	if _, err := m.Boot(t.Context(), r); !errors.Is(err, boom) || err.Error() != "vm: boom" {
		t.Fatalf("%v", err)
	}
	want := []string{"begin disk", "state 1", "done disk", "begin vm", "state 2"}
	wantList(t, "journal", b.journal(), want)
	// A new process knows the state and removes everything; steps that were
	// never begun are left alone.
	again := b.machine(m.Boots, nil)
	must(t, again.Discard(t.Context(), b.restart()))
	wantList(t, "journal", b.journal(), append(want, "undo vm", "undo disk"))
	wantList(t, "left", b.there(), nil)
}

func TestUnsealedProductGoes(t *testing.T) {
	b := newBench(t)
	boom := errors.New("boom")
	m := b.machine(nil, []Step[made]{b.step("image", nil, true), b.step("tag", boom, false)})
	r := b.run()
	_, err := m.Boot(t.Context(), r)
	must(t, err)
	if _, err := m.Seal(t.Context(), r); !errors.Is(err, boom) {
		t.Fatalf("%v", err)
	}
	must(t, m.Discard(t.Context(), r))
	wantList(t, "left", b.there(), nil)
}

func TestDiscardReportsEverything(t *testing.T) {
	b := newBench(t)
	one, two := errors.New("one"), errors.New("two")
	a, c, d := b.step("a", nil, false), b.step("c", nil, false), b.step("d", nil, false)
	fail := map[string]error{"a": one, "d": two}
	for _, s := range []*Step[made]{&a, &d} {
		undo, name := s.Undo, s.Name
		s.Undo = func(ctx context.Context, r *Run, st *made) error {
			if err := fail[name]; err != nil {
				return err
			}
			return undo(ctx, r, st)
		}
	}
	m := b.machine([]Step[made]{a, c, d}, nil)
	r := b.run()
	_, err := m.Boot(t.Context(), r)
	must(t, err)
	if err := m.Discard(t.Context(), r); !errors.Is(err, one) || !errors.Is(err, two) {
		t.Errorf("%v, want both", err)
	}
	wantList(t, "left", b.there(), []string{"a", "d"})
	clear(fail)
	must(t, m.Discard(t.Context(), r))
	wantList(t, "left", b.there(), nil)
}

func TestResume(t *testing.T) {
	b := newBench(t)
	boom := errors.New("boom")
	fail := boom
	vm := b.step("vm", nil, false)
	do := vm.Do
	vm.Do = func(ctx context.Context, r *Run, s *made) error {
		if err := do(ctx, r, s); err != nil {
			return err
		}
		return fail
	}
	steps := []Step[made]{b.step("disk", nil, false), vm}
	_, err := b.machine(steps, nil).Boot(t.Context(), b.run())
	if !errors.Is(err, boom) {
		t.Fatalf("%v", err)
	}
	fail = nil
	m, r := b.machine(steps, nil), b.restart()
	_, err = m.Boot(t.Context(), r)
	must(t, err)
	if !reflect.DeepEqual(m.state.Files, []string{"disk", "vm"}) {
		t.Errorf("state after a restart: %q", m.state.Files)
	}
}

func TestJournalThatFails(t *testing.T) {
	b := newBench(t)
	m := b.machine([]Step[made]{b.step("disk", nil, false)}, nil)
	r := b.run()
	must(t, b.j.Close())
	if _, err := m.Boot(t.Context(), r); err == nil {
		t.Error("no error")
	}
	wantList(t, "made without a journal", b.there(), nil)
}

func TestCancelled(t *testing.T) {
	b := newBench(t)
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(cause)
	if _, err := b.machine([]Step[made]{b.step("disk", nil, false)}, nil).Boot(ctx, b.run()); !errors.Is(err, cause) {
		t.Errorf("%v", err)
	}
	wantList(t, "journal", b.journal(), nil)
}

func TestAfterStep(t *testing.T) {
	b := newBench(t)
	boom, final := errors.New("boom"), errors.New("final")
	fails, told := 2, []string(nil)
	st := b.step("disk", nil, false)
	do := st.Do
	st.Do = func(ctx context.Context, r *Run, s *made) error {
		if err := do(ctx, r, s); err != nil {
			return err
		}
		if fails--; fails >= 0 {
			return boom
		}
		return nil
	}
	m := b.machine([]Step[made]{st}, nil)
	m.Connect = func(context.Context, *Run, *made) (communicator.Guest, error) {
		return communicator.Guest{}, boom
	}
	r := b.run()
	r.AfterStep = func(_ context.Context, step string, err error) (bool, error) {
		told = append(told, fmt.Sprint(step, " ", err))
		if step == "connect" {
			return false, final
		}
		return err != nil, err
	}
	if _, err := m.Boot(t.Context(), r); !errors.Is(err, final) || errors.Is(err, boom) {
		t.Errorf("%v, want the error of AfterStep", err)
	}
	wantList(t, "told", told, []string{"disk disk: boom", "disk disk: boom", "disk <nil>", "connect boom"})
	wantList(t, "journal", b.journal(), []string{
		"begin disk", "state 1", "begin disk", "state 1", "begin disk", "state 1", "done disk",
	})
	must(t, m.Discard(t.Context(), r))
	wantList(t, "left", b.there(), nil)
}

func TestRun(t *testing.T) {
	b := newBench(t)
	r := b.run()
	if err := r.Save(); err == nil {
		t.Error("a run without a machine saved a state")
	}
	other := info
	other.RunID = "run-2"
	token := r.Token("vm")
	for name, tok := range map[string]string{
		"another thing": r.Token("disk"),
		"another run":   NewRun(other, b.dir, event.Discard, b.j, nil).Token("vm"),
	} {
		if tok == token {
			t.Errorf("%s has the same token", name)
		}
	}
	if b.restart().Token("vm") != token {
		t.Error("the token is another after a restart")
	}
	// A build that begins anew has other tokens, the same in each process, and
	// nothing of what was.
	r = b.restart()
	must(t, r.Record(journal.KindBegin, "disk", nil))
	must(t, r.Restart())
	anew := r.Token("vm")
	if again := b.restart(); anew == token || again.Token("vm") != anew || r.pending("disk") || again.pending("disk") {
		t.Errorf("begun anew: tokens %s, %s, %s; pending: %v, %v", token, anew, again.Token("vm"), r.pending("disk"), again.pending("disk"))
	}
	if r = b.restart(); r.Restart() != nil || r.Token("vm") == anew || r.Token("vm") == token {
		t.Error("begun anew once more with a token that was used")
	}
	// Records of other builds are not this one's.
	recs := []journal.Record{{Kind: journal.KindSealed, Build: "b.test.other"}}
	if NewRun(info, b.dir, event.Discard, b.j, recs).sealed() {
		t.Error("sealed by another build's record")
	}
}
