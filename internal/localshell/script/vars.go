// Package script holds what every provisioner that runs scripts agrees on:
// how environment variables are written, how inline lines become a file,
// which exit codes are good, and how a command line is rendered late.
package script

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
)

// Env is the environment variables that the options environment_vars and env
// give. Its values may be secret.
type Env map[string]string

// ParseEnv joins both options; m wins. Every entry of list is K=V. The faults
// are *diag.FieldError values.
func ParseEnv(list []string, m map[string]string) (Env, []error) {
	env, errs := Env{}, []error(nil)
	for i, kv := range list {
		k, v, ok := strings.Cut(kv, "=")
		if !ok || k == "" {
			// The entry itself may be a secret and is not repeated.
			errs = append(errs, diag.Fieldf("environment_vars", "entry %d is not in the form key=value", i+1))
			continue
		}
		env[k] = v
	}
	for k, v := range m {
		if k == "" || strings.Contains(k, "=") {
			errs = append(errs, diag.Fieldf("env", "%q is not a variable's name", k))
			continue
		}
		env[k] = v
	}
	return env, errs
}

// With returns the variables that every script gets, and over them those of e.
func (e Env) With(d communicator.Data) Env {
	out := Env{"PACKER_BUILD_NAME": d.BuildName, "PACKER_BUILDER_TYPE": d.BuilderType}
	if d.HTTPIP != "" {
		port := strconv.Itoa(d.HTTPPort)
		out["PACKER_HTTP_ADDR"] = d.HTTPIP + ":" + port
		out["PACKER_HTTP_IP"] = d.HTTPIP
		out["PACKER_HTTP_PORT"] = port
	}
	maps.Copy(out, e)
	return out
}

// Names returns the names in order.
func (e Env) Names() []string { return slices.Sorted(maps.Keys(e)) }

// Format writes every variable with format, whose two verbs take name and
// value, in the order of the names. A single quote in a value leaves the
// quotes, stands in double quotes and goes back: the formats put values in
// single quotes.
func (e Env) Format(format string) string {
	var b strings.Builder
	for _, k := range e.Names() {
		fmt.Fprintf(&b, format, k, strings.ReplaceAll(e[k], `'`, `'"'"'`))
	}
	return b.String()
}

// CheckFormat returns the fault of an env_var_format that does not take a name
// and a value.
func CheckFormat(format string) error {
	if got := fmt.Sprintf(format, "name", "value"); strings.Contains(got, "%!") {
		return diag.Fieldf("env_var_format", "%q does not take two texts, a name and a value, as %%s='%%s' does", format)
	}
	return nil
}

// Inline makes a script of lines. The shebang line is left out when shebang is
// empty.
func Inline(lines []string, shebang string) []byte {
	var b strings.Builder
	if shebang != "" {
		b.WriteString("#!" + shebang + "\n")
	}
	for _, l := range lines {
		b.WriteString(l + "\n")
	}
	return []byte(b.String())
}

// Quote returns s as one word of a POSIX shell. A leading "~/" stays for the
// shell to expand.
func Quote(s string) string {
	tilde, rest := "", s
	if s == "~" {
		return s
	}
	if r, ok := strings.CutPrefix(s, "~/"); ok {
		tilde, rest = "~/", r
	}
	if rest != "" && !strings.ContainsFunc(rest, special) {
		return tilde + rest
	}
	return tilde + `'` + strings.ReplaceAll(rest, `'`, `'"'"'`) + `'`
}

func special(r rune) bool {
	switch {
	case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		return false
	}
	return !strings.ContainsRune("-_./:@%+,=", r)
}
