// Package secret keeps values that must never be shown.
//
// A [String] redacts itself in every format verb and encoder; the one way to
// its content is [String.Reveal]. A [Set] replaces known secrets in text on
// its way to a screen, a log or a file.
package secret

import (
	"fmt"
	"log/slog"
)

// Redacted is what is shown in place of a secret.
const Redacted = "<sensitive>"

// A String is a secret text. The zero value is the empty secret.
type String struct{ v string }

// New returns v as a secret.
func New(v string) String { return String{v} }

// Reveal returns the content. Callers hand it to the one place that needs it
// and never store it in a journal, an event, an argument list or an image.
func (s String) Reveal() string { return s.v }

// IsEmpty reports whether there is nothing to hide.
func (s String) IsEmpty() bool { return s.v == "" }

// String returns [Redacted], or "" for the empty secret.
func (s String) String() string {
	if s.v == "" {
		return ""
	}
	return Redacted
}

// GoString redacts %#v.
func (s String) GoString() string { return fmt.Sprintf("secret.String(%q)", s.String()) }

// Format redacts every verb, those that would otherwise print the field by
// reflection included.
func (s String) Format(f fmt.State, verb rune) {
	if verb == 'v' && f.Flag('#') {
		_, _ = f.Write([]byte(s.GoString()))
		return
	}
	_, _ = f.Write([]byte(s.String()))
}

// MarshalText redacts JSON, YAML and any other encoder that asks for text.
func (s String) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// LogValue redacts structured logs.
func (s String) LogValue() slog.Value { return slog.StringValue(s.String()) }
