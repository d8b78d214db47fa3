// Package windowsshell is the provisioner "windows-shell": batch files that
// run on a Windows guest, over WinRM or SSH.
package windowsshell

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/internal/winscript"
	"github.com/ingot-build/ingot/provisioner"
)

// Config is the options of the provisioner.
type Config struct{ winscript.Options }

const (
	defaultPath    = "c:/Windows/Temp/script.bat"
	defaultFormat  = `set "%s=%s" && `
	defaultCommand = `{{.Vars}}"{{.Path}}"`
)

// Driver returns the provisioner "windows-shell".
func Driver() provisioner.Driver { return provisioner.NewDriver("windows-shell", open) }

type shell struct {
	cfg     Config
	set     winscript.Set
	command script.Command
}

var _ provisioner.Provisioner = (*shell)(nil)

func open(c Config) (provisioner.Provisioner, error) {
	s := &shell{cfg: c}
	var errs []error
	s.set, errs = winscript.Open(&s.cfg.Options, inline)
	for _, d := range []struct {
		val      *string
		fallback string
	}{{&s.cfg.EnvVarFormat, defaultFormat}, {&s.cfg.ExecuteCommand, defaultCommand}, {&s.cfg.RemotePath, defaultPath}} {
		if *d.val == "" {
			*d.val = d.fallback
		}
	}
	errs = append(errs, winscript.CheckFormat("env_var_format", s.cfg.EnvVarFormat))
	var err error
	if s.command, err = script.ParseCommand(s.cfg.ExecuteCommand); err != nil {
		errs = append(errs, diag.Fieldf("execute_command", "is %w", err))
	}
	return s, errors.Join(errs...)
}

// inline makes a batch file of lines. cmd.exe finds labels only where lines
// end as it expects.
func inline(lines []string) []byte { return []byte(strings.Join(lines, "\r\n") + "\r\n") }

// variables writes the variables as they go in front of the command. Unlike
// in the POSIX shell a quote in a value has no meaning to set.
func variables(env script.Env, format string) string {
	var b strings.Builder
	for _, k := range env.Names() {
		fmt.Fprintf(&b, format, k, env[k])
	}
	return b.String()
}

// Key implements [provisioner.Provisioner]. As with shell, a script that names
// a PACKER_ variable and a command that names a value of the guest give the
// zero key.
func (s *shell) Key(ctx context.Context) (checkpoint.Key, error) {
	if err := context.Cause(ctx); err != nil {
		return checkpoint.Key{}, err
	}
	line, err := s.command.Render(map[string]any{"Path": "path", "Vars": "vars"})
	if err != nil {
		return checkpoint.Key{}, nil
	}
	d := checkpoint.NewDigest("windows-shell.v1")
	known, err := s.set.Digest(d)
	if err != nil || !known {
		return checkpoint.Key{}, err
	}
	d.Text(line, s.cfg.EnvVarFormat, s.cfg.RemotePath, fmt.Sprint(s.cfg.ValidExitCodes))
	return d.Key(), nil
}

// Apply implements [provisioner.Provisioner]. The scripts stay on the guest,
// as they do with Packer: one that deletes itself is not looked for.
func (s *shell) Apply(ctx context.Context, g communicator.Guest, out event.Sink) error {
	for _, src := range s.set.Sources {
		out.Emit(event.Say{Text: "Provisioning with windows-shell script: " + src.Name})
		body, err := src.Read()
		if err != nil {
			return err
		}
		vars := variables(s.set.Env.With(g.Data), s.cfg.EnvVarFormat)
		line, err := s.command.Render(script.BuildData(g.Data, map[string]any{"Path": s.cfg.RemotePath, "Vars": vars}))
		if err != nil {
			return diag.WithHint(fmt.Errorf("execute_command: %w", err), "it may name .Path, .Vars and the values of build.*")
		}
		j := winscript.Job{
			Guest: g, Out: out, Line: line, Keep: true, Timeout: s.cfg.StartRetryTimeout, Valid: s.cfg.ValidExitCodes,
			Files: []communicator.ScriptFile{{Path: s.cfg.RemotePath, Mode: 0o755, Body: body}},
		}
		if err := j.Run(ctx); err != nil {
			return err
		}
	}
	return nil
}
