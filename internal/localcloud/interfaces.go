package localcloud

import "context"

// InterfaceChange is what ModifyNetworkInterfaceAttribute changes of the
// primary interface of an instance; nil leaves something as it is.
type InterfaceChange struct {
	Description     *string
	SourceDestCheck *bool
	Groups          []string // ids
}

// ModifyInterface changes an interface, and its instance with it.
func (c *Cloud) ModifyInterface(ctx context.Context, region, id string, ch InterfaceChange) error {
	return c.Update(ctx, region, func(t *Tx) error {
		i, err := t.instanceBy("", id)
		if err != nil {
			return err
		}
		if ch.Description != nil {
			if err := checkGroupText("description", *ch.Description); err != nil {
				return err
			}
			i.Interface.Description = *ch.Description
		}
		if ch.SourceDestCheck != nil {
			i.SourceDestCheck = *ch.SourceDestCheck
		}
		if ch.Groups != nil {
			if err := t.changeGroups(&i, ch.Groups); err != nil {
				return err
			}
		}
		return Put(t, i)
	})
}
