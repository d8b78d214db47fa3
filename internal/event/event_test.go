package event

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"time"
)

type collector struct {
	mu   sync.Mutex
	recs []Record
	gate chan struct{} // nil: never waits
}

func (c *collector) Read(r Record) {
	if c.gate != nil {
		<-c.gate
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recs = append(c.recs, r)
}

func TestBusOrderMaskAndCoalescing(t *testing.T) {
	slow := &collector{gate: make(chan struct{})}
	fast := &collector{}
	b := NewBus(time.Now, func(s string) string { return strings.ReplaceAll(s, "hush", "***") }, slow, fast)
	s := b.ForBuild("b")
	s.Emit(Say{"hush now"})
	for i := range 1000 {
		s.Emit(Progress{Task: "up", Done: int64(i), Unit: "B"})
	}
	s.Emit(Output{Line: "a hush line"})
	close(slow.gate) // a reader that has been stuck all along
	b.Close()
	for _, c := range []*collector{slow, fast} {
		if got := c.recs[0].Event.(Say).Text; got != "*** now" {
			t.Errorf("mask: %q", got)
		}
		n := len(c.recs)
		if got := c.recs[n-2].Event.(Progress).Done; got != 999 {
			t.Errorf("last progress %d", got)
		}
		if got := c.recs[n-1].Event.(Output).Line; got != "a *** line" || c.recs[n-1].Build != "b" {
			t.Errorf("last record %+v", c.recs[n-1])
		}
	}
	if n := len(slow.recs); n > 5 {
		t.Errorf("a stuck reader got %d records, want the progress coalesced", n)
	}
}

type answering struct{}

func (*answering) CanAnswer() bool { return true }
func (a *answering) Read(r Record) {
	if q, ok := r.Event.(*Question); ok {
		q.Answer("r", nil)
		q.Answer("late", nil)
	}
}

func TestAsk(t *testing.T) {
	b := NewBus(time.Now, nil, &answering{})
	if k, err := Ask(t.Context(), b.ForBuild("x"), "what now?", "c", Choice{"r", "retry"}); k != "r" || err != nil {
		t.Errorf("%q %v", k, err)
	}
	b.Close()
	b = NewBus(time.Now, nil, &collector{})
	defer b.Close()
	if _, err := Ask(t.Context(), b, "anyone?", ""); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("err = %v", err)
	}
	if _, err := Ask(t.Context(), Discard, "anyone?", ""); !errors.Is(err, ErrNoTerminal) {
		t.Errorf("err = %v", err)
	}
}

func TestLines(t *testing.T) {
	c := &collector{}
	b := NewBus(time.Now, nil, c)
	w := Lines(b, true)
	fmt.Fprint(w, "one\r\ntw")
	fmt.Fprint(w, "o\n10%\r50%\r100%\nlast")
	_ = w.Close()
	b.Close()
	var got []string
	for _, r := range c.recs {
		got = append(got, r.Event.(Output).Line)
	}
	if want := "one|two|100%|last"; strings.Join(got, "|") != want {
		t.Errorf("%q, want %q", strings.Join(got, "|"), want)
	}
}

func TestMeterReportsTheEndAndStopsWithItsContext(t *testing.T) {
	c := &collector{}
	b := NewBus(time.Now, nil, c)
	m := NewMeter(b, "up", 0)
	ctx, cancel := context.WithCancelCause(t.Context())
	if _, err := io.Copy(m.Writer(ctx, io.Discard), m.Reader(ctx, strings.NewReader(strings.Repeat("x", 3<<20)))); err != nil {
		t.Fatal(err)
	}
	m.End()
	why := errors.New("why")
	cancel(why)
	if _, err := io.ReadAll(m.Reader(ctx, strings.NewReader("more"))); !errors.Is(err, why) {
		t.Errorf("err = %v", err)
	}
	b.Close()
	p, ok := c.recs[len(c.recs)-1].Event.(Progress)
	if !ok || p.Done != 6<<20 || p.Total != p.Done || p.Task != "up" || p.Unit != "B" {
		t.Errorf("%+v", p)
	}
}
