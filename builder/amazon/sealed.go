package amazon

import (
	"context"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	"github.com/aws/aws-sdk-go-v2/service/ec2/types"
)

// What may become an artifact (image, snapshot, volume) is made with the tag
// ingot:state = building, which is overwritten as the last act of the step
// that finishes it. A sweep by tags removes nothing of these kinds without
// the first value: where a tag could not be set, or was taken away, it stays.
const (
	tagState      = "ingot:state"
	stateBuilding = "building"
	stateSealed   = "sealed"
	stateKept     = "kept" // a volume that delete_on_termination = false leaves
)

// seal marks finished things, those that were made with the mark.
func (c cloud) seal(ctx context.Context, state string, ids ...string) error {
	if len(ids) == 0 {
		return nil
	}
	_, err := c.CreateTags(ctx, &ec2.CreateTagsInput{Resources: ids, Tags: []types.Tag{{Key: aws.String(tagState), Value: &state}}})
	return err
}

// marksVolumes reports whether the mark had room among the volumes' own tags.
func (m *machine) marksVolumes() bool {
	_, given := m.volumeTags[tagState]
	return !given && len(m.volumeTags)+3 <= maxTags
}

// isBuilding reports whether tags say that the thing is not finished.
func isBuilding(tags []types.Tag) bool {
	return slices.ContainsFunc(tags, func(t types.Tag) bool {
		return aws.ToString(t.Key) == tagState && aws.ToString(t.Value) == stateBuilding
	})
}

// sealImage marks an image and its snapshots, made with these tags.
func (c cloud) sealImage(ctx context.Context, id string, snapshots []string, image, snapshot []types.Tag) error {
	var marked []string
	if isBuilding(image) {
		marked = append(marked, id)
	}
	if isBuilding(snapshot) {
		marked = append(marked, snapshots...)
	}
	return c.seal(ctx, stateSealed, marked...)
}
