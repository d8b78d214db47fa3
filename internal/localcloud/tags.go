package localcloud

import (
	"context"
	"slices"
	"strings"
)

// maxTags is how many tags a resource has.
const maxTags = 50

// A taggable is one type of resource that has tags.
type taggable struct {
	prefix  string // of ids
	kind    string // EC2's name of the type
	missing string // code of the error for an id that does not exist
	each    func(t *Tx, fn func(id string, tags Tags) error) error
	get     func(t *Tx, id string) (Tags, bool, error)
	put     func(t *Tx, id string, tags Tags) error
}

// records makes a taggable of a kind of record whose id is the resource's.
func records[T Record](prefix, kind, missing string, tags func(*T) *Tags) taggable {
	return taggable{
		prefix: prefix, kind: kind, missing: missing,
		each: func(t *Tx, fn func(string, Tags) error) error {
			all, err := All[T](t)
			if err != nil {
				return err
			}
			for i := range all {
				if err := fn(all[i].RecordID(), *tags(&all[i])); err != nil {
					return err
				}
			}
			return nil
		},
		get: func(t *Tx, id string) (Tags, bool, error) {
			r, ok, err := Get[T](t, id)
			return *tags(&r), ok, err
		},
		put: func(t *Tx, id string, to Tags) error {
			r, _, err := Get[T](t, id)
			if err != nil {
				return err
			}
			*tags(&r) = to
			return Put(t, r)
		},
	}
}

// within makes a taggable of things inside of records: parts returns those of
// one record, which are changed in place.
func within[T Record](prefix, kind, missing string, parts func(*T) (ids []string, tags []*Tags)) taggable {
	find := func(t *Tx, id string, found func(r *T, tags *Tags) error) (bool, error) {
		all, err := All[T](t)
		if err != nil {
			return false, err
		}
		for i := range all {
			ids, tags := parts(&all[i])
			if n := slices.Index(ids, id); n >= 0 {
				return true, found(&all[i], tags[n])
			}
		}
		return false, nil
	}
	return taggable{
		prefix: prefix, kind: kind, missing: missing,
		each: func(t *Tx, fn func(string, Tags) error) error {
			all, err := All[T](t)
			if err != nil {
				return err
			}
			for i := range all {
				ids, tags := parts(&all[i])
				for n, id := range ids {
					if err := fn(id, *tags[n]); err != nil {
						return err
					}
				}
			}
			return nil
		},
		get: func(t *Tx, id string) (tags Tags, ok bool, err error) {
			ok, err = find(t, id, func(_ *T, has *Tags) error { tags = *has; return nil })
			return tags, ok, err
		},
		put: func(t *Tx, id string, to Tags) error {
			_, err := find(t, id, func(r *T, has *Tags) error { *has = to; return Put(t, *r) })
			return err
		},
	}
}

// taggables are the types of resources that have tags.
func taggables() []taggable {
	return []taggable{
		records("ami", "image", "InvalidAMIID.NotFound", func(r *Image) *Tags { return &r.Tags }),
		records("i", "instance", "InvalidInstanceID.NotFound", func(r *Instance) *Tags { return &r.Tags }),
		records("vol", "volume", "InvalidVolume.NotFound", func(r *Volume) *Tags { return &r.Tags }),
		records("snap", "snapshot", "InvalidSnapshot.NotFound", func(r *Snapshot) *Tags { return &r.Tags }),
		records("sg", "security-group", "InvalidGroup.NotFound", func(r *SecurityGroup) *Tags { return &r.Tags }),
		records("vpc", "vpc", "InvalidVpcID.NotFound", func(r *VPC) *Tags { return &r.Tags }),
		records("subnet", "subnet", "InvalidSubnetID.NotFound", func(r *Subnet) *Tags { return &r.Tags }),
		records("igw", "internet-gateway", "InvalidInternetGatewayID.NotFound", func(r *InternetGateway) *Tags { return &r.Tags }),
		records("rtb", "route-table", "InvalidRouteTableID.NotFound", func(r *RouteTable) *Tags { return &r.Tags }),
		records("acl", "network-acl", "InvalidNetworkAclID.NotFound", func(r *NetworkACL) *Tags { return &r.Tags }),
		records("eipalloc", "elastic-ip", "InvalidAllocationID.NotFound", func(r *Address) *Tags { return &r.Tags }),
		records("lt", "launch-template", "InvalidLaunchTemplateId.NotFound", func(r *LaunchTemplate) *Tags { return &r.Tags }),
		records("sir", "spot-instances-request", "InvalidSpotInstanceRequestID.NotFound", func(r *SpotRequest) *Tags { return &r.Tags }),
		records("fleet", "fleet", "InvalidFleetId.NotFound", func(r *Fleet) *Tags { return &r.Tags }),
		records("replacevol", "replace-root-volume-task", "InvalidReplaceRootVolumeTaskId.NotFound", func(r *RootTask) *Tags { return &r.Tags }),
		within("import-ami", "import-image-task", "InvalidConversionTaskId.NotFound", importTasks("import-ami-")),
		within("import-snap", "import-snapshot-task", "InvalidConversionTaskId.NotFound", importTasks("import-snap-")),
		within("key", "key-pair", "InvalidKeyPair.NotFound", func(r *KeyPair) ([]string, []*Tags) {
			return []string{r.ID}, []*Tags{&r.Tags}
		}),
		within("eni", "network-interface", "InvalidNetworkInterfaceID.NotFound", func(r *Instance) ([]string, []*Tags) {
			if r.Interface.ID == "" || !holdsAddress(*r) {
				return nil, nil
			}
			return []string{r.Interface.ID}, []*Tags{&r.Interface.Tags}
		}),
		within("sgr", "security-group-rule", "InvalidSecurityGroupRuleId.NotFound", func(r *SecurityGroup) (ids []string, tags []*Tags) {
			for i := range r.Rules {
				ids, tags = append(ids, r.Rules[i].ID), append(tags, &r.Rules[i].Tags)
			}
			return ids, tags
		}),
	}
}

// importTasks are the import tasks of one kind.
func importTasks(prefix string) func(*ImportTask) ([]string, []*Tags) {
	return func(r *ImportTask) ([]string, []*Tags) {
		if !strings.HasPrefix(r.ID, prefix) {
			return nil, nil
		}
		return []string{r.ID}, []*Tags{&r.Tags}
	}
}

// tagsOf finds a resource of any type by its id.
func (t *Tx) tagsOf(id string) (taggable, Tags, error) {
	prefix := id[:max(0, strings.LastIndex(id, "-"))]
	for _, k := range taggables() {
		if k.prefix != prefix {
			continue
		}
		tags, ok, err := k.get(t, id)
		if err == nil && !ok {
			err = Errorf(k.missing, "The %s ID '%s' does not exist", k.kind, id)
		}
		return k, tags, err
	}
	return taggable{}, nil, Errorf("InvalidID", "The ID '%s' is not valid", id)
}

// CreateTags adds tags to resources of any type, or changes their values:
// those of all resources or none.
// https://docs.aws.amazon.com/AWSEC2/latest/APIReference/API_CreateTags.html
func (c *Cloud) CreateTags(ctx context.Context, region string, resources []string, tags Tags) error {
	return c.Update(ctx, region, func(t *Tx) error {
		for _, id := range resources {
			k, has, err := t.tagsOf(id)
			if err != nil {
				return err
			}
			if k.kind == "instance" {
				i, _, err := Get[Instance](t, id)
				if err != nil {
					return err
				}
				if i.Metadata.Tags == "enabled" {
					if err := checkMetadataTags(tags); err != nil {
						return err
					}
				}
			}
			to := has.Clone()
			for key, value := range tags {
				to[key] = value
			}
			if len(to) > maxTags {
				return Errorf("TagLimitExceeded", "The maximum number of tags, %d, on resource '%s' has been reached", maxTags, id)
			}
			if err := k.put(t, id, to); err != nil {
				return err
			}
		}
		return nil
	})
}

// A TagRemoval names a tag; with a value it is removed only when it has that.
type TagRemoval struct {
	Key   string
	Value *string
}

// DeleteTags removes tags of resources, all of them when none is named. A tag
// that is not there is no error.
func (c *Cloud) DeleteTags(ctx context.Context, region string, resources []string, tags []TagRemoval) error {
	return c.Update(ctx, region, func(t *Tx) error {
		for _, id := range resources {
			k, has, err := t.tagsOf(id)
			if err != nil {
				return err
			}
			to := has.Clone()
			if len(tags) == 0 {
				clear(to)
			}
			for _, r := range tags {
				if v, ok := to[r.Key]; ok && (r.Value == nil || *r.Value == v) {
					delete(to, r.Key)
				}
			}
			if err := k.put(t, id, to); err != nil {
				return err
			}
		}
		return nil
	})
}

// A TaggedResource is one tag of one resource.
type TaggedResource struct {
	ID, Kind   string
	Key, Value string
}

// AllTags returns every tag of the region, by resource and key.
func (t *Tx) AllTags() ([]TaggedResource, error) {
	var out []TaggedResource
	for _, k := range taggables() {
		err := k.each(t, func(id string, tags Tags) error {
			for key, value := range tags {
				out = append(out, TaggedResource{ID: id, Kind: k.kind, Key: key, Value: value})
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b TaggedResource) int { return strings.Compare(a.ID+"\x00"+a.Key, b.ID+"\x00"+b.Key) })
	return out, nil
}
