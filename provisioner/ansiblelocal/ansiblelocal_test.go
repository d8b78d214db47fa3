package ansiblelocal

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(p, 0o644); err != nil { // whatever the umask
		t.Fatal(err)
	}
	return p
}

func mustOpen(t *testing.T, c Config) *local {
	t.Helper()
	p, err := open(c)
	if err != nil {
		t.Fatal(err)
	}
	return p.(*local)
}

func TestOpenReportsEveryFault(t *testing.T) {
	dir := t.TempDir()
	f, no := write(t, dir, "f", ""), filepath.Join(dir, "none")
	_, err := open(Config{
		PlaybookFile: no, PlaybookFiles: []string{dir}, GroupVars: f, HostVars: no, PlaybookDir: f, PlaybookPaths: []string{no}, RolePaths: []string{dir, f},
		CollectionPaths: []string{no}, GalaxyFile: dir, InventoryFile: no, InventoryGroups: []string{"g"}, StagingDirectory: "a\nb",
	})
	var got, warned []string
	for _, e := range diag.Flatten(err) {
		var f *diag.FieldError
		if !errors.As(e, &f) {
			t.Fatalf("%v is not about an option", e)
		}
		if f.Warn {
			warned = append(warned, f.Paths[0])
			continue
		}
		got = append(got, f.Paths[0])
	}
	slices.Sort(got)
	want := []string{
		"collection_paths[0]", "galaxy_file", "group_vars", "host_vars", "inventory_file", "playbook_dir", "playbook_file", "playbook_file",
		"playbook_files[0]", "playbook_paths[0]", "role_paths[1]", "staging_directory",
	}
	if !slices.Equal(got, want) || !slices.Equal(warned, []string{"inventory_groups"}) {
		t.Errorf("faults in %q, want %q; warnings in %q", got, want, warned)
	}
}

// everything is a template with every kind of path.
func everything(t *testing.T) Config {
	dir := t.TempDir()
	write(t, dir, "book/play.yml", "play")
	write(t, dir, "book/sub/other.yml", "other")
	write(t, dir, "book/roles/own/tasks/main.yml", "own")
	write(t, dir, "roles/extra/tasks/main.yml", "extra")
	write(t, dir, "coll/ansible_collections/ns/name/galaxy.yml", "coll")
	write(t, dir, "gv/all.yml", "gv")
	write(t, dir, "hv/127.0.0.1.yml", "hv")
	write(t, dir, "more/x", "x")
	if err := os.Symlink("x", filepath.Join(dir, "more/link")); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(write(t, dir, "more/run", "run"), 0o750); err != nil {
		t.Fatal(err)
	}
	in := func(p string) string { return filepath.Join(dir, p) }
	return Config{
		PlaybookDir: in("book"), PlaybookFiles: []string{in("book/play.yml"), in("book/sub/other.yml"), write(t, dir, "apart.yml", "apart")},
		RolePaths: []string{in("roles/extra") + "/"}, CollectionPaths: []string{in("coll/ansible_collections")}, GroupVars: in("gv"), HostVars: in("hv"),
		PlaybookPaths: []string{in("more")}, GalaxyFile: write(t, dir, "req.yml", "roles: []\ncollections: []\n"), InventoryGroups: []string{"a", "b"},
	}
}

func TestLayout(t *testing.T) {
	l := mustOpen(t, everything(t))
	dir := t.TempDir()
	if err := l.gather(t.Context(), dir); err != nil {
		t.Fatal(err)
	}
	var got []string
	if err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		fi, err := e.Info()
		got = append(got, rel+" "+fi.Mode().String())
		return err
	}); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"apart.yml -rw-r--r--", "collections/ansible_collections/ns/name/galaxy.yml -rw-r--r--", "group_vars/all.yml -rw-r--r--", "host_vars/127.0.0.1.yml -rw-r--r--",
		"ingot-inventory -rw-r--r--", "more/link Lrwxrwxrwx", "more/run -rwxr-x---", "more/x -rw-r--r--", "play.yml -rw-r--r--", "req.yml -rw-r--r--",
		"roles/extra/tasks/main.yml -rw-r--r--", "roles/own/tasks/main.yml -rw-r--r--", "sub/other.yml -rw-r--r--",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if b, err := os.ReadFile(filepath.Join(dir, "ingot-inventory")); err != nil || string(b) != "[a]\n127.0.0.1\n[b]\n127.0.0.1\n" {
		t.Errorf("%q, %v", b, err)
	}
	if want := []string{"play.yml", "sub/other.yml", "apart.yml"}; !slices.Equal(l.playbooks, want) {
		t.Errorf("playbooks %q", l.playbooks)
	}
}

func TestLine(t *testing.T) {
	dir := t.TempDir()
	book := write(t, dir, "p.yml", "")
	d := communicator.Data{BuildName: "my web", BuilderType: "qemu", HTTPIP: "10.0.2.2", HTTPPort: 8123}
	for name, tc := range map[string]struct {
		c    Config
		want string
	}{
		"default": {
			Config{PlaybookFile: book},
			`cd /s && ANSIBLE_FORCE_COLOR=1 PYTHONUNBUFFERED=1 ansible-playbook /s/p.yml --extra-vars 'packer_build_name="my web" packer_builder_type=qemu packer_http_addr=10.0.2.2:8123' -c local -i /s/ingot-inventory`,
		},
		"all": {
			Config{
				PlaybookFile: book, Command: "ap", ExtraArguments: []string{"-v", "-e 'a=b c'"}, GalaxyFile: write(t, dir, "r.yml", ""), GalaxyRolesPath: "/r",
				GalaxyCollectionsPath: "/c", InventoryFile: write(t, dir, "inv", ""),
			},
			`cd /s && ANSIBLE_ROLES_PATH=/r:/s/roles:/usr/share/ansible/roles:/etc/ansible/roles ANSIBLE_COLLECTIONS_PATH=/c:/s/collections:/usr/share/ansible/collections ` +
				`ap /s/p.yml --extra-vars 'packer_build_name="my web" packer_builder_type=qemu packer_http_addr=10.0.2.2:8123' -v -e 'a=b c' -c local -i /s/inv`,
		},
	} {
		if got := mustOpen(t, tc.c).line(d, "/s", "p.yml"); got != tc.want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, tc.want)
		}
	}
	l := mustOpen(t, Config{PlaybookFile: book})
	if first, second := l.staging(), l.staging(); first == second || !strings.HasPrefix(first, stagingParent) {
		t.Errorf("staging %s, then %s", first, second)
	}
}

func TestKey(t *testing.T) {
	key := func(change func(*Config)) string {
		t.Helper()
		c := everything(t)
		c.GalaxyFile = ""
		change(&c)
		k, err := mustOpen(t, c).Key(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if k.IsZero() {
			return ""
		}
		return k.String()
	}
	same := key(func(*Config) {})
	if same == "" || key(func(*Config) {}) != same {
		t.Fatal("the same content elsewhere has another key")
	}
	seen := map[string]string{same: "nothing"}
	for name, change := range map[string]func(*Config){
		"content":   func(c *Config) { write(t, c.GroupVars, "all.yml", "other") },
		"name":      func(c *Config) { write(t, c.GroupVars, "new.yml", "") },
		"mode":      func(c *Config) { must(t, os.Chmod(filepath.Join(c.PlaybookPaths[0], "run"), 0o644)) },
		"arguments": func(c *Config) { c.ExtraArguments = []string{"-v"} },
		"groups":    func(c *Config) { c.InventoryGroups = nil },
		"command":   func(c *Config) { c.Command = "x" },
		"staging":   func(c *Config) { c.StagingDirectory = "/x" },
		"clean":     func(c *Config) { c.CleanStagingDirectory = true },
		"playbooks": func(c *Config) { c.PlaybookFiles = c.PlaybookFiles[:1] },
	} {
		k := key(change)
		if other, dup := seen[k]; dup || k == "" {
			t.Errorf("%s has the key of %s", name, other)
		}
		seen[k] = name
	}
	for name, change := range map[string]func(*Config){
		"galaxy":   func(c *Config) { c.GalaxyFile = write(t, t.TempDir(), "r.yml", "") },
		"variable": func(c *Config) { write(t, c.GroupVars, "all.yml", "{{ packer_build_name }}") },
	} {
		if key(change) != "" {
			t.Errorf("%s: a key though what happens is not known", name)
		}
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// player stands for ansible-playbook and ansible-galaxy: it shows how it is
// called, and from where.
func player(t *testing.T, status string) string {
	t.Helper()
	p := write(t, t.TempDir(), "player", "#!/bin/sh\necho \"$PWD $*\"\nexit "+status+"\n")
	must(t, os.Chmod(p, 0o755))
	return p
}

func TestApply(t *testing.T) {
	s := provisionertest.Start(t)
	g := s.Connect()
	staging := filepath.Join(t.TempDir(), "stage it")
	c := everything(t)
	c.Command, c.GalaxyCommand, c.StagingDirectory, c.GalaxyForceInstall = player(t, "0"), player(t, "0"), staging, true
	var out provisionertest.Events
	must(t, mustOpen(t, c).Apply(provisionertest.Context(t), g, &out))
	extra := ` --extra-vars packer_build_name=web packer_builder_type=qemu packer_http_addr=10.0.2.2:8123 -c local -i ` + staging + "/ingot-inventory"
	want := []string{
		staging + " install -r " + staging + "/req.yml -p " + staging + "/galaxy_roles -f",
		staging + " collection install -r " + staging + "/req.yml -p " + staging + "/galaxy_collections -f",
		staging + " " + staging + "/play.yml" + extra, staging + " " + staging + "/sub/other.yml" + extra, staging + " " + staging + "/apart.yml" + extra,
	}
	if got := out.Lines(false); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if b, err := os.ReadFile(staging + "/roles/extra/tasks/main.yml"); err != nil || string(b) != "extra" {
		t.Errorf("%q, %v", b, err)
	}
	c.CleanStagingDirectory, c.GalaxyFile = true, ""
	for _, status := range []string{"0", "2"} {
		c.Command = player(t, status)
		err := mustOpen(t, c).Apply(provisionertest.Context(t), g, event.Discard)
		var exit *communicator.ExitError
		if (status == "0") != (err == nil) || err != nil && !errors.As(err, &exit) {
			t.Errorf("status %s: %v", status, err)
		}
		if _, err := os.Stat(staging); err == nil {
			t.Error("the staging folder is still there")
		}
	}
	c.Command = "/no/such/program"
	if err := mustOpen(t, c).Apply(provisionertest.Context(t), g, event.Discard); err == nil || diag.Hint(err) == "" {
		t.Errorf("err = %v", err)
	}
}

// TestPlaybook runs the real thing.
func TestPlaybook(t *testing.T) {
	s := provisionertest.Start(t)
	if _, err := exec.LookPath("ansible-playbook"); err != nil {
		t.Skip("needs Ansible: apt-get install ansible-core")
	}
	dir, there := t.TempDir(), t.TempDir()
	write(t, dir, "roles/r/tasks/main.yml", "- copy: {content: '{{ packer_build_name }} {{ kind }} {{ v }}', dest: '"+there+"/f'}\n")
	write(t, dir, "gv/g.yml", "kind: grouped\n")
	c := Config{
		PlaybookFile: write(t, dir, "play.yml", "- hosts: g\n  gather_facts: false\n  roles: [r]\n"), RolePaths: []string{filepath.Join(dir, "roles/r")},
		GroupVars: filepath.Join(dir, "gv"), InventoryGroups: []string{"g"}, ExtraArguments: []string{"-e v=1"}, CleanStagingDirectory: true,
	}
	var out provisionertest.Events
	if err := mustOpen(t, c).Apply(t.Context(), s.Connect(), &out); err != nil {
		t.Fatal(err, strings.Join(append(out.Lines(false), out.Lines(true)...), "\n"))
	}
	if b, err := os.ReadFile(there + "/f"); err != nil || string(b) != "web grouped 1" {
		t.Errorf("%q, %v", b, err)
	}
}
