package qemu

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/diag"
)

// workDir is the folder of the machine's files, on the output's file system.
func (m *machine) workDir(s *state) string {
	return filepath.Join(filepath.Dir(filepath.Clean(m.cfg.OutputDir)), s.Work)
}

// makeWork makes the folder of the machine's files anew.
func (m *machine) makeWork(ctx context.Context, r *builder.Run, s *state) error {
	s.Work = filepath.Base(filepath.Clean(m.cfg.OutputDir)) + "." + r.Token("output")
	if err := r.Save(); err != nil {
		return err
	}
	dir := m.workDir(s)
	if err := os.RemoveAll(dir); err != nil { // of this run's first try
		return err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return diag.WithHint(err, "the folder that output_directory lies in must be writable")
	}
	st, err := os.Stat(dir)
	if err != nil {
		return err
	}
	s.Inode = inode(st)
	if m.baseInfo.ActualSize > 0 && !m.cfg.UseBackingFile {
		return m.checkRoom(dir, m.baseInfo.ActualSize+leastRoom)
	}
	return nil
}

func inode(st fs.FileInfo) uint64 {
	if sys, ok := st.Sys().(*syscall.Stat_t); ok {
		return sys.Ino
	}
	return 0
}

func (m *machine) removeWork(_ context.Context, _ *builder.Run, s *state) error {
	if s.Work == "" {
		return nil
	}
	return os.RemoveAll(m.workDir(s))
}

// publish makes the work folder the output folder. What was there (with
// -force) is replaced in the same moment.
func (m *machine) publish(_ context.Context, r *builder.Run, s *state) error {
	work, out := m.workDir(s), filepath.Clean(m.cfg.OutputDir)
	s.Published = true
	if err := r.Save(); err != nil {
		return err
	}
	if m.isOurs(out, s) { // before a crash
		return os.RemoveAll(work)
	}
	if err := atomicfile.SyncDir(work); err != nil {
		return err
	}
	err := unix.Renameat2(unix.AT_FDCWD, work, unix.AT_FDCWD, out, unix.RENAME_NOREPLACE)
	if errors.Is(err, unix.EEXIST) {
		if !m.info.Force {
			return diag.WithHint(fmt.Errorf("the output folder %s has appeared meanwhile", out), "remove it and build again, or use -force")
		}
		err = m.replace(work, out)
	} else if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		err = os.Rename(work, out) // a file system without the flag; an empty folder at most is replaced
	}
	if err != nil {
		return fmt.Errorf("move the image into place: %w", err)
	}
	return atomicfile.SyncDir(filepath.Dir(out))
}

func (m *machine) replace(work, out string) error {
	err := unix.Renameat2(unix.AT_FDCWD, work, unix.AT_FDCWD, out, unix.RENAME_EXCHANGE)
	if err == nil {
		return os.RemoveAll(work) // the old one
	}
	if !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOSYS) {
		return err
	}
	old := work + ".old"
	if err := os.Rename(out, old); err != nil {
		return err
	}
	if err := os.Rename(work, out); err != nil {
		return errors.Join(err, os.Rename(old, out))
	}
	return os.RemoveAll(old)
}

// isOurs reports whether out is the folder this build made.
func (m *machine) isOurs(out string, s *state) bool {
	st, err := os.Stat(out)
	return err == nil && s.Inode != 0 && inode(st) == s.Inode
}

// unpublish removes an output folder that this build made and nobody was told
// of.
func (m *machine) unpublish(_ context.Context, _ *builder.Run, s *state) error {
	if out := filepath.Clean(m.cfg.OutputDir); s.Published && m.isOurs(out, s) {
		return os.RemoveAll(out)
	}
	return nil
}

// files lists the output folder, as paths that begin with output_directory.
func (m *machine) files() ([]string, error) {
	var out []string
	err := filepath.WalkDir(m.cfg.OutputDir, func(p string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() && !(m.cfg.EFIDropVars && d.Name() == efiVarsName) {
			out = append(out, p)
		}
		return err
	})
	sort.Strings(out)
	return out, err
}
