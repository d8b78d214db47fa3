// Package network serves EC2's actions for networks and for what is known
// without any machine: regions, instance types, keys, tags, launch templates.
package network

import (
	"context"
	"slices"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

// An api serves the actions over a cloud.
type api struct{ cloud *localcloud.Cloud }

// Operations are the package's actions.
func Operations(c *localcloud.Cloud) awswire.Operations {
	a := &api{cloud: c}
	return awswire.Merge(
		a.regions(), a.vpcs(), a.subnets(), a.gateways(), a.routeTables(), a.securityGroups(), a.securityRules(),
		a.keyPairs(), a.addresses(), a.interfaces(), a.launchTemplates(), a.tags(), a.instanceTypes(),
	)
}

// dry makes what follows a dry run where the request says so.
func dry(ctx context.Context, d ec2wire.DryRun) context.Context {
	if d.DryRun {
		return localcloud.WithDryRun(ctx)
	}
	return ctx
}

// noTags is for resources that have none.
func noTags[T any](T) localcloud.Tags { return nil }

// pick returns the resources with the ids, all of them when no id is given. An
// id that is not there is the error that missing makes of it.
func pick[T any](all []T, ids []string, idOf func(T) string, missing func(id string) error) ([]T, error) {
	if len(ids) == 0 {
		return all, nil
	}
	for _, id := range ids {
		if !slices.ContainsFunc(all, func(v T) bool { return idOf(v) == id }) {
			return nil, missing(id)
		}
	}
	return slices.DeleteFunc(all, func(v T) bool { return !slices.Contains(ids, idOf(v)) }), nil
}

// notFound makes the error for an id of a kind of resource.
func notFound(prefix, code, malformed, name string) func(id string) error {
	return func(id string) error {
		if malformed != "" && !localcloud.ValidID(prefix, id) {
			return awswire.Errorf(malformed, "Invalid id: \"%s\" (expecting \"%s-...\")", id, prefix)
		}
		return awswire.Errorf(code, "The %s '%s' does not exist", name, id)
	}
}

// records reads all records of a kind in a region.
func records[T localcloud.Record](ctx context.Context, a *api, region string) (out []T, err error) {
	err = a.cloud.View(ctx, region, func(t *localcloud.Tx) (err error) {
		out, err = localcloud.All[T](t)
		return err
	})
	return out, err
}

// A boolValue is a flag in an element of its own.
type boolValue struct {
	Value bool `q:"Value" xml:"value"`
}

type textValue struct {
	Value string `q:"Value" xml:"value"`
}

// A groupItem names a security group.
type groupItem struct {
	ID   string `xml:"groupId"`
	Name string `xml:"groupName"`
}
