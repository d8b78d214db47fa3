package cli

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	ctyjson "github.com/zclconf/go-cty/cty/json"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/compile"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/pipeline"
	"github.com/ingot-build/ingot/internal/secret"
)

// outputFlags say what becomes of the outputs of a template.
type outputFlags struct {
	file    string
	secrets bool // sensitive ones may be in the file
}

func (o *outputFlags) declare(fs *flag.FlagSet) {
	fs.StringVar(&o.file, "outputs", "", "write the template's outputs to this `file`: .json, .hcl or .tfvars, or .env")
	fs.BoolVar(&o.secrets, "outputs-with-secrets", false, "let sensitive outputs be in that file, which only its owner can read then")
}

// outputs are those of one run.
type outputs struct {
	outputFlags
	a    *app
	t    *hcl.Template
	mask *secret.Set
}

// An outputFormat writes values, none of them marked, in the order of names.
type outputFormat func(names []string, values map[string]cty.Value) ([]byte, error)

// outputFormatOf is the format that the ending of a file's name stands for.
func outputFormatOf(file string) (outputFormat, error) {
	switch ext := filepath.Ext(file); ext {
	case ".json":
		return outputsJSON, nil
	case ".hcl", ".tfvars":
		return outputsHCL, nil
	case ".env":
		return outputsEnv, nil
	}
	return nil, diag.WithHint(fmt.Errorf("-outputs=%s: the ending of the name does not say how to write it", file),
		"end it with .json, with .pkrvars.hcl or .tfvars, or with .env")
}

// check finds what would make the outputs fail, before anything is built.
func (o *outputs) check() error {
	if o.file == "" {
		return nil
	}
	if _, err := outputFormatOf(o.file); err != nil {
		return err
	}
	if len(o.t.Outputs) == 0 {
		return diag.WithHint(fmt.Errorf("-outputs=%s: the template has no outputs", o.file),
			"add one, as in: output \"image\" { value = build.NAME.artifact.image }")
	}
	path := o.path()
	if st, err := os.Stat(filepath.Dir(path)); err != nil {
		return fmt.Errorf("-outputs: the folder of the file: %w", err)
	} else if !st.IsDir() {
		return fmt.Errorf("-outputs=%s: %s is not a folder", o.file, filepath.Dir(o.file))
	}
	if st, err := os.Stat(path); err == nil && st.IsDir() {
		return fmt.Errorf("-outputs=%s is a folder: name a file", o.file)
	}
	var hidden []string
	env := map[string]string{}
	for _, out := range o.t.Outputs {
		if out.Sensitive {
			hidden = append(hidden, out.Name)
		}
		name := envName(out.Name)
		if other, ok := env[name]; ok && filepath.Ext(o.file) == ".env" {
			return diag.WithHint(fmt.Errorf("-outputs=%s: the outputs %s and %s have the same name there, %s", o.file, other, out.Name, name), "rename one of them")
		}
		env[name] = out.Name
	}
	if len(hidden) > 0 && !o.secrets {
		return diag.WithHint(fmt.Errorf("-outputs=%s: sensitive outputs would be in the file: %s", o.file, strings.Join(hidden, ", ")),
			"give -outputs-with-secrets if they may be")
	}
	return nil
}

func (o *outputs) path() string {
	if filepath.IsAbs(o.file) {
		return o.file
	}
	return filepath.Join(o.a.Cwd, o.file)
}

// finish shows the outputs of a run that ended with code, and writes them. It
// returns the exit code.
func (o *outputs) finish(res pipeline.Result, code int) int {
	if len(o.t.Outputs) == 0 {
		return code
	}
	done := map[string][]artifact.Set{}
	for _, b := range res.Builds {
		if b.Err == nil {
			done[b.Build] = b.Artifacts
		}
	}
	list, diags := compile.Outputs(o.t, done)
	o.a.report.diagnostics(masked(diags, o.mask), o.t.Files)
	if diags.HasErrors() {
		code = exitFailed
	}
	o.a.report.say(o.mask.Mask("\n" + strings.TrimRight(describeOutputs(list), "\n")))
	if o.file == "" {
		return code
	}
	if code != exitDone {
		o.a.report.say("\n" + o.file + " is not written: the run did not succeed.")
		return code
	}
	if err := o.write(list); err != nil {
		o.a.report.error(fmt.Errorf("-outputs: %w", err))
		return exitFailed
	}
	return code
}

func (o *outputs) write(list []compile.OutputValue) error {
	format, err := outputFormatOf(o.file)
	if err != nil {
		return err
	}
	mode := os.FileMode(0o644)
	var names []string
	values := map[string]cty.Value{}
	for _, out := range list {
		v := hcl.Unmark(out.Value)
		if !v.IsWhollyKnown() {
			continue // it is told that there is none
		}
		if out.Sensitive {
			mode = 0o600
		}
		names = append(names, out.Name)
		values[out.Name] = v
	}
	text, err := format(names, values)
	if err != nil {
		return err
	}
	return atomicfile.Write(o.path(), text, mode)
}

// describeOutputs is the section of inspect, plan and the end of a run.
func describeOutputs(list []compile.OutputValue) string {
	var b strings.Builder
	b.WriteString("> outputs:\n\n")
	for _, out := range list {
		text := render(out.Value, "", false)
		if out.Sensitive {
			text = secret.Redacted
		}
		fmt.Fprintf(&b, "output.%s: %s\n", out.Name, text)
	}
	return b.String()
}

func outputsJSON(_ []string, values map[string]cty.Value) ([]byte, error) {
	all := map[string]json.RawMessage{}
	for name, v := range values {
		js, err := ctyjson.Marshal(v, v.Type())
		if err != nil {
			return nil, fmt.Errorf("output %s: %w", name, err)
		}
		all[name] = js
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err := e.Encode(all)
	return b.Bytes(), err
}

func outputsHCL(names []string, values map[string]cty.Value) ([]byte, error) {
	f := hclwrite.NewEmptyFile()
	for _, name := range names {
		f.Body().SetAttributeValue(name, values[name])
	}
	return hclwrite.Format(f.Bytes()), nil
}

// outputsEnv writes lines that a POSIX shell and the usual readers of such
// files understand alike. What is not a text, number or bool is JSON.
func outputsEnv(names []string, values map[string]cty.Value) ([]byte, error) {
	var b bytes.Buffer
	for _, name := range names {
		v := values[name]
		var text string
		switch t := v.Type(); {
		case v.IsNull():
		case t == cty.String:
			text = v.AsString()
		case t == cty.Number:
			text = v.AsBigFloat().Text('f', -1)
		default:
			js, err := ctyjson.Marshal(v, t)
			if err != nil {
				return nil, fmt.Errorf("output %s: %w", name, err)
			}
			text = string(js)
		}
		if strings.ContainsRune(text, 0) {
			return nil, fmt.Errorf("output %s has a NUL in it, which such a file cannot hold", name)
		}
		fmt.Fprintf(&b, "%s=%s\n", envName(name), envQuoted(text))
	}
	return b.Bytes(), nil
}

// envName is the name of an output as that of a variable of the environment.
func envName(name string) string {
	return strings.Map(func(r rune) rune {
		if r < 0x80 && (r == '_' || r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z') {
			return r
		}
		return '_'
	}, name)
}

// envQuoted quotes a text: not at all when no sign in it is special, in single
// quotes, where every sign stands for itself, or else in double quotes.
func envQuoted(s string) string {
	plain := func(r rune) bool {
		return r >= '0' && r <= '9' || r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || strings.ContainsRune("_-./:,@%+", r)
	}
	switch {
	case strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0:
		return s
	case !strings.ContainsAny(s, "'\n\r"):
		return "'" + s + "'"
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`").Replace(s) + `"`
}
