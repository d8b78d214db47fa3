package legacyjson

import (
	"strings"
	"testing"
)

// TestFix renews one spelling at a time. Builders are written without the
// frame around them; a text that begins with a bracketed key is a whole
// template.
func TestFix(t *testing.T) {
	for _, c := range [][3]string{
		{"iso-md5", `{"type": "qemu", "iso_md5": "abc"}`, `{"type": "qemu", "iso_checksum": "md5:abc"}`},
		{"iso-md5 beside a checksum", `{"type": "qemu", "iso_md5": "abc", "iso_checksum": "x"}`, `{"type": "qemu", "iso_checksum": "x"}`},
		{"iso checksum", `{"type": "qemu", "iso_checksum": "abc", "iso_checksum_type": "sha256"}`, `{"type": "qemu", "iso_checksum": "sha256:abc"}`},
		{"iso checksum of a variable", "{\"type\": \"qemu\", \"iso_checksum\": \"{{user `s`}}\", \"iso_checksum_type\": \"sha256\"}", "{\"type\": \"qemu\", \"iso_checksum\": \"sha256:{{user `s`}}\"}"},
		{"iso checksum url", `{"type": "qemu", "iso_checksum_url": "http://x", "iso_checksum_type": "sha256"}`, `{"type": "qemu", "iso_checksum": "file:http://x"}`},
		{"iso checksum none", `{"type": "qemu", "iso_checksum_type": "none"}`, `{"type": "qemu", "iso_checksum": "none"}`},
		{"iso checksum with a type", `{"type": "qemu", "iso_checksum": "md5:abc", "iso_checksum_type": "md5"}`, `{"type": "qemu", "iso_checksum": "md5:abc"}`},
		{"createtime", `{"type": "amazon-ebs", "ami_name": "a-{{.CreateTime}}", "tags": {"x": "{{ .CreateTime }}"}}`, `{"type": "amazon-ebs", "ami_name": "a-{{timestamp}}", "tags": {"x": "{{timestamp}}"}}`},
		{"virtualbox-rename", `{"type": "virtualbox"}`, `{"type": "virtualbox-iso"}`},
		{"vmware-rename", `{"type": "vmware"}`, `{"type": "vmware-iso"}`},
		{"hyperv-vmxc", `{"type": "hyperv-vmxc", "vhd_temp_path": "x"}`, `{"type": "hyperv-vmcx", "temp_path": "x"}`},
		{"hyperv cpu", `{"type": "hyperv-iso", "cpu": 2, "ram_size": 1024}`, `{"type": "hyperv-iso", "cpus": 2, "memory": 1024}`},
		{"gaattach", `{"type": "virtualbox-iso", "guest_additions_attach": true}`, `{"type": "virtualbox-iso", "guest_additions_mode": "attach"}`},
		{"gaattach off", `{"type": "virtualbox-iso", "guest_additions_attach": false}`, `{"type": "virtualbox-iso"}`},
		{"parallels", `{"type": "parallels-iso", "headless": true, "parallels_tools_host_path": "x", "guest_os_distribution": "ubuntu"}`, `{"type": "parallels-iso", "guest_os_type": "ubuntu"}`},
		{"ssh", `{"type": "x", "ssh_key_path": "k", "ssh_disable_agent": true, "ssh_wait_timeout": "5m"}`, `{"type": "x", "ssh_private_key_file": "k", "ssh_disable_agent_forwarding": true, "ssh_timeout": "5m"}`},
		{"ssh with both names", `{"type": "x", "ssh_wait_timeout": "5m", "ssh_timeout": "1m"}`, `{"type": "x", "ssh_timeout": "1m"}`},
		{"host port", `{"type": "qemu", "ssh_host_port_min": 1, "ssh_host_port_max": 2}`, `{"type": "qemu", "host_port_min": 1, "host_port_max": 2}`},
		{"scaleway", `{"type": "scaleway", "api_access_key": "x"}`, `{"type": "scaleway", "organization_id": "x"}`},
		{"amazon names", `{"type": "amazon-ebs", "shutdown_behaviour": "stop", "enhanced_networking": true, "spot_price_auto_product": "x"}`, `{"type": "amazon-ebs", "shutdown_behavior": "stop", "ena_support": true}`},
		{"amazon names elsewhere", `{"type": "other", "shutdown_behaviour": "stop"}`, `{"type": "other", "shutdown_behaviour": "stop"}`},
		{"private ip", `{"type": "amazon-ebs", "ssh_private_ip": true}`, `{"type": "amazon-ebs", "ssh_interface": "private_ip"}`},
		{"private ip in quotes", `{"type": "amazon-ebs", "ssh_private_ip": "false"}`, `{"type": "amazon-ebs", "ssh_interface": "public_ip"}`},
		{"cidr", `{"type": "amazon-ebs", "temporary_security_group_source_cidr": "10.0.0.0/8"}`, `{"type": "amazon-ebs", "temporary_security_group_source_cidrs": ["10.0.0.0/8"]}`},
		{"clean names", "{\"type\": \"amazon-ebs\", \"ami_name\": \"{{isotime | clean_ami_name}}\"}", "{\"type\": \"amazon-ebs\", \"ami_name\": \"{{isotime | clean_resource_name}}\"}"},
		{"azure", `{"type": "azure-arm", "exlude_from_latest": true, "shared_image_gallery_destination": {"exlude_from_latest": true}}`, `{"type": "azure-arm", "exclude_from_latest": true, "shared_image_gallery_destination": {"exclude_from_latest": true}}`},
		{"compaction", `{"type": "vmware-iso", "remote_type": "esx5"}`, `{"type": "vmware-iso", "remote_type": "esx5", "skip_compaction": true}`},
		{"disk size", `{"type": "qemu", "disk_size": 4096}`, `{"type": "qemu", "disk_size": "4096M"}`},
		{"disk size in quotes", `{"type": "qemu", "disk_size": "4096"}`, `{"type": "qemu", "disk_size": "4096M"}`},
		{"disk size with a unit", `{"type": "qemu", "disk_size": "4G"}`, `{"type": "qemu", "disk_size": "4G"}`},
		{
			"override", `["builders"] {"builders": [{"type": "vmware"}], "provisioners": [{"type": "shell", "override": {"vmware": {"a": 1}}}]}`,
			`["builders"] {"builders": [{"type": "vmware-iso"}], "provisioners": [{"type": "shell", "override": {"vmware-iso": {"a": 1}}}]}`,
		},
		{
			"override of a name", `["builders"] {"builders": [{"type": "vmware", "name": "a"}], "provisioners": [{"type": "shell", "override": {"a": {}}}]}`,
			`["builders"] {"builders": [{"type": "vmware-iso", "name": "a"}], "provisioners": [{"type": "shell", "override": {"a": {}}}]}`,
		},
		{
			"manifest", `["post"] {"post-processors": [{"type": "manifest", "filename": "x"}, [{"type": "manifest", "filename": "y"}], "manifest"]}`,
			`["post"] {"post-processors": [{"type": "manifest", "output": "x"}, [{"type": "manifest", "output": "y"}], "manifest"]}`,
		},
		{"vagrant", `["post"] {"post-processors": [{"type": "vagrant", "aws": {"a": 1}, "virtualbox": {"b": 2}}]}`, `["post"] {"post-processors": [{"type": "vagrant", "override": {"aws": {"a": 1}, "virtualbox": {"b": 2}}}]}`},
		{"docker", `["post"] {"builders": [{"type": "docker", "login_email": "x"}], "post-processors": [{"type": "docker-push", "login_email": "x"}]}`, `["post"] {"builders": [{"type": "docker"}], "post-processors": [{"type": "docker-push"}]}`},
		{"galaxy", `["prov"] {"provisioners": [{"type": "ansible-local", "galaxycommand": "x"}]}`, `["prov"] {"provisioners": [{"type": "ansible-local", "galaxy_command": "x"}]}`},
		{
			"powershell", "[\"prov\"] {\"provisioners\": [{\"type\": \"powershell\", \"environment_vars\": [\"A=`$x``y\"], \"elevated_password\": \"p`'w\", \"inline\": [\"`$x\"]}]}",
			"[\"prov\"] {\"provisioners\": [{\"type\": \"powershell\", \"environment_vars\": [\"A=$x`y\"], \"elevated_password\": \"p'w\", \"inline\": [\"`$x\"]}]}",
		},
		{"nothing to do", `["all"] {"_c": "<é>", "a": [], "b": {}, "n": null, "f": false, "x": 1e3, "builders": 5}`, `["all"] {"_c": "<é>", "a": [], "b": {}, "n": null, "f": false, "x": 1e3, "builders": 5}`},
	} {
		whole := func(s string) string {
			if strings.HasPrefix(s, "[") {
				_, s, _ = strings.Cut(s, "] ")
				return s
			}
			return `{"builders": [` + s + `]}`
		}
		got, l := Fix("t.json", []byte(whole(c[1])))
		if l.HasErrors() {
			t.Errorf("%s: %v", c[0], l.Err())
			continue
		}
		want, hd := parseJSON("want", []byte(whole(c[2])))
		if hd.HasErrors() {
			t.Fatalf("%s: %v", c[0], hd)
		}
		var b strings.Builder
		want.print(&b, "")
		if string(got) != b.String()+"\n" {
			t.Errorf("%s:\n%s\nwant:\n%s", c[0], got, b.String())
		}
		again, _ := Fix("t.json", got)
		if c[0] != "powershell" && string(again) != string(got) {
			t.Errorf("%s: a second time it changes to\n%s", c[0], again)
		}
	}
	for text, want := range map[string]string{"[]": "t.json:1,1", "{": "t.json:1,2", "{\"a\": 1,}": "a comma too many"} {
		if _, l := Fix("t.json", []byte(text)); !l.HasErrors() || !strings.Contains(l.Err().Error(), want) {
			t.Errorf("%s: %v", text, l.Err())
		}
	}
	if names := FixerNames(); len(names) < 25 {
		t.Errorf("%d fixers", len(names))
	}
}
