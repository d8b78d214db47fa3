package ssh

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ingot-build/ingot/internal/communicator"
)

// loginShell is the configuration of a server whose users have this shell.
func loginShell(shell string) []string {
	return []string{`ForceCommand exec ` + shell + ` -c "$SSH_ORIGINAL_COMMAND"`, "SetEnv SHELL=" + shell}
}

func TestScriptUnderEveryLoginShell(t *testing.T) {
	for _, shell := range []string{"/bin/sh", "/bin/bash", "/usr/bin/zsh", "/usr/bin/fish", "/bin/csh"} {
		t.Run(filepath.Base(shell), func(t *testing.T) {
			needSSHD(t)
			if _, err := os.Stat(shell); err != nil {
				t.Skip("needs " + shell)
			}
			c := dial(t, newSSHD(t, loginShell(shell)...).target(), nil)
			testScript(t, c)
			if c.noShell.Load() || c.noScript.Load() {
				t.Errorf("it was not run in one exchange")
			}
		})
	}
}

func TestScriptWithToolsThatReadAhead(t *testing.T) {
	needSSHD(t)
	bin := shortTemp(t)
	// A head like the one of some systems: right, and greedy.
	writeFile(t, filepath.Join(bin, "head"), "#!/bin/sh\nt=$(mktemp)\ncat >$t\n/usr/bin/head \"$@\" $t\nrm $t\n", 0o755)
	c := dial(t, newSSHD(t, "ForceCommand export PATH="+bin+`:$PATH; exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"`).target(), nil)
	testScript(t, c)
	if !c.noScript.Load() {
		t.Error("the greedy head was not noticed")
	}
}

func TestScriptWithoutAShell(t *testing.T) {
	needSSHD(t)
	// A login shell that knows neither exec nor sh.
	shell := filepath.Join(shortTemp(t), "odd")
	writeFile(t, shell, "#!/bin/sh\ncase $SSH_ORIGINAL_COMMAND in exec*) echo 'exec: unknown command' >&2; exit 1;; "+
		"internal-sftp) exec /usr/lib/openssh/sftp-server;; esac\nexec /bin/sh -c \"$SSH_ORIGINAL_COMMAND\"\n", 0o755)
	c := dial(t, newSSHD(t, "ForceCommand "+shell).target(), nil)
	testScript(t, c)
	if !c.noShell.Load() {
		t.Error("the odd shell was not noticed")
	}
}

func testScript(t *testing.T, c *Conn) {
	t.Helper()
	dir := filepath.Join(shortTemp(t), "a folder's $x")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "script")
	script := communicator.Script{
		Path: path, Mode: 0o750,
		Body: []byte("#!/bin/sh\necho out \"$V\"; echo err >&2; cat; cat \"${0%/*}/extra\"; umask\nstat -c %a \"$0\"; exit 7"),
		Extra: []communicator.ScriptFile{
			{Path: filepath.Join(dir, "extra"), Mode: 0o600, Body: []byte("bin\x00\xff\nno line end")},
			{Path: filepath.Join(dir, "empty"), Mode: 0o600},
		},
		Line: "env 'V=it is' \\\n'" + strings.ReplaceAll(path, "'", `'"'"'`) + "'",
	}
	var stdout, stderr bytes.Buffer
	script.Stdout, script.Stderr = &stdout, &stderr
	err := c.RunScript(testContext(t), script)
	var exit *communicator.ExitError
	if !errors.As(err, &exit) || exit.Status != 7 {
		t.Errorf("err = %v, stderr %q", err, stderr.String())
	}
	if want := "out it is\nerr\nbin\x00\xff\nno line end0022\n750\n"; strings.Replace(stdout.String(), "out it is\n", "out it is\nerr\n", 1) != want || stderr.String() != "err\n" {
		t.Errorf("stdout %q, stderr %q", stdout.String(), stderr.String())
	}
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}

	script.Keep, script.Line, script.Stderr = true, "exit 0", nil
	if err := c.RunScript(testContext(t), script); err != nil {
		t.Errorf("err = %v", err)
	}
	if got, err := os.ReadFile(path); err != nil || !bytes.Equal(got, script.Body) {
		t.Errorf("kept %q, %v", got, err)
	}

	script.Path = filepath.Join(dir, "no/folder")
	err = c.RunScript(testContext(t), script)
	var put *communicator.PutError
	if !errors.As(err, &put) || errors.As(err, &exit) && false {
		t.Errorf("a script that cannot be written: %v", err)
	}
}

func TestScriptNoiseOfStartUpFiles(t *testing.T) {
	c := dial(t, newSSHD(t, `ForceCommand echo hello; echo warning >&2; exec /bin/sh -c "$SSH_ORIGINAL_COMMAND"`).target(), nil)
	dir := shortTemp(t)
	var stdout, stderr bytes.Buffer
	err := c.RunScript(testContext(t), communicator.Script{
		Path: dir + "/s", Mode: 0o700, Body: []byte("echo x"), Line: "sh " + dir + "/s", Stdout: &stdout, Stderr: &stderr,
	})
	if err != nil || stdout.String() != "hello\nx\n" || stderr.String() != "warning\n" {
		t.Errorf("got %q %q %v", stdout.String(), stderr.String(), err)
	}
	writeFile(t, dir+"/f", "content\n", 0o644)
	stdout.Reset()
	if err := c.Get(testContext(t), dir+"/f", &stdout); err != nil || stdout.String() != "content\n" {
		t.Errorf("Get: %q %v", stdout.String(), err)
	}
}

func TestScriptThatEndsTheConnection(t *testing.T) {
	c := dial(t, newSSHD(t).target(), nil)
	dir := shortTemp(t)
	err := c.RunScript(testContext(t), communicator.Script{
		Path: dir + "/s", Mode: 0o700, Body: []byte("kill -9 $(ps -o ppid= -p $PPID)\nsleep 10"), Line: "exec sh " + dir + "/s",
	})
	var lost *communicator.DisconnectError
	if !errors.As(err, &lost) {
		t.Errorf("err = %v", err)
	}
}

func TestProgramsSurviveEveryShell(t *testing.T) {
	for _, text := range []string{putProgram, getProgram, removeProgram, scriptProgram, putTreeProgram, getTreeProgram} {
		if strings.ContainsAny(text, "'!\\\n") {
			t.Errorf("has a character that a login shell changes: %s", text)
		}
		if out, err := exec.CommandContext(t.Context(), "/bin/sh", "-n", "-c", text).CombinedOutput(); err != nil {
			t.Errorf("%v: %s\n%s", err, out, text)
		}
	}
}
