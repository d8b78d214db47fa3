package ansible

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
	"github.com/ingot-build/ingot/provisioner/provisionertest"
)

func write(t *testing.T, dir, name, content string) string {
	t.Helper()
	p := filepath.Join(dir, name)
	if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(p, []byte(content), 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

func mustOpen(t *testing.T, c Config) *ansible {
	t.Helper()
	if c.PlaybookFile == "" {
		c.PlaybookFile = write(t, t.TempDir(), "play.yml", "- hosts: all\n")
	}
	p, err := open(c)
	for _, e := range diag.Flatten(err) {
		var f *diag.FieldError
		if !errors.As(e, &f) || !f.Warn {
			t.Fatal(err)
		}
	}
	return p.(*ansible)
}

func TestOpenReportsEveryFault(t *testing.T) {
	no := filepath.Join(t.TempDir(), "none")
	bad := write(t, t.TempDir(), "key", "no key")
	_, err := open(Config{
		GalaxyFile: no, InventoryFile: no, SSHHostKeyFile: bad, InventoryDirectory: no, LocalPort: 70000, AnsibleProxyKeyType: "DSA",
		AnsibleEnvVars: []string{"SECRETVALUE"}, InventoryFileTemplate: "{{", Command: no,
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
		"ansible_env_vars", "ansible_proxy_key_type", "galaxy_file", "inventory_directory", "inventory_file", "inventory_file_template",
		"local_port", "playbook_file", "ssh_host_key_file",
	}
	if !slices.Equal(got, want) || !slices.Equal(warned, []string{"command"}) {
		t.Errorf("faults in %q, want %q; warnings in %q", got, want, warned)
	}
	if strings.Contains(err.Error(), "SECRETVALUE") {
		t.Errorf("the fault tells the value: %v", err)
	}
	if _, err := open(Config{PlaybookFile: bad, SSHAuthorizedKeyFile: bad, SkipVersionCheck: true}); err == nil || !strings.Contains(err.Error(), "ssh_authorized_key_file") {
		t.Errorf("err = %v", err)
	}
}

func TestInventory(t *testing.T) {
	h := host{addr: "127.0.0.1", port: 2222, user: "me", password: secret.New("p w")}
	for name, tc := range map[string]struct {
		c    Config
		h    host
		want string
	}{
		"default": {Config{}, h, "default ansible_host=127.0.0.1 ansible_user=me ansible_port=2222\n"},
		"groups": {
			Config{HostAlias: "web", Groups: []string{"a", "b"}, EmptyGroups: []string{"c"}},
			h,
			"web ansible_host=127.0.0.1 ansible_user=me ansible_port=2222\n[a]\nweb\n[b]\nweb\n[c]\n",
		},
		"template": {
			Config{InventoryFileTemplate: "{{ .HostAlias }} ansible_host={{ .Host }} x={{ .User }}:{{ .Port }} p={{ .Password }}\n", Groups: []string{"g"}},
			h,
			"default ansible_host=127.0.0.1 x=me:2222 p=p w\n[g]\ndefault\n",
		},
		"odd user": {Config{}, host{addr: "h", port: 1, user: `DOM\me`}, `default ansible_host=h ansible_user="DOM\\me" ansible_port=1` + "\n"},
		"WinRM": {
			Config{AnsibleWinRMUseHTTP: true},
			host{addr: "h", port: 5985, user: "A", winrm: true},
			"default ansible_host=h ansible_user=A ansible_port=5985 ansible_connection=winrm ansible_winrm_transport=basic ansible_shell_type=powershell ansible_winrm_scheme=http\n",
		},
	} {
		got, err := mustOpen(t, tc.c).inventory(tc.h)
		if err != nil || got != tc.want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	if _, err := mustOpen(t, Config{InventoryFileTemplate: "{{ .Nothing }}"}).inventory(h); err == nil || diag.Hint(err) == "" {
		t.Errorf("err = %v", err)
	}
}

func TestArguments(t *testing.T) {
	a := mustOpen(t, Config{PlaybookFile: write(t, t.TempDir(), "p.yml", ""), ExtraArguments: []string{"-vv", "--become"}, AnsibleSSHExtraArgs: []string{"-o A=b", "-o C=d"}})
	d := communicator.Data{BuildName: "my web", BuilderType: "qemu", HTTPIP: "10.0.2.2", HTTPPort: 8123}
	want := []string{
		"-e", `packer_build_name="my web"`, "-e", "packer_builder_type=qemu", "-e", "packer_http_addr=10.0.2.2:8123", "--ssh-extra-args", "-o A=b -o C=d",
		"-vv", "--become", "-e", "@/pw", "-e", "ansible_ssh_private_key_file=/key", "-i", "/inv", a.cfg.PlaybookFile,
	}
	if got := a.arguments(d, host{}, "/key", "/pw", "/inv"); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	a = mustOpen(t, Config{PlaybookFile: a.cfg.PlaybookFile})
	want = []string{"-e", "packer_build_name=x", "-e", "packer_builder_type=", "-i", "/inv", a.cfg.PlaybookFile}
	if got := a.arguments(communicator.Data{BuildName: "x"}, host{winrm: true}, "", "", "/inv"); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	got := masked("ansible-playbook", []string{"-e", "ansible_password=hunter2 x=1", "-e", `ansible_become_pass: "a b"`, "-i", "f"})
	if got != "ansible-playbook -e ansible_password=***** x=1 -e ansible_become_pass: ***** -i f" {
		t.Errorf("shown: %s", got)
	}
}

func TestEnvironment(t *testing.T) {
	last := func(env []string, name string) string {
		v := "unset"
		for _, kv := range env {
			if k, val, _ := strings.Cut(kv, "="); k == name {
				v = val
			}
		}
		return v
	}
	env := mustOpen(t, Config{}).environment()
	if last(env, "ANSIBLE_HOST_KEY_CHECKING") != "False" || last(env, "ANSIBLE_SCP_IF_SSH") != "True" {
		t.Errorf("%q", env)
	}
	env = mustOpen(t, Config{UseSFTP: true, AnsibleEnvVars: []string{"ANSIBLE_HOST_KEY_CHECKING=True"}}).environment()
	if last(env, "ANSIBLE_HOST_KEY_CHECKING") != "True" || last(env, "ANSIBLE_SCP_IF_SSH") != "unset" {
		t.Errorf("%q", env)
	}
}

func TestVersions(t *testing.T) {
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		says string
		ok   bool
	}{
		"new":     {"ansible-playbook [core 2.14.18]", true},
		"old":     {"ansible-playbook 2.9.27", true},
		"too old": {"ansible-playbook 1.9.6", false},
		"other":   {"hello", false},
	} {
		program := write(t, dir, strings.ReplaceAll(name, " ", "-"), "#!/bin/sh\necho '"+tc.says+"'\n")
		err := mustOpen(t, Config{Command: program}).checkVersion(t.Context(), &provisionertest.Events{})
		if tc.ok != (err == nil) || err != nil && diag.Hint(err) == "" {
			t.Errorf("%s: %v", name, err)
		}
		if err := mustOpen(t, Config{Command: program, SkipVersionCheck: true}).checkVersion(t.Context(), &provisionertest.Events{}); err != nil {
			t.Error(err)
		}
	}
	err := mustOpen(t, Config{Command: filepath.Join(dir, "missing")}).checkVersion(t.Context(), &provisionertest.Events{})
	if err == nil {
		t.Error("a missing program has a version")
	}
}

// program is a stand-in that notes how it is called.
func program(t *testing.T, dir string) string {
	t.Helper()
	return write(t, dir, "program", "#!/bin/sh\n{ echo \"$ANSIBLE_SCP_IF_SSH $MINE\"; for a; do echo \"<$a>\"; done; } >> '"+dir+"/calls'\nexit ${STATUS:-0}\n")
}

func calls(t *testing.T, dir string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(dir, "calls"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		t.Fatal(err)
	}
	_ = os.Remove(filepath.Join(dir, "calls"))
	return string(b)
}

func TestGalaxy(t *testing.T) {
	dir := t.TempDir()
	cmd := program(t, dir)
	for name, tc := range map[string]struct {
		file string
		c    Config
		want []string
	}{
		"list of roles": {"- src: x\n", Config{RolesPath: "/r"}, []string{"<install>\n<-r>\n<FILE>\n<-p>\n</r>\n"}},
		"both": {
			"roles:\n- x\ncollections:\n- y\n",
			Config{CollectionsPath: "/c", GalaxyForceInstall: true, GalaxyForceWithDeps: true},
			[]string{"<install>\n<-r>\n<FILE>\n<-f>\n<--force-with-deps>\n", "<collection>\n<install>\n<-r>\n<FILE>\n<-p>\n</c>\n<-f>\n<--force-with-deps>\n"},
		},
		"collections": {"collections:\n- y\n", Config{}, []string{"<collection>\n<install>\n<-r>\n<FILE>\n"}},
	} {
		file := write(t, dir, "req.yml", tc.file)
		tc.c.GalaxyFile, tc.c.GalaxyCommand, tc.c.AnsibleEnvVars = file, cmd, []string{"MINE=x"}
		if err := mustOpen(t, tc.c).galaxy(t.Context(), &provisionertest.Events{}); err != nil {
			t.Fatal(err)
		}
		got := strings.ReplaceAll(calls(t, dir), file, "FILE")
		if want := "True x\n" + strings.Join(tc.want, "True x\n"); got != want {
			t.Errorf("%s:\n%s\nwant\n%s", name, got, want)
		}
	}
	c := Config{GalaxyFile: write(t, dir, "req.yml", ""), GalaxyCommand: cmd, AnsibleEnvVars: []string{"STATUS=3"}}
	if err := mustOpen(t, c).galaxy(t.Context(), &provisionertest.Events{}); err == nil || !strings.Contains(err.Error(), "exit status 3") {
		t.Errorf("err = %v", err)
	}
}

// TestDirect looks at what Ansible is given to reach the guest itself.
func TestDirect(t *testing.T) {
	dir := t.TempDir()
	cmd := write(t, dir, "program", "#!/bin/sh\n[ \"$1\" = --version ] && { echo 'x [core 2.14.1]'; exit; }\n"+
		"for a; do case $prev in -i) echo \"I $(cat \"$a\")\";; esac; case $a in @*) echo \"P $(cat \"${a#@}\")\";; ansible_ssh_private_key_file=*) echo \"K $(cat \"${a#*=}\")\";; esac; prev=$a; done\n"+
		"case \"$*\" in *hunter2*) echo LEAKED;; esac\n")
	no := false
	for name, tc := range map[string]struct {
		d    communicator.Data
		want []string
	}{
		"password": {
			communicator.Data{Host: "h", Port: 22, User: "u", Password: secret.New("hunter2"), ConnType: "ssh"},
			[]string{`P {"ansible_password":"hunter2"}`, "I default ansible_host=h ansible_user=u ansible_port=22"},
		},
		"key": {
			communicator.Data{Host: "h", Port: 22, User: "u", SSHPrivateKey: secret.New("KEY\n"), ConnType: "ssh"},
			[]string{"K KEY", "I default ansible_host=h ansible_user=u ansible_port=22"},
		},
		"key file": {
			communicator.Data{Host: "h", Port: 22, User: "u", SSHPrivateKey: secret.New("KEY"), KeyFile: write(t, dir, "k", "FILE"), ConnType: "ssh"},
			[]string{"K FILE", "I default ansible_host=h ansible_user=u ansible_port=22"},
		},
		"WinRM": {
			communicator.Data{Host: "h", Port: 5986, User: "u", WinRMPassword: secret.New("hunter2"), ConnType: "winrm"},
			[]string{`P {"ansible_password":"hunter2"}`, "I default ansible_host=h ansible_user=u ansible_port=5986 ansible_connection=winrm ansible_winrm_transport=basic ansible_shell_type=powershell"},
		},
	} {
		inventories := t.TempDir()
		a := mustOpen(t, Config{Command: cmd, UseProxy: &no, InventoryDirectory: inventories, KeepInventoryFile: name == "key"})
		var out provisionertest.Events
		if err := a.Apply(provisionertest.Context(t), communicator.Guest{Communicator: communicator.None{}, Data: tc.d}, &out); err != nil {
			t.Fatal(name, err)
		}
		if got := out.Lines(false); !slices.Equal(got, tc.want) {
			t.Errorf("%s: %q, want %q (%q)", name, got, tc.want, out.Lines(true))
		}
		if list, _ := os.ReadDir(inventories); (len(list) == 1) != (name == "key") {
			t.Errorf("%s: %d inventories are kept", name, len(list))
		}
	}
	a := mustOpen(t, Config{UseProxy: &no, SkipVersionCheck: true})
	for _, d := range []communicator.Data{{ConnType: "ssh"}, {ConnType: "none"}} {
		if err := a.Apply(t.Context(), communicator.Guest{Communicator: communicator.None{}, Data: d}, &provisionertest.Events{}); err == nil {
			t.Errorf("%+v: no error", d)
		}
	}
}

func TestCancelEndsThePlaybook(t *testing.T) {
	dir := t.TempDir()
	cmd := write(t, dir, "program", "#!/bin/sh\nsleep 1000 &\necho $! > '"+dir+"/pid.new'\nmv '"+dir+"/pid.new' '"+dir+"/pid'\nwait\n")
	no := false
	a := mustOpen(t, Config{Command: cmd, UseProxy: &no, SkipVersionCheck: true})
	ctx, stop := context.WithCancel(provisionertest.Context(t))
	ended := make(chan error, 1)
	go func() {
		ended <- a.Apply(ctx, communicator.Guest{Communicator: communicator.None{}, Data: communicator.Data{Host: "h", ConnType: "ssh"}}, &provisionertest.Events{})
	}()
	var pid string
	provisionertest.Wait(t, "the program to run", func() bool {
		b, err := os.ReadFile(filepath.Join(dir, "pid"))
		pid = strings.TrimSpace(string(b))
		return err == nil
	})
	stop()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("err = %v", err)
	}
	provisionertest.Wait(t, "its child to end", func() bool {
		if runtime.GOOS != "linux" {
			return exec.Command("kill", "-0", pid).Run() != nil
		}
		state, err := os.ReadFile("/proc/" + pid + "/stat")
		return err != nil || strings.Contains(string(state), ") Z ")
	})
}
