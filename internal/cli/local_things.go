package cli

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/server"
)

// table prints rows in columns, the first row being their names.
func (a *app) table(rows [][]string) {
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		fmt.Fprintln(w, strings.Join(r, "\t"))
	}
	_ = w.Flush() // into memory: cannot fail
	lines := strings.Split(strings.TrimRight(b.String(), "\n"), "\n")
	for i := range lines {
		lines[i] = strings.TrimRight(lines[i], " ")
	}
	a.report.say(strings.Join(lines, "\n"))
}

func localStatus() *command {
	return &command{
		name:     "local status",
		synopsis: "whether it is served, and what it holds",
		about:    `Tells where the local cloud is, whether it is served, and what it holds.`,
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(ctx context.Context, args []string) int {
				if len(args) != 0 {
					return a.wrongLocal(localStatus(), "no arguments")
				}
				dir, err := a.localDir()
				if err != nil {
					return a.failed(err)
				}
				return a.failed(a.localSummary(ctx, dir))
			}
		},
	}
}

func (a *app) localSummary(ctx context.Context, dir string) error {
	a.report.say("folder:   " + dir)
	if info, ok := server.Find(dir); ok {
		a.report.say(fmt.Sprintf("service:  %s, process %d, since %s", info.URL, info.PID, info.Started.Local().Format(time.DateTime)))
	} else {
		a.report.say("service:  not running")
	}
	if !exists(dir) {
		a.report.say("holds:    nothing yet")
		return nil
	}
	c, err := a.openLocal(ctx)
	if err != nil {
		return err
	}
	var images, snapshots, volumes, instances, running int
	for _, region := range localcloud.Regions() {
		err := c.View(ctx, region, func(t *localcloud.Tx) error {
			i, err1 := localcloud.All[localcloud.Image](t)
			s, err2 := localcloud.All[localcloud.Snapshot](t)
			v, err3 := localcloud.All[localcloud.Volume](t)
			n, err4 := localcloud.All[localcloud.Instance](t)
			for _, x := range n {
				if x.State == "running" {
					running++
				}
				if x.State != "terminated" {
					instances++
				}
			}
			images, snapshots, volumes = images+len(i), snapshots+len(s), volumes+len(v)
			return errors.Join(err1, err2, err3, err4)
		})
		if err != nil {
			return err
		}
	}
	a.report.say(fmt.Sprintf("holds:    %d instances (%d running), %d volumes, %d images, %d snapshots", instances, running, volumes, images, snapshots))
	a.report.say("files:    " + size(diskUse(dir)))
	return nil
}

// diskUse is the size of the files in a folder, in bytes, holes included; what
// cannot be read is left out.
func diskUse(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			if info, err := d.Info(); err == nil {
				n += info.Size()
			}
		}
		return nil
	})
	return n
}

func size(n int64) string {
	for _, u := range []struct {
		unit  string
		bytes int64
	}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}} {
		if n >= u.bytes {
			return fmt.Sprintf("%.1f %s", float64(n)/float64(u.bytes), u.unit)
		}
	}
	return fmt.Sprintf("%d B", n)
}

// A listing is what local ls shows of one kind of thing.
type listing struct {
	head []string
	rows func(t *localcloud.Tx) ([][]string, error)
}

var listings = map[string]listing{
	"instances": {
		head: []string{"ID", "NAME", "STATE", "TYPE", "IMAGE", "ADDRESS"},
		rows: func(t *localcloud.Tx) (rows [][]string, err error) {
			all, err := localcloud.All[localcloud.Instance](t)
			for _, i := range all {
				rows = append(rows, []string{i.ID, or(i.Tags["Name"], "-"), i.State, i.Type, i.ImageID, or(i.PublicIP, "-")})
			}
			return rows, err
		},
	},
	"images": {
		head: []string{"ID", "NAME", "STATE", "ARCH", "VIRT", "BOOT", "OWNER"},
		rows: func(t *localcloud.Tx) (rows [][]string, err error) {
			all, err := localcloud.All[localcloud.Image](t)
			for _, i := range all {
				rows = append(rows, []string{i.ID, i.Name, i.State, i.Arch, i.Virtualization, or(i.BootMode, "-"), i.Owner})
			}
			return rows, err
		},
	},
	"snapshots": {
		head: []string{"ID", "STATE", "GIB", "VOLUME", "DESCRIPTION"},
		rows: func(t *localcloud.Tx) (rows [][]string, err error) {
			all, err := localcloud.All[localcloud.Snapshot](t)
			for _, s := range all {
				rows = append(rows, []string{s.ID, s.State, strconv.FormatInt(s.SizeGiB, 10), s.VolumeID, or(s.Description, "-")})
			}
			return rows, err
		},
	},
	"volumes": {
		head: []string{"ID", "STATE", "GIB", "INSTANCE", "DEVICE"},
		rows: func(t *localcloud.Tx) (rows [][]string, err error) {
			all, err := localcloud.All[localcloud.Volume](t)
			for _, v := range all {
				rows = append(rows, []string{v.ID, v.State, strconv.FormatInt(v.Spec.SizeGiB, 10), or(v.Instance, "-"), or(v.Device, "-")})
			}
			return rows, err
		},
	},
}

func localLs() *command {
	return &command{
		name:     "local ls",
		args:     "[instances | images | snapshots | volumes]",
		synopsis: "list what is in it",
		about:    `Lists the instances, images, snapshots or volumes of all regions.`,
		words:    func(*app) []string { return []string{"images", "instances", "snapshots", "volumes"} },
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			region := fs.String("region", "", "`name` of the one region to list")
			asJSON := fs.Bool("json", false, "one JSON object a line")
			return func(ctx context.Context, args []string) int {
				what := "instances"
				if len(args) == 1 {
					what = args[0]
				}
				l, ok := listings[what]
				if len(args) > 1 || !ok {
					return a.wrongLocal(localLs(), "instances, images, snapshots or volumes")
				}
				return a.failed(a.localLs(ctx, l, *region, *asJSON))
			}
		},
	}
}

func (a *app) localLs(ctx context.Context, l listing, region string, asJSON bool) error {
	regions := localcloud.Regions()
	if region != "" {
		if err := checkRegion(region); err != nil {
			return err
		}
		regions = []string{region}
	}
	c, err := a.openLocal(ctx)
	if err != nil {
		return err
	}
	rows := [][]string{append([]string{"REGION"}, l.head...)}
	for _, r := range regions {
		err := c.View(ctx, r, func(t *localcloud.Tx) error {
			found, err := l.rows(t)
			for _, row := range found {
				rows = append(rows, append([]string{r}, row...))
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	if !asJSON {
		a.table(rows)
		return nil
	}
	for _, row := range rows[1:] {
		obj := map[string]string{}
		for i, name := range rows[0] {
			obj[strings.ToLower(name)] = row[i]
		}
		js, err := json.Marshal(obj)
		if err != nil {
			return err
		}
		a.report.say(string(js))
	}
	return nil
}

// findInstance looks an instance up in all regions, by id or by the tag Name.
func findInstance(ctx context.Context, c *localcloud.Cloud, name string) (region string, found localcloud.Instance, err error) {
	var hits []string
	for _, r := range localcloud.Regions() {
		err := c.View(ctx, r, func(t *localcloud.Tx) error {
			all, err := localcloud.All[localcloud.Instance](t)
			for _, i := range all {
				if i.State != "terminated" && (i.ID == name || i.Tags["Name"] == name) {
					region, found = r, i
					hits = append(hits, i.ID)
				}
			}
			return err
		})
		if err != nil {
			return "", found, err
		}
	}
	switch len(hits) {
	case 0:
		return "", found, diag.WithHint(fmt.Errorf("there is no instance %q", name), "%s local ls lists them", programName)
	case 1:
		return region, found, nil
	}
	return "", found, diag.WithHint(fmt.Errorf("%d instances are named %q: %s", len(hits), name, strings.Join(hits, ", ")), "give the id of one")
}

func localRm() *command {
	return &command{
		name:     "local rm",
		args:     "INSTANCE ...",
		synopsis: "terminate instances",
		about:    `Terminates instances, named by id or by their tag Name.`,
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(ctx context.Context, args []string) int {
				if len(args) == 0 {
					return a.wrongLocal(localRm(), "one or more instances")
				}
				return a.withLocal(ctx, func(ctx context.Context, c *localcloud.Cloud) error {
					var errs []error
					for _, name := range args {
						region, i, err := findInstance(ctx, c, name)
						if err == nil {
							_, err = c.TerminateInstances(ctx, region, []string{i.ID})
						}
						errs = append(errs, err)
					}
					return errors.Join(append(errs, c.Drain(ctx))...)
				})
			}
		},
	}
}

func localConsole() *command {
	return &command{
		name:     "local console",
		args:     "INSTANCE",
		synopsis: "print an instance's serial console",
		about:    `Prints what an instance, named by id or by its tag Name, has written to its serial console.`,
		prepare: func(a *app, _ *flag.FlagSet) func(context.Context, []string) int {
			return func(ctx context.Context, args []string) int {
				if len(args) != 1 {
					return a.wrongLocal(localConsole(), "one instance")
				}
				return a.failed(a.localConsole(ctx, args[0]))
			}
		},
	}
}

func (a *app) localConsole(ctx context.Context, name string) error {
	c, err := a.openLocal(ctx)
	if err != nil {
		return err
	}
	_, i, err := findInstance(ctx, c, name)
	if err != nil {
		return err
	}
	f, err := os.Open(c.ConsoleFile(i.ID))
	if errors.Is(err, fs.ErrNotExist) {
		a.report.say(i.ID + " has not written anything yet.")
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(a.Out, f)
	return err
}

func localSSH() *command {
	return &command{
		name:     "local ssh",
		args:     "INSTANCE [COMMAND ...]",
		synopsis: "log in to an instance",
		about: `Logs in to an instance, named by id or by its tag Name, with the ssh of this
			machine. Instances of "` + programName + ` local run" take the key of the local cloud; for
			others name one with -i.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			user := fs.String("l", "admin", "`name` of the login")
			key := fs.String("i", "", "`file` of the private key")
			return func(ctx context.Context, args []string) int {
				if len(args) == 0 {
					return a.wrongLocal(localSSH(), "an instance and, if wanted, a command")
				}
				return a.localSSH(ctx, args[0], *user, *key, args[1:])
			}
		},
	}
}

func (a *app) localSSH(ctx context.Context, name, user, key string, command []string) int {
	c, err := a.openLocal(ctx)
	if err != nil {
		return a.failed(err)
	}
	_, i, err := findInstance(ctx, c, name)
	if err != nil {
		return a.failed(err)
	}
	if i.PublicIP == "" {
		return a.failed(fmt.Errorf("%s is %s and has no address", i.ID, i.State))
	}
	if key == "" {
		key = filepath.Join(c.Dir(), keyFile)
	}
	// Every instance has an address and a host key of its own, and both are
	// gone with it: a file of known hosts would only be in the way.
	args := append([]string{
		"-i", key, "-p", strconv.Itoa(max(i.SSHPort, 22)), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR",
		user + "@" + i.PublicIP,
	}, command...)
	cmd := exec.CommandContext(ctx, "ssh", args...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.Env = a.In, a.Out, a.Err, a.Env
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode()
	}
	return a.failed(err)
}

// imageNamed finds an image of a region by id or name, the newest first.
func imageNamed(ctx context.Context, c *localcloud.Cloud, region, name string) (img localcloud.Image, err error) {
	err = c.View(ctx, region, func(t *localcloud.Tx) error {
		all, err := localcloud.All[localcloud.Image](t)
		slices.SortFunc(all, func(a, b localcloud.Image) int { return b.Created.Compare(a.Created) })
		for _, i := range all {
			if i.State == "available" && (i.ID == name || i.Name == name) && err == nil {
				img = i
				return nil
			}
		}
		if err == nil {
			err = diag.WithHint(fmt.Errorf("there is no image %q in %s", name, region), "%s local ls -region %s images lists them", programName, region)
		}
		return err
	})
	return img, err
}
