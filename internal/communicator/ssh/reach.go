package ssh

import (
	"context"
	"errors"
	"time"

	gossh "golang.org/x/crypto/ssh"

	"github.com/ingot-build/ingot/internal/communicator"
	"github.com/ingot-build/ingot/internal/diag"
	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/poll"
)

// Pauses between tries.
const (
	firstPause = 100 * time.Millisecond
	maxPause   = time.Second
	// A guest that installs its keys late in the boot refuses logins until
	// then. From version 9.8 on sshd shuts out an address for a while once
	// its penalties, 5 s for each failed login (sshd_config(5),
	// PerSourcePenalties), add up to 15 s: pauses that grow like this stay
	// below.
	firstAuthPause = 2 * time.Second
	maxAuthPause   = 6 * time.Second
	// silence is how long the newest try may be silent before another is
	// started. A port forward accepts connections before the guest does, and
	// what it accepted then may never be answered.
	silence  = 2 * time.Second
	maxTries = 4 // at a time; sshd begins to turn clients away at 10
)

// errTimeout is the cause of a context that ended by ssh_timeout.
var errTimeout = errors.New("ssh_timeout is over")

// connect tries until the guest answers, see [Dial].
func (c *Conn) connect(parent context.Context) (*link, error) {
	start := time.Now()
	ctx, stop := context.WithCancelCause(parent)
	defer stop(nil)
	if c.cfg.SSHTimeout > 0 {
		t := time.AfterFunc(c.cfg.SSHTimeout, func() { stop(errTimeout) })
		defer t.Stop()
	}
	go func() {
		select {
		case <-c.quit:
			stop(errClosed)
		case <-ctx.Done():
		}
	}()
	refused, told := 0, ""
	pause, authPause := firstPause, firstAuthPause
	var last error // the last one that tells something
	for {
		l, err := c.attempt(ctx)
		if err == nil {
			return l, nil
		}
		if parent.Err() != nil || context.Cause(ctx) == errClosed {
			return nil, context.Cause(ctx)
		}
		var perm *permanentError
		if errors.As(err, &perm) {
			return nil, c.unwrapped(err, perm)
		}
		var auth *communicator.AuthError
		var reach *reachError
		switch {
		case errors.As(err, &auth):
			refused++
			last = err
			if c.cfg.SSHHandshakeAttempts > 0 && refused >= c.cfg.SSHHandshakeAttempts {
				return nil, diag.WithHint(err, authHint)
			}
		case errors.As(err, &reach):
			last = err
		case ctx.Err() == nil:
			return nil, err // of Alive
		}
		if text := err.Error(); text != told && ctx.Err() == nil {
			told = text
			c.out.Emit(event.Detail{Text: addrError(c.addr(), err)})
		}
		wait := pause
		if auth != nil {
			wait, authPause = authPause, min(authPause*3/2, maxAuthPause)
		} else {
			pause = min(pause*3/2, maxPause)
		}
		if poll.Sleep(ctx, wait) != nil {
			if context.Cause(ctx) != errTimeout {
				return nil, context.Cause(ctx)
			}
			return nil, c.gaveUp(last, time.Since(start))
		}
	}
}

// unwrapped drops the wrapping of a permanent error, but not the bastion's
// name.
func (c *Conn) unwrapped(err error, perm *permanentError) error {
	var b *bastionError
	if errors.As(err, &b) {
		return err
	}
	return perm.err
}

// gaveUp is the error of a time that is over; last is why the last try failed.
func (c *Conn) gaveUp(last error, waited time.Duration) error {
	var auth *communicator.AuthError
	if errors.As(last, &auth) {
		return diag.WithHint(last, authHint)
	}
	why := communicator.Silent
	var reach *reachError
	if errors.As(last, &reach) {
		why = reach.why
	}
	if last == nil {
		last = errors.New("no answer")
	}
	return diag.WithHint(&communicator.ConnectError{Addr: c.addr(), Why: why, Waited: waited, Err: last}, "%s", connectHint(why))
}

// attempt goes one way to the guest, with several tries side by side while
// they are silent, and makes the winner a link.
func (c *Conn) attempt(ctx context.Context) (*link, error) {
	if err := c.alive(); err != nil {
		return nil, err
	}
	dial, err := c.route.open(ctx)
	if err != nil {
		return nil, err
	}
	check, types, err := c.hostKeys(ctx)
	if err != nil {
		return nil, &permanentError{err}
	}
	client, err := c.race(ctx, shake{
		dial: dial, addr: c.addr(), creds: c.creds, algorithms: algorithms(c.cfg),
		hostKey: check, keyTypes: types, idle: c.cfg.SSHReadWriteTimeout,
	})
	if err != nil {
		return nil, err
	}
	return c.newLink(ctx, client)
}

func (c *Conn) alive() error {
	if c.t.Alive == nil {
		return nil
	}
	return c.t.Alive()
}

// A try is one handshake under way.
type try struct {
	id     int
	cancel context.CancelCauseFunc
}

type outcome struct {
	id     int
	client *gossh.Client
	err    error
}

// errSlower is the cause of a try that another one overtook.
var errSlower = errors.New("another try was quicker")

// errNoBanner is the cause of a try that was silent for too long.
var errNoBanner = errors.New("no SSH banner")

// race starts a try, and another beside it each time all are silent for a
// while. The first one that hears the server goes on alone. It fails when all
// tries under way have failed.
func (c *Conn) race(ctx context.Context, s shake) (*gossh.Client, error) {
	ctx, stop := context.WithCancelCause(ctx)
	defer stop(errSlower)
	heard, results := make(chan int), make(chan outcome)
	var tries []try
	n := 0
	launch := func() {
		tctx, cancel := context.WithCancelCause(ctx)
		t := try{id: n, cancel: cancel}
		n++
		tries = append(tries, t)
		limit := time.AfterFunc(bannerLimit, func() { cancel(errNoBanner) })
		mine := s
		mine.firstByte = func() {
			limit.Reset(handshakeLimit)
			select {
			case heard <- t.id:
			case <-tctx.Done():
			}
		}
		go func() {
			client, err := handshake(tctx, mine)
			if err != nil && tctx.Err() != nil {
				err = &reachError{communicator.Silent, context.Cause(tctx)}
			}
			limit.Stop()
			cancel(nil)
			select {
			case results <- outcome{t.id, client, err}:
			case <-ctx.Done():
				if client != nil {
					_ = client.Close()
				}
			}
		}()
	}
	launch()
	timer := time.NewTimer(silence)
	defer timer.Stop()
	winner, settled := -1, false
	for {
		select {
		case <-ctx.Done():
			return nil, &reachError{communicator.Silent, errNoBanner}
		case id := <-heard:
			if settled {
				continue
			}
			winner, settled = id, true
			for _, t := range tries {
				if t.id != winner {
					t.cancel(errSlower)
				}
			}
		case o := <-results:
			if o.err == nil {
				return o.client, nil
			}
			tries = without(tries, o.id)
			if o.id == winner || len(tries) == 0 {
				return nil, o.err
			}
			if !settled {
				timer.Reset(maxPause)
			}
		case <-timer.C:
			if settled {
				continue
			}
			if err := c.alive(); err != nil {
				return nil, err
			}
			// The older ones keep their full time: a busy guest may take it.
			if len(tries) >= maxTries {
				tries[len(tries)-1].cancel(errNoBanner)
			}
			launch()
			timer.Reset(silence)
		}
	}
}

func without(tries []try, id int) []try {
	var out []try
	for _, t := range tries {
		if t.id != id {
			out = append(out, t)
		}
	}
	return out
}
