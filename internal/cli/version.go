package cli

import (
	"context"
	"flag"
	"fmt"
	"strings"
)

func versionCommand() *command {
	return &command{
		name:     "version",
		synopsis: "print the version",
		about: `Prints the version of Ingot. With -machine-readable also the version of Packer
			whose templates it reads. Called by the name packer it prints that version, as
			scripts expect it, and on the standard error what it is.`,
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(_ context.Context, _ []string) int { return a.printVersion() }
		},
	}
}

func (a *app) printVersion() int {
	text, number := "Ingot "+displayVersion(a.Version), a.Version
	if a.asPacker() {
		text, number = "Packer v"+PackerVersion, PackerVersion
		// Nobody can be told that the reader of the error output is gone.
		_, _ = fmt.Fprintln(a.Err, a.identity())
	}
	if m := a.report.machine; m != nil {
		core, pre, _ := strings.Cut(strings.TrimPrefix(number, "v"), "-")
		m.Line("", "version", core)
		m.Line("", "version-prelease", pre) // spelled as Packer spells it
		m.Line("", "version-commit", "")
		m.Line("", "packer-version", PackerVersion)
	}
	a.report.say(text)
	return exitDone
}

// displayVersion begins with v where it is a number.
func displayVersion(v string) string {
	if v != "" && v[0] >= '0' && v[0] <= '9' {
		return "v" + v
	}
	return v
}
