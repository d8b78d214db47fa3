// Package ec2wire is what EC2's actions share: tags, filters, pages, dry runs.
package ec2wire

import (
	"cmp"
	"encoding/base64"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/localcloud/awswire"
)

// A Tag is a tag of a request or a reply.
type Tag struct {
	Key   string `q:"Key" xml:"key"`
	Value string `q:"Value" xml:"value"`
}

// Tags returns a resource's tags for a reply, by key.
func Tags(t localcloud.Tags) []Tag {
	out := make([]Tag, 0, len(t))
	for k, v := range t {
		out = append(out, Tag{k, v})
	}
	slices.SortFunc(out, func(a, b Tag) int { return cmp.Compare(a.Key, b.Key) })
	return out
}

// A TagSpec is a TagSpecification of a request.
type TagSpec struct {
	ResourceType string `q:"ResourceType,required"`
	Tags         []Tag  `q:"Tag"`
}

// The limits of tags, of
// https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/Using_Tags.html#tag-restrictions
const (
	maxTags     = 50
	maxTagKey   = 128
	maxTagValue = 256
)

// CheckTags refuses tags that EC2 refuses and returns them as a map.
func CheckTags(tags []Tag) (localcloud.Tags, error) {
	out := localcloud.Tags{}
	for _, t := range tags {
		switch {
		case t.Key == "" || utf8.RuneCountInString(t.Key) > maxTagKey:
			return nil, awswire.Errorf("InvalidParameterValue", "Tag key must be between 1 and %d characters: %q", maxTagKey, t.Key)
		case utf8.RuneCountInString(t.Value) > maxTagValue:
			return nil, awswire.Errorf("InvalidParameterValue", "Tag value exceeds the maximum length of %d characters: %q", maxTagValue, t.Value)
		case strings.HasPrefix(strings.ToLower(t.Key), "aws:"):
			return nil, awswire.Errorf("InvalidParameterValue", "Tag keys starting with 'aws:' are reserved for internal use: %q", t.Key)
		}
		if _, twice := out[t.Key]; twice {
			return nil, awswire.Errorf("InvalidParameterValue", "Duplicate tag key '%s' specified.", t.Key)
		}
		out[t.Key] = t.Value
	}
	if len(out) > maxTags {
		return nil, awswire.Errorf("TagLimitExceeded", "More than %d tags specified", maxTags)
	}
	return out, nil
}

// SpecTags returns the tags given for one type of resource. allowed lists the
// types that the action tags; another one is refused.
func SpecTags(specs []TagSpec, kind string, allowed ...string) (localcloud.Tags, error) {
	var tags []Tag
	for _, s := range specs {
		if s.ResourceType != kind && !slices.Contains(allowed, s.ResourceType) {
			return nil, awswire.Errorf("InvalidParameterValue", "'%s' is not a valid taggable resource type for this operation.", s.ResourceType)
		}
		if s.ResourceType == kind {
			tags = append(tags, s.Tags...)
		}
	}
	return CheckTags(tags)
}

// DryRun is embedded in the input of each action that takes it.
type DryRun struct {
	DryRun bool `q:"DryRun"`
}

// Check returns the answer to a dry run that would have succeeded, nil when
// the run is not dry.
func (d DryRun) Check() error {
	if d.DryRun {
		return awswire.Statusf(412, "DryRunOperation", "Request would have succeeded, but DryRun flag is set.")
	}
	return nil
}

// A Filter is a Filter of a request.
type Filter struct {
	Name   string   `q:"Name,required"`
	Values []string `q:"Value"`
}

// Filters are joined by and; the values of one by or.
type Filters []Filter

// maxFilterValues is EC2's limit for one request.
const maxFilterValues = 200

// Values returns what a resource has for a filter's name. known is false when
// the action has no such filter.
type Values func(name string) (values []string, known bool)

// Match reports whether a resource passes all filters. tag:KEY, tag-key and
// tag-value are answered from tags; everything else by values.
func (fs Filters) Match(tags localcloud.Tags, values Values) (bool, error) {
	if err := fs.Check(values); err != nil {
		return false, err
	}
	for _, f := range fs {
		have, tag := tagValues(f.Name, tags)
		if !tag {
			have, _ = values(f.Name)
		}
		if !slices.ContainsFunc(f.Values, func(want string) bool {
			return slices.ContainsFunc(have, func(v string) bool { return Wildcard(want, v) })
		}) {
			return false, nil
		}
	}
	return true, nil
}

// Check refuses filters that the action does not have, and too many values.
// It is for actions that may have nothing to match.
func (fs Filters) Check(values Values) error {
	n := 0
	for _, f := range fs {
		if n += len(f.Values); n > maxFilterValues {
			return awswire.Errorf("FilterLimitExceeded", "The maximum number of filter values specified on a single call is %d", maxFilterValues)
		}
		_, known := tagValues(f.Name, nil)
		if !known {
			_, known = values(f.Name)
		}
		if !known {
			return awswire.Errorf("InvalidParameterValue", "The filter '%s' is invalid", f.Name)
		}
	}
	return nil
}

func tagValues(name string, tags localcloud.Tags) ([]string, bool) {
	if key, ok := strings.CutPrefix(name, "tag:"); ok {
		v, has := tags[key]
		if !has {
			return nil, true
		}
		return []string{v}, true
	}
	var out []string
	switch name {
	case "tag-key":
		for k := range tags {
			out = append(out, k)
		}
	case "tag-value":
		for _, v := range tags {
			out = append(out, v)
		}
	default:
		return nil, false
	}
	return out, true
}

// Wildcard matches a filter's value: * is any text, ? any character, and a
// backslash takes the next one as it is.
func Wildcard(pattern, s string) bool {
	if !strings.ContainsAny(pattern, `*?\`) {
		return pattern == s
	}
	// path.Match treats / and [ specially; both are ordinary here.
	const slash = "\x00"
	p := strings.NewReplacer("/", slash, "[", `\[`, `\[`, `\[`, `\*`, `\*`, `\?`, `\?`, `\\`, `\\`).Replace(pattern)
	ok, err := path.Match(p, strings.ReplaceAll(s, "/", slash))
	return err == nil && ok
}

// A Page is embedded in the input of each action that answers in pages.
type Page struct {
	MaxResults int    `q:"MaxResults"`
	NextToken  string `q:"NextToken"`
}

// Slice returns one page of all, which is in a stable order, and the token of
// the next page, "" after the last. least and most bound MaxResults; without
// it a page holds most items.
func Slice[T any](p Page, all []T, least, most int) ([]T, string, error) {
	size := p.MaxResults
	if size == 0 {
		size = most
	}
	if size < least || size > most {
		return nil, "", awswire.Errorf("InvalidParameterValue", "Value ( %d ) for parameter maxResults is invalid. Expecting a value between %d and %d.", size, least, most)
	}
	start := 0
	if p.NextToken != "" {
		raw, err := base64.RawURLEncoding.DecodeString(p.NextToken)
		n, nerr := strconv.Atoi(strings.TrimPrefix(string(raw), "at:"))
		if err != nil || nerr != nil || n < 0 || !strings.HasPrefix(string(raw), "at:") {
			return nil, "", awswire.Errorf("InvalidParameterValue", "The token '%s' is invalid", p.NextToken)
		}
		start = min(n, len(all))
	}
	end := min(start+size, len(all))
	next := ""
	if end < len(all) {
		next = base64.RawURLEncoding.EncodeToString([]byte("at:" + strconv.Itoa(end)))
	}
	return all[start:end], next, nil
}

// Bool writes a flag as filters see it.
func Bool(b bool) []string { return []string{strconv.FormatBool(b)} }

// Return is the reply of actions that only say that they succeeded.
type Return struct {
	Return bool `xml:"return"`
}

// OK is the [Return] of a success.
func OK() *Return { return &Return{Return: true} }
