package ansiblelocal

import (
	"bytes"
	"context"
	"io/fs"
	"os"
	"path"
	"path/filepath"
)

// A file is one thing on its way to the staging folder.
type file struct {
	dst  string
	mode fs.FileMode
	link string // where a symbolic link leads
	body []byte
}

func (f file) named(s string) bool { return bytes.Contains(f.body, []byte(s)) }

// walk calls do for everything of an item, folders before what is in them.
func walk(ctx context.Context, it item, do func(file) error) error {
	root, err := filepath.EvalSymlinks(it.src)
	if err != nil {
		return err
	}
	return filepath.WalkDir(root, func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		rel, err := filepath.Rel(root, p)
		if err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		f := file{dst: path.Join(it.dst, filepath.ToSlash(rel)), mode: fi.Mode()}
		switch {
		case fi.Mode()&fs.ModeSymlink != 0:
			f.link, err = os.Readlink(p)
		case fi.Mode().IsRegular():
			f.body, err = os.ReadFile(p)
		case !fi.IsDir():
			return nil // sockets and the like are not for the guest
		}
		if err != nil {
			return err
		}
		return do(f)
	})
}

// gather lays the staging folder out in dir, so that it travels as one tree.
func (l *local) gather(ctx context.Context, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	put := func(f file) error {
		if err := root.MkdirAll(path.Dir(f.dst), 0o755); err != nil {
			return err
		}
		switch {
		case f.mode.IsDir():
			return root.MkdirAll(f.dst, 0o755)
		case f.link != "":
			_ = root.Remove(f.dst) // a later item replaces an earlier one
			return root.Symlink(f.link, f.dst)
		}
		_ = root.Remove(f.dst)
		return root.WriteFile(f.dst, f.body, f.mode.Perm()|0o400)
	}
	for _, it := range l.items {
		if err := walk(ctx, it, put); err != nil {
			return err
		}
	}
	if l.cfg.InventoryFile != "" {
		return nil
	}
	return put(file{dst: inventoryName, mode: 0o644, body: []byte(l.inventoryText())})
}
