package hcl

import (
	"errors"
	"fmt"
	"strings"

	"github.com/hashicorp/go-version"
	hcl2 "github.com/hashicorp/hcl/v2"
	"github.com/zclconf/go-cty/cty"
	"golang.org/x/net/idna"

	"github.com/ingot-build/ingot/internal/diag"
)

var packerSchema = &hcl2.BodySchema{
	Attributes: []hcl2.AttributeSchema{{Name: "required_version"}},
	Blocks:     []hcl2.BlockHeaderSchema{{Type: "required_plugins"}},
}

// requiredVersions reads the version constraints of all files before anything
// else is looked at, so that a template for another version is refused for
// that reason. It reports whether the version fits.
func (t *Template) requiredVersions(files []source, l *diag.List) bool {
	fits := true
	for _, f := range files {
		content, _, _ := f.body.PartialContent(&hcl2.BodySchema{Blocks: []hcl2.BlockHeaderSchema{{Type: "packer"}}})
		for _, b := range content.Blocks {
			inner, _, _ := b.Body.PartialContent(packerSchema)
			if a := inner.Attributes["required_version"]; a != nil {
				fits = t.requiredVersion(a, l) && fits
			}
		}
	}
	return fits
}

func (t *Template) requiredVersion(a *hcl2.Attribute, l *diag.List) bool {
	at := a.Expr.Range()
	v, hd := evaluate(a.Expr, nil)
	if hd.HasErrors() || v.Type() != cty.String || v.IsNull() || !v.IsKnown() {
		*l = append(*l, report(at, a.Range, "Invalid version constraint", "required_version must be a plain text such as \">= 1.8.0\"."))
		return true
	}
	text := v.AsString()
	t.RequiredVersions = append(t.RequiredVersions, RequiredVersion{text, toRange(a.Range)})
	constraint, err := version.NewConstraint(text)
	if err != nil {
		*l = append(*l, report(at, a.Range, "Invalid version constraint", "%q is not a version constraint. Write one such as \">= 1.8.0, < 2.0.0\".", text))
		return true
	}
	have, err := version.NewVersion(t.in.Version)
	if err != nil {
		*l = append(*l, report(at, a.Range, "Version cannot be compared", "This program's version %q is not a version number.", t.in.Version))
		return true
	}
	if !constraint.Check(have.Core()) {
		*l = append(*l, report(at, a.Range, "Unsupported version",
			"The template requires version %s of Packer, and this program is compatible with %s. Change the constraint, or use a release that meets it.", text, have.Core()))
		return false
	}
	return true
}

func (t *Template) packerBlock(b *hcl2.Block, l *diag.List) {
	content, hd := b.Body.Content(packerSchema)
	*l = append(*l, t.names.convertDiags(hd)...)
	for _, p := range content.Blocks {
		attrs, hd := p.Body.JustAttributes()
		*l = append(*l, t.names.convertDiags(hd)...)
		for _, name := range sortedKeys(attrs) {
			t.requiredPlugin(attrs[name], l)
		}
	}
}

func (t *Template) requiredPlugin(a *hcl2.Attribute, l *diag.List) {
	const shape = "Write it as: %s = { source = \"github.com/owner/%s\", version = \">= 1.0.0\" }."
	bad := func(at hcl2.Range, format string, args ...any) {
		*l = append(*l, report(at, a.Range, "Invalid plugin requirement", format, args...))
	}
	for _, p := range t.RequiredPlugins {
		if p.Name == a.Name {
			bad(a.NameRange, "Plugin %q is already required at %s. Merge the two.", a.Name, p.Range)
			return
		}
	}
	pairs, hd := hcl2.ExprMap(a.Expr)
	if hd.HasErrors() {
		bad(a.Expr.Range(), "The requirement must be an object. "+shape, a.Name, a.Name)
		return
	}
	p := RequiredPlugin{Name: a.Name, Range: toRange(a.Range)}
	for _, kv := range pairs {
		k, _ := evaluate(kv.Key, nil)
		v, vd := evaluate(kv.Value, nil)
		at := kv.Value.Range()
		if vd.HasErrors() || !k.IsKnown() || !v.IsKnown() || k.IsNull() || v.IsNull() || k.Type() != cty.String || v.Type() != cty.String {
			bad(at, "Each part must be a plain text. "+shape, a.Name, a.Name)
			continue
		}
		switch text := v.AsString(); k.AsString() {
		case "version":
			p.Version = text
			if err := checkPluginVersion(text); err != nil {
				bad(at, "%v.", err)
			}
		case "source":
			p.Source = text
			if err := checkPluginSource(text); err != nil {
				bad(at, "%q is not a plugin source: %v. Write one such as \"github.com/hashicorp/amazon\".", text, err)
			}
		default:
			bad(kv.Key.Range(), "%q is not part of a requirement; only source and version are. "+shape, k.AsString(), a.Name, a.Name)
		}
	}
	if p.Version == "" || p.Source == "" {
		bad(a.Expr.Range(), "Both source and version are required. "+shape, a.Name, a.Name)
	}
	t.RequiredPlugins = append(t.RequiredPlugins, p)
}

func checkPluginVersion(text string) error {
	cs, err := version.NewConstraint(text)
	if err != nil {
		return fmt.Errorf("%q is not a version constraint; write one such as \">= 1.2.0\"", text)
	}
	for _, c := range cs {
		if c.Prerelease() {
			return fmt.Errorf("the constraint %q names a prerelease, which cannot be required; name a release", text)
		}
	}
	return nil
}

// checkPluginSource checks "host/path/name" with up to 16 parts.
func checkPluginSource(s string) error {
	if strings.Contains(s, "://") {
		return errors.New("it must not begin with a scheme such as https://")
	}
	if strings.ContainsAny(s, "?#") {
		return errors.New("it must have no query and no fragment")
	}
	parts := strings.Split(s, "/")
	switch {
	case len(parts) < 3:
		return errors.New("it needs a host and at least two more parts")
	case len(parts) > 16:
		return errors.New("it has more than 16 parts")
	}
	for _, p := range parts[1:] {
		if err := checkPluginPart(p); err != nil {
			return err
		}
	}
	last := parts[len(parts)-1]
	for _, prefix := range []string{"packer-plugin-", "packer-"} {
		if strings.HasPrefix(last, prefix) {
			return fmt.Errorf("the last part must not begin with %q; write %q", prefix, strings.TrimPrefix(last, prefix))
		}
	}
	return nil
}

func checkPluginPart(p string) error {
	if p == "" {
		return errors.New("it has an empty part")
	}
	if strings.Contains(p, ".") {
		return fmt.Errorf("part %q has a dot", p)
	}
	if strings.Contains(p, "--") {
		return fmt.Errorf("part %q has two dashes in a row", p)
	}
	if strings.HasPrefix(p, "-") || strings.HasSuffix(p, "-") {
		return fmt.Errorf("part %q begins or ends with a dash", p)
	}
	if _, err := idna.Lookup.ToUnicode(strings.ToLower(p)); err != nil {
		return fmt.Errorf("part %q has characters that are not letters, digits or dashes", p)
	}
	return nil
}
