package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/localshell/script"
)

// get downloads what src names on the guest, as scp does: a path that ends in
// a slash is a folder, which is made inside dst; one with *, ? or [ is a
// pattern, whose matches come into dst; any other is a file.
func get(ctx context.Context, g communicator.Guest, out event.Sink, src, dst string) error {
	out.Emit(event.Say{Text: fmt.Sprintf("Downloading %s => %s", src, dst)})
	dir := dst
	isDir := strings.HasSuffix(dst, "/")
	if !isDir {
		dir = filepath.Dir(dst)
	}
	err := os.MkdirAll(dir, 0o755)
	switch {
	case err != nil:
	case strings.ContainsAny(src, "*?["):
		err = getMatches(ctx, g, out, src, dst)
	case strings.HasSuffix(src, "/"):
		err = getTree(ctx, g, src, dst)
	case isDir:
		err = getInto(ctx, g, out, src, dst)
	default:
		err = getFile(ctx, g, out, src, dst)
	}
	if err != nil {
		return fmt.Errorf("download %s to %s: %w", src, dst, err)
	}
	return nil
}

// getFile writes the guest's file to dst, wholly or not at all.
func getFile(ctx context.Context, g communicator.Guest, out event.Sink, src, dst string) error {
	if to, err := filepath.EvalSymlinks(dst); err == nil {
		dst = to // what a link leads to is written, not the link
	}
	m := event.NewMeter(out, "download "+src, 0)
	fill := func(w io.Writer) error { return g.Get(ctx, src, m.Writer(ctx, w)) }
	fi, err := os.Stat(dst)
	mode := fs.FileMode(0o644)
	switch {
	case err == nil && fi.IsDir():
		return diag.WithHint(fmt.Errorf("%s is a folder", dst), "end the destination with a slash to download into it")
	case err == nil && !fi.Mode().IsRegular():
		err = writeDevice(dst, fill)
	case err == nil:
		mode = fi.Mode().Perm()
		fallthrough
	default:
		err = atomicfile.WriteTo(dst, mode, fill)
	}
	if err != nil {
		return err
	}
	m.End()
	return nil
}

// writeDevice is for what cannot be replaced: a pipe, /dev/stdout.
func writeDevice(dst string, fill func(io.Writer) error) error {
	f, err := os.OpenFile(dst, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	return errors.Join(fill(f), f.Close())
}

// getInto downloads a file whose name the guest had a say in into dst. A link
// that an earlier download left there is not followed out of dst.
func getInto(ctx context.Context, g communicator.Guest, out event.Sink, src, dst string) error {
	name := path.Base(src)
	if !filepath.IsLocal(name) || name == "." {
		return fmt.Errorf("the guest's %q has no name to keep it under", src)
	}
	root, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer root.Close()
	part := "." + name + ".part"
	f, err := root.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	m := event.NewMeter(out, "download "+src, 0)
	err = errors.Join(g.Get(ctx, src, m.Writer(ctx, f)), f.Close())
	if err == nil {
		err = root.Rename(part, name)
	}
	if err != nil {
		return errors.Join(err, root.Remove(part))
	}
	m.End()
	return nil
}

// getTree downloads a folder into dst, under its own name.
func getTree(ctx context.Context, g communicator.Guest, src, dst string) error {
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return err
	}
	name := path.Base(src)
	if src = strings.TrimRight(src, "/"); src == "" {
		return g.GetTree(ctx, "/", dst)
	}
	if !filepath.IsLocal(name) || name == "." {
		return g.GetTree(ctx, src, dst)
	}
	root, err := os.OpenRoot(dst)
	if err != nil {
		return err
	}
	defer root.Close()
	if fi, err := root.Lstat(name); err == nil && fi.Mode()&fs.ModeSymlink != 0 {
		return fmt.Errorf("%s is a link", filepath.Join(dst, name))
	}
	if err := root.Mkdir(name, 0o755); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return g.GetTree(ctx, src, filepath.Join(dst, name))
}

// getMatches downloads every file and folder that pattern names.
func getMatches(ctx context.Context, g communicator.Guest, out event.Sink, pattern, dst string) error {
	if err := os.MkdirAll(dst, 0o755); err != nil {
		return err
	}
	found, err := list(ctx, g, pattern)
	if err != nil {
		return err
	}
	if len(found) == 0 {
		return fmt.Errorf("nothing on the guest matches: %w", fs.ErrNotExist)
	}
	for _, f := range found {
		if f.dir {
			err = getTree(ctx, g, f.path, dst)
		} else {
			err = getInto(ctx, g, out, f.path, dst)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", f.path, err)
		}
	}
	return nil
}

type match struct {
	path string
	dir  bool
}

// maxList bounds what a guest may answer to a pattern, in bytes.
const maxList = 4 << 20

// list asks the guest's shell what a pattern names.
func list(ctx context.Context, g communicator.Guest, pattern string) ([]match, error) {
	var answer limited
	line := `for f in ` + quotePattern(strings.TrimRight(pattern, "/")) +
		`; do if [ -d "$f" ]; then printf 'd%s\0' "$f"; elif [ -e "$f" ]; then printf 'f%s\0' "$f"; fi; done`
	// The login shell may be another than sh.
	if err := g.Run(ctx, communicator.Cmd{Line: "sh -c " + script.Quote(line), Stdout: &answer}); err != nil {
		return nil, err
	}
	if answer.over {
		return nil, errors.New("the guest names too many files")
	}
	var out []match
	for _, rec := range strings.Split(answer.buf.String(), "\x00") {
		if len(rec) < 2 {
			continue
		}
		out = append(out, match{path: rec[1:], dir: rec[0] == 'd'})
	}
	return out, nil
}

// quotePattern quotes everything but what makes the pattern.
func quotePattern(p string) string {
	var b strings.Builder
	if rest, ok := strings.CutPrefix(p, "~/"); ok {
		b.WriteString("~/")
		p = rest
	}
	for p != "" {
		i := strings.IndexAny(p, "*?[]!^-")
		if i < 0 {
			b.WriteString(quoteWord(p))
			break
		}
		if i > 0 {
			b.WriteString(quoteWord(p[:i]))
		}
		b.WriteByte(p[i])
		p = p[i+1:]
	}
	return b.String()
}

func quoteWord(s string) string { return `'` + strings.ReplaceAll(s, `'`, `'"'"'`) + `'` }

// A limited buffer drops what is over maxList.
type limited struct {
	buf  bytes.Buffer
	over bool
}

func (l *limited) Write(p []byte) (int, error) {
	if l.buf.Len()+len(p) > maxList {
		l.over = true
		return len(p), nil
	}
	return l.buf.Write(p)
}
