package ansible

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/secret"
)

// Apply implements [provisioner.Provisioner]. What it writes on this machine is
// in a folder that only the user can read, and is removed, the inventory
// excepted where the template keeps it.
func (a *ansible) Apply(ctx context.Context, g communicator.Guest, out event.Sink) (err error) {
	if g.Data.ConnType == "none" {
		return fmt.Errorf("ansible: %w", communicator.ErrNoConnection)
	}
	if err := a.checkVersion(ctx, out); err != nil {
		return err
	}
	dir, err := os.MkdirTemp("", "ingot-ansible-")
	if err != nil {
		return fmt.Errorf("ansible: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := a.galaxy(ctx, out); err != nil {
		return err
	}
	if !a.proxied() {
		h, key, err := a.direct(g)
		if err != nil {
			return err
		}
		return a.play(ctx, g, out, h, key, dir)
	}
	return a.behindProxy(ctx, g, out, dir)
}

// behindProxy runs the playbook against our own SSH server.
func (a *ansible) behindProxy(ctx context.Context, g communicator.Guest, out event.Sink, dir string) error {
	keys, private, err := a.keys.complete(a.cfg.AnsibleProxyKeyType)
	if err != nil {
		return err
	}
	ln, err := a.listen(ctx)
	if err != nil {
		return err
	}
	serving, stop := context.WithCancel(ctx)
	served := make(chan struct{})
	p := &proxy{guest: g, out: out, sftp: a.cfg.SFTPCommand, user: a.cfg.User, keys: keys}
	go func() { p.serve(serving, ln); close(served) }()
	defer func() { stop(); <-served }()
	addr, ok := ln.Addr().(*net.TCPAddr)
	if !ok {
		return fmt.Errorf("ansible: listening on %s", ln.Addr())
	}
	return a.play(ctx, g, out, host{addr: "127.0.0.1", port: addr.Port, user: a.cfg.User}, key{text: private}, dir)
}

// A key is Ansible's private key: a file that is there, or a text to be put
// into one.
type key struct {
	file string
	text secret.String
}

// direct is how Ansible reaches the guest itself.
func (a *ansible) direct(g communicator.Guest) (host, key, error) {
	d := g.Data
	h := host{addr: d.Host, port: d.Port, user: d.User, password: d.Password, winrm: d.ConnType == "winrm"}
	if h.addr == "" {
		return h, key{}, diag.WithHint(errors.New("the guest's address is not known"), "leave use_proxy out")
	}
	if h.winrm {
		if !d.WinRMPassword.IsEmpty() {
			h.password = d.WinRMPassword
		}
		return h, key{}, nil
	}
	if d.KeyFile != "" {
		return h, key{file: d.KeyFile}, nil
	}
	return h, key{text: d.SSHPrivateKey}, nil
}

// play runs the playbook.
func (a *ansible) play(ctx context.Context, g communicator.Guest, out event.Sink, h host, k key, dir string) (err error) {
	inventory := a.cfg.InventoryFile
	if inventory == "" {
		if inventory, err = a.writeInventory(h); err != nil {
			return err
		}
		if a.cfg.KeepInventoryFile {
			out.Emit(event.Say{Text: "Keeping the inventory file " + inventory})
		} else {
			defer func() { err = errors.Join(err, os.Remove(inventory)) }()
		}
	}
	if !k.text.IsEmpty() {
		k.file = filepath.Join(dir, "key")
		if err := os.WriteFile(k.file, []byte(strings.TrimRight(k.text.Reveal(), "\n")+"\n"), 0o600); err != nil {
			return fmt.Errorf("ansible: %w", err)
		}
	}
	passwords := ""
	if !a.proxied() && !h.password.IsEmpty() {
		// In a file: arguments are seen by everybody on this machine.
		passwords = filepath.Join(dir, "passwords.json")
		text, err := json.Marshal(map[string]string{"ansible_password": h.password.Reveal()})
		if err != nil {
			return fmt.Errorf("ansible: %w", err)
		}
		if err := os.WriteFile(passwords, text, 0o600); err != nil {
			return fmt.Errorf("ansible: %w", err)
		}
	}
	args := a.arguments(g.Data, h, k.file, passwords, inventory)
	out.Emit(event.Say{Text: "Executing Ansible: " + masked(a.cfg.Command, args)})
	if err := run(ctx, out, a.environment(), a.cfg.Command, args...); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return fmt.Errorf("playbook %s: %w", a.cfg.PlaybookFile, err)
	}
	return nil
}

// arguments are those of ansible-playbook. Files are named by their full path:
// that of the playbook decides where Ansible looks for roles.
func (a *ansible) arguments(d communicator.Data, h host, keyFile, passwords, inventory string) []string {
	args := []string{"-e", "packer_build_name=" + value(d.BuildName), "-e", "packer_builder_type=" + value(d.BuilderType)}
	if d.HTTPIP != "" {
		args = append(args, "-e", fmt.Sprintf("packer_http_addr=%s:%d", d.HTTPIP, d.HTTPPort))
	}
	if !h.winrm {
		args = append(args, "--ssh-extra-args", strings.Join(a.cfg.AnsibleSSHExtraArgs, " "))
	}
	args = append(args, a.cfg.ExtraArguments...)
	if passwords != "" {
		args = append(args, "-e", "@"+passwords)
	}
	if keyFile != "" {
		args = append(args, "-e", "ansible_ssh_private_key_file="+value(keyFile))
	}
	return append(args, "-i", absolute(inventory), absolute(a.cfg.PlaybookFile))
}

func absolute(name string) string {
	if abs, err := filepath.Abs(name); err == nil {
		return abs
	}
	return name
}

// environment is that of this process, and over it what the proxy needs, and
// over that what the template says.
func (a *ansible) environment() []string {
	env := os.Environ()
	if a.cfg.SSHHostKeyFile == "" {
		env = append(env, "ANSIBLE_HOST_KEY_CHECKING=False")
	}
	if !a.cfg.UseSFTP {
		env = append(env, "ANSIBLE_SCP_IF_SSH=True")
	}
	return slices.Concat(env, a.cfg.AnsibleEnvVars)
}

var (
	hasRoles       = regexp.MustCompile(`(?m)^roles\s*:`)
	hasCollections = regexp.MustCompile(`(?m)^collections\s*:`)
)

// galaxy installs what the requirements file names, on this machine.
func (a *ansible) galaxy(ctx context.Context, out event.Sink) error {
	c := a.cfg
	if c.GalaxyFile == "" {
		return nil
	}
	text, err := os.ReadFile(c.GalaxyFile)
	if err != nil {
		return fmt.Errorf("galaxy_file: %w", err)
	}
	collections := hasCollections.Match(text)
	var force []string
	if c.GalaxyForceInstall {
		force = append(force, "-f")
	}
	if c.GalaxyForceWithDeps {
		force = append(force, "--force-with-deps")
	}
	install := func(args []string, path string) error {
		args = append(args, "-r", absolute(c.GalaxyFile))
		if path != "" {
			args = append(args, "-p", absolute(path))
		}
		args = append(args, force...)
		out.Emit(event.Say{Text: "Executing Ansible Galaxy: " + masked(c.GalaxyCommand, args)})
		if err := run(ctx, out, a.environment(), c.GalaxyCommand, args...); err != nil {
			return fmt.Errorf("galaxy_file %s: %w", c.GalaxyFile, err)
		}
		return nil
	}
	if hasRoles.Match(text) || !collections {
		if err := install([]string{"install"}, c.RolesPath); err != nil {
			return err
		}
	}
	if collections {
		return install([]string{"collection", "install"}, c.CollectionsPath)
	}
	return nil
}
