package winrm

import (
	"context"
	"errors"
	"fmt"

	"github.com/ingot-build/ingot/internal/communicator"
)

// Run implements [communicator.Communicator]. The line is run by cmd.exe, in a
// new shell, and may be 8191 characters long. An exit status is what Windows
// has: any 32-bit number. A command that still runs when ctx ends is ended on
// the guest.
func (c *Conn) Run(ctx context.Context, cmd communicator.Cmd) error {
	ctx, done, err := c.bind(ctx)
	if err != nil {
		return err
	}
	defer done()
	sh, err := c.reach(ctx)
	if err != nil {
		return err
	}
	defer sh.close()
	return lost(sh.run(ctx, cmd))
}

// lost turns a fault after which it is not known what the guest did into the
// type for it.
func lost(err error) error {
	var already *communicator.DisconnectError
	var wire *wireError
	if errors.As(err, &already) || !errors.As(err, &wire) && !isFault(err, codeNoShell, codeNoCommand, codeAborted) {
		return err
	}
	return &communicator.DisconnectError{Err: err}
}

// reach opens a shell, and waits for a guest that is not there: it may be
// restarting.
func (c *Conn) reach(ctx context.Context) (*shell, error) {
	sh, err := c.open(ctx)
	var wire *wireError
	if err == nil || !errors.As(err, &wire) && !isFault(err, codeAborted) {
		return sh, err
	}
	if err := c.await(ctx); err != nil {
		return nil, err
	}
	if sh, err = c.open(ctx); errors.As(err, &wire) {
		return nil, &communicator.DisconnectError{Err: fmt.Errorf("the guest answered and went away again: %w", err)}
	}
	return sh, err
}
