package builder

// A Planner is a [Builder] that can tell what it would make.
type Planner interface {
	// Intent is what the options say. It asks no platform and changes
	// nothing; after Check or Base it may know more.
	Intent() Intent
}

// An Intent is what a build would make.
type Intent struct {
	Name     string   // of the image, or the path of what is made; "" when there is nothing
	Region   string   // where it is built; "" where there are no regions or it is not known
	Copies   []string // regions that get a copy, in the order of the template
	Replaces []string // what is there, or may be, and would be replaced; for a person
}

var _ Planner = (*Machine[struct{}])(nil)

// Intent implements [Planner].
func (m *Machine[S]) Intent() Intent {
	if m.Intends == nil {
		return Intent{}
	}
	return m.Intends()
}
