// Package winscript holds what the provisioners that run scripts on Windows
// agree on: their options, how a script gets to the guest, is started, tried
// again and removed, and how it is run as another user.
package winscript

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localshell/script"
)

// Options is what powershell and windows-shell have in common.
type Options struct {
	Inline         []string `hcl:"inline"`
	Script         string   `hcl:"script"`
	Scripts        []string `hcl:"scripts"`
	ValidExitCodes []int    `hcl:"valid_exit_codes"`

	EnvironmentVars []string          `hcl:"environment_vars"`
	Env             map[string]string `hcl:"env"`
	EnvVarFormat    string            `hcl:"env_var_format"`

	Binary            bool          `hcl:"binary"` // scripts are always copied as they are
	RemotePath        string        `hcl:"remote_path"`
	ExecuteCommand    string        `hcl:"execute_command,late"`
	StartRetryTimeout time.Duration `hcl:"start_retry_timeout"` // of upload and start together
}

const defaultStartTimeout = 5 * time.Minute

// A Source is one script on this machine.
type Source struct {
	Name string // for messages
	Path string // "" for inline
	Body []byte // of an inline script
}

// Read returns the script.
func (s Source) Read() ([]byte, error) {
	if s.Path == "" {
		return s.Body, nil
	}
	b, err := os.ReadFile(s.Path)
	if err != nil {
		return nil, fmt.Errorf("script: %w", err)
	}
	return b, nil
}

// A Set is checked options.
type Set struct {
	Sources []Source
	Env     script.Env
}

// Open checks o and sets its defaults but for those that the caller knows.
// inline makes the one script of the inline lines. The faults are
// *diag.FieldError values.
func Open(o *Options, inline func(lines []string) []byte) (Set, []error) {
	var s Set
	var errs []error
	n := 0
	for _, set := range []bool{len(o.Inline) > 0, o.Script != "", len(o.Scripts) > 0} {
		if set {
			n++
		}
	}
	if n != 1 {
		errs = append(errs, diag.Fieldsf([]string{"inline", "script", "scripts"}, "exactly one of inline, script and scripts must be set"))
	}
	if len(o.Inline) > 0 {
		s.Sources = append(s.Sources, Source{Name: "inline", Body: inline(o.Inline)})
	}
	file := func(option, name string) {
		s.Sources = append(s.Sources, Source{Name: name, Path: name})
		fi, err := os.Stat(name)
		if err == nil && fi.IsDir() {
			err = errors.New("it is a folder")
		}
		if err != nil {
			errs = append(errs, diag.Fieldf(option, "bad script %q: %w", name, err))
		}
	}
	if o.Script != "" {
		file("script", o.Script)
	}
	for i, p := range o.Scripts {
		file(fmt.Sprintf("scripts[%d]", i), p)
	}
	env, faults := script.ParseEnv(o.EnvironmentVars, o.Env)
	s.Env, errs = env, append(errs, faults...)
	if o.StartRetryTimeout == 0 {
		o.StartRetryTimeout = defaultStartTimeout
	}
	if o.StartRetryTimeout < 0 {
		errs = append(errs, diag.Fieldf("start_retry_timeout", "must not be negative"))
	}
	if len(o.ValidExitCodes) == 0 {
		o.ValidExitCodes = []int{0}
	}
	return s, append(errs, CheckPath("remote_path", o.RemotePath))
}

// CheckPath returns the fault of a path on the guest, nil for none.
func CheckPath(option, path string) error {
	if strings.ContainsAny(path, "\n\r\x00\"") {
		return diag.Fieldf(option, "%q has a line end or a quote in it", path)
	}
	return nil
}

// CheckFormat returns the fault of a format for a variable's name and value.
func CheckFormat(option, format string) error {
	if got := fmt.Sprintf(format, "name", "value"); strings.Contains(got, "%!") {
		return diag.Fieldf(option, "%q does not take two texts, a name and a value", format)
	}
	return nil
}

// ownVars begins the names of the variables every script gets. What a script
// reads of them is not known before it runs.
const ownVars = "PACKER_"

// Digest adds the scripts and variables to d and reports whether that says
// everything: a script that names a variable of the build is not known.
func (s Set) Digest(d *checkpoint.Digest) (known bool, err error) {
	d.Text(fmt.Sprint(len(s.Sources)))
	for _, src := range s.Sources {
		b, err := src.Read()
		if err != nil {
			return false, err
		}
		if strings.Contains(string(b), ownVars) {
			return false, nil
		}
		d.Bytes(b)
	}
	for _, k := range s.Env.Names() {
		d.Text(k, s.Env[k])
	}
	return true, nil
}

// Random returns a name nobody else has.
func Random() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return hex.EncodeToString(b[:])
}
