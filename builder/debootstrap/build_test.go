package debootstrap

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// memory is a journal that outlives a run.
type memory struct {
	mu   sync.Mutex
	recs []journal.Record
}

func (m *memory) Append(r journal.Record) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.recs = append(m.recs, r)
	return nil
}

// shown is a sink that writes into the test's log.
type shown struct{ t *testing.T }

func (s shown) Emit(e event.Event) {
	switch e := e.(type) {
	case event.Say:
		s.t.Log(e.Text)
	case event.Output:
		s.t.Log(e.Line)
	case event.Detail:
		s.t.Log(e.Text)
	}
}

// start opens a builder for a build of its own.
func start(t *testing.T, cfg Config, events event.Sink) (builder.Builder, *builder.Run) {
	t.Helper()
	info := builder.Info{Name: "test", Build: "debootstrap.test", RunID: "test"}
	b, err := open(cfg, info)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b, builder.NewRun(info, t.TempDir(), events, &memory{}, nil)
}

// makeImage runs a whole build and returns what it made.
func makeImage(t *testing.T, cfg Config) artifact.Set {
	t.Helper()
	b, r := start(t, cfg, shown{t})
	if _, err := b.Boot(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	set, err := b.Seal(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Discard(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	return set
}

func needTools(t *testing.T) {
	t.Helper()
	if testing.Short() {
		t.Skip("needs mmdebstrap and an archive of packages")
	}
	if _, err := exec.LookPath("mmdebstrap"); err != nil {
		t.Fatalf("%v: run `make setup-test`", err)
	}
}

// nothingIn fails when a folder is not empty.
func nothingIn(t *testing.T, dir string) {
	t.Helper()
	names, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range names {
		t.Errorf("%s was left", filepath.Join(dir, n.Name()))
	}
}

func TestFailureLeavesNothing(t *testing.T) {
	needTools(t)
	parent := t.TempDir()
	b, r := start(t, Config{Architecture: "amd64", OutputDir: filepath.Join(parent, "out"), Mirrors: []string{"http://127.0.0.1:9/debian"}}, shown{t})
	if _, err := b.Boot(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	_, err := b.Seal(t.Context(), r)
	if err == nil {
		t.Fatal("an image was made from an archive that is not there")
	}
	if !strings.Contains(err.Error(), "127.0.0.1") || !strings.Contains(diag.Hint(err), "mirrors") {
		t.Errorf("the fault is told as %q, the remedy as %q", err, diag.Hint(err))
	}
	if err := b.Discard(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	nothingIn(t, parent)
}

// trigger calls do when a line of output holds text.
type trigger struct {
	shown
	text string
	do   func()
}

func (g trigger) Emit(e event.Event) {
	if o, ok := e.(event.Output); ok && strings.Contains(o.Line, g.text) {
		g.do()
	}
	g.shown.Emit(e)
}

func TestCancelLeavesNothing(t *testing.T) {
	needTools(t)
	parent := t.TempDir()
	ctx, cancel := context.WithCancelCause(t.Context())
	stopped := errors.New("stopped")
	b, r := start(t, Config{Architecture: "amd64", OutputDir: filepath.Join(parent, "out")},
		trigger{shown{t}, "extracting archives", func() { cancel(stopped) }})
	if _, err := b.Boot(ctx, r); err != nil {
		t.Fatal(err)
	}
	if _, err := b.Seal(ctx, r); !errors.Is(err, stopped) {
		t.Fatalf("stopped, and got %v", err)
	}
	if err := b.Discard(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	nothingIn(t, parent)
}

func TestCheckNamesWhatIsMissing(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("PATH", dir)
	if err := os.WriteFile(filepath.Join(dir, "file"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	b, err := open(Config{Architecture: "amd64", OutputDir: dir}, builder.Info{Name: "test"})
	if err != nil {
		t.Fatal(err)
	}
	err = b.Check(t.Context())
	var text, hints []string
	for _, e := range diag.Flatten(err) {
		text, hints = append(text, e.Error()), append(hints, diag.Hint(e))
	}
	for _, want := range []string{"mmdebstrap", "mke2fs", "debugfs", "qemu-img", "mcopy", dir + " exists already"} {
		if !strings.Contains(strings.Join(text, "\n"), want) {
			t.Errorf("%q is not told of: %q", want, text)
		}
	}
	if want := "apt-get install e2fsprogs mtools mmdebstrap qemu-utils"; !strings.HasPrefix(hints[0], want) {
		t.Errorf("the remedy is %q, not %q", hints[0], want)
	}
}
