package cli

import (
	"fmt"
	"io"
	"os"
	"path/filepath"

	"github.com/ingot-build/ingot/internal/event"
	"github.com/ingot-build/ingot/internal/ui"
)

// readers are who listens to a run.
type readers struct {
	list    []event.Reader
	restore func() // gives a terminal back; safe while the bus runs
	closed  bool
	closes  []func() error // in order
}

// close ends the readers once the bus is closed. It may be called more than
// once.
func (r *readers) close() (errs []error) {
	if r.closed {
		return nil
	}
	r.closed = true
	r.restore()
	for _, c := range r.closes {
		if err := c(); err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// readers returns the view that o asks for, the run's log, and the logs that
// the environment asks for.
func (a *app) readers(o runFlags) (*readers, error) {
	r := &readers{restore: func() {}}
	toStderr, err := a.debugLog(r)
	if err != nil {
		return nil, err
	}
	r.list = append(r.list, a.view(o, toStderr, r))
	runLog := &ui.RunLog{}
	r.list = append(r.list, runLog)
	r.closes = append(r.closes, runLog.Close)
	return r, nil
}

func (a *app) view(o runFlags, logged bool, r *readers) event.Reader {
	var in io.Reader
	if a.InTerminal {
		in = a.In
	}
	switch {
	case a.report.machine != nil:
		return a.report.machine
	case a.report.json != nil:
		return a.report.json
	case o.progress == "tty" || o.progress == "auto" && a.live(logged):
		t := ui.NewTTY(a.Out, ui.TTYOptions{
			Color: a.report.color, Timestamps: o.timestamps, Size: a.Size, In: in, Now: a.Now,
		})
		r.restore = t.Close
		return t
	}
	return ui.NewPlain(a.Out, ui.PlainOptions{Color: a.report.color, Timestamps: o.timestamps, Terminal: a.OutTerminal, In: in})
}

// live reports whether a live view fits: on a terminal that can move its
// cursor and that no log is written to.
func (a *app) live(logged bool) bool {
	term, _ := a.lookup("TERM")
	return a.OutTerminal && term != "dumb" && term != "" && !(logged && a.ErrTerminal)
}

// debugLog adds the logs that INGOT_LOG and INGOT_LOG_PATH, or Packer's
// variables of these names, ask for.
func (a *app) debugLog(r *readers) (toStderr bool, err error) {
	on, path := a.setting("LOG"), a.setting("LOG_PATH")
	switch {
	case path != "":
		if !filepath.IsAbs(path) {
			path = filepath.Join(a.Cwd, path)
		}
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return false, fmt.Errorf("log: %w", err)
		}
		l := ui.NewLog(f)
		r.list = append(r.list, l)
		r.closes = append(r.closes, func() error {
			if err := f.Close(); l.Err() == nil {
				return err
			}
			return l.Err()
		})
		return false, nil
	case on != "" && on != "0":
		r.list = append(r.list, ui.NewLog(a.Err))
		return true, nil
	}
	return false, nil
}
