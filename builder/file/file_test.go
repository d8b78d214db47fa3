package file

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/builder/buildertest"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

var info = builder.Info{Name: "f", Type: "file"}

func mustOpen(t *testing.T, c Config) builder.Builder {
	t.Helper()
	b, err := Driver().Open(&c, info)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestConformance is run with a target in new folders, and with one that is
// there already and must be so again when the build fails.
func TestConformance(t *testing.T) {
	source := filepath.Join(t.TempDir(), "source")
	put(t, source, "new")
	t.Run("new folders", func(t *testing.T) {
		dir := t.TempDir()
		target := filepath.Join(dir, "a", "b", "target")
		buildertest.Run(t, buildertest.Config{
			Reopen: Driver().Reopen,
			Open: func(t *testing.T) (builder.Builder, builder.Info) {
				return mustOpen(t, Config{Source: source, Target: target}), info
			},
			Leftovers: func() (left []string) {
				_, err := os.Stat(target)
				all := names(t, dir)
				if err == nil {
					all = slices.DeleteFunc(all, func(n string) bool { return n == "a" || n == "a/b" || n == "a/b/target" })
				}
				return all
			},
			Survives: func(set artifact.Set) error { return holds(target, "new") },
			Remove:   func(artifact.Set) error { return os.RemoveAll(filepath.Join(dir, "a")) },
		})
	})
	t.Run("over a file", func(t *testing.T) {
		dir := t.TempDir()
		target := filepath.Join(dir, "target")
		put(t, target, "old")
		sealed := false
		buildertest.Run(t, buildertest.Config{
			Reopen: Driver().Reopen,
			Open: func(t *testing.T) (builder.Builder, builder.Info) {
				return mustOpen(t, Config{Content: "new", Target: target}), info
			},
			Leftovers: func() []string {
				if !sealed {
					if err := holds(target, "old"); err != nil {
						return []string{err.Error()}
					}
				}
				return slices.DeleteFunc(names(t, dir), func(n string) bool { return n == "target" })
			},
			Survives: func(artifact.Set) error { sealed = true; return holds(target, "new") },
			Remove: func(artifact.Set) error {
				sealed = false
				return os.WriteFile(target, []byte("old"), 0o600)
			},
		})
	})
}

func put(t *testing.T, name, content string) {
	t.Helper()
	if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
}

func holds(name, want string) error {
	got, err := os.ReadFile(name)
	if err == nil && string(got) != want {
		err = errors.New(name + " holds " + string(got) + ", want " + want)
	}
	return err
}

// names lists everything below dir.
func names(t *testing.T, dir string) (out []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(p string, _ os.DirEntry, err error) error {
		if rel, rerr := filepath.Rel(dir, p); rel != "." && rerr == nil {
			out = append(out, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func bake(t *testing.T, c Config) (artifact.Set, error) {
	t.Helper()
	j, err := journal.Create(filepath.Join(t.TempDir(), "run"), time.Now, journal.Header{})
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close()
	b := mustOpen(t, c)
	if err := b.Check(t.Context()); err != nil {
		return artifact.Set{}, err
	}
	r := builder.NewRun(info, t.TempDir(), event.Discard, j, nil)
	g, err := b.Boot(t.Context(), r)
	if err != nil {
		return artifact.Set{}, err
	}
	if g.Data.ID != "File" || g.Data.ConnType != "none" {
		t.Errorf("guest %+v", g.Data)
	}
	return b.Seal(t.Context(), r)
}

func TestArtifact(t *testing.T) {
	t.Chdir(t.TempDir())
	put(t, "source", "from a file")
	for want, c := range map[string]Config{
		"from a file": {Source: "source", Target: "out/a"},
		"text":        {Content: "text", Target: "b"},
		"":            {Target: "c"},
	} {
		set, err := bake(t, c)
		if err != nil {
			t.Fatal(err)
		}
		if err := holds(c.Target, want); err != nil {
			t.Error(err)
		}
		if fi, err := os.Stat(c.Target); err != nil || fi.Mode().Perm() != 0o600 {
			t.Errorf("mode %v %v", fi.Mode(), err)
		}
		if set.ID != "File" || set.BuilderID != "packer.file" || set.Text != "Stored file: "+c.Target || !slices.Equal(set.Files, []string{c.Target}) {
			t.Errorf("%+v", set)
		}
	}
	for name, c := range map[string]Config{
		"missing source":     {Source: "gone", Target: "d"},
		"folder as source":   {Source: "out", Target: "d"},
		"folder as target":   {Content: "x", Target: "out"},
		"source over itself": {Source: "source", Target: "./source"},
	} {
		if _, err := bake(t, c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestOpenReportsEveryFault(t *testing.T) {
	_, err := Driver().Open(&Config{Source: "a", Content: "b"}, info)
	var got []string
	for _, e := range diag.Flatten(err) {
		var f *diag.FieldError
		if !errors.As(e, &f) {
			t.Fatalf("%v is not about an option", e)
		}
		got = append(got, f.Paths[0])
	}
	if !slices.Equal(got, []string{"target", "source"}) {
		t.Errorf("%q", got)
	}
}
