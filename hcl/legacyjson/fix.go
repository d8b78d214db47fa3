package legacyjson

import (
	"strings"

	"github.com/ingot-build/ingot/internal/diag"
)

// A fixer renews one spelling of an older version of Packer.
type fixer struct {
	name, about string
	fix         func(t *fixed)
}

// fixed is a template while it is renewed.
type fixed struct{ builders, provisioners, postProcessors []*node }

// fixers are in the order in which they are applied: a type gets its new name
// before its options are looked at.
var fixers = []fixer{
	{"virtualbox-rename", "the builder virtualbox is virtualbox-iso", func(t *fixed) { t.renameBuilder("virtualbox", "virtualbox-iso") }},
	{"vmware-rename", "the builder vmware is vmware-iso", func(t *fixed) { t.renameBuilder("vmware", "vmware-iso") }},
	{"hyperv-vmxc-typo", "the builder hyperv-vmxc is hyperv-vmcx", func(t *fixed) { t.renameBuilder("hyperv-vmxc", "hyperv-vmcx") }},
	{"iso-md5", "iso_md5 is iso_checksum", (*fixed).isoMD5},
	{"iso-checksum-type-and-url", "iso_checksum_type and iso_checksum_url are parts of iso_checksum", (*fixed).isoChecksum},
	{"createtime", "{{.CreateTime}} is {{timestamp}}", (*fixed).createTime},
	{"virtualbox-gaattach", "guest_additions_attach is guest_additions_mode", (*fixed).guestAdditions},
	{"pp-vagrant-override", "options of vagrant for a provider are in override", (*fixed).vagrantOverride},
	{"parallels-headless", "parallels has no headless", func(t *fixed) { t.drop("parallels-", "headless") }},
	{"parallels-deprecations", "parallels_tools_host_path and guest_os_distribution are gone", (*fixed).parallels},
	{"sshkeypath", "ssh_key_path is ssh_private_key_file", func(t *fixed) { t.rename("", "ssh_key_path", "ssh_private_key_file") }},
	{"sshdisableagent", "ssh_disable_agent is ssh_disable_agent_forwarding", func(t *fixed) { t.rename("", "ssh_disable_agent", "ssh_disable_agent_forwarding") }},
	{"ssh-wait-timeout", "ssh_wait_timeout is ssh_timeout", func(t *fixed) { t.rename("", "ssh_wait_timeout", "ssh_timeout") }},
	{"host-port", "ssh_host_port_min and _max are host_port_min and _max", (*fixed).hostPort},
	{"scaleway-access-key", "api_access_key of scaleway is organization_id", func(t *fixed) { t.rename("scaleway", "api_access_key", "organization_id") }},
	{"amazon-shutdown_behavior", "shutdown_behaviour is shutdown_behavior", func(t *fixed) { t.rename("amazon-", "shutdown_behaviour", "shutdown_behavior") }},
	{"amazon-enhanced-networking", "enhanced_networking is ena_support", func(t *fixed) { t.rename("amazon-", "enhanced_networking", "ena_support") }},
	{"amazon-private-ip", "ssh_private_ip is ssh_interface", (*fixed).privateIP},
	{"amazon-temp-sec-cidrs", "temporary_security_group_source_cidr is a list", (*fixed).sourceCIDRs},
	{"spot-price-auto-product", "spot_price_auto_product is gone", func(t *fixed) { t.drop("amazon-", "spot_price_auto_product") }},
	{"clean-image-name", "clean_ami_name and clean_image_name are clean_resource_name", (*fixed).cleanNames},
	{"azure-exclude_from_latest", "exlude_from_latest is exclude_from_latest", (*fixed).excludeFromLatest},
	{"hyperv-deprecations", "vhd_temp_path is temp_path", func(t *fixed) { t.rename("hyperv-", "vhd_temp_path", "temp_path") }},
	{"hyperv-cpu-and-ram", "cpu and ram_size of hyperv are cpus and memory", func(t *fixed) {
		t.rename("hyperv-", "cpu", "cpus")
		t.rename("hyperv-", "ram_size", "memory")
	}},
	{"vmware-compaction", "a remote VMware disk is not compacted", (*fixed).compaction},
	{"qemu-disk-size", "disk_size of qemu has a unit", (*fixed).diskSize},
	{"docker-email", "login_email is gone", func(t *fixed) {
		t.drop("docker", "login_email")
		for _, p := range t.postProcessors {
			if strings.HasPrefix(p.str("type"), "docker-") {
				p.remove("login_email")
			}
		}
	}},
	{"manifest-filename", "filename of manifest is output", func(t *fixed) {
		for _, p := range t.postProcessors {
			if p.str("type") == "manifest" {
				p.rename("filename", "output")
			}
		}
	}},
	{"galaxy-command", "galaxycommand is galaxy_command", func(t *fixed) {
		for _, p := range t.provisioners {
			p.rename("galaxycommand", "galaxy_command")
		}
	}},
	{"powershell-escapes", "texts for powershell are taken as they are, without backticks", (*fixed).powershell},
}

// FixerNames are the names of the fixers and what each does, in their order.
func FixerNames() (out [][2]string) {
	for _, f := range fixers {
		out = append(out, [2]string{f.name, f.about})
	}
	return out
}

// Fix renews the spellings of older versions in a template, whose members keep
// their order. What it cannot read is an error in the list.
func Fix(name string, src []byte) ([]byte, diag.List) {
	root, hd := parseJSON(name, src)
	var l diag.List
	for _, f := range hd {
		if f.Subject != nil && root == nil {
			l.Errorf(place(*f.Subject), f.Summary, "%s", f.Detail)
		}
	}
	if root != nil && root.kind != object {
		l.Errorf(place(root.at), "Invalid template", "A template is a JSON object with the key \"builders\".")
	}
	if l.HasErrors() {
		return nil, l
	}
	t := &fixed{builders: objectsOf(root.get("builders")), provisioners: objectsOf(root.get("provisioners"))}
	if pps := root.get("post-processors"); pps != nil {
		for _, x := range pps.items {
			t.postProcessors = append(t.postProcessors, objectsOf(&node{kind: list, items: []*node{x}})...)
			t.postProcessors = append(t.postProcessors, objectsOf(x)...)
		}
	}
	for _, f := range fixers {
		f.fix(t)
	}
	var b strings.Builder
	root.print(&b, "")
	b.WriteString("\n")
	return []byte(b.String()), nil
}

func objectsOf(n *node) (out []*node) {
	if n == nil || n.kind != list {
		return nil
	}
	for _, x := range n.items {
		if x.kind == object {
			out = append(out, x)
		}
	}
	return out
}

// of are the builders whose type begins with a prefix.
func (t *fixed) of(prefix string) (out []*node) {
	for _, b := range t.builders {
		if strings.HasPrefix(b.str("type"), prefix) {
			out = append(out, b)
		}
	}
	return out
}

func (t *fixed) rename(prefix, from, to string) {
	for _, b := range t.of(prefix) {
		b.rename(from, to)
	}
}

func (t *fixed) drop(prefix, name string) {
	for _, b := range t.of(prefix) {
		b.remove(name)
	}
}

// renameBuilder renames a type, and the overrides for a builder that is named
// by it.
func (t *fixed) renameBuilder(from, to string) {
	named := false
	for _, b := range t.builders {
		if b.str("type") == from {
			b.set("type", newText(to))
			named = named || b.get("name") == nil
		}
	}
	if !named {
		return
	}
	for _, p := range t.provisioners {
		if o := p.get("override"); o != nil && o.kind == object {
			o.rename(from, to)
		}
	}
}

func (t *fixed) isoMD5() {
	for _, b := range t.builders {
		md5 := b.remove("iso_md5")
		if md5 != nil && md5.kind == text && b.get("iso_checksum") == nil {
			b.set("iso_checksum", newText("md5:"+md5.text))
		}
	}
}

// isoChecksum makes "type:sum", "file:url" or "none" of three options.
func (t *fixed) isoChecksum() {
	for _, b := range t.builders {
		typ, url := b.str("iso_checksum_type"), b.str("iso_checksum_url")
		if b.get("iso_checksum_type") == nil && b.get("iso_checksum_url") == nil {
			continue
		}
		b.remove("iso_checksum_type")
		b.remove("iso_checksum_url")
		sum := b.str("iso_checksum")
		switch {
		case typ == "none":
			b.set("iso_checksum", newText("none"))
		case url != "" && sum == "":
			b.set("iso_checksum", newText("file:"+url))
		case typ != "" && sum != "" && !strings.Contains(strings.ReplaceAll(sum, "{{", ""), ":"):
			b.set("iso_checksum", newText(typ+":"+sum))
		}
	}
}

func (t *fixed) createTime() {
	for _, b := range t.builders {
		b.each(func(n *node) {
			for _, old := range []string{"{{.CreateTime}}", "{{ .CreateTime }}"} {
				n.text = strings.ReplaceAll(n.text, old, "{{timestamp}}")
			}
		})
	}
}

func (t *fixed) guestAdditions() {
	for _, b := range t.of("virtualbox-") {
		if on := b.remove("guest_additions_attach"); on != nil && on.truth {
			b.set("guest_additions_mode", newText("attach"))
		}
	}
}

// vagrantOverride moves what vagrant has for one provider.
func (t *fixed) vagrantOverride() {
	for _, p := range t.postProcessors {
		if p.str("type") != "vagrant" {
			continue
		}
		for _, provider := range []string{"aws", "digitalocean", "virtualbox", "vmware"} {
			o := p.remove(provider)
			if o == nil {
				continue
			}
			all := p.get("override")
			if all == nil || all.kind != object {
				all = &node{kind: object}
				p.set("override", all)
			}
			all.set(provider, o)
		}
	}
}

func (t *fixed) parallels() {
	for _, b := range t.of("parallels-") {
		b.remove("parallels_tools_host_path")
		if os := b.remove("guest_os_distribution"); os != nil {
			b.set("guest_os_type", os)
		}
	}
}

func (t *fixed) hostPort() {
	for _, prefix := range []string{"qemu", "virtualbox-"} {
		t.rename(prefix, "ssh_host_port_min", "host_port_min")
		t.rename(prefix, "ssh_host_port_max", "host_port_max")
	}
}

func (t *fixed) privateIP() {
	for _, b := range t.of("amazon-") {
		v := b.remove("ssh_private_ip")
		if v == nil || b.get("ssh_interface") != nil {
			continue
		}
		switch {
		case v.truth || v.text == "true":
			b.set("ssh_interface", newText("private_ip"))
		case v.kind == boolean || v.text == "false":
			b.set("ssh_interface", newText("public_ip"))
		}
	}
}

func (t *fixed) sourceCIDRs() {
	for _, b := range t.of("amazon-") {
		if v := b.remove("temporary_security_group_source_cidr"); v != nil && b.get("temporary_security_group_source_cidrs") == nil {
			b.set("temporary_security_group_source_cidrs", &node{kind: list, items: []*node{v}})
		}
	}
}

func (t *fixed) cleanNames() {
	for _, list := range [][]*node{t.builders, t.postProcessors} {
		for _, x := range list {
			x.each(func(n *node) {
				n.text = strings.NewReplacer("clean_ami_name", "clean_resource_name", "clean_image_name", "clean_resource_name").Replace(n.text)
			})
		}
	}
}

func (t *fixed) excludeFromLatest() {
	for _, b := range t.of("azure-") {
		for _, m := range append([]member{{value: b}}, b.members...) {
			if m.value.kind == object {
				m.value.rename("exlude_from_latest", "exclude_from_latest")
			}
		}
	}
}

func (t *fixed) compaction() {
	for _, b := range t.of("vmware-") {
		if b.str("remote_type") == "esx5" && b.get("skip_compaction") == nil {
			b.set("skip_compaction", &node{kind: boolean, truth: true})
		}
	}
}

// diskSize gives the megabytes of older versions their unit.
func (t *fixed) diskSize() {
	for _, b := range t.of("qemu") {
		v := b.get("disk_size")
		if v != nil && (v.kind == number || v.kind == text && v.text != "" && strings.Trim(v.text, "0123456789") == "") {
			b.set("disk_size", newText(v.text+"M"))
		}
	}
}

// powershell takes the escapes away that older versions needed.
func (t *fixed) powershell() {
	plain := func(n *node) {
		if n != nil && n.kind == text {
			n.text = strings.NewReplacer("`$", "$", "`\"", `"`, "``", "`", "`'", "'").Replace(n.text)
		}
	}
	for _, p := range t.provisioners {
		if p.str("type") != "powershell" {
			continue
		}
		if vars := p.get("environment_vars"); vars != nil {
			for _, v := range vars.items {
				plain(v)
			}
		}
		plain(p.get("elevated_user"))
		plain(p.get("elevated_password"))
	}
}
