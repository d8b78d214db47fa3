package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/journal"
	"github.com/ingot-build/ingot/internal/pipeline"
)

// shownRuns is how many runs are listed: the newest.
const shownRuns = 20

// runIDs are the runs in the state folder, the oldest first.
func runIDs(state string) ([]string, error) {
	list, err := os.ReadDir(state)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("runs: %w", err)
	}
	var out []string
	for _, e := range list {
		if _, err := os.Stat(filepath.Join(state, e.Name(), journal.FileName)); err == nil {
			out = append(out, e.Name()) // ids sort by time
		}
	}
	return out, nil
}

// findRun returns the id of the run that name is, or is the beginning of.
func findRun(state, name string) (string, error) {
	ids, err := runIDs(state)
	if err != nil {
		return "", err
	}
	var found []string
	for _, id := range ids {
		if id == name {
			return id, nil
		}
		if name != "" && strings.HasPrefix(id, name) {
			found = append(found, id)
		}
	}
	switch len(found) {
	case 1:
		return found[0], nil
	case 0:
		return "", diag.WithHint(fmt.Errorf("there is no run %q in %s", name, state), "%s resume lists the runs that can be resumed", programName)
	}
	return "", diag.WithHint(fmt.Errorf("%q is the beginning of %d runs: %s", name, len(found), strings.Join(found, ", ")), "give more of the id")
}

// A listed run did not end well, or is still on.
type listedRun struct {
	Type     string                 `json:"type"`
	Run      string                 `json:"run"`
	Started  time.Time              `json:"started"`
	Template string                 `json:"template"`
	Running  bool                   `json:"running,omitempty"` // another process is at it
	Builds   []pipeline.BuildStatus `json:"builds,omitempty"`
	Error    string                 `json:"error,omitempty"` // why nothing is known of it
}

// unfinished returns the newest runs that are not finished, the newest last,
// and how many older ones there are.
func (a *app) unfinished(state string) (runs []listedRun, older int, _ error) {
	ids, err := runIDs(state)
	if err != nil {
		return nil, 0, err
	}
	for _, id := range ids {
		dir := filepath.Join(state, id)
		st, err := pipeline.ReadStatus(dir)
		switch {
		case err != nil:
			runs = append(runs, listedRun{Type: "run", Run: id, Error: err.Error()})
			continue
		case st.Done() || st.Abandoned() || st.Call == nil:
			continue
		}
		path := st.Call.Template
		if !filepath.IsAbs(path) && st.Call.Cwd != a.Cwd {
			path = filepath.Join(st.Call.Cwd, path)
		}
		held := (*journal.HeldError)(nil)
		runs = append(runs, listedRun{
			Type: "run", Run: id, Started: st.Started, Template: path, Builds: st.Builds,
			Running: asError(journal.Held(dir), &held),
		})
	}
	older = max(0, len(runs)-shownRuns)
	return runs[older:], older, nil
}

// resumable are the ids for completion, which has nobody to tell an error.
func (a *app) resumable() (ids []string) {
	state, err := a.stateDir()
	if err != nil {
		return nil
	}
	runs, _, _ := a.unfinished(state)
	for _, r := range runs {
		if r.Error == "" && !r.Running {
			ids = append(ids, r.Run)
		}
	}
	return ids
}

func (a *app) listRuns() int {
	state, err := a.stateDir()
	if err != nil {
		a.report.error(err)
		return exitFailed
	}
	runs, older, err := a.unfinished(state)
	if err != nil {
		a.report.error(err)
		return exitFailed
	}
	switch {
	case a.report.json != nil:
		enc := json.NewEncoder(a.Out)
		for _, r := range runs {
			if err := enc.Encode(r); err != nil {
				return exitFailed
			}
		}
	case a.report.machine != nil:
		for _, r := range runs {
			a.report.machine.Line(r.Run, "run", r.Started.UTC().Format(time.RFC3339), r.Template, r.state())
			for _, b := range r.Builds {
				a.report.machine.Line(r.Run, "run-build", b.Build, b.String())
			}
		}
	case len(runs) == 0:
		a.report.say("There is no run to resume.")
	default:
		a.report.say(a.runList(runs, older, state))
	}
	return exitDone
}

// state is what can be done with the run.
func (r listedRun) state() string {
	switch {
	case r.Error != "":
		return "unreadable"
	case r.Running:
		return "running"
	}
	return "stopped"
}

func (a *app) runList(runs []listedRun, older int, state string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "Runs that are not finished, the newest last; go on with %s resume RUN:\n", a.name())
	if older > 0 {
		fmt.Fprintf(&b, "\n  %d older ones are in %s\n", older, state)
	}
	for _, r := range runs {
		if r.Error != "" {
			fmt.Fprintf(&b, "\n  %s\n    cannot be read: %s\n", r.Run, r.Error)
			continue
		}
		fmt.Fprintf(&b, "\n  %s  %s  %s\n", r.Run, r.Started.In(a.Now().Location()).Format(time.DateTime), r.Template)
		if r.Running {
			b.WriteString("    another process is at it\n")
			continue
		}
		for _, build := range r.Builds {
			fmt.Fprintf(&b, "    %s: %s\n", build.Build, build)
		}
	}
	return strings.TrimRight(b.String(), "\n")
}
