package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/machine"
	"github.com/ingot-build/ingot/internal/localcloud/server"
	"github.com/ingot-build/ingot/internal/secret"
)

// defaultRegion is where the local cloud works when nobody names a region.
const defaultRegion = "us-east-1"

func localCommand() *command {
	var list strings.Builder
	for _, c := range localCommands() {
		if c.synopsis != "" {
			fmt.Fprintf(&list, "\n    %-10s %s", strings.TrimPrefix(c.name, "local "), c.synopsis)
		}
	}
	return &command{
		name:     "local",
		args:     "COMMAND",
		synopsis: "a cloud on this machine: serve it, look into it, reset it",
		about: `The cloud on this machine speaks the API of EC2 over real virtual machines.
			"` + programName + ` build -local" builds in it; these commands serve it to other programs,
			show what is in it and bring images in:
			` + list.String() + `

			It is kept in the folder that INGOT_LOCAL_DIR names, by default
			~/.local/share/ingot/local.`,
		words: func(*app) []string { return localWords() },
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(ctx context.Context, args []string) int {
				if len(args) == 0 {
					a.report.say(a.helpOf(localCommand()))
					return exitNoSuch
				}
				for _, c := range localCommands() {
					if c.name == "local "+args[0] {
						return a.run(ctx, c, args[1:])
					}
				}
				text := fmt.Sprintf("There is no command %q of local.", args[0])
				if near := hcl.Suggest(args[0], localWords()); near != "" {
					text += fmt.Sprintf(" Did you mean %q?", near)
				}
				a.report.fail(text + "\n")
				a.report.say(a.helpOf(localCommand()))
				return exitNoSuch
			}
		},
	}
}

func localCommands() []*command {
	return []*command{
		localUp(), localDown(), localStatus(), localEnv(), localLogs(), localLs(), localRun(), localRm(), localSSH(), localConsole(),
		localImport(), localFault(), localSet(), localReset(), localLink(),
	}
}

func localWords() (out []string) {
	for _, c := range localCommands() {
		if c.synopsis != "" {
			out = append(out, strings.TrimPrefix(c.name, "local "))
		}
	}
	return out
}

// localLink is the helper process of a running machine.
func localLink() *command {
	return &command{
		name: "local link",
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(_ context.Context, args []string) int { return a.failed(machine.RunLink(args)) }
		},
	}
}

// failed reports err, if any, and returns the exit code.
func (a *app) failed(err error) int {
	if err == nil {
		return exitDone
	}
	a.report.error(err)
	return failure(err)
}

// localDir is the folder of the local cloud.
func (a *app) localDir() (string, error) {
	if d := a.setting("LOCAL_DIR"); d != "" {
		if !filepath.IsAbs(d) {
			d = filepath.Join(a.Cwd, d)
		}
		return d, nil
	}
	d, err := a.userDir("XDG_DATA_HOME", ".local/share")
	return filepath.Join(d, "local"), err
}

// machines is what instances run on. INGOT_LOCAL_MACHINES=simulated asks for
// stand-ins that boot nothing, for trying a template's logic.
func (a *app) machines() (machine.Driver, error) {
	switch m := a.setting("LOCAL_MACHINES"); m {
	case "", "qemu":
		return &machine.QEMU{Link: []string{a.Program, "local", "link"}, Cache: a.cacheDir()}, nil
	case "simulated":
		return &machine.Simulated{}, nil
	default:
		return nil, diag.WithHint(fmt.Errorf("INGOT_LOCAL_MACHINES is %q", m), "it can be qemu, the default, or simulated")
	}
}

// openLocal opens the local cloud.
func (a *app) openLocal(ctx context.Context) (*localcloud.Cloud, error) {
	dir, err := a.localDir()
	if err != nil {
		return nil, err
	}
	machines, err := a.machines()
	if err != nil {
		return nil, err
	}
	return localcloud.Open(ctx, localcloud.Config{Dir: dir, Machines: machines, Now: a.Now, Warn: a.warnLocal})
}

func (a *app) warnLocal(err error) { a.report.fail("local cloud: " + err.Error()) }

// withLocal runs do on the local cloud. The jobs it asks for are done by the
// service, and here when none runs.
func (a *app) withLocal(ctx context.Context, do func(context.Context, *localcloud.Cloud) error) int {
	c, err := a.openLocal(ctx)
	if err != nil {
		return a.failed(err)
	}
	if _, served := server.Find(c.Dir()); served {
		return a.failed(do(ctx, c))
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	worked := make(chan error, 1)
	go func() { worked <- c.Work(work) }()
	err = do(ctx, c)
	stop()
	return a.failed(errors.Join(err, <-worked))
}

// A localService answers the calls of a run with -local: the service that runs
// already, or one of its own that starts at the first call.
type localService struct {
	app *app
	mu  sync.Mutex
	own *server.Service
	at  component.Endpoint
}

// useLocal makes the components of this run call the local cloud. What it
// returns ends the service that this may have started.
func (a *app) useLocal() (end func(context.Context)) {
	l := &localService{app: a}
	a.set = a.builtin(a.platform(l))
	return func(ctx context.Context) {
		if err := l.close(ctx); err != nil {
			a.report.error(err)
		}
	}
}

// platform is where the components of this run call out to.
func (a *app) platform(local *localService) component.Platform {
	p := component.Platform{Version: a.Version}
	if local != nil {
		p.Amazon = local.endpoint
	}
	return p
}

// endpoint is called on several goroutines.
func (l *localService) endpoint(ctx context.Context) (component.Endpoint, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.at.URL != "" {
		return l.at, nil
	}
	c, err := l.app.openLocal(ctx)
	if err != nil {
		return l.at, err
	}
	root, err := c.Root(ctx)
	if err != nil {
		return l.at, err
	}
	info, ok := server.Find(c.Dir())
	if !ok {
		if l.own, err = server.Start(ctx, c, "127.0.0.1:0", false, server.Options{}); err != nil {
			return l.at, err
		}
		info.URL = l.own.URL
	}
	l.at = component.Endpoint{URL: info.URL, Region: defaultRegion, AccessKey: root.AccessKey, SecretKey: secret.New(root.Secret)}
	return l.at, nil
}

// close ends a service of its own.
func (l *localService) close(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	var err error
	if l.own != nil {
		err = l.own.Close(ctx)
	}
	l.own, l.at = nil, component.Endpoint{}
	return err
}

// regionFlag declares -region.
func (a *app) regionFlag(fs *flag.FlagSet, region *string) {
	*region = defaultRegion
	for _, env := range []string{"AWS_REGION", "AWS_DEFAULT_REGION"} {
		if v, ok := a.lookup(env); ok && localcloud.KnownRegion(v) {
			*region = v
			break
		}
	}
	fs.StringVar(region, "region", *region, "`name` of the region; AWS_REGION, else us-east-1")
}

// checkRegion refuses a region that the local cloud does not have.
func checkRegion(region string) error {
	if localcloud.KnownRegion(region) {
		return nil
	}
	return diag.WithHint(fmt.Errorf("the local cloud has no region %q", region), "it has %s", strings.Join(localcloud.Regions(), ", "))
}

// exists reports whether there is a local cloud at all.
func exists(dir string) bool {
	_, err := os.Stat(filepath.Join(dir, "state.db"))
	return err == nil
}
