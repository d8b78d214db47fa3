package ansible

import (
	"fmt"
	"os"
	"strings"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// A host is where Ansible finds the guest.
type host struct {
	addr     string
	port     int
	user     string
	password secret.String
	winrm    bool // Ansible speaks WinRM with it
}

const (
	sshTemplate   = `{{ .HostAlias }} ansible_host={{ .Host }} ansible_user={{ .User }} ansible_port={{ .Port }}`
	winrmTemplate = sshTemplate + ` ansible_connection=winrm ansible_winrm_transport=basic ansible_shell_type=powershell`
)

// line is the guest's line of the inventory.
func (a *ansible) line(h host) (string, error) {
	data := map[string]any{
		"HostAlias": a.cfg.HostAlias, "Host": h.addr, "Port": h.port, "User": h.user, "Password": h.password.Reveal(),
	}
	if a.template != nil {
		text, err := a.template.Render(data)
		if err != nil {
			return "", diag.WithHint(fmt.Errorf("inventory_file_template: %w", err), "it may name .HostAlias, .Host, .User, .Port and .Password")
		}
		return strings.TrimRight(text, "\n"), nil
	}
	text := sshTemplate
	if h.winrm {
		text = winrmTemplate
	}
	for name, v := range data {
		text = strings.ReplaceAll(text, "{{ ."+name+" }}", value(fmt.Sprint(v)))
	}
	if h.winrm && a.cfg.AnsibleWinRMUseHTTP {
		text += " ansible_winrm_scheme=http"
	}
	return text, nil
}

// value quotes what the inventory would split.
func value(s string) string {
	if !strings.ContainsAny(s, " \t\"'#=\\") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// inventory is the whole file.
func (a *ansible) inventory(h host) (string, error) {
	line, err := a.line(h)
	if err != nil {
		return "", err
	}
	alias, _, _ := strings.Cut(line, " ")
	var b strings.Builder
	b.WriteString(line + "\n")
	for _, g := range a.cfg.Groups {
		fmt.Fprintf(&b, "[%s]\n%s\n", g, alias)
	}
	for _, g := range a.cfg.EmptyGroups {
		fmt.Fprintf(&b, "[%s]\n", g)
	}
	return b.String(), nil
}

// writeInventory puts the inventory into a file that only the user can read:
// a template may ask for the password.
func (a *ansible) writeInventory(h host) (string, error) {
	text, err := a.inventory(h)
	if err != nil {
		return "", err
	}
	f, err := os.CreateTemp(a.cfg.InventoryDirectory, "packer-provisioner-ansible*")
	if err != nil {
		return "", fmt.Errorf("write inventory: %w", err)
	}
	_, err = f.WriteString(text)
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		_ = os.Remove(f.Name())
		return "", fmt.Errorf("write inventory: %w", err)
	}
	return f.Name(), nil
}
