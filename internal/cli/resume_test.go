package cli

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/pipeline"
)

// islands is a platform with a region for each file in its folder: a copy to
// another one fails.
func islands(dir string) component.Set {
	type none struct{}
	type config struct {
		Regions []string `hcl:"regions"`
	}
	partial := func(set artifact.Set, copies []artifact.SystemImage) artifact.Set {
		for _, img := range copies {
			set.Text += " " + img.Region
		}
		return set
	}
	open := func(c config, _ builder.Info) (builder.Builder, error) {
		return &builder.Machine[none]{
			Result: func(context.Context, *builder.Run, *none) (artifact.Set, error) {
				return artifact.Set{ID: "i", Text: "images in home"}, nil
			},
			Copies: &builder.Copies[none]{
				Regions: func(*none) []string { return c.Regions },
				Copy: func(_ context.Context, c *builder.Copy, _ *none, _ artifact.Set) (artifact.SystemImage, error) {
					_, err := os.Stat(filepath.Join(dir, c.Region))
					return artifact.SystemImage{Ref: artifact.Ref{Region: c.Region, ID: c.Region}}, err
				},
				Conclude: func(_ context.Context, _ *builder.Run, _ *none, set artifact.Set, copies []artifact.SystemImage) (artifact.Set, error) {
					return partial(set, copies), nil
				},
				Partial: partial,
			},
		}, nil
	}
	bench := benchSet(nil)
	bench.Builders = append(bench.Builders, builder.NewDriver("islands", open))
	return bench
}

func onlyRun(t *testing.T, s Streams) string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(s.Cwd, "state/ingot/runs"))
	if err != nil || len(list) != 1 {
		t.Fatalf("runs %v, %v", list, err)
	}
	return list[0].Name()
}

func TestPartialBuildAndResume(t *testing.T) {
	var out buffer
	s := testStreams(t, &out)
	world := t.TempDir()
	write(t, world, "eu", "")
	write(t, s.Cwd, "t.pkr.hcl", `
source "islands" "a" { regions = ["eu", "ap"] }
build { sources = ["source.islands.a"] }
`)
	main := func(code int, args ...string) string {
		t.Helper()
		out.mu.Lock()
		out.b.Reset()
		out.mu.Unlock()
		if got := Main(t.Context(), s, only(islands(world)), args); got != code {
			t.Errorf("%q: exit code %d, want %d:\n%s", args, got, code, &out)
		}
		return out.String()
	}
	wants := func(text string, want ...string) {
		t.Helper()
		for _, w := range want {
			if !strings.Contains(text, w) {
				t.Errorf("no %q in:\n%s", w, text)
			}
		}
	}
	text := main(4, "build", ".")
	run := onlyRun(t, s)
	wants(text, "Build 'islands.a' errored after", "Failed builds left behind:\n--> islands.a: images in home eu\n",
		"the image is made, but 1 of 2 copies are missing\n    ap: ")
	if last := "ingot resume " + run + "\n"; !strings.HasSuffix(text, last) {
		t.Errorf("the output does not end with %q:\n%s", last, text)
	}
	wants(main(0, "resume"), run, "islands.a: image made, 1 of 2 copies made, missing: ap; ")

	// In other forms.
	wants(main(4, "resume", "-progress=json", run), `{"type":"hello"`, `"type":"run-ended"`)
	wants(main(4, "-machine-readable", "resume", run), ",islands.a,error,the image is made", ",ui,say,\\nThe image is made; what is missing is made by: ingot resume "+run)

	write(t, world, "ap", "")
	text = main(0, "resume", run)
	wants(text, "--> islands.a: images in home eu ap\n", "Build 'islands.a' finished after")
	if strings.Contains(text, "ingot resume") {
		t.Errorf("a finished run is to be resumed:\n%s", text)
	}
	wants(main(0, "resume", run), "nothing left to do")
}

func TestOutcome(t *testing.T) {
	bad := errors.New("bad")
	ok, failed := pipeline.BuildResult{}, pipeline.BuildResult{Err: bad}
	part := pipeline.BuildResult{Err: bad, Partial: true, Sealed: true}
	cut := pipeline.BuildResult{Err: bad, Cancelled: true, Sealed: true}
	for _, tt := range []struct {
		builds []pipeline.BuildResult
		code   int
		made   bool
	}{
		{[]pipeline.BuildResult{ok, ok}, 0, false},
		{[]pipeline.BuildResult{ok, failed}, 1, false},
		{[]pipeline.BuildResult{part, ok, part}, 4, true},
		{[]pipeline.BuildResult{part, failed}, 1, true},
		{[]pipeline.BuildResult{failed, part}, 1, true},
		{[]pipeline.BuildResult{cut}, 1, true},
	} {
		if code, made := outcome(pipeline.Result{Builds: tt.builds}); code != tt.code || made != tt.made {
			t.Errorf("%+v: %d, %v", tt.builds, code, made)
		}
	}
}

// bareRun makes the journal of a run that did not end.
func bareRun(t *testing.T, s Streams, id string, call *journal.Call) {
	t.Helper()
	j, err := journal.Create(filepath.Join(s.Cwd, "state/ingot/runs", id), time.Now, journal.Header{
		Version: "0.0.1", Run: id, Started: time.Now(), Builds: []string{"bench.a"}, Call: call,
	})
	if err == nil {
		err = j.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestRunsThatCannotBeResumed(t *testing.T) {
	var out buffer
	s := testStreams(t, &out)
	benchTemplate(t, s.Cwd, "")
	call := &journal.Call{Cwd: s.Cwd, Template: "t.pkr.hcl"}
	bareRun(t, s, "0001-a", nil)
	bareRun(t, s, "0001-b", call)
	bareRun(t, s, "0002-c", &journal.Call{Cwd: "/nowhere", Template: "t.pkr.hcl"})
	write(t, s.Cwd, "state/ingot/runs/0003-d/journal", "nonsense\n")
	write(t, s.Cwd, "state/ingot/runs/0003-d/lock", "")
	s.Chdir = func(dir string) error { _, err := os.Stat(dir); return err }
	for run, want := range map[string]string{
		"0001":   "beginning of 2 runs: 0001-a, 0001-b",
		"0001-a": "Ingot 0.0.1 did not keep its command line",
		"0001-b": "file t.pkr.hcl is new", // the call knows no files
		"0002":   "the folder that the run was started in",
		"0003":   "is not a record",
		"":       `there is no run ""`,
	} {
		out = buffer{}
		if code := Main(t.Context(), s, benches(nil), []string{"resume", run}); code != 1 || !strings.Contains(out.String(), want) {
			t.Errorf("%q: exit code %d, no %q in:\n%s", run, code, want, &out)
		}
	}
	out = buffer{}
	if code := Main(t.Context(), s, benches(nil), []string{"resume", "-progress=json"}); code != 0 {
		t.Errorf("exit code %d:\n%s", code, &out)
	}
	var got []string
	for _, line := range strings.Split(strings.TrimSpace(out.String()), "\n")[1:] {
		var r listedRun
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%s: %v", line, err)
		}
		got = append(got, r.Run+" "+r.state())
	}
	if want := "0001-b stopped|0002-c stopped|0003-d unreadable"; strings.Join(got, "|") != want {
		t.Errorf("%q, want %q", got, want)
	}
	// Accepted, the run is carried out.
	out = buffer{}
	if code := Main(t.Context(), s, benches(nil), []string{"resume", "-accept-changes", "0001-b"}); code != 0 || !strings.Contains(out.String(), "--> bench.a: a bench") {
		t.Errorf("exit code %d:\n%s", code, &out)
	}
}

func TestManyRunsAreCut(t *testing.T) {
	var out buffer
	s := testStreams(t, &out)
	for i := range shownRuns + 3 {
		bareRun(t, s, string(rune('a'+i)), &journal.Call{Cwd: s.Cwd, Template: "t"})
	}
	if code := Main(t.Context(), s, benches(nil), []string{"resume"}); code != 0 || !strings.Contains(out.String(), "  3 older ones are in ") ||
		strings.Contains(out.String(), "\n  c  ") || !strings.Contains(out.String(), "\n  d  ") {
		t.Errorf("exit code %d:\n%s", code, &out)
	}
}
