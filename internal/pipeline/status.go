package pipeline

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/journal"
)

// A Status is how far a run came.
type Status struct {
	journal.Header
	Last   time.Time // when the last record was written
	Builds []BuildStatus
}

// A BuildStatus is how far one build came.
type BuildStatus struct {
	Build   string   `json:"build"`
	Done    bool     `json:"done"`              // there is nothing left to do
	Sealed  bool     `json:"sealed"`            // the image is made
	Copied  []string `json:"copied,omitempty"`  // regions that have their copy
	Missing []string `json:"missing,omitempty"` // regions that do not
	Step    string   `json:"step,omitempty"`    // the last one begun before the image was sealed
	Stopped string   `json:"stopped,omitempty"` // why it went no further

	Abandoned bool       `json:"abandoned,omitempty"` // it was given up: what it made is removed, artifacts excepted
	Dead      bool       `json:"dead,omitempty"`      // its process ended without a word, unless one is at it
	Left      bool       `json:"left,omitempty"`      // things were left, on purpose or because they could not be removed
	Until     *time.Time `json:"until,omitempty"`     // until when they are meant to be kept
}

// Done reports whether there is nothing left to do for the run.
func (s Status) Done() bool {
	return !slices.ContainsFunc(s.Builds, func(b BuildStatus) bool { return !b.Done })
}

// Abandoned reports whether a build of the run was given up.
func (s Status) Abandoned() bool {
	return slices.ContainsFunc(s.Builds, func(b BuildStatus) bool { return b.Abandoned })
}

// Refusal says why the run cannot be resumed, nil when it can.
func (s Status) Refusal() error {
	if !s.Abandoned() {
		return nil
	}
	return givenUp(s.Run)
}

func givenUp(run string) error {
	return diag.WithHint(fmt.Errorf("run %s was given up: what it had made and not finished was removed (ingot gc)", run),
		"start it again with ingot build; ingot runs show %s tells which artifacts there are", run)
}

// ReadStatus reads how far the run in dir came. Another process may be at it.
func ReadStatus(dir string) (Status, error) {
	h, recs, err := journal.Read(dir)
	if err != nil {
		return Status{}, err
	}
	return statusOf(h, recs)
}

func statusOf(h journal.Header, recs []journal.Record) (Status, error) {
	out := Status{Header: h, Last: recs[len(recs)-1].Time}
	for _, name := range h.Builds {
		p, err := read(recs, name)
		if err != nil {
			return Status{}, err
		}
		out.Builds = append(out.Builds, p.status(name))
	}
	return out, nil
}

func (p *past) status(name string) BuildStatus {
	s := BuildStatus{Build: name, Done: p.done(), Sealed: p.sealed != nil, Abandoned: p.abandoned != nil}
	if !s.Abandoned {
		s.Dead = p.ended == nil && (p.begun || p.where.Place != nil)
		if p.ended != nil {
			s.Left, s.Until = p.ended.Left, p.ended.Until
		}
	}
	for _, r := range p.regions {
		if _, ok := p.copied[r]; ok {
			s.Copied = append(s.Copied, r)
		} else {
			s.Missing = append(s.Missing, r)
		}
	}
	if n := len(p.steps); n > 0 && !s.Sealed {
		s.Step = p.steps[n-1]
	}
	switch {
	case s.Done, s.Abandoned:
	case p.ended != nil:
		s.Stopped, _, _ = strings.Cut(p.ended.Error, "\n")
	case p.begun:
		s.Stopped = "its process ended without a word"
	default:
		s.Stopped = "it was never started"
	}
	return s
}

// String is the status in one line.
func (s BuildStatus) String() string {
	at := "no image yet"
	switch {
	case s.Done:
		return "done"
	case s.Abandoned && s.Sealed:
		return "given up behind its image, which stays"
	case s.Abandoned:
		return "given up, nothing of it is left"
	case len(s.Missing) > 0:
		at = fmt.Sprintf("image made, %d of %d copies made, missing: %s",
			len(s.Copied), len(s.Copied)+len(s.Missing), strings.Join(s.Missing, ", "))
	case s.Sealed:
		at = "image made, post-processors left"
	case s.Step != "":
		at += ", last begun: " + s.Step
	}
	return at + "; " + s.Stopped
}
