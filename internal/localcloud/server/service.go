package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ingot-build/ingot/internal/atomicfile"
	"github.com/ingot-build/ingot/internal/localcloud"
	"github.com/ingot-build/ingot/internal/poll"
)

// A Service serves a cloud and does its jobs, until it is closed.
type Service struct {
	URL   string
	cloud *localcloud.Cloud
	http  *http.Server
	stop  context.CancelFunc
	lock  *os.File // of an announced service

	running sync.WaitGroup
	failed  chan error // the first failure
	mu      sync.Mutex
	errs    []error
}

// run runs one of the service's loops until it ends.
func (s *Service) run(loop func() error) {
	s.running.Go(func() {
		err := loop()
		if err == nil {
			return
		}
		s.mu.Lock()
		s.errs = append(s.errs, err)
		s.mu.Unlock()
		select {
		case s.failed <- err:
		default:
		}
	})
}

// drainTime bounds how long a closing service waits for the jobs that are due:
// what they began is finished by whoever serves the cloud next.
const drainTime = 30 * time.Second

// Start serves a cloud at addr ("127.0.0.1:0" for any free port). An announced
// service is the one of its folder: [Find] finds it, and a second one is
// refused with [*RunningError].
func Start(ctx context.Context, c *localcloud.Cloud, addr string, announce bool, o Options) (_ *Service, err error) {
	s := &Service{cloud: c, failed: make(chan error, 1)}
	defer func() {
		if err != nil && s.lock != nil {
			_ = s.lock.Close()
		}
	}()
	if announce {
		if s.lock, err = hold(ctx, c.Dir()); err != nil {
			return nil, err
		}
	}
	h, err := New(ctx, c, o)
	if err != nil {
		return nil, err
	}
	ln, err := (&net.ListenConfig{}).Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("local cloud: %w", err)
	}
	s.URL = "http://" + ln.Addr().String()
	if announce {
		if err := announceAt(c.Dir(), Info{URL: s.URL, PID: os.Getpid(), Started: time.Now().UTC()}); err != nil {
			return nil, errors.Join(err, ln.Close())
		}
	}
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	s.stop = stop
	s.http = &http.Server{Handler: h, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 5 * time.Minute}
	s.run(func() error {
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			return fmt.Errorf("local cloud: %w", err)
		}
		return nil
	})
	s.run(func() error { return c.Work(work) })
	s.run(func() error { s.collect(work); return nil })
	return s, nil
}

// collectEvery is how often what nothing refers to is removed.
const collectEvery = 10 * time.Minute

func (s *Service) collect(ctx context.Context) {
	for {
		if err := poll.Sleep(ctx, collectEvery); err != nil {
			return
		}
		_, _, _ = s.cloud.Collect(ctx) // the one in Close tells what is wrong
	}
}

// Failed is told once when the service cannot go on.
func (s *Service) Failed() <-chan error { return s.failed }

// Close finishes the jobs that are due, within a bound, and stops serving.
// Machines go on.
func (s *Service) Close(ctx context.Context) error {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTime)
	defer stop()
	err := s.http.Shutdown(ctx)
	if derr := s.cloud.Drain(ctx); derr != nil {
		err = errors.Join(err, fmt.Errorf("local cloud: work is left, which whoever serves it next will finish: %w", derr))
	}
	s.stop()
	s.running.Wait()
	_, _, cerr := s.cloud.Collect(ctx)
	err = errors.Join(err, cerr)
	err = errors.Join(append(s.errs, err)...)
	if s.lock != nil {
		err = errors.Join(err, withdraw(s.cloud.Dir()), s.lock.Close())
	}
	return err
}

// Info is where a service is.
type Info struct {
	URL     string    `json:"url"`
	PID     int       `json:"pid"`
	Started time.Time `json:"started"`
}

const (
	infoFile    = "service.json"
	serviceLock = "service.lock"
)

// A RunningError says that a folder's cloud is served already.
type RunningError struct {
	Dir  string
	Info Info
}

func (e *RunningError) Error() string {
	return fmt.Sprintf("the local cloud in %s is served already, at %s by process %d", e.Dir, e.Info.URL, e.Info.PID)
}

// A look at the lock ([Find]) holds it for a moment: taking it is tried again
// before it counts as held.
const (
	holdTries = 25
	holdPause = 20 * time.Millisecond
)

// hold takes the lock that the service of a folder holds.
func hold(ctx context.Context, dir string) (*os.File, error) {
	f, err := os.OpenFile(filepath.Join(dir, serviceLock), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("local cloud: %w", err)
	}
	err = flock(f)
	for n := 1; n < holdTries && err != nil; n++ {
		if err := poll.Sleep(ctx, holdPause); err != nil {
			return nil, errors.Join(err, f.Close())
		}
		err = flock(f)
	}
	if err != nil {
		info, _ := read(dir) // it may not be written yet
		return nil, errors.Join(&RunningError{dir, info}, f.Close())
	}
	// What a killed service left would be taken for this one's.
	if err := withdraw(dir); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func flock(f *os.File) error { return unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB) }

func announceAt(dir string, i Info) error {
	raw, err := json.Marshal(i)
	if err != nil {
		return err
	}
	return atomicfile.Write(filepath.Join(dir, infoFile), append(raw, '\n'), 0o600)
}

func withdraw(dir string) error {
	if err := os.Remove(filepath.Join(dir, infoFile)); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("local cloud: %w", err)
	}
	return nil
}

func read(dir string) (i Info, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, infoFile))
	if err == nil {
		err = json.Unmarshal(raw, &i)
	}
	return i, err
}

// Find returns the service of a cloud's folder; ok is false when none lives.
// It is the lock that tells, not the file: a killed service leaves the file.
func Find(dir string) (i Info, ok bool) {
	f, err := os.OpenFile(filepath.Join(dir, serviceLock), os.O_RDWR, 0)
	if err != nil {
		return i, false
	}
	defer f.Close()
	if unix.Flock(int(f.Fd()), unix.LOCK_SH|unix.LOCK_NB) == nil {
		// Closing alone leaves it to a child that is about to run a program.
		_ = unix.Flock(int(f.Fd()), unix.LOCK_UN)
		return i, false
	}
	i, err = read(dir)
	return i, err == nil
}
