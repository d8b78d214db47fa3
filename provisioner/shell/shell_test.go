package shell

import (
	"errors"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/provisioner"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

func mustOpen(t *testing.T, c Config) provisioner.Provisioner {
	t.Helper()
	p, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// paths returns the options that err is about.
func paths(t *testing.T, err error) (out []string) {
	t.Helper()
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

func TestOpenReportsEveryFault(t *testing.T) {
	_, err := open(Config{
		Inline: []string{"x"}, Script: "/no/such", EnvironmentVars: []string{"A=1", "SECRETVALUE"}, Env: map[string]string{"A=B": ""},
		EnvVarFormat: "%d=%s", ExecuteCommand: "{{.Path", PauseAfter: -1, StartRetryTimeout: -1, RemoteFile: "a\nb",
	})
	want := []string{
		"env", "env_var_format", "environment_vars", "execute_command", "inline", "pause_after", "remote_file", "script", "start_retry_timeout",
	}
	if got := paths(t, err); !slices.Equal(got, want) {
		t.Errorf("faults in %q, want %q", got, want)
	}
	if strings.Contains(err.Error(), "SECRETVALUE") {
		t.Errorf("the fault tells the value: %v", err)
	}
	if _, err := open(Config{}); !slices.Equal(paths(t, err), []string{"inline"}) {
		t.Errorf("nothing to run: %v", err)
	}
	if _, err := open(Config{Scripts: []string{t.TempDir()}}); !slices.Equal(paths(t, err), []string{"scripts[0]"}) {
		t.Errorf("a folder as script: %v", err)
	}
}

func TestLineEnds(t *testing.T) {
	for in, want := range map[string]string{
		"a\r\nb\r\n": "a\nb\n", "a\rb\r": "a\rb\r", "\r\r\n\n": "\r\n\n", "": "",
	} {
		if err := iotest.TestReader(&lfReader{r: iotest.OneByteReader(strings.NewReader(in))}, []byte(want)); err != nil {
			t.Errorf("%q: %v", in, err)
		}
	}
}

func FuzzLineEnds(f *testing.F) {
	f.Add("a\r\nb\r", 3)
	f.Fuzz(func(t *testing.T, in string, _ int) {
		want := strings.ReplaceAll(in, "\r\n", "\n")
		if err := iotest.TestReader(&lfReader{r: strings.NewReader(in)}, []byte(want)); err != nil {
			t.Error(err)
		}
		if err := iotest.TestReader(&lfReader{r: iotest.OneByteReader(strings.NewReader(in))}, []byte(want)); err != nil {
			t.Error(err)
		}
	})
}

func TestKey(t *testing.T) {
	path := write(t, "a.sh", "echo a\n")
	key := func(c Config) string {
		t.Helper()
		k, err := mustOpen(t, c).Key(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return k.String()
	}
	start := Config{Script: path, EnvironmentVars: []string{"A=1"}}
	first := key(start)
	if first == "" {
		t.Fatal("no key")
	}
	change := func(f func(*Config)) Config { c := start; f(&c); return c }
	differ := map[string]Config{
		"script":            change(func(c *Config) { c.Script = write(t, "b.sh", "echo b\n") }),
		"inline":            {Inline: []string{"echo a"}, EnvironmentVars: []string{"A=1"}},
		"two scripts":       change(func(c *Config) { c.Script, c.Scripts = "", []string{path, path} }),
		"env value":         change(func(c *Config) { c.EnvironmentVars = []string{"A=2"} }),
		"env name":          change(func(c *Config) { c.Env = map[string]string{"B": "2"} }),
		"env_var_format":    change(func(c *Config) { c.EnvVarFormat = `%s="%s" ` }),
		"use_env_var_file":  change(func(c *Config) { c.UseEnvVarFile = true }),
		"remote_path":       change(func(c *Config) { c.RemotePath = "/x" }),
		"remote_folder":     change(func(c *Config) { c.RemoteFolder = "/x" }),
		"remote_file":       change(func(c *Config) { c.RemoteFile = "x" }),
		"execute_command":   change(func(c *Config) { c.ExecuteCommand = "sh {{.Path}}" }),
		"pause_after":       change(func(c *Config) { c.PauseAfter = time.Second }),
		"skip_clean":        change(func(c *Config) { c.SkipClean = true }),
		"expect_disconnect": change(func(c *Config) { c.ExpectDisconnect = true }),
		"valid_exit_codes":  change(func(c *Config) { c.ValidExitCodes = []int{1} }),
		"binary with CRLF":  {Script: write(t, "c.sh", "echo a\r\n"), EnvironmentVars: []string{"A=1"}, Binary: true},
	}
	seen := map[string]string{first: "start"}
	for _, name := range slices.Sorted(maps.Keys(differ)) {
		k := key(differ[name])
		if other, ok := seen[k]; ok || k == "" {
			t.Errorf("%s has the key of %q (%q)", name, other, k)
		}
		seen[k] = name
	}
	same := map[string]Config{
		"another name":        change(func(c *Config) { c.Script = write(t, "other.sh", "echo a\n") }),
		"CRLF":                change(func(c *Config) { c.Script = write(t, "d.sh", "echo a\r\n") }),
		"start_retry_timeout": change(func(c *Config) { c.StartRetryTimeout = time.Hour }),
		"env as a map":        change(func(c *Config) { c.EnvironmentVars, c.Env = nil, map[string]string{"A": "1"} }),
		"binary without CRLF": change(func(c *Config) { c.Binary = true }),
		"scripts":             change(func(c *Config) { c.Script, c.Scripts = "", []string{path} }),
		"defaults spelt out":  change(func(c *Config) { c.RemoteFolder, c.ValidExitCodes = "/tmp", []int{0} }),
	}
	for name, c := range same {
		if key(c) != first {
			t.Errorf("%s changes the key", name)
		}
	}
	zero := map[string]Config{
		"names a PACKER_ variable": change(func(c *Config) {
			c.Script = write(t, "e.sh", strings.Repeat("#", 32<<10-3)+"\necho $PACKER_BUILD_NAME\n")
		}),
		"names a value of build.*":  change(func(c *Config) { c.ExecuteCommand = "{{.Path}} {{.ID}}" }),
		"asks for one by function":  change(func(c *Config) { c.ExecuteCommand = "{{.Path}} {{ build `ID` }}" }),
		"command names a variable":  change(func(c *Config) { c.ExecuteCommand = "{{.Path}} $PACKER_BUILD_NAME" }),
		"inline names the variable": {Inline: []string{"echo $PACKER_HTTP_ADDR"}},
	}
	for name, c := range zero {
		if k := key(c); k != "" {
			t.Errorf("%s: key %s, want none", name, k)
		}
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	p := &shell{cfg: start, sources: []source{{path: path}}}
	p.defaults()
	p.command, _ = script.ParseCommand(p.cfg.ExecuteCommand)
	if _, err := p.Key(t.Context()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("script that is gone: %v", err)
	}
}

// both runs a test with a communicator that runs scripts in one exchange, and
// with one that does not.
func both(t *testing.T, f func(t *testing.T, s *provisionertest.Server, g communicator.Guest)) {
	s := provisionertest.Start(t)
	t.Run("one exchange", func(t *testing.T) { f(t, s, s.Connect()) })
	t.Run("apart", func(t *testing.T) { f(t, s, provisionertest.Apart(s.Connect())) })
}

func apply(t *testing.T, g communicator.Guest, c Config) (*provisionertest.Events, error) {
	t.Helper()
	var out provisionertest.Events
	err := mustOpen(t, c).Apply(provisionertest.Context(t), g, &out)
	return &out, err
}

func TestApply(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ *provisionertest.Server, g communicator.Guest) {
		folder := t.TempDir()
		hard := `it's "quoted" $HOME ` + "`x`" + ` \ %s`
		for _, c := range []struct {
			name           string
			cfg            Config
			stdout, stderr []string
		}{
			{
				name: "environment",
				cfg: Config{
					Inline: []string{
						`echo "$PACKER_BUILD_NAME $PACKER_BUILDER_TYPE $PACKER_HTTP_ADDR $PACKER_HTTP_IP $PACKER_HTTP_PORT"`, `echo "$A"`, `echo "$B"`, `echo no >&2`,
					},
					EnvironmentVars: []string{"A=list", "B=" + hard}, Env: map[string]string{"A": "map"},
				},
				stdout: []string{"web qemu 10.0.2.2:8123 10.0.2.2 8123", "map", hard}, stderr: []string{"no"},
			},
			{
				name: "environment file",
				cfg: Config{
					Inline:        []string{`echo "$B"`, `stat -c %a ` + folder + `/varfile_*.sh`, `stat -c %a "$0"`},
					Env:           map[string]string{"B": hard},
					UseEnvVarFile: true, RemoteFolder: folder,
				},
				stdout: []string{hard, "600", "755"},
			},
			{
				name: "execute_command",
				cfg: Config{
					Inline: []string{`echo "$0 $A $1 $2"`}, Env: map[string]string{"A": "1"}, RemotePath: folder + "/x y.sh",
					ExecuteCommand: "env {{.Vars}} sh '{{.Path}}' {{.Zone}} {{ build `ID` }}",
				},
				stdout: []string{folder + "/x y.sh 1 b vm-1"},
			},
			{
				name:   "shebang of the option",
				cfg:    Config{Inline: []string{"false", "echo on"}, InlineShebang: "/bin/sh"},
				stdout: []string{"on"},
			},
			{
				name:   "shebang of the first line",
				cfg:    Config{Inline: []string{"#!/bin/bash", `echo "${BASH_VERSION:+bash}"`}},
				stdout: []string{"bash"},
			},
			{
				name:   "scripts in order, CRLF",
				cfg:    Config{Scripts: []string{write(t, "1", "#!/bin/sh\r\necho 1\r\n"), write(t, "2", "#!/bin/sh\necho 2\n")}, RemoteFolder: folder, RemoteFile: "f"},
				stdout: []string{"1", "2"},
			},
			{
				name:   "allowed code",
				cfg:    Config{Inline: []string{"exit 3"}, ValidExitCodes: []int{0, 3}},
				stdout: nil,
			},
			{
				name:   "long script",
				cfg:    Config{Script: write(t, "long", "#!/bin/sh\necho long\nexit 0\n"+strings.Repeat("#\r\n", maxWhole/3)), RemoteFolder: folder},
				stdout: []string{"long"},
			},
		} {
			t.Run(c.name, func(t *testing.T) {
				out, err := apply(t, g, c.cfg)
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
		if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
			t.Errorf("left on the guest: %v %v", left, err)
		}
		out, err := apply(t, g, Config{Inline: []string{"true"}, RemotePath: folder + "/kept", SkipClean: true, PauseAfter: time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(folder + "/kept"); err != nil {
			t.Error(err)
		}
		if want := []string{"Provisioning with shell script: inline", "Pausing 1ms after this provisioner..."}; !slices.Equal(out.Said(), want) {
			t.Errorf("said %q, want %q", out.Said(), want)
		}
	})
}

func TestExitCode(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ *provisionertest.Server, g communicator.Guest) {
		_, err := apply(t, g, Config{Inline: []string{"exit 3"}})
		var exit *script.ExitError
		if !errors.As(err, &exit) || err.Error() != "Script exited with non-zero exit status: 3. Allowed exit codes are: [0]" {
			t.Errorf("%v", err)
		}
		// Success is not allowed unless it is named.
		if _, err := apply(t, g, Config{Inline: []string{"true"}, ValidExitCodes: []int{3}}); !errors.As(err, &exit) || exit.Status != 0 {
			t.Errorf("%v", err)
		}
	})
}

func TestFinalRefusal(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, _ *provisionertest.Server, g communicator.Guest) {
		// Not tried again for an hour: the guest itself says no.
		_, err := apply(t, g, Config{Inline: []string{"true"}, RemoteFolder: "/no/such/folder", StartRetryTimeout: time.Hour})
		var put *communicator.PutError
		if !errors.As(err, &put) {
			t.Errorf("%v", err)
		}
		_, err = apply(t, g, Config{Inline: []string{"true"}, ExecuteCommand: "{{.Path}} {{.NoSuch}}"})
		if err == nil || !strings.Contains(diag.Hint(err), "build.*") {
			t.Errorf("%v, hint %q", err, diag.Hint(err))
		}
	})
	_, err := apply(t, communicator.Guest{Communicator: communicator.None{}}, Config{Inline: []string{"true"}})
	if !errors.Is(err, communicator.ErrNoConnection) {
		t.Errorf("without a connection: %v", err)
	}
}

// dropped runs a script that holds the session until the server is gone.
func dropped(t *testing.T, s *provisionertest.Server, g communicator.Guest, c Config) error {
	t.Helper()
	mark := filepath.Join(t.TempDir(), "mark")
	c.Inline = []string{"echo x >" + mark, "while [ -e " + mark + " ]; do sleep 0.1; done"}
	down := make(chan struct{})
	go func() {
		defer close(down)
		provisionertest.Wait(t, "the script to run", func() bool { _, err := os.Stat(mark); return err == nil })
		s.Stop()
		s.Restart()
	}()
	_, err := apply(t, g, c)
	<-down
	_ = os.Remove(mark)
	return err
}

func TestDisconnect(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *provisionertest.Server, g communicator.Guest) {
		err := dropped(t, s, g, Config{})
		var lost *communicator.DisconnectError
		if !errors.As(err, &lost) || !strings.Contains(diag.Hint(err), "expect_disconnect") {
			t.Fatalf("a lost session: %v, hint %q", err, diag.Hint(err))
		}
		for name, c := range map[string]Config{
			"expected": {ExpectDisconnect: true},
			"code":     {ValidExitCodes: []int{0, disconnectCode}},
		} {
			c.RemoteFolder = t.TempDir()
			if err := dropped(t, s, g, c); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			if left, err := os.ReadDir(c.RemoteFolder); err != nil || len(left) > 0 {
				t.Errorf("%s: left after the reboot: %v %v", name, left, err)
			}
		}
		// The next step connects anew by itself.
		if out, err := apply(t, g, Config{Inline: []string{"echo again"}}); err != nil || !slices.Equal(out.Lines(false), []string{"again"}) {
			t.Errorf("after a reboot: %q %v", out.Lines(false), err)
		}
		// What a shutdown does to a script before the connection ends.
		if _, err := apply(t, g, Config{Inline: []string{"kill -TERM $$"}, ExpectDisconnect: true}); err != nil {
			t.Errorf("ended by a shutdown: %v", err)
		}
		var exit *script.ExitError
		if _, err := apply(t, g, Config{Inline: []string{"kill -TERM $$"}}); !errors.As(err, &exit) {
			t.Errorf("ended by a signal: %v", err)
		}
	})
}

func TestStartIsTriedAgain(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, s *provisionertest.Server, g communicator.Guest) {
		s.Stop()
		up := make(chan struct{})
		go func() { defer close(up); s.Restart() }()
		out, err := apply(t, g, Config{Inline: []string{"echo up"}})
		<-up
		if err != nil || !slices.Equal(out.Lines(false), []string{"up"}) {
			t.Errorf("%q %v", out.Lines(false), err)
		}
	})
}
