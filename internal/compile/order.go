package compile

import (
	"slices"
	"strings"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/pipeline"
)

// A need is one build that another comes after.
type need struct {
	name  string // full
	from  hcl.Reference
	value bool // what it makes is used
}

// needs are the builds that b comes after: those in depends_on and those whose
// artifacts its options use. It reports whether there are any of the second kind.
func (c *compiler) needs(b *hcl.Build) (out []need, values bool) {
	add := func(r hcl.Reference, value bool) {
		named := c.t.Named(r)
		if len(named) > 1 && named[0].Key.IsZero() {
			c.diags.Errorf(&r.Range, "Several builds of one name", "%s can be each of %d builds, those at %s and %s among them. Give them names of their own.",
				r, len(named), named[0].Range, named[1].Range)
			return
		}
		values = values || value && len(named) > 0
		for _, n := range named {
			for _, src := range n.Sources {
				name := hcl.FullName(n, src)
				if !slices.ContainsFunc(out, func(o need) bool { return o.name == name && o.value == value }) {
					out = append(out, need{name, r, value})
				}
			}
		}
	}
	for _, r := range b.DependsOn {
		add(r, false)
	}
	guest := guestValues(communicator.Data{})
	for _, r := range c.refs {
		if _, own := guest[r.Build]; own || r.Build == "name" {
			continue // build.ID and the like are the guest's
		}
		add(r, true)
	}
	return out, values
}

// ordered drops the builds that cannot be made because of others: those in a
// circle, and those behind one that has a mistake or is not selected.
func (c *compiler) ordered(all []*work, names []string) []pipeline.Build {
	at := map[string]*work{}
	for _, w := range all {
		at[w.name] = w
	}
	for _, w := range all {
		c.circle(w, at, nil)
	}
	for moved := true; moved; {
		moved = false
		for _, w := range all {
			if w.invalid {
				continue
			}
			for _, n := range w.needs {
				o := at[n.name]
				switch {
				case o == nil && n.value && slices.Contains(names, n.name):
					c.diags.Errorf(&n.from.Range, "Build left out", "-only and -except leave out %s, whose artifact the build %s uses. Select both.", n.name, w.name)
				case o != nil && o.invalid:
					c.diags.Warnf(&n.from.Range, "Build left out", "The build %s is not run: it depends on %s, which has a mistake.", w.name, n.name)
				default:
					continue
				}
				w.invalid, moved = true, true
				break
			}
		}
	}
	var out []pipeline.Build
	for _, w := range all {
		if !w.invalid {
			out = append(out, w.build)
		}
	}
	return out
}

// circle reports a circle that w is on, once.
func (c *compiler) circle(w *work, at map[string]*work, path []*work) {
	if i := slices.Index(path, w); i >= 0 {
		var names []string
		fresh := false
		for _, m := range path[i:] {
			names = append(names, m.name)
			fresh = fresh || !m.circle
			m.circle, m.invalid = true, true
		}
		if !fresh {
			return
		}
		var r *diag.Range
		for _, n := range path[len(path)-1].needs {
			if n.name == w.name {
				r = &n.from.Range
				break
			}
		}
		c.diags.Errorf(r, "Cycle of builds", "These builds depend on each other in a circle, so none can begin: %s -> %s. Break the circle.", strings.Join(names, " -> "), w.name)
		return
	}
	if w.visited {
		return
	}
	path = append(path, w)
	for _, n := range w.needs {
		if o := at[n.name]; o != nil {
			c.circle(o, at, path)
		}
	}
	w.visited = true
}

// complete returns what compiles w again with the artifacts of other builds.
func (w *work) complete() func(map[string][]artifact.Set) (pipeline.Build, error) {
	t, set, opts, digest, b, src, name := w.t, w.set, w.opts, w.digest, w.block, w.source, w.name
	return func(made map[string][]artifact.Set) (pipeline.Build, error) {
		c := &compiler{t: t, set: set, opts: opts, digest: digest, builds: buildValues(t, made)}
		out := c.compile(b, src, name)
		return out, c.diags.Err()
	}
}
