package qemu

import (
	"os"
	"path/filepath"

	"github.com/ingot-build/ingot/builder"
)

// intent is what the options say will be made.
func (m *machine) intent() builder.Intent {
	out := builder.Intent{Name: filepath.Join(m.cfg.OutputDir, m.cfg.VMName)}
	if _, err := os.Lstat(m.cfg.OutputDir); err == nil && m.info.Force {
		out.Replaces = []string{"the folder " + m.cfg.OutputDir}
	}
	return out
}
