package cli

import (
	"bufio"
	"context"
	"flag"
	"io"
	"strings"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

func consoleCommand() *command {
	return &command{
		name:     "console",
		args:     "[TEMPLATE]",
		synopsis: "evaluate expressions with the variables of a template",
		about: `Reads expressions, one a line, and prints their values. From a pipe only the
			value of the last one is printed.

			The words variables, help and exit are commands.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			var t templateFlags
			t.declare(fs)
			declareCompatible(fs, "use-sequential-evaluation")
			return func(ctx context.Context, args []string) int {
				if len(args) > 1 {
					return a.wrong("console", args, "at most one template")
				}
				return a.console(ctx, args, t)
			}
		},
	}
}

const consoleHelp = `Type an expression to see its value: var.name, local.name, upper("a"), 1 + 2.

  variables  show the variables and locals
  help       show this
  exit       leave; Control-D does the same`

func (a *app) console(ctx context.Context, args []string, flags templateFlags) int {
	t, diags, secrets := a.consoleTemplate(ctx, args, flags)
	if diags.HasErrors() {
		a.report.diagnostics(masked(diags, secrets), t.Files)
		return exitFailed
	}
	c := &session{app: a, t: t, secrets: secrets}
	lines := readLines(ctx, a.In)
	last := ""
	for {
		if a.InTerminal {
			_, _ = io.WriteString(a.Out, "> ") // the terminal's end is seen by the read
		}
		var text string
		select {
		case <-ctx.Done():
			return exitFailed
		case l, ok := <-lines:
			if !ok || l == "exit" {
				return a.leave(last)
			}
			text = l
		}
		out, diags := c.eval(text)
		if diags.HasErrors() {
			a.report.diagnostics(masked(diags, secrets), map[string][]byte{"<console>": []byte(text)})
			if !a.InTerminal {
				return exitFailed
			}
			continue
		}
		last = out
		if a.InTerminal && out != "" {
			a.report.say(out)
		}
	}
}

func (a *app) leave(last string) int {
	switch {
	case a.InTerminal:
		_, _ = io.WriteString(a.Out, "\n") // as the prompt
	case last != "":
		a.report.say(last)
	}
	return exitDone
}

// consoleTemplate is the template to ask, an empty one when none is named.
func (a *app) consoleTemplate(ctx context.Context, args []string, flags templateFlags) (*hcl.Template, diag.List, *secret.Set) {
	if len(args) == 1 {
		return a.describe(ctx, args[0], flags)
	}
	secrets := &secret.Set{}
	t, diags := hcl.Load(ctx, a.inputs("", flags, secrets))
	if len(flags.vars) == 0 && len(flags.varFiles) == 0 {
		diags = nil // there is no template: nothing was asked of it
	}
	return t, diags, secrets
}

type session struct {
	*app
	t       *hcl.Template
	secrets *secret.Set
}

func (s *session) eval(text string) (string, diag.List) {
	switch text {
	case "":
		return "", nil
	case "help":
		return consoleHelp, nil
	case "variables":
		return s.secrets.Mask(strings.TrimRight(describeValues(s.t), "\n")), nil
	}
	v, diags := s.t.Scope().Eval(text)
	if diags.HasErrors() {
		return "", diags
	}
	return s.secrets.Mask(printed(v)), nil
}

// readLines reads trimmed lines on a goroutine, which a terminal keeps until
// the program ends: a read cannot be taken back.
func readLines(ctx context.Context, in io.Reader) <-chan string {
	out := make(chan string)
	go func() {
		defer close(out)
		s := bufio.NewScanner(in)
		for s.Scan() {
			select {
			case out <- strings.TrimSpace(s.Text()):
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}
