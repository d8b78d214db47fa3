package localshell_test

import (
	"context"
	"errors"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localshell"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

var guest = communicator.Data{
	BuildName: "web", BuilderType: "qemu", RunID: "run-1", ID: "vm-1", HTTPIP: "10.0.2.2", HTTPPort: 8123,
	Generated: map[string]string{"Zone": "b"},
}

func run(t *testing.T, c localshell.Config) (*provisionertest.Events, error) {
	t.Helper()
	r, err := localshell.Open(c)
	if err != nil {
		t.Fatal(err)
	}
	var out provisionertest.Events
	return &out, r.Run(provisionertest.Context(t), guest, &out)
}

func executable(t *testing.T, content string, mode os.FileMode) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a script.sh")
	if err := os.WriteFile(path, []byte(content), mode); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestRun(t *testing.T) {
	tmp := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	t.Setenv("INHERITED", "yes")
	hard := "it's \"q\" $HOME `x` \\ %s\nline 2"
	for _, c := range []struct {
		name           string
		cfg            localshell.Config
		stdout, stderr []string
	}{
		{
			name: "environment",
			cfg: localshell.Config{
				Inline: []string{
					`echo "$PACKER_BUILD_NAME $PACKER_BUILDER_TYPE $PACKER_RUN_UUID $PACKER_HTTP_ADDR $PACKER_HTTP_IP $PACKER_HTTP_PORT $INHERITED"`,
					`echo "$A"; echo "$B"`, `echo no >&2`,
				},
				EnvironmentVars: []string{"A=list", "B=" + hard}, Env: map[string]string{"A": "map"},
			},
			stdout: append([]string{"web qemu run-1 10.0.2.2:8123 10.0.2.2 8123 yes", "map"}, strings.Split(hard, "\n")...),
			stderr: []string{"no"},
		},
		{
			name:   "nothing of the variables in a process list",
			cfg:    localshell.Config{Inline: []string{`cat /proc/$PPID/cmdline /proc/$$/cmdline | tr '\0' ' ' | grep -c hidden || echo clean`}, Env: map[string]string{"A": "hidden"}},
			stdout: []string{"0", "clean"},
		},
		{
			name: "execute_command",
			cfg: localshell.Config{
				Inline: []string{`echo "$A $1 $2"`}, Env: map[string]string{"A": hard},
				ExecuteCommand: []string{"/bin/sh", "-c", "{{.Vars}} {{.Script}} {{.Zone}} {{ build `ID` }}"},
			},
			stdout: []string{strings.Split(hard, "\n")[0], "line 2 b vm-1"},
		},
		{
			name:   "execute_command of one element",
			cfg:    localshell.Config{Inline: []string{`echo "$A"`}, Env: map[string]string{"A": "1"}, ExecuteCommand: []string{"{{.Vars}} sh {{.Script}}"}},
			stdout: []string{"1"},
		},
		{
			name:   "env_var_format",
			cfg:    localshell.Config{Inline: []string{`echo "$xA"`}, Env: map[string]string{"A": "1"}, EnvVarFormat: `x%s='%s' `},
			stdout: []string{"1"},
		},
		{
			name:   "command",
			cfg:    localshell.Config{Command: "echo one"},
			stdout: []string{"one"},
		},
		{
			name:   "shebang and extension",
			cfg:    localshell.Config{Inline: []string{"false", `echo "${0##*.}"`}, InlineShebang: "/bin/sh", TempfileExtension: ".zsh"},
			stdout: []string{"zsh"},
		},
		{
			name: "scripts",
			cfg: localshell.Config{
				Scripts:        []string{executable(t, "#!/bin/sh\necho 1; exit 4", 0o755), executable(t, "echo 2", 0o755)},
				ValidExitCodes: []int{0, 4},
			},
			stdout: []string{"1", "2"},
		},
		{name: "another system", cfg: localshell.Config{Inline: []string{"echo x"}, OnlyOn: []string{"windows"}}},
		{name: "this system", cfg: localshell.Config{Inline: []string{"echo x"}, OnlyOn: []string{runtime.GOOS}}, stdout: []string{"x"}},
		{
			name:   "what goes on in the background is waited for",
			cfg:    localshell.Config{Inline: []string{"(sleep 0.2; echo late) &", "echo first"}},
			stdout: []string{"first", "late"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := run(t, c.cfg)
			if err != nil {
				t.Fatal(err, diag.Hint(err))
			}
			if got := out.Lines(false); !slices.Equal(got, c.stdout) {
				t.Errorf("stdout %q, want %q", got, c.stdout)
			}
			if got := out.Lines(true); !slices.Equal(got, c.stderr) {
				t.Errorf("stderr %q, want %q", got, c.stderr)
			}
		})
	}
	if left, err := os.ReadDir(tmp); err != nil || slices.ContainsFunc(left, func(e os.DirEntry) bool { return strings.HasPrefix(e.Name(), "ingot-shell") }) {
		t.Errorf("left behind: %v %v", left, err)
	}
}

func TestFailure(t *testing.T) {
	tmp := t.TempDir()
	_, err := run(t, localshell.Config{Inline: []string{"exit 3"}})
	if err == nil || err.Error() != "Script exited with non-zero exit status: 3. Allowed exit codes are: [0]" {
		t.Errorf("%v", err)
	}
	var exit *script.ExitError
	if _, err = run(t, localshell.Config{Inline: []string{"kill -KILL $$"}, ExecuteCommand: []string{"/bin/sh", "{{.Script}}"}}); !errors.As(err, &exit) || exit.Status != 137 || exit.Signal != "KILL" {
		t.Errorf("%v", err)
	}
	if _, err = run(t, localshell.Config{Script: executable(t, "#!/bin/sh\n", 0o644)}); !errors.As(err, &exit) || !strings.Contains(diag.Hint(err), "chmod +x") {
		t.Errorf("%v, hint %q", err, diag.Hint(err))
	}
	if _, err = run(t, localshell.Config{Inline: []string{"true"}, ExecuteCommand: []string{tmp + "/no-such"}}); err == nil {
		t.Error("a program that does not exist ran")
	}
	if _, err = run(t, localshell.Config{Inline: []string{"true"}, ExecuteCommand: []string{"a", "{{.NoSuch}}"}}); err == nil || diag.Hint(err) == "" {
		t.Errorf("%v", err)
	}
}

func TestOpenReportsEveryFault(t *testing.T) {
	faults := func(err error) (out []string) {
		for _, e := range diag.Flatten(err) {
			var f *diag.FieldError
			if !errors.As(e, &f) {
				t.Errorf("%v is not about an option", e)
				continue
			}
			out = append(out, f.Paths[0])
		}
		slices.Sort(out)
		return out
	}
	_, err := localshell.Open(localshell.Config{
		Inline: []string{"x"}, Scripts: []string{"/no/such"}, EnvironmentVars: []string{"x"}, EnvVarFormat: "%s", OnlyOn: []string{"beos"},
		TempfileExtension: "/x", ExecuteCommand: []string{"{{"},
	})
	want := []string{"env_var_format", "environment_vars", "execute_command", "inline", "only_on", "scripts[0]", "tempfile_extension"}
	if got := faults(err); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
	if _, err := localshell.Open(localshell.Config{}); !slices.Equal(faults(err), []string{"inline"}) {
		t.Errorf("nothing to run: %v", err)
	}
}

// TestCancel ends a script with children, of which one does not listen.
func TestCancel(t *testing.T) {
	dir := t.TempDir()
	r, err := localshell.Open(localshell.Config{Inline: []string{
		`trap 'echo told; exit 0' TERM`,
		`sh -c 'trap "" TERM; echo $$ >` + dir + `/child.tmp; mv ` + dir + `/child.tmp ` + dir + `/child; exec >/dev/null 2>&1; while :; do sleep 0.1; done' &`,
		`while :; do sleep 0.1; done`,
	}})
	if err != nil {
		t.Fatal(err)
	}
	cause := errors.New("interrupted")
	ctx, cancel := context.WithCancelCause(t.Context())
	var out provisionertest.Events
	done := make(chan error, 1)
	go func() { done <- r.Run(ctx, guest, &out) }()
	var pid int
	provisionertest.Wait(t, "the child", func() bool {
		b, err := os.ReadFile(dir + "/child")
		if err == nil {
			pid, err = strconv.Atoi(strings.TrimSpace(string(b)))
		}
		return err == nil
	})
	cancel(cause)
	select {
	case err = <-done:
	case <-time.After(provisionertest.Patience):
		t.Fatal("goes on after the cancel")
	}
	if !errors.Is(err, cause) {
		t.Errorf("%v, want the cause", err)
	}
	if got := out.Lines(false); !slices.Equal(got, []string{"told"}) {
		t.Errorf("the script was not asked to end: %q", got)
	}
	provisionertest.Wait(t, "the child to be gone", func() bool {
		return errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) || zombie(pid)
	})
}

// zombie reports whether pid has ended and waits for its new parent.
func zombie(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	_, state, _ := strings.Cut(string(b), ") ")
	return err == nil && strings.HasPrefix(state, "Z")
}

func TestEnvFormat(t *testing.T) {
	env, errs := script.ParseEnv([]string{"B=x=y", "A=it's"}, nil)
	if errs != nil {
		t.Fatal(errs)
	}
	if got, want := env.Format(`%s='%s' `), `A='it'"'"'s' B='x=y' `; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	for in, want := range map[string]string{"/tmp/a": "/tmp/a", "a b": "'a b'", "~/x": "~/x", "~/a b": "~/'a b'", "": "''", "it's": `'it'"'"'s'`, "~": "~"} {
		if got := script.Quote(in); got != want {
			t.Errorf("Quote(%q) = %q, want %q", in, got, want)
		}
	}
	with := env.With(communicator.Data{BuildName: "n"})
	if got := slices.Sorted(maps.Keys(with)); !slices.Equal(got, []string{"A", "B", "PACKER_BUILDER_TYPE", "PACKER_BUILD_NAME"}) {
		t.Errorf("%q", got)
	}
}
