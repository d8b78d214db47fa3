package qemu

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// begun makes what a build has before its machine runs, and forgets about it.
func begun(t *testing.T, dir string) (place json.RawMessage, again func() *builder.Run) {
	t.Helper()
	info := builder.Info{Name: "web", Type: "qemu", Build: "qemu.web", RunID: "run-" + rand.Text()}
	runs := filepath.Join(t.TempDir(), strings.Repeat("long", 25)) // so that sockets have a short name
	j, err := journal.Create(runs, time.Now, journal.Header{Run: info.RunID, Builds: []string{info.Build}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close() })
	t.Chdir(dir)
	m := (&machine{cfg: Config{OutputDir: "out"}, info: info}).steps().(*builder.Machine[state])
	m.Connect = nil
	m.Boots = slices.DeleteFunc(m.Boots, func(s builder.Step[state]) bool { return s.Name != "work-folder" && s.Name != "sockets" })
	r := builder.NewRun(info, filepath.Join(runs, "0"), event.Discard, j, nil)
	if err := os.MkdirAll(r.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Boot(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	if place, err = m.Place(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir()) // whoever removes it is somewhere else
	return place, func() *builder.Run {
		_, recs, err := journal.Read(runs)
		if err != nil {
			t.Fatal(err)
		}
		return builder.NewRun(info, r.Dir, event.Discard, j, recs)
	}
}

func TestReopen(t *testing.T) {
	dir := t.TempDir()
	place, run := begun(t, dir)
	b, err := reopen(place, builder.Info{Type: "qemu"})
	if err != nil {
		t.Fatal(err)
	}
	m, r := b.(*builder.Machine[state]), run()
	things, err := m.Things(r)
	if err != nil || len(things) != 2 || filepath.Dir(things[0].ID) != dir {
		t.Fatalf("%+v %v", things, err)
	}
	if err := m.Discard(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for _, th := range things {
		if _, err := os.Lstat(th.ID); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s %s: %v", th.Kind, th.ID, err)
		}
	}
	if things, err := m.Things(r); err != nil || len(things) > 0 {
		t.Errorf("afterwards: %+v %v", things, err)
	}
}

// The same by the marks alone.
func TestSweep(t *testing.T) {
	dir := t.TempDir()
	_, run := begun(t, dir)
	r := run()
	for _, name := range []string{"other", "out.ingot-1234", "out.ingot-0123456789abcdef0123456x"} {
		if err := os.Mkdir(filepath.Join(dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.RemoveAll(r.Dir); err != nil { // with the journal's folder the link leads nowhere
		t.Fatal(err)
	}
	if finds, err := sweep(t.Context(), builder.SweepOptions{Runs: t.TempDir()}); err != nil || len(finds) > 0 {
		t.Errorf("of other runs: %+v %v", finds, err)
	}
	finds, err := sweep(t.Context(), builder.SweepOptions{Dirs: []string{dir, filepath.Join(dir, "none")}, Runs: filepath.Dir(r.Dir)})
	if err != nil {
		t.Fatal(err)
	}
	var kinds []string
	for _, f := range finds {
		if !slices.Contains(builder.Tokens(r.Info, nil, f.TokenOf), f.Token) {
			t.Errorf("found %s %s", f.Kind, f.ID)
			continue
		}
		kinds = append(kinds, f.Kind)
		if err := f.Remove(t.Context()); err != nil {
			t.Error(err)
		}
		if exists(f.ID) {
			t.Errorf("%s is still there", f.ID)
		}
	}
	if slices.Sort(kinds); !slices.Equal(kinds, []string{"folder", "link"}) {
		t.Errorf("found %q", kinds)
	}
}

const waitVar = "INGOT_TEST_WAIT"

// TestWaits is the process of another test.
func TestWaits(t *testing.T) {
	if os.Getenv(waitVar) == "" {
		t.Skip("is for another test")
	}
	_, _ = io.Copy(io.Discard, os.Stdin) // until it is ended, or nobody is there any more
}

// A process is known by the argument that a build gives it, and by nothing
// that only looks like it.
func TestSweepFindsProcesses(t *testing.T) {
	token := builder.NewRun(builder.Info{RunID: t.Name() + rand.Text()}, "", nil, nil, nil).Token("vm")
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	// This program waits for its input, under another name.
	wait := func(program string, args ...string) *exec.Cmd {
		cmd := exec.CommandContext(t.Context(), self)
		cmd.Args = append([]string{filepath.Join(dir, program), "-test.run=^TestWaits$"}, args...)
		cmd.Env = append(os.Environ(), waitVar+"=1")
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = in.Close() })
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		return cmd
	}
	runs := filepath.Join(dir, "a,b")
	mine := wait("qemu-system-x86_64", "socket,"+mark(token)+",path="+esc(runs)+"/r/0/qmp.sock,server=on")
	_ = wait("qemu-system-x86_64", "socket,"+mark(token)+",path="+esc(runs)+"-other/r/0/qmp.sock,server=on")
	_ = wait("tail", "file="+runs+"/r/0/"+token+".pid")
	_ = wait("qemu-system-x86_64", "file="+runs+"/r/0/"+token+"/disk")
	found, err := sweep(t.Context(), builder.SweepOptions{Runs: runs})
	if err != nil {
		t.Fatal(err)
	}
	if len(found) != 1 || found[0].Kind != "QEMU process" || found[0].Since.IsZero() || time.Since(found[0].Since) > time.Hour {
		t.Fatalf("%+v", found)
	}
	// Nobody but the process itself is ended.
	done := make(chan error, 1)
	go func() { done <- mine.Wait() }()
	if err := found[0].Remove(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-done
}
