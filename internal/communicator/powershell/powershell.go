// Package powershell writes command lines for Windows PowerShell that no shell
// in between can change.
package powershell

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"strings"
	"unicode/utf16"
)

// Quote returns s as a literal of PowerShell: in single quotes, in which only
// a single quote, the typographic ones included, has a meaning and is doubled.
func Quote(s string) string {
	var b strings.Builder
	b.WriteByte('\'')
	for _, r := range s {
		if isQuote(r) {
			b.WriteRune(r)
		}
		b.WriteRune(r)
	}
	b.WriteByte('\'')
	return b.String()
}

// isQuote tells the characters that PowerShell takes for a single quote
// (about_Quoting_Rules).
func isQuote(r rune) bool {
	switch r {
	case '\'', '\u2018', '\u2019', '\u201a', '\u201b':
		return true
	}
	return false
}

// Escape returns s for use between double quotes: back-tick, double quotes
// and dollar sign get a back-tick in front.
func Escape(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch r {
		case '`', '"', '$', '\u201c', '\u201d', '\u201e':
			b.WriteByte('`')
		}
		b.WriteRune(r)
	}
	return b.String()
}

// Encode returns script as the argument of -EncodedCommand: base64 of UTF-16,
// little-endian.
func Encode(script string) string {
	units := utf16.Encode([]rune(script))
	raw := make([]byte, 0, 2*len(units))
	for _, u := range units {
		raw = binary.LittleEndian.AppendUint16(raw, u)
	}
	return base64.StdEncoding.EncodeToString(raw)
}

// Decode is the reverse of [Encode].
func Decode(arg string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(arg)
	if err != nil {
		return "", fmt.Errorf("not an encoded command: %w", err)
	}
	if len(raw)%2 != 0 {
		return "", fmt.Errorf("not an encoded command: %d bytes are no whole number of UTF-16 units", len(raw))
	}
	units := make([]uint16, len(raw)/2)
	for i := range units {
		units[i] = binary.LittleEndian.Uint16(raw[2*i:])
	}
	return string(utf16.Decode(units)), nil
}

// Quiet begins scripts that report progress, which would come as text on the
// error output.
const Quiet = "$ProgressPreference='SilentlyContinue'\n"

// Command returns a line that runs script without a profile, whatever the
// execution policy says. The line must stay under the 8191 characters that
// cmd.exe takes, so script under about 2900.
func Command(script string) string {
	return Program + " -NoLogo -NoProfile -NonInteractive -ExecutionPolicy Bypass -OutputFormat Text -EncodedCommand " + Encode(script)
}

// Program is the PowerShell that every Windows has.
const Program = "powershell"
