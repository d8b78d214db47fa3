package localshell

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"syscall"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell/script"
)

// Run runs the scripts one after another and returns when the last has ended,
// with everything it wrote on out. When ctx ends, the running script's process
// group is told to end (SIGTERM) and, some seconds later, made to (SIGKILL).
//
// A script's variables are in its environment, where no process list shows
// them. A template that sets execute_command or env_var_format gets them where
// it asks for {{.Vars}}, which is usually the command line.
func (r *Runner) Run(ctx context.Context, d communicator.Data, out event.Sink) error {
	if !r.here() {
		out.Emit(event.Say{Text: fmt.Sprintf("Skipping shell-local due to runtime OS: it is only for %v, this is %s", r.cfg.OnlyOn, runtime.GOOS)})
		return nil
	}
	if r.inline == nil {
		for _, s := range r.cfg.Scripts {
			if err := r.runFile(ctx, s, d, out); err != nil {
				return err
			}
		}
		return nil
	}
	path, err := r.writeInline()
	if err != nil {
		return err
	}
	return errors.Join(r.runFile(ctx, path, d, out), os.Remove(path))
}

// writeInline puts the inline lines into a file that only the user can read.
// Meanwhile no child is forked: until it runs its program it would have the
// file open, too, and what is open for writing cannot be run (ETXTBSY).
func (r *Runner) writeInline() (path string, err error) {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := os.CreateTemp("", "ingot-shell-*"+r.cfg.TempfileExtension)
	if err != nil {
		return "", fmt.Errorf("write inline script: %w", err)
	}
	_, err = f.Write(script.Inline(r.inline, r.cfg.InlineShebang))
	if err = errors.Join(err, f.Chmod(0o700), f.Close()); err != nil {
		return "", errors.Join(fmt.Errorf("write inline script: %w", err), os.Remove(f.Name()))
	}
	return f.Name(), nil
}

func (r *Runner) runFile(ctx context.Context, path string, d communicator.Data, out event.Sink) error {
	path, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("script: %w", err)
	}
	vars := r.env.With(d)
	// The name and the type are the build's, whatever the options say of them.
	env := slices.Concat(os.Environ(), []string{"PACKER_RUN_UUID=" + d.RunID})
	argv := []string{"/bin/sh", "-c", `"$0"`, path}
	if r.command == nil {
		for _, k := range vars.Names() {
			env = append(env, k+"="+vars[k])
		}
	} else if argv, err = r.render(path, vars, d); err != nil {
		return err
	}
	out.Emit(event.Say{Text: "Running local shell script: " + path})

	stdout, stderr := event.Lines(out, false), event.Lines(out, true)
	defer stdout.Close()
	defer stderr.Close()
	err = run(ctx, process{argv: argv, env: env, stdout: stdout, stderr: stderr})
	return explain(script.CheckExit(err, r.exits), path)
}

func (r *Runner) render(path string, vars script.Env, d communicator.Data) ([]string, error) {
	data := script.BuildData(d, map[string]any{
		"Vars": vars.Format(r.format), "Script": path, "Command": path,
	})
	argv := make([]string, 0, len(r.command))
	for _, c := range r.command {
		a, err := c.Render(data)
		if err != nil {
			return nil, diag.WithHint(fmt.Errorf("execute_command: %w", err), "it may name .Vars, .Script and the values of build.*")
		}
		argv = append(argv, a)
	}
	return argv, nil
}

// explain adds the remedy for a script that the shell could not start.
func explain(err error, path string) error {
	var exit *script.ExitError
	if !errors.As(err, &exit) || exit.Status != 126 {
		return err
	}
	if fi, serr := os.Stat(path); serr != nil || fi.Mode()&0o111 != 0 {
		return err
	}
	return diag.WithHint(err, "the script is not executable: chmod +x %s", path)
}
