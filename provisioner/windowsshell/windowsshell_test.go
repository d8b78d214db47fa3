package windowsshell

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/communicator/winrm"
	"github.com/ingot-build/ingot/internal/communicator/winrm/winrmtest"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/internal/winscript"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

func TestOpenReportsEveryFault(t *testing.T) {
	_, err := open(Config{winscript.Options{EnvVarFormat: "%s", ExecuteCommand: "{{", Env: map[string]string{"=": ""}}})
	var got []string
	for _, e := range diag.Flatten(err) {
		var f *diag.FieldError
		if !errors.As(e, &f) {
			t.Fatalf("%v is not about an option", e)
		}
		got = append(got, f.Paths[0])
	}
	slices.Sort(got)
	if want := []string{"env", "env_var_format", "execute_command", "inline"}; !slices.Equal(got, want) {
		t.Errorf("faults in %q, want %q", got, want)
	}
}

func TestApply(t *testing.T) {
	t.Parallel()
	s := winrmtest.Start(t, winrmtest.Options{})
	c, err := winrm.Dial(provisionertest.Context(t), s.Config(), winrm.Target{}, event.Discard)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	g := communicator.Guest{Communicator: c, Data: s.Data()}
	file := filepath.Join(t.TempDir(), "a.bat")
	if err := os.WriteFile(file, []byte("@echo %A% %PACKER_BUILDER_TYPE%\r\nexit /b 3010\r\necho never\r\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{"A=it's a & b"}
	for name, tc := range map[string]struct {
		o    winscript.Options
		want []string
		code int
	}{
		"inline":            {winscript.Options{Inline: []string{"echo one", "echo %PACKER_BUILD_NAME%"}}, []string{"one", "win"}, 0},
		"script":            {winscript.Options{Script: file, EnvironmentVars: []string{"A=it's"}, ValidExitCodes: []int{3010}}, []string{"it's qemu"}, 0},
		"scripts, bad code": {winscript.Options{Scripts: []string{file, file}, EnvironmentVars: []string{"A=x"}}, []string{"x qemu"}, 3010},
		"own command": {
			winscript.Options{Inline: []string{"echo x"}, EnvironmentVars: env, EnvVarFormat: `set "%s=%s"&`, ExecuteCommand: `{{.Vars}}cmd /c {{.Path}}`, RemotePath: "c:/x/y.cmd"},
			[]string{"x"},
			0,
		},
	} {
		p, err := open(Config{tc.o})
		if err != nil {
			t.Fatal(name, err)
		}
		var out provisionertest.Events
		err = p.Apply(provisionertest.Context(t), g, &out)
		var exit *script.ExitError
		if tc.code == 0 && err != nil || tc.code != 0 && (!errors.As(err, &exit) || exit.Status != tc.code) {
			t.Errorf("%s: %v", name, err)
		}
		if got := out.Lines(false); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q (%q)", name, got, tc.want, out.Lines(true))
		}
	}
	for _, p := range []string{"c:/windows/temp/script.bat", "c:/x/y.cmd"} {
		if _, ok := s.ReadFile(p); !ok {
			t.Errorf("%s was removed", p)
		}
	}
}

func TestKey(t *testing.T) {
	key := func(o winscript.Options) string {
		p, err := open(Config{o})
		if err != nil {
			t.Fatal(err)
		}
		k, err := p.Key(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if k.IsZero() {
			return ""
		}
		return k.String()
	}
	seen := map[string]int{}
	for i, o := range []winscript.Options{
		{Inline: []string{"a"}},
		{Inline: []string{"b"}},
		{Inline: []string{"a"}, RemotePath: "c:/x"},
		{Inline: []string{"a"}, Env: map[string]string{"A": "B"}},
		{Inline: []string{"a"}, ValidExitCodes: []int{1}},
		{Inline: []string{"a"}, ExecuteCommand: "{{.Path}}"},
		{Inline: []string{"a"}, EnvVarFormat: "set %s=%s&"},
	} {
		k := key(o)
		if j, dup := seen[k]; dup || k == "" {
			t.Errorf("%d has the key of %d", i, j)
		}
		seen[k] = i
	}
	for _, o := range []winscript.Options{{Inline: []string{"echo %PACKER_BUILD_NAME%"}}, {Inline: []string{"a"}, ExecuteCommand: "{{.Host}}"}} {
		if key(o) != "" {
			t.Errorf("%+v has a key", o)
		}
	}
}
