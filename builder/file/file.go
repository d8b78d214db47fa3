// Package file is the builder "file": its artifact is one file, copied or
// written. It is for trying out provisioners and post-processors.
package file

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
)

// BuilderID is Packer's id of what this makes.
const BuilderID = "packer.file"

// targetMode is the mode of the file made.
const targetMode = 0o600

// Config is the options of the builder.
type Config struct {
	Source  string `hcl:"source"`
	Content string `hcl:"content"`
	Target  string `hcl:"target"`
}

// Driver returns the builder "file".
func Driver() builder.Driver {
	d := builder.NewDriver("file", open)
	d.Reopen = reopen
	return d
}

// A state is what a run has done.
type state struct {
	Looked   bool     `json:"looked,omitempty"`   // the two below are known
	Dirs     []string `json:"dirs,omitempty"`     // folders above the target that were not there, the outermost first
	Previous bool     `json:"previous,omitempty"` // something was at the target

	stays bool // the target could not be removed
}

// A build is one build of the file.
type build struct {
	Config
	base string // what relative folders in the state are in, "" for the working directory
}

func open(c Config, _ builder.Info) (builder.Builder, error) {
	var errs []error
	if c.Target == "" {
		errs = append(errs, diag.Fieldf("target", "must be set"))
	}
	if c.Source != "" && c.Content != "" {
		errs = append(errs, diag.Fieldsf([]string{"source", "content"}, "only one of source and content may be set"))
	}
	return build{Config: c}.machine(), errors.Join(errs...)
}

func (b build) machine() *builder.Machine[state] {
	return &builder.Machine[state]{
		Checks: b.check,
		Boots: []builder.Step[state]{
			{Name: "make-folder", Do: b.makeDirs, Undo: b.removeDirs},
			{Name: "set-aside", Do: b.setAside, Undo: b.putBack},
			{Name: "write", Do: b.write, Undo: b.remove, Product: true},
		},
		Connect: connect,
		Result:  b.result,
		Where:   b.where,
		Holds:   b.holds,
		Intends: b.intent,
	}
}

func (b build) check(context.Context) error {
	if fi, err := os.Stat(b.Target); err == nil && fi.IsDir() {
		return diag.WithHint(fmt.Errorf("target %s is a folder", b.Target), "name a file")
	}
	if b.Source == "" {
		return nil
	}
	fi, err := os.Stat(b.Source)
	if err != nil {
		return fmt.Errorf("source: %w", err)
	}
	if fi.IsDir() {
		return fmt.Errorf("source %s is a folder", b.Source)
	}
	if t, err := os.Stat(b.Target); err == nil && os.SameFile(fi, t) {
		return diag.WithHint(fmt.Errorf("target %s is the source", b.Target), "name another file")
	}
	return nil
}

func (b build) intent() builder.Intent {
	out := builder.Intent{Name: b.Target}
	if _, err := os.Lstat(b.Target); err == nil {
		out.Replaces = []string{b.Target}
	}
	return out
}

func (b build) makeDirs(_ context.Context, r *builder.Run, s *state) error {
	if !s.Looked {
		if err := b.look(s); err != nil {
			return err
		}
		if err := r.Save(); err != nil {
			return err
		}
	}
	return os.MkdirAll(filepath.Dir(b.Target), 0o755)
}

// look notes what was there before the build.
func (b build) look(s *state) error {
	s.Dirs = nil
	for d := filepath.Dir(b.Target); ; d = filepath.Dir(d) {
		_, err := os.Stat(d)
		if err == nil || d == filepath.Dir(d) {
			break
		}
		if !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		s.Dirs = append([]string{d}, s.Dirs...)
	}
	_, err := os.Lstat(b.Target)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	s.Previous, s.Looked = err == nil, true
	return nil
}

// removeDirs removes the folders that are empty: that of a kept target is not.
func (b build) removeDirs(_ context.Context, _ *builder.Run, s *state) error {
	for i := len(s.Dirs) - 1; i >= 0; i-- {
		dir := s.Dirs[i]
		if !filepath.IsAbs(dir) {
			dir = filepath.Join(b.base, dir)
		}
		if err := os.Remove(dir); err != nil && !errors.Is(err, fs.ErrNotExist) {
			left, rerr := os.ReadDir(dir)
			if rerr == nil && len(left) > 0 {
				return nil
			}
			return err
		}
	}
	return nil
}

// aside is where a file that was at the target waits for the end of the build.
func (b build) aside(r *builder.Run) string {
	return filepath.Join(filepath.Dir(b.Target), "."+filepath.Base(b.Target)+"."+r.Token("previous"))
}

// setAside moves away what was at the target before the build.
func (b build) setAside(_ context.Context, r *builder.Run, s *state) error {
	if !s.Previous {
		return nil
	}
	if _, err := os.Lstat(b.aside(r)); err == nil {
		return nil // done before a crash; what is at the target now is ours
	}
	if err := os.Rename(b.Target, b.aside(r)); err != nil {
		return err
	}
	return atomicfile.SyncDir(filepath.Dir(b.Target))
}

// putBack ends what setAside began: a kept target takes the place of what was
// there, and without one everything is as before.
func (b build) putBack(_ context.Context, r *builder.Run, s *state) error {
	if !s.Previous {
		return nil
	}
	if s.stays {
		return fmt.Errorf("what was at %s before is in %s", b.Target, b.aside(r))
	}
	_, err := os.Lstat(b.Target)
	switch {
	case err == nil:
		err = os.Remove(b.aside(r))
	case errors.Is(err, fs.ErrNotExist):
		err = os.Rename(b.aside(r), b.Target)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (b build) write(ctx context.Context, r *builder.Run, _ *state) error {
	src := io.Reader(strings.NewReader(b.Content))
	if b.Source != "" {
		f, err := os.Open(b.Source)
		if err != nil {
			return err
		}
		defer f.Close()
		r.Say("Copying %s to %s", b.Source, b.Target)
		src = f
	} else if b.Content == "" {
		r.Say("Neither source nor content is set: %s will be empty", b.Target)
	}
	var n int64
	err := atomicfile.WriteTo(b.Target, targetMode, func(w io.Writer) (err error) {
		n, err = io.Copy(w, readerFunc(func(p []byte) (int, error) {
			if err := context.Cause(ctx); err != nil {
				return 0, err
			}
			return src.Read(p)
		}))
		return err
	})
	if err == nil && b.Source != "" {
		r.Say("Copied %d bytes", n)
	}
	return err
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func (b build) remove(_ context.Context, _ *builder.Run, s *state) error {
	err := os.Remove(b.Target)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	s.stays = err != nil
	return err
}

// connect gives provisioners a guest to which there is no connection: those
// that stay on this machine run.
func connect(context.Context, *builder.Run, *state) (communicator.Guest, error) {
	return communicator.Guest{
		Communicator: communicator.None{},
		Data:         communicator.Data{ID: "File", ConnType: "none"},
	}, nil
}

func (b build) result(context.Context, *builder.Run, *state) (artifact.Set, error) {
	if _, err := os.Stat(b.Target); err != nil {
		return artifact.Set{}, fmt.Errorf("target: %w", err)
	}
	return artifact.Set{
		BuilderID: BuilderID, ID: "File", Text: "Stored file: " + b.Target, Files: []string{b.Target},
	}, nil
}
