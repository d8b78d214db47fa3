package localcloud

import "context"

// Drain waits until no job is due, or ctx ends. Somebody must be in
// [Cloud.Work].
func (c *Cloud) Drain(ctx context.Context) error {
	return c.Await(ctx, "", func(t *Tx) (bool, error) {
		jobs, err := All[Job](t)
		for _, j := range jobs {
			if !j.After.After(t.Now) {
				return false, err
			}
		}
		return true, err
	})
}

// ConsoleFile is where an instance's serial console is kept; there is none
// before it has started.
func (c *Cloud) ConsoleFile(id string) string { return c.consoleFile(id) }
