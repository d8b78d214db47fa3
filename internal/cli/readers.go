package cli

import (
	"io"

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
func (a *app) readers(o runFlags) *readers {
	r := &readers{restore: func() {}}
	if a.log != nil {
		r.list = append(r.list, a.log)
	}
	r.list = append(r.list, a.view(o, a.log != nil && a.log.stderr, r))
	runLog := &ui.RunLog{}
	r.list = append(r.list, runLog)
	r.closes = append(r.closes, runLog.Close)
	return r
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
