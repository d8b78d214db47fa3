// Package media makes the removable media that files are handed to a guest
// on: a floppy disk and a compact disc.
package media

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// A Source says what goes onto a medium. Paths are local; files take their
// base names in the medium's root.
type Source struct {
	Files   []string          // files and globs; what a folder among them means is Flat's to say
	Dirs    []string          // folders and globs, kept with their structure; with a trailing slash only their content
	Content map[string]string // names on the medium, with slashes, and what they hold
	Flat    bool              // a folder in Files stands for its files, all in the root; else it is as in Dirs
}

// Empty reports whether there is nothing to put on the medium.
func (s Source) Empty() bool { return len(s.Files)+len(s.Dirs)+len(s.Content) == 0 }

// entry is one file to be on the medium.
type entry struct {
	local   string // path, "" when content holds it
	content string
}

func (e entry) open() (io.ReadCloser, error) {
	if e.local == "" {
		return io.NopCloser(strings.NewReader(e.content)), nil
	}
	return os.Open(e.local)
}

// Check reports the paths that do not exist and the patterns that nothing
// fits, all of them.
func (s Source) Check() error {
	_, err := s.entries()
	return err
}

// entries returns the files by their names on the medium. Links are followed.
func (s Source) entries() (map[string]entry, error) {
	out := map[string]entry{}
	var errs []error
	for i, list := range [][]string{s.Files, s.Dirs} {
		for _, pattern := range list {
			errs = append(errs, addPattern(out, pattern, i == 0 && s.Flat))
		}
	}
	for name, text := range s.Content {
		clean := strings.TrimPrefix(path.Clean("/"+filepath.ToSlash(name)), "/")
		if clean == "" {
			errs = append(errs, fmt.Errorf("%q is not a file name", name))
			continue
		}
		out[clean] = entry{content: text}
	}
	return out, errors.Join(errs...)
}

func addPattern(out map[string]entry, pattern string, flat bool) error {
	paths := []string{pattern}
	if _, err := os.Stat(pattern); err != nil {
		var gerr error
		if paths, gerr = filepath.Glob(pattern); gerr != nil {
			return fmt.Errorf("%s: %w", pattern, gerr)
		}
		if len(paths) == 0 {
			return err
		}
	}
	for _, p := range paths {
		prefix := path.Base(filepath.ToSlash(filepath.Clean(p)))
		if strings.HasSuffix(pattern, "/") || prefix == "." || prefix == ".." {
			prefix = ""
		}
		if err := addTree(out, p, prefix, flat); err != nil {
			return err
		}
	}
	return nil
}

func addTree(out map[string]entry, p, name string, flat bool) error {
	st, err := os.Stat(p) // follows links
	if err != nil {
		return err
	}
	if !st.IsDir() {
		if !st.Mode().IsRegular() {
			return fmt.Errorf("%s is not a regular file", p)
		}
		if flat || name == "" {
			name = filepath.Base(p)
		}
		out[name] = entry{local: p}
		return nil
	}
	list, err := os.ReadDir(p)
	if err != nil {
		return err
	}
	if len(strings.Split(name, "/")) > 64 {
		return fmt.Errorf("%s: folders are nested too deeply, or a link leads back to them", p)
	}
	for _, e := range list {
		if err := addTree(out, filepath.Join(p, e.Name()), path.Join(name, e.Name()), flat); err != nil {
			return err
		}
	}
	return nil
}

// names returns the names of the entries and of all their folders, each folder
// before what is in it.
func names(entries map[string]entry) (files, dirs []string) {
	seen := map[string]bool{}
	for n := range entries {
		for d := path.Dir(n); d != "."; d = path.Dir(d) {
			seen[d] = true
		}
	}
	return slices.Sorted(maps.Keys(entries)), slices.Sorted(maps.Keys(seen))
}

// exists is a fault in what was to be a new file.
func exists(p string) error {
	if _, err := os.Lstat(p); err == nil {
		return fmt.Errorf("%s: %w", p, fs.ErrExist)
	}
	return nil
}
