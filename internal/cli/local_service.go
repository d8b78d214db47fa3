package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/server"
	"github.com/ingot-build/ingot/internal/poll"
)

// defaultPort is where the service listens.
const defaultPort = 4580

const serviceLog = "service.log" // of a service in the background

func localUp() *command {
	return &command{
		name:     "local up",
		synopsis: "serve it to other programs",
		about: `Serves the local cloud on a port of 127.0.0.1 and prints the environment that
			points AWS clients at it. It runs until it is interrupted, or in the background.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			port := fs.Int("port", defaultPort, "`number` of the port; 0 for any free one")
			background := fs.Bool("background", false, "return once it serves; ends with "+programName+" local down")
			return func(ctx context.Context, args []string) int {
				if len(args) != 0 {
					return a.wrongLocal(localUp(), "no arguments")
				}
				if *background {
					return a.failed(a.localBackground(ctx, *port, true))
				}
				return a.failed(a.localServe(ctx, *port))
			}
		},
	}
}

// wrongLocal tells how a command of local is used.
func (a *app) wrongLocal(c *command, want string) int {
	a.report.fail("This command takes " + want + ".\n")
	a.report.say(a.helpOf(c))
	return exitFailed
}

func (a *app) localServe(ctx context.Context, port int) (err error) {
	c, err := a.openLocal(ctx)
	if err != nil {
		return err
	}
	s, err := server.Start(ctx, c, "127.0.0.1:"+strconv.Itoa(port), true, server.Options{})
	if err != nil {
		var running *server.RunningError
		switch {
		case errors.As(err, &running):
			return diag.WithHint(err, "%s local env prints how to use it, %s local down ends it", programName, programName)
		case errors.Is(err, syscall.EADDRINUSE):
			return diag.WithHint(err, "another program has the port: name another with -port")
		}
		return err
	}
	a.report.say("Serving the local cloud in " + c.Dir() + " at " + s.URL + "\n")
	a.report.say(environment(s.URL, mustRoot(ctx, c)))
	select {
	case <-ctx.Done():
	case <-s.Failed(): // Close tells why
	}
	a.report.say("Finishing what is due; machines go on.")
	return errors.Join(err, s.Close(ctx))
}

// mustRoot is the credential of a cloud that is served, and so has one.
func mustRoot(ctx context.Context, c *localcloud.Cloud) localcloud.Credential {
	root, err := c.Root(context.WithoutCancel(ctx))
	if err != nil {
		return localcloud.Credential{}
	}
	return root
}

// environment is what points AWS clients at the cloud, for a shell.
func environment(url string, k localcloud.Credential) string {
	var b strings.Builder
	for _, kv := range [][2]string{
		{"AWS_ENDPOINT_URL", url},
		{"AWS_ACCESS_KEY_ID", k.AccessKey},
		{"AWS_SECRET_ACCESS_KEY", k.Secret},
		{"AWS_DEFAULT_REGION", defaultRegion},
		{"AWS_REGION", defaultRegion},
		{"AWS_EC2_METADATA_DISABLED", "true"},
	} {
		fmt.Fprintf(&b, "export %s=%s\n", kv[0], kv[1])
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// localBackground starts this program again as the service, and prints the
// environment that points at it if wanted.
func (a *app) localBackground(ctx context.Context, port int, env bool) error {
	dir, err := a.localDir()
	if err != nil {
		return err
	}
	if info, ok := server.Find(dir); ok {
		return diag.WithHint(&server.RunningError{Dir: dir, Info: info}, "%s local env prints how to use it", programName)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("local cloud: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, serviceLog), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return fmt.Errorf("local cloud: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(a.Program, "local", "up", "-port", strconv.Itoa(port)) //nolint:noctx // it outlives this process
	cmd.Env, cmd.Dir, cmd.Stdout, cmd.Stderr = a.Env, a.Cwd, nil, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("local cloud: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	ctx, stop := context.WithTimeout(ctx, time.Minute)
	defer stop()
	err = poll.Until(ctx, poll.Backoff{First: 10 * time.Millisecond, Max: 200 * time.Millisecond}, func(context.Context) (bool, error) {
		select {
		case err := <-ended:
			return false, diag.WithHint(fmt.Errorf("the service ended at once: %w", err), "its log is %s", log.Name())
		default:
			info, ok := server.Find(dir)
			return ok && info.PID == cmd.Process.Pid, nil
		}
	})
	if err != nil || !env {
		return err
	}
	return a.printEnv(ctx, dir)
}

// printEnv prints the environment of the running service.
func (a *app) printEnv(ctx context.Context, dir string) error {
	info, ok := server.Find(dir)
	if !ok {
		return diag.WithHint(fmt.Errorf("the local cloud in %s is not served", dir), "%s local up -background serves it", programName)
	}
	c, err := a.openLocal(ctx)
	if err != nil {
		return err
	}
	root, err := c.Root(ctx)
	if err != nil {
		return err
	}
	a.report.say(environment(info.URL, root))
	return nil
}

func localEnv() *command {
	return &command{
		name:     "local env",
		synopsis: "print the environment for AWS clients",
		about: `Prints the environment that points the AWS command line, Terraform or any SDK at
			the running service: eval "$(` + programName + ` local env)"

			An AWS command line before 2.13 does not read AWS_ENDPOINT_URL: give it
			--endpoint-url "$AWS_ENDPOINT_URL".`,
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(ctx context.Context, args []string) int {
				if len(args) != 0 {
					return a.wrongLocal(localEnv(), "no arguments")
				}
				dir, err := a.localDir()
				if err == nil {
					err = a.printEnv(ctx, dir)
				}
				if err != nil {
					a.report.w = a.Err // the output is for a shell to run
				}
				return a.failed(err)
			}
		},
	}
}

func localDown() *command {
	return &command{
		name:     "local down",
		synopsis: "end the service",
		about: `Ends the service. What is in the cloud stays, and machines go on; -stop shuts
			them down first.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			machines := fs.Bool("stop", false, "stop the running instances first")
			return func(ctx context.Context, args []string) int {
				if len(args) != 0 {
					return a.wrongLocal(localDown(), "no arguments")
				}
				return a.failed(a.localDown(ctx, *machines))
			}
		},
	}
}

func (a *app) localDown(ctx context.Context, machines bool) error {
	dir, err := a.localDir()
	if err != nil {
		return err
	}
	if machines && exists(dir) {
		if code := a.withLocal(ctx, a.stopMachines); code != exitDone {
			return errors.New("not every instance was stopped")
		}
	}
	info, ok := server.Find(dir)
	if !ok {
		a.report.say("The local cloud is not served.")
		return nil
	}
	p, err := os.FindProcess(info.PID)
	if err == nil {
		err = p.Signal(syscall.SIGTERM)
	}
	if err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end the service: %w", err)
	}
	ctx, stop := context.WithTimeout(ctx, 2*time.Minute)
	defer stop()
	return poll.Until(ctx, poll.Backoff{First: 20 * time.Millisecond, Max: 200 * time.Millisecond}, func(context.Context) (bool, error) {
		_, lives := server.Find(dir)
		return !lives, nil
	})
}

// stopMachines stops every running instance and waits.
func (a *app) stopMachines(ctx context.Context, c *localcloud.Cloud) error {
	var errs []error
	for _, region := range localcloud.Regions() {
		all, err := c.Instances(ctx, region, nil)
		if err != nil {
			return err
		}
		for _, i := range all {
			if i.State == "running" || i.State == "pending" {
				_, err := c.StopInstances(ctx, region, localcloud.StopParams{IDs: []string{i.ID}})
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(append(errs, c.Drain(ctx))...)
}

func localLogs() *command {
	return &command{
		name:     "local logs",
		synopsis: "print the log of the service in the background",
		about:    `Prints what the service in the background has told.`,
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(_ context.Context, args []string) int {
				if len(args) != 0 {
					return a.wrongLocal(localLogs(), "no arguments")
				}
				dir, err := a.localDir()
				if err != nil {
					return a.failed(err)
				}
				f, err := os.Open(filepath.Join(dir, serviceLog))
				if errors.Is(err, fs.ErrNotExist) {
					a.report.say("There is no log: no service was started in the background.")
					return exitDone
				}
				if err != nil {
					return a.failed(err)
				}
				defer f.Close()
				_, err = io.Copy(a.Out, f)
				return a.failed(err)
			}
		},
	}
}
