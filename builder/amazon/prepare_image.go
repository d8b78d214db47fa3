package amazon

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// prepare checks the options of the image and sets their defaults.
// buildRegion is the option region, "" when it comes from elsewhere.
func (c *ImageOptions) prepare(f *faults, r renderer, buildRegion string) {
	if c.AMIName == "" {
		f.field("ami_name", "must be set")
	} else if name, err := r.render(c.AMIName, nil); err == nil {
		// Rendered once: a name with {{uuid}} stays the same from here on.
		c.AMIName = name
		if err := checkImageName(name); err != nil {
			f.field("ami_name", "%w", err)
		}
	}
	f.oneOf("ami_virtualization_type", c.Virtualization, "hvm", "paravirtual")
	if c.Virtualization == "paravirtual" && (c.SRIOVSupport || c.ENASupport != nil && *c.ENASupport) {
		f.fields([]string{"ami_virtualization_type", "sriov_support", "ena_support"}, `sriov_support and ena_support need "hvm"`)
	}
	f.oneOf("imds_support", c.IMDSSupport, "v2.0")
	c.prepareRegions(f, buildRegion)
	c.prepareSharing(f)
	c.prepareEncryption(f)
	checkTags(f, "tags", c.ImageTags, "tag", c.ImageTagEntries)
	checkTags(f, "snapshot_tags", c.SnapshotTags, "snapshot_tag", c.SnapshotTagEntries)
	if c.DeprecateAt != "" {
		at, err := time.Parse(time.RFC3339, c.DeprecateAt)
		switch {
		case err != nil:
			f.field("deprecate_at", "%q is not a time such as 2030-01-31T12:00:00Z", c.DeprecateAt)
		case !at.After(r.start):
			f.field("deprecate_at", "%s is in the past", c.DeprecateAt)
		case at.After(r.start.AddDate(10, 0, 0)):
			f.field("deprecate_at", "%s is more than ten years away, the most that EC2 takes", c.DeprecateAt)
		}
	}
	if m := c.CopyMinutes; m != 0 && (m < 15 || m > 2880 || m%15 != 0) {
		f.field("snapshot_copy_duration_minutes", "is a multiple of 15 from 15 to 2880, not %d", m)
	}
	if c.Protection.WithCooldown {
		c.Protection.Enabled = true
	}
	if c.ForceDelete && !c.ForceDeregister {
		f.warn([]string{"force_delete_snapshot", "force_deregister"}, "has an effect with force_deregister = true only, or with -force")
	}
}

func checkImageName(name string) error {
	if imageName.MatchString(name) {
		return nil
	}
	if n := len(name); n < 3 || n > 128 {
		return fmt.Errorf("%q has %d characters; the name of an image has 3 to 128", name, n)
	}
	return fmt.Errorf("%q has characters other than letters, digits and ()[] ./-'@_; {{clean_resource_name}} replaces them: {{ clean_resource_name `%s` }}", name, name)
}

func (c *ImageOptions) prepareRegions(f *faults, buildRegion string) {
	for i, r := range c.Regions {
		if !regionID.MatchString(r) && !c.SkipRegionCheck {
			f.field(fmt.Sprintf("ami_regions[%d]", i), "%q is not the name of a region, such as eu-west-1", r)
		}
	}
	for r := range c.RegionKMSKeys {
		if !slices.Contains(c.Regions, r) && r != buildRegion {
			f.fields([]string{"region_kms_key_ids", "ami_regions"}, "region %q is not in ami_regions", r)
		}
	}
	if c.SkipBuildRegion && len(c.copyRegions(buildRegion)) == 0 {
		f.fields([]string{"skip_save_build_region", "ami_regions", "region"}, "needs ami_regions: no image would be left")
	}
}

// copyRegions are the regions of ami_regions but the build region, each once.
func (c *ImageOptions) copyRegions(buildRegion string) []string {
	var out []string
	for _, r := range c.Regions {
		if r != buildRegion && !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	return out
}

func (c *ImageOptions) prepareSharing(f *faults) {
	accounts := func(opt string, ids []string) {
		for i, id := range ids {
			if !accountID.MatchString(id) {
				f.field(fmt.Sprintf("%s[%d]", opt, i), "%q is not the 12 digits of an account", id)
			}
		}
	}
	accounts("ami_users", c.Users)
	accounts("snapshot_users", c.SnapshotUsers)
	all := func(opt string, groups []string) {
		for i, g := range groups {
			if g != "all" {
				f.field(fmt.Sprintf("%s[%d]", opt, i), `%q is not known; the one group is "all"`, g)
			}
		}
	}
	all("ami_groups", c.Groups)
	all("snapshot_groups", c.SnapshotGroups)
	arns := func(opt string, list []string) {
		for i, a := range list {
			if !strings.HasPrefix(a, "arn:") {
				f.field(fmt.Sprintf("%s[%d]", opt, i), "%q is not an ARN", a)
			}
		}
	}
	arns("ami_org_arns", c.OrgARNs)
	arns("ami_ou_arns", c.OUARNs)
}

func (c *ImageOptions) encrypts() bool { return c.EncryptBoot != nil && *c.EncryptBoot }

func (c *ImageOptions) prepareEncryption(f *faults) {
	if !c.encrypts() {
		if c.KMSKey != "" {
			f.fields([]string{"kms_key_id", "encrypt_boot"}, "needs encrypt_boot = true")
		}
		if len(c.RegionKMSKeys) > 0 {
			f.fields([]string{"region_kms_key_ids", "encrypt_boot"}, "needs encrypt_boot = true")
		}
		return
	}
	shared := map[string]bool{
		"ami_users": len(c.Users) > 0, "ami_groups": len(c.Groups) > 0, "ami_org_arns": len(c.OrgARNs) > 0, "ami_ou_arns": len(c.OUARNs) > 0,
		"snapshot_users": len(c.SnapshotUsers) > 0, "snapshot_groups": len(c.SnapshotGroups) > 0,
	}
	if len(c.Groups)+len(c.SnapshotGroups) > 0 {
		f.fields([]string{"encrypt_boot", "ami_groups", "snapshot_groups"}, "an encrypted image cannot be public: remove the group or the encryption")
	}
	for opt, on := range shared {
		if !on {
			continue
		}
		if c.KMSKey == "" && !c.SkipBuildRegion {
			f.fields([]string{opt, "encrypt_boot", "kms_key_id"}, "what is encrypted with the default key cannot be shared: set kms_key_id")
		}
		for _, r := range c.Regions {
			if c.RegionKMSKeys[r] == "" {
				f.fields([]string{opt, "encrypt_boot", "region_kms_key_ids", "ami_regions"},
					"what is encrypted with the default key cannot be shared: give region_kms_key_ids a key of %s", r)
			}
		}
	}
}

// EC2's limits of tags
// (https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html).
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// A tagEntry is a block with one tag.
type tagEntry interface{ pair() (name, value string) }

func (e KeyValue) pair() (string, string)  { return e.Key, e.Value }
func (e NameValue) pair() (string, string) { return e.Name, e.Value }

// mergeTags adds the blocks to the map.
func mergeTags[E tagEntry](tags Tags, entries []E) Tags {
	out := Tags{}
	for k, v := range tags {
		out[k] = v
	}
	for _, e := range entries {
		k, v := e.pair()
		out[k] = v
	}
	return out
}

func checkTags[E tagEntry](f *faults, opt string, tags Tags, blockOpt string, entries []E) {
	paths := []string{opt, blockOpt}
	for i, e := range entries {
		if k, _ := e.pair(); k == "" {
			f.field(fmt.Sprintf("%s[%d]", blockOpt, i), "the tag needs a name")
		}
	}
	all := mergeTags(tags, entries)
	if len(all) > maxTags {
		f.fields(paths, "there are %d tags; a resource has %d at most", len(all), maxTags)
	}
	for k, v := range all {
		switch {
		case strings.HasPrefix(strings.ToLower(k), "aws:"):
			f.fields(paths, "tag %q: names that begin with aws: belong to AWS", k)
		case len([]rune(k)) > maxTagKey:
			f.fields(paths, "tag %q: a name has %d characters at most", k, maxTagKey)
		case len([]rune(v)) > maxTagValue && !strings.Contains(v, "{{"):
			f.fields(paths, "tag %q: a value has %d characters at most", k, maxTagValue)
		}
	}
}
