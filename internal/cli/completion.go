package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/diag"
)

// The scripts ask the program itself, with the line in COMP_LINE. PROGRAM is
// how it is run, NAME what it is called. bash and readline fall back to paths where nothing is
// printed; zsh and fish are told to.
const (
	bashScript = `complete -o bashdefault -o default -o nospace -C PROGRAM NAME`

	zshScript = `#compdef NAME
_NAME() {
  local -a found
  found=("${(@f)$(COMP_SHELL=zsh COMP_LINE="${(j: :)words[1,CURRENT]}" PROGRAM)}")
  found=(${found:#})
  if (( ${#found} )); then
    compadd -S '' -- "${found[@]}"
  else
    _files
  fi
}
compdef _NAME NAME`

	fishScript = `function __NAME_complete
    set -lx COMP_SHELL fish
    set -lx COMP_LINE (commandline -cp)
    set -l found (PROGRAM)
    if test (count $found) -gt 0
        string join \n -- $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c NAME -f -a "(__NAME_complete)"`
)

var shells = []string{"bash", "zsh", "fish"}

func completionScript(shell, program, name string) string {
	s := map[string]string{"bash": bashScript, "zsh": zshScript, "fish": fishScript}[shell]
	return strings.NewReplacer("PROGRAM", program, "NAME", name).Replace(s)
}

func completionCommand() *command {
	return &command{
		name:     "completion",
		args:     "bash|zsh|fish",
		synopsis: "print a script for completion in a shell",
		words:    func(*app) []string { return shells },
		about: `Prints a script that completes the commands and flags of ingot:

			bash  source <(ingot completion bash)    in ~/.bashrc
			zsh   source <(ingot completion zsh)     in ~/.zshrc, behind compinit
			fish  ingot completion fish > ~/.config/fish/completions/ingot.fish

			ingot -autocomplete-install does it for every shell of this user.`,
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(_ context.Context, args []string) int {
				if len(args) != 1 || !slices.Contains(shells, args[0]) {
					return a.wrong("completion", args, "one of bash, zsh, fish")
				}
				if _, err := io.WriteString(a.Out, completionScript(args[0], a.name(), a.name())+"\n"); err != nil {
					return exitFailed
				}
				return exitDone
			}
		},
	}
}

// A startFile is where a shell's completion is kept.
type startFile struct {
	path, line string
	whole      bool // the file is ours
}

// startFiles are those of the shells that the user has.
func (a *app) startFiles() []startFile {
	home, _ := a.lookup("HOME")
	var out []startFile
	if home == "" {
		return nil
	}
	for _, name := range []string{".bashrc", ".bash_profile", ".bash_login", ".profile"} {
		if path := filepath.Join(home, name); isFile(path) {
			out = append(out, startFile{path: path, line: completionScript("bash", a.Program, a.name())})
			break
		}
	}
	if path := filepath.Join(home, ".zshrc"); isFile(path) {
		out = append(out, startFile{path: path, line: fmt.Sprintf("source <(%s completion zsh)", a.Program)})
	}
	config, _ := a.lookup("XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) {
		config = filepath.Join(home, ".config")
	}
	if st, err := os.Stat(filepath.Join(config, "fish")); err == nil && st.IsDir() {
		path := filepath.Join(config, "fish", "completions", a.name()+".fish")
		out = append(out, startFile{path: path, line: completionScript("fish", a.Program, a.name()), whole: true})
	}
	return out
}

func isFile(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

func (a *app) installCompletion(_ context.Context) int {
	files := a.startFiles()
	if len(files) == 0 {
		a.report.error(diag.WithHint(errors.New("no shell of this user was found"),
			"there is neither a .bashrc, .bash_profile, .profile or .zshrc in the home folder nor a fish configuration; %s completion prints a script", a.name()))
		return exitFailed
	}
	return a.eachStartFile(files, "completion is installed in ", func(text, line string) string {
		if containsLine(text, line) {
			return text
		}
		if text != "" && !strings.HasSuffix(text, "\n") {
			text += "\n"
		}
		return text + line + "\n"
	})
}

func (a *app) uninstallCompletion() int {
	return a.eachStartFile(a.startFiles(), "completion is removed from ", func(text, line string) string {
		return strings.TrimPrefix(strings.Replace("\n"+text, "\n"+line+"\n", "\n", 1), "\n")
	})
}

func containsLine(text, line string) bool { return strings.Contains("\n"+text+"\n", "\n"+line+"\n") }

func (a *app) eachStartFile(files []startFile, done string, change func(text, line string) string) int {
	code := exitDone
	for _, f := range files {
		if err := f.edit(change); err != nil {
			a.report.error(err)
			code = exitFailed
			continue
		}
		a.report.say(done + f.path)
	}
	return code
}

func (f startFile) edit(change func(text, line string) string) error {
	old, err := os.ReadFile(f.path)
	if err != nil && (!f.whole || !errors.Is(err, fs.ErrNotExist)) {
		return err
	}
	text := change(string(old), f.line)
	switch {
	case text == string(old):
		return nil
	case f.whole && text == "":
		return os.Remove(f.path)
	case f.whole:
		if err := os.MkdirAll(filepath.Dir(f.path), 0o755); err != nil {
			return err
		}
		return atomicfile.Write(f.path, []byte(text), 0o644)
	}
	return rewrite(f.path, []byte(text))
}
