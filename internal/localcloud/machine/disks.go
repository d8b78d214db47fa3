package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/ingot-build/ingot/internal/poll"
	"github.com/ingot-build/ingot/internal/vm"
	"github.com/ingot-build/ingot/internal/vm/qmp"
)

// attached returns the disks' devices by volume id, and the places in use.
func attached(ctx context.Context, c *qmp.Client) (devices map[string]string, used map[int]bool, err error) {
	var list []struct{ Name string }
	if err := c.Do(ctx, "qom-list", map[string]any{"path": "/machine/peripheral"}, &list); err != nil {
		return nil, nil, err
	}
	devices, used = map[string]string{}, map[int]bool{}
	for _, d := range list {
		place, volume, ok := strings.Cut(d.Name, ".")
		slot, err := strconv.Atoi(strings.TrimPrefix(place, "disk"))
		if !ok || err != nil {
			continue
		}
		devices[volume], used[slot] = d.Name, true
	}
	return devices, used, nil
}

// hasNode reports whether an image is open.
func hasNode(ctx context.Context, c *qmp.Client, name string) (bool, error) {
	var nodes []struct {
		Name string `json:"node-name"`
	}
	if err := c.Do(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return false, err
	}
	for _, n := range nodes {
		if n.Name == name {
			return true, nil
		}
	}
	return false, nil
}

// AttachDisk implements [Process].
func (p *process) AttachDisk(ctx context.Context, d Disk) error {
	if err := d.check(); err != nil {
		return fmt.Errorf("attach %s: %w", d.VolumeID, err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	err := p.with(ctx, func(c *qmp.Client) error {
		devices, used, err := attached(ctx, c)
		if err != nil || devices[d.VolumeID] != "" {
			return err
		}
		slot, err := freeSlot(p.spec.Arch, d.DeviceName, used)
		if err != nil {
			return err
		}
		open, err := hasNode(ctx, c, d.VolumeID) // by an attempt that was cut short
		if err == nil && !open {
			err = c.Do(ctx, "blockdev-add", nested(d.node()), nil)
		}
		if err != nil {
			return err
		}
		if err := c.Do(ctx, "device_add", nested(d.device(p.spec.Arch, slot)), nil); err != nil {
			return errors.Join(err, c.Do(ctx, "blockdev-del", map[string]any{"node-name": d.VolumeID}, nil))
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("attach %s to %s: %w", d.VolumeID, p.spec.ID, err)
	}
	return nil
}

// DetachDisk implements [Process].
func (p *process) DetachDisk(ctx context.Context, volumeID string) error {
	asked := false
	err := poll.Until(ctx, poll.Backoff{First: 50 * time.Millisecond, Max: time.Second}, func(ctx context.Context) (bool, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		done := false
		err := p.with(ctx, func(c *qmp.Client) error {
			devices, _, err := attached(ctx, c)
			if err != nil {
				return err
			}
			if dev := devices[volumeID]; dev != "" {
				if !asked {
					err = c.Do(ctx, "device_del", map[string]any{"id": dev}, nil)
					var refused *qmp.CommandError
					if errors.As(err, &refused) && strings.Contains(refused.Desc, "already in the process of unplug") {
						err = nil
					}
					asked = err == nil
				}
				return err
			}
			open, err := hasNode(ctx, c, volumeID)
			if err == nil && open {
				err = c.Do(ctx, "blockdev-del", map[string]any{"node-name": volumeID}, nil)
			}
			done = err == nil
			return err
		})
		return done, err
	})
	if err != nil {
		return fmt.Errorf("detach %s from %s: %w", volumeID, p.spec.ID, err)
	}
	return nil
}

// SnapshotDisks implements [Process].
func (p *process) SnapshotDisks(ctx context.Context, volumeIDs, files []string) (err error) {
	if len(volumeIDs) != len(files) || len(files) == 0 {
		return fmt.Errorf("snapshot of %d disks to %d files", len(volumeIDs), len(files))
	}
	copies := make([]diskCopy, len(files))
	defer func() {
		cctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cleanTime)
		defer stop()
		if cerr := p.endCopies(cctx, copies); err == nil {
			err = cerr
		}
		for i := range copies {
			if err != nil && copies[i].made {
				_ = os.Remove(files[i]) // the error says enough
			}
		}
		if err != nil {
			err = fmt.Errorf("snapshot of %s: %w", p.spec.ID, err)
		}
	}()
	for i := range files {
		if err := p.prepareCopy(ctx, &copies[i], volumeIDs[i], files[i]); err != nil {
			return err
		}
	}
	actions := make([]any, len(copies))
	for i, c := range copies {
		actions[i] = map[string]any{"type": "blockdev-backup", "data": map[string]any{
			"job-id": c.node, "device": c.volume, "target": c.node, "sync": c.sync, "auto-dismiss": false,
		}}
	}
	// In one transaction: all disks as they are at one moment.
	if err := p.do(ctx, "transaction", map[string]any{"actions": actions}, nil); err != nil {
		return err
	}
	for i := range copies {
		copies[i].begun = true
	}
	return poll.Until(ctx, poll.Backoff{First: 20 * time.Millisecond, Max: 500 * time.Millisecond}, func(ctx context.Context) (bool, error) {
		jobs, err := p.jobs(ctx)
		if err != nil {
			return false, err
		}
		for _, c := range copies {
			switch j := jobs[c.node]; {
			case j.Error != "":
				return false, errors.New(j.Error)
			case j.Status != "concluded":
				return false, nil
			}
		}
		return true, nil
	})
}

// diskCopy is one copy under way.
type diskCopy struct {
	volume, node, sync string
	made, open, begun  bool
}

type blockJob struct {
	ID     string `json:"id"`
	Status string `json:"status"`
	Error  string `json:"error"`
}

func (p *process) jobs(ctx context.Context) (map[string]blockJob, error) {
	var list []blockJob
	if err := p.do(ctx, "query-jobs", nil, &list); err != nil {
		return nil, err
	}
	out := map[string]blockJob{}
	for _, j := range list {
		out[j.ID] = j
	}
	return out, nil
}

// prepareCopy makes the file of a copy and opens it.
func (p *process) prepareCopy(ctx context.Context, c *diskCopy, volume, file string) error {
	var nodes []struct {
		Name  string `json:"node-name"`
		Image struct {
			Size    int64  `json:"virtual-size"`
			Format  string `json:"format"`
			Backing string `json:"full-backing-filename"`
			Below   string `json:"backing-filename-format"`
		} `json:"image"`
	}
	if err := p.do(ctx, "query-named-block-nodes", map[string]any{"flat": true}, &nodes); err != nil {
		return err
	}
	*c = diskCopy{volume: volume, node: "copy-" + random(), sync: "full"}
	new := vm.NewImage{Path: file, Format: "qcow2"}
	for _, n := range nodes {
		if n.Name == volume {
			new.Size, new.Backing, new.BackingFormat = n.Image.Size, n.Image.Backing, n.Image.Below
		}
	}
	if new.Size == 0 {
		return fmt.Errorf("the volume %s is not attached", volume)
	}
	if new.Backing != "" {
		c.sync = "top"
		if new.BackingFormat == "" {
			new.BackingFormat = "qcow2"
		}
	}
	if _, err := os.Lstat(file); !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s exists already", file)
	}
	c.made = true
	if err := (vm.Img{}).Create(ctx, new); err != nil {
		return err
	}
	open := nested([]pair{
		{"driver", "qcow2"},
		{"node-name", c.node},
		{"discard", "unmap"},
		{"detect-zeroes", "unmap"},
		{"file.driver", "file"},
		{"file.filename", file},
	})
	if err := p.do(ctx, "blockdev-add", open, nil); err != nil {
		return err
	}
	c.open = true
	return nil
}

// endCopies ends the jobs and closes the files.
func (p *process) endCopies(ctx context.Context, copies []diskCopy) error {
	var errs []error
	for _, c := range copies {
		if c.begun {
			errs = append(errs, p.endJob(ctx, c.node))
		}
	}
	for _, c := range copies {
		if c.open {
			errs = append(errs, p.do(ctx, "blockdev-del", map[string]any{"node-name": c.node}, nil))
		}
	}
	return errors.Join(errs...)
}

func (p *process) endJob(ctx context.Context, id string) error {
	return poll.Until(ctx, poll.Backoff{First: 20 * time.Millisecond, Max: 500 * time.Millisecond}, func(ctx context.Context) (bool, error) {
		jobs, err := p.jobs(ctx)
		if err != nil {
			return false, err
		}
		j, ok := jobs[id]
		switch {
		case !ok:
			return true, nil
		case j.Status == "concluded":
			return true, p.do(ctx, "job-dismiss", map[string]any{"id": id}, nil)
		case j.Status == "running" || j.Status == "paused" || j.Status == "standby" || j.Status == "ready":
			_ = p.do(ctx, "job-cancel", map[string]any{"id": id}, nil) // asked again when it was refused
		}
		return false, nil
	})
}
