// Package shell is the provisioner "shell": scripts that run on the guest.
package shell

import (
	"errors"
	"fmt"
	"os"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/provisioner"
)

// Config is the options of the provisioner.
type Config struct {
	Inline         []string `hcl:"inline"`
	Script         string   `hcl:"script"`
	Scripts        []string `hcl:"scripts"`
	ValidExitCodes []int    `hcl:"valid_exit_codes"`

	EnvironmentVars []string          `hcl:"environment_vars"`
	Env             map[string]string `hcl:"env"`
	EnvVarFormat    string            `hcl:"env_var_format"`
	UseEnvVarFile   bool              `hcl:"use_env_var_file"`

	Binary         bool   `hcl:"binary"` // the scripts are copied as they are; otherwise CRLF becomes LF
	RemoteFolder   string `hcl:"remote_folder"`
	RemoteFile     string `hcl:"remote_file"`
	RemotePath     string `hcl:"remote_path"`
	ExecuteCommand string `hcl:"execute_command,late"`
	InlineShebang  string `hcl:"inline_shebang"`

	PauseAfter        time.Duration `hcl:"pause_after"`
	StartRetryTimeout time.Duration `hcl:"start_retry_timeout"` // of upload and start together
	SkipClean         bool          `hcl:"skip_clean"`
	ExpectDisconnect  bool          `hcl:"expect_disconnect"`
}

const (
	defaultFolder       = "/tmp"
	defaultShebang      = "/bin/sh -e"
	defaultFormat       = `%s='%s' `
	defaultFileFormat   = "export %s='%s'\n"
	defaultCommand      = `chmod +x {{.Path}}; {{.Vars}} {{.Path}}`
	defaultFileCommand  = `chmod +x {{.Path}}; . {{.EnvVarFile}} && {{.Path}}`
	defaultStartTimeout = 5 * time.Minute

	// disconnectCode is what templates name in valid_exit_codes to accept a
	// lost connection: Packer's status for a session that ended without one.
	disconnectCode = 2300218
)

// Driver returns the provisioner "shell".
func Driver() provisioner.Driver { return provisioner.NewDriver("shell", open) }

// A shell is the provisioner.
type shell struct {
	cfg     Config
	sources []source
	env     script.Env
	command script.Command
}

var _ provisioner.Provisioner = (*shell)(nil)

// A source is one script on this machine.
type source struct {
	name string // for messages
	path string // "" for inline
	body []byte // of an inline script
}

func open(c Config) (provisioner.Provisioner, error) {
	s := &shell{cfg: c}
	errs := s.openSources()
	env, faults := script.ParseEnv(c.EnvironmentVars, c.Env)
	errs = append(errs, faults...)
	s.env = env
	s.defaults()
	if err := script.CheckFormat(s.cfg.EnvVarFormat); err != nil {
		errs = append(errs, err)
	}
	var err error
	if s.command, err = script.ParseCommand(s.cfg.ExecuteCommand); err != nil {
		errs = append(errs, diag.Fieldf("execute_command", "is %w", err))
	}
	for _, d := range []struct {
		name string
		val  time.Duration
	}{{"pause_after", c.PauseAfter}, {"start_retry_timeout", c.StartRetryTimeout}} {
		if d.val < 0 {
			errs = append(errs, diag.Fieldf(d.name, "must not be negative"))
		}
	}
	for _, p := range []struct{ name, val string }{
		{"remote_path", c.RemotePath}, {"remote_folder", c.RemoteFolder}, {"remote_file", c.RemoteFile},
	} {
		if strings.ContainsAny(p.val, "\n\r\x00") {
			errs = append(errs, diag.Fieldf(p.name, "%q has a line end in it", p.val))
		}
	}
	return s, errors.Join(errs...)
}

func (s *shell) openSources() (errs []error) {
	c := s.cfg
	n := 0
	for _, set := range []bool{len(c.Inline) > 0, c.Script != "", len(c.Scripts) > 0} {
		if set {
			n++
		}
	}
	if n != 1 {
		errs = append(errs, diag.Fieldsf([]string{"inline", "script", "scripts"}, "exactly one of inline, script and scripts must be set"))
	}
	if len(c.Inline) > 0 {
		shebang := c.InlineShebang
		if shebang == "" && !strings.HasPrefix(c.Inline[0], "#!") {
			shebang = defaultShebang
		}
		s.sources = append(s.sources, source{name: "inline", body: script.Inline(c.Inline, shebang)})
	}
	if c.Script != "" {
		s.sources = append(s.sources, source{name: c.Script, path: c.Script})
		errs = append(errs, checkScript("script", c.Script))
	}
	for i, p := range c.Scripts {
		s.sources = append(s.sources, source{name: p, path: p})
		errs = append(errs, checkScript(fmt.Sprintf("scripts[%d]", i), p))
	}
	return slices.DeleteFunc(errs, func(err error) bool { return err == nil })
}

func checkScript(option, name string) error {
	fi, err := os.Stat(name)
	if err == nil && fi.IsDir() {
		err = errors.New("it is a folder")
	}
	if err != nil {
		return diag.Fieldf(option, "bad script %q: %w", name, err)
	}
	return nil
}

func (s *shell) defaults() {
	c := &s.cfg
	if c.RemoteFolder == "" {
		c.RemoteFolder = defaultFolder
	}
	format, command := defaultFormat, defaultCommand
	if c.UseEnvVarFile {
		format, command = defaultFileFormat, defaultFileCommand
	}
	if c.EnvVarFormat == "" {
		c.EnvVarFormat = format
	}
	if c.ExecuteCommand == "" {
		c.ExecuteCommand = command
	}
	if c.StartRetryTimeout == 0 {
		c.StartRetryTimeout = defaultStartTimeout
	}
	if len(c.ValidExitCodes) == 0 {
		c.ValidExitCodes = []int{0}
	}
	if slices.Contains(c.ValidExitCodes, disconnectCode) {
		c.ExpectDisconnect = true
	}
}

// remote returns where a script and its environment are put. Names are drawn
// anew for each script: an earlier one may have been left behind.
func (s *shell) remote(random string) (scriptPath, envPath string) {
	scriptPath = s.cfg.RemotePath
	if scriptPath == "" {
		file := s.cfg.RemoteFile
		if file == "" {
			file = "script_" + random + ".sh"
		}
		scriptPath = path.Join(s.cfg.RemoteFolder, file)
	}
	return scriptPath, path.Join(s.cfg.RemoteFolder, "varfile_"+random+".sh")
}
