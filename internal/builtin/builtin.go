// Package builtin is the one list of what Ingot has built in.
package builtin

import (
	"context"

	"github.com/ingot-build/ingot/builder"
	"github.com/ingot-build/ingot/builder/amazon"
	"github.com/ingot-build/ingot/builder/debootstrap"
	filebuilder "github.com/ingot-build/ingot/builder/file"
	nullbuilder "github.com/ingot-build/ingot/builder/null"
	"github.com/ingot-build/ingot/builder/qemu"
	"github.com/ingot-build/ingot/internal/awsaccess"
	"github.com/ingot-build/ingot/internal/component"
	"github.com/ingot-build/ingot/internal/datasource"
	"github.com/ingot-build/ingot/internal/datasource/amazonami"
	"github.com/ingot-build/ingot/internal/datasource/amazonparameterstore"
	"github.com/ingot-build/ingot/internal/datasource/amazonsecretsmanager"
	"github.com/ingot-build/ingot/internal/datasource/http"
	nulldata "github.com/ingot-build/ingot/internal/datasource/null"
	"github.com/ingot-build/ingot/postprocessor"
	"github.com/ingot-build/ingot/postprocessor/amazonimport"
	"github.com/ingot-build/ingot/postprocessor/artifice"
	"github.com/ingot-build/ingot/postprocessor/checksum"
	"github.com/ingot-build/ingot/postprocessor/compress"
	"github.com/ingot-build/ingot/postprocessor/manifest"
	postshell "github.com/ingot-build/ingot/postprocessor/shelllocal"
	"github.com/ingot-build/ingot/provisioner"
	"github.com/ingot-build/ingot/provisioner/ansible"
	"github.com/ingot-build/ingot/provisioner/ansiblelocal"
	"github.com/ingot-build/ingot/provisioner/breakpoint"
	"github.com/ingot-build/ingot/provisioner/file"
	"github.com/ingot-build/ingot/provisioner/hcpsbom"
	"github.com/ingot-build/ingot/provisioner/powershell"
	"github.com/ingot-build/ingot/provisioner/shell"
	"github.com/ingot-build/ingot/provisioner/shelllocal"
	"github.com/ingot-build/ingot/provisioner/sleep"
	"github.com/ingot-build/ingot/provisioner/windowsrestart"
	"github.com/ingot-build/ingot/provisioner/windowsshell"
)

// All returns every built-in component, for a platform.
func All(p component.Platform) component.Set {
	aws := awsLocator(p)
	return component.Set{
		Builders: append([]builder.Driver{
			debootstrap.Driver(), filebuilder.Driver(), nullbuilder.Driver(), qemu.Driver(),
		}, amazon.Drivers(p.Version, aws)...),
		Provisioners: []provisioner.Driver{
			ansible.Driver(), ansiblelocal.Driver(), breakpoint.Driver(), file.Driver(), hcpsbom.Driver(), powershell.Driver(),
			shell.Driver(), shelllocal.Driver(), sleep.Driver(), windowsrestart.Driver(), windowsshell.Driver(),
		},
		PostProcessors: []postprocessor.Driver{
			amazonimport.Driver(p.Version, aws), artifice.Driver(), checksum.Driver(), compress.Driver(), manifest.Driver(), postshell.Driver(),
		},
		DataSources: []datasource.Driver{
			amazonami.Driver(p.Version, aws), amazonparameterstore.Driver(p.Version, aws), amazonsecretsmanager.Driver(p.Version, aws),
			http.Driver(), nulldata.Driver(),
		},
		SecretsManager: amazonsecretsmanager.Text(p.Version, aws),
	}
}

// awsLocator is where AWS is called, nil for AWS itself.
func awsLocator(p component.Platform) awsaccess.Locator {
	if p.Amazon == nil {
		return nil
	}
	return func(ctx context.Context) (*awsaccess.Endpoint, error) {
		e, err := p.Amazon(ctx)
		if err != nil {
			return nil, err
		}
		return &awsaccess.Endpoint{URL: e.URL, Region: e.Region, AccessKey: e.AccessKey, SecretKey: e.SecretKey}, nil
	}
}
