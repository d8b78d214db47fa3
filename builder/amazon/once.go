package amazon

import (
	"context"
	"errors"
	"time"

	"github.com/ingot-build/ingot/internal/awsaccess"
)

// settleTime is how long EC2 may take to show what it has made.
const settleTime = 30 * time.Second

// A making asks for a thing that AWS makes anew with each call.
type making struct {
	// begun says that it may have been asked for already, by this process or
	// one before it. mark saves that before the first call.
	begun bool
	mark  func() error
	// find looks for what was made before.
	find func(ctx context.Context) (bool, error)
	make func(ctx context.Context) error
	// taken is the code that says that there is one of that name.
	taken string
}

// once makes a thing that is not there yet. Afterwards there is one, whatever
// replies got lost.
func (c cloud) once(ctx context.Context, k making) error {
	if k.begun {
		if found, err := k.find(ctx); found || err != nil {
			return err
		}
	} else if err := k.mark(); err != nil {
		return err
	}
	return c.s.Once(ctx, k.find, func(ctx context.Context) error {
		err := k.make(ctx)
		if err == nil || k.taken == "" || awsaccess.Code(err) != k.taken {
			return err
		}
		// The name is taken: by a call of ours whose reply was lost, or by
		// somebody else. What is new may take a moment to show.
		found := false
		werr := c.s.Wait(ctx, 5*time.Second, func(ctx context.Context) (bool, error) {
			var ferr error
			found, ferr = k.find(ctx)
			return found, ferr
		})
		var late *awsaccess.TimeoutError
		switch {
		case found:
			return nil
		case errors.As(werr, &late):
			return err
		}
		return werr
	})
}

// appears asks find whether something is there. With uncertain set it was
// asked for and the answer never seen: then it may take a moment to show.
func (c cloud) appears(ctx context.Context, uncertain bool, find func(context.Context) (bool, error)) (bool, error) {
	limit := 10 * time.Second
	if c.s.Local() {
		limit = time.Second
	}
	if !uncertain {
		return find(ctx)
	}
	found := false
	err := c.s.Wait(ctx, limit, func(ctx context.Context) (bool, error) {
		var err error
		found, err = find(ctx)
		return found, err
	})
	var late *awsaccess.TimeoutError
	if errors.As(err, &late) && late.Last == nil {
		return false, nil
	}
	return found, err
}

// gone returns err unless it says that there is no such thing.
func gone(err error, codes ...string) error {
	code := awsaccess.Code(err)
	for _, c := range codes {
		if code == c {
			return nil
		}
	}
	return err
}
