package communicator

import (
	"context"
	"errors"
	"io"
	"io/fs"
)

// ErrNoConnection is what every method of [None] returns.
var ErrNoConnection = errors.New(`the communicator is "none": there is no connection to the guest`)

// None is the communicator of a build that has no connection. Provisioners
// that stay on this machine do not notice.
type None struct{}

var _ Communicator = None{}

// Run fails with [ErrNoConnection].
func (None) Run(context.Context, Cmd) error { return ErrNoConnection }

// Put fails with [ErrNoConnection].
func (None) Put(context.Context, string, fs.FileMode, io.Reader, int64) error {
	return ErrNoConnection
}

// PutTree fails with [ErrNoConnection].
func (None) PutTree(context.Context, string, fs.FS, func(int64)) error { return ErrNoConnection }

// Get fails with [ErrNoConnection].
func (None) Get(context.Context, string, io.Writer) error { return ErrNoConnection }

// GetTree fails with [ErrNoConnection].
func (None) GetTree(context.Context, string, string) error { return ErrNoConnection }

// Close does nothing.
func (None) Close() error { return nil }
