package event

import (
	"context"
	"io"
)

// meterStep is how many bytes go by between two reports.
const meterStep = 1 << 20

// A Meter tells how far one transfer is, in bytes. It is used from one
// goroutine at a time.
type Meter struct {
	out         Sink
	task        string
	total       int64
	done, shown int64
}

// NewMeter returns a meter of the task; total is 0 when it is not known.
func NewMeter(out Sink, task string, total int64) *Meter {
	return &Meter{out: out, task: task, total: total}
}

// SetTotal says how many bytes there will be, once that is known.
func (m *Meter) SetTotal(total int64) { m.total = total }

// Set says that done bytes are through.
func (m *Meter) Set(done int64) {
	m.done = done
	if done-m.shown >= meterStep {
		m.shown = done
		m.emit()
	}
}

// End says that everything is through.
func (m *Meter) End() {
	if m.total == 0 {
		m.total = m.done
	}
	m.done = m.total
	m.emit()
}

func (m *Meter) emit() {
	m.out.Emit(Progress{Task: m.task, Done: m.done, Total: m.total, Unit: "B"})
}

// Reader returns r, counted, which ends with ctx's cause when ctx does. Several
// readers add up.
func (m *Meter) Reader(ctx context.Context, r io.Reader) io.Reader {
	return meterIO{ctx: ctx, m: m, r: r}
}

// Writer is [Meter.Reader] for writers.
func (m *Meter) Writer(ctx context.Context, w io.Writer) io.Writer {
	return meterIO{ctx: ctx, m: m, w: w}
}

type meterIO struct {
	ctx context.Context //nolint:containedctx // of one transfer
	m   *Meter
	r   io.Reader
	w   io.Writer
}

func (x meterIO) Read(p []byte) (int, error) {
	if err := context.Cause(x.ctx); err != nil {
		return 0, err
	}
	n, err := x.r.Read(p)
	x.m.Set(x.m.done + int64(n))
	return n, err
}

func (x meterIO) Write(p []byte) (int, error) {
	if err := context.Cause(x.ctx); err != nil {
		return 0, err
	}
	n, err := x.w.Write(p)
	x.m.Set(x.m.done + int64(n))
	return n, err
}
