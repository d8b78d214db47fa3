// Package cli is the command line: one file per command. It knows no builder
// and no other implementation; main hands it the set of them, the streams and
// the environment as values.
package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/journal"
)

// PackerVersion is the version of Packer that templates are told they run
// under: packer.version, and what required_version is checked against.
const PackerVersion = "1.16.0"

// The exit codes. Where Packer documents a code, that one is used: a build
// that was interrupted ends with 1.
const (
	exitDone     = 0
	exitFailed   = 1   // a build failed, or any error, or wrong use of a command
	exitChanges  = 3   // fmt -check found a file to change
	exitPartial  = 4   // nothing failed but copies to regions; ingot resume makes them
	exitHeld     = 5   // another process holds the run
	exitNoSuch   = 127 // no command, or one that does not exist
	programName  = "ingot"
	machineFlag  = "machine-readable"
	defaultWidth = 80 // of diagnostics
)

// Streams is what a program is given from outside.
type Streams struct {
	In       io.Reader
	Out, Err io.Writer
	Env      []string // "NAME=value", the last of a name counts
	Cwd      string   // absolute
	Version  string   // of Ingot
	Program  string   // path of the executable, for shell completion
	Name     string   // what the program was called by; "" is ingot
	Now      func() time.Time
	Chdir    func(dir string) error // makes dir the working directory; nil: relative paths in options stay as they are

	InTerminal, OutTerminal, ErrTerminal bool
	// Size is the size of the terminal that Out is; zeros when not known.
	Size func() (cols, rows int)

	Interrupts
}

// Main runs the command that args name and returns the exit code. The first
// interrupt ends ctx, its cause an [*InterruptError]; the later ones are in s.
func Main(ctx context.Context, s Streams, builtin component.Builtin, args []string) int {
	a := &app{Streams: s, builtin: builtin, commands: commands()}
	a.set = builtin(a.platform(nil))
	if line, _ := a.lookup("COMP_LINE"); line != "" {
		a.complete(line)
		return exitDone
	}
	args, machine := withoutFlag(args, machineFlag)
	a.report = newReport(s, machine)
	a.report.renamed = a.renamed
	if len(args) == 0 {
		a.usage()
		return exitNoSuch
	}
	switch name := strings.TrimPrefix(args[0], "-"); name {
	case "-help", "help", "h":
		return a.help(args[1:])
	case "-version", "version", "v":
		args[0] = "version"
	case "-autocomplete-install", "autocomplete-install":
		return a.installCompletion(ctx)
	case "-autocomplete-uninstall", "autocomplete-uninstall":
		return a.uninstallCompletion()
	}
	c := a.find(args[0])
	if c == nil {
		a.usage()
		if near := hcl.Suggest(args[0], a.names()); near != "" {
			a.report.fail(fmt.Sprintf("\nThere is no command %q. Did you mean %q?", args[0], near))
		}
		return exitNoSuch
	}
	if err := a.checkConfig(); err != nil && !slices.Contains(unconfigured, c.name) {
		a.report.error(err)
		return exitFailed
	}
	return a.logged(c, func() int { return a.run(ctx, c, args[1:]) })
}

// unconfigured are the commands that Packer's configuration is not about.
var unconfigured = []string{"completion", "local", "resume", "version"}

// An app is one run of the program.
type app struct {
	Streams
	builtin  component.Builtin
	set      component.Set // of builtin, for where this run's components call out to
	commands []*command
	report   *report
	log      *commandLog // nil: none is asked for
}

// A command is one word of the command line.
type command struct {
	name     string
	args     string // "TEMPLATE", for the usage line
	synopsis string // one line
	about    string // paragraphs
	// prepare declares the flags and returns what runs with the arguments
	// that are left.
	prepare func(*app, *flag.FlagSet) func(ctx context.Context, args []string) int
	// words are what completion offers for the first argument; nil: files.
	words func(*app) []string
}

func commands() []*command {
	return []*command{
		buildCommand(), completionCommand(), consoleCommand(), fixCommand(), fmtCommand(), gcCommand(), upgradeCommand(), initCommand(), inspectCommand(),
		localCommand(), planCommand(), pluginsCommand(), resumeCommand(), runsCommand(), validateCommand(), versionCommand(),
	}
}

func (a *app) find(name string) *command {
	if name == "plugin" { // as Packer has it
		name = "plugins"
	}
	for _, c := range a.commands {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (a *app) names() []string {
	var out []string
	for _, c := range a.commands {
		out = append(out, c.name)
	}
	return out
}

func (a *app) run(ctx context.Context, c *command, args []string) int {
	fs := flag.NewFlagSet(c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	do := c.prepare(a, fs)
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		a.report.say(a.helpOf(c))
		return exitDone
	case err != nil:
		a.report.fail(sentence(err.Error()) + "\n")
		a.report.say(a.helpOf(c))
		return exitFailed
	}
	return do(ctx, fs.Args())
}

// wrong tells how a command is used; it returns the exit code.
func (a *app) wrong(name string, args []string, want string) int {
	return a.misused(a.find(name), args, want)
}

func (a *app) misused(c *command, args []string, want string) int {
	text := "This command takes " + want + "."
	for _, arg := range args {
		if len(arg) > 1 && arg[0] == '-' {
			text += " Flags stand before it: " + arg + " came after."
			break
		}
	}
	a.report.fail(text + "\n")
	a.report.say(a.helpOf(c))
	return exitFailed
}

// lookup returns a variable of the environment.
func (a *app) lookup(name string) (string, bool) {
	for i := len(a.Env) - 1; i >= 0; i-- {
		if v, ok := strings.CutPrefix(a.Env[i], name+"="); ok {
			return v, true
		}
	}
	return "", false
}

// setting returns INGOT_name, else PACKER_name, else "".
func (a *app) setting(name string) string {
	for _, prefix := range []string{"INGOT_", "PACKER_"} {
		if v, ok := a.lookup(prefix + name); ok && v != "" {
			return v
		}
	}
	return ""
}

// withoutFlag takes a flag without a value out of args, wherever it stands.
func withoutFlag(args []string, name string) (rest []string, found bool) {
	for _, arg := range args {
		if arg == "-"+name || arg == "--"+name {
			found = true
			continue
		}
		rest = append(rest, arg)
	}
	return rest, found
}

// failure is the exit code for an error about a run as a whole.
func failure(err error) int {
	if held := (*journal.HeldError)(nil); errors.As(err, &held) {
		return exitHeld
	}
	return exitFailed
}

func sentence(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:] + "."
}
