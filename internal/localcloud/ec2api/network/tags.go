package network

import (
	"context"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
	"github.com/ingot-build/ingot/internal/localcloud/ec2api/ec2wire"
)

func (a *api) tags() awswire.Operations {
	return awswire.Operations{
		"CreateTags":   awswire.Op(a.createTags),
		"DeleteTags":   awswire.Op(a.deleteTags),
		"DescribeTags": awswire.Op(a.describeTags),
	}
}

// maxTagged is how many resources one call tags.
const maxTagged = 1000

type createTagsIn struct {
	ec2wire.DryRun
	Resources []string      `q:"ResourceId,required"`
	Tags      []ec2wire.Tag `q:"Tag,required"`
}

func (a *api) createTags(ctx context.Context, c *awswire.Call, in *createTagsIn) (*ec2wire.Return, error) {
	if len(in.Resources) > maxTagged {
		return nil, awswire.Errorf("InvalidParameterValue", "A call tags at most %d resources, not %d", maxTagged, len(in.Resources))
	}
	tags, err := ec2wire.CheckTags(in.Tags)
	if err != nil {
		return nil, err
	}
	return ec2wire.OK(), a.cloud.CreateTags(dry(ctx, in.DryRun), c.Region, in.Resources, tags)
}

type deleteTagsIn struct {
	ec2wire.DryRun
	Resources []string `q:"ResourceId,required"`
	Tags      []struct {
		Key   string  `q:"Key"`
		Value *string `q:"Value"`
	} `q:"Tag"`
}

func (a *api) deleteTags(ctx context.Context, c *awswire.Call, in *deleteTagsIn) (*ec2wire.Return, error) {
	if len(in.Resources) > maxTagged {
		return nil, awswire.Errorf("InvalidParameterValue", "A call untags at most %d resources, not %d", maxTagged, len(in.Resources))
	}
	var tags []localcloud.TagRemoval
	for _, t := range in.Tags {
		if t.Key == "" {
			return nil, awswire.Errorf("MissingParameter", "Each tag to delete needs a key")
		}
		tags = append(tags, localcloud.TagRemoval{Key: t.Key, Value: t.Value})
	}
	return ec2wire.OK(), a.cloud.DeleteTags(dry(ctx, in.DryRun), c.Region, in.Resources, tags)
}

type tagItem struct {
	ID    string `xml:"resourceId"`
	Kind  string `xml:"resourceType"`
	Key   string `xml:"key"`
	Value string `xml:"value"`
}

var tagFilters = ec2wire.FilterBy[localcloud.TaggedResource]{
	"key":           func(r localcloud.TaggedResource) []string { return ec2wire.One(r.Key) },
	"value":         func(r localcloud.TaggedResource) []string { return []string{r.Value} },
	"resource-id":   func(r localcloud.TaggedResource) []string { return ec2wire.One(r.ID) },
	"resource-type": func(r localcloud.TaggedResource) []string { return ec2wire.One(r.Kind) },
}

type describeTagsIn struct{ listIn }

type describeTagsOut struct {
	Tags []tagItem `xml:"tagSet>item"`
	Next string    `xml:"nextToken,omitempty"`
}

func (a *api) describeTags(ctx context.Context, c *awswire.Call, in *describeTagsIn) (*describeTagsOut, error) {
	var all []localcloud.TaggedResource
	err := a.cloud.View(ctx, c.Region, func(t *localcloud.Tx) (err error) {
		all, err = t.AllTags()
		return err
	})
	if err != nil {
		return nil, err
	}
	all, err = tagFilters.Match(in.Filters, all, func(r localcloud.TaggedResource) localcloud.Tags { return localcloud.Tags{r.Key: r.Value} })
	if err != nil {
		return nil, err
	}
	page, next, err := ec2wire.Slice(in.Page, all, 5, 1000)
	if err != nil {
		return nil, err
	}
	return &describeTagsOut{Next: next, Tags: ec2wire.Mapped(page, func(r localcloud.TaggedResource) tagItem {
		return tagItem{ID: r.ID, Kind: r.Kind, Key: r.Key, Value: r.Value}
	})}, in.Check()
}
