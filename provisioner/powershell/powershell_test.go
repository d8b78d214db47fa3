package powershell

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	ps "github.com/ingot-build/ingot/internal/communicator/powershell"
	"github.com/ingot-build/ingot/internal/communicator/winrm"
	"github.com/ingot-build/ingot/internal/communicator/winrm/winrmtest"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/internal/winscript"
	"github.com/ingot-build/ingot/provisioner"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

type options = winscript.Options

func guest(t *testing.T, s *winrmtest.Server) communicator.Guest {
	t.Helper()
	c, err := winrm.Dial(provisionertest.Context(t), s.Config(), winrm.Target{}, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return communicator.Guest{Communicator: c, Data: s.Data()}
}

func mustOpen(t *testing.T, c Config) provisioner.Provisioner {
	t.Helper()
	p, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func write(t *testing.T, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.ps1")
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestOpenReportsEveryFault(t *testing.T) {
	_, err := open(Config{
		Options: options{
			Inline: []string{"x"}, Script: "/no/such", EnvironmentVars: []string{"SECRETVALUE"}, EnvVarFormat: "%d", ExecuteCommand: "{{.Path",
			StartRetryTimeout: -1, RemotePath: "a\nb",
		},
		ExecutionPolicy: "maybe", DebugMode: 3, PauseAfter: -1, ElevatedPassword: secret.New("p"), ElevatedExecuteCommand: "{{", ElevatedEnvVarFormat: "%s",
		RemoteEnvVarPath: `a"b`,
	})
	var got []string
	for _, e := range diag.Flatten(err) {
		var f *diag.FieldError
		if !errors.As(e, &f) {
			t.Fatalf("%v is not about an option", e)
		}
		got = append(got, f.Paths[0])
	}
	slices.Sort(got)
	want := []string{
		"debug_mode", "elevated_env_var_format", "elevated_execute_command", "elevated_password", "env_var_format", "environment_vars",
		"execute_command", "execution_policy", "inline", "pause_after", "remote_env_var_path", "remote_path", "script", "start_retry_timeout",
	}
	if !slices.Equal(got, want) {
		t.Errorf("faults in %q, want %q", got, want)
	}
	if strings.Contains(err.Error(), "SECRETVALUE") {
		t.Errorf("the fault tells the value: %v", err)
	}
}

// TestLines checks what PowerShell is given to do, text by text.
func TestLines(t *testing.T) {
	for name, tc := range map[string]struct {
		c       Config
		program string
		text    string
	}{
		"default": {Config{}, "powershell -ExecutionPolicy bypass -OutputFormat Text -EncodedCommand ", quiet + ". 'v'\n& 'p''s'\nexit $LastExitCode\n"},
		"all": {
			Config{ExecutionPolicy: "RemoteSigned", DebugMode: 2, UsePwsh: true},
			"pwsh -ExecutionPolicy remotesigned -OutputFormat Text -EncodedCommand ",
			quiet + "Set-PsDebug -Trace 2\n. 'v'\n& 'p''s'\nexit $LastExitCode\n",
		},
		"none": {Config{ExecutionPolicy: "none"}, "powershell -OutputFormat Text -EncodedCommand ", quiet + ". 'v'\n& 'p''s'\nexit $LastExitCode\n"},
	} {
		tc.c.Inline = []string{"x"}
		line := mustOpen(t, tc.c).(*powershell).line("p's", "v")
		arg, ok := strings.CutPrefix(line, tc.program)
		text, err := ps.Decode(arg)
		if !ok || err != nil || text != tc.text {
			t.Errorf("%s: %s\n%s", name, line, text)
		}
	}
	p := mustOpen(t, Config{Options: options{Inline: []string{`$x = @"`, "ä", `"@`}}, DebugMode: 1}).(*powershell)
	want := "\ufeff" + quiet + "Set-PsDebug -Trace 1\ntry {\n$x = @\"\nä\n\"@\n} catch {\n[Console]::Error.WriteLine(($_ | Out-String).TrimEnd())\nexit 1\n}\n" +
		"if (Test-Path variable:global:LASTEXITCODE) { exit $LASTEXITCODE }\nexit 0\n"
	if got := string(p.set.Sources[0].Body); got != want {
		t.Errorf("inline:\n%s", got)
	}
	if got := string(variables(script.Env{"B": "a`b\"c$d", "A": "x y"}, defaultFormat)); got != "$env:A=\"x y\"; $env:B=\"a``b`\"c`$d\";\n" {
		t.Errorf("variables: %s", got)
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{NoBasic: true, Sealed: true})
	g := guest(t, s)
	env := options{EnvironmentVars: []string{`A=a "b" $c`}, Env: map[string]string{"B": "ä"}}
	with := func(o options) options {
		o.EnvironmentVars, o.Env = env.EnvironmentVars, env.Env
		return o
	}
	file := write(t, "Write-Output \"$env:A $env:B\"\nexit 3010")
	for name, tc := range map[string]struct {
		c    Config
		want []string
		code int // 0: success
	}{
		"inline": {Config{Options: with(options{Inline: []string{"Write-Output $env:A", "Write-Output $env:PACKER_BUILD_NAME"}})}, []string{`a "b" $c`, "win"}, 0},
		"script": {Config{Options: with(options{Script: file, ValidExitCodes: []int{0, 3010}})}, []string{`a "b" $c ä`}, 0},
		"scripts": {
			Config{Options: with(options{Scripts: []string{file, file}, ValidExitCodes: []int{3010}})},
			[]string{`a "b" $c ä`, `a "b" $c ä`},
			0,
		},
		"bad code":       {Config{Options: with(options{Script: file})}, []string{`a "b" $c ä`}, 3010},
		"native failure": {Config{Options: options{Inline: []string{"cmd /c exit 7"}}}, nil, 7},
		"throw":          {Config{Options: options{Inline: []string{"throw 'no'"}}}, nil, 1},
		"debug":          {Config{Options: options{Inline: []string{"Write-Output 'x'"}}, DebugMode: 1}, []string{"DEBUG: trace -Trace 1", "DEBUG: trace -Trace 1", "x"}, 0},
		"own command": {
			Config{Options: with(options{Inline: []string{"Write-Output $env:A"}, ExecuteCommand: "powershell -executionpolicy bypass -file {{.Path}}"})},
			[]string{`a "b" $c`},
			0,
		},
		"own command with vars": {
			Config{Options: with(options{Script: file, ValidExitCodes: []int{3010}, ExecuteCommand: `powershell -executionpolicy bypass "& { . {{.Vars}}; &'{{.Path}}'; exit $LastExitCode }"`})},
			[]string{`a "b" $c ä`},
			0,
		},
		"pwsh": {Config{Options: options{Inline: []string{"Write-Output 'x'"}}, UsePwsh: true}, []string{"x"}, 0},
	} {
		var out provisionertest.Events
		err := mustOpen(t, tc.c).Apply(provisionertest.Context(t), g, &out)
		var exit *script.ExitError
		if tc.code == 0 && err != nil || tc.code != 0 && (!errors.As(err, &exit) || exit.Status != tc.code) {
			t.Errorf("%s: %v", name, err)
		}
		if got := out.Lines(false); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q (%q)", name, got, tc.want, out.Lines(true))
		}
		if left := s.Files("c:/windows/temp"); len(left) != 0 {
			t.Errorf("%s: left on the guest: %q", name, left)
		}
	}
}

func TestPathsAndLeavings(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	g := guest(t, s)
	for name, g := range map[string]communicator.Guest{"in one exchange": g, "apart": provisionertest.Apart(g)} {
		c := Config{Options: options{Inline: []string{"Write-Output 'x'"}, RemotePath: "c:/dir/s.ps1"}, RemoteEnvVarPath: "c:/dir/v.ps1", SkipClean: true}
		if err := mustOpen(t, c).Apply(provisionertest.Context(t), g, event.Discard); err != nil {
			t.Fatal(name, err)
		}
		if got := s.Files("c:/dir"); !slices.Equal(got, []string{"s.ps1", "v.ps1"}) {
			t.Errorf("%s: %q", name, got)
		}
		if vars, _ := s.ReadFile("c:/dir/v.ps1"); !strings.Contains(vars, `$env:PACKER_HTTP_ADDR="10.0.2.2:8123"; `) {
			t.Errorf("%s: %q", name, vars)
		}
		c.SkipClean = false
		if err := mustOpen(t, c).Apply(provisionertest.Context(t), g, event.Discard); err != nil {
			t.Fatal(name, err)
		}
		if got := s.Files("c:/dir"); len(got) != 0 {
			t.Errorf("%s: left %q", name, got)
		}
	}
}

func TestElevated(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	g := guest(t, s)
	base := Config{Options: options{Inline: []string{"Write-Output \"$env:A\"", "exit 5"}, EnvironmentVars: []string{"A=it's"}, ValidExitCodes: []int{5}}}
	apply := func(change func(*Config)) ([]string, []string, error) {
		c := base
		change(&c)
		var out provisionertest.Events
		err := mustOpen(t, c).Apply(provisionertest.Context(t), g, &out)
		return out.Lines(false), out.Lines(true), err
	}
	for name, change := range map[string]func(*Config){
		"service":  func(c *Config) { c.ElevatedUser = "SYSTEM" },
		"password": func(c *Config) { c.ElevatedUser, c.ElevatedPassword = winrmtest.User, secret.New(winrmtest.Password) },
		"of the build": func(c *Config) {
			c.ElevatedUser, c.ElevatedPassword = "{{ build `User` }}", secret.New("{{ .WinRMPassword }}")
		},
		"own command": func(c *Config) {
			c.ElevatedUser = "SYSTEM"
			c.ElevatedExecuteCommand = `powershell -executionpolicy bypass "& { . {{.Vars}}; &'{{.Path}}'; exit $LastExitCode }"`
		},
	} {
		if got, _, err := apply(change); err != nil || !slices.Equal(got, []string{"it's"}) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
		if left := s.Files("c:/windows/temp"); len(left) != 0 {
			t.Errorf("%s: left %q", name, left)
		}
	}
	if u := s.TaskUsers(); len(u) != 4 {
		t.Errorf("tasks ran as %q", u)
	}
	_, said, err := apply(func(c *Config) { c.ElevatedUser, c.ElevatedPassword = winrmtest.User, secret.New("wrong") })
	if err == nil || !strings.Contains(strings.Join(said, " "), "password is incorrect") {
		t.Errorf("%q, %v", said, err)
	}
	// The script that holds the password goes even with skip_clean.
	if _, _, err := apply(func(c *Config) { c.ElevatedUser, c.SkipClean = "SYSTEM", true }); err != nil {
		t.Error(err)
	}
	if left := s.Files("c:/windows/temp"); len(left) != 2 {
		t.Errorf("left %q", left)
	}
}

func TestLostGuest(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	var out provisionertest.Events
	err := mustOpen(t, Config{Options: options{Inline: []string{"Restart-Computer", "cmd /c waitfor x"}}}).Apply(provisionertest.Context(t), guest(t, s), &out)
	var lost *communicator.DisconnectError
	if !errors.As(err, &lost) || !strings.Contains(diag.Hint(err), "windows-restart") {
		t.Errorf("%v (%s)", err, diag.Hint(err))
	}
}

func TestStartIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	g := guest(t, s)
	s.Stop()
	ended := make(chan error, 1)
	go func() {
		ended <- mustOpenErr(Config{Options: options{Inline: []string{"Write-Output 'x'"}}}).Apply(provisionertest.Context(t), g, event.Discard)
	}()
	s.Restart()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func mustOpenErr(c Config) provisioner.Provisioner {
	p, err := open(c)
	if err != nil {
		panic(err)
	}
	return p
}

func TestLongCommandsAreRefused(t *testing.T) {
	err := winscript.Job{Line: strings.Repeat("x", 9000), Timeout: time.Minute}.Run(t.Context())
	if err == nil || !strings.Contains(err.Error(), "8191") || diag.Hint(err) == "" {
		t.Errorf("err = %v", err)
	}
}

func TestKey(t *testing.T) {
	path := write(t, "echo a\n")
	base := Config{Options: options{Script: path}}
	key := func(change func(*Config)) string {
		t.Helper()
		c := base
		change(&c)
		k, err := mustOpen(t, c).Key(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if k.IsZero() {
			return ""
		}
		return k.String()
	}
	same := key(func(*Config) {})
	for name, change := range map[string]func(*Config){
		"start_retry_timeout": func(c *Config) { c.StartRetryTimeout = time.Hour },
		"elevated_password":   func(c *Config) { c.ElevatedUser, c.ElevatedPassword = "", secret.New("") },
		"scripts":             func(c *Config) { c.Script, c.Scripts = "", []string{path} },
		"binary":              func(c *Config) { c.Binary = true },
	} {
		if key(change) != same {
			t.Errorf("%s changes the key", name)
		}
	}
	seen := map[string]string{same: "nothing"}
	for name, change := range map[string]func(*Config){
		"script":           func(c *Config) { c.Script = write(t, "echo b\n") },
		"twice":            func(c *Config) { c.Script, c.Scripts = "", []string{path, path} },
		"env":              func(c *Config) { c.Env = map[string]string{"A": "B"} },
		"format":           func(c *Config) { c.EnvVarFormat = "%s %s" },
		"elevated format":  func(c *Config) { c.ElevatedEnvVarFormat = "%s %s" },
		"user":             func(c *Config) { c.ElevatedUser = "SYSTEM" },
		"command":          func(c *Config) { c.ExecuteCommand = "{{.Path}}" },
		"elevated command": func(c *Config) { c.ElevatedExecuteCommand = "{{.Path}}" },
		"policy":           func(c *Config) { c.ExecutionPolicy = "none" },
		"debug":            func(c *Config) { c.DebugMode = 1 },
		"pwsh":             func(c *Config) { c.UsePwsh = true },
		"skip_clean":       func(c *Config) { c.SkipClean = true },
		"codes":            func(c *Config) { c.ValidExitCodes = []int{1} },
		"pause":            func(c *Config) { c.PauseAfter = 1 },
		"remote_path":      func(c *Config) { c.RemotePath = "c:/x" },
		"remote_env":       func(c *Config) { c.RemoteEnvVarPath = "c:/x" },
	} {
		k := key(change)
		if other, dup := seen[k]; dup || k == "" {
			t.Errorf("%s has the key of %s", name, other)
		}
		seen[k] = name
	}
	for name, change := range map[string]func(*Config){
		"own variable": func(c *Config) { c.Script = write(t, "$env:PACKER_BUILD_NAME") },
		"build value":  func(c *Config) { c.ExecuteCommand = "{{.Path}} {{.Host}}" },
		"build user":   func(c *Config) { c.ElevatedUser = "{{.User}}" },
	} {
		if key(change) != "" {
			t.Errorf("%s: a key though what happens is not known", name)
		}
	}
}
