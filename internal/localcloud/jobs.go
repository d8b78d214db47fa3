package localcloud

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/internal/poll"
)

// A Job is work that a transaction asked for. It is done at least once: a job
// whose process died is done again, so what it does is repeatable.
type Job struct {
	ID      string          `json:"id"`
	Kind    string          `json:"kind"` // selects the handler; never given a new meaning
	Region  string          `json:"region"`
	Target  string          `json:"target"` // id of what it works on
	After   time.Time       `json:"after"`  // not begun before
	Args    json.RawMessage `json:"args,omitempty"`
	Created time.Time       `json:"created"`
}

// RecordKind implements [Record].
func (Job) RecordKind() string { return "job" }

// RecordID implements [Record].
func (j Job) RecordID() string { return j.ID }

// A handler does one kind of job. A nil error ends the job. A handler that
// cannot do its job marks the target as failed and returns nil; an error is a
// fault of this machine (a full disk, say) and the job is tried again later.
type handler func(ctx context.Context, j Job) error

// Later writes a job into the transaction: it is begun once that is durable
// and after has come. Zero: at once. Jobs live in region "", whatever the
// transaction's.
func (t *Tx) Later(kind, target string, after time.Time, args any) error {
	j := Job{ID: newJobID(), Kind: kind, Region: t.Region, Target: target, After: after, Created: t.Now}
	if args != nil {
		js, err := json.Marshal(args)
		if err != nil {
			return fmt.Errorf("local cloud: job %s: %w", kind, err)
		}
		j.Args = js
	}
	*t.jobs++
	return Put(t.In(""), j)
}

// Done removes a job within the transaction that writes its result: then no
// crash lies between the two. The worker removes it otherwise.
func (t *Tx) Done(j Job) error { return Delete[Job](t.In(""), j.ID) }

func newJobID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails (crypto/rand)
	return fmt.Sprintf("job-%016x-%s", time.Now().UnixNano(), hex.EncodeToString(b[:4]))
}

// Work does jobs until ctx ends; running ones are cancelled and waited for.
// Any number of processes may work on one cloud: a job is done by one at a
// time, the holder of a lock that a killed process cannot keep.
func (c *Cloud) Work(ctx context.Context) error {
	dir := filepath.Join(c.dir, "jobs")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("local cloud: %w", err)
	}
	var wg sync.WaitGroup
	ctx, stop := context.WithCancel(ctx)
	running := map[string]bool{}
	retry := map[string]time.Time{}
	ended := make(chan string)
	defer func() { // whoever ends now must not block on ended
		stop()
		go func() {
			for range ended {
			}
		}()
		wg.Wait()
		close(ended)
	}()
	wg.Go(func() { c.watch(ctx) })
	for {
		next, err := c.begin(ctx, dir, running, retry, ended, &wg)
		if err != nil && ctx.Err() == nil {
			return err
		}
		pause := time.NewTimer(next)
		select {
		case <-ctx.Done():
			pause.Stop()
			return nil
		case id := <-ended:
			delete(running, id)
		case <-c.wake:
		case <-pause.C:
		}
		pause.Stop()
	}
}

// idlePause is how soon jobs of other processes, or of dead ones, are seen.
const idlePause = 500 * time.Millisecond

// begin starts every job that is due and returns when to look again.
func (c *Cloud) begin(ctx context.Context, dir string, running map[string]bool, retry map[string]time.Time, ended chan<- string, wg *sync.WaitGroup) (time.Duration, error) {
	var jobs []Job
	err := c.View(ctx, "", func(t *Tx) (err error) {
		jobs, err = All[Job](t)
		return err
	})
	if err != nil {
		return idlePause, err
	}
	now := c.now()
	next := idlePause
	for _, j := range jobs {
		if running[j.ID] {
			continue
		}
		due := j.After
		if r := retry[j.ID]; r.After(due) {
			due = r
		}
		if wait := due.Sub(now); wait > 0 {
			next = min(next, wait)
			continue
		}
		l, ok := claim(dir, j.ID)
		if !ok {
			continue
		}
		running[j.ID] = true
		retry[j.ID] = now.Add(2 * time.Second)
		wg.Add(1)
		go func() {
			defer wg.Done()
			if err := c.do(ctx, j); err != nil && ctx.Err() == nil {
				c.warn(fmt.Errorf("%s of %s in %s: %w (tried again)", j.Kind, j.Target, j.Region, err))
			}
			_ = os.Remove(filepath.Join(dir, j.ID)) // a name without a holder; swept otherwise
			_ = l.Close()
			ended <- j.ID
		}()
	}
	return next, nil
}

// do does a job that still exists.
func (c *Cloud) do(ctx context.Context, j Job) error {
	h, ok := c.handlers[j.Kind]
	if !ok {
		return fmt.Errorf("unknown kind of job: another version of Ingot wrote it")
	}
	var there bool
	err := c.View(ctx, "", func(t *Tx) (err error) {
		_, there, err = Get[Job](t, j.ID) // done since it was listed?
		return err
	})
	if err != nil || !there {
		return err
	}
	if err := h(ctx, j); err != nil {
		return err
	}
	err = c.View(context.WithoutCancel(ctx), "", func(t *Tx) (err error) {
		_, there, err = Get[Job](t, j.ID) // most end it with their result
		return err
	})
	if err != nil || !there {
		return err
	}
	return c.Update(context.WithoutCancel(ctx), "", func(t *Tx) error { return t.Done(j) })
}

// claim takes the lock of a job; false when another process has it. The file
// may have been removed between its opening and the lock: then another one
// did the job.
func claim(dir, id string) (*os.File, bool) {
	path := filepath.Join(dir, id)
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, false
	}
	if unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) != nil {
		_ = f.Close()
		return nil, false
	}
	a, aerr := f.Stat()
	b, berr := os.Stat(path)
	if aerr != nil || berr != nil || !os.SameFile(a, b) {
		_ = f.Close()
		return nil, false
	}
	return f, true
}

// Await waits until done says so of the state of a region, looking again after
// each change this process makes and at growing pauses. It needs somebody to
// be in [Cloud.Work].
func (c *Cloud) Await(ctx context.Context, region string, done func(*Tx) (bool, error)) error {
	return poll.Until(ctx, poll.Backoff{First: 5 * time.Millisecond, Max: 250 * time.Millisecond}, func(ctx context.Context) (ok bool, err error) {
		verr := c.View(ctx, region, func(t *Tx) error {
			ok, err = done(t)
			return err
		})
		return ok, errors.Join(verr)
	})
}
