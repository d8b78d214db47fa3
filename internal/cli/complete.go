package cli

import (
	"flag"
	"io"
	"strings"
)

// complete prints the candidates for the last word of a command line, as
// `complete -C` of bash asks for them. Nothing is printed where a path is
// expected: the shells know paths better.
//
// bash takes what stands behind "=" as a word of its own; a shell that does
// not sets COMP_SHELL.
func (a *app) complete(line string) {
	words := strings.Fields(line)
	if len(words) == 0 || strings.HasSuffix(line, " ") {
		words = append(words, "")
	}
	last := words[len(words)-1]
	var out []string
	switch {
	case len(words) < 2:
		return
	case len(words) == 2:
		out = append(a.names(), "--help", "--version")
		if strings.HasPrefix(last, "-") {
			out = append(out, "-autocomplete-install", "-autocomplete-uninstall")
		} else {
			out = a.names()
		}
	default:
		c := a.find(words[1])
		if c == nil {
			return
		}
		out = c.candidates(a, last, words[2:])
	}
	var b strings.Builder
	for _, o := range out {
		if !strings.HasPrefix(o, last) {
			continue
		}
		if flagPart, value, ok := strings.Cut(o, "="); ok && strings.HasPrefix(last, flagPart+"=") {
			if _, whole := a.lookup("COMP_SHELL"); !whole {
				o = value
			}
		}
		b.WriteString(o + "\n")
	}
	// The shell reads a pipe and has nobody to tell.
	_, _ = io.WriteString(a.Out, b.String())
}

// candidates are the flags of c, with their values once the name stands there.
func (c *command) candidates(a *app, last string, args []string) []string {
	if !strings.HasPrefix(last, "-") {
		for _, arg := range args[:len(args)-1] {
			if !strings.HasPrefix(arg, "-") {
				return nil
			}
		}
		if c.words == nil {
			return nil
		}
		return c.words(a)
	}
	dash := "-"
	if strings.HasPrefix(last, "--") {
		dash = "--"
	}
	name, _, valued := strings.Cut(strings.TrimLeft(last, "-"), "=")
	var out []string
	fs := c.flags()
	fs.Var(&tristate{}, machineFlag, "")
	fs.Var(&tristate{}, "help", "")
	fs.VisitAll(func(f *flag.Flag) {
		b, isBool := f.Value.(interface{ IsBoolFlag() bool })
		isBool = isBool && b.IsBoolFlag()
		switch {
		case valued && f.Name != name:
		case valued && isBool:
			out = append(out, dash+f.Name+"=true", dash+f.Name+"=false")
		case valued:
			if ch, ok := f.Value.(choice); ok {
				for _, v := range ch.allowed {
					out = append(out, dash+f.Name+"="+v)
				}
			}
		case isBool:
			out = append(out, dash+f.Name)
		default:
			out = append(out, dash+f.Name+"=")
		}
	})
	return out
}
