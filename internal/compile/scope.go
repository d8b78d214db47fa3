package compile

import (
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/hcl/interpolate"
	"github.com/ingot-build/ingot/internal/communicator"
)

// sourceScope is the scope of a builder's options.
func (c *compiler) sourceScope(src *hcl.BuildSource) hcl.Scope {
	s := src.Key.In(c.t.Scope()).With("source", cty.ObjectVal(map[string]cty.Value{
		"type": cty.StringVal(src.Type),
		"name": cty.StringVal(src.SimpleName()),
	})).WithTexts(c.texts(src))
	if len(c.builds) > 0 {
		s = s.With("build", cty.ObjectVal(c.builds)).Tracking()
	}
	return s
}

// texts are what the {{ }} of options can name in a build of src.
func (c *compiler) texts(src *hcl.BuildSource) interpolate.Context {
	t := c.t.Texts()
	t.BuildName, t.BuildType = src.SimpleName(), src.Type
	return t
}

// A lateScope is the scope of provisioners and post-processors: with build.*,
// whose values are there once a guest is.
type lateScope struct {
	scope     hcl.Scope
	texts     interpolate.Context
	build     string               // name of the build block
	builds    map[string]cty.Value // the other ones
	generated []string
	anything  bool      // the builder is not known, nor are its values
	early     hcl.Scope // what before gives, the same for every step
}

// before is the scope while nothing is known of the guest.
func (l *lateScope) before() hcl.Scope {
	vals := map[string]cty.Value{}
	for name, v := range guestValues(communicator.Data{}) {
		vals[name] = cty.UnknownVal(v.Type())
		if v.IsMarked() {
			vals[name] = hcl.MarkSensitive(vals[name])
		}
	}
	for _, g := range l.generated {
		vals[g] = cty.UnknownVal(cty.String)
	}
	vals["name"] = cty.StringVal(l.build)
	return l.of(vals)
}

// with is the scope for the guest that data is about.
func (l *lateScope) with(data communicator.Data) hcl.Scope {
	vals := guestValues(data)
	for _, g := range l.generated {
		vals[g] = cty.StringVal(data.Generated[g])
	}
	for k, v := range data.Generated {
		vals[k] = cty.StringVal(v)
	}
	vals["name"] = cty.StringVal(l.build)
	return l.of(vals)
}

// of is the scope with vals as build.* and as the data of {{ build }}.
func (l *lateScope) of(vals map[string]cty.Value) hcl.Scope {
	all := maps.Clone(l.builds)
	if all == nil {
		all = map[string]cty.Value{}
	}
	maps.Copy(all, vals) // a build with the name of a value of the guest cannot be referred to here
	values := cty.ObjectVal(all)
	if l.anything {
		values = cty.DynamicVal
	}
	s := l.scope.With("build", values)
	texts := l.texts
	texts.Build = func(name string) (string, error) {
		v, ok := vals[name]
		if !ok && l.anything {
			return "", interpolate.ErrLater
		}
		if !ok {
			near := ""
			if n := hcl.Suggest(name, sortedNames(vals)); n != "" {
				near = fmt.Sprintf("; did you mean %q?", n)
			}
			return "", fmt.Errorf("a build has no value %q%s", name, near)
		}
		plain := hcl.Unmark(v)
		switch {
		case !plain.IsKnown():
			return "", interpolate.ErrLater
		case plain.Type() == cty.Number:
			return plain.AsBigFloat().Text('f', -1), nil
		}
		if v.IsMarked() {
			s.Hide(plain.AsString())
		}
		return plain.AsString(), nil
	}
	return s.WithTexts(texts)
}

func sortedNames(vals map[string]cty.Value) []string {
	var out []string
	for n := range vals {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

// guestValues is build.* for every builder. What a guest does not have is an
// empty text.
func guestValues(d communicator.Data) map[string]cty.Value {
	text := func(s string) cty.Value { return cty.StringVal(s) }
	hidden := func(s string) cty.Value { return hcl.MarkSensitive(cty.StringVal(s)) }
	addr, port := "", ""
	if d.HTTPIP != "" {
		port = strconv.Itoa(d.HTTPPort)
		addr = d.HTTPIP + ":" + port
	}
	return map[string]cty.Value{
		"ID":             text(d.ID),
		"Host":           text(d.Host),
		"Port":           cty.NumberIntVal(int64(d.Port)),
		"User":           text(d.User),
		"Password":       hidden(d.Password.Reveal()),
		"ConnType":       text(d.ConnType),
		"PackerRunUUID":  text(d.RunID),
		"PackerHTTPIP":   text(d.HTTPIP),
		"PackerHTTPPort": text(port),
		"PackerHTTPAddr": text(addr),
		"SSHPublicKey":   text(d.SSHPublicKey),
		"SSHPrivateKey":  hidden(d.SSHPrivateKey.Reveal()),
		"WinRMPassword":  hidden(d.WinRMPassword.Reveal()),
	}
}
