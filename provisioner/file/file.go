// Package file is the provisioner "file": it copies files and folders to the
// guest, or from it.
package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/internal/checkpoint"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/provisioner"
)

// Config is the options of the provisioner.
type Config struct {
	Content     string   `hcl:"content"`
	Source      string   `hcl:"source"`
	Sources     []string `hcl:"sources"`
	Destination string   `hcl:"destination"`
	Direction   string   `hcl:"direction"` // "upload" or "download"
	Generated   bool     `hcl:"generated"` // the sources come to be during the build
}

// The directions.
const (
	upload   = "upload"
	download = "download"
)

// Driver returns the provisioner "file".
func Driver() provisioner.Driver { return provisioner.NewDriver("file", open) }

type file struct{ cfg Config }

var _ provisioner.Provisioner = (*file)(nil)

func open(c Config) (provisioner.Provisioner, error) {
	if c.Direction == "" {
		c.Direction = upload
	}
	var errs []error
	n := 0
	for _, set := range []bool{c.Content != "", c.Source != "", len(c.Sources) > 0} {
		if set {
			n++
		}
	}
	if n != 1 {
		errs = append(errs, diag.Fieldsf([]string{"source", "sources", "content"}, "exactly one of source, sources and content must be set"))
	}
	if c.Destination == "" {
		errs = append(errs, diag.Fieldf("destination", "must be set"))
	}
	switch c.Direction {
	case upload:
		errs = append(errs, checkSources(c)...)
		if c.Content != "" && strings.HasSuffix(c.Destination, "/") {
			errs = append(errs, diag.Fieldsf([]string{"destination", "content"}, "must name a file, not a folder: content has no name of its own"))
		}
	case download:
		if c.Content != "" {
			errs = append(errs, diag.Fieldsf([]string{"content", "direction"}, "cannot be downloaded"))
		}
	default:
		errs = append(errs, diag.Fieldf("direction", "%q is neither upload nor download", c.Direction))
	}
	if c.Source != "" {
		c.Sources = []string{c.Source}
	}
	return &file{c}, errors.Join(errs...)
}

func checkSources(c Config) (errs []error) {
	if c.Generated {
		return nil
	}
	check := func(option, src string) {
		if _, err := os.Stat(src); err != nil {
			errs = append(errs, diag.WithHint(diag.Fieldf(option, "bad source %q: %w", src, err),
				"where the build itself makes it, set generated = true"))
		}
	}
	if c.Source != "" {
		check("source", c.Source)
	}
	for i, s := range c.Sources {
		check(fmt.Sprintf("sources[%d]", i), s)
	}
	return errs
}

// Key implements [provisioner.Provisioner]. Sources count by content, names
// below them and permissions. A download gives the zero key, because what it
// leaves on this machine is not part of the guest, as do generated sources,
// which are not there yet.
func (f *file) Key(ctx context.Context) (checkpoint.Key, error) {
	if f.cfg.Direction == download || f.cfg.Generated {
		return checkpoint.Key{}, nil
	}
	d := checkpoint.NewDigest("file.v1")
	d.Text(f.cfg.Destination)
	if f.cfg.Content != "" {
		d.Text("content", f.cfg.Content)
	}
	for _, src := range f.cfg.Sources {
		if err := digest(ctx, d, src, f.cfg.Destination); err != nil {
			return checkpoint.Key{}, fmt.Errorf("source: %w", err)
		}
	}
	return d.Key(), nil
}

func digest(ctx context.Context, d *checkpoint.Digest, src, dst string) error {
	fi, err := os.Stat(src)
	if err != nil {
		return err
	}
	if fi.IsDir() {
		if contentsOnly(src) {
			d.Text("contents")
		} else {
			d.Text("folder", baseName(src))
		}
		return digestTree(ctx, d, os.DirFS(src))
	}
	d.Text("file", remoteFile(dst, src), fi.Mode().Perm().String())
	r, err := os.Open(src)
	if err != nil {
		return err
	}
	defer r.Close()
	return d.Reader(r)
}

func digestTree(ctx context.Context, d *checkpoint.Digest, tree fs.FS) error {
	return fs.WalkDir(tree, ".", func(p string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		fi, err := e.Info()
		if err != nil {
			return err
		}
		d.Text(p, fi.Mode().String())
		switch {
		case fi.Mode()&fs.ModeSymlink != 0:
			to, err := fs.ReadLink(tree, p)
			if err != nil {
				return err
			}
			d.Text(to)
		case fi.Mode().IsRegular():
			r, err := tree.Open(p)
			if err != nil {
				return err
			}
			defer r.Close()
			return d.Reader(r)
		}
		return nil
	})
}

// Apply implements [provisioner.Provisioner].
func (f *file) Apply(ctx context.Context, g communicator.Guest, out event.Sink) error {
	if f.cfg.Content != "" {
		return putContent(ctx, g, out, f.cfg.Destination, f.cfg.Content)
	}
	for _, src := range f.cfg.Sources {
		var err error
		if f.cfg.Direction == download {
			err = get(ctx, g, out, src, f.cfg.Destination)
		} else {
			err = put(ctx, g, out, src, f.cfg.Destination)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// contentsOnly reports whether a folder's content is meant and not the folder:
// its path ends in a slash.
func contentsOnly(src string) bool {
	return strings.HasSuffix(src, "/") || strings.HasSuffix(src, string(filepath.Separator))
}

// baseName is the last element of a local path, "." and ".." made names.
func baseName(src string) string {
	if abs, err := filepath.Abs(src); err == nil {
		src = abs
	}
	return filepath.Base(src)
}

// remoteFile is where a single file goes.
func remoteFile(dst, src string) string {
	if strings.HasSuffix(dst, "/") {
		return dst + baseName(src)
	}
	return dst
}

// remoteJoin adds a name to a folder on the guest.
func remoteJoin(dst, name string) string {
	if strings.HasSuffix(dst, "/") {
		return dst + name
	}
	return path.Join(dst, name)
}
