package amazon

import (
	"fmt"
	"strings"
	"testing"

	inject "github.com/ingot-build/ingot/internal/localcloud/faults"
)

// TestLostAnswers loses the answer to each call in turn, after it had its
// effect, and has each call in turn fail with a 500, before its effect and
// after: every build passes, and nothing is left but its artifact.
func TestLostAnswers(t *testing.T) {
	if testing.Short() {
		t.Skip("takes a minute")
	}
	t.Parallel()
	for _, c := range []struct {
		name, typ, more string
		kinds           []inject.Kind
	}{
		{"ebs", typeEBS, "ami_regions = [\"eu-west-1\"]\nsnapshot_users = [\"210987654321\"]", []inject.Kind{inject.Lost, inject.Fail, inject.Broken}},
		{"surrogate", typeSurrogate, surrogateDisks, []inject.Kind{inject.Lost, inject.Fail}},
		{"swap", typeSurrogate, surrogateDisks + "use_create_image = true", []inject.Kind{inject.Lost}},
		{"volume", typeVolume, ownVolume, []inject.Kind{inject.Lost, inject.Fail}},
		{"spot", typeEBS, "spot_price = \"auto\"" + ownProfile, []inject.Kind{inject.Lost}},
	} {
		for _, kind := range c.kinds {
			t.Run(fmt.Sprintf("%s/%s", c.name, kind), func(t *testing.T) {
				t.Parallel()
				g := newRig(t)
				for n := 1; !t.Failed(); n++ {
					hit := ""
					before := len(g.cloud.Calls())
					ok(t, g.cloud.Faults.Set(inject.Rule{Kind: kind, Skip: n - 1, Count: 1}))
					b := g.must(t, baking{typ: c.typ, more: c.more})
					calls := g.cloud.Calls()[before:]
					if n > len(calls) {
						break // each has had its turn
					}
					if hit = calls[n-1]; t.Failed() {
						t.Errorf("%s was call %d of: %s", hit, n, strings.Join(calls, " "))
					}
					ok(t, g.remove(b.set)) // a small cloud is a fast one
				}
			})
		}
	}
}
