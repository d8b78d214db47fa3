package ansiblelocal

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"regexp"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell/script"
)

// cleanTime bounds the removal of the staging folder.
const cleanTime = time.Minute

// Apply implements [provisioner.Provisioner].
func (l *local) Apply(ctx context.Context, g communicator.Guest, out event.Sink) (err error) {
	staging := l.staging()
	out.Emit(event.Say{Text: "Provisioning with Ansible..."})
	if err := l.upload(ctx, g, out, staging); err != nil {
		return err
	}
	if l.cfg.CleanStagingDirectory {
		defer func() {
			var lost *communicator.DisconnectError
			if errors.As(err, &lost) {
				return
			}
			out.Emit(event.Say{Text: "Removing staging directory..."})
			clean, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
			defer stop()
			if rerr := g.Run(clean, communicator.Cmd{Line: "rm -rf " + script.Quote(staging)}); rerr != nil && err == nil {
				err = fmt.Errorf("remove %s on the guest: %w", staging, rerr)
			}
		}()
	}
	if err := l.galaxy(ctx, g, out, staging); err != nil {
		return err
	}
	for _, p := range l.playbooks {
		if err := run(ctx, g, out, l.line(g.Data, staging, p)); err != nil {
			return fmt.Errorf("playbook %s: %w", p, err)
		}
	}
	return nil
}

func (l *local) upload(ctx context.Context, g communicator.Guest, out event.Sink, staging string) (err error) {
	dir, err := os.MkdirTemp("", "ingot-ansible-local-")
	if err != nil {
		return fmt.Errorf("ansible-local: %w", err)
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if err := l.gather(ctx, dir); err != nil {
		return fmt.Errorf("ansible-local: %w", err)
	}
	// The folder made above is only the user's, and would be on the guest.
	if err := os.Chmod(dir, 0o755); err != nil {
		return fmt.Errorf("ansible-local: %w", err)
	}
	out.Emit(event.Say{Text: "Uploading the playbook and what belongs to it => " + staging})
	m := event.NewMeter(out, "upload "+staging, 0)
	if err := g.PutTree(ctx, staging, os.DirFS(dir), m.Set); err != nil {
		return fmt.Errorf("upload to %s: %w", staging, err)
	}
	m.End()
	return nil
}

func run(ctx context.Context, g communicator.Guest, out event.Sink, line string) error {
	out.Emit(event.Say{Text: "Executing Ansible: " + line})
	stdout, stderr := event.Lines(out, false), event.Lines(out, true)
	defer stdout.Close()
	defer stderr.Close()
	err := g.Run(ctx, communicator.Cmd{Line: line, Stdout: stdout, Stderr: stderr})
	var exit *communicator.ExitError
	if errors.As(err, &exit) && exit.Status == 127 {
		return diag.WithHint(err, "Ansible must be on the guest: install it with a shell provisioner before, or use the provisioner ansible, which needs nothing there")
	}
	return err
}

// line is the command that runs a playbook. Extra arguments go as they are:
// the guest's shell reads them.
func (l *local) line(d communicator.Data, staging, playbook string) string {
	extra := fmt.Sprintf("packer_build_name=%s packer_builder_type=%s", value(d.BuildName), value(d.BuilderType))
	if d.HTTPIP != "" {
		extra += fmt.Sprintf(" packer_http_addr=%s:%d", d.HTTPIP, d.HTTPPort)
	}
	line := "cd " + script.Quote(staging) + " && "
	for _, e := range l.environment(staging) {
		line += e + " "
	}
	line += l.cfg.Command + " " + script.Quote(path.Join(staging, playbook)) + " --extra-vars " + script.Quote(extra)
	if len(l.cfg.ExtraArguments) > 0 {
		line += " " + strings.Join(l.cfg.ExtraArguments, " ")
	}
	return line + " -c local -i " + script.Quote(path.Join(staging, l.inventory))
}

// value quotes what Ansible would split.
func value(s string) string {
	if !strings.ContainsAny(s, " \t\"'\\=") {
		return s
	}
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

// environment tells Ansible where what was installed or brought is, before the
// places it looks at anyway.
func (l *local) environment(staging string) (env []string) {
	if l.cfg.GalaxyFile != "" {
		env = append(env, "ANSIBLE_ROLES_PATH="+script.Quote(strings.Join([]string{
			l.rolesPath(staging), staging + "/roles", "/usr/share/ansible/roles", "/etc/ansible/roles",
		}, ":")))
	}
	if l.cfg.GalaxyFile != "" || len(l.cfg.CollectionPaths) > 0 {
		env = append(env, "ANSIBLE_COLLECTIONS_PATH="+script.Quote(strings.Join([]string{
			l.collectionsPath(staging), staging + "/collections", "/usr/share/ansible/collections",
		}, ":")))
	}
	return env
}

func (l *local) rolesPath(staging string) string {
	if l.cfg.GalaxyRolesPath != "" {
		return l.cfg.GalaxyRolesPath
	}
	return staging + "/galaxy_roles"
}

func (l *local) collectionsPath(staging string) string {
	if l.cfg.GalaxyCollectionsPath != "" {
		return l.cfg.GalaxyCollectionsPath
	}
	return staging + "/galaxy_collections"
}

var (
	hasRoles       = regexp.MustCompile(`(?m)^roles\s*:`)
	hasCollections = regexp.MustCompile(`(?m)^collections\s*:`)
)

// galaxy installs what the requirements file names, on the guest.
func (l *local) galaxy(ctx context.Context, g communicator.Guest, out event.Sink, staging string) error {
	if l.cfg.GalaxyFile == "" {
		return nil
	}
	text, err := os.ReadFile(l.cfg.GalaxyFile)
	if err != nil {
		return fmt.Errorf("galaxy_file: %w", err)
	}
	file := path.Join(staging, path.Base(l.cfg.GalaxyFile))
	install := func(kind, target string) error {
		line := "cd " + script.Quote(staging) + " && " + l.cfg.GalaxyCommand + kind + " install -r " + script.Quote(file) + " -p " + script.Quote(target)
		if l.cfg.GalaxyForceInstall {
			line += " -f"
		}
		if err := run(ctx, g, out, line); err != nil {
			return fmt.Errorf("galaxy_file %s: %w", l.cfg.GalaxyFile, err)
		}
		return nil
	}
	collections := hasCollections.Match(text)
	if hasRoles.Match(text) || !collections {
		if err := install("", l.rolesPath(staging)); err != nil {
			return err
		}
	}
	if collections {
		return install(" collection", l.collectionsPath(staging))
	}
	return nil
}
