package ui

import (
	"strings"
	"unicode"

	"golang.org/x/text/width"
)

// columns is how many cells r takes on a terminal (Unicode TR 11).
func columns(r rune) int {
	switch {
	case r < 0x300:
		return 1
	case unicode.In(r, unicode.Mn, unicode.Me, unicode.Cf):
		return 0
	}
	switch width.LookupRune(r).Kind() {
	case width.EastAsianWide, width.EastAsianFullwidth:
		return 2
	}
	return 1
}

func textWidth(s string) int {
	n := 0
	for _, r := range s {
		n += columns(r)
	}
	return n
}

// fit cuts s to at most n columns and marks the cut.
func fit(s string, n int) string {
	if n <= 0 {
		return ""
	}
	if textWidth(s) <= n {
		return s
	}
	var b strings.Builder
	room := n - 1
	for _, r := range s {
		if room -= columns(r); room < 0 {
			break
		}
		b.WriteRune(r)
	}
	return b.String() + "…"
}
