// Package compute serves EC2's actions for instances, fleets and spot
// requests.
package compute

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

// An api serves the actions over a cloud.
type api struct{ cloud *localcloud.Cloud }

// Operations are the package's actions.
func Operations(c *localcloud.Cloud) awswire.Operations {
	a := &api{cloud: c}
	return awswire.Merge(a.instances(), a.states(), a.attributes(), a.consoles(), a.profiles(), a.fleets(), a.spot(), a.roots())
}

// dry makes what follows a dry run where the request says so.
func dry(ctx context.Context, d ec2wire.DryRun) context.Context {
	if d.DryRun {
		return localcloud.WithDryRun(ctx)
	}
	return ctx
}

type textValue struct {
	Value string `q:"Value" xml:"value,omitempty"`
}

type boolValue struct {
	Value bool `q:"Value" xml:"value"`
}

type instanceIDs struct {
	ec2wire.DryRun
	IDs []string `q:"InstanceId,required"`
}

type instanceID struct {
	ec2wire.DryRun
	ID string `q:"InstanceId,required"`
}
