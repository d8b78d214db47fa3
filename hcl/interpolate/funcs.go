package interpolate

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"strconv"
	"strings"
	"text/template"
	"time"

	"github.com/google/uuid"
	"github.com/ncruces/go-strftime"
)

// funcs are the functions. later is set when one needs what is not known yet.
func (c *Context) funcs(later *bool) template.FuncMap {
	ctx := c.ctx
	if ctx == nil {
		ctx = context.Background()
	}
	start := c.Start.UTC()
	known := func(name, v string) (string, error) {
		if v == "" {
			return "", fmt.Errorf("%s has no value here: this is not an option of a build", name)
		}
		return v, nil
	}
	allowed := func(name, instead string) error {
		if c.Variables {
			return nil
		}
		return fmt.Errorf("%s is allowed only in the variables of a JSON template; in HCL %s", name, instead)
	}
	const same = "use the function of that name in a local value"
	f := limited()
	maps.Copy(f, template.FuncMap{
		"build": func(name string) (string, error) {
			if c.Build == nil {
				return "", errors.New("build has no values here: it is for provisioners and post-processors")
			}
			v, err := c.Build(name)
			if errors.Is(err, ErrLater) {
				*later = true
			}
			return v, err
		},
		"build_name": func() (string, error) { return known("build_name", c.BuildName) },
		"build_type": func() (string, error) { return known("build_type", c.BuildType) },
		"env": func(name string) (string, error) {
			if err := allowed("env", "use env() in the default of a variable"); err != nil || c.Getenv == nil {
				return "", err
			}
			return c.Getenv(name), nil
		},
		"isotime": func(layout ...string) (string, error) {
			switch len(layout) {
			case 0:
				return start.Format(time.RFC3339), nil
			case 1:
				return start.Format(layout[0]), nil
			}
			return "", fmt.Errorf("isotime takes at most one layout, and has %d", len(layout))
		},
		"strftime":       func(format string) string { return strftime.Format(format, start) },
		"timestamp":      func() string { return strconv.FormatInt(start.Unix(), 10) },
		"uuid":           uuid.NewString,
		"pwd":            func() string { return c.Cwd },
		"packer_version": func() string { return c.Version },
		"template_dir": func() (string, error) {
			if c.TemplateDir == "" {
				return "", errors.New("template_dir has a value only in JSON templates that are files; in HCL write ${path.root}")
			}
			return c.TemplateDir, nil
		},
		"user": func(name string) (string, error) {
			v, ok := c.User[name]
			if !ok && c.StrictUser {
				return "", fmt.Errorf("there is no variable %q", name)
			}
			return v, nil
		},
		"consul_key": func(key string) (string, error) {
			if err := allowed("consul_key", same); err != nil {
				return "", err
			}
			return c.Stores.Consul(ctx, key)
		},
		"vault": func(path, key string) (string, error) {
			if err := allowed("vault", same); err != nil {
				return "", err
			}
			return c.Stores.Vault(ctx, path, key)
		},
		"aws_secretsmanager": func(name string, key ...string) (string, error) {
			if err := allowed("aws_secretsmanager", same); err != nil {
				return "", err
			}
			if len(key) > 1 {
				return "", fmt.Errorf("aws_secretsmanager takes a name and at most one key, and has %d", len(key))
			}
			return c.Stores.Secret(ctx, name, strings.Join(key, ""))
		},
		"aws_secretsmanager_raw": func(name string) (string, error) {
			if err := allowed("aws_secretsmanager_raw", same); err != nil {
				return "", err
			}
			return c.Stores.Raw(ctx, name)
		},
		"replace":     replace,
		"replace_all": func(old, to, s string) (string, error) { return replace(old, to, -1, s) },
		"split":       split,
		"upper":       strings.ToUpper,
		"lower":       strings.ToLower,
		"sed": func(...string) (string, error) {
			return "", errors.New("sed was removed from the language; use replace_all, or the HCL function regex_replace")
		},
	})
	return f
}

// replace replaces the first n, or with a negative n all, of old in s.
func replace(old, to string, n int, s string) (string, error) {
	count := strings.Count(s, old)
	if n >= 0 {
		count = min(count, n)
	}
	if len(s)+count*len(to) > largestText {
		return "", errTooLong
	}
	return strings.Replace(s, old, to, n), nil
}

var errTooLong = fmt.Errorf("the text becomes longer than %d bytes", largestText)

// wide is a width or precision that no one writes.
var wide = regexp.MustCompile(`%[^a-zA-Z%]*[0-9]{4}`)

// limited are text/template's own functions whose results can grow, in short
// texts, beyond every measure.
func limited() template.FuncMap {
	within := func(s string) (string, error) {
		if len(s) > largestText {
			return "", errTooLong
		}
		return s, nil
	}
	return template.FuncMap{
		"printf": func(format string, args ...any) (string, error) {
			if wide.MatchString(format) {
				return "", errors.New("a width of more than three digits in printf")
			}
			return within(fmt.Sprintf(format, args...))
		},
		"print":    func(args ...any) (string, error) { return within(fmt.Sprint(args...)) },
		"println":  func(args ...any) (string, error) { return within(fmt.Sprintln(args...)) },
		"html":     func(args ...any) (string, error) { return within(template.HTMLEscaper(args...)) },
		"js":       func(args ...any) (string, error) { return within(template.JSEscaper(args...)) },
		"urlquery": func(args ...any) (string, error) { return within(template.URLQueryEscaper(args...)) },
	}
}

// split is the nth part of s between separators, from zero.
func split(s, sep string, n int) (string, error) {
	if sep == "" {
		return "", errors.New("split needs a separator that is not empty")
	}
	parts := strings.Split(s, sep)
	if n < 0 || n >= len(parts) {
		return "", fmt.Errorf("split: %q has no part %d between %q", s, n, sep)
	}
	return parts[n], nil
}
