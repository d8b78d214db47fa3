// Package diag holds what is told to the person who wrote a template: a
// diagnostic has a place in a file, a reason and a remedy.
//
// A [List] is not an error. It is only ever appended to, and [List.Err] is the
// one door to an error, a true nil when there are only warnings.
package diag

import (
	"errors"
	"fmt"
	"strings"
)

// Severity tells an error from a warning.
type Severity int

// The severities.
const (
	Error Severity = iota + 1
	Warning
)

func (s Severity) String() string {
	if s == Warning {
		return "Warning"
	}
	return "Error"
}

// A Pos is a place in a file. Line and Column count from 1, Column in
// grapheme clusters, Byte from 0.
type Pos struct{ Line, Column, Byte int }

// A Range is a piece of a file, End exclusive.
type Range struct {
	Filename   string
	Start, End Pos
}

func (r Range) String() string {
	if r.Start.Line == 0 {
		return r.Filename
	}
	return fmt.Sprintf("%s:%d,%d", r.Filename, r.Start.Line, r.Start.Column)
}

// A Diagnostic is one finding.
type Diagnostic struct {
	Severity Severity
	Summary  string // a few words, capitalised, no full stop
	Detail   string // full sentences: the reason, and what to do
	Subject  *Range // the tight place
	Context  *Range // what is worth showing around it; may be nil
}

// A List collects diagnostics in the order they were found.
type List []Diagnostic

// Errorf appends an error at r (nil for no place).
func (l *List) Errorf(r *Range, summary, format string, args ...any) {
	*l = append(*l, Diagnostic{Severity: Error, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: r})
}

// Warnf appends a warning at r (nil for no place).
func (l *List) Warnf(r *Range, summary, format string, args ...any) {
	*l = append(*l, Diagnostic{Severity: Warning, Summary: summary, Detail: fmt.Sprintf(format, args...), Subject: r})
}

// HasErrors reports whether any finding is an error.
func (l List) HasErrors() bool {
	for _, d := range l {
		if d.Severity == Error {
			return true
		}
	}
	return false
}

// Err returns nil when no finding is an error, else an [*ListError].
func (l List) Err() error {
	if !l.HasErrors() {
		return nil
	}
	return &ListError{l}
}

// A ListError carries a list through an error return.
type ListError struct{ List List }

func (e *ListError) Error() string {
	var out []string
	for _, d := range e.List {
		if d.Severity != Error {
			continue
		}
		s := d.Summary
		if d.Subject != nil {
			s = d.Subject.String() + ": " + s
		}
		if d.Detail != "" {
			s += ": " + d.Detail
		}
		out = append(out, s)
	}
	return strings.Join(out, "\n")
}

// A FieldError is a fault in one option, found by code that knows nothing of
// files. Whoever owns the block turns Paths[0] into a range.
type FieldError struct {
	// Paths are the options the fault is about, the one to point at first:
	// "iso_checksum", "ami_block_device_mappings[1].iops". When one of them
	// is not known yet (at validate time) the fault is not reported.
	Paths []string
	Err   error
	Warn  bool // a warning only
}

// Fieldf returns a [*FieldError] about the option at path.
func Fieldf(path, format string, args ...any) error {
	return &FieldError{Paths: []string{path}, Err: fmt.Errorf(format, args...)}
}

// Fieldsf returns a [*FieldError] about several options together.
func Fieldsf(paths []string, format string, args ...any) error {
	return &FieldError{Paths: paths, Err: fmt.Errorf(format, args...)}
}

func (e *FieldError) Error() string { return e.Paths[0] + ": " + e.Err.Error() }
func (e *FieldError) Unwrap() error { return e.Err }

// Flatten returns the leaves of joined errors, so that each fault can be
// reported apart.
func Flatten(err error) []error {
	if err == nil {
		return nil
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var out []error
		for _, e := range j.Unwrap() {
			out = append(out, Flatten(e)...)
		}
		return out
	}
	return []error{err}
}

// hinted is an error with a remedy.
type hinted struct {
	err  error
	hint string
}

func (h *hinted) Error() string { return h.err.Error() }
func (h *hinted) Unwrap() error { return h.err }

// WithHint adds what to do about err. It returns nil for a nil err.
func WithHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hinted{err, fmt.Sprintf(format, args...)}
}

// Hint returns the outermost remedy in err's chain, or "".
func Hint(err error) string {
	var h *hinted
	if errors.As(err, &h) {
		return h.hint
	}
	return ""
}
