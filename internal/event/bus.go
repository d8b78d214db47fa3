package event

import (
	"sync"
	"time"
)

// A Reader consumes records, one at a time, on a goroutine of its own.
type Reader interface{ Read(Record) }

// An Answerer is a [Reader] that settles questions with [Question.Answer].
type Answerer interface {
	Reader
	CanAnswer() bool
}

// A Bus hands every record to every reader. A slow reader delays nobody: each
// has a queue of its own, in which a [Progress] replaces an older one of the
// same task that was not read yet; nothing else is dropped.
type Bus struct {
	now     func() time.Time
	mask    func(string) string
	mu      sync.Mutex
	seq     int64
	queues  []*queue
	done    sync.WaitGroup
	answers bool
}

// NewBus starts a goroutine per reader. now stamps records, mask is applied to
// their texts (nil: none). Call [Bus.Close] to end it.
func NewBus(now func() time.Time, mask func(string) string, readers ...Reader) *Bus {
	if mask == nil {
		mask = func(s string) string { return s }
	}
	b := &Bus{now: now, mask: mask}
	for _, r := range readers {
		if a, ok := r.(Answerer); ok && a.CanAnswer() {
			b.answers = true
		}
		q := newQueue()
		b.queues = append(b.queues, q)
		b.done.Go(func() {
			for rec, ok := q.next(); ok; rec, ok = q.next() {
				r.Read(rec)
			}
		})
	}
	return b
}

// Emit records an event of the whole run.
func (b *Bus) Emit(e Event) { b.emit("", "", e) }

// ForBuild returns a sink whose records carry the build's full name.
func (b *Bus) ForBuild(build string) Sink { return scope{bus: b, build: build} }

// ForComponent returns a sink for a post-processor of a build.
func (b *Bus) ForComponent(build, component string) Sink {
	return scope{bus: b, build: build, component: component}
}

func (b *Bus) emit(build, component string, e Event) {
	if q, ok := e.(*Question); ok && !b.answers {
		defer q.Answer("", ErrNoTerminal)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.seq++
	rec := Record{Seq: b.seq, Time: b.now(), Build: build, Component: component, Event: e.masked(b.mask)}
	for _, q := range b.queues {
		q.put(rec)
	}
}

// Close waits until every reader has read everything. Nothing may be emitted
// afterwards.
func (b *Bus) Close() {
	for _, q := range b.queues {
		q.close()
	}
	b.done.Wait()
}

type queue struct {
	mu     sync.Mutex
	cond   *sync.Cond
	recs   []Record
	closed bool
}

func newQueue() *queue {
	q := &queue{}
	q.cond = sync.NewCond(&q.mu)
	return q
}

func (q *queue) put(rec Record) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if p, ok := rec.Event.(Progress); ok {
		for i := len(q.recs) - 1; i >= 0; i-- {
			old, isProgress := q.recs[i].Event.(Progress)
			if !isProgress {
				break // an older progress behind another event stays in its order
			}
			if old.Task == p.Task && q.recs[i].Build == rec.Build {
				q.recs[i] = rec
				return
			}
		}
	}
	q.recs = append(q.recs, rec)
	q.cond.Signal()
}

func (q *queue) next() (Record, bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.recs) == 0 && !q.closed {
		q.cond.Wait()
	}
	if len(q.recs) == 0 {
		return Record{}, false
	}
	rec := q.recs[0]
	q.recs = q.recs[1:]
	return rec, true
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.cond.Signal()
}
