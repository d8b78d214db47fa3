package powershell

import (
	"fmt"
	"strconv"
	"strings"

	ps "github.com/ingot-build/ingot/internal/communicator/powershell"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/internal/winscript"
)

// inline makes a script of lines. It ends with the status of the last program
// it ran, and with 1 where PowerShell itself gave up. The lines stay at the
// beginning of theirs, for the sake of here-strings.
func (p *powershell) inline(lines []string) []byte {
	return winscript.Text(quiet + p.debug("\n") + "try {\n" + strings.Join(lines, "\n") +
		"\n} catch {\n[Console]::Error.WriteLine(($_ | Out-String).TrimEnd())\nexit 1\n}\n" +
		"if (Test-Path variable:global:LASTEXITCODE) { exit $LASTEXITCODE }\nexit 0\n")
}

// quiet turns progress bars off, which come as text on the error output.
const quiet = "if (Test-Path variable:global:ProgressPreference) { $global:ProgressPreference='SilentlyContinue' }\n"

func (p *powershell) debug(end string) string {
	if p.cfg.DebugMode == 0 {
		return ""
	}
	return "Set-PsDebug -Trace " + strconv.Itoa(p.cfg.DebugMode) + end
}

// line is how a script is run where the template does not say it. It is
// encoded: the shell it goes through may be cmd.exe, PowerShell or another.
func (p *powershell) line(path, envPath string) string {
	program := ps.Program
	if p.cfg.UsePwsh {
		program = "pwsh"
	}
	if p.cfg.ExecutionPolicy != "none" {
		program += " -ExecutionPolicy " + p.cfg.ExecutionPolicy
	}
	return program + " -OutputFormat Text -EncodedCommand " + ps.Encode(p.runner(path, envPath))
}

// runner is what the line has PowerShell do.
func (p *powershell) runner(path, envPath string) string {
	return quiet + p.debug("\n") + ". " + ps.Quote(envPath) + "\n& " + ps.Quote(path) + "\nexit $LastExitCode\n"
}

// variables is the file that sets the environment.
func variables(env script.Env, format string) []byte {
	var b strings.Builder
	for _, k := range env.Names() {
		fmt.Fprintf(&b, format, k, ps.Escape(env[k]))
	}
	return winscript.Text(strings.TrimRight(b.String(), " ") + "\n")
}
