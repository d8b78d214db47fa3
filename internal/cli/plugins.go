package cli

import (
	"context"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/diag"
)

// pluginHome is where the plugins live whose components Ingot has, as
// required_plugins names them.
const pluginHome = "github.com/hashicorp/"

// ownPlugins are Packer's plugins of which components may be built in.
var ownPlugins = []string{"alicloud", "amazon", "ansible", "qemu", "tencentcloud"}

func pluginsCommand() *command {
	var list strings.Builder
	for _, c := range pluginsCommands() {
		fmt.Fprintf(&list, "\n    %-10s %s", strings.TrimPrefix(c.name, "plugins "), c.synopsis)
	}
	return &command{
		name:     "plugins",
		args:     "COMMAND",
		synopsis: "show what is built in of Packer's plugins",
		about: `What Packer has in plugins is built in here, or is not there: no plugin is
			downloaded, installed or run. These commands answer for scripts and for people:
			` + list.String(),
		words: func(*app) []string { return pluginsWords() },
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(ctx context.Context, args []string) int {
				if len(args) == 0 {
					a.report.say(a.helpOf(pluginsCommand()))
					return exitFailed
				}
				for _, c := range pluginsCommands() {
					if c.name == "plugins "+args[0] {
						return a.run(ctx, c, args[1:])
					}
				}
				text := fmt.Sprintf("There is no command %q of plugins.", args[0])
				if near := hcl.Suggest(args[0], pluginsWords()); near != "" {
					text += fmt.Sprintf(" Did you mean %q?", near)
				}
				a.report.fail(text + "\n")
				a.report.say(a.helpOf(pluginsCommand()))
				return exitFailed
			}
		},
	}
}

func pluginsCommands() []*command {
	return []*command{pluginsInstalled(), pluginsRequired(), pluginsInstall(), pluginsRemove()}
}

func pluginsWords() (out []string) {
	for _, c := range pluginsCommands() {
		out = append(out, strings.TrimPrefix(c.name, "plugins "))
	}
	return out
}

func pluginsInstalled() *command {
	return &command{
		name:     "plugins installed",
		synopsis: "list the plugins whose components are built in",
		about: `Lists the plugins of Packer whose components are built in, one a line, with the
			components. Plugins that Packer has installed on this computer are not used.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			return func(_ context.Context, args []string) int {
				if len(args) != 0 {
					return a.misused(pluginsInstalled(), args, "no arguments")
				}
				return a.pluginsInstalled()
			}
		},
	}
}

func (a *app) pluginsInstalled() int {
	have := componentsOf(a.set)
	for _, name := range ownPlugins {
		if parts := describeComponents(have, name); parts != "" {
			a.report.say(pluginHome + name + " built in: " + parts)
		}
	}
	dir := a.pluginDir()
	if n := countPlugins(dir); n == 1 {
		a.report.say("\n1 plugin in " + dir + " is not used.")
	} else if n > 1 {
		a.report.say(fmt.Sprintf("\n%d plugins in %s are not used.", n, dir))
	}
	return exitDone
}

func pluginsRequired() *command {
	return &command{
		name:     "plugins required",
		args:     "TEMPLATE",
		synopsis: "list the plugins a template requires",
		about: `Lists the entries of required_plugins of a template, one a line, and whether
			what the template uses of each is built in.`,
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(ctx context.Context, args []string) int {
				if len(args) != 1 {
					return a.misused(pluginsRequired(), args, "one template")
				}
				t, ok := a.requirements(ctx, args[0])
				if !ok {
					return exitFailed
				}
				if len(t.RequiredPlugins) == 0 {
					a.report.say("The template requires no plugins.")
				}
				for _, p := range t.RequiredPlugins {
					a.report.say(standing(a.set, t, p).text)
				}
				return exitDone
			}
		},
	}
}

func pluginsInstall() *command {
	return &command{
		name:     "plugins install",
		args:     "SOURCE [VERSION]",
		synopsis: "say whether a plugin is built in",
		about: `Succeeds at once for a plugin whose components are built in, in whatever version.
			Any other cannot be installed: the exit code is 1.

			SOURCE is written as in required_plugins: github.com/hashicorp/amazon.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			binary := fs.String("path", "", "a plugin's `file`, which is not run: only what is built in is")
			declareCompatible(fs, "force")
			return func(_ context.Context, args []string) int {
				if len(args) < 1 || len(args) > 2 {
					return a.misused(pluginsInstall(), args, "the source of a plugin, and a version if you like")
				}
				parts := describeComponents(componentsOf(a.set), path.Base(args[0]))
				if parts == "" {
					a.report.error(diag.WithHint(fmt.Errorf("%s is not built in, and plugins cannot be installed", args[0]),
						"see what is built in with ingot plugins installed"))
					return exitFailed
				}
				a.report.say(args[0] + " is built in: " + parts + ".")
				if *binary != "" {
					a.report.say(*binary + " is not used.")
				}
				return exitDone
			}
		},
	}
}

func pluginsRemove() *command {
	return &command{
		name:     "plugins remove",
		args:     "SOURCE|FILE [VERSION]",
		synopsis: "say why a plugin cannot be removed",
		about: `What is built in cannot be removed, and no other plugin is installed: the exit
			code is 1, as that of Packer is where it finds no such plugin.`,
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(_ context.Context, args []string) int {
				if len(args) < 1 || len(args) > 2 {
					return a.misused(pluginsRemove(), args, "the source or the file of a plugin, and a version if you like")
				}
				err := diag.WithHint(fmt.Errorf("%s is not installed", args[0]), "no plugins are installed here; Packer's own are left as they are")
				if !filepath.IsAbs(args[0]) && describeComponents(componentsOf(a.set), path.Base(args[0])) != "" {
					err = fmt.Errorf("%s is built in and cannot be removed", args[0])
				}
				a.report.error(err)
				return exitFailed
			}
		},
	}
}

// pluginDir is where Packer keeps its plugins.
func (a *app) pluginDir() string {
	if d := a.setting("PLUGIN_PATH"); d != "" {
		return a.abs(d)
	}
	if d := a.setting("CONFIG_DIR"); d != "" {
		return filepath.Join(a.abs(d), ".packer.d", "plugins")
	}
	home, _ := a.lookup("HOME")
	old := filepath.Join(home, ".packer.d")
	if st, err := os.Stat(old); err == nil && st.IsDir() {
		return filepath.Join(old, "plugins")
	}
	config, _ := a.lookup("XDG_CONFIG_HOME")
	if !filepath.IsAbs(config) {
		config = filepath.Join(home, ".config")
	}
	return filepath.Join(config, "packer", "plugins")
}

// pluginDepth is how deep below its folder Packer looks for plugins.
const pluginDepth = 16

// countPlugins counts the plugins below dir. What cannot be read has none.
func countPlugins(dir string) (n int) {
	_ = filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		switch rel, rerr := filepath.Rel(dir, p); {
		case err != nil && d == nil:
			return err // dir itself
		case err != nil || rerr != nil:
			return nil
		case d.IsDir() && strings.Count(rel, string(filepath.Separator)) >= pluginDepth:
			return fs.SkipDir
		case d.Type().IsRegular() && strings.HasPrefix(d.Name(), "packer-plugin-") && !strings.HasSuffix(d.Name(), "_SHA256SUM"):
			n++
		}
		return nil
	})
	return n
}

// abs is a path of the command line or the environment.
func (a *app) abs(path string) string {
	if filepath.IsAbs(path) {
		return path
	}
	return filepath.Join(a.Cwd, path)
}
