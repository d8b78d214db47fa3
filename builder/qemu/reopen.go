package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/internal/vm"
)

// whereabouts is what the journal keeps of the options.
type whereabouts struct {
	Output string `json:"output_directory"` // absolute
}

func (m *machine) where(context.Context) (any, error) {
	out, err := filepath.Abs(m.cfg.OutputDir)
	return whereabouts{out}, err
}

func reopen(place json.RawMessage, info builder.Info) (builder.Builder, error) {
	var w whereabouts
	if err := json.Unmarshal(place, &w); err != nil {
		return nil, fmt.Errorf("place of the build in the journal: %w", err)
	}
	return (&machine{cfg: Config{OutputDir: w.Output}, info: info}).steps(), nil
}

// holds lists what the state knows and this machine has: files and processes
// are looked for, which costs nothing here.
func (m *machine) holds(r *builder.Run, s *state) []builder.Thing {
	var out []builder.Thing
	if s.Work != "" && exists(m.workDir(s)) {
		out = append(out, builder.Thing{Kind: "folder", ID: m.workDir(s), Step: "work-folder"})
	}
	if link := shortLink(r); exists(link) {
		out = append(out, builder.Thing{Kind: "link", ID: link, Step: "sockets"})
	}
	for _, p := range []struct {
		id         vm.Identity
		step, kind string
	}{{s.TPM, "tpm", "TPM process"}, {s.VM, "vm", "QEMU process"}} {
		if p.id.Running() {
			out = append(out, builder.Thing{Kind: p.kind, ID: fmt.Sprint(p.id.PID), Step: p.step})
		}
	}
	if dir := filepath.Clean(m.cfg.OutputDir); s.Published && m.isOurs(dir, s) {
		out = append(out, builder.Thing{Kind: "output folder", ID: dir, Step: "publish"})
	}
	return out
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// sweep finds the work folders, processes and links of builds whose journal is
// gone. A link to a folder is its build's, which is not there any more. Of
// processes and links only those are found that lead to o.Runs: others are of
// somebody with another state folder, whose runs cannot be told dead from here.
func sweep(_ context.Context, o builder.SweepOptions) ([]builder.Find, error) {
	var out []builder.Find
	procs, err := vm.FindMarked(func(program, arg string) string {
		token, path := markOf(program, arg)
		if !leadsTo(filepath.Dir(path), o.Runs) {
			return ""
		}
		return token
	})
	for _, p := range procs {
		f := builder.Find{
			Thing: builder.Thing{Kind: "QEMU process", ID: fmt.Sprint(p.PID)}, Token: p.Token, TokenOf: "vm", Since: p.Since,
		}
		text := mark(p.Token)
		if p.Program == tpmProgram {
			f.Kind, f.TokenOf, text = "TPM process", "tpm", p.Token+".pid"
		}
		f.Remove = func(ctx context.Context) error {
			_, err := vm.End(ctx, p.Identity, text, "")
			return err
		}
		out = append(out, f)
	}
	folders, ferr := builder.FindFolders(o.Dirs, "", "output")
	links, lerr := filepath.Glob(filepath.Join(os.TempDir(), "ingot-*"))
	for _, l := range links {
		to, err := os.Readlink(l)
		if err != nil || exists(to) || len(filepath.Base(l)) != len("ingot-")+24 || !leadsTo(to, o.Runs) {
			continue
		}
		out = append(out, builder.Find{
			Thing: builder.Thing{Kind: "link", ID: l}, Token: filepath.Base(l), TokenOf: "sockets", Since: time.Unix(0, 0),
			Remove: func(context.Context) error { return os.Remove(l) },
		})
	}
	return append(out, folders...), errors.Join(err, ferr, lerr)
}

const tpmProgram = "swtpm"

// leadsTo reports whether dir, or what the link dir leads to, is in runs.
func leadsTo(dir, runs string) bool {
	if to, err := os.Readlink(dir); err == nil {
		dir = to
	}
	rel, err := filepath.Rel(runs, dir)
	return runs == "" || err == nil && filepath.IsLocal(rel)
}

// markOf returns the token in one argument of a process that a build started
// and the path of the file there that is in the build's folder; "" for any
// other argument.
func markOf(program, arg string) (token, path string) {
	switch {
	case strings.HasPrefix(program, "qemu-"):
		if rest, ok := strings.CutPrefix(arg, "socket,"+mark("")); ok {
			token, rest, _ = strings.Cut(rest, ",path=")
			path, _, _ = strings.Cut(strings.ReplaceAll(rest, ",,", "\x00"), ",")
			return token, strings.ReplaceAll(path, "\x00", ",")
		}
	case program == tpmProgram:
		if rest, ok := strings.CutPrefix(arg, "file="); ok {
			token, _ = strings.CutSuffix(filepath.Base(rest), ".pid")
			return token, rest
		}
	}
	return "", ""
}
