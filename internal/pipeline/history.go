package pipeline

import (
	"encoding/json"
	"path/filepath"
	"strconv"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/journal"
)

// A History is what the journal says of a run.
type History struct {
	Status
	Builds []BuildHistory
}

// A BuildHistory is what the journal says of a build since it last began anew.
type BuildHistory struct {
	BuildStatus
	Attempt   int             `json:"attempt"` // from 1
	Started   time.Time       `json:"started,omitzero"`
	Spent     time.Duration   `json:"spent_ns"` // by all attempts; what lies between an end and a resume is left out
	Steps     []StepTime      `json:"steps,omitempty"`
	Things    []builder.Thing `json:"things,omitempty"` // what there is of it, as far as the journal knows
	Artifacts []artifact.Set  `json:"artifacts,omitempty"`
}

// A StepTime is one step and how long it took.
type StepTime struct {
	Name    string        `json:"name"`
	Started time.Time     `json:"started"`
	Elapsed time.Duration `json:"elapsed_ns"`
	State   string        `json:"state"` // "done", "undone", "begun": it was not finished
}

// The states of a step.
const (
	stepBegun  = "begun"
	stepDone   = "done"
	stepUndone = "undone"
)

// ReadHistory reads what the journal in dir says. Another process may be at
// it. driver returns the driver of a builder type.
func ReadHistory(dir string, driver func(typ string) (builder.Driver, bool)) (History, error) {
	h, recs, err := journal.Read(dir)
	if err != nil {
		return History{}, err
	}
	st, err := statusOf(h, recs)
	if err != nil {
		return History{}, err
	}
	out := History{Status: st}
	for i, name := range h.Builds {
		p, err := read(recs, name)
		if err != nil {
			return History{}, err
		}
		b := BuildHistory{BuildStatus: st.Builds[i], Attempt: 1, Artifacts: p.left()}
		b.times(recs)
		b.Things = thingsOf(p, builder.Info{Build: name, RunID: h.Run}, filepath.Join(dir, strconv.Itoa(i)), recs, driver)
		out.Builds = append(out.Builds, b)
	}
	return out, nil
}

// thingsOf asks the builder what the journal knows. A builder that cannot be
// opened any more has nothing to tell.
func thingsOf(p *past, info builder.Info, dir string, recs []journal.Record, driver func(string) (builder.Driver, bool)) []builder.Thing {
	d, ok := driver(p.where.Type)
	if p.where.Place == nil || !ok || d.Reopen == nil || p.abandoned != nil {
		return nil
	}
	info.Type, info.Name = p.where.Type, p.where.Name
	b, err := d.Reopen(p.where.Place, info)
	if err != nil {
		return nil
	}
	l, ok := b.(builder.Lister)
	if !ok {
		return nil
	}
	things, err := l.Things(builder.NewRun(info, dir, event.Discard, nil, recs))
	if err != nil {
		return nil
	}
	return things
}

// times takes steps and times out of the records.
func (b *BuildHistory) times(recs []journal.Record) {
	var last journal.Record
	for _, r := range recs {
		if r.Build != b.Build {
			continue
		}
		if b.Started.IsZero() {
			b.Started = r.Time
		}
		if last.Kind != "" && last.Kind != journal.KindEnded && r.Kind != journal.KindAbandoned {
			b.Spent += r.Time.Sub(last.Time)
		}
		b.time(r, last)
		last = r
	}
}

func (b *BuildHistory) time(r, last journal.Record) {
	// A provisioner has no record of its end: the next one is it.
	if last.Kind == journal.KindProvision && r.Kind != journal.KindEnded {
		b.end(last.Step, r.Time, stepDone)
	}
	switch r.Kind {
	case journal.KindRestart:
		b.Attempt++
		b.Steps = nil
	case journal.KindBegin, journal.KindProvision:
		b.Steps = append(b.Steps, StepTime{Name: r.Step, Started: r.Time, State: stepBegun})
	case journal.KindDone:
		b.end(r.Step, r.Time, stepDone)
	case journal.KindUndo:
		for i := range b.Steps {
			if b.Steps[i].Name == r.Step {
				b.Steps[i].State = stepUndone
			}
		}
	case journal.KindRegions:
		var regions []string
		if json.Unmarshal(r.Data, &regions) != nil {
			return
		}
		for _, region := range regions {
			b.Steps = append(b.Steps, StepTime{Name: "copy to " + region, Started: r.Time, State: stepBegun})
		}
	case journal.KindCopied:
		b.end("copy to "+r.Step, r.Time, stepDone)
	case journal.KindProcessed:
		b.Steps = append(b.Steps, StepTime{Name: r.Step, Started: last.Time, Elapsed: r.Time.Sub(last.Time), State: stepDone})
	}
}

// end closes the last step of that name.
func (b *BuildHistory) end(name string, at time.Time, state string) {
	for i := len(b.Steps) - 1; i >= 0; i-- {
		if s := &b.Steps[i]; s.Name == name {
			if s.State == stepBegun {
				s.Elapsed, s.State = at.Sub(s.Started), state
			}
			return
		}
	}
}
