package ssh

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"testing/fstest"

	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/secret"
)

// ways are the configurations under which every file operation has to work.
func ways(t *testing.T, test func(t *testing.T, s *sshd, c *Conn)) {
	t.Helper()
	needSSHD(t)
	busybox := shortTemp(t)
	for _, tool := range []string{"sh", "tar", "gzip", "gunzip", "zcat", "cat", "head", "mkdir", "chmod", "rm"} {
		_ = os.Symlink("/bin/busybox", filepath.Join(busybox, tool))
	}
	notar := shortTemp(t)
	for _, tool := range []string{"sh", "cat", "head", "mkdir", "chmod", "rm"} {
		_ = os.Symlink("/bin/"+tool, filepath.Join(notar, tool))
	}
	sftpOnly := func(cfg *communicator.Config) { cfg.SSHFileTransferMethod = "sftp" }
	const sftpToo = `ForceCommand if [ "$SSH_ORIGINAL_COMMAND" = internal-sftp ]; then exec /usr/lib/openssh/sftp-server; fi; `
	for name, w := range map[string]struct {
		extra  []string
		change func(*communicator.Config)
	}{
		"scp":         {},
		"sftp":        {change: sftpOnly},
		"sftp server": {extra: []string{"ForceCommand internal-sftp"}},
		"busybox":     {extra: []string{sftpToo + "export PATH=" + busybox + `; exec sh -c "$SSH_ORIGINAL_COMMAND"`}},
		"no tar":      {extra: []string{sftpToo + "export PATH=" + notar + `; exec sh -c "$SSH_ORIGINAL_COMMAND"`}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := os.Stat("/bin/busybox"); name == "busybox" && err != nil {
				t.Skip("needs busybox")
			}
			s := newSSHD(t, w.extra...)
			test(t, s, dial(t, s.target(), w.change))
		})
	}
}

func TestPutAndGet(t *testing.T) {
	ways(t, func(t *testing.T, s *sshd, c *Conn) {
		ctx := testContext(t)
		dir := shortTemp(t)
		big := bytes.Repeat([]byte("0123456789\x00\xff\n"), 1<<17)
		for _, name := range []string{"plain", "with 'quotes\" $HOME `x`; \\ !*?", "-rf", "line\nend", "ümläut"} {
			for _, body := range [][]byte{big, []byte("short"), nil} {
				dst := filepath.Join(dir, name)
				if err := c.Put(ctx, dst, 0o741, bytes.NewReader(body), int64(len(body))); err != nil {
					t.Fatalf("%q: %v", name, err)
				}
				info, err := os.Stat(dst)
				if err != nil || info.Mode() != 0o741 {
					t.Errorf("%q: %v %v", name, info, err)
				}
				var back bytes.Buffer
				if err := c.Get(ctx, dst, &back); err != nil || !bytes.Equal(back.Bytes(), body) {
					t.Errorf("%q: %d bytes came back of %d: %v", name, back.Len(), len(body), err)
				}
			}
		}
		err := c.Put(ctx, filepath.Join(dir, "no/such/folder"), 0o644, strings.NewReader("x"), 1)
		var put *communicator.PutError
		if !errors.As(err, &put) || diag.Hint(err) == "" {
			t.Errorf("err = %v", err)
		}
		if err := c.Get(ctx, filepath.Join(dir, "missing"), io.Discard); err == nil || !strings.Contains(strings.ToLower(err.Error()), "no such file") && !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("err = %v", err)
		}
		broken := errors.New("cannot be read")
		if err := c.Put(ctx, filepath.Join(dir, "x"), 0o644, io.MultiReader(strings.NewReader("x"), errReader{broken}), -1); !errors.Is(err, broken) {
			t.Errorf("a source that breaks: %v", err)
		}
		if err := c.Put(ctx, filepath.Join(dir, "x"), 0o644, strings.NewReader("x"), 2); err == nil {
			t.Error("a source that is too short was taken")
		}
		if err := c.Get(ctx, filepath.Join(dir, "plain"), writerFunc(func([]byte) (int, error) { return 0, broken })); err != nil {
			t.Errorf("an empty file: %v", err)
		}
		_ = os.WriteFile(filepath.Join(dir, "plain"), big, 0o600)
		if err := c.Get(ctx, filepath.Join(dir, "plain"), writerFunc(func([]byte) (int, error) { return 0, broken })); !errors.Is(err, broken) {
			t.Errorf("a destination that breaks: %v", err)
		}
		cancelled, cancel := context.WithCancelCause(ctx)
		err = c.Put(cancelled, filepath.Join(dir, "endless"), 0o644, readerFunc(func(p []byte) (int, error) {
			cancel(broken)
			return len(p), nil
		}), -1)
		if !errors.Is(err, broken) {
			t.Errorf("cancelled: %v", err)
		}
	})
}

func TestHome(t *testing.T) {
	s := newSSHD(t)
	c := dial(t, s.target(), nil)
	for i, name := range []string{"~/f", "$HOME/f", "${HOME}/f"} {
		if err := c.Put(testContext(t), name, 0o600, strings.NewReader(name), -1); err != nil {
			t.Fatal(err)
		}
		if got, err := os.ReadFile(filepath.Join(s.home(), "f")); err != nil || string(got) != name {
			t.Errorf("%d: %q %v", i, got, err)
		}
	}
}

func TestPutTree(t *testing.T) {
	ways(t, func(t *testing.T, s *sshd, c *Conn) {
		src, dst := shortTemp(t), filepath.Join(shortTemp(t), "made/for it")
		long := strings.Repeat("long/", 40) + strings.Repeat("x", 150)
		for _, name := range []string{"a", "sub/exec", "-x/'q'", long} {
			writeFile(t, filepath.Join(src, name), "content of "+name, 0o640)
		}
		writeFile(t, filepath.Join(src, "there/kept"), "new", 0o755)
		writeFile(t, filepath.Join(src, "linked/file"), "new", 0o600)
		_ = os.Chmod(filepath.Join(src, "sub"), 0o750)
		_ = os.Mkdir(filepath.Join(src, "empty"), 0o711)
		for to, name := range map[string]string{"a": "link", "/nowhere": "dangling"} {
			if err := os.Symlink(to, filepath.Join(src, name)); err != nil {
				t.Fatal(err)
			}
		}
		// What is on the guest stays as it is where the tree says nothing.
		writeFile(t, filepath.Join(dst, "there/own"), "own", 0o600)
		_ = os.Chmod(filepath.Join(dst, "there"), 0o1777)
		_ = os.Chmod(dst, 0o700)
		_ = os.Mkdir(filepath.Join(dst, "elsewhere"), 0o755)
		_ = os.Symlink("elsewhere", filepath.Join(dst, "linked"))
		var done atomic.Int64
		for range 2 { // the second time everything is there
			if err := c.PutTree(testContext(t), dst, os.DirFS(src), done.Store); err != nil {
				t.Fatal(err)
			}
		}
		if done.Load() == 0 {
			t.Error("no progress")
		}
		want := listing(t, src)
		for name, line := range listing(t, dst) {
			switch {
			case want[name] == line:
			case name == "there" || name == "there/own" || name == "linked" || strings.HasPrefix(name, "elsewhere"):
			default:
				t.Errorf("%s is %q, not %q", name, line, want[name])
			}
			delete(want, name)
		}
		delete(want, "linked/file")
		if len(want) > 0 {
			t.Errorf("missing: %v", want)
		}
		info, _ := os.Stat(filepath.Join(dst, "there"))
		if got, _ := os.ReadFile(filepath.Join(dst, "elsewhere/file")); string(got) != "new" || info.Mode().Perm() != 0o777 {
			t.Errorf("a link to a folder, or a folder's mode, was replaced: %q %v", got, info.Mode())
		}
	})
}

func TestGetTree(t *testing.T) {
	ways(t, func(t *testing.T, s *sshd, c *Conn) {
		src, dst := filepath.Join(shortTemp(t), "the source"), filepath.Join(shortTemp(t), "new")
		for _, name := range []string{"a", "sub/b", "sub/deep/'c'", strings.Repeat("long/", 40) + "x"} {
			writeFile(t, filepath.Join(src, name), "content of "+name, 0o640)
		}
		_ = os.Symlink("/etc/passwd", filepath.Join(src, "outside"))
		_ = os.Chmod(filepath.Join(src, "sub"), 0o711)
		for range 2 {
			if err := c.GetTree(testContext(t), src, dst); err != nil {
				t.Fatal(err)
			}
		}
		want, got := listing(t, src), listing(t, dst)
		for name := range want {
			if want[name] != got[name] {
				t.Errorf("%s is %q, not %q", name, got[name], want[name])
			}
		}
		if err := c.GetTree(testContext(t), filepath.Join(src, "missing"), dst); err == nil {
			t.Error("a folder that is missing was read")
		}
	})
}

func listing(t *testing.T, root string) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir(root, func(name string, d fs.DirEntry, err error) error {
		if err != nil || name == root {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			b, _ := os.ReadFile(name)
			line += " " + string(b)
		case info.Mode()&fs.ModeSymlink != 0:
			to, _ := os.Readlink(name)
			line += " " + to
		}
		rel, _ := filepath.Rel(root, name)
		out[rel] = line
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestPutTreeFromMemoryAndItsFaults(t *testing.T) {
	c := dial(t, newSSHD(t).target(), nil)
	dst := shortTemp(t)
	if err := c.PutTree(testContext(t), dst, fstest.MapFS{"x/y": {Data: []byte("z"), Mode: 0o644}}, nil); err != nil {
		t.Error(err)
	}
	if got, _ := os.ReadFile(dst + "/x/y"); string(got) != "z" {
		t.Errorf("got %q", got)
	}
	writeFile(t, dst+"/file", "", 0o644)
	err := c.PutTree(testContext(t), dst+"/file", fstest.MapFS{"x": {}}, nil)
	var put *communicator.PutError
	if !errors.As(err, &put) {
		t.Errorf("a folder that is a file: %v", err)
	}
}

// A server that ends the session without a status, or refuses commands, must
// not be taken for a success.
func TestServersThatMisbehave(t *testing.T) {
	t.Parallel()
	s := newGoServer(t, onlyPassword("pw"))
	target := s.target()
	target.Password = secret.New("pw")
	var lost *communicator.DisconnectError
	s.execs = func(ch gossh.Channel, req *gossh.Request) {
		_ = req.Reply(true, nil)
		_, _ = io.WriteString(ch, "partial")
		_ = ch.Close()
	}
	c := dial(t, target, nil)
	if out, _, err := output(t, c, "x"); !errors.As(err, &lost) || out != "partial" {
		t.Errorf("no status: %q %v", out, err)
	}
	if err := c.Get(testContext(t), "/x", io.Discard); !errors.As(err, &lost) {
		t.Errorf("Get without a status: %v", err)
	}
	if err := c.RunScript(testContext(t), communicator.Script{Path: "/tmp/x"}); !errors.As(err, &lost) {
		t.Errorf("RunScript without a status: %v", err)
	}
	_ = c.Close()

	s = newGoServer(t, onlyPassword("pw"))
	s.execs = func(_ gossh.Channel, req *gossh.Request) { _ = req.Reply(false, nil) }
	target = s.target()
	target.Password = secret.New("pw")
	c = dial(t, target, nil)
	if _, _, err := output(t, c, "hidden word"); err == nil || strings.Contains(err.Error(), "hidden") {
		t.Errorf("commands refused: %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
