package debootstrap

import (
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
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

// make runs a whole build and returns what it made.
func makeImage(t *testing.T, cfg Config) artifact.Set {
	t.Helper()
	b, err := open(cfg, builder.Info{Name: "test", Build: "debootstrap.test", RunID: "test", Force: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := b.Check(t.Context()); err != nil {
		t.Fatal(err)
	}
	log := &memory{}
	r := builder.NewRun(builder.Info{Name: "test", Build: "debootstrap.test", RunID: "test"}, t.TempDir(), shown{t}, log, nil)
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

func TestDev(t *testing.T) {
	out := os.Getenv("DEV_OUT")
	if out == "" {
		t.Skip()
	}
	epoch := 1700000000
	set := makeImage(t, Config{OutputDir: out, ImageName: "debian-12-amd64", SourceDate: &epoch})
	t.Logf("%+v", set)
	files, _ := filepath.Glob(out + "/*")
	t.Log(files)
}
