package powershell

import (
	"context"
	"fmt"
	"strconv"

	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/internal/winscript"
)

// Key implements [provisioner.Provisioner]. As with shell, a script that names
// a PACKER_ variable and a command that names a value of the guest give the
// zero key. The password of elevated_user does not count.
func (p *powershell) Key(ctx context.Context) (checkpoint.Key, error) {
	if err := context.Cause(ctx); err != nil {
		return checkpoint.Key{}, err
	}
	c := p.cfg
	d := checkpoint.NewDigest("powershell.v1")
	known, err := p.set.Digest(d)
	if err != nil || !known {
		return checkpoint.Key{}, err
	}
	data := map[string]any{"Path": "path", "Vars": "vars"}
	for _, t := range []*script.Command{p.command, p.elevated, &p.user} {
		if t == nil {
			d.Text("default")
			continue
		}
		text, err := t.Render(data)
		if err != nil {
			return checkpoint.Key{}, nil
		}
		d.Text("command", text)
	}
	d.Text(c.EnvVarFormat, c.ElevatedEnvVarFormat, c.RemotePath, c.RemoteEnvVarPath, c.ExecutionPolicy, strconv.Itoa(c.DebugMode),
		strconv.FormatBool(c.UsePwsh), strconv.FormatBool(c.SkipClean), fmt.Sprint(c.ValidExitCodes), c.PauseAfter.String())
	return d.Key(), nil
}

// Apply implements [provisioner.Provisioner].
func (p *powershell) Apply(ctx context.Context, g communicator.Guest, out event.Sink) error {
	for _, src := range p.set.Sources {
		if err := p.run(ctx, g, out, src); err != nil {
			return err
		}
	}
	if p.cfg.PauseAfter > 0 {
		out.Emit(event.Say{Text: fmt.Sprintf("Pausing %s after this provisioner...", p.cfg.PauseAfter)})
		return poll.Sleep(ctx, p.cfg.PauseAfter)
	}
	return nil
}

func (p *powershell) run(ctx context.Context, g communicator.Guest, out event.Sink, src winscript.Source) error {
	out.Emit(event.Say{Text: "Provisioning with Powershell..."})
	out.Emit(event.Say{Text: "Provisioning with powershell script: " + src.Name})
	body, err := src.Read()
	if err != nil {
		return err
	}
	id := winscript.Random()
	path, envPath := p.cfg.RemotePath, p.cfg.RemoteEnvVarPath
	if path == "" {
		path = folder + "script-" + id + ".ps1"
	}
	if envPath == "" {
		envPath = folder + "packer-ps-env-vars-" + id + ".ps1"
	}
	format, command := p.cfg.EnvVarFormat, p.command
	if p.cfg.ElevatedUser != "" {
		format, command = p.cfg.ElevatedEnvVarFormat, p.elevated
	}
	data := script.BuildData(g.Data, map[string]any{"Path": path, "Vars": envPath})
	line := p.line(path, envPath)
	if command != nil {
		if line, err = command.Render(data); err != nil {
			return diag.WithHint(fmt.Errorf("execute_command: %w", err), "it may name .Path, .Vars and the values of build.*")
		}
	}
	if src.Path == "" && p.command != nil {
		// A command of the template's own need not name .Vars.
		body = withVariables(body, envPath)
	}
	j := winscript.Job{
		Guest: g, Out: out, Line: line, Keep: p.cfg.SkipClean, Timeout: p.cfg.StartRetryTimeout, Valid: p.cfg.ValidExitCodes,
		Files: []communicator.ScriptFile{
			{Path: path, Mode: 0o644, Body: body},
			{Path: envPath, Mode: 0o600, Body: variables(p.set.Env.With(g.Data), format)},
		},
	}
	if p.cfg.ElevatedUser == "" {
		return j.Run(ctx)
	}
	return p.elevate(ctx, j, data)
}

// elevate runs a job as another user. What it runs is a script that holds a
// password: it is removed whatever skip_clean says.
func (p *powershell) elevate(ctx context.Context, j winscript.Job, data map[string]any) error {
	user, err := p.user.Render(data)
	if err != nil {
		return fmt.Errorf("elevated_user: %w", err)
	}
	password, err := p.password.Render(data)
	if err != nil {
		return fmt.Errorf("elevated_password: %w", err)
	}
	wrapper, line := winscript.Elevated(user, secret.New(password), j.Line)
	keep := j.Keep
	if keep {
		kept := winscript.Job{Guest: j.Guest, Out: j.Out, Files: j.Files, Line: "exit 0", Keep: true, Timeout: j.Timeout, Valid: []int{0}}
		if err := kept.Run(ctx); err != nil {
			return err
		}
		j.Files, j.Keep = nil, false
	}
	j.Files = append(j.Files, wrapper)
	j.Line = line
	return j.Run(ctx)
}

// withVariables makes a script read its variables itself.
func withVariables(body []byte, envPath string) []byte {
	text := string(body)
	mark := "\ufeff"
	if len(text) >= len(mark) && text[:len(mark)] == mark {
		text = text[len(mark):]
	}
	return winscript.Text(". '" + envPath + "'\n" + text)
}
