package cli

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/faults"
	"github.com/ingot-build/ingot/internal/localcloud/server"
)

func localImport() *command {
	return &command{
		name:     "local import",
		args:     "DISK",
		synopsis: "register a disk image as one of Debian's official AMIs",
		about: `Registers a bootable disk image (qcow2 or raw) in every region, as a public AMI of
			the owner of Debian's official images and named as they are, so that an
			ordinary source_ami_filter finds it. The same disk again changes nothing.

			The image must take its login key from the instance metadata: those of the
			builder debootstrap do.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			b := localcloud.BaseImage{}
			fs.StringVar(&b.Arch, "arch", "x86_64", "architecture: `x86_64` or arm64")
			fs.StringVar(&b.BootMode, "boot-mode", "", "`legacy-bios`, uefi or uefi-preferred; by default the instance type decides")
			fs.StringVar(&b.Name, "name", "", "`name` of the image; by default debian-12-ARCH-DATE-NUMBER, of the file's time")
			return func(ctx context.Context, args []string) int {
				if len(args) != 1 {
					return a.wrongLocal(localImport(), "one disk image")
				}
				b.Path = args[0]
				if !filepath.IsAbs(b.Path) {
					b.Path = filepath.Join(a.Cwd, b.Path)
				}
				if err := describe(&b); err != nil {
					return a.failed(err)
				}
				return a.withLocal(ctx, func(ctx context.Context, c *localcloud.Cloud) error {
					ids, err := c.RegisterBase(ctx, b)
					if err != nil {
						return err
					}
					a.report.say(fmt.Sprintf("%s of owner %s is in every region, in %s as %s.", b.Name, localcloud.Debian, defaultRegion, ids[defaultRegion]))
					return nil
				})
			}
		},
	}
}

// describe fills in what the file itself tells.
func describe(b *localcloud.BaseImage) error {
	f, err := os.Open(b.Path)
	if err != nil {
		return diag.WithHint(err, "name a disk image: %s build examples/base makes one", programName)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	if !st.Mode().IsRegular() {
		return fmt.Errorf("%s is not a file", b.Path)
	}
	b.Format, b.Created = "raw", st.ModTime().UTC().Truncate(time.Second)
	magic := make([]byte, 4)
	if _, err := io.ReadFull(f, magic); err == nil && string(magic) == "QFI\xfb" {
		b.Format = "qcow2"
	}
	if b.Name == "" {
		arch := map[string]string{"x86_64": "amd64"}[b.Arch]
		b.Name = fmt.Sprintf("debian-12-%s-%s", or(arch, b.Arch), b.Created.Format("20060102-1504"))
	}
	return nil
}

func localFault() *command {
	return &command{
		name:     "local fault",
		args:     "ls | add KIND | rm ID | clear",
		synopsis: "make it misbehave",
		about: `Lists, adds and removes the faults of the local cloud: throttle, error, lost
			(the reply, after the effect), broken (500 after the effect), slow, down (no
			answer), stale (new ids are not known at once). Flags stand before the words;
			they say which calls are hit, as patterns: -service ec2 -action 'Describe*'`,
		words: func(*app) []string { return []string{"add", "clear", "ls", "rm"} },
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			var r faults.Rule
			fs.StringVar(&r.Service, "service", "", "`pattern` of services: ec2, ebs, sts, iam, ssm, secretsmanager, s3")
			fs.StringVar(&r.Action, "action", "", "`pattern` of actions")
			fs.StringVar(&r.Region, "region", "", "`pattern` of regions")
			fs.StringVar(&r.Code, "code", "", "error `code` of an error")
			fs.IntVar(&r.Status, "status", 0, "HTTP `status` of an error")
			fs.DurationVar(&r.Delay, "delay", 0, "`time` of slow and stale")
			fs.IntVar(&r.Skip, "skip", 0, "`number` of calls that pass first")
			fs.IntVar(&r.Count, "count", 0, "`number` of calls that are hit; 0 is all")
			fs.Float64Var(&r.Probability, "probability", 0, "`chance` of a hit, between 0 and 1; 0 is certain")
			return func(_ context.Context, args []string) int {
				dir, err := a.localDir()
				if err != nil {
					return a.failed(err)
				}
				switch {
				case len(args) == 1 && args[0] == "ls":
					err = a.listFaults(dir)
				case len(args) == 2 && args[0] == "add":
					r.Kind = faults.Kind(args[1])
					err = addFault(dir, r)
				case len(args) == 2 && args[0] == "rm":
					err = removeFault(dir, args[1])
				case len(args) == 1 && args[0] == "clear":
					err = faults.Save(dir, nil)
				default:
					return a.wrongLocal(localFault(), "ls, add KIND, rm ID or clear, after its flags")
				}
				return a.failed(err)
			}
		},
	}
}

func (a *app) listFaults(dir string) error {
	rules, err := faults.Load(dir)
	if err != nil {
		return err
	}
	rows := [][]string{{"ID", "KIND", "SERVICE", "ACTION", "REGION", "SKIP", "COUNT", "DELAY"}}
	for _, r := range rules {
		rows = append(rows, []string{
			r.ID, string(r.Kind), or(r.Service, "*"), or(r.Action, "*"), or(r.Region, "*"),
			strconv.Itoa(r.Skip), or(strings.TrimPrefix(strconv.Itoa(r.Count), "0"), "all"), or(strings.TrimPrefix(r.Delay.String(), "0s"), "-"),
		})
	}
	a.table(rows)
	return nil
}

func or(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func addFault(dir string, r faults.Rule) error {
	rules, err := faults.Load(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("local cloud: %w", err)
	}
	r.ID = uuid.NewString()[:8]
	return faults.Save(dir, append(rules, r))
}

func removeFault(dir, id string) error {
	rules, err := faults.Load(dir)
	if err != nil {
		return err
	}
	kept := slices.DeleteFunc(slices.Clone(rules), func(r faults.Rule) bool { return r.ID == id })
	if len(kept) == len(rules) {
		return diag.WithHint(fmt.Errorf("there is no fault %q", id), "%s local fault ls lists them", programName)
	}
	return faults.Save(dir, kept)
}

func localReset() *command {
	return &command{
		name:     "local reset",
		synopsis: "remove everything in it",
		about: `Ends the machines of the local cloud and removes everything that is in it:
			instances, volumes, snapshots, images. The service must not run.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			force := fs.Bool("force", false, "do it: without this flag it only tells what would be removed")
			return func(ctx context.Context, args []string) int {
				if len(args) != 0 {
					return a.wrongLocal(localReset(), "no arguments")
				}
				return a.failed(a.localReset(ctx, *force))
			}
		},
	}
}

func (a *app) localReset(ctx context.Context, force bool) error {
	dir, err := a.localDir()
	if err != nil {
		return err
	}
	if !exists(dir) {
		a.report.say("There is no local cloud in " + dir + ".")
		return nil
	}
	if info, ok := server.Find(dir); ok {
		return diag.WithHint(&server.RunningError{Dir: dir, Info: info}, "end it first: %s local down", programName)
	}
	if !force {
		if err := a.localSummary(ctx, dir); err != nil {
			return err
		}
		return diag.WithHint(errors.New("nothing was removed"), "%s local reset -force removes all of this", programName)
	}
	if code := a.withLocal(ctx, terminateAll); code != exitDone {
		return diag.WithHint(errors.New("not every machine was ended"), "nothing was removed from %s", dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("local cloud: %w", err)
	}
	a.report.say("Removed the local cloud in " + dir + ".")
	return nil
}

// terminateAll ends every instance, protected or not.
func terminateAll(ctx context.Context, c *localcloud.Cloud) error {
	var errs []error
	for _, region := range localcloud.Regions() {
		errs = append(errs, c.Update(ctx, region, func(t *localcloud.Tx) error {
			all, err := localcloud.All[localcloud.Instance](t)
			for _, i := range all {
				if i.APITermination {
					i.APITermination = false
					err = errors.Join(err, localcloud.Put(t, i))
				}
			}
			return err
		}))
		all, err := c.Instances(ctx, region, nil)
		errs = append(errs, err)
		for _, i := range all {
			if i.State != "terminated" {
				_, err := c.TerminateInstances(ctx, region, []string{i.ID})
				errs = append(errs, err)
			}
		}
	}
	ctx, stop := context.WithTimeout(ctx, 5*time.Minute)
	defer stop()
	return errors.Join(append(errs, c.Drain(ctx))...)
}
