// Package ansible is the provisioner "ansible": a playbook that runs on this
// machine and changes the guest, by default through an SSH server of our own
// that hands on what Ansible asks to the guest's communicator.
package ansible

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"strings"

	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localshell/script"
	"github.com/ingot-build/ingot/provisioner"
)

// Config is the options of the provisioner.
type Config struct {
	Command             string   `hcl:"command"`
	ExtraArguments      []string `hcl:"extra_arguments"`
	AnsibleEnvVars      []string `hcl:"ansible_env_vars"`
	PlaybookFile        string   `hcl:"playbook_file"`
	AnsibleSSHExtraArgs []string `hcl:"ansible_ssh_extra_args"`
	Groups              []string `hcl:"groups"`
	EmptyGroups         []string `hcl:"empty_groups"`
	HostAlias           string   `hcl:"host_alias"`
	User                string   `hcl:"user"`
	SkipVersionCheck    bool     `hcl:"skip_version_check"`

	LocalPort            int    `hcl:"local_port"`
	SSHHostKeyFile       string `hcl:"ssh_host_key_file"`
	SSHAuthorizedKeyFile string `hcl:"ssh_authorized_key_file"`
	AnsibleProxyKeyType  string `hcl:"ansible_proxy_key_type"`
	SFTPCommand          string `hcl:"sftp_command"`
	UseSFTP              bool   `hcl:"use_sftp"`
	UseProxy             *bool  `hcl:"use_proxy"`
	AnsibleWinRMUseHTTP  bool   `hcl:"ansible_winrm_use_http"`

	InventoryDirectory    string `hcl:"inventory_directory"`
	InventoryFileTemplate string `hcl:"inventory_file_template,late"`
	InventoryFile         string `hcl:"inventory_file"`
	KeepInventoryFile     bool   `hcl:"keep_inventory_file"`

	GalaxyFile          string `hcl:"galaxy_file"`
	GalaxyCommand       string `hcl:"galaxy_command"`
	GalaxyForceInstall  bool   `hcl:"galaxy_force_install"`
	GalaxyForceWithDeps bool   `hcl:"galaxy_force_with_deps"`
	RolesPath           string `hcl:"roles_path"`
	CollectionsPath     string `hcl:"collections_path"`
}

const (
	defaultCommand = "ansible-playbook"
	defaultGalaxy  = "ansible-galaxy"
	defaultAlias   = "default"
	defaultSSHArgs = "-o IdentitiesOnly=yes"

	// defaultSFTP finds the guest's SFTP server: distributions differ in where
	// it is. It is Packer's default where that is there.
	defaultSFTP = `sh -c 'for f in /usr/lib/sftp-server /usr/lib/openssh/sftp-server /usr/libexec/openssh/sftp-server ` +
		`/usr/libexec/sftp-server /usr/lib/ssh/sftp-server /usr/lib/misc/sftp-server; do if [ -x "$f" ]; then exec "$f" -e; fi; done; ` +
		`echo "no sftp-server was found on the guest" >&2; exit 127'`

	// missingHint is what to do about a program that is not there.
	missingHint = "install Ansible on this machine, or name its program with command and galaxy_command"
)

// Driver returns the provisioner "ansible".
func Driver() provisioner.Driver { return provisioner.NewDriver("ansible", open) }

type ansible struct {
	cfg      Config
	template *script.Command // nil: ours
	keys     keys
}

var _ provisioner.Provisioner = (*ansible)(nil)

func open(c Config) (provisioner.Provisioner, error) {
	a := &ansible{cfg: c}
	a.defaults()
	errs := a.check()
	var err error
	if c.InventoryFileTemplate != "" {
		t, err := script.ParseCommand(c.InventoryFileTemplate)
		if err != nil {
			errs = append(errs, diag.Fieldf("inventory_file_template", "is %w", err))
		}
		a.template = &t
	}
	if a.proxied() {
		if a.cfg.User == "" {
			u, uerr := user.Current()
			if uerr != nil {
				errs = append(errs, diag.Fieldf("user", "the name of the user who runs this is not known, so it must be set: %w", uerr))
			} else {
				a.cfg.User = u.Username
			}
		}
		if a.keys, err = readKeys(a.cfg); err != nil {
			errs = append(errs, err)
		}
	}
	return a, errors.Join(errs...)
}

func (a *ansible) proxied() bool { return a.cfg.UseProxy == nil || *a.cfg.UseProxy }

func (a *ansible) defaults() {
	for _, d := range []struct {
		val      *string
		fallback string
	}{
		{&a.cfg.Command, defaultCommand},
		{&a.cfg.GalaxyCommand, defaultGalaxy},
		{&a.cfg.HostAlias, defaultAlias},
		{&a.cfg.SFTPCommand, defaultSFTP},
		{&a.cfg.AnsibleProxyKeyType, "ECDSA"},
	} {
		if *d.val == "" {
			*d.val = d.fallback
		}
	}
	if len(a.cfg.AnsibleSSHExtraArgs) == 0 {
		a.cfg.AnsibleSSHExtraArgs = []string{defaultSSHArgs}
	}
}

func (a *ansible) check() (errs []error) {
	c := a.cfg
	if c.PlaybookFile == "" {
		errs = append(errs, diag.Fieldf("playbook_file", "must be set"))
	}
	for _, f := range []struct{ option, name string }{
		{"playbook_file", c.PlaybookFile},
		{"galaxy_file", c.GalaxyFile},
		{"inventory_file", c.InventoryFile},
		{"ssh_host_key_file", c.SSHHostKeyFile},
		{"ssh_authorized_key_file", c.SSHAuthorizedKeyFile},
	} {
		if f.name == "" {
			continue
		}
		fi, err := os.Stat(f.name)
		switch {
		case err != nil:
			errs = append(errs, diag.Fieldf(f.option, "bad file %q: %w", f.name, err))
		case fi.IsDir() && f.option != "inventory_file":
			errs = append(errs, diag.Fieldf(f.option, "%q is a folder", f.name))
		}
	}
	if c.InventoryDirectory != "" {
		if fi, err := os.Stat(c.InventoryDirectory); err != nil || !fi.IsDir() {
			errs = append(errs, diag.Fieldf("inventory_directory", "%q is no folder", c.InventoryDirectory))
		}
	}
	if c.LocalPort < 0 || c.LocalPort > 65535 {
		errs = append(errs, diag.Fieldf("local_port", "a port is 0 (any) to 65535, not %d", c.LocalPort))
	}
	if t := strings.ToUpper(c.AnsibleProxyKeyType); t != "ECDSA" && t != "RSA" {
		errs = append(errs, diag.Fieldf("ansible_proxy_key_type", "%q is not known; it is ECDSA or RSA", c.AnsibleProxyKeyType))
	}
	for i, kv := range c.AnsibleEnvVars {
		if k, _, ok := strings.Cut(kv, "="); !ok || k == "" {
			errs = append(errs, diag.Fieldf("ansible_env_vars", "entry %d is not in the form key=value", i+1))
		}
	}
	if !c.SkipVersionCheck {
		if _, err := exec.LookPath(c.Command); err != nil {
			// Only a warning: a template can be checked where it is not built.
			errs = append(errs, &diag.FieldError{
				Paths: []string{"command"}, Warn: true,
				Err: diag.WithHint(fmt.Errorf("%q is not on this machine: %w", c.Command, err), missingHint),
			})
		}
	}
	return errs
}

// Key implements [provisioner.Provisioner]. It is always the zero key: what a
// playbook reads of this machine is not known here.
func (*ansible) Key(context.Context) (checkpoint.Key, error) { return checkpoint.Key{}, nil }

// listen opens the proxy's port on the loopback interface: local_port or one of
// the nine after it, or any.
func (a *ansible) listen(ctx context.Context) (net.Listener, error) {
	var lc net.ListenConfig
	first := a.cfg.LocalPort
	var err error
	for i := range 10 {
		port := 0
		if first != 0 {
			port = first + i
		}
		ln, lerr := lc.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if lerr == nil {
			return ln, nil
		}
		err = lerr
	}
	return nil, diag.WithHint(fmt.Errorf("listen for Ansible: %w", err), "choose another local_port")
}
