package cli

import (
	"flag"
	"fmt"
	"strings"
)

func (a *app) usage() {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n", a.name())
	for _, c := range a.commands {
		fmt.Fprintf(&b, "    %-12s %s\n", c.name, c.synopsis)
	}
	b.WriteString("\nGlobal options:\n" +
		"    -machine-readable          machine-readable output, in every command\n" +
		"    -autocomplete-install      complete commands and flags in the shells of this user\n" +
		"    -autocomplete-uninstall    undo that")
	if a.asPacker() {
		b.WriteString("\n\n" + a.identity())
	}
	a.report.say(b.String())
}

func (a *app) help(args []string) int {
	if len(args) == 0 {
		a.usage()
		return exitDone
	}
	c := a.find(args[0])
	if c == nil {
		a.usage()
		return exitNoSuch
	}
	a.report.say(a.helpOf(c))
	return exitDone
}

// flags returns the flags of c, unparsed.
func (c *command) flags() *flag.FlagSet {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	c.prepare(&app{}, fs)
	return fs
}

// helpOf is the help of a command, in the name the program goes by.
func (a *app) helpOf(c *command) string {
	var b strings.Builder
	args := c.args
	options := ""
	fs := c.flags()
	fs.VisitAll(func(f *flag.Flag) { options += a.renamed(flagHelp(f)) })
	if options != "" {
		args = strings.TrimSpace("[options] " + args)
	}
	b.WriteString(strings.TrimRight(fmt.Sprintf("Usage: %s %s %s", a.name(), c.name, args), " ") + "\n\n")
	for _, l := range strings.Split(strings.TrimSpace(a.renamed(c.about)), "\n") {
		b.WriteString(strings.TrimRight("  "+strings.Trim(l, "\t"), " ") + "\n")
	}
	if options != "" {
		b.WriteString("\nOptions:\n\n" + options)
	}
	return strings.TrimRight(b.String(), "\n")
}

// flagHelp is one or two lines on f: flags are few enough to be read.
func flagHelp(f *flag.Flag) string {
	value, text := flag.UnquoteUsage(f)
	head := "  -" + f.Name
	if value != "" && value != "value" {
		head += "=" + value
	}
	if len(head) < 29 {
		return fmt.Sprintf("%-29s  %s\n", head, text)
	}
	return fmt.Sprintf("%s\n%-29s  %s\n", head, "", text)
}
