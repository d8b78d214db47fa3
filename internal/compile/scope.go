package compile

import (
	"strconv"

	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/communicator"
)

func (c *compiler) sourceScope(src *hcl.BuildSource) hcl.Scope {
	return c.t.Scope().With("source", cty.ObjectVal(map[string]cty.Value{
		"type": cty.StringVal(src.Type),
		"name": cty.StringVal(src.LocalName),
	}))
}

// A lateScope is the scope of provisioners and post-processors: with build.*,
// whose values are there once a guest is.
type lateScope struct {
	scope     hcl.Scope
	build     string // name of the build block
	generated []string
}

// before is the scope while nothing is known of the guest.
func (l lateScope) before() hcl.Scope {
	vals := map[string]cty.Value{}
	for name, v := range buildValues(communicator.Data{}) {
		vals[name] = cty.UnknownVal(v.Type())
		if v.IsMarked() {
			vals[name] = hcl.MarkSensitive(vals[name])
		}
	}
	for _, g := range l.generated {
		vals[g] = cty.UnknownVal(cty.String)
	}
	vals["name"] = cty.StringVal(l.build)
	return l.scope.With("build", cty.ObjectVal(vals))
}

// with is the scope for the guest that data is about.
func (l lateScope) with(data communicator.Data) hcl.Scope {
	vals := buildValues(data)
	for _, g := range l.generated {
		vals[g] = cty.StringVal(data.Generated[g])
	}
	for k, v := range data.Generated {
		vals[k] = cty.StringVal(v)
	}
	vals["name"] = cty.StringVal(l.build)
	return l.scope.With("build", cty.ObjectVal(vals))
}

// buildValues is build.* for every builder. What a guest does not have is an
// empty text.
func buildValues(d communicator.Data) map[string]cty.Value {
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
