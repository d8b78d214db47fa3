package ui

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/event"
)

// A summary collects what the end of a run is told about.
type summary struct {
	dir   string
	names []string
	ended map[string]event.BuildEnded
}

func (s *summary) read(r event.Record) {
	switch e := r.Event.(type) {
	case event.RunStarted:
		s.dir, s.names = e.Dir, e.Builds
	case event.BuildEnded:
		if s.ended == nil {
			s.ended = map[string]event.BuildEnded{}
		}
		if _, ok := s.ended[r.Build]; !ok && !slices.Contains(s.names, r.Build) {
			s.names = append(s.names, r.Build)
		}
		s.ended[r.Build] = e
	}
}

// A line is one line of the summary.
type line struct {
	text string
	err  bool
}

// buildLine says how a build ended; why it failed comes last, once.
func buildLine(build string, e event.BuildEnded) line {
	switch {
	case e.Cancelled:
		return line{fmt.Sprintf("Build '%s' was cancelled after %s.", build, words(e.Elapsed)), true}
	case e.Error != "":
		return line{fmt.Sprintf("Build '%s' errored after %s.", build, words(e.Elapsed)), true}
	}
	return line{text: fmt.Sprintf("Build '%s' finished after %s.", build, words(e.Elapsed))}
}

func (s *summary) failed() (names []string, cancelled, unclean bool) {
	for _, n := range s.names {
		e, ok := s.ended[n]
		if !ok || e.Error == "" {
			continue
		}
		names = append(names, n)
		cancelled = cancelled || e.Cancelled
		// An interrupt has nothing to advise; a clean-up that failed does.
		unclean = unclean || !e.Cancelled || e.Hint != ""
	}
	return names, cancelled, unclean
}

// lines is the end of a run: what was made, then what went wrong and what to
// do about it.
func (s *summary) lines(end event.RunEnded) []line {
	out := []line{{}, {text: "==> Wait completed after " + words(end.Elapsed)}, {}}
	say := func(format string, args ...any) { out = append(out, line{text: fmt.Sprintf(format, args...)}) }
	failed, cancelled, unclean := s.failed()
	made := s.artifacts(false)
	if len(made) > 0 {
		say("==> Builds finished. The artifacts of successful builds are:")
		out = append(out, made...)
	} else if !cancelled {
		say("==> Builds finished but no artifacts were created.")
	}
	if left := s.artifacts(true); len(left) > 0 {
		say("==> Failed builds left behind:")
		out = append(out, left...)
	}
	if cancelled {
		say("Cleanly cancelled builds after being interrupted.")
		if unclean {
			out[len(out)-1] = line{text: "Cancelled builds after being interrupted.", err: true}
		}
	}
	if !unclean {
		return out
	}
	out = append(out, line{}, line{"==> Some builds didn't complete successfully and had errors:", true})
	for _, n := range failed {
		e := s.ended[n]
		for i, l := range strings.Split(strings.TrimRight(e.Error, "\n"), "\n") {
			if i == 0 {
				l = "--> " + n + ": " + l
			} else {
				l = "    " + l
			}
			out = append(out, line{l, true})
		}
		if e.Hint != "" {
			say("    %s", strings.ReplaceAll(e.Hint, "\n", "\n    "))
		}
	}
	if s.dir != "" {
		out = append(out, line{}, line{text: "The full log is " + filepath.Join(s.dir, LogName)})
	}
	return out
}

func (s *summary) artifacts(ofFailed bool) (out []line) {
	for _, n := range s.names {
		e := s.ended[n]
		if (e.Error != "") != ofFailed {
			continue
		}
		for _, a := range e.Artifacts {
			if a.Empty {
				continue
			}
			out = append(out, line{text: "--> " + n + ": " + artifactText(a)})
		}
	}
	return out
}

func artifactText(a artifact.Set) string {
	switch {
	case a.Text != "":
		return a.Text
	case len(a.Files) > 0:
		return strings.Join(a.Files, ", ")
	}
	return a.ID
}
