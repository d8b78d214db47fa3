package builder

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
)

var tokenAtEnd = regexp.MustCompile(`^(.+)\.(ingot-[0-9a-f]{24})$`)

// FindFolders finds folders in dirs whose names are prefix, a name, a dot and
// the [Run.Token] of tokenOf: scratch folders of builds that make files.
func FindFolders(dirs []string, prefix, tokenOf string) ([]Find, error) {
	var out []Find
	var errs []error
	for _, dir := range dirs {
		list, err := os.ReadDir(dir)
		if err != nil {
			if !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, err)
			}
			continue
		}
		for _, e := range list {
			m := tokenAtEnd.FindStringSubmatch(e.Name())
			if m == nil || !e.IsDir() || !strings.HasPrefix(m[1], prefix) || prefix == "" && strings.HasPrefix(m[1], ".") {
				continue
			}
			path := filepath.Join(dir, e.Name())
			f := Find{
				Thing: Thing{Kind: "folder", ID: path}, Token: m[2], TokenOf: tokenOf,
				Remove: func(context.Context) error { return os.RemoveAll(path) },
			}
			if info, err := e.Info(); err == nil {
				f.Since = info.ModTime()
			}
			out = append(out, f)
		}
	}
	return out, errors.Join(errs...)
}
