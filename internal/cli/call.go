package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/journal"
)

// varEnv begins the name of an environment variable that sets a variable.
const varEnv = "PKR_VAR_"

// newCall is what the journal keeps of a command line, for ingot resume. The
// value of a sensitive variable is not in it, nor any other that has a known
// secret inside: those are to be given again.
func newCall(in hcl.Inputs, o buildOptions, t *hcl.Template) *journal.Call {
	c := &journal.Call{
		Cwd: in.Cwd, Template: in.Path, ConfigType: o.configType, VarFiles: in.VarFiles,
		Only: o.only, Except: o.except, OnError: o.onError, Parallel: o.parallel, Force: o.force, Local: o.local, Now: in.Now,
		Outputs: o.file, OutputSecrets: o.secrets,
		Env: map[string]string{}, Files: fileDigests(t), Values: valueDigests(in, t),
	}
	vars := map[string]*hcl.Variable{}
	for _, v := range t.Variables {
		vars[v.Name] = v
	}
	withhold := func(v *hcl.Variable, text string) bool {
		if !v.Sensitive && in.Secrets.Mask(text) == text {
			return false
		}
		if !slices.Contains(c.Withheld, v.Name) {
			c.Withheld = append(c.Withheld, v.Name)
		}
		return true
	}
	for _, kv := range in.Vars {
		name, value, _ := strings.Cut(kv, "=")
		if v := vars[name]; v != nil && !withhold(v, value) {
			c.Vars = append(c.Vars, kv)
		}
	}
	for _, kv := range in.Env {
		name, value, _ := strings.Cut(kv, "=")
		name, ok := strings.CutPrefix(name, varEnv)
		if v := vars[name]; ok && v != nil && v.Origin == "environment" && !withhold(v, value) {
			c.Env[name] = value
		}
	}
	return c
}

// inputsOf is what a template needs to mean again what it meant in the run of
// c. vars are the -var options that are given now; variables of the
// environment count only where the run's own are withheld.
func (a *app) inputsOf(c *journal.Call, vars []string) (hcl.Inputs, error) {
	given := map[string]bool{}
	for _, kv := range vars {
		name, _, _ := strings.Cut(kv, "=")
		given[name] = true
	}
	var env []string
	for _, kv := range a.Env {
		name, _, _ := strings.Cut(kv, "=")
		name, ok := strings.CutPrefix(name, varEnv)
		if ok && !slices.Contains(c.Withheld, name) {
			continue
		}
		if ok {
			given[name] = true
		}
		env = append(env, kv)
	}
	for _, name := range slices.Sorted(maps.Keys(c.Env)) {
		env = append(env, varEnv+name+"="+c.Env[name])
	}
	var missing []string
	for _, name := range c.Withheld {
		if !given[name] {
			missing = append(missing, name)
		}
	}
	in := hcl.Inputs{
		Path: c.Template, VarFiles: c.VarFiles, Vars: slices.Concat(c.Vars, vars),
		Env: env, Cwd: a.Cwd, Version: PackerVersion, Now: c.Now,
	}
	if len(missing) > 0 {
		return in, diag.WithHint(fmt.Errorf("the run was given secrets that are kept nowhere: the values of %s", strings.Join(missing, ", ")),
			"give each again, with -var NAME=VALUE or in the environment as %sNAME", varEnv)
	}
	return in, nil
}

// changes says what is not as it was when c was made.
func changes(c *journal.Call, in hcl.Inputs, t *hcl.Template) (out []string) {
	for _, d := range differing(c.Files, fileDigests(t)) {
		switch {
		case d.before == "":
			out = append(out, "file "+d.name+" is new")
		case d.now == "":
			out = append(out, "file "+d.name+" is gone")
		default:
			out = append(out, "file "+d.name+" has changed")
		}
	}
	for _, d := range differing(c.Values, valueDigests(in, t)) {
		if d.before != "" && d.now != "" { // else the file that declares it has changed
			out = append(out, "variable "+d.name+" has another value")
		}
	}
	return out
}

type difference struct{ name, before, now string }

func differing(before, now map[string]string) (out []difference) {
	names := maps.Clone(now)
	if names == nil {
		names = map[string]string{}
	}
	maps.Copy(names, before)
	for _, n := range slices.Sorted(maps.Keys(names)) {
		if before[n] != now[n] {
			out = append(out, difference{n, before[n], now[n]})
		}
	}
	return out
}

// fileDigests are those of the template's own files.
func fileDigests(t *hcl.Template) map[string]string {
	out := map[string]string{}
	for _, name := range t.FileNames {
		out[name] = digest(t.Files[name])
	}
	return out
}

// valueDigests are those of the variables' values, wherever they came from.
// Those of secrets are left out: a short secret is found from its digest.
func valueDigests(in hcl.Inputs, t *hcl.Template) map[string]string {
	out := map[string]string{}
	for _, v := range t.Variables {
		x := hcl.Unmark(v.Value)
		if v.Sensitive || !x.IsWhollyKnown() {
			continue
		}
		js, err := ctyjson.Marshal(x, x.Type())
		if err != nil || in.Secrets.Mask(string(js)) != string(js) {
			continue
		}
		out[v.Name] = digest(js)
	}
	return out
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return "sha256:" + hex.EncodeToString(sum[:])
}
