package amazon

import (
	"fmt"
	"strings"

	"github.com/ingot-build/ingot/builder"
)

// intent is what the options say will be made. The region may be known only
// once the account was asked.
func (m *machine) intent() builder.Intent {
	m.mu.Lock()
	region := m.access.Region
	if m.sess != nil {
		region = m.sess.Region()
	}
	m.mu.Unlock()
	out := builder.Intent{Region: region}
	if m.img == nil || m.skipsImage() {
		return out
	}
	out.Name, out.Copies = m.img.AMIName, m.img.copyRegions(region)
	if m.replaces() {
		where := m.targets(region)
		if region == "" && !m.img.SkipBuildRegion {
			where[0] = "the region of the build"
		}
		out.Replaces = []string{fmt.Sprintf("any image named %s in %s", m.img.AMIName, strings.Join(where, ", "))}
	}
	return out
}
