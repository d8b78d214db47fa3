package legacyjson

import (
	"fmt"
	"slices"
	"strings"

	"github.com/hashicorp/hcl/v2/hclsyntax"

	"github.com/ingot-build/ingot/hcl"
)

// A sourceRef is a builder as a source of HCL.
type sourceRef struct {
	typ, label string
	local      string // the name in the build as an expression, "" when it is the label
	old        string // the builder's name
}

// ref is "type.name" as only and except have it, an expression.
func (r sourceRef) ref() string {
	if r.local == "" {
		return `"` + quote(r.typ+"."+r.label) + `"`
	}
	return `"` + quote(r.typ+".") + inside(r.local) + `"`
}

// inside is an expression as a part of a quoted template.
func inside(expr string) string {
	if strings.HasPrefix(expr, `"`) {
		return strings.TrimSuffix(strings.TrimPrefix(expr, `"`), `"`)
	}
	return "${" + expr + "}"
}

// builds writes the sources and the build.
func (u *upgrade) builds() string {
	var b strings.Builder
	refs := make([]sourceRef, 0, len(u.d.builders))
	for _, s := range u.d.builders {
		refs = append(refs, u.sourceRef(s, refs))
	}
	if len(refs) > 0 {
		u.note(&b, "What is built from: one source for each builder.")
	}
	for i, s := range u.d.builders {
		u.amazon = strings.HasPrefix(s.typ, "amazon-")
		fmt.Fprintf(&b, "source \"%s\" \"%s\" {\n", quote(s.typ), refs[i].label)
		shape, known := u.shape("builder", s.typ)
		u.members(&b, s.n, inBuilder, shape, known, func(m member) bool { return u.builderMember(&b, s, m) })
		b.WriteString("}\n\n")
	}
	u.amazon = false
	u.note(&b, "A build runs the provisioners in order on a machine of each source, and the\npost-processors on what comes of it.")
	b.WriteString("build {\n")
	if d := u.d.description; d != nil {
		b.WriteString("description = " + `"` + quote(d.text) + "\"\n\n")
	}
	u.sources(&b, refs)
	for _, s := range u.d.provisioners {
		u.step(&b, "provisioner", "provisioner", s, refs)
	}
	if u.d.cleanup != nil {
		u.step(&b, "error-cleanup-provisioner", "provisioner", *u.d.cleanup, refs)
	}
	for _, chain := range u.d.chains {
		if len(chain) == 1 {
			u.step(&b, "post-processor", "post-processor", chain[0], refs)
			continue
		}
		b.WriteString("post-processors {\n")
		for _, s := range chain {
			u.step(&b, "post-processor", "post-processor", s, refs)
		}
		b.WriteString("}\n\n")
	}
	b.WriteString("}\n")
	return b.String()
}

// sources writes the sources of the build: as a list, or, when one has another
// name than its label, as blocks, which keep their order.
func (u *upgrade) sources(b *strings.Builder, refs []sourceRef) {
	var list []string
	named := false
	for _, r := range refs {
		list = append(list, `"`+quote("source."+r.typ+"."+r.label)+`"`)
		named = named || r.local != ""
	}
	if !named {
		if len(list) > 0 {
			b.WriteString("sources = [" + strings.Join(list, ", ") + "]\n\n")
		}
		return
	}
	for i, r := range refs {
		fmt.Fprintf(b, "source %s {\n", list[i])
		if r.local != "" {
			b.WriteString("name = " + r.local + "\n")
		}
		b.WriteString("}\n\n")
	}
}

// sourceRef gives a builder a label that references can name.
func (u *upgrade) sourceRef(s step, others []sourceRef) sourceRef {
	name := s.nameOf()
	stem := ident(name)
	if strings.Contains(name, "{{") {
		stem = ident(s.typ)
	}
	r := sourceRef{typ: s.typ, label: stem, old: name}
	for n := 2; slices.ContainsFunc(others, func(o sourceRef) bool { return o.typ == r.typ && o.label == r.label }); n++ {
		r.label = fmt.Sprintf("%s_%d", stem, n)
	}
	if r.label != name {
		t := &translator{u: u, where: inBuilder}
		r.local = t.template(name)
	}
	return r
}

func (u *upgrade) shape(kind, typ string) (hcl.Shape, bool) {
	if u.o.Shape == nil {
		return hcl.Shape{}, false
	}
	return u.o.Shape(kind, typ)
}

// step writes a provisioner or post-processor.
func (u *upgrade) step(b *strings.Builder, block, kind string, s step, refs []sourceRef) {
	fmt.Fprintf(b, "%s \"%s\" {\n", block, quote(s.typ))
	shape, known := u.shape(kind, s.typ)
	u.members(b, s.n, inStep, shape, known, func(m member) bool {
		switch m.name {
		case "type":
			return true
		case "only", "except":
			u.names(b, m, refs)
			return true
		case "override":
			u.attribute(b, m, inBuilder) // read before there is a build
			return true
		}
		return false
	})
	b.WriteString("}\n\n")
}

// names writes only or except with the names of sources.
func (u *upgrade) names(b *strings.Builder, m member, refs []sourceRef) {
	if m.value.kind != list {
		u.attribute(b, m, inStep)
		return
	}
	var out []string
	for _, x := range m.value.items {
		i := slices.IndexFunc(refs, func(r sourceRef) bool { return x.kind == text && r.old == x.text })
		if i >= 0 {
			out = append(out, refs[i].ref())
			continue
		}
		out = append(out, u.expr(x, inStep))
	}
	b.WriteString(m.name + " = [" + strings.Join(out, ", ") + "]\n")
}

// members writes the options of an object. own takes those it returns true
// for.
func (u *upgrade) members(b *strings.Builder, n *node, at where, shape hcl.Shape, known bool, own func(member) bool) {
	var blocks []member
	for _, m := range n.members {
		switch {
		case own != nil && own(m), m.value.kind == null, strings.HasPrefix(m.name, "_"):
		case isBlock(m, shape, known):
			blocks = append(blocks, m)
		case shape.Lists[m.name] && m.value.kind == text && hclsyntax.ValidIdentifier(m.name):
			b.WriteString(m.name + " = " + u.commaList(m.value, at) + "\n")
		default:
			u.attribute(b, m, at)
		}
	}
	for _, m := range blocks {
		items := []*node{m.value}
		if m.value.kind == list {
			items = m.value.items
		}
		for _, x := range items {
			b.WriteString(m.name + " {\n")
			u.members(b, x, at, shape.Blocks[m.name], known, nil)
			b.WriteString("}\n")
		}
	}
}

// objects are options of components that are not built in which are blocks
// although a template has a single object for them.
var objects = []string{
	"assume_role", "aws_polling", "cloud_init_disk", "metadata_options", "network_interface", "placement", "plan_info", "security_group_filter",
	"shared_image_gallery", "shared_image_gallery_destination", "source_ami_filter", "subnet_filter", "temporary_iam_instance_profile_policy_document",
	"vault_aws_engine", "vpc_filter", "create_snapshot", "export", "content_library_destination", "linux_options", "customize", "vapp", "image_filter",
}

// isBlock reports whether an option is written as blocks.
func isBlock(m member, shape hcl.Shape, known bool) bool {
	if !hclsyntax.ValidIdentifier(m.name) {
		return false
	}
	if m.value.kind != object && m.value.kind != list {
		return false
	}
	allObjects := m.value.kind == list && len(m.value.items) > 0
	for _, x := range m.value.items {
		allObjects = allObjects && x.kind == object
	}
	if known {
		_, ok := shape.Blocks[m.name]
		return ok && (allObjects || m.value.kind == object)
	}
	return allObjects || m.value.kind == object && slices.Contains(objects, m.name)
}

// commaList is a text that stands for a list, "a,b", as a list: other readers
// of HCL do not take the one for the other.
func (u *upgrade) commaList(n *node, at where) string {
	if !strings.Contains(n.text, "{{") {
		items := &node{kind: list, at: n.at}
		if n.text != "" {
			for _, s := range strings.Split(n.text, ",") {
				items.items = append(items.items, newText(s))
			}
		}
		return u.expr(items, at)
	}
	e := u.expr(n, at)
	if strings.Contains(e, "{{") {
		return e // split when it is rendered
	}
	return fmt.Sprintf(`%s == "" ? [] : split(",", %s)`, e, e)
}

func (u *upgrade) attribute(b *strings.Builder, m member, at where) {
	if !hclsyntax.ValidIdentifier(m.name) {
		u.d.warnf(m.nameAt, "Option left out", "%q is not a name that an option can have in HCL.", m.name)
		return
	}
	b.WriteString(m.name + " = " + u.expr(m.value, at) + "\n")
}

// expr is a value as an expression.
func (u *upgrade) expr(n *node, at where) string {
	switch n.kind {
	case text:
		t := &translator{u: u, where: at}
		s := t.template(n.text)
		if at == inBuilder || at == inStep { // options have {{ }} in HCL, too
			t.kept = nil
		}
		u.keeps(n, t)
		return s
	case number:
		return n.text
	case boolean:
		return fmt.Sprint(n.truth)
	case list:
		var items []string
		multi := len(n.items) > 1
		for _, x := range n.items {
			items = append(items, u.expr(x, at))
		}
		if multi {
			return "[\n" + strings.Join(items, ",\n") + ",\n]"
		}
		return "[" + strings.Join(items, ", ") + "]"
	case object:
		if len(n.members) == 0 {
			return "{}"
		}
		var b strings.Builder
		b.WriteString("{\n")
		for _, m := range n.members {
			t := &translator{u: u, where: at}
			key := t.template(m.name)
			if !strings.HasPrefix(key, `"`) {
				key = "(" + key + ")"
			} else if hclsyntax.ValidIdentifier(m.name) && m.name != "for" && m.name != "null" && m.name != "true" && m.name != "false" {
				key = m.name
			}
			b.WriteString(key + " = " + u.expr(m.value, at) + "\n")
		}
		b.WriteString("}")
		return b.String()
	}
	return "null"
}

// access are the options of Amazon builders that decide who asks, and where.
var access = []string{
	"access_key", "assume_role", "custom_endpoint_ec2", "insecure_skip_tls_verify", "max_retries", "mfa_code", "profile", "region", "secret_key",
	"shared_credentials_file", "skip_credential_validation", "skip_metadata_api_check", "skip_region_validation", "token", "vault_aws_engine",
}

// builderMember writes the options of builders that become something else.
func (u *upgrade) builderMember(b *strings.Builder, s step, m member) bool {
	switch {
	case m.name == "type" || m.name == "name":
		return true
	case m.name != "source_ami_filter" || !u.amazon || m.value.kind != object || s.n.get("source_ami") != nil:
		return false // beside a source_ami the builder decides which of them counts
	}
	// A filter is a question to the platform: a data source.
	u.dataCount++
	label := fmt.Sprintf("autogenerated_%d", u.dataCount)
	if u.dataCount == 1 {
		u.note(&u.data, "Questions to the platform before anything is built.")
	}
	fmt.Fprintf(&u.data, "data \"amazon-ami\" \"%s\" {\n", label)
	sub := &node{kind: object}
	for _, x := range s.n.members {
		if slices.Contains(access, x.name) {
			sub.members = append(sub.members, x)
		}
	}
	shape, known := u.shape("builder", s.typ)
	u.members(&u.data, sub, inBuilder, shape, known, nil)
	u.members(&u.data, m.value, inBuilder, hcl.Shape{Lists: map[string]bool{"owners": true}}, true, nil)
	u.data.WriteString("}\n\n")
	fmt.Fprintf(b, "source_ami = data.amazon-ami.%s.id\n", label)
	return true
}
