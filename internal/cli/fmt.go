package cli

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/rogpeppe/go-internal/diff"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/diag"
)

type fmtOptions struct{ check, diff, write, recursive bool }

// formatted are the endings of the files that fmt knows.
var formatted = []string{".pkr.hcl", ".pkrvars.hcl", ".ingot.hcl"}

func fmtCommand() *command {
	return &command{
		name:     "fmt",
		args:     "[PATH…]",
		synopsis: "format templates",
		about: `Rewrites templates and variable files in the canonical layout and prints the
			names of those that changed.

			PATH is a file, a folder, or - for the standard input, which is written to
			the standard output. Without one it is the current folder. Files ending in
			.pkr.hcl, .pkrvars.hcl and .ingot.hcl are formatted. With -check the exit
			code is 3 when a file is not formatted.`,
		prepare: func(a *app, f *flag.FlagSet) func(context.Context, []string) int {
			var o fmtOptions
			f.BoolVar(&o.check, "check", false, "change nothing; end with 3 when a file is to be changed")
			f.BoolVar(&o.diff, "diff", false, "print the changes")
			f.BoolVar(&o.write, "write", true, "write the files; =false leaves them as they are")
			f.BoolVar(&o.recursive, "recursive", false, "go into folders, too")
			return func(ctx context.Context, args []string) int {
				if len(args) == 0 {
					args = []string{"."}
				}
				for _, arg := range args {
					if len(arg) > 1 && arg[0] == '-' {
						return a.wrong("fmt", args, "files and folders")
					}
				}
				return a.fmt(ctx, args, o)
			}
		},
	}
}

func (a *app) fmt(ctx context.Context, paths []string, o fmtOptions) int {
	f := &formatter{app: a, opts: o}
	code := exitDone
	for _, p := range paths {
		if ctx.Err() != nil {
			return exitFailed
		}
		if err := f.path(p); err != nil {
			rep := a.report
			if p == "-" { // standard output is for the result
				errs := *rep
				errs.w, rep = a.Err, &errs
			}
			if list := (*diag.ListError)(nil); asError(err, &list) {
				rep.diagnostics(list.List, f.sources)
			} else {
				rep.error(err)
			}
			code = exitFailed
		}
	}
	if code == exitDone && f.changed && o.check {
		return exitChanges
	}
	return code
}

type formatter struct {
	*app
	opts    fmtOptions
	changed bool
	sources map[string][]byte
}

func (f *formatter) path(p string) error {
	if p == "-" {
		return f.stdin()
	}
	at := p
	if !filepath.IsAbs(at) {
		at = filepath.Join(f.Cwd, at)
	}
	st, err := os.Stat(at)
	if err != nil {
		return err
	}
	if st.IsDir() {
		return f.dir(at, p)
	}
	if !isFormatted(p) {
		return diag.WithHint(fmt.Errorf("%s is not a file that is formatted", p), "the name ends in one of %s", strings.Join(formatted, ", "))
	}
	return f.file(at, p)
}

func isFormatted(name string) bool {
	for _, s := range formatted {
		if strings.HasSuffix(name, s) {
			return true
		}
	}
	return false
}

// dir formats the files of a folder; shown is its name for the user. Hidden
// folders are passed over.
func (f *formatter) dir(at, shown string) error {
	entries, err := os.ReadDir(at)
	if err != nil {
		return err
	}
	var errs []error
	var list diag.List
	for _, e := range entries {
		name := e.Name()
		sub, show := filepath.Join(at, name), filepath.Join(shown, name)
		var err error
		switch {
		case strings.HasPrefix(name, "."):
		case e.IsDir():
			if f.opts.recursive {
				err = f.dir(sub, show)
			}
		case isFormatted(name):
			err = f.file(sub, show)
		}
		if l := (*diag.ListError)(nil); asError(err, &l) {
			list = append(list, l.List...)
		} else if err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(append(errs, list.Err())...)
}

func (f *formatter) file(at, shown string) error {
	src, err := os.ReadFile(at)
	if err != nil {
		return err
	}
	out, err := f.format(src, shown)
	if err != nil || bytes.Equal(src, out) {
		return err
	}
	f.changed = true
	f.report.say(shown)
	if f.opts.write && !f.opts.check {
		if err := rewrite(at, out); err != nil {
			return err
		}
	}
	if f.opts.diff {
		f.report.say(strings.TrimSuffix(string(diff.Diff("old/"+shown, src, "new/"+shown, out)), "\n"))
	}
	return nil
}

func (f *formatter) format(src []byte, shown string) ([]byte, error) {
	out, diags := hcl.FormatFile(src, shown)
	if diags.HasErrors() {
		if f.sources == nil {
			f.sources = map[string][]byte{}
		}
		f.sources[shown] = src
	}
	return out, diags.Err()
}

// rewrite keeps the mode of a file, and a link to it.
func rewrite(path string, data []byte) error {
	target, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err
	}
	mode := fs.FileMode(0o644)
	if st, err := os.Stat(target); err == nil {
		mode = st.Mode().Perm()
	}
	return atomicfile.Write(target, data, mode)
}

func (f *formatter) stdin() error {
	src, err := io.ReadAll(f.In)
	if err != nil {
		return fmt.Errorf("standard input: %w", err)
	}
	out, err := f.format(src, "<stdin>")
	if err != nil {
		return err
	}
	same := bytes.Equal(src, out)
	f.changed = f.changed || !same
	if f.opts.write && !f.opts.check && !f.opts.diff {
		_, err = f.Out.Write(out)
	}
	if f.opts.diff && !same {
		_, err = f.Out.Write(diff.Diff("old/<stdin>", src, "new/<stdin>", out))
	}
	return err
}
