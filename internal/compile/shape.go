package compile

import (
	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/component"
)

// Shapes tells what the options of the components of set look like. kind
// is "builder", "provisioner" or "post-processor"; false means that there is
// no such component.
func Shapes(set component.Set) func(kind, typ string) (hcl.Shape, bool) {
	x := newIndex(set)
	return func(kind, typ string) (hcl.Shape, bool) {
		switch kind {
		case "builder":
			if d, ok := x.builders[typ]; ok {
				return hcl.ShapeOf(d.Config()), true
			}
		case "provisioner":
			if d, ok := x.provisioners[typ]; ok {
				return hcl.ShapeOf(d.Config()), true
			}
		case "post-processor":
			if d, ok := x.postProcessors[typ]; ok {
				return hcl.ShapeOf(d.Config()), true
			}
		}
		return hcl.Shape{}, false
	}
}
