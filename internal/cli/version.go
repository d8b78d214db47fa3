package cli

import (
	"context"
	"flag"
	"strings"
)

func versionCommand() *command {
	return &command{
		name:     "version",
		synopsis: "print the version",
		about:    "Prints the version of Ingot. With -machine-readable also the version of Packer\nwhose templates it reads.",
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(_ context.Context, _ []string) int { return a.printVersion() }
		},
	}
}

func (a *app) printVersion() int {
	if m := a.report.machine; m != nil {
		number, pre, _ := strings.Cut(strings.TrimPrefix(a.Version, "v"), "-")
		m.Line("", "version", number)
		m.Line("", "version-prelease", pre) // spelled as Packer spells it
		m.Line("", "version-commit", "")
		m.Line("", "packer-version", PackerVersion)
	}
	a.report.say("Ingot " + displayVersion(a.Version))
	return exitDone
}

// displayVersion begins with v where it is a number.
func displayVersion(v string) string {
	if v != "" && v[0] >= '0' && v[0] <= '9' {
		return "v" + v
	}
	return v
}
