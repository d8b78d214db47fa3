package compile

import (
	"github.com/zclconf/go-cty/cty"

	"github.com/ingot-build/ingot/hcl"
	"github.com/ingot-build/ingot/internal/artifact"
	"github.com/ingot-build/ingot/internal/diag"
)

// made is what templates see of an artifact: build.NAME.artifact.
type made struct {
	ID        string            `hcl:"id"`         // as manifests have it
	BuilderID string            `hcl:"builder_id"` // of what made it
	Name      string            `hcl:"name"`       // of the image
	Image     string            `hcl:"image"`      // id of the image where it was made, or path of its file
	Images    map[string]string `hcl:"images"`     // the same by region; "local" where there are none
	Digest    string            `hcl:"digest"`     // of the image's content, "sha256:<hex>"; may be empty
	Snapshots []string          `hcl:"snapshots"`  // ids of snapshots of data disks
	Files     []string          `hcl:"files"`
	Data      map[string]string `hcl:"data"` // what the builder generated
}

// noRegion is the region of images on platforms that have none.
const noRegion = "local"

// madeOf is what sets, all that a build made and kept, come to: the first that
// has an image, else the first.
func madeOf(sets []artifact.Set) cty.Value {
	var set artifact.Set
	for i, s := range sets {
		if i == 0 || len(s.Images) > 0 {
			set = s
		}
		if len(s.Images) > 0 {
			break
		}
	}
	m := made{ID: set.ID, BuilderID: set.BuilderID, Files: set.Files, Data: set.Data, Images: map[string]string{}}
	for i, img := range set.Images {
		if i == 0 {
			m.Image, m.Name, m.Digest = img.ID, img.Name, img.Digest
		}
		region := img.Region
		if region == "" {
			region = noRegion
		}
		if _, ok := m.Images[region]; !ok {
			m.Images[region] = img.ID
		}
	}
	for _, s := range set.Snapshots {
		m.Snapshots = append(m.Snapshots, s.ID)
	}
	return hcl.ValueOf(m)
}

// buildValues are build.NAME for every build with a name. What is not in done,
// by full name, is unknown.
func buildValues(t *hcl.Template, done map[string][]artifact.Set) map[string]cty.Value {
	unknown := cty.UnknownVal(hcl.TypeOf(made{}))
	return t.BuildValues(func(b *hcl.Build, s *hcl.BuildSource) cty.Value {
		if sets, ok := done[hcl.FullName(b, s)]; ok {
			return madeOf(sets)
		}
		return unknown
	})
}

// An OutputValue is an output block and what it comes to.
type OutputValue struct {
	*hcl.Output
	Value cty.Value // marked when it is secret; unknown while a build it needs is not done
}

// Outputs evaluates the output blocks of t. done is what builds made, by full
// name.
func Outputs(t *hcl.Template, done map[string][]artifact.Set) (out []OutputValue, diags diag.List) {
	if len(t.Outputs) == 0 {
		return nil, nil
	}
	s := t.Scope().With("build", cty.ObjectVal(buildValues(t, done)))
	for _, o := range t.Outputs {
		for _, r := range o.References() {
			if named := t.Named(r); len(named) > 1 && named[0].Key.IsZero() {
				diags.Errorf(&r.Range, "Several builds of one name", "%s can be each of %d builds. Give them names of their own.", r, len(named))
			}
		}
		v, found := o.Value(s)
		diags = append(diags, found...)
		out = append(out, OutputValue{o, v})
	}
	return out, diags
}
