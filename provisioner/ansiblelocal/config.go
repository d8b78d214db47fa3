// Package ansiblelocal is the provisioner "ansible-local": a playbook that is
// brought to the guest and runs there.
package ansiblelocal

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/provisioner"
)

// Config is the options of the provisioner.
type Config struct {
	Command         string   `hcl:"command"`
	ExtraArguments  []string `hcl:"extra_arguments"`
	GroupVars       string   `hcl:"group_vars"`
	HostVars        string   `hcl:"host_vars"`
	PlaybookDir     string   `hcl:"playbook_dir"`
	PlaybookFile    string   `hcl:"playbook_file"`
	PlaybookFiles   []string `hcl:"playbook_files"`
	PlaybookPaths   []string `hcl:"playbook_paths"`
	RolePaths       []string `hcl:"role_paths"`
	CollectionPaths []string `hcl:"collection_paths"`

	StagingDirectory      string `hcl:"staging_directory"`
	CleanStagingDirectory bool   `hcl:"clean_staging_directory"`

	InventoryFile   string   `hcl:"inventory_file"`
	InventoryGroups []string `hcl:"inventory_groups"`

	GalaxyFile            string `hcl:"galaxy_file"`
	GalaxyCommand         string `hcl:"galaxy_command"`
	GalaxyForceInstall    bool   `hcl:"galaxy_force_install"`
	GalaxyRolesPath       string `hcl:"galaxy_roles_path"`
	GalaxyCollectionsPath string `hcl:"galaxy_collections_path"`
}

const (
	defaultCommand = "ANSIBLE_FORCE_COLOR=1 PYTHONUNBUFFERED=1 ansible-playbook"
	defaultGalaxy  = "ansible-galaxy"
	stagingParent  = "/tmp/packer-provisioner-ansible-local/"
	inventoryName  = "ingot-inventory"
)

// Driver returns the provisioner "ansible-local".
func Driver() provisioner.Driver { return provisioner.NewDriver("ansible-local", open) }

type local struct {
	cfg       Config
	items     []item
	playbooks []string // below the staging folder
	inventory string   // likewise
}

var _ provisioner.Provisioner = (*local)(nil)

// An item is a file or folder of this machine and where it goes below the
// staging folder.
type item struct{ src, dst string }

func open(c Config) (provisioner.Provisioner, error) {
	l := &local{cfg: c}
	if l.cfg.Command == "" {
		l.cfg.Command = defaultCommand
	}
	if l.cfg.GalaxyCommand == "" {
		l.cfg.GalaxyCommand = defaultGalaxy
	}
	var errs []error
	if (c.PlaybookFile == "") == (len(c.PlaybookFiles) == 0) {
		errs = append(errs, diag.Fieldsf([]string{"playbook_file", "playbook_files"}, "exactly one of playbook_file and playbook_files must be set"))
	}
	if c.InventoryFile != "" && len(c.InventoryGroups) > 0 {
		errs = append(errs, &diag.FieldError{
			Paths: []string{"inventory_groups", "inventory_file"}, Warn: true,
			Err: errors.New("has no effect: inventory_file says which groups there are"),
		})
	}
	if strings.ContainsAny(c.StagingDirectory, "\n\x00") {
		errs = append(errs, diag.Fieldf("staging_directory", "%q has a line end in it", c.StagingDirectory))
	}
	add := func(option, src, dst string, folder, file bool) {
		fi, err := os.Stat(src)
		switch {
		case err != nil:
			errs = append(errs, diag.Fieldf(option, "bad path %q: %w", src, err))
		case folder && !fi.IsDir():
			errs = append(errs, diag.Fieldf(option, "%q is no folder", src))
		case file && fi.IsDir():
			errs = append(errs, diag.Fieldf(option, "%q is a folder, and must be a file", src))
		}
		l.items = append(l.items, item{src, dst})
	}
	base := func(p string) string { return filepath.Base(filepath.Clean(p)) }
	if c.PlaybookDir != "" {
		add("playbook_dir", c.PlaybookDir, ".", true, false)
	}
	playbook := func(option, p string) {
		rel, inside := below(c.PlaybookDir, p)
		if inside {
			if _, err := os.Stat(p); err != nil {
				errs = append(errs, diag.Fieldf(option, "bad path %q: %w", p, err))
			}
		} else {
			rel = base(p)
			add(option, p, rel, false, true)
		}
		l.playbooks = append(l.playbooks, rel)
	}
	if c.PlaybookFile != "" {
		playbook("playbook_file", c.PlaybookFile)
	}
	for i, p := range c.PlaybookFiles {
		playbook(fmt.Sprintf("playbook_files[%d]", i), p)
	}
	for _, one := range []struct {
		option, src, dst string
		folder           bool
	}{
		{"group_vars", c.GroupVars, "group_vars", true},
		{"host_vars", c.HostVars, "host_vars", true},
		{"galaxy_file", c.GalaxyFile, base(c.GalaxyFile), false},
		{"inventory_file", c.InventoryFile, base(c.InventoryFile), false},
	} {
		if one.src != "" {
			add(one.option, one.src, one.dst, one.folder, !one.folder)
		}
	}
	for _, many := range []struct {
		option string
		list   []string
		folder string
		dirs   bool
	}{
		{"role_paths", c.RolePaths, "roles", true},
		{"collection_paths", c.CollectionPaths, "collections", true},
		{"playbook_paths", c.PlaybookPaths, ".", false},
	} {
		for i, p := range many.list {
			add(fmt.Sprintf("%s[%d]", many.option, i), p, path.Join(many.folder, base(p)), many.dirs, false)
		}
	}
	l.inventory = inventoryName
	if c.InventoryFile != "" {
		l.inventory = base(c.InventoryFile)
	}
	return l, errors.Join(errs...)
}

// below reports whether file is in dir, and its path from there.
func below(dir, file string) (string, bool) {
	if dir == "" {
		return "", false
	}
	d, err1 := filepath.Abs(dir)
	f, err2 := filepath.Abs(file)
	rel, err3 := filepath.Rel(d, f)
	if errors.Join(err1, err2, err3) != nil || !filepath.IsLocal(rel) {
		return "", false
	}
	return filepath.ToSlash(rel), true
}

// staging is the folder on the guest, the option's or a new one.
func (l *local) staging() string {
	if l.cfg.StagingDirectory != "" {
		return path.Clean(l.cfg.StagingDirectory)
	}
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails
	return stagingParent + hex.EncodeToString(b[:])
}

// inventoryText is the inventory where the template gives none.
func (l *local) inventoryText() string {
	if len(l.cfg.InventoryGroups) == 0 {
		return "127.0.0.1\n"
	}
	var b strings.Builder
	for _, g := range l.cfg.InventoryGroups {
		fmt.Fprintf(&b, "[%s]\n127.0.0.1\n", g)
	}
	return b.String()
}

// Key implements [provisioner.Provisioner]. Everything that is brought to the
// guest counts by content. A galaxy_file gives the zero key, because what it
// names is somewhere else and changes, as does a file that names one of the
// packer_ variables, which are not known here.
func (l *local) Key(ctx context.Context) (checkpoint.Key, error) {
	if l.cfg.GalaxyFile != "" {
		return checkpoint.Key{}, nil
	}
	d := checkpoint.NewDigest("ansible-local.v1")
	c := l.cfg
	d.Text(c.Command, c.StagingDirectory, fmt.Sprint(c.CleanStagingDirectory), l.inventoryText(), l.inventory, fmt.Sprint(len(c.ExtraArguments)))
	d.Text(c.ExtraArguments...)
	d.Text(l.playbooks...)
	known := true
	for _, it := range l.items {
		if err := walk(ctx, it, func(f file) error {
			if f.named("packer_") {
				known = false
			}
			d.Text(f.dst, f.mode.String(), f.link)
			d.Bytes(f.body)
			return nil
		}); err != nil {
			return checkpoint.Key{}, err
		}
	}
	if !known {
		return checkpoint.Key{}, nil
	}
	return d.Key(), nil
}
