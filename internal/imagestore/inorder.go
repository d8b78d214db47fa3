package imagestore

import (
	"context"
	"iter"
	"runtime"

	"golang.org/x/sync/errgroup"
)

// workers is how many goroutines share the reading and hashing.
func workers() int { return min(max(runtime.GOMAXPROCS(0), 2), 8) }

// inOrder does work on every item concurrently, then commit on one result at a
// time in the items' order, then after concurrently again. The three share the
// worker's own scratch value. The first error ends it.
func inOrder[T, W any](ctx context.Context, items iter.Seq2[T, error], scratch func() W,
	work func(T, W) error, commit func(T, W) error, after func(T, W) error,
) error {
	type job struct {
		item       T
		turn, next chan struct{} // closed when this, the next one may commit
	}
	g, ctx := errgroup.WithContext(ctx)
	jobs := make(chan job)
	g.Go(func() error {
		defer close(jobs)
		turn := make(chan struct{})
		close(turn)
		for item, err := range items {
			if err != nil {
				return err
			}
			next := make(chan struct{})
			select {
			case jobs <- job{item, turn, next}:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
			turn = next
		}
		return nil
	})
	for range workers() {
		g.Go(func() error {
			w := scratch()
			for j := range jobs {
				if ctx.Err() != nil {
					return context.Cause(ctx)
				}
				if err := work(j.item, w); err != nil {
					return err
				}
				// Jobs are handed out in order, so the one whose turn it is has
				// a worker.
				select {
				case <-j.turn:
				case <-ctx.Done():
					return context.Cause(ctx)
				}
				if err := commit(j.item, w); err != nil {
					return err
				}
				close(j.next)
				if err := after(j.item, w); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return g.Wait()
}
