package localcloud

import "context"

type dryRunKey struct{}

// WithDryRun makes transactions of ctx try what they do and undo it: one that
// would have succeeded fails with DryRunOperation.
func WithDryRun(ctx context.Context) context.Context {
	return context.WithValue(ctx, dryRunKey{}, true)
}

// dryRun returns the answer to a dry run that would have succeeded, nil when
// the run is not dry.
func dryRun(ctx context.Context) error {
	if ctx.Value(dryRunKey{}) == nil {
		return nil
	}
	return &Error{Code: "DryRunOperation", Message: "Request would have succeeded, but DryRun flag is set.", Status: 412}
}
