package script

import (
	"errors"
	"fmt"
	"slices"

	"github.com/ingot-build/ingot/internal/communicator"
)

// An ExitError says that a script ended with a code that is not allowed.
type ExitError struct {
	Status  int
	Signal  string // of the signal that ended it, "" for none
	Allowed []int
}

func (e *ExitError) Error() string {
	text := fmt.Sprintf("Script exited with non-zero exit status: %d. Allowed exit codes are: %v", e.Status, e.Allowed)
	if e.Signal != "" {
		text += fmt.Sprintf(" (it was ended by signal %s)", e.Signal)
	}
	return text
}

// CheckExit judges what a run returned. An end that allowed names is nil, any
// other end of the script an *[ExitError]; errors about the connection are
// handed on.
func CheckExit(err error, allowed []int) error {
	status, signal := 0, ""
	var exit *communicator.ExitError
	switch {
	case errors.As(err, &exit):
		status, signal = exit.Status, exit.Signal
	case err != nil:
		return err
	}
	if slices.Contains(allowed, status) {
		return nil
	}
	return &ExitError{Status: status, Signal: signal, Allowed: allowed}
}
