package localcloud

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// strayLife is how old a file without a record is before it is taken for that
// of a dead process.
const strayLife = time.Hour

// tombstoneLife is how long a deregistered image is known to have been there.
const tombstoneLife = 24 * time.Hour

// Collect removes what nothing refers to: layers, files that dead processes
// left, deregistered images after a day. It waits for whoever makes layers.
// removed counts layers, freed the bytes of their files.
func (c *Cloud) Collect(ctx context.Context) (removed int, freed int64, err error) {
	if err := c.forgetImages(ctx); err != nil {
		return 0, 0, err
	}
	var refs map[string]bool
	removed, freed, err = c.images.GC(ctx, func(digest string) bool {
		if refs == nil { // now nobody can make a layer
			if refs, err = c.references(ctx); err != nil {
				refs = nil
				return true
			}
		}
		return refs[digest]
	})
	return removed, freed, errors.Join(err, c.sweepCaptures(ctx))
}

// references are the layers that records name.
func (c *Cloud) references(ctx context.Context) (map[string]bool, error) {
	refs := map[string]bool{}
	err := c.View(ctx, "", func(t *Tx) error {
		for _, region := range Regions() {
			snaps, err := All[Snapshot](t.In(region))
			if err != nil {
				return err
			}
			for _, s := range snaps {
				refs[s.Layer], refs[s.UploadBase] = true, true
			}
			volumes, err := All[Volume](t.In(region))
			if err != nil {
				return err
			}
			for _, v := range volumes {
				refs[v.Layer] = true
			}
		}
		return nil
	})
	return refs, err
}

func (c *Cloud) forgetImages(ctx context.Context) error {
	old := map[string][]string{} // by region
	err := c.View(ctx, "", func(t *Tx) error {
		for _, region := range Regions() {
			images, err := All[Image](t.In(region))
			if err != nil {
				return err
			}
			for _, i := range images {
				if i.State == "deregistered" && t.Now.Sub(i.Transitioned) > tombstoneLife {
					old[region] = append(old[region], i.ID)
				}
			}
		}
		return nil
	})
	if err != nil || len(old) == 0 {
		return err
	}
	return c.Update(ctx, "", func(t *Tx) error {
		for region, ids := range old {
			for _, id := range ids {
				if err := Delete[Image](t.In(region), id); err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// sweepCaptures removes old files of captures that no snapshot needs.
func (c *Cloud) sweepCaptures(ctx context.Context) error {
	root := filepath.Join(c.dir, "captures")
	var stray []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err == nil && c.now().Sub(info.ModTime()) > strayLife {
			stray = append(stray, path)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("local cloud: %w", err)
	}
	if len(stray) == 0 {
		return nil
	}
	var used []string
	err = c.View(ctx, "", func(t *Tx) error {
		for _, region := range Regions() {
			snaps, err := All[Snapshot](t.In(region))
			if err != nil {
				return err
			}
			for _, s := range snaps {
				if s.State == "pending" {
					used = append(used, s.ID)
				}
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	var errs []error
	for _, path := range stray {
		id, _, _ := strings.Cut(filepath.Base(path), ".")
		if !slices.Contains(used, id) {
			if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				errs = append(errs, fmt.Errorf("local cloud: %w", err))
			}
		}
	}
	return errors.Join(errs...)
}
