package cli

import (
	"flag"
	"fmt"
	"strings"
)

func (a *app) usage() {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage: %s [--version] [--help] <command> [<args>]\n\nAvailable commands are:\n", programName)
	for _, c := range a.commands {
		fmt.Fprintf(&b, "    %-12s %s\n", c.name, c.synopsis)
	}
	b.WriteString("\nGlobal options:\n" +
		"    -machine-readable          machine-readable output, in every command\n" +
		"    -autocomplete-install      complete commands and flags in the shells of this user\n" +
		"    -autocomplete-uninstall    undo that")
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
	a.report.say(c.help())
	return exitDone
}

// flags returns the flags of c, unparsed.
func (c *command) flags() *flag.FlagSet {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	c.prepare(&app{}, fs)
	return fs
}

func (c *command) help() string {
	var b strings.Builder
	args := c.args
	options := ""
	fs := c.flags()
	fs.VisitAll(func(f *flag.Flag) { options += flagHelp(f) })
	if options != "" {
		args = strings.TrimSpace("[options] " + args)
	}
	fmt.Fprintf(&b, "Usage: %s %s %s\n\n", programName, c.name, args)
	for _, l := range strings.Split(strings.TrimSpace(c.about), "\n") {
		b.WriteString(strings.TrimRight("  "+strings.TrimSpace(l), " ") + "\n")
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
