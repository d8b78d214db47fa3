package debootstrap

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// TestReopen removes the scratch folder of a build that died, by the journal
// and by its name.
func TestReopen(t *testing.T) {
	for _, marks := range []bool{false, true} {
		dir, runs := t.TempDir(), filepath.Join(t.TempDir(), "run")
		info := builder.Info{Name: "base", Type: "debootstrap", Build: "debootstrap.base", RunID: "run-1"}
		j, err := journal.Create(runs, time.Now, journal.Header{Run: info.RunID, Builds: []string{info.Build}})
		if err != nil {
			t.Fatal(err)
		}
		defer j.Close()
		t.Chdir(dir)
		m := (&image{cfg: Config{OutputDir: "out", ImageName: "base", Format: "raw"}, info: info}).machine()
		r := builder.NewRun(info, t.TempDir(), event.Discard, j, nil)
		if _, err := m.Boot(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		place, err := m.Place(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		t.Chdir(t.TempDir())
		b, err := reopen(place, info)
		if err != nil {
			t.Fatal(err)
		}
		things, err := b.(builder.Lister).Things(r)
		if err != nil || len(things) != 1 || filepath.Dir(things[0].ID) != dir {
			t.Fatalf("%+v %v", things, err)
		}
		remove := func(ctx context.Context) error { return b.Discard(ctx, r) }
		if marks {
			finds, err := sweep(t.Context(), builder.SweepOptions{Dirs: []string{dir}})
			if err != nil || len(finds) != 1 || finds[0].Token != r.Token(finds[0].TokenOf) || finds[0].ID != things[0].ID {
				t.Fatalf("%+v %v", finds, err)
			}
			remove = finds[0].Remove
		}
		if err := remove(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(things[0].ID); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("marks=%v: %v", marks, err)
		}
	}
}
