package debootstrap

import (
	"path/filepath"

	"github.com/ingot-build/ingot/builder"
)

// intent is what the options say will be made.
func (b *image) intent() builder.Intent {
	out := builder.Intent{Name: filepath.Join(b.cfg.OutputDir, b.cfg.fileName())}
	if taken, err := b.outputTaken(); err == nil && taken && b.info.Force {
		out.Replaces = []string{"the folder " + b.cfg.OutputDir}
	}
	return out
}
