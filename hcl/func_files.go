package hcl

import (
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"unicode/utf8"

	"github.com/bmatcuk/doublestar/v4"
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
)

// getenv is the last value of an environment variable, or "".
func (e funcEnv) getenv(name string) string {
	for i := len(e.env) - 1; i >= 0; i-- {
		if k, v, ok := strings.Cut(e.env[i], "="); ok && k == name {
			return v
		}
	}
	return ""
}

// home replaces a leading ~.
func (e funcEnv) home(path string) (string, error) {
	if path != "~" && !strings.HasPrefix(path, "~/") {
		if strings.HasPrefix(path, "~") {
			return "", errors.New("only the own home folder can be written as ~, not that of another user")
		}
		return path, nil
	}
	dir := e.getenv("HOME")
	if dir == "" {
		return "", errors.New("~ cannot be replaced: the environment variable HOME is not set")
	}
	return filepath.Join(dir, path[1:]), nil
}

// resolve makes a path absolute.
func (e funcEnv) resolve(folder, path string) (string, error) {
	path, err := e.home(path)
	if err != nil {
		return "", err
	}
	if !filepath.IsAbs(path) {
		path = filepath.Join(folder, path)
	}
	return filepath.Clean(path), nil
}

func (e funcEnv) read(folder, path string) ([]byte, error) {
	full, err := e.resolve(folder, path)
	if err != nil {
		return nil, err
	}
	text, err := os.ReadFile(full)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file %s", full)
	}
	return text, err
}

func (e funcEnv) readText(path string) (string, error) {
	text, err := e.read(e.root, path)
	if err == nil && !utf8.Valid(text) {
		err = fmt.Errorf("%s is not text in UTF-8; read it with filebase64", path)
	}
	return string(text), err
}

func (e funcEnv) fileFunc() function.Function { return textFunc("path", e.readText) }

func (e funcEnv) fileBase64Func() function.Function {
	return textFunc("path", func(path string) (string, error) {
		b, err := e.read(e.cwd, path)
		return base64.StdEncoding.EncodeToString(b), err
	})
}

func basenameFunc() function.Function {
	return textFunc("path", func(p string) (string, error) { return filepath.Base(p), nil })
}

func dirnameFunc() function.Function {
	return textFunc("path", func(p string) (string, error) { return filepath.Dir(p), nil })
}

func (e funcEnv) pathexpandFunc() function.Function { return textFunc("path", e.home) }

func (e funcEnv) abspathFunc() function.Function {
	return textFunc("path", func(p string) (string, error) {
		if !filepath.IsAbs(p) {
			p = filepath.Join(e.cwd, p)
		}
		return filepath.ToSlash(filepath.Clean(p)), nil
	})
}

func (e funcEnv) fileExistsFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Bool),
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) {
			path, err := e.resolve(e.root, args[0].AsString())
			if err != nil {
				return cty.UnknownVal(cty.Bool), err
			}
			st, err := os.Stat(path)
			switch {
			case errors.Is(err, fs.ErrNotExist):
				return cty.False, nil
			case err != nil:
				return cty.UnknownVal(cty.Bool), err
			case !st.Mode().IsRegular():
				return cty.UnknownVal(cty.Bool), function.NewArgErrorf(0, "%s is not a regular file", path)
			}
			return cty.True, nil
		},
	})
}

func (e funcEnv) fileSetFunc() function.Function {
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}, {Name: "pattern", Type: cty.String}},
		Type:   function.StaticReturnType(cty.Set(cty.String)),
		Impl: func(args []cty.Value, ret cty.Type) (cty.Value, error) {
			folder := args[0].AsString()
			if !filepath.IsAbs(folder) {
				folder = filepath.Join(e.root, folder)
			}
			matches, err := doublestar.FilepathGlob(filepath.Join(folder, args[1].AsString()))
			if err != nil {
				return cty.UnknownVal(ret), function.NewArgErrorf(1, "%q is not a file pattern: %v", args[1].AsString(), err)
			}
			var names []cty.Value
			for _, m := range matches {
				st, err := os.Stat(m)
				if err != nil || !st.Mode().IsRegular() {
					continue
				}
				rel, err := filepath.Rel(folder, m)
				if err != nil {
					return cty.UnknownVal(ret), err
				}
				names = append(names, cty.StringVal(filepath.ToSlash(rel)))
			}
			if len(names) == 0 {
				return cty.SetValEmpty(cty.String), nil
			}
			return cty.SetVal(names), nil
		},
	})
}

// templateFileFunc renders a file as a template with the given variables and
// functions, which do not include itself.
func (e funcEnv) templateFileFunc(inner map[string]function.Function) function.Function {
	inner["templatefile"] = function.New(&function.Spec{
		VarParam: &function.Parameter{Name: "args", Type: cty.DynamicPseudoType, AllowNull: true, AllowUnknown: true, AllowDynamicType: true},
		Type: func([]cty.Value) (cty.Type, error) {
			return cty.NilType, errors.New("a template file cannot call templatefile")
		},
	})
	render := func(args []cty.Value) (cty.Value, error) {
		path, vars := args[0].AsString(), args[1]
		if !isMapping(vars.Type()) {
			return cty.DynamicVal, function.NewArgErrorf(1, "an object with the variables of the template is required")
		}
		text, err := e.readText(path)
		if err != nil {
			return cty.DynamicVal, function.NewArgError(0, err)
		}
		expr, hd := hclsyntax.ParseTemplate([]byte(text), path, hcl2.InitialPos)
		if hd.HasErrors() {
			return cty.DynamicVal, function.NewArgError(0, brief(hd))
		}
		ctx := &hcl2.EvalContext{Variables: map[string]cty.Value{}, Functions: inner}
		for it := vars.ElementIterator(); it.Next(); {
			k, v := it.Element()
			if !hclsyntax.ValidIdentifier(k.AsString()) {
				return cty.DynamicVal, function.NewArgErrorf(1, "%q cannot be the name of a variable: names begin with a letter and have only letters, digits and underscores", k.AsString())
			}
			ctx.Variables[k.AsString()] = v
		}
		for _, tr := range expr.Variables() {
			if _, ok := ctx.Variables[tr.RootName()]; !ok {
				r := tr.SourceRange()
				return cty.DynamicVal, function.NewArgErrorf(1, "the template refers to %q (%s:%d,%d), which is not among the variables given", tr.RootName(), path, r.Start.Line, r.Start.Column)
			}
		}
		v, hd := evaluate(expr, ctx)
		if hd.HasErrors() {
			return cty.DynamicVal, function.NewArgError(0, brief(hd))
		}
		return v, nil
	}
	return function.New(&function.Spec{
		Params: []function.Parameter{{Name: "path", Type: cty.String}, {Name: "vars", Type: cty.DynamicPseudoType}},
		Type: func(args []cty.Value) (cty.Type, error) {
			if !args[0].IsKnown() || !args[1].IsKnown() {
				return cty.DynamicPseudoType, nil
			}
			v, err := render(args)
			return v.Type(), err
		},
		Impl: func(args []cty.Value, _ cty.Type) (cty.Value, error) { return render(args) },
	})
}

// brief is the first error of hd as one line with its place.
func brief(hd hcl2.Diagnostics) error {
	for _, d := range hd {
		if d.Severity == hcl2.DiagError {
			at := ""
			if d.Subject != nil {
				at = fmt.Sprintf("%s:%d,%d: ", d.Subject.Filename, d.Subject.Start.Line, d.Subject.Start.Column)
			}
			return fmt.Errorf("%s%s: %s", at, d.Summary, strings.TrimSuffix(d.Detail, "."))
		}
	}
	return errors.New("unknown error")
}
