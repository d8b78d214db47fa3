package hcl

import (
	"reflect"
	"regexp"

	hcl2 "github.com/hashicorp/hcl/v2"

	"github.com/ingot-build/ingot/internal/diag"
)

func elem(dst any) reflect.Value { return reflect.ValueOf(dst).Elem() }

var registrySchema = &hcl2.BodySchema{Attributes: []hcl2.AttributeSchema{
	{Name: "bucket_name"}, {Name: "description"}, {Name: "bucket_labels"}, {Name: "labels"}, {Name: "build_labels"}, {Name: "channels"},
}}

func (t *Template) topRegistry(b *hcl2.Block, l *diag.List) {
	if t.Registry != nil {
		*l = append(*l, report(b.DefRange, b.DefRange, "Duplicate hcp_packer_registry", "A template has at most one; the first is at %s.", t.Registry.Range))
		return
	}
	t.Registry = t.registry(b, l)
}

// registry reads an hcp_packer_registry block. The limits are those of the
// service.
func (t *Template) registry(b *hcl2.Block, l *diag.List) *Registry {
	r := &Registry{Range: toRange(b.DefRange)}
	content, hd := readContent(b.Body, registrySchema)
	t.addExpansion(l, hd)
	a := content.Attributes
	if t.option(a["bucket_name"], &r.BucketName, l) && a["bucket_name"] != nil {
		if ok, _ := regexp.MatchString(`^[A-Za-z0-9-]{3,36}$`, r.BucketName); !ok {
			*l = append(*l, report(a["bucket_name"].Expr.Range(), a["bucket_name"].Range, "Invalid bucket name",
				"bucket_name has 3 to 36 characters, which are letters, digits and dashes."))
		}
	}
	if t.option(a["description"], &r.Description, l) && len(r.Description) > 255 {
		*l = append(*l, report(a["description"].Expr.Range(), a["description"].Range, "Description too long", "description has at most 255 characters; this one has %d.", len(r.Description)))
	}
	labels := a["bucket_labels"]
	if old := a["labels"]; old != nil {
		if labels != nil {
			*l = append(*l, report(old.Range, old.Range, "Both labels and bucket_labels", "labels is the older name of bucket_labels. Remove it."))
		} else {
			labels = old
		}
	}
	t.option(labels, &r.BucketLabels, l)
	t.option(a["build_labels"], &r.BuildLabels, l)
	t.option(a["channels"], &r.Channels, l)
	return r
}
