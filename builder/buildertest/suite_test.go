package buildertest_test

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/builder/buildertest"
	"github.com/ingot-build/ingot/internal/artifact"
)

// fault is what a builder under test does wrong.
type fault string

const (
	right       fault = ""
	leaks       fault = "leaks"       // never removes its machine
	forgets     fault = "forgets"     // names its machine by chance and saves the name too late
	repeats     fault = "repeats"     // cannot do a step again
	destroys    fault = "destroys"    // removes the sealed image
	ignoresStop fault = "ignoresStop" // boots although it is cancelled

	copies      fault = "copies"      // nothing: it is right, and copies to regions
	copiesTwice fault = "copiesTwice" // makes a further copy when it is asked again
	keepsHelper fault = "keepsHelper" // leaves what only served the copying
	keepsCopy   fault = "keepsCopy"   // leaves a copy that is given up
)

type state struct{ VM string }

// copier makes m copy to regions: a copy is a file, and so is a helper that
// the copies need.
func copier(m *builder.Machine[state], dir string, f fault) {
	helper := filepath.Join(dir, "helper")
	m.Seals = append(m.Seals, builder.Step[state]{
		Name: "helper", Product: true,
		Do:   func(context.Context, *builder.Run, *state) error { return os.WriteFile(helper, nil, 0o600) },
		Undo: func(context.Context, *builder.Run, *state) error { return gone(os.Remove(helper)) },
	})
	m.Copies = &builder.Copies[state]{
		Regions: func(*state) []string { return []string{"eu", "ap"} },
		Copy: func(_ context.Context, c *builder.Copy, _ *state, _ artifact.Set) (artifact.SystemImage, error) {
			name := "copy-" + c.Region + "-" + c.Token
			if f == copiesTwice {
				name += rand.Text()
			}
			if _, err := os.Stat(helper); err != nil {
				return artifact.SystemImage{}, err
			}
			if err := os.WriteFile(filepath.Join(dir, name), nil, 0o600); err != nil {
				return artifact.SystemImage{}, err
			}
			img := artifact.SystemImage{Ref: artifact.Ref{Region: c.Region, ID: name}}
			return img, c.Save(name)
		},
		Conclude: func(_ context.Context, _ *builder.Run, _ *state, set artifact.Set, made []artifact.SystemImage) (artifact.Set, error) {
			for _, img := range made {
				set.Files = append(set.Files, filepath.Join(dir, img.ID))
			}
			if f == keepsHelper {
				return set, nil
			}
			return set, gone(os.Remove(helper))
		},
		Partial: func(set artifact.Set, _ []artifact.SystemImage) artifact.Set { return set },
		Unfinished: func(_ context.Context, c *builder.Copy, _ *state) ([]builder.Thing, error) {
			name := "copy-" + c.Region + "-" + c.Token
			if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
				return nil, gone(err)
			}
			return []builder.Thing{{Kind: "copy", ID: name, At: c.Region}}, nil
		},
		Abandon: func(_ context.Context, c *builder.Copy, _ *state) error {
			if f == keepsCopy {
				return nil
			}
			return gone(os.Remove(filepath.Join(dir, "copy-"+c.Region+"-"+c.Token)))
		},
	}
}

// copyLeftovers are what a platform with copies has too many of.
func copyLeftovers(dir string) (left []string, err error) {
	for _, pattern := range []string{"copy-eu-*", "copy-ap-*", "helper"} {
		found, err := filepath.Glob(filepath.Join(dir, pattern))
		if err != nil {
			return nil, err
		}
		if pattern != "helper" && len(found) > 0 {
			found = found[1:]
		}
		left = append(left, found...)
	}
	return left, nil
}

// platform is a folder: machines and images are files in it.
func open(dir string, f fault) builder.Builder {
	vm := builder.Step[state]{
		Name: "vm",
		Do: func(_ context.Context, r *builder.Run, s *state) error {
			if s.VM != "" && f != repeats {
				return nil // made before a crash
			}
			name := r.Token("vm")
			if f == forgets {
				tmp, err := os.CreateTemp(dir, "vm")
				if err != nil {
					return err
				}
				s.VM = filepath.Base(tmp.Name())
				return tmp.Close()
			}
			how := os.O_CREATE
			if f == repeats {
				how |= os.O_EXCL
			}
			file, err := os.OpenFile(filepath.Join(dir, name), how, 0o600)
			if err != nil {
				return err
			}
			s.VM = name
			return errors.Join(file.Close(), r.Save())
		},
		Undo: func(_ context.Context, r *builder.Run, s *state) error {
			if f == leaks {
				return nil
			}
			name := s.VM
			if name == "" && f == forgets {
				return nil
			}
			if name == "" {
				name = r.Token("vm")
			}
			return gone(os.Remove(filepath.Join(dir, name)))
		},
	}
	image := builder.Step[state]{
		Name: "image", Product: f != destroys,
		Do: func(context.Context, *builder.Run, *state) error {
			return os.WriteFile(filepath.Join(dir, "image"), nil, 0o600)
		},
		Undo: func(context.Context, *builder.Run, *state) error { return gone(os.Remove(filepath.Join(dir, "image"))) },
	}
	m := &builder.Machine[state]{
		Boots: []builder.Step[state]{vm}, Seals: []builder.Step[state]{image},
		Result: func(context.Context, *builder.Run, *state) (artifact.Set, error) {
			return artifact.Set{Files: []string{filepath.Join(dir, "image")}}, nil
		},
	}
	if f == ignoresStop {
		m.Boots = nil
	}
	if f == copies || f == copiesTwice || f == keepsHelper || f == keepsCopy {
		copier(m, dir, f)
	}
	return m
}

func gone(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

const faultVar = "INGOT_TEST_FAULT"

func run(t *testing.T, f fault) {
	dir := t.TempDir()
	buildertest.Run(t, buildertest.Config{
		Open: func(*testing.T) (builder.Builder, builder.Info) {
			return open(dir, f), builder.Info{Name: "x", Type: "folder"}
		},
		Reopen: func(json.RawMessage, builder.Info) (builder.Builder, error) { return open(dir, f), nil },
		Leftovers: func() (left []string) {
			all, err := filepath.Glob(filepath.Join(dir, "*vm*"))
			if err != nil {
				t.Error(err)
			}
			more, err := filepath.Glob(filepath.Join(dir, "ingot-*"))
			if err != nil {
				t.Error(err)
			}
			again, err := copyLeftovers(dir)
			if err != nil {
				t.Error(err)
			}
			return slices.Concat(all, more, again)
		},
	})
}

// TestSuite passes with a builder that is right, and in a process of its own
// fails with each that is not.
func TestSuite(t *testing.T) {
	if f := os.Getenv(faultVar); f != "" {
		run(t, fault(f))
		return
	}
	t.Run("right", func(t *testing.T) { run(t, right) })
	t.Run("copies", func(t *testing.T) { run(t, copies) })
	for f, said := range map[fault]string{
		leaks: "left after the clean-up", forgets: "left after the clean-up", repeats: "file exists",
		destroys: "did not survive", ignoresStop: "after the cancel",
		copiesTwice: "asked for again", keepsHelper: "left after the clean-up", keepsCopy: "given up, and there is",
	} {
		t.Run(string(f), func(t *testing.T) {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSuite$")
			cmd.Env = append(os.Environ(), faultVar+"="+string(f))
			out, err := cmd.CombinedOutput()
			var exit *exec.ExitError
			if !errors.As(err, &exit) || !strings.Contains(string(out), said) {
				t.Errorf("the suite did not find that the builder %s: %v\n%s", f, err, out)
			}
		})
	}
}
