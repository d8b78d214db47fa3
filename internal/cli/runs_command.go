package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/pipeline"
	"github.com/ingot-build/ingot/internal/ui"
)

func runsCommand() *command {
	words := []string{"ls", "show", "log", "rm"}
	return &command{
		name:     "runs",
		args:     "[ls | show RUN | log RUN | rm RUN ...]",
		synopsis: "the runs on this machine: list, show, log, remove",
		words:    func(*app) []string { return words },
		about: `Looks into the directory in which every run keeps its journal.

			ls, the default, lists all runs with their state. show tells the steps of a
			run with their times, what it made and what there is of it now, as far as the
			journal knows. log prints the run's log. rm removes the directories of runs
			that left nothing behind; a run that is not over is refused: resume goes on
			with it, gc gives it up.

			RUN is the run's id or the beginning of it.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			asJSON := fs.Bool("json", false, "one JSON object a line")
			return func(_ context.Context, args []string) int {
				if len(args) == 0 {
					args = []string{"ls"}
				}
				state, err := a.stateDir()
				if err != nil {
					return a.failed(err)
				}
				r := runsReader{a, state, *asJSON}
				switch word, rest := args[0], args[1:]; {
				case word == "ls" && len(rest) == 0:
					return a.failed(r.list())
				case word == "show" && len(rest) == 1:
					return a.failed(r.show(rest[0]))
				case word == "log" && len(rest) == 1:
					return a.failed(r.log(rest[0]))
				case word == "rm" && len(rest) > 0:
					return a.failed(r.remove(rest))
				}
				return a.wrong("runs", args, "ls, show RUN, log RUN or rm RUN ...")
			}
		},
	}
}

// A runsReader reads the state folder.
type runsReader struct {
	*app
	state string
	json  bool
}

// A runView is a run as it is shown.
type runView struct {
	Type     string                  `json:"type"`
	Run      string                  `json:"run"`
	State    string                  `json:"state"`
	Version  string                  `json:"version,omitempty"`
	Started  time.Time               `json:"started,omitzero"`
	Last     time.Time               `json:"last,omitzero"`
	Spent    time.Duration           `json:"spent_ns"` // from its start to its last record
	Template string                  `json:"template,omitempty"`
	Local    bool                    `json:"local,omitempty"`
	Holder   *journal.Holder         `json:"holder,omitempty"` // the process that is at it
	Builds   []pipeline.BuildHistory `json:"builds,omitempty"`
	Error    string                  `json:"error,omitempty"`
}

// view reads a run; what cannot be read is told in the view.
func (r runsReader) view(id string) runView {
	dir := filepath.Join(r.state, id)
	v := runView{Type: "run", Run: id}
	if held := (*journal.HeldError)(nil); asError(journal.Held(dir), &held) {
		v.Holder = &held.Holder
	}
	h, err := pipeline.ReadHistory(dir, func(typ string) (builder.Driver, bool) { return driverNamed(r.set, typ) })
	if err != nil {
		v.State, v.Error = "unreadable", err.Error()
		return v
	}
	v.Version, v.Started, v.Last, v.Spent, v.Builds = h.Version, h.Started, h.Last, h.Last.Sub(h.Started), h.Builds
	if h.Call != nil {
		v.Local, v.Template = h.Call.Local, h.Call.Template
		if !filepath.IsAbs(v.Template) && h.Call.Cwd != r.Cwd {
			v.Template = filepath.Join(h.Call.Cwd, v.Template)
		}
	}
	v.State = runState(h.Status, v.Holder != nil)
	return v
}

// runState is one word, or a few, for what became of a run.
func runState(s pipeline.Status, held bool) string {
	var left, dead, partial, begun bool
	for _, b := range s.Builds {
		left = left || b.Left && !b.Abandoned
		dead = dead || b.Dead
		partial = partial || !b.Done && b.Sealed
		begun = begun || b.Done || b.Step != "" || b.Sealed
	}
	switch {
	case held:
		return "running"
	case s.Abandoned():
		return "given up"
	case dead:
		return "dead"
	case s.Done():
		return "done"
	case left:
		return "failed, left in place"
	case partial:
		return "incomplete"
	case !begun:
		return "not begun"
	}
	return "failed"
}

func (r runsReader) list() error {
	ids, err := runIDs(r.state)
	if err != nil {
		return err
	}
	rows := [][]string{{"RUN", "STARTED", "STATE", "TIME", "TEMPLATE"}}
	enc := json.NewEncoder(r.Out)
	for _, id := range ids {
		v := r.view(id)
		if r.json {
			if err := enc.Encode(v); err != nil {
				return err
			}
			continue
		}
		if r.report.machine != nil {
			r.report.machine.Line(id, "run", v.Started.UTC().Format(time.RFC3339), v.Template, v.State)
			continue
		}
		if v.Error != "" {
			rows = append(rows, []string{id, "-", v.State, "-", "-"})
			continue
		}
		rows = append(rows, []string{id, r.clock(v.Started), v.State, shortly(v.Spent), or(v.Template, "-")})
	}
	switch {
	case r.json || r.report.machine != nil:
	case len(rows) == 1:
		r.report.say("There are no runs.")
	default:
		r.table(rows)
	}
	return nil
}

func (r runsReader) clock(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.In(r.Now().Location()).Format(time.DateTime)
}

// shortly is a time to a tenth of a second, or to a second.
func shortly(d time.Duration) string {
	if d < 10*time.Second {
		return d.Round(100 * time.Millisecond).String()
	}
	return d.Round(time.Second).String()
}

func (r runsReader) show(name string) error {
	id, err := r.find(name)
	if err != nil {
		return err
	}
	v := r.view(id)
	if r.json {
		return json.NewEncoder(r.Out).Encode(v)
	}
	if v.Error != "" {
		return errors.New(v.Error)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Run %s: %s\n  started %s by Ingot %s, last record after %s\n", id, v.State, r.clock(v.Started), v.Version, shortly(v.Spent))
	if v.Template != "" {
		fmt.Fprintf(&b, "  template %s\n", v.Template)
	}
	if v.Holder != nil {
		fmt.Fprintf(&b, "  process %d on %s is at it\n", v.Holder.PID, v.Holder.Host)
	}
	for _, build := range v.Builds {
		r.showBuild(&b, build)
	}
	r.report.say(strings.TrimRight(b.String(), "\n"))
	return nil
}

func (r runsReader) showBuild(w io.Writer, b pipeline.BuildHistory) {
	line := func(format string, args ...any) { fmt.Fprintf(w, format+"\n", args...) } // into memory: cannot fail
	line("\n%s: %s\n  %s spent", b.Build, b, shortly(b.Spent))
	if b.Attempt > 1 {
		line("  begun anew %d times", b.Attempt-1)
	}
	for _, s := range b.Steps {
		took := shortly(s.Elapsed)
		if s.Elapsed == 0 && s.State != "done" {
			took = "-"
		}
		line("  %s  %-32s %-7s %s", s.Started.In(r.Now().Location()).Format(time.TimeOnly), s.Name, s.State, took)
	}
	for _, t := range b.Things {
		what := "is there"
		if t.Keep {
			what = "is part of the artifact"
		}
		if t.At != "" {
			what = "in " + t.At + " " + what
		}
		line("  %s %s %s", t.Kind, t.ID, what)
	}
	for _, a := range b.Artifacts {
		line("  artifact: %s", strings.ReplaceAll(strings.TrimSpace(or(a.Text, a.ID)), "\n", "\n    "))
	}
}

func (r runsReader) log(name string) error {
	id, err := r.find(name)
	if err != nil {
		return err
	}
	dir := filepath.Join(r.state, id)
	f, err := os.Open(filepath.Join(dir, ui.LogName))
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("run %s has no log", id)
	}
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err := io.Copy(r.Out, f); err != nil {
		return fmt.Errorf("log of run %s: %w", id, err)
	}
	others, _ := filepath.Glob(filepath.Join(dir, "*.log")) // the pattern is fixed
	for _, o := range others {
		r.report.say("There is more in " + o)
	}
	return nil
}

func (r runsReader) remove(names []string) error {
	var errs []error
	for _, name := range names {
		id, err := r.find(name)
		if err == nil {
			err = pipeline.RemoveRun(r.state, id, r.Now)
		}
		if err != nil {
			errs = append(errs, err)
			continue
		}
		if !r.json {
			r.report.say("Removed run " + id)
		}
	}
	if len(errs) == 1 {
		return errs[0] // with its hint
	}
	return errors.Join(errs...)
}

func (r runsReader) find(name string) (string, error) {
	id, err := findRun(r.state, name)
	if err != nil && diag.Hint(err) != "" {
		return "", diag.WithHint(errors.New(err.Error()), "see what there is: %s runs", programName)
	}
	return id, err
}
