package cli

import (
	"context"
	"os"
	"os/signal"
	"syscall"
)

// An InterruptError is the cause of a context that a signal ended.
type InterruptError struct{ Signal os.Signal }

func (e *InterruptError) Error() string { return "received " + e.Signal.String() }

// Interrupts are the signals after the first one, which ends the context.
type Interrupts struct {
	Abort <-chan struct{} // closed by the second: clean-ups stop waiting
	Kill  <-chan struct{} // closed by the third: the program ends without clean-up
}

// Signals returns a context that the first SIGINT, SIGTERM or SIGHUP ends.
// stop ends it and the watch.
func Signals(parent context.Context) (ctx context.Context, later Interrupts, stop func()) {
	ctx, cancel := context.WithCancelCause(parent)
	signals := []os.Signal{syscall.SIGINT, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // nohup
		signals = append(signals, syscall.SIGHUP)
	}
	got := make(chan os.Signal, 4)
	signal.Notify(got, signals...)
	abort, kill, done := make(chan struct{}), make(chan struct{}), make(chan struct{})
	go func() {
		for n := 1; ; n++ {
			select {
			case s := <-got:
				switch n {
				case 1:
					cancel(&InterruptError{s})
				case 2:
					close(abort)
				case 3:
					close(kill)
				}
			case <-done:
				return
			}
		}
	}()
	return ctx, Interrupts{abort, kill}, func() {
		signal.Stop(got)
		close(done)
		cancel(nil)
	}
}
