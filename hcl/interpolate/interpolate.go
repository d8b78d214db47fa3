// Package interpolate is the older of the two languages in templates: the
// {{ }} inside the texts of options, Go's text/template with a set of
// functions.
//
// Most options are rendered whole, as soon as what they name is known. Some
// are rendered by their component, with data of its own such as {{ .Vars }};
// of those only the parts are rendered here that need no such data.
package interpolate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"text/template"
	"text/template/parse"
	"time"

	"github.com/ingot-build/ingot/hcl/secretstore"
)

// ErrLater is the error for a text that needs what is known only once a guest
// runs.
var ErrLater = errors.New("the value is known only while the build runs")

// NoValue is what a text gets for data that there is not.
const NoValue = "<no value>"

// A Context is what the functions answer with. It is immutable once used, and
// may be used from several goroutines.
type Context struct {
	BuildName, BuildType string // of the build; "" where there is none
	Start                time.Time
	Cwd                  string // absolute
	TemplateDir          string // absolute; "" for HCL templates, where template_dir is an error
	Version              string // of Packer, as packer.version

	// User are the values of {{ user }}; what is not in it is "". With
	// StrictUser it is an error.
	User       map[string]string
	StrictUser bool

	// Variables says that this is the value of a variable of a JSON template,
	// the one place with env, vault, consul_key and aws_secretsmanager.
	Variables bool
	Getenv    func(name string) string
	Stores    secretstore.Stores

	// Build answers {{ build `Name` }} and {{ .Name }}. Its error may be
	// [ErrLater]. nil: there is no build data.
	Build func(name string) (string, error)

	// Missing is told each {{ .Name }} that has no value, in whose place the
	// text gets [NoValue], as in Packer. nil: it is an error.
	Missing func(name string)

	ctx context.Context //nolint:containedctx // set by With alone
}

// With returns c whose questions to secret stores end with ctx.
func (c Context) With(ctx context.Context) Context {
	c.ctx = ctx
	return c
}

// Render renders a text. Its error says what is wrong with it, or is
// [ErrLater].
func (c *Context) Render(text string) (string, error) {
	if !strings.Contains(text, "{{") {
		return text, nil
	}
	later := false
	t, err := template.New("text").Option("missingkey=error").Funcs(c.funcs(&later)).Parse(text)
	if err == nil {
		err = bounds(t)
	}
	if err != nil {
		return "", explain(text, err)
	}
	out, err := c.execute(t, &later)
	if err != nil && !errors.Is(err, ErrLater) {
		err = explain(text, err)
	}
	return out, err
}

// bounds refuses what can make a short text run for ever. Neither has a use
// here: there are no lists to go through, and nothing to define.
func bounds(t *template.Template) error {
	if len(t.Templates()) > 1 {
		return errors.New("define and block cannot be used in options")
	}
	var err error
	visit(t.Root, func(n parse.Node) {
		switch n.(type) {
		case *parse.RangeNode:
			err = errors.New("range cannot be used in options: there is no list to go through")
		case *parse.TemplateNode:
			err = errors.New("template cannot be used in options")
		}
	})
	return err
}

// data is what {{ .Name }} reads: a map whose values are asked for, so that
// one of them can be known later.
type data map[string]string

// largestText bounds what a text may become, in bytes: a loop in a template
// ends.
const largestText = 4 << 20

func (c *Context) execute(t *template.Template, later *bool) (string, error) {
	d := data{}
	var missing []string
	for _, name := range fields(t.Tree) {
		if c.Build == nil {
			missing = append(missing, name)
			continue
		}
		switch v, err := c.Build(name); {
		case errors.Is(err, ErrLater):
			*later = true
		case err != nil:
			missing = append(missing, name)
		default:
			d[name] = v
		}
	}
	if *later {
		return "", ErrLater
	}
	if c.Missing != nil {
		t = t.Option("missingkey=default")
		for _, name := range missing {
			c.Missing(name)
		}
	}
	b := &bounded{}
	err := t.Execute(b, d)
	if *later {
		return "", ErrLater
	}
	if err != nil {
		return "", err
	}
	return b.String(), nil
}

// bounded is a buffer with an end.
type bounded struct{ strings.Builder }

func (b *bounded) Write(p []byte) (int, error) {
	if b.Len()+len(p) > largestText {
		return 0, errTooLong
	}
	return b.Builder.Write(p)
}

// explain is a mistake without the words of text/template about its own
// place, which is always line 1 of a text nobody named.
func explain(text string, err error) error {
	msg := err.Error()
	if rest, ok := strings.CutPrefix(msg, "template: text:"); ok {
		if _, after, ok := strings.Cut(rest, ": "); ok {
			msg = after
		}
	}
	if i := strings.LastIndex(msg, ">: "); strings.HasPrefix(msg, `executing "text" at `) && i >= 0 {
		msg = msg[i+3:]
	}
	for _, prefix := range []string{"error calling "} {
		if rest, ok := strings.CutPrefix(msg, prefix); ok {
			if _, after, ok := strings.Cut(rest, ": "); ok {
				msg = after
			}
		}
	}
	if i := strings.Index(text, "\n"); i >= 0 {
		text = text[:i] + "…"
	}
	if r := []rune(text); len(r) > 60 {
		text = string(r[:60]) + "…"
	}
	switch {
	case strings.Contains(msg, "not defined"):
		msg += remedies(msg)
	case strings.Contains(msg, "map has no entry for key"):
		_, name, _ := strings.Cut(msg, "for key ")
		msg = "there is no value ." + strings.Trim(name, `"`) + " for this option"
	case strings.Contains(msg, "nil data; no entry for key"):
		_, name, _ := strings.Cut(msg, "for key ")
		msg = "there is no value ." + strings.Trim(name, `"`) + " for this option"
	}
	return fmt.Errorf("the {{ }} in %q cannot be rendered: %s", text, msg)
}

func remedies(msg string) string {
	switch {
	case strings.Contains(msg, `"clean_resource_name"`), strings.Contains(msg, `"clean_ami_name"`), strings.Contains(msg, `"clean_image_name"`):
		return "; it exists in the options of builders of images only. The HCL function regex_replace does the same"
	case strings.Contains(msg, `"var"`):
		return "; variables are written ${var.name}"
	}
	return "; texts with {{ }} that are not for this program are written {{ `{{` }}"
}
