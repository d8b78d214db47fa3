package debootstrap

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"github.com/ingot-build/ingot/builder"
)

// whereabouts is what the journal keeps of the options.
type whereabouts struct {
	Output string `json:"output_directory"` // absolute
	Image  string `json:"image_name"`
	Format string `json:"format"`
}

func (b *image) where(context.Context) (any, error) {
	out, err := filepath.Abs(b.cfg.OutputDir)
	return whereabouts{out, b.cfg.ImageName, b.cfg.Format}, err
}

func reopen(place json.RawMessage, info builder.Info) (builder.Builder, error) {
	var w whereabouts
	if err := json.Unmarshal(place, &w); err != nil {
		return nil, fmt.Errorf("place of the build in the journal: %w", err)
	}
	b := &image{cfg: Config{OutputDir: w.Output, ImageName: w.Image, Format: w.Format}, info: info}
	return b.machine(), nil
}

// holds looks for the folders that the state names.
func (b *image) holds(_ *builder.Run, s *state) []builder.Thing {
	var out []builder.Thing
	if _, err := os.Lstat(s.Work); s.Work != "" && err == nil {
		out = append(out, builder.Thing{Kind: "folder", ID: s.Work, Step: "workspace"})
	}
	if ours, err := b.published(s); s.Published && (ours || err != nil) {
		out = append(out, builder.Thing{Kind: "output folder", ID: b.cfg.OutputDir, Step: "image"})
	}
	return out
}

// sweep finds the scratch folders of builds whose journal is gone.
func sweep(_ context.Context, o builder.SweepOptions) ([]builder.Find, error) {
	return builder.FindFolders(o.Dirs, ".", "workspace")
}
