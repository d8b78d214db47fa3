package cli

import (
	"flag"
	"fmt"
	"strings"
	"time"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/secret"
)

// repeated is a flag that adds up.
type repeated []string

func (r *repeated) String() string     { return strings.Join(*r, ",") }
func (r *repeated) Set(s string) error { *r = append(*r, s); return nil }

// commaList is a flag with several values, separated by commas or repeated.
type commaList []string

func (c *commaList) String() string { return strings.Join(*c, ",") }

func (c *commaList) Set(s string) error {
	for _, v := range strings.Split(s, ",") {
		if v = strings.TrimSpace(v); v != "" {
			*c = append(*c, v)
		}
	}
	return nil
}

// A choice is a flag with one of a few values.
type choice struct {
	value   *string
	allowed []string
}

func (c choice) String() string {
	if c.value == nil {
		return ""
	}
	return *c.value
}

func (c choice) Set(s string) error {
	for _, v := range c.allowed {
		if s == v {
			*c.value = s
			return nil
		}
	}
	return fmt.Errorf("it is one of %s", strings.Join(c.allowed, ", "))
}

// A period is a flag with a time that is not negative.
type period struct{ value *time.Duration }

func (p period) String() string {
	if p.value == nil || *p.value == 0 {
		return ""
	}
	return p.value.String()
}

func (p period) Set(s string) error {
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return fmt.Errorf("it is a time such as 90s, 30m or 2h")
	}
	*p.value = d
	return nil
}

// A tristate is a bool flag that knows whether it was given.
type tristate struct{ set, value bool }

func (t *tristate) String() string   { return fmt.Sprint(t.value) }
func (t *tristate) IsBoolFlag() bool { return true }

func (t *tristate) Set(s string) error {
	switch strings.ToLower(s) {
	case "1", "t", "true":
		t.value = true
	case "0", "f", "false":
		t.value = false
	default:
		return fmt.Errorf("it is true or false")
	}
	t.set = true
	return nil
}

// templateFlags are those of every command that reads a template.
type templateFlags struct {
	vars, varFiles repeated
	configType     string
}

func (t *templateFlags) declare(fs *flag.FlagSet) {
	fs.Var(&t.vars, "var", "`name=value` of an input variable; repeatable")
	fs.Var(&t.varFiles, "var-file", "`file` with values of variables, .hcl or .json; repeatable")
	fs.Var(choice{&t.configType, []string{"hcl2"}}, "config-type", "`hcl2`: read the template as HCL whatever its name is")
}

// declareCompatible declares flags of Packer for things that Ingot does not
// have or does anyway, so that a script that gives them goes on working.
func declareCompatible(fs *flag.FlagSet, names ...string) {
	about := map[string]string{
		"ignore-prerelease-plugins": "taken for compatibility: everything is built in",
		"use-sequential-evaluation": "taken for compatibility: locals and data sources are always evaluated in the order they need",
		"upgrade":                   "taken for compatibility: what is built in has no other version",
		"force":                     "taken for compatibility: what is built in is always there",
		"skip-enforcement":          "taken for compatibility: there are no provisioners enforced from outside",
	}
	for _, n := range names {
		fs.Bool(n, false, about[n])
	}
}

// selectFlags choose among the builds of a template.
type selectFlags struct{ only, except commaList }

func (s *selectFlags) declare(fs *flag.FlagSet) {
	fs.Var(&s.only, "only", "run only the builds that match `glob,glob,…`")
	fs.Var(&s.except, "except", "leave out the builds and post-processors that match `glob,glob,…`")
}

// inputs is what the language needs beside the template.
func (a *app) inputs(path string, t templateFlags, secrets *secret.Set) hcl.Inputs {
	return hcl.Inputs{
		Path: path, VarFiles: t.varFiles, Vars: t.vars,
		Env: a.Env, Cwd: a.Cwd, Version: PackerVersion, Now: a.Now(), Secrets: secrets,
		Stdin: &replay{in: a.In}, ForceHCL: t.configType == "hcl2",
	}
}
