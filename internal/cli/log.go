package cli

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"sync"

	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/ui"
)

// A commandLog is the log of one command that INGOT_LOG and INGOT_LOG_PATH, or
// Packer's variables of these names, ask for. What is on the command line is
// not in it: there may be secrets.
type commandLog struct {
	mu     sync.Mutex // a run that was given up goes on while the command ends
	log    *ui.Log
	file   io.Closer // nil: it goes to the standard error
	stderr bool
}

var _ event.Reader = (*commandLog)(nil)

// Read writes one record.
func (l *commandLog) Read(r event.Record) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.log.Read(r)
}

func (l *commandLog) close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.log.Err()
	if l.file == nil {
		return nil // nobody can be told of it
	}
	if cerr := l.file.Close(); err == nil {
		err = cerr
	}
	return err
}

// unlogged are the commands that have no log: completion is asked at every key,
// and the local cloud has a log of its own.
var unlogged = []string{"completion", "local"}

// logged runs a command with its log.
func (a *app) logged(c *command, do func() int) int {
	on, path := a.setting("LOG"), a.setting("LOG_PATH")
	switch {
	case slices.Contains(unlogged, c.name):
		return do()
	case path != "":
		f, err := os.OpenFile(a.abs(path), os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			a.report.error(fmt.Errorf("log: %w", err))
			return exitFailed
		}
		a.log = &commandLog{log: ui.NewLog(f), file: f}
	case on != "" && on != "0":
		a.log = &commandLog{log: ui.NewLog(a.Err), stderr: true}
	default:
		return do()
	}
	say := func(format string, args ...any) {
		a.log.Read(event.Record{Time: a.Now(), Event: event.Say{Text: fmt.Sprintf(format, args...)}})
	}
	say("Ingot %s, compatible with Packer v%s, %s/%s: %s", displayVersion(a.Version), PackerVersion, runtime.GOOS, runtime.GOARCH, c.name)
	code := do()
	say("%s ended with exit code %d", c.name, code)
	if err := a.log.close(); err != nil {
		a.report.error(fmt.Errorf("log: %w", err))
	}
	return code
}
