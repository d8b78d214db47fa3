// Package localshell runs scripts on the machine that Ingot runs on. The
// provisioner and the post-processor "shell-local" are both made of it.
package localshell

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localshell/script"
)

// Config is the options of shell-local.
type Config struct {
	Inline            []string          `hcl:"inline"`
	Script            string            `hcl:"script"`
	Scripts           []string          `hcl:"scripts"`
	Command           string            `hcl:"command"` // the older way to write one inline line
	ValidExitCodes    []int             `hcl:"valid_exit_codes"`
	EnvironmentVars   []string          `hcl:"environment_vars"`
	Env               map[string]string `hcl:"env"`
	EnvVarFormat      string            `hcl:"env_var_format"`
	ExecuteCommand    []string          `hcl:"execute_command,late"`
	InlineShebang     string            `hcl:"inline_shebang"`
	OnlyOn            []string          `hcl:"only_on"`
	TempfileExtension string            `hcl:"tempfile_extension"`
	// UseLinuxPathing turns paths for a Linux shell on Windows. Everywhere
	// else paths are what they are and it changes nothing.
	UseLinuxPathing bool `hcl:"use_linux_pathing"`
}

const (
	defaultShebang   = "/bin/sh -e"
	defaultEnvFormat = `%s='%s' `
)

// defaultCommand is used when a template sets env_var_format and no
// execute_command: the format then has to appear somewhere.
var defaultCommand = []string{"/bin/sh", "-c", "{{.Vars}} {{.Script}}"}

var systems = []string{"darwin", "freebsd", "linux", "openbsd", "solaris", "windows"}

// A Runner is a checked Config.
type Runner struct {
	cfg     Config
	inline  []string // lines of the one inline script, nil when scripts are files
	env     script.Env
	format  string
	command []script.Command // nil: the script, with its variables in its environment
	exits   []int
}

// Open checks c and sets the defaults. Its error joins *diag.FieldError values.
func Open(c Config) (*Runner, error) {
	r := &Runner{cfg: c, inline: c.Inline, format: c.EnvVarFormat, exits: c.ValidExitCodes}
	var errs []error
	if c.Script != "" && len(c.Scripts) > 0 || sources(c) != 1 {
		errs = append(errs, diag.Fieldsf([]string{"inline", "command", "script", "scripts"},
			"exactly one of inline, command, script and scripts must be set"))
	}
	if c.Command != "" {
		r.inline = []string{c.Command}
	}
	if c.Script != "" {
		r.cfg.Scripts = []string{c.Script}
	}
	errs = append(errs, checkScripts(c)...)
	var faults []error
	r.env, faults = script.ParseEnv(c.EnvironmentVars, c.Env)
	errs = append(errs, faults...)
	if r.cfg.InlineShebang == "" {
		r.cfg.InlineShebang = defaultShebang
	}
	if len(r.exits) == 0 {
		r.exits = []int{0}
	}
	for _, s := range c.OnlyOn {
		if !slices.Contains(systems, s) {
			errs = append(errs, diag.Fieldf("only_on", "%q is not one of %s", s, strings.Join(systems, ", ")))
		}
	}
	if strings.ContainsRune(c.TempfileExtension, filepath.Separator) {
		errs = append(errs, diag.Fieldf("tempfile_extension", "%q has a path separator in it", c.TempfileExtension))
	}
	errs = append(errs, r.parseCommand()...)
	return r, errors.Join(errs...)
}

func sources(c Config) (n int) {
	for _, set := range []bool{len(c.Inline) > 0, c.Command != "", c.Script != "", len(c.Scripts) > 0} {
		if set {
			n++
		}
	}
	return n
}

func checkScripts(c Config) (errs []error) {
	if c.Script != "" {
		if err := checkScript(c.Script); err != nil {
			errs = append(errs, diag.Fieldf("script", "%w", err))
		}
	}
	for i, s := range c.Scripts {
		if err := checkScript(s); err != nil {
			errs = append(errs, diag.Fieldf(fmt.Sprintf("scripts[%d]", i), "%w", err))
		}
	}
	return errs
}

func checkScript(path string) error {
	fi, err := os.Stat(path)
	if err == nil && fi.IsDir() {
		err = errors.New("it is a folder")
	}
	if err != nil {
		return fmt.Errorf("bad script %q: %w", path, err)
	}
	return nil
}

func (r *Runner) parseCommand() (errs []error) {
	argv := r.cfg.ExecuteCommand
	if r.format == "" {
		r.format = defaultEnvFormat
	} else if len(argv) == 0 {
		argv = defaultCommand
	}
	if err := script.CheckFormat(r.format); err != nil {
		errs = append(errs, err)
	}
	if len(argv) == 1 {
		argv = []string{"/bin/sh", "-c", argv[0]}
	}
	for _, a := range argv {
		c, err := script.ParseCommand(a)
		if err != nil {
			errs = append(errs, diag.Fieldf("execute_command", "%q is %w", a, err))
			continue
		}
		r.command = append(r.command, c)
	}
	return errs
}

// here reports whether only_on lets the scripts run on this machine.
func (r *Runner) here() bool {
	return len(r.cfg.OnlyOn) == 0 || slices.Contains(r.cfg.OnlyOn, runtime.GOOS)
}
