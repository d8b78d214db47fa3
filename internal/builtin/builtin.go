// Package builtin is the one list of what Ingot has built in.
package builtin

import (
	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/builder/debootstrap"
	filebuilder "github.com/ingot-build/ingot/builder/file"
	nullbuilder "github.com/ingot-build/ingot/builder/null"
	"github.com/ingot-build/ingot/builder/qemu"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/datasource"
	"github.com/ingot-build/ingot/internal/datasource/http"
	nulldata "github.com/ingot-build/ingot/internal/datasource/null"
	"github.com/ingot-build/ingot/postprocessor"
	"github.com/ingot-build/ingot/postprocessor/artifice"
	"github.com/ingot-build/ingot/postprocessor/checksum"
	"github.com/ingot-build/ingot/postprocessor/compress"
	"github.com/ingot-build/ingot/postprocessor/manifest"
	postshell "github.com/ingot-build/ingot/postprocessor/shelllocal"
	"github.com/ingot-build/ingot/provisioner"
	"github.com/ingot-build/ingot/provisioner/breakpoint"
	"github.com/ingot-build/ingot/provisioner/file"
	"github.com/ingot-build/ingot/provisioner/shell"
	"github.com/ingot-build/ingot/provisioner/shelllocal"
	"github.com/ingot-build/ingot/provisioner/sleep"
)

// All returns every built-in component.
func All() component.Set {
	return component.Set{
		Builders: []builder.Driver{
			debootstrap.Driver(), filebuilder.Driver(), nullbuilder.Driver(), qemu.Driver(),
		},
		Provisioners: []provisioner.Driver{
			breakpoint.Driver(), file.Driver(), shell.Driver(), shelllocal.Driver(), sleep.Driver(),
		},
		PostProcessors: []postprocessor.Driver{
			artifice.Driver(), checksum.Driver(), compress.Driver(), manifest.Driver(), postshell.Driver(),
		},
		DataSources: []datasource.Driver{http.Driver(), nulldata.Driver()},
	}
}
