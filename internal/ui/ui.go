// Package ui holds the readers of the event stream: [Plain] lines as Packer
// prints them, a live view of a terminal ([TTY]), [JSON] objects, [Machine]
// readable CSV, and logs.
//
// A reader never fails a build: what cannot be written to a terminal or a pipe
// that went away is dropped. Only [RunLog] reports, through its Err, because a
// log that is not there is missed later.
package ui

import (
	"strings"

	"github.com/ingot-build/ingot/internal/event"
)

// A color is an SGR parameter of ECMA-48.
type color string

const (
	noColor color = ""
	red     color = "31"
	green   color = "32"
	yellow  color = "33"
	blue    color = "34"
	magenta color = "35"
	cyan    color = "36"
	dim     color = "2"
)

// buildColors cycle over the builds of a run, in Packer's order.
var buildColors = [...]color{green, cyan, magenta, yellow, blue}

// paint makes text bold and coloured.
func paint(c color, text string) string {
	switch c {
	case noColor:
		return text
	case dim:
		return "\x1b[2m" + text + "\x1b[0m"
	}
	return "\x1b[1;" + string(c) + "m" + text + "\x1b[0m"
}

// A palette gives each build its colour.
type palette struct {
	on    bool
	known map[string]color
}

func newPalette(on bool) *palette { return &palette{on: on, known: map[string]color{}} }

func (p *palette) of(build string) color {
	if !p.on || build == "" {
		return noColor
	}
	c, ok := p.known[build]
	if !ok {
		c = buildColors[len(p.known)%len(buildColors)]
		p.known[build] = c
	}
	return c
}

// pick returns c where colours are wanted.
func (p *palette) pick(c color) color {
	if p.on {
		return c
	}
	return noColor
}

// prefixed returns the lines of text as they are printed for the build and
// component of r. Texts of the whole run stand as they are.
func prefixed(r event.Record, text string) []string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	if r.Build == "" {
		return lines
	}
	head := "==> " + r.Build
	if r.Component != "" {
		head += " (" + r.Component + ")"
	}
	for i, l := range lines {
		lines[i] = strings.TrimRight(head+": "+strings.TrimRight(l, "\r"), " \t")
	}
	return lines
}

// quietly drops the result of a write to a terminal or pipe: when the reader
// of the output is gone there is nobody to tell.
func quietly(int, error) {}
