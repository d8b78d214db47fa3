package ansible

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
)

// grace is the time between SIGTERM and the end by force.
const grace = 10 * time.Second

// run runs a local program with its output as events, as the leader of a group
// that ends with ctx.
func run(ctx context.Context, out event.Sink, env []string, program string, args ...string) error {
	stdout, stderr := event.Lines(out, false), event.Lines(out, true)
	defer stdout.Close()
	defer stderr.Close()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = stdout, stderr
	err := wait(cmd)
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return explain(program, err)
}

// wait runs a command in a process group of its own.
func wait(cmd *exec.Cmd) error {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stopped := false
	cmd.Cancel = func() error {
		stopped = true
		return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
	}
	cmd.WaitDelay = grace
	err := cmd.Run()
	if stopped {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) // what did not listen
	}
	// What a background process still writes is not waited for: ssh leaves
	// its shared connections behind.
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return err
}

func explain(program string, err error) error {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.Is(err, exec.ErrNotFound):
		return diag.WithHint(fmt.Errorf("start %s: %w", program, err), missingHint)
	case errors.As(err, &exit):
		return fmt.Errorf("%s ended with %s", program, exit.ProcessState)
	}
	return fmt.Errorf("run %s: %w", program, err)
}

var versionPattern = regexp.MustCompile(`(?m)^\S+ \[?(?:core )?(\d+)\.(\d+)`)

// checkVersion refuses an Ansible that does not know what is asked of it here.
func (a *ansible) checkVersion(ctx context.Context, out event.Sink) error {
	if a.cfg.SkipVersionCheck {
		return nil
	}
	cmd := exec.CommandContext(ctx, a.cfg.Command, "--version")
	text, err := cmd.Output()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if err != nil {
		return explain(a.cfg.Command+" --version", err)
	}
	m := versionPattern.FindStringSubmatch(string(text))
	if m == nil {
		return diag.WithHint(fmt.Errorf("%s --version does not tell a version: %.60q", a.cfg.Command, text),
			"set skip_version_check = true where command is a program of your own")
	}
	if major, err := strconv.Atoi(m[1]); err != nil || major < 2 {
		return diag.WithHint(fmt.Errorf("version %s.%s of Ansible is too old", m[1], m[2]), "2.0 is the oldest that works here")
	}
	first, _, _ := strings.Cut(string(text), "\n")
	out.Emit(event.Detail{Text: first})
	return nil
}

var passwords = regexp.MustCompile(`(?i)(\b\w*pass(?:word|wd|phrase)?\s*[=:]\s*)("[^"]*"|'[^']*'|\S+)`)

// masked is a command line as it may be shown.
func masked(program string, args []string) string {
	return passwords.ReplaceAllString(strings.Join(append([]string{program}, args...), " "), "$1*****")
}
