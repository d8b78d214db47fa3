// Package powershell is the provisioner "powershell": scripts that run on a
// Windows guest, over WinRM or SSH.
package powershell

import (
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/internal/winscript"
	"github.com/ingot-build/ingot/provisioner"
)

// Config is the options of the provisioner.
type Config struct {
	winscript.Options

	RemoteEnvVarPath       string        `hcl:"remote_env_var_path"`
	SkipClean              bool          `hcl:"skip_clean"`
	ExecutionPolicy        string        `hcl:"execution_policy"`
	DebugMode              int           `hcl:"debug_mode"` // trace level of Set-PsDebug
	UsePwsh                bool          `hcl:"use_pwsh"`
	PauseAfter             time.Duration `hcl:"pause_after"`
	ElevatedUser           string        `hcl:"elevated_user"`
	ElevatedPassword       secret.String `hcl:"elevated_password"`
	ElevatedExecuteCommand string        `hcl:"elevated_execute_command,late"`
	ElevatedEnvVarFormat   string        `hcl:"elevated_env_var_format"`
}

const (
	defaultFormat = `$env:%s="%s"; `
	folder        = "c:/Windows/Temp/"
)

// policies are those of about_Execution_Policies; "none" leaves the guest's.
var policies = []string{"bypass", "allsigned", "default", "remotesigned", "restricted", "undefined", "unrestricted", "none"}

// Driver returns the provisioner "powershell".
func Driver() provisioner.Driver { return provisioner.NewDriver("powershell", open) }

type powershell struct {
	cfg      Config
	set      winscript.Set
	command  *script.Command // nil: our own
	elevated *script.Command
	user     script.Command
	password script.Command
}

var _ provisioner.Provisioner = (*powershell)(nil)

func open(c Config) (provisioner.Provisioner, error) {
	p := &powershell{cfg: c}
	var errs []error
	p.set, errs = winscript.Open(&p.cfg.Options, p.inline)
	cfg := &p.cfg
	for _, f := range []struct {
		name string
		val  *string
	}{{"env_var_format", &cfg.EnvVarFormat}, {"elevated_env_var_format", &cfg.ElevatedEnvVarFormat}} {
		if *f.val == "" {
			*f.val = defaultFormat
		}
		errs = append(errs, winscript.CheckFormat(f.name, *f.val))
	}
	if cfg.ExecutionPolicy == "" {
		cfg.ExecutionPolicy = "bypass"
	}
	if cfg.ExecutionPolicy = strings.ToLower(cfg.ExecutionPolicy); !slices.Contains(policies, cfg.ExecutionPolicy) {
		errs = append(errs, diag.Fieldf("execution_policy", "%q is not known; it is one of %s", c.ExecutionPolicy, strings.Join(policies, ", ")))
	}
	if cfg.DebugMode < 0 || cfg.DebugMode > 2 {
		errs = append(errs, diag.Fieldf("debug_mode", "is a trace level from 0 to 2, not %d", cfg.DebugMode))
	}
	if cfg.PauseAfter < 0 {
		errs = append(errs, diag.Fieldf("pause_after", "must not be negative"))
	}
	if !cfg.ElevatedPassword.IsEmpty() && cfg.ElevatedUser == "" {
		errs = append(errs, diag.Fieldsf([]string{"elevated_password", "elevated_user"}, "needs elevated_user as well"))
	}
	errs = append(errs, winscript.CheckPath("remote_env_var_path", cfg.RemoteEnvVarPath))
	return p, errors.Join(append(errs, p.parse()...)...)
}

func (p *powershell) parse() (errs []error) {
	parse := func(option, text string) script.Command {
		c, err := script.ParseCommand(text)
		if err != nil {
			errs = append(errs, diag.Fieldf(option, "is %w", err))
		}
		return c
	}
	if t := p.cfg.ExecuteCommand; t != "" {
		c := parse("execute_command", t)
		p.command = &c
	}
	if t := p.cfg.ElevatedExecuteCommand; t != "" {
		c := parse("elevated_execute_command", t)
		p.elevated = &c
	}
	p.user = parse("elevated_user", p.cfg.ElevatedUser)
	if c, err := script.ParseCommand(p.cfg.ElevatedPassword.Reveal()); err == nil {
		p.password = c
	} else {
		// A password may look like anything; only one that is a template is rendered.
		p.password, _ = script.ParseCommand("{{`" + strings.ReplaceAll(p.cfg.ElevatedPassword.Reveal(), "`", "`}}{{\"`\"}}{{`") + "`}}")
	}
	return errs
}
