package cli

import (
	"context"
	"crypto/ed25519"
	"encoding/pem"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/server"
)

const (
	keyFile = "id_ed25519" // in the cloud's folder: the key of local run and local ssh
	runName = "ingot-local"
)

func localRun() *command {
	return &command{
		name:     "local run",
		args:     "IMAGE",
		synopsis: "start instances from an image",
		about: `Starts instances from an image, named by id or name, with the key of the local
			cloud and a security group that lets everything in from this machine. Returns
			when they run; what boots in them may need a while longer.

			Instances need the service, for their metadata: where none runs, one is
			started in the background.`,
		prepare: func(a *app, fs *flag.FlagSet) func(context.Context, []string) int {
			o := runOptions{}
			a.regionFlag(fs, &o.region)
			fs.StringVar(&o.kind, "type", "t3.small", "instance `type`")
			fs.StringVar(&o.name, "name", "", "`text` of the tag Name")
			fs.IntVar(&o.count, "count", 1, "`number` of instances")
			return func(ctx context.Context, args []string) int {
				if len(args) != 1 {
					return a.wrongLocal(localRun(), "one image")
				}
				if err := checkRegion(o.region); err != nil {
					return a.failed(err)
				}
				return a.failed(a.localRun(ctx, args[0], o))
			}
		},
	}
}

// ensureService starts a service in the background where none runs.
func (a *app) ensureService(ctx context.Context) error {
	dir, err := a.localDir()
	if err != nil {
		return err
	}
	if _, served := server.Find(dir); served {
		return nil
	}
	if err := a.localBackground(ctx, 0, false); err != nil {
		return err
	}
	a.report.say("The local cloud is served in the background now; " + a.name() + " local down ends that.")
	return nil
}

type runOptions struct {
	region, kind, name string
	count              int
}

func (a *app) localRun(ctx context.Context, image string, o runOptions) error {
	c, err := a.openLocal(ctx)
	if err != nil {
		return err
	}
	img, err := imageNamed(ctx, c, o.region, image)
	if err != nil {
		return err
	}
	if err := a.ensureService(ctx); err != nil {
		return err
	}
	public, err := localKey(filepath.Join(c.Dir(), keyFile))
	if err != nil {
		return err
	}
	if _, err := c.ImportKeyPair(ctx, o.region, runName, public, nil); err != nil && localcloud.CodeOf(err) != "InvalidKeyPair.Duplicate" {
		return err
	}
	group, err := openGroup(ctx, c, o.region)
	if err != nil {
		return err
	}
	tags := map[string]localcloud.Tags{}
	if o.name != "" {
		tags["instance"] = localcloud.Tags{"Name": o.name}
	}
	made, err := c.RunInstances(ctx, o.region, localcloud.RunParams{
		Min: o.count, Max: o.count,
		Launch: localcloud.LaunchSpec{ImageID: img.ID, Type: o.kind, KeyName: runName, SecurityGroupIDs: []string{group}, Tags: tags},
	})
	if err != nil {
		return err
	}
	rows := [][]string{{"ID", "STATE", "ADDRESS"}}
	for _, i := range made {
		var got localcloud.Instance
		wait, stop := context.WithTimeout(ctx, 5*time.Minute)
		err := c.Await(wait, o.region, func(t *localcloud.Tx) (ok bool, err error) {
			got, _, err = localcloud.Get[localcloud.Instance](t, i.ID)
			return got.State != "pending", err
		})
		stop()
		if err != nil {
			return fmt.Errorf("%s: %w", i.ID, err)
		}
		if got.State != "running" {
			return fmt.Errorf("%s did not start: %s", i.ID, or(got.StateReason, got.State))
		}
		rows = append(rows, []string{got.ID, got.State, got.PublicIP})
	}
	a.table(rows)
	return nil
}

// localKey makes the key of the local cloud once and returns its public half.
func localKey(path string) ([]byte, error) {
	raw, err := os.ReadFile(path)
	if err == nil {
		key, err := ssh.ParsePrivateKey(raw)
		if err != nil {
			return nil, fmt.Errorf("key %s: %w", path, err)
		}
		return ssh.MarshalAuthorizedKey(key.PublicKey()), nil
	}
	if !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		return nil, err
	}
	block, err := ssh.MarshalPrivateKey(private, runName)
	if err != nil {
		return nil, err
	}
	if err := atomicfile.Write(path, pem.EncodeToMemory(block), 0o600); err != nil {
		return nil, err
	}
	return localKey(path)
}

// openGroup finds or makes the security group of local run in the default VPC.
func openGroup(ctx context.Context, c *localcloud.Cloud, region string) (id string, err error) {
	find := func(t *localcloud.Tx) error {
		all, err := localcloud.All[localcloud.SecurityGroup](t)
		for _, g := range all {
			if g.Name == runName {
				id = g.ID
			}
		}
		return err
	}
	if err := c.View(ctx, region, find); err != nil || id != "" {
		return id, err
	}
	g, err := c.CreateSecurityGroup(ctx, region, localcloud.SecurityGroupParams{Name: runName, Description: "instances of ingot local run"})
	if localcloud.CodeOf(err) == "InvalidGroup.Duplicate" {
		return id, c.View(ctx, region, find) // another process was faster
	}
	if err != nil {
		return "", err
	}
	_, _, err = c.AuthorizeRules(ctx, region, localcloud.GroupChange{
		ID: g.ID, Permissions: []localcloud.Permission{{Protocol: "-1", CIDR4: []localcloud.Peer{{ID: "127.0.0.0/8"}}}},
	})
	return g.ID, err
}
