package localcloud

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/ingot-build/ingot/internal/imagestore"
	"github.com/ingot-build/ingot/internal/localcloud/machine"
)

// AccountID owns what is made here.
const AccountID = "123456789012"

// A Config says where a cloud is and what it runs on.
type Config struct {
	Dir      string           // made when missing
	Machines machine.Driver   // what instances run on
	Now      func() time.Time // nil: time.Now
	Warn     func(error)      // told of faults of this machine; nil: nobody
}

// A Cloud is open. Its methods are safe for concurrent use.
type Cloud struct {
	dir      string
	store    store
	images   *imagestore.Store
	machines machine.Driver
	now      func() time.Time
	warn     func(error)
	wake     chan struct{} // a job was written
	handlers map[string]handler
	live     live // machines that this process has handles on
}

// Open opens the cloud in a folder, which is made when missing, with a default
// VPC in each region. Nothing runs until somebody calls [Cloud.Work].
func Open(ctx context.Context, cfg Config) (*Cloud, error) {
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Warn == nil {
		cfg.Warn = func(error) {}
	}
	dir, err := filepath.Abs(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("local cloud: %w", err)
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("local cloud: %w", err)
	}
	images, err := imagestore.Open(filepath.Join(dir, "images"))
	if err != nil {
		return nil, err
	}
	c := &Cloud{
		dir: dir, images: images, machines: cfg.Machines, now: cfg.Now, warn: cfg.Warn,
		store: store{dir: dir, now: cfg.Now},
		wake:  make(chan struct{}, 1),
	}
	c.handlers = c.jobHandlers()
	return c, c.found(ctx)
}

// Dir is the folder of the cloud.
func (c *Cloud) Dir() string { return c.dir }

// Now is the time by the cloud's clock.
func (c *Cloud) Now() time.Time { return c.now().UTC() }

// Images is where the disks are.
func (c *Cloud) Images() *imagestore.Store { return c.images }

// Update runs fn in a transaction on a region; it is durable when Update
// returns nil, and had no effect otherwise. In a dry run ([WithDryRun]) it has
// none at all.
func (c *Cloud) Update(ctx context.Context, region string, fn func(*Tx) error) error {
	jobs, err := c.store.update(ctx, region, func(t *Tx) error {
		if err := fn(t); err != nil {
			return err
		}
		return dryRun(ctx)
	})
	if err == nil && jobs > 0 {
		select {
		case c.wake <- struct{}{}:
		default:
		}
	}
	return err
}

// View runs fn on a consistent state of a region.
func (c *Cloud) View(ctx context.Context, region string, fn func(*Tx) error) error {
	return c.store.view(ctx, region, fn)
}

// An Error is a refusal in the terms of the vendor's API.
type Error struct {
	Code    string // e.g. "InvalidAMIID.NotFound"
	Message string
	Status  int // HTTP status; 0: 400
}

func (e *Error) Error() string { return e.Code + ": " + e.Message }

// Errorf returns an [Error].
func Errorf(code, format string, args ...any) *Error {
	return &Error{Code: code, Message: fmt.Sprintf(format, args...)}
}

// CodeOf is the code of an [Error] in err's chain, "" when there is none.
func CodeOf(err error) string {
	var e *Error
	if errors.As(err, &e) {
		return e.Code
	}
	return ""
}
