package pipeline

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/journal"
)

// SweepOptions is how to judge what was found by its marks.
type SweepOptions struct {
	StateDir  string
	Now       func() time.Time
	OlderThan time.Duration // what is not known here must be older: another machine's run may be on
	Run       string        // only this run's, whatever its age; "" for all
	All       bool          // also of runs that could be resumed
	DryRun    bool
}

// A Swept is a find and what became of it.
type Swept struct {
	builder.Find
	Why     string // it is removed, or kept
	Remove  bool   // it is to go
	Removed bool
	Err     error // why it is still there
}

// sweepers bounds how many things of a kind are removed at the same time.
const sweepers = 8

// Sweep judges finds and removes those that belong to no run that is on or
// that could be resumed. Finds of a kind that stand together are removed at
// the same time, kinds one after another.
func Sweep(ctx context.Context, finds []builder.Find, o SweepOptions) []Swept {
	j := &judge{opts: o, runs: map[string]verdict{}}
	out := make([]Swept, 0, len(finds))
	for _, f := range finds {
		if f.Run == "" && f.Token != "" {
			f.Run, f.Build = j.owner(f.Token, f.TokenOf)
		}
		if o.Run == "" || f.Run == o.Run {
			out = append(out, Swept{Find: f})
		}
	}
	newest := map[string]time.Time{}
	for _, s := range out {
		if k := s.group(); s.Since.After(newest[k]) {
			newest[k] = s.Since
		}
	}
	for i := range out {
		out[i].Remove, out[i].Why = j.judge(out[i], newest[out[i].group()])
	}
	if o.DryRun {
		return out
	}
	for from := 0; from < len(out); {
		to := from + 1
		for to < len(out) && out[to].Kind == out[from].Kind && to-from < sweepers {
			to++
		}
		removeFinds(ctx, out[from:to])
		from = to
	}
	return out
}

func removeFinds(ctx context.Context, list []Swept) {
	var wg sync.WaitGroup
	for i := range list {
		s := &list[i]
		if !s.Remove {
			continue
		}
		wg.Go(func() {
			if s.Err = context.Cause(ctx); s.Err == nil {
				s.Err = s.Find.Remove(ctx)
			}
			s.Removed = s.Err == nil
		})
	}
	wg.Wait()
}

// group is what is of one age: a run, or one build's files.
func (s Swept) group() string {
	if s.Run != "" {
		return s.Run
	}
	return s.Token + s.ID
}

// A judge knows the runs of the state folder.
type judge struct {
	opts   SweepOptions
	runs   map[string]verdict
	tokens map[string][2]string // run and build, by what the token is of and the token
	asked  map[string]bool
}

// A verdict is what a journal says of things of its run.
type verdict struct {
	known, remove bool
	why           string
}

func (j *judge) judge(s Swept, newest time.Time) (remove bool, why string) {
	if s.Run != "" {
		if v := j.run(s.Run); v.known {
			return v.remove, v.why
		}
	}
	if j.opts.Run != "" {
		return true, "its run is given up"
	}
	if newest.IsZero() {
		newest = startOf(s.Run)
	}
	switch age := j.opts.Now().Sub(newest); {
	case newest.IsZero() && j.opts.OlderThan > 0:
		return false, "its age is not known, and its run is not known here"
	case age < j.opts.OlderThan:
		return false, fmt.Sprintf("its run is not known here and may be on elsewhere: it is younger than %s", j.opts.OlderThan)
	}
	return true, "its run is not known here"
}

func (j *judge) run(id string) verdict {
	if v, ok := j.runs[id]; ok {
		return v
	}
	v := j.look(id)
	j.runs[id] = v
	return v
}

func (j *judge) look(id string) verdict {
	dir := filepath.Join(j.opts.StateDir, filepath.Base(id))
	if _, err := os.Stat(filepath.Join(dir, journal.FileName)); err != nil || filepath.Base(id) != id {
		return verdict{}
	}
	var held *journal.HeldError
	if errors.As(journal.Held(dir), &held) {
		return verdict{known: true, why: fmt.Sprintf("process %d is at its run", held.Holder.PID)}
	}
	if Unborn(dir) {
		return verdict{known: true, remove: true, why: "its run never began"}
	}
	st, err := ReadStatus(dir)
	if err != nil {
		// What is of a sealed artifact is told by its marks as well.
		return verdict{known: true, remove: j.opts.All, why: "its journal cannot be read: " + err.Error()}
	}
	if !st.Collectable(j.opts.Now(), false) && !j.opts.All {
		for _, b := range st.Builds {
			switch {
			case b.Left && b.Until != nil:
				return verdict{known: true, why: "it is kept until " + b.Until.Format(time.RFC3339)}
			case !b.Done && !b.Abandoned && b.Sealed:
				return verdict{known: true, why: "its run can be resumed"}
			}
		}
	}
	return verdict{known: true, remove: true, why: "its run is over"}
}

// owner returns the run and build whose token it is.
func (j *judge) owner(token, of string) (run, build string) {
	if j.tokens == nil {
		j.tokens, j.asked = map[string][2]string{}, map[string]bool{}
	}
	if !j.asked[of] {
		j.asked[of] = true
		list, _ := os.ReadDir(j.opts.StateDir) // without it no run is known
		for _, e := range list {
			h, recs, err := journal.Read(filepath.Join(j.opts.StateDir, e.Name()))
			if err != nil {
				continue
			}
			for _, b := range h.Builds {
				for _, t := range builder.Tokens(builder.Info{Build: b, RunID: h.Run}, recs, of) {
					j.tokens[of+" "+t] = [2]string{h.Run, b}
				}
			}
		}
	}
	o := j.tokens[of+" "+token]
	return o[0], o[1]
}

// startOf is when a run began, by its id (RFC 9562, version 7); zero for an id
// that does not say it.
func startOf(run string) time.Time {
	raw, err := hex.DecodeString(strings.ReplaceAll(run, "-", ""))
	if err != nil || len(raw) != 16 || raw[6]>>4 != 7 {
		return time.Time{}
	}
	var ms int64
	for _, b := range raw[:6] {
		ms = ms<<8 | int64(b)
	}
	return time.UnixMilli(ms)
}

// Unborn reports whether dir is the directory of a run whose process died
// before its first record: nothing was done.
func Unborn(dir string) bool {
	list, err := os.ReadDir(dir)
	if err != nil {
		return false
	}
	known := []string{journal.FileName, "lock"}
	if slices.ContainsFunc(list, func(e os.DirEntry) bool { return !slices.Contains(known, e.Name()) }) {
		return false
	}
	raw, err := os.ReadFile(filepath.Join(dir, journal.FileName))
	return errors.Is(err, os.ErrNotExist) || err == nil && !slices.Contains(raw, '\n')
}
