package debootstrap

import (
	"archive/tar"
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/internal/event"
)

// ext4Features is spelled out so that neither the version nor the
// configuration of the host's mke2fs decides it: what the kernels and GRUB of
// every supported release read.
const ext4Features = "none,has_journal,ext_attr,resize_inode,dir_index,filetype,extent,64bit,flex_bg,sparse_super,large_file,huge_file,dir_nlink,extra_isize,metadata_csum"

// ext4 is a file system at an offset of a disk file.
type ext4 struct {
	disk   string
	offset int64 // bytes
	size   int64 // bytes
	id     identity
	epoch  int64
	env    []string
	out    event.Sink
	work   string
}

// make writes the file system with everything in t.
func (f *ext4) make(ctx context.Context, t *tree) error {
	cmd := exec.CommandContext(ctx, "mke2fs", "-q", "-F", "-t", "ext4", "-O", ext4Features,
		"-b", "4096", "-I", "256", "-m", "1", "-L", "root", "-U", f.id.fs,
		"-E", fmt.Sprintf("offset=%d,hash_seed=%s,lazy_itable_init=0,lazy_journal_init=0,nodiscard,root_owner=0:0", f.offset, f.id.hash),
		f.disk, fmt.Sprintf("%dk", f.size>>10))
	cmd.Env = f.env
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("mke2fs: %w: %s", err, bytes.TrimSpace(out))
	}
	if err := f.populate(ctx, t); err != nil {
		return err
	}
	check := exec.CommandContext(ctx, "e2fsck", "-f", "-n", f.device())
	check.Env = f.env
	if out, err := check.CombinedOutput(); err != nil {
		return fmt.Errorf("the new file system has faults: e2fsck: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// device names the file system for e2fsprogs.
func (f *ext4) device() string { return fmt.Sprintf("%s?offset=%d", f.disk, f.offset) }

// populate runs debugfs. It goes on after an error and succeeds all the same;
// what it says on stderr is the error.
func (f *ext4) populate(ctx context.Context, t *tree) error {
	script := filepath.Join(f.work, "debugfs.script")
	commands, err := writeScript(script, t, f.work, f.epoch)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "debugfs", "-w", "-f", script, f.device())
	cmd.Env = f.env
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start debugfs: %w", err)
	}
	sc := bufio.NewScanner(stdout)
	var done int64
	for sc.Scan() {
		if strings.HasPrefix(sc.Text(), "debugfs: ") {
			if done++; done%4096 == 0 {
				f.out.Emit(event.Progress{Task: "write file system", Done: done, Total: commands, Unit: "operations"})
			}
		}
	}
	_, _ = io.Copy(io.Discard, stdout)
	if err := cmd.Wait(); err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		return fmt.Errorf("debugfs: %w: %s", err, bytes.TrimSpace(stderr.Bytes()))
	}
	f.out.Emit(event.Progress{Task: "write file system", Done: commands, Total: commands, Unit: "operations"})
	var faults []string
	for line := range strings.Lines(stderr.String()) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "debugfs 1.") {
			faults = append(faults, line)
		}
	}
	if len(faults) > 0 {
		return fmt.Errorf("debugfs: %s", strings.Join(faults[:min(5, len(faults))], "; "))
	}
	return nil
}

// scriptWriter writes debugfs commands (debugfs(8)).
type scriptWriter struct {
	w     *bufio.Writer
	n     int64
	work  string
	attrs int
	epoch int64
	cwd   string
}

// writeScript writes the commands that make t, and returns how many.
func writeScript(name string, t *tree, work string, epoch int64) (int64, error) {
	file, err := os.Create(name)
	if err != nil {
		return 0, err
	}
	s := &scriptWriter{w: bufio.NewWriter(file), work: work, epoch: epoch, cwd: "-"}
	for _, n := range t.nodes {
		if n.kind == tar.TypeDir && n.path != "" {
			s.do("mkdir", "/"+n.path)
		}
	}
	for _, n := range t.nodes {
		if n.kind == tar.TypeDir {
			continue
		}
		s.enter(parent(n.path))
		if err = s.add(n); err != nil {
			break
		}
	}
	for _, n := range t.nodes { // last: making a name in a folder changes its times
		if n.kind == tar.TypeDir && err == nil {
			s.enter("")
			err = s.inode("/"+n.path, n, 0o040000)
		}
	}
	return s.n, errors.Join(err, s.w.Flush(), file.Close())
}

func (s *scriptWriter) do(args ...string) {
	for i, a := range args {
		if i > 0 {
			_ = s.w.WriteByte(' ')
		}
		_, _ = s.w.WriteString(quote(a))
	}
	_ = s.w.WriteByte('\n')
	s.n++
}

// quote writes an argument as libss reads it.
func quote(a string) string {
	if a != "" && !strings.ContainsAny(a, " \t\"") {
		return a
	}
	return `"` + strings.ReplaceAll(a, `"`, `""`) + `"`
}

// enter changes the folder: write and mknod make names in the current one only.
func (s *scriptWriter) enter(dir string) {
	if s.cwd != dir {
		s.cwd = dir
		s.do("cd", "/"+dir)
	}
}

func (s *scriptWriter) add(n *node) error {
	name := path.Base(n.path)
	switch n.kind {
	case tar.TypeReg:
		s.do("write", n.spool, name)
		return s.inode(name, n, 0o100000)
	case tar.TypeSymlink:
		s.do("symlink", name, n.link)
		return s.inode(name, n, 0o120000)
	case tar.TypeLink: // its file has the right count of names already
		s.do("ln", "/"+n.link, name)
		return nil
	case tar.TypeFifo:
		s.do("mknod", name, "p")
		return s.inode(name, n, 0o010000)
	case tar.TypeChar:
		s.do("mknod", name, "c", fmt.Sprint(n.major), fmt.Sprint(n.minor))
		return s.inode(name, n, 0o020000)
	case tar.TypeBlock:
		s.do("mknod", name, "b", fmt.Sprint(n.major), fmt.Sprint(n.minor))
		return s.inode(name, n, 0o060000)
	}
	return fmt.Errorf("%s has the unknown type %q", n.path, n.kind)
}

// inode sets owner, mode, times and attributes.
func (s *scriptWriter) inode(name string, n *node, format int64) error {
	mode := n.mode
	if n.kind == tar.TypeSymlink {
		mode = 0o777
	}
	s.do("sif", name, "mode", fmt.Sprintf("0%o", format|mode))
	if n.uid != 0 {
		s.do("sif", name, "uid", fmt.Sprint(n.uid))
	}
	if n.gid != 0 {
		s.do("sif", name, "gid", fmt.Sprint(n.gid))
	}
	if n.names != 1 && n.kind == tar.TypeReg {
		s.do("sif", name, "links_count", fmt.Sprint(n.names))
	}
	for i, attr := range sortedKeys(n.xattr) {
		value := filepath.Join(s.work, fmt.Sprintf("attr-%d-%d", s.attrs, i))
		if err := os.WriteFile(value, []byte(n.xattr[attr]), 0o600); err != nil {
			return err
		}
		s.do("ea_set", "-f", value, name, attr)
	}
	if len(n.xattr) > 0 {
		s.attrs++
	}
	for _, field := range []string{"atime", "ctime", "mtime", "crtime"} {
		when := n.mtime
		if field == "crtime" {
			when = s.epoch
		}
		s.do("sif", name, field, fmt.Sprintf("@%d", when))
	}
	return nil
}
