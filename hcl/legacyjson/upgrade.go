package legacyjson

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/hcl/interpolate"
	"github.com/ingot-build/ingot/internal/diag"
)

// UpgradeOptions is how a template is upgraded.
type UpgradeOptions struct {
	Annotate bool // explain the parts in comments
	// Shape tells which options of a component are blocks and lists; kind is
	// "builder", "provisioner" or "post-processor". false: it is not known,
	// and the options decide by their looks.
	Shape func(kind, typ string) (hcl.Shape, bool)
}

// Upgrade writes a template in the old syntax as HCL that evaluates to the
// same. What has no equivalent in HCL stays in {{ }}, which options of HCL
// templates have, too; a warning names it.
func Upgrade(_ context.Context, name string, src []byte, o UpgradeOptions) ([]byte, diag.List) {
	d, hd := read(name, src)
	if d == nil {
		var l diag.List
		for _, f := range hd {
			if f.Subject != nil {
				l.Errorf(place(*f.Subject), f.Summary, "%s", f.Detail)
			}
		}
		return nil, l
	}
	u := &upgrade{d: d, o: o}
	// What nobody declares can be given on the command line, nevertheless.
	for _, name := range d.undeclared() {
		d.variables = append(d.variables, &variable{name: name, def: newText(""), at: d.root.at})
	}
	if d.diags.HasErrors() {
		return nil, d.diags
	}
	for _, v := range d.variables {
		u.classify(v)
	}
	body := u.builds() // first: it finds what locals and data sources are needed
	var b strings.Builder
	u.header(&b)
	var locals strings.Builder
	u.locals(&locals) // before the variables: it finds what more they need
	u.variables(&b)
	b.WriteString(locals.String())
	b.WriteString(u.data.String())
	b.WriteString(body)
	text := b.String() // every text in it is on one line
	for strings.Contains(text, "\n\n}") {
		text = strings.ReplaceAll(text, "\n\n}", "\n}")
	}
	out := hclwrite.Format([]byte(text))
	out = append([]byte(strings.Trim(string(out), "\n")), '\n')
	if _, l := hcl.FormatFile(out, name); l.HasErrors() {
		d.errorf(d.root.at, "Template cannot be upgraded", "The HCL that came of it does not parse: %s.", l[0].Detail)
		return nil, d.diags
	}
	return out, d.diags
}

type upgrade struct {
	d *document
	o UpgradeOptions

	kinds     map[string]varKind
	amazon    bool     // in the options of a builder of Amazon images
	timestamp bool     // local.timestamp is used
	env       []string // read by locals through variables of their own
	data      strings.Builder
	dataCount int
}

// varKind is what a variable becomes.
type varKind int

const (
	plainVar varKind = iota // variable "x" { default = "…" }
	localVar                // its default names others: a local with the variable before it
)

// ident is the name of a variable in HCL.
func ident(name string) string {
	if hclsyntax.ValidIdentifier(name) {
		return name
	}
	out := strings.Map(func(r rune) rune {
		if hclsyntax.ValidIdentifier("a" + string(r)) {
			return r
		}
		return '_'
	}, name)
	if !hclsyntax.ValidIdentifier(out) {
		out = "_" + out
	}
	if !hclsyntax.ValidIdentifier(out) {
		out = "v" + out
	}
	return out
}

// classify decides whether the default of v can stand in a variable.
func (u *upgrade) classify(v *variable) {
	if u.kinds == nil {
		u.kinds = map[string]varKind{}
	}
	u.kinds[v.name] = plainVar
	s, ok := v.def.plain()
	if !ok {
		return
	}
	t := &translator{u: u, where: inDefault}
	t.template(s)
	if len(t.kept) > 0 || len(interpolate.Users(s)) > 0 {
		u.kinds[v.name] = localVar
	}
}

// ref is the expression for the value of a variable.
func (u *upgrade) ref(name string, at where) (string, bool) {
	kind, ok := u.kinds[name]
	switch {
	case at == inDefault:
		return "", false
	case !ok:
		return `""`, true
	case kind == localVar:
		return "local." + ident(name), true
	}
	return "var." + ident(name), true
}

func (u *upgrade) note(b *strings.Builder, text string) {
	if u.o.Annotate {
		for _, line := range strings.Split(text, "\n") {
			b.WriteString("# " + line + "\n")
		}
	}
}

// plugins are the sources of the plugins that have the components of the
// templates one meets, by the beginning of the type.
var plugins = [][2]string{
	{"amazon", "hashicorp/amazon"},
	{"alicloud", "hashicorp/alicloud"},
	{"ansible", "hashicorp/ansible"},
	{"azure", "hashicorp/azure"},
	{"chef", "hashicorp/chef"},
	{"digitalocean", "digitalocean/digitalocean"},
	{"docker", "hashicorp/docker"},
	{"googlecompute", "hashicorp/googlecompute"},
	{"hcloud", "hetznercloud/hcloud"},
	{"hyperv", "hashicorp/hyperv"},
	{"lxd", "hashicorp/lxd"},
	{"openstack", "hashicorp/openstack"},
	{"oracle", "hashicorp/oracle"},
	{"parallels", "Parallels/parallels"},
	{"proxmox", "hashicorp/proxmox"},
	{"puppet", "hashicorp/puppet"},
	{"qemu", "hashicorp/qemu"},
	{"tencentcloud", "hashicorp/tencentcloud"},
	{"vagrant", "hashicorp/vagrant"},
	{"virtualbox", "hashicorp/virtualbox"},
	{"vmware", "vmware/vmware"},
	{"vsphere", "vmware/vsphere"},
	{"windows-update", "rgl/windows-update"},
}

// header writes the packer block.
func (u *upgrade) header(b *strings.Builder) {
	var used []string
	add := func(typ string) {
		for _, p := range plugins {
			if typ != p[0] && !strings.HasPrefix(typ, p[0]+"-") {
				continue
			}
			line := fmt.Sprintf("%s = {\nsource = \"github.com/%s\"\nversion = \"~> 1\"\n}\n", p[0], p[1])
			if p[0] == "windows-update" {
				line = strings.Replace(line, "~> 1", ">= 0.14.0", 1)
			}
			if !slices.Contains(used, line) {
				used = append(used, line)
			}
		}
	}
	for _, s := range u.d.builders {
		add(s.typ)
	}
	for _, s := range u.d.provisioners {
		add(s.typ)
	}
	for _, c := range u.d.chains {
		for _, s := range c {
			add(s.typ)
		}
	}
	slices.Sort(used)
	if len(used) == 0 && u.d.minVersion == nil {
		return
	}
	u.note(b, "What the template needs: the version of the program, and plugins.")
	b.WriteString("packer {\n")
	if v := u.d.minVersion; v != nil {
		fmt.Fprintf(b, "required_version = \"%s\"\n", quote(">= "+v.text))
	}
	if len(used) > 0 {
		b.WriteString("required_plugins {\n" + strings.Join(used, "") + "}\n")
	}
	b.WriteString("}\n\n")
}

func (u *upgrade) variables(b *strings.Builder) {
	if len(u.d.variables) > 0 {
		u.note(b, "Inputs: give them with -var, in a variable file, or as PKR_VAR_name.\nOne without a default must be given.")
	}
	for _, v := range u.d.variables {
		fmt.Fprintf(b, "variable \"%s\" {\ntype = string\n", ident(v.name))
		switch s, ok := v.def.plain(); {
		case u.kinds[v.name] == localVar:
			b.WriteString("default = null\n")
		case ok:
			t := &translator{u: u, where: inDefault}
			b.WriteString("default = " + t.template(s) + "\n")
		}
		if v.sensitive {
			b.WriteString("sensitive = true\n")
		}
		b.WriteString("}\n\n")
	}
	for _, name := range u.env {
		fmt.Fprintf(b, "variable \"env_%s\" {\ntype = string\ndefault = env(\"%s\")\n}\n\n", ident(name), quote(name))
	}
}

// envVariable is a variable whose default is one of the environment: nothing
// else can read that.
func (u *upgrade) envVariable(name string) string {
	if !slices.Contains(u.env, name) {
		u.env = append(u.env, name)
	}
	return "var.env_" + ident(name)
}

// locals writes the values that variables cannot hold. Such a variable may
// still be given from outside: its local prefers that.
func (u *upgrade) locals(b *strings.Builder) {
	var lines []string
	for _, v := range u.d.variables {
		if u.kinds[v.name] != localVar {
			continue
		}
		t := &translator{u: u, where: inLocal}
		s, _ := v.def.plain()
		name := ident(v.name)
		expr := fmt.Sprintf("var.%s != null ? var.%s : %s", name, name, t.template(s))
		u.keeps(v.def, t)
		if !v.sensitive {
			lines = append(lines, fmt.Sprintf("%s = %s\n", name, expr))
			continue
		}
		fmt.Fprintf(b, "local \"%s\" {\nexpression = %s\nsensitive = true\n}\n\n", name, expr)
	}
	if u.timestamp {
		lines = append(lines, u.timestampName()+" = rfc3339_parse(legacy_isotime()).unix\n")
	}
	if len(lines) > 0 {
		u.note(b, "Values made of others. A timestamp is the start\nof the run in seconds since 1970.")
		b.WriteString("locals {\n" + strings.Join(lines, "") + "}\n\n")
	}
}

// timestampName is the local with the time, beside the template's own names.
func (u *upgrade) timestampName() string {
	if _, taken := u.kinds["timestamp"]; taken {
		return "start_timestamp"
	}
	return "timestamp"
}

// keeps warns about what stays in {{ }}.
func (u *upgrade) keeps(n *node, t *translator) {
	for _, k := range t.kept {
		u.d.warnf(n.at, "Kept as it is", "%s has no equivalent in HCL and stays. The value of a variable is not rendered in HCL: write it by hand.", k)
	}
	t.kept = nil
}
